// SPDX-License-Identifier: Apache-2.0
//
// MadeUpReport() has a row of every kind, and texts that want to be escaped.
// None of its figures was measured.
//
//   const BenchReport report = MadeUpReport();
//   const std::vector<Findings> findings =
//       FindingsOf(report, report.measures.front());
//
// What it is not: plausible.
#ifndef BROOD_TOOLS_BENCH_MADE_UP_REPORT_H_
#define BROOD_TOOLS_BENCH_MADE_UP_REPORT_H_

#include "brood/tools/bench/bench_report.h"

namespace brood {

BenchReport MadeUpReport();

}  // namespace brood

#endif  // BROOD_TOOLS_BENCH_MADE_UP_REPORT_H_
