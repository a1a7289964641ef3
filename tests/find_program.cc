// SPDX-License-Identifier: Apache-2.0
#include "brood/tests/find_program.h"

#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace brood {
namespace {

constexpr std::string_view kFolders = "/usr/bin:/usr/sbin:/bin:/sbin";

}  // namespace

std::optional<std::string> FindProgram(std::string_view name) {
  const char* path = std::getenv("PATH");
  const std::string folders =
      absl::StrCat(path == nullptr ? "" : path, ":", kFolders);
  for (const std::string_view folder :
       absl::StrSplit(folders, ':', absl::SkipEmpty())) {
    std::string program = absl::StrCat(folder, "/", name);
    if (access(program.c_str(), X_OK) == 0) return program;
  }
  return std::nullopt;
}

std::string NoProgram(std::string_view name) {
  return absl::StrCat("there is no ", name, " in PATH or ", kFolders);
}

}  // namespace brood
