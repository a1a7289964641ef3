// SPDX-License-Identifier: Apache-2.0
//
// RunBench measures who is chosen, round by round, and says what it found.
//
//   absl::StatusOr<BenchReport> TwoMinutes(const std::string& folder,
//                                          std::function<bool()> go_on) {
//     return RunBench({.quick = true, .rounds = 3}, folder,
//                     {.go_on = std::move(go_on),
//                      .say = [](std::string_view) {}});
//   }
//
// What it is not: for a machine that does something else. Each round measures
// each contender once, in an order that the seed shuffles, and one at a time;
// but a quick run holds each crowd once, after all rounds. A turn that would
// end after the time limit is not begun, and is among those left out.
//
// Errors: Cancelled once go_on() is false: then all that was started has ended.
// NotFound if none of the contenders is on this machine. One that fails has its
// failure in its rows, one that is missing is among the absent.
//
// Ownership: `folder` is there, and its own.
//
// Threads: one. Signals: none used. Fork: see started_server.h; REQUIRES: this
// process has no other children.
#ifndef BROOD_TOOLS_BENCH_BENCH_RUN_H_
#define BROOD_TOOLS_BENCH_BENCH_RUN_H_

#include <functional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "brood/tools/bench/bench_options.h"
#include "brood/tools/bench/bench_report.h"

namespace brood {

struct BenchWatch {
  std::function<bool()> go_on;
  // How far it has come, in one line.
  std::function<void(std::string_view)> say;
};

// All but the report's machine.
absl::StatusOr<BenchReport> RunBench(const BenchOptions& options,
                                     const std::string& folder,
                                     const BenchWatch& watch);

}  // namespace brood

#endif  // BROOD_TOOLS_BENCH_BENCH_RUN_H_
