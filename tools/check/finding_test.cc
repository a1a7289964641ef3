// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/check/finding.h"

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

TEST(FindingTest, IsWrittenAsCompilersDo) {
  EXPECT_EQ(absl::StrCat(Finding{"net/a.cc", 7, "calls system()"}),
            "net/a.cc:7: calls system()");
}

TEST(FindingTest, OfAWholeFileHasNoLine) {
  EXPECT_EQ(absl::StrCat(Finding{"net/a.cc", 0, "is in no target"}),
            "net/a.cc: is in no target");
}

}  // namespace
}  // namespace brood
