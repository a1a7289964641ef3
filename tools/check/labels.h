// SPDX-License-Identifier: Apache-2.0
//
// Labels is every name that a BUILD file of the project gives, or takes a
// source by.
//
//   const absl::StatusOr<Labels> labels = Labels::Parse(
//       "cc_library rule //net:address\n"
//       "source file //net:address.cc\n");
//   ASSERT_THAT(labels, IsOk());
//   EXPECT_TRUE(labels->Has("//net:address"));
//
// What it is not: a reader of BUILD files. Bazel reads them, and macros, and
// says what came of it: bazel query --output=label_kind //...:*
//
// Errors: InvalidArgument for a line that is not of that form.
//
// Threads, signals, fork: a value.
#ifndef BROOD_TOOLS_CHECK_LABELS_H_
#define BROOD_TOOLS_CHECK_LABELS_H_

#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "brood/tools/check/finding.h"
#include "brood/tools/check/source_tree.h"

namespace brood {

class Labels {
 public:
  static absl::StatusOr<Labels> Parse(std::string_view query_output);

  // Whether `label` means something: a target ("//net:address", "//server"), a
  // package ("//net", "//net:all"), or packages ("//net/...", "//...").
  bool Has(std::string_view label) const;

  // The C++ files of `tree` that no target has: nobody compiles them. Those of
  // tests/consumer, a workspace of its own, are not looked at.
  std::vector<Finding> NotIn(const SourceTree& tree) const;

 private:
  std::set<std::string, std::less<>> labels_;
  std::set<std::string, std::less<>> packages_;  // As in "//net".
};

}  // namespace brood

#endif  // BROOD_TOOLS_CHECK_LABELS_H_
