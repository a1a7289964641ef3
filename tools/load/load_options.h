// SPDX-License-Identifier: Apache-2.0
//
// ParseLoadOptions() turns the load generator's command line into a checked
// LoadPlan, or into one line that says which flag is wrong and what it may be.
//
//   int PrintServers(absl::Span<const std::string_view> args) {
//     const absl::StatusOr<LoadOptions> options = ParseLoadOptions(args);
//     if (!options.ok()) {
//       std::cerr << options.status().message() << "\n";
//       return 2;
//     }
//     for (const Address& to : options->plan.to) std::cout << to << "\n";
//     return 0;
//   }
//
// What it is not: a look at the world. Whether the sources are addresses of
// this machine, and whether anything listens, is for the run to find out.
//
// Errors: InvalidArgument, one line; the values in it are quoted and escaped.
//
// Threads, signals, fork: a pure function and a value.
// Rests on: server/flag_table.h.
#ifndef BROOD_TOOLS_LOAD_LOAD_OPTIONS_H_
#define BROOD_TOOLS_LOAD_LOAD_OPTIONS_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "brood/tools/load/load_plan.h"

namespace brood {

struct LoadOptions {
  enum class Output { kText, kJson };

  // CheckPlan() has found nothing wrong with it, unless `help`.
  LoadPlan plan = {};
  size_t processes = 1;
  Output output = Output::kText;
  // Print LoadUsage() and do nothing else.
  bool help = false;
};

// `args` without the program's name.
absl::StatusOr<LoadOptions> ParseLoadOptions(
    absl::Span<const std::string_view> args);

// What --help prints: every flag, what is measured and how, and the exit codes.
std::string LoadUsage();

}  // namespace brood

#endif  // BROOD_TOOLS_LOAD_LOAD_OPTIONS_H_
