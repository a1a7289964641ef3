// SPDX-License-Identifier: Apache-2.0
//
// Options turns the server's command line into a checked struct, or into one
// line that says which flag is wrong and what it may be.
//
//   int PrintPort(absl::Span<const std::string_view> args) {
//     absl::StatusOr<ServerOptions> options = ParseOptions(args);
//     if (!options.ok()) {
//       std::cerr << options.status().message() << "\n";
//       return 2;
//     }
//     std::cout << options->listen << "\n";
//     return 0;
//   }
//
// What it is not: a flag registry. There are no globals; what is not in the
// struct does not exist.
//
// A flag is written --name=value or --name value; the last one counts.
//
// Errors: InvalidArgument, one line. Whether the world permits what was asked
// is not known here.
//
// Threads, signals, fork: a pure function and a value.
#ifndef BROOD_SERVER_OPTIONS_H_
#define BROOD_SERVER_OPTIONS_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"

namespace brood {

struct ServerOptions {
  enum class Model { kFork, kIterative };

  // Where clients connect.
  Address listen;
  Model model = Model::kFork;
  // How long those inside may take to finish once the server is asked to stop.
  absl::Duration drain_timeout = absl::Seconds(30);
  // Print Usage() and do nothing else.
  bool help = false;
};

// `args` without the program's name.
absl::StatusOr<ServerOptions> ParseOptions(
    absl::Span<const std::string_view> args);

// What --help prints: every flag and every signal.
std::string Usage();

}  // namespace brood

#endif  // BROOD_SERVER_OPTIONS_H_
