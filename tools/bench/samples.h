// SPDX-License-Identifier: Apache-2.0
//
// Samples are what one thing measured of one contender, round by round; two of
// them are compared, and the answer may be that nobody can tell.
//
//   std::string WhoIsFaster(const Samples& mine, const Samples& theirs,
//                           const RoundNoise& noise) {
//     const Comparison comparison = Compare(mine, theirs, noise);
//     if (comparison.too_few_rounds) return "too few rounds";
//     if (comparison.too_close) return "too close to call";
//     return comparison.ratio < 1 ? "mine" : "theirs";  // Of durations.
//   }
//
// What it is not: a test of significance for its own sake. It is there so that
// a second run of the same comparison does not say the opposite.
//
// The rule: three rounds of two contenders are six figures, which tell nothing
// of how much a figure varies by itself; those of all contenders of the measure
// do. So the variance of the logarithms is pooled over all of them, each about
// its own mean, and the degrees of freedom are summed. Two differ if the means
// of their logarithms do with 99 % confidence (Student's t, both sides), if no
// figure of one lies among those of the other, and if their medians are more
// than 3 % apart. Where one of the two has fewer than three figures there are
// too few rounds whatever they are; where some are zero it is too close to
// call, unless all of one are zero and none of the other is.
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

// How much the rounds of one and the same contender differ.
struct RoundNoise {
  double variance = 0;  // Of natural logarithms.
  size_t freedom = 0;   // Degrees of it.
};

// Of all contenders of one measure. One that has a figure that is not positive
// has no part in it.
RoundNoise NoiseOf(const std::vector<Samples>& contenders);

struct Comparison {
  // So nobody can tell; `too_close` is then set as well.
  bool too_few_rounds = false;
  bool too_close = true;
  // The first's median to the second's; 1 if one of them has none.
  double ratio = 1;
};

Comparison Compare(const Samples& first, const Samples& second,
                   const RoundNoise& noise);

}  // namespace brood

#endif  // BROOD_TOOLS_BENCH_SAMPLES_H_
