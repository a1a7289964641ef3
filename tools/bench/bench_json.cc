// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/bench_json.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "brood/server/json_string.h"
#include "brood/tools/bench/bench_findings.h"
#include "brood/tools/bench/bench_report.h"
#include "brood/tools/bench/contender.h"
#include "brood/tools/bench/samples.h"

namespace brood {
namespace {

using Row = BenchReport::Row;
using Measure = BenchReport::Measure;

// A member's name, and its value as JSON.
using Member = std::pair<std::string_view, std::string>;

std::string Object(const std::vector<Member>& members) {
  std::string json = "{";
  for (const auto& [name, value] : members) {
    absl::StrAppend(&json, json.size() > 1 ? "," : "", "\"", name,
                    "\":", value);
  }
  return absl::StrCat(json, "}");
}

// A line for each, so that two reports can be compared line by line.
std::string Lines(const std::vector<std::string>& values) {
  return absl::StrCat("[\n", absl::StrJoin(values, ",\n"), "\n]");
}

std::string String(std::string_view text) {
  std::string json;
  AppendJsonString(text, json);
  return json;
}

std::string Bool(bool value) { return value ? "true" : "false"; }

// The shortest that reads back as the same; JSON has no infinity.
std::string Number(double value) {
  if (!std::isfinite(value)) return "null";
  std::array<char, 32> digits{};
  const std::to_chars_result result =
      std::to_chars(digits.data(), digits.data() + digits.size(), value);
  return {digits.data(), result.ptr};
}

std::string NumberOrNull(const std::optional<double>& value) {
  return value.has_value() ? Number(*value) : "null";
}

std::string_view WordOf(Unit unit) {
  switch (unit) {
    case Unit::kPerSecond:
      return "per_second";
    case Unit::kSeconds:
      return "seconds";
    case Unit::kBytes:
      return "bytes";
    case Unit::kBytesPerSecond:
      return "bytes_per_second";
    case Unit::kCount:
      return "count";
  }
  return "";
}

std::string JsonOfRow(const Row& row) {
  std::vector<std::string> samples;
  for (const std::optional<double>& sample : row.samples) {
    samples.push_back(NumberOrNull(sample));
  }
  std::vector<Member> members = {
      {"server", String(row.server)},
      {"samples", absl::StrCat("[", absl::StrJoin(samples, ","), "]")}};
  const std::optional<Summary> summary = Summarise(row.samples);
  for (const auto& [name, figure] :
       {std::pair("median", &Summary::median),
        std::pair("least", &Summary::least),
        std::pair("greatest", &Summary::greatest)}) {
    members.emplace_back(
        name, summary.has_value() ? Number((*summary).*figure) : "null");
  }
  members.emplace_back("generator_was_busy",
                       absl::StrCat(row.generator_was_busy));
  members.emplace_back("failure", String(row.failure));
  return Object(members);
}

// Each pair once, where both have a figure.
std::vector<std::string> ComparisonsOf(const BenchReport& report,
                                       const Measure& measure) {
  std::vector<std::string> comparisons;
  const RoundNoise noise = NoiseOf(measure);
  for (size_t i = 0; i < measure.rows.size(); ++i) {
    for (size_t j = i + 1; j < measure.rows.size(); ++j) {
      const Row& first = measure.rows[i];
      const Row& second = measure.rows[j];
      if (ServerOf(report, first).design != ServerOf(report, second).design ||
          !Summarise(first.samples).has_value() ||
          !Summarise(second.samples).has_value()) {
        continue;
      }
      const Comparison comparison =
          Compare(first.samples, second.samples, noise);
      comparisons.push_back(
          Object({{"first", String(first.server)},
                  {"second", String(second.server)},
                  {"ratio", Number(comparison.ratio)},
                  {"too_few_rounds", Bool(comparison.too_few_rounds)},
                  {"too_close", Bool(comparison.too_close)}}));
    }
  }
  return comparisons;
}

std::string JsonOfMeasure(const BenchReport& report, const Measure& measure) {
  std::vector<std::string> rows;
  rows.reserve(measure.rows.size());
  for (const Row& row : measure.rows) rows.push_back(JsonOfRow(row));
  return Object(
      {{"id", String(measure.id)},
       {"title", String(measure.title)},
       {"how", String(measure.how)},
       {"unit", String(WordOf(measure.unit))},
       {"better", String(measure.better == Better::kMore ? "more" : "less")},
       {"finding", String(HeadlineOf(FindingsOf(report, measure)))},
       {"rows", Lines(rows)},
       {"comparisons", Lines(ComparisonsOf(report, measure))}});
}

std::string JsonOfLoad(const BenchReport::Machine::Load& load) {
  return Object({{"average", NumberOrNull(load.average)},
                 {"pressure_percent", NumberOrNull(load.pressure)}});
}

std::string JsonOfMachine(const BenchReport::Machine& machine) {
  return Object({{"processor", String(machine.processor)},
                 {"processors", absl::StrCat(machine.processors)},
                 {"memory_bytes", absl::StrCat(machine.memory_bytes)},
                 {"kernel", String(machine.kernel)},
                 {"date", String(machine.date)},
                 {"commit", String(machine.commit)},
                 {"command", String(machine.command)},
                 {"load_before", JsonOfLoad(machine.before)},
                 {"load_after", JsonOfLoad(machine.after)}});
}

}  // namespace

std::string JsonOf(const BenchReport& report) {
  std::vector<std::string> servers;
  servers.reserve(report.servers.size());
  for (const BenchReport::Server& server : report.servers) {
    servers.push_back(Object({{"name", String(server.name)},
                              {"origin", String(NameOf(server.origin))},
                              {"design", String(NameOf(server.design))},
                              {"command", String(server.command)},
                              {"config", String(server.config)},
                              {"version", String(server.version)}}));
  }
  std::vector<std::string> absent;
  absent.reserve(report.absent.size());
  for (const BenchReport::Absent& one : report.absent) {
    absent.push_back(
        Object({{"name", String(one.name)}, {"why", String(one.why)}}));
  }
  std::vector<std::string> left_out;
  left_out.reserve(report.left_out.size());
  for (const std::string& what : report.left_out) {
    left_out.push_back(String(what));
  }
  std::vector<std::string> measures;
  measures.reserve(report.measures.size());
  for (const Measure& measure : report.measures) {
    measures.push_back(JsonOfMeasure(report, measure));
  }
  return absl::StrCat(Object({{"machine", JsonOfMachine(report.machine)},
                              {"rounds", absl::StrCat(report.rounds)},
                              {"seed", String(absl::StrCat(report.seed))},
                              {"quick", Bool(report.quick)},
                              {"servers", Lines(servers)},
                              {"absent", Lines(absent)},
                              {"left_out", Lines(left_out)},
                              {"measures", Lines(measures)}}),
                      "\n");
}

}  // namespace brood
