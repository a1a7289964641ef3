// SPDX-License-Identifier: Apache-2.0
//
// What every program's flags have in common; what each flag of the server is,
// options_test.cc tells.
#include "brood/server/flag_table.h"

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/server/flag_values.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Optional;

using Args = std::vector<std::string_view>;

struct Greeting {
  int times = 1;
  bool loud = false;
};

FlagTable FlagsInto(Greeting& greeting) {
  return FlagTable(
      {{.name = "times",
        .value_name = "N",
        .what = "how often",
        .allowed = "a number from 1 to 9",
        .by_default = "1",
        .parse =
            [&greeting](std::string_view value) {
              return AllowedIf(ReadNumber(value, 1, 9, greeting.times));
            }},
       {.name = "loud",
        .what = "in capitals",
        .parse =
            [&greeting](std::string_view value) {
              return AllowedIf(ReadBool(value, greeting.loud));
            }}},
      {.example = "--times=3"});
}

TEST(FlagTableTest, HeaderExample) {
  Greeting greeting;
  const FlagTable table = FlagsInto(greeting);
  EXPECT_THAT(table.Parse({"--loud", "--times", "4"}), IsOk());
  EXPECT_EQ(greeting.times, 4);
  EXPECT_TRUE(greeting.loud);
  EXPECT_EQ(table.Help(), R"(
flags:
  --times=N
      how often
      allowed: a number from 1 to 9; default: 1
  --[no]loud
      in capitals
      allowed: true or false; default: false
  --[no]help
      print this, and do nothing else
      allowed: true or false; default: false
)");
}

TEST(FlagTableTest, SaysInOneLineWhatIsWrongAndWhatIsAllowed) {
  const std::vector<std::pair<Args, std::string_view>> cases = {
      {{"--times=0"}, R"(--times="0": allowed is a number from 1 to 9)"},
      {{"--times="}, R"(--times="": allowed is a number from 1 to 9)"},
      {{"--times"}, "--times needs a value: --times=N"},
      {{"--times", "--loud"}, "--times needs a value: --times=N"},
      {{"--loud=1"}, R"(--loud="1": allowed is true or false)"},
      {{"--noloud=true"},
       R"(--noloud="true": allowed is --noloud, or --loud=true or false)"},
      {{"--loud", "--noloud"},
       R"(--loud is given twice, as "true" and as "false": allowed is once)"},
      {{"--tmies=3"},
       R"(unknown flag "--tmies": did you mean --times? --help lists all)"},
      {{"--notimes"},
       R"(unknown flag "--notimes": did you mean --times? --help lists all)"},
      {{"--speed"}, R"(unknown flag "--speed": --help lists all)"},
      {{"3"}, R"(argument "3": a flag begins with --, as in --times=3)"},
      // Nothing may come after it.
      {{"--"}, R"(argument "--": a flag begins with --, as in --times=3)"},
  };
  for (const auto& [args, message] : cases) {
    Greeting greeting;
    EXPECT_THAT(FlagsInto(greeting).Parse(args),
                StatusIs(absl::StatusCode::kInvalidArgument, message));
  }
}

TEST(FlagTableTest, HelpIsAFlagOfEveryTable) {
  const FlagTable none({}, {.example = "--help"});
  for (const std::string_view arg : {"-h", "--help", "--help=true"}) {
    const absl::StatusOr<GivenFlags> given = none.Parse({arg});
    ASSERT_THAT(given, IsOk());
    EXPECT_TRUE(given->help()) << arg;
  }
  for (const Args& args : {Args{}, Args{"--nohelp"}}) {
    const absl::StatusOr<GivenFlags> given = none.Parse(args);
    ASSERT_THAT(given, IsOk());
    EXPECT_FALSE(given->help());
  }
}

// Two groups, flags of the first on both sides of the second.
FlagTable Groups(std::string& seen) {
  const auto see = [&seen](std::string_view value) {
    absl::StrAppend(&seen, "<", value, ">");
    return value == "bad" ? absl::InvalidArgumentError("it went bad")
                          : absl::OkStatus();
  };
  return FlagTable(
      {{.name = "add",
        .value_name = "X",
        .group = "first",
        .what = "a",
        .allowed = "any",
        .by_default = "none",
        .parse = see,
        .adds_up = true},
       {.name = "other", .group = "second", .what = "o", .parse = see},
       {.name = "back",
        .value_name = "X",
        .group = "first",
        .what = "b",
        .allowed = "any",
        .by_default = "none",
        .more = "And more.",
        .parse = see}},
      {.example = "--add=1", .rest = "a program"});
}

TEST(FlagTableTest, WhatWasGivenIsKnownByName) {
  std::string seen;
  const absl::StatusOr<GivenFlags> given =
      Groups(seen).Parse({"--add=1", "--add", "2", "--noother"});
  ASSERT_THAT(given, IsOk());
  EXPECT_EQ(seen, "<1><2><false>");
  EXPECT_EQ(given->Value("add"), "2");
  EXPECT_EQ(given->Value("other"), std::nullopt) << "is so anyway";
  EXPECT_EQ(given->Value("back"), std::nullopt);
  EXPECT_EQ(given->Value("unheard"), std::nullopt);
  EXPECT_EQ(given->rest(), std::nullopt);
  EXPECT_THAT(given->Refuse({"back", "other"}, "no"), IsOk());
  EXPECT_THAT(
      given->Refuse({"back", "add"}, "is too much"),
      StatusIs(absl::StatusCode::kInvalidArgument, "--add is too much"));
  EXPECT_THAT(given->RefuseAllBut({"add"}, "no"), IsOk());
  EXPECT_THAT(given->RefuseAllBut({"back"}, "no"),
              StatusIs(absl::StatusCode::kInvalidArgument, "--add no"));
}

TEST(FlagTableTest, WhatFollowsADoubleDashIsLeftAsItIs) {
  std::string seen;
  const FlagTable table = Groups(seen);
  const absl::StatusOr<GivenFlags> given =
      table.Parse({"--other", "--", "cat", "--add=1", "--", "-h"});
  ASSERT_THAT(given, IsOk());
  EXPECT_THAT(given->rest(),
              Optional(ElementsAre("cat", "--add=1", "--", "-h")));
  EXPECT_FALSE(given->help());
  EXPECT_EQ(seen, "<true>");
  const absl::StatusOr<GivenFlags> nothing = table.Parse({"--"});
  ASSERT_THAT(nothing, IsOk());
  EXPECT_THAT(nothing->rest(), Optional(ElementsAre()));
  EXPECT_THAT(
      table.Parse({"cat"}),
      StatusIs(absl::StatusCode::kInvalidArgument,
               R"(argument "cat": a flag begins with --, as in --add=1, and a )"
               "program comes after a lone --"));
}

TEST(FlagTableTest, AFlagMayHaveAMeaningWithoutAValue) {
  std::string seen;
  const FlagTable table({{.name = "watch",
                          .value_name = "INTERVAL",
                          .what = "again and again",
                          .allowed = "a duration",
                          .by_default = "once",
                          .bare = "2s",
                          .parse =
                              [&seen](std::string_view value) {
                                absl::StrAppend(&seen, "<", value, ">");
                                return absl::OkStatus();
                              }}},
                        {.example = "--watch"});
  EXPECT_THAT(table.Parse({"--watch"}), IsOk());
  EXPECT_THAT(table.Parse({"--watch=5s"}), IsOk());
  EXPECT_EQ(seen, "<2s><5s>");
  EXPECT_THAT(table.Parse({"--watch", "5s"}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(table.Help(), HasSubstr("\n  --watch[=INTERVAL]\n"));
}

TEST(FlagTableTest, AReaderWithWordsOfItsOwnIsQuoted) {
  std::string seen;
  EXPECT_THAT(
      Groups(seen).Parse({"--back=bad"}),
      StatusIs(absl::StatusCode::kInvalidArgument, "--back: it went bad"));
}

TEST(FlagTableTest, HelpKeepsTheFlagsOfAGroupTogether) {
  std::string seen;
  EXPECT_EQ(Groups(seen).Help(), R"(
first:
  --add=X
      a; may be given more than once
      allowed: any; default: none
  --back=X
      b. And more.
      allowed: any; default: none
  --[no]help
      print this, and do nothing else
      allowed: true or false; default: false

second:
  --[no]other
      o
      allowed: true or false; default: false
)");
}

}  // namespace
}  // namespace brood
