// SPDX-License-Identifier: Apache-2.0
// The input is an environment as in /proc/PID/environ: NAME=value, with a NUL
// after each.
#include <sys/types.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/log/check.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "brood/net/activation.h"

namespace brood {
namespace {

constexpr pid_t kSelf = 4711;

ActivationVariables FromBlock(std::string_view block) {
  ActivationVariables variables;
  for (std::string_view line : absl::StrSplit(block, '\0')) {
    if (absl::ConsumePrefix(&line, "LISTEN_PID=")) variables.listen_pid = line;
    if (absl::ConsumePrefix(&line, "LISTEN_FDS=")) variables.listen_fds = line;
    if (absl::ConsumePrefix(&line, "LISTEN_FDNAMES=")) {
      variables.listen_fdnames = line;
    }
  }
  return variables;
}

void Run(std::string_view block) {
  const ActivationVariables variables = FromBlock(block);
  const absl::StatusOr<std::vector<std::string>> names =
      ActivatedNames(variables, kSelf);
  if (!names.ok()) {
    CHECK(absl::StartsWith(names.status().message(), "LISTEN_"));
    CHECK(absl::StrContains(names.status().message(), ": expected "));
    return;
  }
  CHECK_LE(names->size(), size_t{kMaxActivatedFds});
  if (names->empty()) return;
  // What is adopted was meant for us, and named as it is.
  CHECK(variables.listen_pid.has_value() && variables.listen_fds.has_value());
  CHECK_EQ(*variables.listen_pid, absl::StrCat(kSelf));
  CHECK_EQ(*variables.listen_fds, absl::StrCat(names->size()));
  for (const std::string& name : *names) {
    CHECK_LE(name.size(), size_t{kMaxActivatedName});
    CHECK(std::all_of(name.begin(), name.end(), absl::ascii_isprint));
    CHECK(!absl::StrContains(name, ':'));
  }
  CHECK(!variables.listen_fdnames.has_value() ||
        absl::StrJoin(*names, ":") == *variables.listen_fdnames);
}

}  // namespace
}  // namespace brood

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  brood::Run(std::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
