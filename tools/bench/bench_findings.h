// SPDX-License-Identifier: Apache-2.0
//
// Findings are what a measure's figures say: the servers of each design from
// the best to the worst, and a sentence about it.
//
//   std::string Best(const BenchReport& report, const Measure& measure) {
//     const std::vector<Findings> findings = FindingsOf(report, measure);
//     if (findings.empty()) return "nobody";
//     return findings.front().ranks.front().row->server;
//   }
//
// What it is not: an opinion. Every word follows from the figures, by
// Compare().
//
// Ownership: they point into the report, which outlives them.
//
// Threads, signals, fork: functions of their arguments.
#ifndef BROOD_TOOLS_BENCH_BENCH_FINDINGS_H_
#define BROOD_TOOLS_BENCH_BENCH_FINDINGS_H_

#include <optional>
#include <string>
#include <vector>

#include "brood/tools/bench/bench_report.h"
#include "brood/tools/bench/contender.h"
#include "brood/tools/bench/samples.h"

namespace brood {

struct Findings {
  struct Rank {
    const BenchReport::Row* row = nullptr;
    Origin origin = Origin::kPeer;
    // Nothing if it has no figure.
    std::optional<Summary> summary = {};
    // Against the floor: "0.86 of floor-fork". Empty for the floor itself, and
    // where one of the two has no figure.
    std::string verdict = {};
    // What is to be known of the figure, or why there is none; may be empty.
    std::string note = {};
  };
  Design design = Design::kFork;
  // The first floor of this design, with which the others are compared; null if
  // there is none.
  const BenchReport::Row* floor = nullptr;
  // The best median first; who has none is last.
  std::vector<Rank> ranks = {};
  // "brood-fork serves 0.86 of what floor-fork does and 2.6 times what socat
  // does, the best of 5 peers"
  std::string sentence = {};
};

// One for each design that has a row, in the order of designs.
std::vector<Findings> FindingsOf(const BenchReport& report,
                                 const BenchReport::Measure& measure);

// The design that a row is of; who is not among the servers is taken for a
// peer with a process for each connection.
BenchReport::Server ServerOf(const BenchReport& report,
                             const BenchReport::Row& row);

// How much the rounds of a measure differ, of all its servers.
RoundNoise NoiseOf(const BenchReport::Measure& measure);

// The sentence of the first in which one of brood's has a figure; else of the
// first.
std::string HeadlineOf(const std::vector<Findings>& findings);

}  // namespace brood

#endif  // BROOD_TOOLS_BENCH_BENCH_FINDINGS_H_
