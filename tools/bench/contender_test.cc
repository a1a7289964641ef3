// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/contender.h"

#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;

const Places kSomewhere = {.program = "/bin/it",
                           .port = "7007",
                           .folder = "/tmp/it",
                           .user = "somebody"};

std::string CommandLines(const Places& places) {
  std::string lines;
  for (const Contender& contender : AllContenders()) {
    absl::StrAppend(&lines, contender.name, ": ",
                    absl::StrJoin(CommandOf(contender, places), " "), "\n");
  }
  return lines;
}

TEST(ContenderTest, SaysHowEachIsStarted) {
  EXPECT_THAT(CommandLines(kSomewhere), HasSubstr("\nfloor-fork: /bin/it\n"));
}

TEST(ContenderTest, EveryOneHasANameOfItsOwn) {
  std::set<std::string> names;
  for (const Contender& contender : AllContenders()) {
    EXPECT_TRUE(names.insert(contender.name).second) << contender.name;
  }
}

TEST(ContenderTest, ACommandHasNoBracesLeftAndBeginsWithAProgram) {
  for (const Contender& contender : AllContenders()) {
    const std::string command =
        absl::StrJoin(CommandOf(contender, kSomewhere), " ");
    EXPECT_THAT(command, Not(HasSubstr("{"))) << contender.name;
    EXPECT_THAT(command, HasSubstr("/bin/it")) << contender.name;
    EXPECT_THAT(ConfigOf(contender, kSomewhere), Not(HasSubstr("{port}")));
  }
}

TEST(ContenderTest, WhoDoesNotSayWhereItListensIsTold) {
  for (const Contender& contender : AllContenders()) {
    if (contender.says_where) continue;
    EXPECT_THAT(absl::StrJoin(CommandOf(contender, kSomewhere), " ") +
                    ConfigOf(contender, kSomewhere),
                AnyOf(HasSubstr("7007")))
        << contender.name;
  }
}

TEST(ContenderTest, EveryPeerHasAPackageAndNobodyElseHas) {
  for (const Contender& contender : AllContenders()) {
    EXPECT_EQ(contender.package.empty(), contender.origin != Origin::kPeer)
        << contender.name;
  }
}

}  // namespace
}  // namespace brood
