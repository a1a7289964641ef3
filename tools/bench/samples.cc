// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/samples.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <optional>
#include <vector>

namespace brood {
namespace {

constexpr size_t kFewestRounds = 3;
const double kMargin = std::log(1.03);

// Student's t for 99 % on both sides, from so many degrees of freedom on.
struct Quantile {
  size_t freedom;
  double t;
};
constexpr std::array<Quantile, 24> kQuantiles = {
    {{1, 63.66}, {2, 9.93},  {3, 5.85},  {4, 4.61},  {5, 4.04},  {6, 3.71},
     {7, 3.50},  {8, 3.36},  {9, 3.25},  {10, 3.17}, {11, 3.11}, {12, 3.06},
     {13, 3.02}, {14, 2.98}, {15, 2.95}, {16, 2.93}, {17, 2.90}, {18, 2.88},
     {19, 2.87}, {20, 2.85}, {30, 2.75}, {40, 2.71}, {60, 2.67}, {120, 2.62}}};

// REQUIRES: there is a degree.
double StudentT(size_t freedom) {
  double t = kQuantiles.front().t;
  for (const Quantile& quantile : kQuantiles) {
    if (quantile.freedom <= freedom) t = quantile.t;
  }
  return t;
}

std::vector<double> ValuesOf(const Samples& samples) {
  std::vector<double> values;
  for (const std::optional<double>& sample : samples) {
    if (sample.has_value()) values.push_back(*sample);
  }
  return values;
}

double MeanOfLogs(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += std::log(value);
  return sum / static_cast<double>(values.size());
}

double MedianOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle]
                                : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace

std::optional<Summary> Summarise(const Samples& samples) {
  const std::vector<double> values = ValuesOf(samples);
  if (values.empty()) return std::nullopt;
  const auto [least, greatest] =
      std::minmax_element(values.begin(), values.end());
  return Summary{.median = MedianOf(values),
                 .least = *least,
                 .greatest = *greatest,
                 .rounds = values.size()};
}

RoundNoise NoiseOf(const std::vector<Samples>& contenders) {
  double squares = 0;
  size_t freedom = 0;
  for (const Samples& contender : contenders) {
    const std::vector<double> values = ValuesOf(contender);
    if (values.size() < 2 ||
        *std::min_element(values.begin(), values.end()) <= 0) {
      continue;
    }
    const double mean = MeanOfLogs(values);
    for (const double value : values) {
      squares += (std::log(value) - mean) * (std::log(value) - mean);
    }
    freedom += values.size() - 1;
  }
  if (freedom == 0) return {};
  return {.variance = squares / static_cast<double>(freedom),
          .freedom = freedom};
}

Comparison Compare(const Samples& first, const Samples& second,
                   const RoundNoise& noise) {
  const std::optional<Summary> one = Summarise(first);
  const std::optional<Summary> other = Summarise(second);
  if (!one.has_value() || !other.has_value()) return {.too_few_rounds = true};
  const bool both_positive = one->least > 0 && other->least > 0;
  const double ratio = both_positive ? one->median / other->median : 1;
  if (std::min(one->rounds, other->rounds) < kFewestRounds) {
    return {.too_few_rounds = true, .ratio = ratio};
  }
  // Zombies: none of one and some of the other, in every round.
  if (one->greatest <= 0 && other->least > 0) {
    return {.too_close = false, .ratio = 0};
  }
  if (other->greatest <= 0 && one->least > 0) {
    return {.too_close = false, .ratio = HUGE_VAL};
  }
  if (!both_positive || noise.freedom == 0) return {.ratio = ratio};
  const double apart =
      std::abs(MeanOfLogs(ValuesOf(first)) - MeanOfLogs(ValuesOf(second)));
  const double error =
      std::sqrt(noise.variance * (1 / static_cast<double>(one->rounds) +
                                  1 / static_cast<double>(other->rounds)));
  const bool overlap =
      one->least <= other->greatest && other->least <= one->greatest;
  return {.too_close = overlap || std::abs(std::log(ratio)) <= kMargin ||
                       apart <= StudentT(noise.freedom) * error,
          .ratio = ratio};
}

}  // namespace brood
