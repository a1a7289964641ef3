// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/zombies/zombies_options.h"

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/server/flag_table.h"
#include "brood/server/flag_values.h"

namespace brood {
namespace {

FlagTable FlagsInto(ZombiesOptions& options) {
  return FlagTable(
      {{.name = "watch",
        .value_name = "INTERVAL",
        .what = "look again and again, until SIGINT or SIGTERM: redraws a "
                "terminal, and elsewhere adds a line each time",
        .allowed = "a duration from 100ms to 1h",
        .by_default = "look once; without INTERVAL every 2s",
        .bare = "2s",
        .parse =
            [&options](std::string_view value) {
              return AllowedIf(ReadDuration(value, absl::Milliseconds(100),
                                            absl::Hours(1), options.watch));
            }},
       {.name = "tree",
        .what = "show the zombies among their ancestors",
        .parse =
            [&options](std::string_view value) {
              return AllowedIf(ReadBool(value, options.tree));
            }},
       {.name = "pid",
        .value_name = "PID",
        .what = "only below this process",
        .allowed = "a number from 1 to 4194304",
        .by_default = "all processes",
        .parse =
            [&options](std::string_view value) {
              return AllowedIf(ReadNumber(value, 1, 4'194'304, options.pid));
            }},
       {.name = "min_age",
        .value_name = "DURATION",
        .what = "how long it must have been a zombie to be counted: who is "
                "about to be reaped is no fault",
        .allowed = "a duration from 0s to 1h",
        .by_default = "200ms",
        .more = "Only if there is one at all is it looked at a second time, "
                "after so long.",
        .parse =
            [&options](std::string_view value) {
              return AllowedIf(ReadDuration(value, absl::ZeroDuration(),
                                            absl::Hours(1), options.min_age));
            }},
       {.name = "output",
        .value_name = "FORMAT",
        .what = "a text for people, or one JSON object a line",
        .allowed = "text or json",
        .by_default = "text",
        .parse =
            [&options](std::string_view value) {
              return AllowedIf(ReadWord(
                  value, {{"text", false}, {"json", true}}, options.json));
            }}},
      {.example = "--pid=1"});
}

}  // namespace

absl::StatusOr<ZombiesOptions> ParseZombiesOptions(
    absl::Span<const std::string_view> args) {
  ZombiesOptions options;
  const absl::StatusOr<GivenFlags> given = FlagsInto(options).Parse(args);
  if (!given.ok()) return given.status();
  options.help = given->help();
  if (options.json && !options.help) {
    if (absl::Status s = given->Refuse(
            {"tree"},
            "and --output=json do not go together: in JSON each parent has its "
            "own parent_pid");
        !s.ok()) {
      return s;
    }
  }
  return options;
}

std::string ZombiesUsage() {
  ZombiesOptions unused;
  return absl::StrCat(
      R"(Who has zombies, why, and what would cure it. Changes nothing.

usage: zombies [flags]

A flag is --name=value or --name value; --[no]name is one that is true or false.
A duration is as in 300ms, 30s, 1m30s or 24h.
)",
      FlagsInto(unused).Help(), R"(
Since when a zombie has been one the kernel does not keep, only when it started:
"at least 5s" is how long it has been seen to be one.

exit code: 0 no zombie, 1 some (of the last look, with --watch), 2 for a mistake
in the flags, 3 if it was not possible to look (there is no such process, or
/proc may not be read)

examples:
  zombies --pid=1
  zombies --watch=5s --tree
  zombies --min_age=10s --output=json
)");
}

}  // namespace brood
