// SPDX-License-Identifier: Apache-2.0
//
// JsonOf() is a report as one JSON object, with every sample and every
// comparison of two servers of one design.
//
//   bool WriteJson(const BenchReport& report, const std::string& path) {
//     return static_cast<bool>(std::ofstream(path) << JsonOf(report));
//   }
//
// What it is not: rounded. A number reads back as the same double.
//
// What is not known is null: a round without a figure, a ratio to zero, a
// server's median if it has no figure. Units are "per_second", "seconds",
// "bytes", "bytes_per_second" and "count"; `better` is "more" or "less". The
// seed is a string, for many readers keep only 53 bits of a number.
//
// Threads, signals, fork: a function of its argument. Rests on: RFC 8259.
#ifndef BROOD_TOOLS_BENCH_BENCH_JSON_H_
#define BROOD_TOOLS_BENCH_BENCH_JSON_H_

#include <string>

#include "brood/tools/bench/bench_report.h"

namespace brood {

std::string JsonOf(const BenchReport& report);

}  // namespace brood

#endif  // BROOD_TOOLS_BENCH_BENCH_JSON_H_
