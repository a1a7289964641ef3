// SPDX-License-Identifier: Apache-2.0
//
// A ZombieReport as people read it, as a line of a log, and as JSON.
//
//   void Print(const ZombieReport& report, bool is_terminal) {
//     if (is_terminal) {
//       std::cout << ReportText(report, {.tree = true});
//     } else {
//       std::cout << ReportLine(report) << "\n";
//     }
//   }
//
// What it is not: complete, as a text. Of one parent's zombies it has the first
// ten, and says how many more there are; JSON has them all.
//
// Names of processes are anybody's: what is not printable ASCII is escaped.
//
// Threads, signals, fork: functions of their arguments.
#ifndef BROOD_TOOLS_ZOMBIES_REPORT_TEXT_H_
#define BROOD_TOOLS_ZOMBIES_REPORT_TEXT_H_

#include <cstddef>
#include <string>

#include "brood/tools/zombies/zombie_watch.h"

namespace brood {

struct ReportStyle {
  // The zombies among their ancestors, instead of a table for each parent.
  bool tree = false;
  // How a zombie ended is known of those of all users. The kernel says 0 of
  // others' to whom it may not tell.
  bool endings_known = true;
  size_t width = 80;
};

std::string ReportText(const ZombieReport& report, const ReportStyle& style);

// How many, and whose; without the end of the line.
std::string ReportLine(const ZombieReport& report);

// One object, without the end of the line.
std::string ReportJson(const ZombieReport& report, const ReportStyle& style);

}  // namespace brood

#endif  // BROOD_TOOLS_ZOMBIES_REPORT_TEXT_H_
