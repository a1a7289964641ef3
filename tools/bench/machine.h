// SPDX-License-Identifier: Apache-2.0
//
// ThisMachine() is where and when a comparison is run, for its report.
//
//   void SayWhere(BenchReport& report) {
//     report.machine = ThisMachine("/src/brood", "bench --quick");
//   }
//
// What it is not: complete. What cannot be read is left empty, and is no error.
//
// Threads, signals, fork: reads files, keeps nothing.
// Rests on: /proc/cpuinfo, /proc/loadavg, /proc/pressure/cpu, uname(2), sysinfo(2), gitrepository-layout(5).
#ifndef BROOD_TOOLS_BENCH_MACHINE_H_
#define BROOD_TOOLS_BENCH_MACHINE_H_

#include <string>

#include "brood/tools/bench/bench_report.h"

namespace brood {

// `sources` is where this project is checked out; its commit is looked up
// there.
BenchReport::Machine ThisMachine(const std::string& sources,
                                 const std::string& command);

// What it is busy with at this moment.
BenchReport::Machine::Load LoadOfThisMachine();

// From the texts of /proc/loadavg and /proc/pressure/cpu.
BenchReport::Machine::Load LoadIn(const std::string& loadavg,
                                  const std::string& pressure);

}  // namespace brood

#endif  // BROOD_TOOLS_BENCH_MACHINE_H_
