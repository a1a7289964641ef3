// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/samples.h"

#include <cmath>
#include <cstddef>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace brood {
namespace {

std::string WhoIsFaster(const Samples& mine, const Samples& theirs,
                        const RoundNoise& noise) {
  const Comparison comparison = Compare(mine, theirs, noise);
  if (comparison.too_few_rounds) return "too few rounds";
  if (comparison.too_close) return "too close to call";
  return comparison.ratio < 1 ? "mine" : "theirs";  // Of durations.
}

// As if nobody else had been measured.
std::string WhoIsFaster(const Samples& mine, const Samples& theirs) {
  return WhoIsFaster(mine, theirs, NoiseOf({mine, theirs}));
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
  EXPECT_NEAR(Compare({50, 50, 50}, {100, 100, 100}, {.freedom = 4}).ratio, 0.5,
              1e-9);
}

TEST(SamplesTest, TheNoiseIsThatOfAllAboutTheirOwnMeans) {
  const double e = std::exp(1);
  // 0 and 2 about 1, and 5, 5 and 8 about 6.
  const RoundNoise noise =
      NoiseOf({{1, e * e},
               {std::exp(5), std::nullopt, std::exp(5), std::exp(8)},
               {7},
               {0, 1000, 1},
               {}});
  EXPECT_EQ(noise.freedom, 3U);
  EXPECT_NEAR(noise.variance, (2.0 + 6.0) / 3, 1e-9);
  EXPECT_EQ(NoiseOf({{1}, {}}).freedom, 0U);
}

TEST(SamplesTest, WhatOthersShowOfTheNoiseDecides) {
  const Samples mine = {190, 230, 210};
  const Samples theirs = {380, 420, 520};
  EXPECT_EQ(WhoIsFaster(mine, theirs, {.variance = 0.02, .freedom = 40}),
            "mine");
  EXPECT_EQ(WhoIsFaster(mine, theirs, {.variance = 0.02, .freedom = 2}),
            "too close to call");
  EXPECT_EQ(WhoIsFaster(mine, theirs, {.variance = 0.5, .freedom = 40}),
            "too close to call");
  EXPECT_EQ(WhoIsFaster(mine, theirs, {}), "too close to call");
}

TEST(SamplesTest, WhoseRangesMeetAreTooCloseToCall) {
  const RoundNoise little = {.variance = 1e-6, .freedom = 40};
  EXPECT_EQ(WhoIsFaster({80, 80, 91}, {100, 100, 92}, little), "mine");
  EXPECT_EQ(WhoIsFaster({80, 80, 92}, {100, 100, 92}, little),
            "too close to call");
  EXPECT_EQ(WhoIsFaster({100, 100, 92}, {80, 80, 92}, little),
            "too close to call");
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

TEST(SamplesTest, TwoRoundsAreTooFew) {
  EXPECT_EQ(WhoIsFaster({1}, {100}), "too few rounds");
  EXPECT_EQ(WhoIsFaster({1, 1}, {100, 100}), "too few rounds");
  EXPECT_EQ(WhoIsFaster({1, 1, 1}, {100, std::nullopt, 100}), "too few rounds");
  EXPECT_EQ(WhoIsFaster({}, {}), "too few rounds");
}

TEST(SamplesTest, NoneAndSomeAreToldApartNoneAndSometimesAreNot) {
  EXPECT_EQ(WhoIsFaster({0, 0, 0}, {2000, 1, 30}), "mine");
  EXPECT_EQ(WhoIsFaster({2000, 1, 30}, {0, 0, 0}), "theirs");
  EXPECT_EQ(WhoIsFaster({0, 0, 0}, {2000, 0, 30}), "too close to call");
  EXPECT_EQ(WhoIsFaster({0, 0, 0}, {0, 0, 0}), "too close to call");
}

// Twelve contenders and three rounds; each figure is off by its own noise. The
// first two are compared, and the second takes `ratio` times as long.
class Race {
 public:
  std::string Run(double ratio, const std::function<double()>& noise) {
    std::vector<Samples> all;
    for (int i = 0; i < 12; ++i) {
      Samples samples;
      for (int round = 0; round < 3; ++round) {
        samples.push_back((i == 1 ? ratio : 1 + i) * noise());
      }
      all.push_back(std::move(samples));
    }
    return WhoIsFaster(all[0], all[1], NoiseOf(all));
  }

  // Off by a fifth, as a standard deviation.
  double Normal() { return std::exp(normal_(random_)); }
  // Off by a fifth at most.
  double Uniform() { return uniform_(random_); }

 private:
  std::mt19937 random_{1};
  std::normal_distribution<double> normal_{0, 0.2};
  std::uniform_real_distribution<double> uniform_{0.8, 1.2};
};

int TimesSaid(std::string_view what, double ratio,
              const std::function<double()>& noise, Race& race) {
  int said = 0;
  for (int i = 0; i < 2000; ++i) said += race.Run(ratio, noise) == what ? 1 : 0;
  return said;
}

// What the rule is for: of many pairs of runs hardly one contradicts the other,
// and who takes twice as long is seen in three rounds, noisy as they are.
TEST(SamplesTest, WhoIsTheSameIsHardlyEverToldApartAndWhoTakesTwiceIs) {
  Race race;
  const auto normal = [&] { return race.Normal(); };
  const auto uniform = [&] { return race.Uniform(); };
  EXPECT_GT(TimesSaid("too close to call", 1, normal, race), 1970);
  EXPECT_GT(TimesSaid("too close to call", 1, uniform, race), 1970);
  EXPECT_GT(TimesSaid("mine", 2, uniform, race), 1980);
  EXPECT_GT(TimesSaid("mine", 2, normal, race), 1700);
  EXPECT_EQ(TimesSaid("theirs", 2, normal, race), 0);
  EXPECT_GT(TimesSaid("mine", 4, normal, race), 1990);
}

}  // namespace
}  // namespace brood
