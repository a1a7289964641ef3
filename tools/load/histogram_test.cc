// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/load/histogram.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::testing::HasSubstr;
using ::testing::Optional;

std::string Tail(absl::Span<const absl::Duration> latencies) {
  Histogram histogram;
  for (const absl::Duration latency : latencies) histogram.Add(latency);
  return absl::StrCat("99 % within ",
                      absl::FormatDuration(histogram.Quantile(0.99)),
                      ", all within ", absl::FormatDuration(histogram.max()));
}

TEST(HistogramTest, TheExampleSaysHowLongTheTailIs) {
  std::vector<absl::Duration> latencies(99, absl::Nanoseconds(1500));
  latencies.push_back(absl::Seconds(1));
  EXPECT_EQ(Tail(latencies), "99 % within 1.5us, all within 1s");
}

// From a nanosecond to an hour, as many in each power of ten.
std::vector<int64_t> Samples(size_t count, unsigned seed) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> exponent(0, 12.5);
  std::vector<int64_t> samples;
  for (size_t i = 0; i < count; ++i) {
    samples.push_back(static_cast<int64_t>(std::pow(10, exponent(random))));
  }
  return samples;
}

Histogram Of(absl::Span<const int64_t> samples) {
  Histogram histogram;
  for (const int64_t sample : samples) histogram.Add(absl::Nanoseconds(sample));
  return histogram;
}

TEST(HistogramTest, AQuantileIsTheSortedSampleOrUpToAThousandthMore) {
  for (const size_t count : {1, 2, 3, 100, 9'999, 100'000}) {
    std::vector<int64_t> samples = Samples(count, 7);
    const Histogram histogram = Of(samples);
    std::sort(samples.begin(), samples.end());
    for (const double q :
         {0.0, 0.001, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 0.9999, 1.0}) {
      const double share = std::ceil(q * static_cast<double>(count));
      const size_t rank = std::max<size_t>(static_cast<size_t>(share), 1);
      const int64_t exact = samples[rank - 1];
      const int64_t got = absl::ToInt64Nanoseconds(histogram.Quantile(q));
      EXPECT_GE(got, exact) << q << " of " << count;
      EXPECT_LE(got, exact + exact / 1024) << q << " of " << count;
    }
    EXPECT_EQ(histogram.count(), count);
    EXPECT_EQ(histogram.min(), absl::Nanoseconds(samples.front()));
    EXPECT_EQ(histogram.max(), absl::Nanoseconds(samples.back()));
  }
}

TEST(HistogramTest, EveryDurationUpToTwoMicrosecondsIsExact) {
  for (int64_t sample = 0; sample < 2048; ++sample) {
    // The second is not the maximum, at which a quantile would stop anyway.
    const Histogram histogram = Of({sample, 1'000'000});
    EXPECT_EQ(histogram.Quantile(0.5), absl::Nanoseconds(sample));
  }
}

TEST(HistogramTest, NoStepIsWiderThanAThousandthAndNoneOverlapsTheNext) {
  for (int bit = 11; bit < 62; ++bit) {
    const int64_t power = int64_t{1} << bit;
    for (const int64_t sample :
         {power - 1, power, power + 1, power + power / 2}) {
      const Histogram histogram = Of({sample, sample, INT64_MAX});
      const int64_t got = absl::ToInt64Nanoseconds(histogram.Quantile(0.5));
      EXPECT_GE(got, sample);
      EXPECT_LE(got, sample + sample / 1024);
    }
  }
}

TEST(HistogramTest, MergedHistogramsAreTheHistogramOfAll) {
  const std::vector<int64_t> few = Samples(10, 1);
  const std::vector<int64_t> many = Samples(5'000, 2);
  std::vector<int64_t> all = few;
  all.insert(all.end(), many.begin(), many.end());
  Histogram merged = Of(few);
  merged.Merge(Of(many));
  EXPECT_EQ(merged, Of(all));
  Histogram other_way = Of(many);
  other_way.Merge(Of(few));
  EXPECT_EQ(other_way, Of(all));
  Histogram from_nothing;
  from_nothing.Merge(merged);
  from_nothing.Merge(Histogram());
  EXPECT_EQ(from_nothing, Of(all));
}

TEST(HistogramTest, TheMeanIsThatOfTheSamples) {
  EXPECT_EQ(Of({1'000, 2'000, 6'000}).mean(), absl::Nanoseconds(3'000));
}

TEST(HistogramTest, NothingIsZero) {
  const Histogram histogram;
  EXPECT_EQ(histogram.count(), 0);
  EXPECT_EQ(histogram.min(), absl::ZeroDuration());
  EXPECT_EQ(histogram.max(), absl::ZeroDuration());
  EXPECT_EQ(histogram.mean(), absl::ZeroDuration());
  EXPECT_EQ(histogram.Quantile(0.99), absl::ZeroDuration());
}

TEST(HistogramTest, WhatIsNegativeIsZeroAndWhatIsInfiniteIsTheLongest) {
  Histogram histogram;
  histogram.Add(absl::Nanoseconds(-1));
  histogram.Add(absl::ZeroDuration());
  EXPECT_EQ(histogram.max(), absl::ZeroDuration());
  histogram.Add(absl::InfiniteDuration());
  EXPECT_EQ(histogram.max(), absl::Nanoseconds(INT64_MAX));
  EXPECT_EQ(histogram.Quantile(1), absl::Nanoseconds(INT64_MAX));
}

TEST(HistogramTest, ItTravelsAsALine) {
  for (const size_t count : {0, 1, 1'000}) {
    const Histogram histogram = Of(Samples(count, 3));
    const std::string line = histogram.Encode();
    EXPECT_THAT(line, testing::Not(HasSubstr("\n")));
    EXPECT_THAT(Histogram::Decode(line), Optional(histogram));
  }
}

TEST(HistogramTest, ALineThatIsNoneIsNothing) {
  for (const char* text :
       {"", "1", "1 2 3", "1 5 5 5", "1 5 5 5 5:2", "1 5 5 5 x:1", "1 5 5 5 5",
        "1 5 5 5 99999999999:1", "1 5 5 5 5:1 "}) {
    EXPECT_EQ(Histogram::Decode(text), std::nullopt) << text;
  }
  EXPECT_NE(Histogram::Decode("1 5 5 5 5:1"), std::nullopt);
}

}  // namespace
}  // namespace brood
