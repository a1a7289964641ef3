// SPDX-License-Identifier: Apache-2.0
//
// ZombiesOptions is the command line of //tools:zombies, checked.
//
//   int Interval(absl::Span<const std::string_view> args) {
//     const absl::StatusOr<ZombiesOptions> options = ParseZombiesOptions(args);
//     if (!options.ok() || !options->watch.has_value()) return 0;
//     return static_cast<int>(absl::ToInt64Seconds(*options->watch));
//   }
//
// What it is not: a look at the world; whether there is such a process is for
// whoever looks.
//
// Errors: InvalidArgument, one line; see server/flag_table.h.
//
// Threads, signals, fork: a pure function and a value.
#ifndef BROOD_TOOLS_ZOMBIES_ZOMBIES_OPTIONS_H_
#define BROOD_TOOLS_ZOMBIES_ZOMBIES_OPTIONS_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace brood {

struct ZombiesOptions {
  // Look again after so long, until a signal asks to end.
  std::optional<absl::Duration> watch = std::nullopt;
  bool tree = false;
  bool json = false;
  // Only below this process.
  std::optional<pid_t> pid = std::nullopt;
  // What has not been a zombie for so long is not counted.
  absl::Duration min_age = absl::Milliseconds(200);
  bool help = false;
};

// `args` without the program's name.
absl::StatusOr<ZombiesOptions> ParseZombiesOptions(
    absl::Span<const std::string_view> args);

// What --help prints.
std::string ZombiesUsage();

}  // namespace brood

#endif  // BROOD_TOOLS_ZOMBIES_ZOMBIES_OPTIONS_H_
