// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/zombies/zombies_options.h"

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;

using Args = std::vector<std::string_view>;

int Interval(absl::Span<const std::string_view> args) {
  const absl::StatusOr<ZombiesOptions> options = ParseZombiesOptions(args);
  if (!options.ok() || !options->watch.has_value()) return 0;
  return static_cast<int>(absl::ToInt64Seconds(*options->watch));
}

TEST(ZombiesOptionsTest, HeaderExample) {
  EXPECT_EQ(Interval({"--watch=5s"}), 5);
  EXPECT_EQ(Interval({"--watch"}), 2);
  EXPECT_EQ(Interval({}), 0);
}

TEST(ZombiesOptionsTest, TakesEachFlag) {
  const absl::StatusOr<ZombiesOptions> none = ParseZombiesOptions({});
  ASSERT_THAT(none, IsOk());
  EXPECT_FALSE(none->tree || none->json || none->help);
  EXPECT_EQ(none->pid, std::nullopt);
  EXPECT_EQ(none->min_age, absl::Milliseconds(200));
  const absl::StatusOr<ZombiesOptions> all = ParseZombiesOptions(
      {"--tree", "--pid=42", "--min_age=0s", "--output=text"});
  ASSERT_THAT(all, IsOk());
  EXPECT_TRUE(all->tree);
  EXPECT_EQ(all->pid, 42);
  EXPECT_EQ(all->min_age, absl::ZeroDuration());
  const absl::StatusOr<ZombiesOptions> json =
      ParseZombiesOptions({"--output", "json"});
  ASSERT_THAT(json, IsOk());
  EXPECT_TRUE(json->json);
}

TEST(ZombiesOptionsTest, SaysInOneLineWhatIsWrong) {
  const std::vector<std::pair<Args, std::string_view>> cases = {
      {{"--watch=99ms"},
       R"(--watch="99ms": allowed is a duration from 100ms to 1h)"},
      {{"--watch=2h"},
       R"(--watch="2h": allowed is a duration from 100ms to 1h)"},
      {{"--pid=0"}, R"(--pid="0": allowed is a number from 1 to 4194304)"},
      {{"--pid=self"},
       R"(--pid="self": allowed is a number from 1 to 4194304)"},
      {{"--min_age=-1s"},
       R"(--min_age="-1s": allowed is a duration from 0s to 1h)"},
      {{"--output=xml"}, R"(--output="xml": allowed is text or json)"},
      {{"--tree", "--output=json"},
       "--tree and --output=json do not go together: in JSON each parent has "
       "its own parent_pid"},
      {{"42"}, R"(argument "42": a flag begins with --, as in --pid=1)"},
  };
  for (const auto& [args, message] : cases) {
    EXPECT_THAT(ParseZombiesOptions(args),
                StatusIs(absl::StatusCode::kInvalidArgument, message));
  }
}

TEST(ZombiesOptionsTest, TheHelpFitsItsWidthAndItsExamplesAreTaken) {
  int examples = 0;
  const std::string usage = ZombiesUsage();
  for (std::string_view line : absl::StrSplit(usage, '\n')) {
    EXPECT_LE(line.size(), 80) << line;
    if (!absl::ConsumePrefix(&line, "  zombies ")) continue;
    ++examples;
    EXPECT_THAT(ParseZombiesOptions(Args(absl::StrSplit(line, ' '))), IsOk());
  }
  EXPECT_EQ(examples, 3);
}

}  // namespace
}  // namespace brood
