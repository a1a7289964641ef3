// SPDX-License-Identifier: Apache-2.0
//
// AllMeasures() are the things that are measured of each contender: what each
// is called, what is done, and which way is better.
//
//   for (const MeasureKind& kind : AllMeasures()) {
//     std::cout << kind.id << ": " << kind.title << "\n";
//   }
//
// What it is not: what measures them; see measures.h.
//
// Threads, signals, fork: values.
#ifndef BROOD_TOOLS_BENCH_MEASURE_LIST_H_
#define BROOD_TOOLS_BENCH_MEASURE_LIST_H_

#include <string>
#include <string_view>
#include <vector>

#include "brood/tools/bench/bench_report.h"

namespace brood {

struct MeasureKind {
  std::string_view id;
  std::string title;
  std::string how;
  Unit unit;
  Better better;
};

// The main one first.
std::vector<MeasureKind> AllMeasures();

}  // namespace brood

#endif  // BROOD_TOOLS_BENCH_MEASURE_LIST_H_
