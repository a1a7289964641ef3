// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/check/checks.h"

#include <set>
#include <string_view>

#include "gtest/gtest.h"

namespace brood {
namespace {

std::set<std::string_view> Names() {
  std::set<std::string_view> names;
  for (const Check& check : AllChecks()) names.insert(check.name);
  return names;
}

TEST(ChecksTest, HaveEachANameOfTheirOwnAndSayWhatMustHold) {
  EXPECT_EQ(Names().size(), AllChecks().size());
  for (const Check& check : AllChecks()) {
    EXPECT_FALSE(check.what.empty()) << check.name;
  }
}

}  // namespace
}  // namespace brood
