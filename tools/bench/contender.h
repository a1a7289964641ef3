// SPDX-License-Identifier: Apache-2.0
//
// A Contender says how one server is started: which program, with which
// arguments, with which file of configuration.
//
//   std::string CommandLines(const Places& places) {
//     std::string lines;
//     for (const Contender& contender : AllContenders()) {
//       absl::StrAppend(&lines, contender.name, ": ",
//                       absl::StrJoin(CommandOf(contender, places), " "), "\n");
//     }
//     return lines;
//   }
//
// What it is not: a process; see started_server.h. Nothing here looks at the
// world, so the whole table is there on a machine that has none of it.
//
// Fair is what is the same for all: loopback, a backlog of 4096, no log unless
// it is the log that is measured, no limit on clients that 10,000 of them would
// meet, no lookup of names. peers.md says it of each.
//
// Threads, signals, fork: values.
#ifndef BROOD_TOOLS_BENCH_CONTENDER_H_
#define BROOD_TOOLS_BENCH_CONTENDER_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace brood {

// Whose it is.
enum class Origin { kBrood, kFloor, kPeer };

// Which process serves a connection. Only those of one design are compared.
enum class Design {
  kFork,       // One of its own, that runs a function.
  kProgram,    // One of its own, that runs a program.
  kPrefork,    // One that was there before and serves others too.
  kIterative,  // The only one there is.
};

// "a process for each connection", ...
std::string_view NameOf(Design design);
std::string_view NameOf(Origin origin);

struct Contender {
  // For --only and for the page.
  std::string name;
  Origin origin;
  Design design;
  // What it takes: a name to be looked for, or for what is built beside the
  // bench its path among the runfiles.
  std::string program;
  // Where Debian has it; empty for what is built beside the bench.
  std::string package = {};
  // Its command line. In it, and in `config`, {program} is where the program
  // was found, {port} the port, {folder} an empty directory of its own,
  // {config} the file there that has `config`, {user} who runs it.
  std::vector<std::string> command;
  std::string config = {};
  // It chooses a port by itself, and says on its standard output which:
  // "listening on 127.0.0.1:40123". Else it is ready when it answers.
  bool says_where = false;
  // With which argument the program says its version, on some line; empty if
  // with none.
  std::string asked_for_version = {};
  // How many clients it serves at once; no limit that matters if not given.
  std::optional<size_t> at_once = std::nullopt;
};

// Every one that is known, in the order of designs, and ours first.
std::vector<Contender> AllContenders();

// What the braces of a command mean.
struct Places {
  std::string program = "{program}";
  std::string port = "{port}";
  std::string folder = "{folder}";
  std::string user = "{user}";
};

std::vector<std::string> CommandOf(const Contender& contender,
                                   const Places& places);
std::string ConfigOf(const Contender& contender, const Places& places);

// Of what a program says of its version the first line that has one, which is
// digits with a point between; empty if none has.
std::string VersionIn(std::string_view said);

}  // namespace brood

#endif  // BROOD_TOOLS_BENCH_CONTENDER_H_
