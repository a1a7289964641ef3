// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/check/checks.h"

#include <set>
#include <string_view>

#include "gtest/gtest.h"

namespace brood {
namespace {

TEST(ChecksTest, HaveEachANameOfTheirOwnAndSayWhatMustHold) {
  std::set<std::string_view> names;
  for (const Check& check : AllChecks()) {
    EXPECT_FALSE(check.what.empty()) << check.name;
    EXPECT_TRUE(names.insert(check.name).second) << check.name;
  }
}

}  // namespace
}  // namespace brood
