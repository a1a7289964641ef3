// SPDX-License-Identifier: Apache-2.0
// What must hold before a commit: parse, look, one line for each check.
#include <cstddef>
#include <cstdlib>
#include <iostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/types/span.h"
#include "brood/server/flag_table.h"
#include "brood/server/flag_values.h"
#include "brood/tools/check/checks.h"
#include "brood/tools/check/source_tree.h"

namespace brood {
namespace {

constexpr int kSomethingFailed = 1;
constexpr int kUsageError = 2;

int Fail(int exit_code, std::string_view message) {
  std::cerr << "check: " << message << std::endl;
  return exit_code;
}

std::string NamesOfChecks() {
  return absl::StrJoin(AllChecks(), ", ",
                       [](std::string* out, const Check& check) {
                         absl::StrAppend(out, check.name);
                       });
}

bool IsCheck(std::string_view name) {
  return absl::c_any_of(AllChecks(),
                        [&](const Check& check) { return check.name == name; });
}

struct Wish {
  std::vector<std::string> only = {};  // Empty for all.
  bool fix = false;
  bool list = false;
};

// `allowed` outlives the table.
FlagTable FlagsInto(Wish& wish, std::string_view allowed) {
  return FlagTable(
      {{.name = "only",
        .value_name = "NAME,...",
        .what = "the checks to run",
        .allowed = allowed,
        .by_default = "all",
        .parse =
            [&wish](std::string_view value) {
              wish.only = absl::StrSplit(value, ',');
              return AllowedIf(absl::c_all_of(wish.only, IsCheck));
            }},
       {.name = "fix",
        .what = "write files as they should be, where a program can",
        .parse =
            [&wish](std::string_view value) {
              return AllowedIf(ReadBool(value, wish.fix));
            }},
       {.name = "list",
        .what = "only say which checks there are",
        .parse =
            [&wish](std::string_view value) {
              return AllowedIf(ReadBool(value, wish.list));
            }}},
      {.example = "--only=format,links"});
}

int List() {
  for (const Check& check : AllChecks()) {
    std::cout << check.name << ": " << check.what << "\n";
  }
  return 0;
}

int RunAll(const Wish& wish, const CheckedTree& tree) {
  size_t passed = 0;
  size_t failed = 0;
  size_t skipped = 0;
  for (const Check& check : AllChecks()) {
    if (!wish.only.empty() && !absl::c_linear_search(wish.only, check.name)) {
      continue;
    }
    const absl::StatusOr<std::vector<std::string>> lines = check.run(tree);
    if (absl::IsUnavailable(lines.status())) {
      ++skipped;
      std::cout << "skipped: " << check.name << ": " << lines.status().message()
                << std::endl;
    } else if (lines.ok() && lines->empty()) {
      ++passed;
      std::cout << "ok: " << check.name << ": " << check.what << std::endl;
    } else {
      ++failed;
      std::cout << "FAILED: " << check.name << ": " << check.what << "\n";
      if (!lines.ok()) std::cout << "  " << lines.status().message() << "\n";
      if (lines.ok()) {
        for (const std::string& line : *lines)
          std::cout << "  " << line << "\n";
      }
      std::cout << std::flush;
    }
  }
  std::cout << passed << " passed, " << failed << " failed, " << skipped
            << " skipped" << std::endl;
  return failed == 0 ? 0 : kSomethingFailed;
}

int Run(absl::Span<const std::string_view> args) {
  Wish wish;
  const std::string allowed =
      absl::StrCat("names with commas between, of ", NamesOfChecks());
  const FlagTable flags = FlagsInto(wish, allowed);
  const absl::StatusOr<GivenFlags> given = flags.Parse(args);
  if (!given.ok()) return Fail(kUsageError, given.status().message());
  if (given->help()) {
    std::cout << "What must hold before a commit, besides the tests.\n"
              << flags.Help();
    return 0;
  }
  if (wish.list) return List();
  const char* const root = std::getenv("BUILD_WORKSPACE_DIRECTORY");
  if (root == nullptr) {
    return Fail(kSomethingFailed,
                "BUILD_WORKSPACE_DIRECTORY is not set, so it is not known what "
                "to check; run it by: bazel run //tools:check");
  }
  absl::StatusOr<SourceTree> files = SourceTree::Read(root);
  if (!files.ok()) return Fail(kSomethingFailed, files.status().message());
  return RunAll(wish, {root, *std::move(files), wish.fix});
}

}  // namespace
}  // namespace brood

int main(int argc, char** argv) {
  return brood::Run(std::vector<std::string_view>(argv + 1, argv + argc));
}
