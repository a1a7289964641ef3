// SPDX-License-Identifier: Apache-2.0
//
// The words of the comparison: a figure with its unit, and how one server
// stands to another, the same in the page, in the tables and in the messages.
//
//   std::string Said(const Samples& mine, const Samples& theirs) {
//     return absl::StrCat(FigureOf(Summarise(mine)->median, Unit::kPerSecond),
//                         ", ", VerdictOf(mine, theirs, "socat",
//                                         NoiseOf({mine, theirs})));
//   }
//
// What it is not: exact. A figure has three digits or all before the point;
// JSON has the samples.
//
// Threads, signals, fork: functions of their arguments.
#ifndef BROOD_TOOLS_BENCH_BENCH_WORDS_H_
#define BROOD_TOOLS_BENCH_BENCH_WORDS_H_

#include <string>
#include <string_view>

#include "brood/tools/bench/bench_report.h"
#include "brood/tools/bench/samples.h"

namespace brood {

// "6,814/s", "20.8 ms", "69.5 KiB", "699 MB/s", "12".
std::string FigureOf(double value, Unit unit);

// "load average 0.12; 3 % of the time somebody waited for a processor". Empty
// if nothing is known.
std::string LoadOf(const BenchReport::Machine::Load& load);

// It had other things to do before the comparison began: more than a task for
// every second processor, or one waited in a tenth of the time.
bool WasBusy(const BenchReport::Machine& machine);

// "1 round", "5 rounds".
std::string RoundsOf(int rounds);

// "5,931/s .. 7,002/s".
std::string SpreadOf(const Summary& summary, Unit unit);

// "2.6 times", "0.86 of", "1/142 of".
std::string RatioOf(double ratio);

// "2.6 times socat", "0.86 of floor-fork", "none, socat has some", "some,
// socat has none", "none, like socat", "too close to call" or "too few rounds".
std::string VerdictOf(const Samples& first, const Samples& second,
                      std::string_view name_of_second, const RoundNoise& noise);

// "too close to call" or "too few rounds", of two that are not told apart.
std::string_view WhyNotToldApart(const Comparison& comparison);

// All rounds that have a figure have zero, and there is one.
bool IsNone(const Samples& samples);

}  // namespace brood

#endif  // BROOD_TOOLS_BENCH_BENCH_WORDS_H_
