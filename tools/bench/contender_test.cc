// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/contender.h"

#include <filesystem>
#include <fstream>
#include <iterator>
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

TEST(ContenderTest, ThePageHasEachCommandLine) {
  std::ifstream file("tools/bench/peers.md");
  const std::string page{std::istreambuf_iterator<char>(file), {}};
  std::string table = "| who | command line |\n|---|---|\n";
  for (const Contender& contender : AllContenders()) {
    const Places places = {
        .program =
            std::string(std::filesystem::path(contender.program).filename())};
    absl::StrAppend(&table, "| `", contender.name, "` | `",
                    absl::StrJoin(CommandOf(contender, places), " "), "` |\n");
  }
  EXPECT_THAT(page, HasSubstr(table)) << "in full:\n" << table;
}

TEST(ContenderTest, AVersionIsOnTheFirstLineWithDigitsAboutAPoint) {
  EXPECT_EQ(VersionIn("socat by G. R. - see www.dest-unreach.org\n"
                      "socat version 1.7.4.4 on 06 Nov 2022\n"),
            "socat version 1.7.4.4 on 06 Nov 2022");
  EXPECT_EQ(VersionIn("\n  Python 3.11.7\n"), "Python 3.11.7");
  EXPECT_EQ(VersionIn("usage: it [-x] 1.\n"), "");
  EXPECT_EQ(VersionIn(""), "");
}

TEST(ContenderTest, EveryPeerHasAPackageAndNobodyElseHas) {
  for (const Contender& contender : AllContenders()) {
    EXPECT_EQ(contender.package.empty(), contender.origin != Origin::kPeer)
        << contender.name;
  }
}

}  // namespace
}  // namespace brood
