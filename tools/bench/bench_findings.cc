// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/bench_findings.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "brood/tools/bench/bench_report.h"
#include "brood/tools/bench/bench_words.h"
#include "brood/tools/bench/contender.h"
#include "brood/tools/bench/samples.h"

namespace brood {
namespace {

using Row = BenchReport::Row;
using Measure = BenchReport::Measure;
using Rank = Findings::Rank;

// "serves 0.86 of what floor-fork does".
struct Verbs {
  std::string_view first;
  std::string_view again;
};

Verbs VerbsOf(Unit unit) {
  switch (unit) {
    case Unit::kPerSecond:
      return {"serves", "does"};
    case Unit::kSeconds:
      return {"takes", "does"};
    case Unit::kBytes:
      return {"needs", "does"};
    case Unit::kBytesPerSecond:
      return {"carries", "does"};
    case Unit::kCount:
      return {"has", "has"};
  }
  return {"has", "has"};
}

// In most of the rounds that have a figure.
bool GeneratorWasBusy(const Row& row) {
  const std::optional<Summary> summary = Summarise(row.samples);
  return summary.has_value() &&
         2 * row.generator_was_busy > static_cast<int>(summary->rounds);
}

std::string NoteOf(const BenchReport& report, const Row& row) {
  const std::optional<Summary> summary = Summarise(row.samples);
  if (!summary.has_value()) {
    if (absl::StartsWith(row.failure, "not measured: ")) return row.failure;
    return absl::StrCat("no figure: ",
                        row.failure.empty() ? "not measured" : row.failure);
  }
  std::vector<std::string> notes;
  if (static_cast<int>(summary->rounds) < report.rounds) {
    notes.push_back(
        absl::StrCat("of ", summary->rounds, " of ", RoundsOf(report.rounds)));
  }
  if (!row.failure.empty()) {
    notes.push_back(absl::StrCat("in another: ", row.failure));
  }
  if (GeneratorWasBusy(row)) {
    notes.push_back(absl::StrCat("the load generator was busy in ",
                                 row.generator_was_busy, " of ",
                                 RoundsOf(static_cast<int>(summary->rounds)),
                                 ", so the figure may be its own"));
  }
  return absl::StrJoin(notes, "; ");
}

// Who is beside whom in the order by chance. Of the floor the verdict tells.
void NoteTies(const RoundNoise& noise, Findings& findings) {
  for (size_t i = 1; i < findings.ranks.size(); ++i) {
    const Rank& before = findings.ranks[i - 1];
    Rank& rank = findings.ranks[i];
    if (!rank.summary.has_value() || before.row == findings.floor ||
        rank.row == findings.floor) {
      continue;
    }
    const Comparison comparison =
        Compare(rank.row->samples, before.row->samples, noise);
    // Of too few rounds the number is noted.
    if (!comparison.too_close || comparison.too_few_rounds) continue;
    absl::StrAppend(&rank.note, rank.note.empty() ? "" : "; ",
                    "too close to call with ", before.row->server);
  }
}

bool IsBetter(const Rank& first, const Rank& second, Better better) {
  if (!first.summary.has_value() || !second.summary.has_value()) {
    return first.summary.has_value() && !second.summary.has_value();
  }
  return better == Better::kMore
             ? first.summary->median > second.summary->median
             : first.summary->median < second.summary->median;
}

// Of brood's the plainest, which is the first in the report's order; not the
// best of several tries.
const Row* PlainestOfBrood(const BenchReport& report, const Measure& measure,
                           Design design) {
  for (const Row& row : measure.rows) {
    const BenchReport::Server server = ServerOf(report, row);
    if (server.design == design && server.origin == Origin::kBrood &&
        Summarise(row.samples).has_value()) {
      return &row;
    }
  }
  return nullptr;
}

std::string SentenceOf(const BenchReport& report, const Measure& measure,
                       const Findings& findings) {
  const Rank& best = findings.ranks.front();
  if (!best.summary.has_value()) return "no figures";
  const Row* const brood = PlainestOfBrood(report, measure, findings.design);
  if (brood == nullptr) {
    return absl::StrCat("the best is ", best.row->server, " with ",
                        FigureOf(best.summary->median, measure.unit));
  }

  struct Other {
    const Row* row;
    std::string after;  // ", the best of 5 peers"
  };
  std::vector<Other> others;
  if (findings.floor != nullptr &&
      Summarise(findings.floor->samples).has_value()) {
    others.push_back({.row = findings.floor, .after = ""});
  }
  const Row* peer = nullptr;
  int peers = 0;
  for (const Rank& rank : findings.ranks) {
    if (rank.origin != Origin::kPeer || !rank.summary.has_value()) continue;
    if (peer == nullptr) peer = rank.row;
    ++peers;
  }
  if (peer != nullptr) {
    others.push_back(
        {.row = peer,
         .after =
             peers > 1 ? absl::StrCat(", the best of ", peers, " peers") : ""});
  }
  const Verbs verbs = VerbsOf(measure.unit);
  if (others.empty()) {
    const std::optional<Summary> own = Summarise(brood->samples);
    return absl::StrCat(brood->server, ": ",
                        FigureOf(own->median, measure.unit),
                        ", and nobody to compare it with");
  }

  std::vector<std::string> told;
  std::vector<std::string> alike;
  std::vector<std::string> close;
  std::vector<std::string> too_few;
  const RoundNoise noise = NoiseOf(measure);
  for (const Other& other : others) {
    const std::string name = absl::StrCat(other.row->server, other.after);
    if (IsNone(brood->samples) && IsNone(other.row->samples)) {
      alike.push_back(name);
      continue;
    }
    const Comparison comparison =
        Compare(brood->samples, other.row->samples, noise);
    if (comparison.too_few_rounds) {
      too_few.push_back(name);
    } else if (comparison.too_close) {
      close.push_back(name);
    } else if (comparison.ratio <= 0) {
      told.push_back(
          absl::StrCat("none where ", other.row->server, " has some"));
    } else if (std::isinf(comparison.ratio)) {
      told.push_back(
          absl::StrCat("some where ", other.row->server, " has none"));
    } else {
      told.push_back(absl::StrCat(RatioOf(comparison.ratio), " what ",
                                  other.row->server, " ", verbs.again,
                                  other.after));
    }
  }
  std::vector<std::string> parts;
  if (!told.empty()) {
    parts.push_back(
        absl::StrCat(verbs.first, " ", absl::StrJoin(told, " and ")));
  }
  if (!alike.empty()) {
    parts.push_back(
        absl::StrCat("has none, like ", absl::StrJoin(alike, " and ")));
  }
  if (!close.empty()) {
    parts.push_back(absl::StrCat("against ", absl::StrJoin(close, " and "),
                                 parts.empty() ? ": " : " it is ",
                                 "too close to call"));
  }
  if (!too_few.empty()) {
    parts.push_back(absl::StrCat("against ", absl::StrJoin(too_few, " and "),
                                 parts.empty() ? ": " : " there are ",
                                 "too few rounds"));
  }
  std::string sentence =
      absl::StrCat(brood->server, " ", absl::StrJoin(parts, "; "));
  const bool limited =
      GeneratorWasBusy(*brood) ||
      std::any_of(others.begin(), others.end(), [&](const Other& other) {
        return GeneratorWasBusy(*other.row);
      });
  if (limited) {
    sentence += " (but the load generator may have been the limit)";
  }
  return sentence;
}

}  // namespace

BenchReport::Server ServerOf(const BenchReport& report, const Row& row) {
  for (const BenchReport::Server& server : report.servers) {
    if (server.name == row.server) return server;
  }
  return {.name = row.server};
}

RoundNoise NoiseOf(const Measure& measure) {
  std::vector<Samples> contenders;
  contenders.reserve(measure.rows.size());
  for (const Row& row : measure.rows) contenders.push_back(row.samples);
  return NoiseOf(contenders);
}

std::vector<Findings> FindingsOf(const BenchReport& report,
                                 const Measure& measure) {
  std::vector<Findings> all;
  const RoundNoise noise = NoiseOf(measure);
  for (const Design design : {Design::kFork, Design::kProgram, Design::kPrefork,
                              Design::kIterative}) {
    Findings findings = {.design = design};
    for (const Row& row : measure.rows) {
      const BenchReport::Server server = ServerOf(report, row);
      if (server.design != design) continue;
      Rank rank = {.row = &row,
                   .origin = server.origin,
                   .summary = Summarise(row.samples)};
      rank.note = NoteOf(report, row);
      findings.ranks.push_back(std::move(rank));
      if (server.origin == Origin::kFloor && findings.floor == nullptr) {
        findings.floor = &row;
      }
    }
    if (findings.ranks.empty()) continue;
    std::stable_sort(findings.ranks.begin(), findings.ranks.end(),
                     [&](const Rank& first, const Rank& second) {
                       return IsBetter(first, second, measure.better);
                     });
    for (Rank& rank : findings.ranks) {
      const Row* const floor = findings.floor;
      if (floor == nullptr || rank.row == floor || !rank.summary.has_value() ||
          !Summarise(floor->samples).has_value()) {
        continue;
      }
      rank.verdict =
          VerdictOf(rank.row->samples, floor->samples, floor->server, noise);
    }
    NoteTies(noise, findings);
    findings.sentence = SentenceOf(report, measure, findings);
    all.push_back(std::move(findings));
  }
  return all;
}

std::string HeadlineOf(const std::vector<Findings>& findings) {
  if (findings.empty()) return "no figures";
  for (const Findings& of_design : findings) {
    for (const Rank& rank : of_design.ranks) {
      if (rank.origin == Origin::kBrood && rank.summary.has_value()) {
        return of_design.sentence;
      }
    }
  }
  return findings.front().sentence;
}

}  // namespace brood
