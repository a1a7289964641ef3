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

// Student's t for 99 % on both sides, from one degree of freedom on; beyond the
// last the normal distribution's, rounded up.
constexpr std::array<double, 20> kT = {
    63.66, 9.93, 5.85, 4.61, 4.04, 3.71, 3.50, 3.36, 3.25, 3.17,
    3.11,  3.06, 3.02, 2.98, 2.95, 2.93, 2.90, 2.88, 2.87, 2.85};

double StudentT(size_t freedom) {
  return freedom <= kT.size() ? kT[freedom - 1] : kT.back();
}

double MedianOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle]
                                : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace

std::optional<Summary> Summarise(const Samples& samples) {
  std::vector<double> values;
  for (const std::optional<double>& sample : samples) {
    if (sample.has_value()) values.push_back(*sample);
  }
  if (values.empty()) return std::nullopt;
  const auto [least, greatest] =
      std::minmax_element(values.begin(), values.end());
  return Summary{.median = MedianOf(values),
                 .least = *least,
                 .greatest = *greatest,
                 .rounds = values.size()};
}

Comparison Compare(const Samples& first, const Samples& second) {
  std::vector<double> ratios;
  std::vector<double> logs;
  size_t pairs = 0;
  size_t first_zero = 0;
  size_t second_zero = 0;
  for (size_t i = 0; i < std::min(first.size(), second.size()); ++i) {
    if (!first[i].has_value() || !second[i].has_value()) continue;
    ++pairs;
    if (*first[i] <= 0) ++first_zero;
    if (*second[i] <= 0) ++second_zero;
    if (*first[i] <= 0 || *second[i] <= 0) continue;
    ratios.push_back(*first[i] / *second[i]);
    logs.push_back(std::log(ratios.back()));
  }
  if (pairs < kFewestRounds) {
    return {.ratio = ratios.empty() ? 1 : MedianOf(ratios)};
  }
  // Zombies: none of one and some of the other, in every round.
  if (first_zero == pairs && second_zero == 0) {
    return {.too_close = false, .ratio = 0};
  }
  if (second_zero == pairs && first_zero == 0) {
    return {.too_close = false, .ratio = HUGE_VAL};
  }
  if (logs.size() < pairs) {
    return {.ratio = ratios.empty() ? 1 : MedianOf(ratios)};
  }
  const auto count = static_cast<double>(pairs);
  double mean = 0;
  for (const double log : logs) mean += log / count;
  double squares = 0;
  for (const double log : logs) squares += (log - mean) * (log - mean);
  const double error = std::sqrt(squares / (count - 1) / count);
  return {.too_close = std::abs(mean) - StudentT(pairs - 1) * error <= kMargin,
          .ratio = MedianOf(ratios)};
}

}  // namespace brood
