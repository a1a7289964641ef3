// SPDX-License-Identifier: Apache-2.0
//
// A Finding is one thing that is wrong, and where.
//
//   EXPECT_EQ(absl::StrCat(Finding{"net/a.cc", 7, "calls system()"}),
//             "net/a.cc:7: calls system()");
//
// What it is not: a Status. A scanner that finds a hundred mistakes has not
// failed.
//
// Threads, signals, fork: a value.
#ifndef BROOD_TOOLS_CHECK_FINDING_H_
#define BROOD_TOOLS_CHECK_FINDING_H_

#include <cstddef>
#include <ostream>
#include <string>

#include "absl/strings/str_cat.h"

namespace brood {

struct Finding {
  std::string path = {};
  size_t line = 0;  // From 1; 0 for the file as a whole.
  std::string what = {};

  friend bool operator==(const Finding&, const Finding&) = default;

  template <typename Sink>
  friend void AbslStringify(Sink& sink, const Finding& finding) {
    sink.Append(finding.path);
    if (finding.line != 0) sink.Append(absl::StrCat(":", finding.line));
    sink.Append(": ");
    sink.Append(finding.what);
  }
  friend std::ostream& operator<<(std::ostream& out, const Finding& finding) {
    return out << absl::StrCat(finding);
  }
};

}  // namespace brood

#endif  // BROOD_TOOLS_CHECK_FINDING_H_
