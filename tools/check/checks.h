// SPDX-License-Identifier: Apache-2.0
//
// AllChecks is what must hold before a commit, besides the tests.
//
//   std::set<std::string_view> Names() {
//     std::set<std::string_view> names;
//     for (const Check& check : AllChecks()) names.insert(check.name);
//     return names;
//   }
//
// What it is not: an order. Each check is for itself, and none looks at what
// another found.
//
// Errors: Unavailable for what cannot be looked at here, saying what is missing
// and how to get it; the check is then skipped.
//
// Threads, signals, fork: as run_program.h.
#ifndef BROOD_TOOLS_CHECK_CHECKS_H_
#define BROOD_TOOLS_CHECK_CHECKS_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "brood/tools/check/source_tree.h"

namespace brood {

struct CheckedTree {
  std::string root;
  SourceTree files;
  // Write what can be written right, instead of naming it.
  bool fix = false;
};

struct Check {
  std::string_view name;
  std::string_view what;  // Must hold.
  // Lines that say what does not; none if all does.
  absl::StatusOr<std::vector<std::string>> (*run)(const CheckedTree& tree);
};

absl::Span<const Check> AllChecks();

}  // namespace brood

#endif  // BROOD_TOOLS_CHECK_CHECKS_H_
