// SPDX-License-Identifier: Apache-2.0
//
// PageOf() is a report as one page of HTML: for each measure the finding in a
// sentence, and the figures to look at; below them all figures as a table.
//
//   std::string Page(const BenchReport& report, const std::string& path) {
//     const std::string page = PageOf(report);
//     std::ofstream(path) << page;
//     return page;
//   }
//
// What it is not: a program. It has no script, and loads nothing: what it needs
// is in it. It is read on a narrow screen as on a wide one, in light or dark as
// the reader's system prefers.
//
// Whatever a text of the report has, it is text on the page.
//
// Threads, signals, fork: a function of its argument.
#ifndef BROOD_TOOLS_BENCH_BENCH_PAGE_H_
#define BROOD_TOOLS_BENCH_BENCH_PAGE_H_

#include <string>

#include "brood/tools/bench/bench_report.h"

namespace brood {

std::string PageOf(const BenchReport& report);

}  // namespace brood

#endif  // BROOD_TOOLS_BENCH_BENCH_PAGE_H_
