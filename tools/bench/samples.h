// SPDX-License-Identifier: Apache-2.0
//
// Samples are what one thing measured of one contender, round by round; two of
// them are compared, and the answer may be that nobody can tell.
//
//   std::string WhoIsFaster(const Samples& mine, const Samples& theirs) {
//     const Comparison comparison = Compare(mine, theirs);
//     if (comparison.too_close) return "too close to call";
//     return comparison.ratio < 1 ? "mine" : "theirs";  // Of durations.
//   }
//
// What it is not: a test of significance for its own sake. It is there so that
// a second run of the same comparison does not say the opposite.
//
// The rule: whoever is compared was measured in the same rounds, so what
// disturbs one round disturbs both, and of each round only the ratio counts.
// The two differ if the 99 % confidence interval of the mean of the ratios'
// logarithms (Student's t, a pair for each round) is wholly beyond 3 % either
// way. With fewer than three rounds in common it is too close to call whatever
// the figures are; so it is where one of them is zero, unless all of one are
// zero and none of the other is.
//
// Threads, signals, fork: values and pure functions.
#ifndef BROOD_TOOLS_BENCH_SAMPLES_H_
#define BROOD_TOOLS_BENCH_SAMPLES_H_

#include <cstddef>
#include <optional>
#include <vector>

namespace brood {

// By round; nothing where a round has no figure.
using Samples = std::vector<std::optional<double>>;

struct Summary {
  double median = 0;
  double least = 0;
  double greatest = 0;
  size_t rounds = 0;
};

// Nothing if no round has a figure.
std::optional<Summary> Summarise(const Samples& samples);

struct Comparison {
  bool too_close = true;
  // The median of the rounds' ratios, the first to the second; 1 if there is
  // none.
  double ratio = 1;
};

Comparison Compare(const Samples& first, const Samples& second);

}  // namespace brood

#endif  // BROOD_TOOLS_BENCH_SAMPLES_H_
