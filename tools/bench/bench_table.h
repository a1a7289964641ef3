// SPDX-License-Identifier: Apache-2.0
//
// MarkdownOf() is a report as Markdown: a table for each measure, under the
// finding in a sentence.
//
//   std::string WithTables(std::string_view text, const BenchReport& report) {
//     return absl::StrCat(text, "\n", MarkdownOf(report));
//   }
//
// What it is not: all of the report. How each server was started is on the
// page and in the JSON.
//
// Whatever a text of the report has, it is text there, and stays in its cell.
//
// Threads, signals, fork: a function of its argument.
#ifndef BROOD_TOOLS_BENCH_BENCH_TABLE_H_
#define BROOD_TOOLS_BENCH_BENCH_TABLE_H_

#include <string>

#include "brood/tools/bench/bench_report.h"

namespace brood {

std::string MarkdownOf(const BenchReport& report);

}  // namespace brood

#endif  // BROOD_TOOLS_BENCH_BENCH_TABLE_H_
