// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/samples.h"

#include <cmath>
#include <cstddef>
#include <optional>
#include <random>
#include <string>

#include "gtest/gtest.h"

namespace brood {
namespace {

std::string WhoIsFaster(const Samples& mine, const Samples& theirs) {
  const Comparison comparison = Compare(mine, theirs);
  if (comparison.too_close) return "too close to call";
  return comparison.ratio < 1 ? "mine" : "theirs";  // Of durations.
}

TEST(SamplesTest, ASummaryIsOfTheRoundsThatHaveAFigure) {
  const std::optional<Summary> summary = Summarise({3, std::nullopt, 1, 10, 2});
  ASSERT_TRUE(summary.has_value());
  EXPECT_EQ(summary->median, 2.5);
  EXPECT_EQ(summary->least, 1);
  EXPECT_EQ(summary->greatest, 10);
  EXPECT_EQ(summary->rounds, 4);
  EXPECT_FALSE(Summarise({std::nullopt}).has_value());
  EXPECT_FALSE(Summarise({}).has_value());
}

TEST(SamplesTest, WhoDiffersInEveryRoundAlikeIsToldApart) {
  EXPECT_EQ(WhoIsFaster({80, 81, 79, 80, 82}, {100, 101, 99, 100, 100}),
            "mine");
  EXPECT_EQ(WhoIsFaster({100, 101, 99, 100, 100}, {80, 81, 79, 80, 82}),
            "theirs");
  EXPECT_NEAR(Compare({50, 50, 50}, {100, 100, 100}).ratio, 0.5, 1e-9);
}

TEST(SamplesTest, WhatDisturbsWholeRoundsDoesNotBlurWhoIsAhead) {
  EXPECT_EQ(WhoIsFaster({80, 160, 40, 320, 81}, {100, 200, 51, 400, 100}),
            "mine");
}

TEST(SamplesTest, RoundsThatContradictEachOtherAreTooCloseToCall) {
  EXPECT_EQ(WhoIsFaster({80, 120, 80, 120, 80}, {100, 100, 100, 100, 100}),
            "too close to call");
  // One outlier is enough.
  EXPECT_EQ(WhoIsFaster({80, 80, 80, 80, 300}, {100, 100, 100, 100, 100}),
            "too close to call");
}

TEST(SamplesTest, ADifferenceThatNobodyNeedsIsTooCloseToCall) {
  EXPECT_EQ(WhoIsFaster({98, 98, 98, 98, 98}, {100, 100, 100, 100, 100}),
            "too close to call");
}

TEST(SamplesTest, TwoRoundsTellNothing) {
  EXPECT_EQ(WhoIsFaster({1, 1}, {100, 100}), "too close to call");
  EXPECT_EQ(WhoIsFaster({1, 1, 1, std::nullopt}, {100, 100, std::nullopt, 100}),
            "too close to call");
  EXPECT_EQ(WhoIsFaster({}, {}), "too close to call");
}

TEST(SamplesTest, NoneAndSomeAreToldApartNoneAndSometimesAreNot) {
  EXPECT_EQ(WhoIsFaster({0, 0, 0}, {2000, 1, 30}), "mine");
  EXPECT_EQ(WhoIsFaster({2000, 1, 30}, {0, 0, 0}), "theirs");
  EXPECT_EQ(WhoIsFaster({0, 0, 0}, {2000, 0, 30}), "too close to call");
  EXPECT_EQ(WhoIsFaster({0, 0, 0}, {0, 0, 0}), "too close to call");
}

// What the rule is for: of many pairs of runs hardly one contradicts the other,
// and a difference of 15 % is still seen most of the time.
TEST(SamplesTest, TwoRunsOfTheSameRaceDoNotSayTheOpposite) {
  std::mt19937 random(1);
  std::normal_distribution<double> noise(0, 0.04);
  const auto race = [&](double true_ratio) {
    Samples mine;
    Samples theirs;
    for (int round = 0; round < 5; ++round) {
      const double disturbed = std::exp(5 * noise(random));
      mine.push_back(true_ratio * disturbed * std::exp(noise(random)));
      theirs.push_back(disturbed * std::exp(noise(random)));
    }
    return WhoIsFaster(mine, theirs);
  };
  int wrong = 0;
  int seen = 0;
  for (int i = 0; i < 2000; ++i) {
    if (race(1) != "too close to call") ++wrong;
    if (race(1 / 1.3) == "mine") ++seen;
  }
  EXPECT_LT(wrong, 20);
  EXPECT_GT(seen, 1800);
}

}  // namespace
}  // namespace brood
