// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/bench_options.h"

#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

absl::StatusOr<BenchOptions> Parse(std::vector<std::string_view> args) {
  return ParseBenchOptions(args);
}

int RoundsOf(absl::Span<const std::string_view> args) {
  const absl::StatusOr<BenchOptions> options = ParseBenchOptions(args);
  return options.ok() ? options->rounds : 0;
}

TEST(BenchOptionsTest, HeaderExample) {
  EXPECT_EQ(RoundsOf({"--rounds=7"}), 7);
  EXPECT_EQ(RoundsOf({"--rounds=none"}), 0);
}

TEST(BenchOptionsTest, WithoutFlagsEverythingIsMeasuredInFiveRounds) {
  const absl::StatusOr<BenchOptions> options = Parse({});
  ASSERT_THAT(options, IsOk());
  EXPECT_FALSE(options->quick);
  EXPECT_EQ(options->rounds, 5);
  EXPECT_THAT(options->only, IsEmpty());
  EXPECT_THAT(options->measures, IsEmpty());
  EXPECT_EQ(options->output_dir, "bench-report");
}

TEST(BenchOptionsTest, NamesAreSeparatedByCommas) {
  const absl::StatusOr<BenchOptions> options =
      Parse({"--only=brood-fork,floor-fork", "--measures=connections,zombies"});
  ASSERT_THAT(options, IsOk());
  EXPECT_THAT(options->only, ElementsAre("brood-fork", "floor-fork"));
  EXPECT_THAT(options->measures, ElementsAre("connections", "zombies"));
}

TEST(BenchOptionsTest, QuickIsThreeRoundsUnlessTheyAreGiven) {
  ASSERT_THAT(Parse({"--quick"}), IsOk());
  EXPECT_EQ(Parse({"--quick"})->rounds, 3);
  EXPECT_EQ(Parse({"--rounds=7", "--quick"})->rounds, 7);
  EXPECT_LT(Parse({"--rounds=7", "--quick"})->time_limit, absl::Minutes(2));
  EXPECT_EQ(Parse({"--rounds=7"})->time_limit, absl::InfiniteDuration());
}

TEST(BenchOptionsTest, ANameThatIsNoneIsToldWhichThereAre) {
  EXPECT_THAT(Parse({"--only=brood-fork,nginx"}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(StartsWith("--only: \""), HasSubstr("nginx"),
                             HasSubstr("floor-fork"), HasSubstr("socat"),
                             Not(HasSubstr("\n")))));
  EXPECT_THAT(Parse({"--measures=speed"}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(StartsWith("--measures: \""), HasSubstr("speed"),
                             HasSubstr("reap_latency"), Not(HasSubstr("\n")))));
  EXPECT_THAT(Parse({"--only=brood-fork,"}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace brood
