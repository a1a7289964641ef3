// SPDX-License-Identifier: Apache-2.0
//
// BenchOptions is the command line of //tools:bench, checked.
//
//   int RoundsOf(absl::Span<const std::string_view> args) {
//     const absl::StatusOr<BenchOptions> options = ParseBenchOptions(args);
//     return options.ok() ? options->rounds : 0;
//   }
//
// What it is not: a look at the world; which contenders this machine has is for
// whoever runs them.
//
// Errors: InvalidArgument, one line; see server/flag_table.h.
//
// Threads, signals, fork: a pure function and a value.
#ifndef BROOD_TOOLS_BENCH_BENCH_OPTIONS_H_
#define BROOD_TOOLS_BENCH_BENCH_OPTIONS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace brood {

struct BenchOptions {
  // Shorter looks, so that it is over in two minutes.
  bool quick = false;
  // When it would be over, no other turn begins.
  absl::Duration time_limit = absl::InfiniteDuration();
  int rounds = 5;
  // Names of contenders; all if empty.
  std::vector<std::string> only = {};
  // Ids of measures; all if empty.
  std::vector<std::string> measures = {};
  // Relative to where the person stands.
  std::string output_dir = "bench-report";
  // Of the order within each round.
  uint64_t seed = 1;
  // Say what there is to choose from, and measure nothing.
  bool list = false;
  bool help = false;
};

// `args` without the program's name.
absl::StatusOr<BenchOptions> ParseBenchOptions(
    absl::Span<const std::string_view> args);

// What --help prints.
std::string BenchUsage();

}  // namespace brood

#endif  // BROOD_TOOLS_BENCH_BENCH_OPTIONS_H_
