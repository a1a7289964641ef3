// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/bench_options.h"

#include <string>
#include <string_view>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/server/flag_table.h"
#include "brood/server/flag_values.h"
#include "brood/tools/bench/contender.h"
#include "brood/tools/bench/measure_list.h"

namespace brood {
namespace {

constexpr int kRoundsOfQuick = 3;
// The rest of two minutes is for a server that ends slowly, and for the report.
constexpr absl::Duration kTimeOfQuick = absl::Seconds(105);

std::vector<std::string> ContenderNames() {
  std::vector<std::string> names;
  for (const Contender& contender : AllContenders()) {
    names.push_back(contender.name);
  }
  return names;
}

std::vector<std::string> MeasureIds() {
  std::vector<std::string> ids;
  for (const MeasureKind& kind : AllMeasures()) ids.emplace_back(kind.id);
  return ids;
}

// The table adds which flag it is.
absl::Status ReadNames(std::string_view value,
                       const std::vector<std::string>& allowed,
                       std::vector<std::string>& names) {
  for (const std::string_view name : absl::StrSplit(value, ',')) {
    if (!absl::c_linear_search(allowed, name)) {
      return absl::InvalidArgumentError(absl::StrCat(
          QuotedArgument(name), ": allowed is ", absl::StrJoin(allowed, ", ")));
    }
    names.emplace_back(name);
  }
  return absl::OkStatus();
}

FlagTable FlagsInto(BenchOptions& options) {
  return FlagTable(
      {{.name = "quick",
        .what = "look for a shorter time, in three rounds, then hold one crowd "
                "of 1,000 and none of 10,000; what would take it beyond two "
                "minutes is left out, crowds before all else, and named",
        .parse =
            [&options](std::string_view value) {
              return AllowedIf(ReadBool(value, options.quick));
            }},
       {.name = "rounds",
        .value_name = "N",
        .what = "how often each is measured; with fewer than 3 nobody can tell "
                "who is ahead",
        .allowed = "a number from 1 to 1000",
        .by_default = "5, and 3 with --quick",
        .parse =
            [&options](std::string_view value) {
              return AllowedIf(ReadNumber(value, 1, 1000, options.rounds));
            }},
       {.name = "only",
        .value_name = "NAME,...",
        .what = "who is measured",
        .allowed = "names that --list shows",
        .by_default = "all that this machine has",
        .parse =
            [&options](std::string_view value) {
              return ReadNames(value, ContenderNames(), options.only);
            }},
       {.name = "measures",
        .value_name = "ID,...",
        .what = "what is measured",
        .allowed = "ids that --list shows",
        .by_default = "everything",
        .parse =
            [&options](std::string_view value) {
              return ReadNames(value, MeasureIds(), options.measures);
            }},
       {.name = "output_dir",
        .value_name = "FOLDER",
        .what = "where the report is put",
        .allowed = "a path",
        .by_default = "bench-report",
        .parse =
            [&options](std::string_view value) {
              return AllowedIf(ReadText(value, options.output_dir));
            }},
       {.name = "seed",
        .value_name = "N",
        .what = "of the order in which each round takes them",
        .allowed = "a number from 0 to 4294967295",
        .by_default = "1",
        .parse =
            [&options](std::string_view value) {
              return AllowedIf(
                  ReadNumber(value, 0, 4'294'967'295, options.seed));
            }},
       {.name = "list",
        .what = "say who and what there is to choose from",
        .parse =
            [&options](std::string_view value) {
              return AllowedIf(ReadBool(value, options.list));
            }}},
      {.example = "--rounds=3"});
}

}  // namespace

absl::StatusOr<BenchOptions> ParseBenchOptions(
    absl::Span<const std::string_view> args) {
  BenchOptions options;
  const absl::StatusOr<GivenFlags> given = FlagsInto(options).Parse(args);
  if (!given.ok()) return given.status();
  options.help = given->help();
  if (options.quick) options.time_limit = kTimeOfQuick;
  if (options.quick && !given->Value("rounds").has_value()) {
    options.rounds = kRoundsOfQuick;
  }
  return options;
}

std::string BenchUsage() {
  BenchOptions unused;
  return absl::StrCat(
      R"(Measures brood's server, the least it can cost, and its peers, side by side.

usage: bench [flags]

A flag is --name=value or --name value; --[no]name is one that is true or false.
)",
      FlagsInto(unused).Help(), R"(
Five rounds of everybody take about half an hour on two processors, for each is
started, measured and ended by itself; --quick ends within two minutes. Let the
machine do nothing else meanwhile.

exit code: 0 done, also if a contender failed, which its row says; 1 nobody
could be measured or the report not be written; 2 for a mistake in the flags;
130 if it was stopped, and then nothing is written

examples:
  bench --quick
  bench --only=brood-fork,floor-fork --measures=connections --rounds=10
)");
}

}  // namespace brood
