// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/check/source_tree.h"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/posix.h"

namespace brood {
namespace {

namespace fs = std::filesystem;

absl::StatusOr<std::string> ReadFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return ErrnoStatus(errno, absl::StrCat("read ", path.string()));
  return std::string(std::istreambuf_iterator<char>(file), {});
}

bool IsHidden(const fs::path& folder) {
  const std::string name = folder.filename().string();
  return absl::StartsWith(name, ".") && name != ".ci";
}

}  // namespace

absl::StatusOr<SourceTree> SourceTree::Read(const std::string& root) {
  Files files;
  std::error_code error;
  fs::recursive_directory_iterator entry(root, error);
  while (!error && entry != fs::recursive_directory_iterator()) {
    const fs::file_status status = entry->symlink_status(error);
    if (error) break;
    if (fs::is_directory(status) && IsHidden(entry->path())) {
      entry.disable_recursion_pending();
    } else if (fs::is_regular_file(status)) {
      absl::StatusOr<std::string> text = ReadFile(entry->path());
      if (!text.ok()) return text.status();
      files.emplace(entry->path().lexically_relative(root).string(),
                    *std::move(text));
    }
    entry.increment(error);
  }
  if (error) return ErrnoStatus(error.value(), absl::StrCat("read ", root));
  return SourceTree(std::move(files));
}

SourceTree SourceTree::Of(Files files) { return SourceTree(std::move(files)); }

SourceTree::SourceTree(Files files) : files_(std::move(files)) {}

bool SourceTree::Has(std::string_view path) const {
  if (files_.contains(path)) return true;
  const std::string folder = path.empty() ? "" : absl::StrCat(path, "/");
  const auto first = files_.lower_bound(folder);
  return first != files_.end() && absl::StartsWith(first->first, folder);
}

}  // namespace brood
