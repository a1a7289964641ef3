// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/made_up_report.h"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "brood/tools/bench/bench_report.h"
#include "brood/tools/bench/contender.h"
#include "brood/tools/bench/samples.h"

namespace brood {
namespace {

// Five rounds about `middle`.
Samples About(double middle) {
  return {middle, middle * 0.98, middle * 1.01, middle * 0.99, middle * 1.02};
}

BenchReport::Row RowOf(std::string server, Samples samples) {
  return {.server = std::move(server), .samples = std::move(samples)};
}

}  // namespace

BenchReport MadeUpReport() {
  BenchReport report;
  report.machine = {.processor = "Processor <script>alert(\"1\")</script> & Co",
                    .processors = 2,
                    .memory_bytes = uint64_t{8} << 30,
                    .kernel = "Linux 6.18",
                    .date = "2000-01-01 00:00 UTC",
                    .commit = "0123456789abcdef",
                    .command = "bazel run //tools:bench -- --only='a|b'"};
  report.rounds = 5;
  report.seed = 18446744073709551615U;
  report.servers = {
      {.name = "brood-fork",
       .origin = Origin::kBrood,
       .design = Design::kFork,
       .command = "server --model=fork"},
      {.name = "brood-fork-log",
       .origin = Origin::kBrood,
       .design = Design::kFork,
       .command = "server --model=fork --log=text"},
      {.name = "floor-fork",
       .origin = Origin::kFloor,
       .design = Design::kFork,
       .command = "fork_floor"},
      {.name = "floor-textbook",
       .origin = Origin::kFloor,
       .design = Design::kFork,
       .command = "textbook_floor"},
      {.name = "socat",
       .design = Design::kFork,
       .command = "socat PIPE",
       .version = "socat version 1.7.4.4"},
      {.name = "python-forking",
       .design = Design::kFork,
       .command = "python3 x.py",
       .config = "if 1 < 2 and \"a\" != 'b':\n  print(\"</pre>\")\n"},
      {.name = "brood-cat",
       .origin = Origin::kBrood,
       .design = Design::kProgram,
       .command = "server -- /bin/cat"},
      {.name = "tcpserver",
       .design = Design::kProgram,
       .command = "tcpserver 127.0.0.1 7 /bin/cat"},
      {.name = "xinetd",
       .design = Design::kProgram,
       .command = "xinetd -dontfork"},
      {.name = "brood-prefork",
       .origin = Origin::kBrood,
       .design = Design::kPrefork,
       .command = "server --model=prefork"},
      {.name = "floor-prefork",
       .origin = Origin::kFloor,
       .design = Design::kPrefork,
       .command = "prefork_floor"},
      {.name = "brood-iterative",
       .origin = Origin::kBrood,
       .design = Design::kIterative,
       .command = "server --model=iterative"},
  };
  report.absent = {
      {.name = "ncat", .why = "not installed; Debian has it in ncat"},
      {.name = "b<u>sybox", .why = "said \"no\" & ended"}};

  BenchReport::Measure connections = {
      .id = "connections",
      .title = "Connections a second",
      .how =
          "16 clients at once; each connects, has 64 bytes echoed, and "
          "closes.",
      .unit = Unit::kPerSecond,
      .better = Better::kMore};
  connections.rows = {
      RowOf("brood-fork", About(6814)),
      RowOf("brood-fork-log", {6100, 7100, 6600, 5900, 7800}),
      RowOf("floor-fork", About(7900)),
      RowOf("floor-textbook", About(7200)),
      RowOf("socat", About(2610)),
      RowOf("python-forking", {900, std::nullopt, 1200, 950, 980}),
      RowOf("brood-cat", About(1900)),
      RowOf("tcpserver", {1850, 2100, 1700, 1990, 1900}),
      {.server = "xinetd",
       .samples = {std::nullopt, std::nullopt},
       .failure = "xinetd: <fatal> \"cannot\" bind\n"},
      RowOf("brood-prefork", About(21000)),
      RowOf("floor-prefork", About(27000)),
      RowOf("brood-iterative", About(19000)),
  };
  connections.rows[9].generator_was_busy = 4;
  connections.rows[10].generator_was_busy = 5;
  report.measures.push_back(std::move(connections));

  BenchReport::Measure reap = {
      .id = "reap",
      .title = "From exit to report",
      .how = "A child ends; how long until it is reaped.",
      .unit = Unit::kSeconds,
      .better = Better::kLess};
  reap.rows = {RowOf("brood-fork", About(0.000146)),
               RowOf("floor-fork", About(0.000131)),
               RowOf("socat", About(0.0208)),
               RowOf("python-forking", {0.4, 0.52, 0.48, 0.51, 0.47})};
  report.measures.push_back(std::move(reap));

  BenchReport::Measure memory = {.id = "memory",
                                 .title = "Memory of an idle connection",
                                 .how = "1,000 clients that say nothing.",
                                 .unit = Unit::kBytes,
                                 .better = Better::kLess};
  memory.rows = {RowOf("brood-fork", About(71168)),
                 RowOf("floor-fork", About(69000)),
                 RowOf("socat", About(412000))};
  report.measures.push_back(std::move(memory));

  BenchReport::Measure zombies = {.id = "zombies",
                                  .title = "Zombies seen",
                                  .how = "The most at any moment.",
                                  .unit = Unit::kCount,
                                  .better = Better::kLess};
  zombies.rows = {RowOf("brood-fork", {0, 0, 0, 0, 0}),
                  RowOf("floor-fork", {0, 0, 0, 0, 0}),
                  RowOf("floor-textbook", {97, 88, 92, 101, 94}),
                  RowOf("socat", {3, 1, 2, 2, 4})};
  report.measures.push_back(std::move(zombies));
  return report;
}

}  // namespace brood
