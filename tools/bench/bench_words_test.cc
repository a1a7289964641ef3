// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/bench_words.h"

#include <cmath>
#include <optional>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "brood/tools/bench/bench_report.h"
#include "brood/tools/bench/samples.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

std::string Said(const Samples& mine, const Samples& theirs) {
  return absl::StrCat(
      FigureOf(Summarise(mine)->median, Unit::kPerSecond), ", ",
      VerdictOf(mine, theirs, "socat", NoiseOf({mine, theirs})));
}

std::string Verdict(const Samples& first, const Samples& second) {
  return VerdictOf(first, second, "socat", NoiseOf({first, second}));
}

TEST(BenchWordsTest, HeaderExample) {
  EXPECT_EQ(Said({6814, 6800, 6900}, {2600, 2610, 2640}),
            "6,814/s, 2.6 times socat");
}

TEST(BenchWordsTest, AFigureHasThreeDigitsAndTheUnitThatSuitsIt) {
  struct Case {
    double value;
    Unit unit;
    std::string_view words;
  };
  for (const Case& c : {
           Case{6814.2, Unit::kPerSecond, "6,814/s"},
           Case{1234567, Unit::kPerSecond, "1,234,567/s"},
           Case{999.6, Unit::kPerSecond, "1,000/s"},
           Case{999.4, Unit::kPerSecond, "999/s"},
           Case{12.34, Unit::kPerSecond, "12.3/s"},
           Case{99.96, Unit::kPerSecond, "100/s"},
           Case{0, Unit::kPerSecond, "0/s"},
           Case{0.0208, Unit::kSeconds, "20.8 ms"},
           Case{0.000146, Unit::kSeconds, "146 \u00b5s"},
           Case{0.0009996, Unit::kSeconds, "1.00 ms"},
           Case{2.5, Unit::kSeconds, "2.50 s"},
           Case{3.2e-9, Unit::kSeconds, "3.20 ns"},
           Case{5e-10, Unit::kSeconds, "0.50 ns"},
           Case{0, Unit::kSeconds, "0 s"},
           Case{71168, Unit::kBytes, "69.5 KiB"},
           Case{1000, Unit::kBytes, "1000 B"},
           Case{1023.9, Unit::kBytes, "1.00 KiB"},
           Case{3.5 * 1073741824, Unit::kBytes, "3.50 GiB"},
           Case{699e6, Unit::kBytesPerSecond, "699 MB/s"},
           Case{12, Unit::kBytesPerSecond, "12 B/s"},
           Case{0, Unit::kCount, "0"},
           Case{2.5, Unit::kCount, "2.5"},
           Case{12345, Unit::kCount, "12,345"},
           Case{-0.0208, Unit::kSeconds, "-20.8 ms"},
           Case{NAN, Unit::kSeconds, "unknown"},
       }) {
    EXPECT_EQ(FigureOf(c.value, c.unit), c.words);
  }
  EXPECT_EQ(RoundsOf(1), "1 round");
  EXPECT_EQ(RoundsOf(5), "5 rounds");
  EXPECT_EQ(SpreadOf({.median = 2, .least = 1, .greatest = 1000, .rounds = 3},
                     Unit::kCount),
            "1 .. 1,000");
}

TEST(BenchWordsTest, AMachineIsBusyByWhatItDidBefore) {
  EXPECT_EQ(LoadOf({}), "");
  EXPECT_EQ(LoadOf({.average = 0.125, .pressure = 3.4}),
            "load average 0.12; 3 % of the time somebody waited for a "
            "processor");
  EXPECT_EQ(LoadOf({.pressure = 3.4}),
            "3 % of the time somebody waited for a processor");
  const auto busy = [](BenchReport::Machine::Load before) {
    return WasBusy({.processors = 2, .before = before, .after = {9, 99}});
  };
  EXPECT_FALSE(busy({}));
  EXPECT_FALSE(busy({.average = 0.9, .pressure = 9}));
  EXPECT_TRUE(busy({.average = 1.1}));
  EXPECT_TRUE(busy({.average = 0, .pressure = 11}));
}

TEST(BenchWordsTest, ARatioHasTheDigitsThatTellItFromOne) {
  EXPECT_EQ(RatioOf(0.00031), "1/3,226 of");
  EXPECT_EQ(RatioOf(0.031), "0.031 of");
  EXPECT_EQ(RatioOf(0.0999), "0.10 of");
  EXPECT_EQ(RatioOf(0.862), "0.86 of");
  EXPECT_EQ(RatioOf(1.04), "1.04 times");
  EXPECT_EQ(RatioOf(1.999), "2.0 times");
  EXPECT_EQ(RatioOf(2.64), "2.6 times");
  EXPECT_EQ(RatioOf(1234), "1,234 times");
}

TEST(BenchWordsTest, AVerdictIsGivenOnlyWhereTheFiguresTellTheTwoApart) {
  EXPECT_EQ(Verdict({86, 86, 86}, {100, 100, 100}), "0.86 of socat");
  EXPECT_EQ(Verdict({80, 120, 100}, {100, 100, 100}), "too close to call");
  EXPECT_EQ(Verdict({50, 50}, {100, 100}), "too few rounds");
  EXPECT_EQ(Verdict({std::nullopt}, {100}), "too few rounds");
}

TEST(BenchWordsTest, NoneIsNotARatio) {
  EXPECT_EQ(Verdict({0, 0, 0}, {0, 0, 0}), "none, like socat");
  EXPECT_EQ(Verdict({0, 0, 0}, {9, 8, 9}), "none, socat has some");
  EXPECT_EQ(Verdict({9, 8, 9}, {0, 0, 0}), "some, socat has none");
  EXPECT_TRUE(IsNone({0, std::nullopt}));
  EXPECT_FALSE(IsNone({0, 1}));
  EXPECT_FALSE(IsNone({std::nullopt}));
}

}  // namespace
}  // namespace brood
