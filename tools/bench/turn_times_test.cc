// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/turn_times.h"

#include <cstddef>
#include <vector>

#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

absl::Duration Left(const TurnTimes& times,
                    const std::vector<size_t>& who_is_to_come) {
  absl::Duration left = absl::ZeroDuration();
  for (const size_t who : who_is_to_come) {
    left += times.Of(who, TurnKind::kPlain);
  }
  return left;
}

TEST(TurnTimesTest, AContendersOwnTurnsAreTheBestWitness) {
  TurnTimes times(/*quick=*/true);
  times.Add(0, TurnKind::kPlain, absl::Seconds(1));
  times.Add(0, TurnKind::kPlain, absl::Seconds(3));
  times.Add(1, TurnKind::kPlain, absl::Seconds(8));
  EXPECT_EQ(Left(times, {0, 0, 1}), absl::Seconds(12));
}

TEST(TurnTimesTest, WhoHasHadNoneIsTakenForOneOfTheOthersOfThatKind) {
  TurnTimes times(/*quick=*/true);
  times.Add(0, TurnKind::kCrowd, absl::Seconds(10));
  times.Add(1, TurnKind::kCrowd, absl::Seconds(20));
  times.Add(2, TurnKind::kPlain, absl::Seconds(1));
  EXPECT_EQ(times.Of(7, TurnKind::kCrowd), absl::Seconds(15));
  EXPECT_EQ(times.Of(7, TurnKind::kPlain), absl::Seconds(1));
}

TEST(TurnTimesTest, AGuessIsAsMuchOffAsOthersWere) {
  for (const bool quick : {false, true}) {
    TurnTimes times(quick);
    const absl::Duration plain = times.Of(0, TurnKind::kPlain);
    const absl::Duration crowd = times.Of(0, TurnKind::kCrowd);
    EXPECT_GT(crowd, 2 * plain);
    times.Add(0, TurnKind::kPlain, 5 * plain);
    EXPECT_EQ(times.Of(0, TurnKind::kCrowd), 5 * crowd);
  }
}

}  // namespace
}  // namespace brood
