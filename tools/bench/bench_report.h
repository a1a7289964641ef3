// SPDX-License-Identifier: Apache-2.0
//
// A BenchReport is what one run of the comparison found: what was measured, of
// whom, where and how.
//
//   BenchReport report = {.machine = {.kernel = "Linux 6.18"}, .rounds = 5};
//   report.measures.push_back(
//       {.id = "connections", .title = "Connections a second",
//        .unit = Unit::kPerSecond, .better = Better::kMore});
//   std::string page = PageOf(report);
//
// What it is not: a verdict. Who is ahead of whom, and whether anybody can
// tell, follows from the figures by Compare() in samples.h.
//
// Threads, signals, fork: a value.
#ifndef BROOD_TOOLS_BENCH_BENCH_REPORT_H_
#define BROOD_TOOLS_BENCH_BENCH_REPORT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "brood/tools/bench/contender.h"
#include "brood/tools/bench/samples.h"

namespace brood {

enum class Unit { kPerSecond, kSeconds, kBytes, kBytesPerSecond, kCount };
enum class Better { kMore, kLess };

struct BenchReport {
  // Where and how. What is not known is empty.
  struct Machine {
    std::string processor = {};
    int processors = 0;
    uint64_t memory_bytes = 0;
    std::string kernel = {};
    std::string date = {};     // "2026-11-23 21:48 UTC"
    std::string commit = {};   // Of this project.
    std::string command = {};  // What was run.
    // What it was busy with, by /proc; one of neither is not known.
    struct Load {
      // Of how many tasks ran or wanted to, in the last minute.
      std::optional<double> average = std::nullopt;
      // Of the last ten seconds, the share in percent in which somebody waited
      // for a processor.
      std::optional<double> pressure = std::nullopt;
    };
    Load before = {};
    Load after = {};  // Of which much is the comparison's own.
  };
  // One that was measured, and how it was started.
  struct Server {
    std::string name = {};
    Origin origin = Origin::kPeer;
    Design design = Design::kFork;
    // As it was run first; with {port}, {folder} and {user} if it never was.
    std::string command = {};
    std::string config = {};  // Of its file, if it has one.
    // What it says of itself, if it can be asked.
    std::string version = {};
  };
  // One that was not, and why: "not installed; Debian has it in ucspi-tcp", or
  // the line it failed with.
  struct Absent {
    std::string name = {};
    std::string why = {};
  };
  // What one measure found of one server.
  struct Row {
    std::string server = {};
    Samples samples = {};
    // The rounds in which the load generator was busier than it should be, so
    // that the figure may be its own.
    int generator_was_busy = 0;
    // Why there is no figure, if there is none.
    std::string failure = {};
  };
  struct Measure {
    std::string id = {};     // "connections"; a word for JSON.
    std::string title = {};  // "Connections a second"
    // What was done, in a sentence or two: "16 clients at once; each connects,
    // has 64 bytes echoed, and closes."
    std::string how = {};
    Unit unit = Unit::kCount;
    Better better = Better::kMore;
    std::vector<Row> rows = {};  // In the order of `servers`.
  };

  Machine machine = {};
  int rounds = 0;
  uint64_t seed = 0;  // Of the order within each round.
  bool quick = false;
  std::vector<Server> servers = {};
  std::vector<Absent> absent = {};
  // What did not fit into the time: "a crowd at socat".
  std::vector<std::string> left_out = {};
  std::vector<Measure> measures = {};
};

}  // namespace brood

#endif  // BROOD_TOOLS_BENCH_BENCH_REPORT_H_
