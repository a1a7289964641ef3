// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/bench_table.h"

#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "brood/tools/bench/bench_findings.h"
#include "brood/tools/bench/bench_report.h"
#include "brood/tools/bench/bench_words.h"
#include "brood/tools/bench/contender.h"

namespace brood {
namespace {

using Measure = BenchReport::Measure;
using Rank = Findings::Rank;

// One line, in which nothing means anything to Markdown. A '-' or a '.' would
// at the front of a line only, and no text is put there.
std::string Escaped(std::string_view text) {
  std::string escaped;
  for (const char c : absl::StripAsciiWhitespace(text)) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) {
      escaped += ' ';
    } else if (c == '<') {
      escaped += "&lt;";
    } else if (c == '>') {
      escaped += "&gt;";
    } else if (c == '&') {
      escaped += "&amp;";
    } else if (std::string_view("\\`*_[]|~$").find(c) !=
               std::string_view::npos) {
      escaped += '\\';
      escaped += c;
    } else {
      escaped += c;
    }
  }
  return escaped;
}

std::string RowOf(const Findings& findings, const Rank& rank, Unit unit) {
  const std::string name =
      rank.origin == Origin::kBrood
          ? absl::StrCat("**", Escaped(rank.row->server), "**")
          : Escaped(rank.row->server);
  if (!rank.summary.has_value()) {
    return absl::StrCat("| ", name, " | | | | ", Escaped(rank.note), " |\n");
  }
  return absl::StrCat(
      "| ", name, " | ", FigureOf(rank.summary->median, unit), " | ",
      SpreadOf(*rank.summary, unit), " | ",
      rank.row == findings.floor ? "the floor" : Escaped(rank.verdict), " | ",
      Escaped(rank.note), " |\n");
}

std::string TableOf(const BenchReport& report, const Measure& measure) {
  const std::vector<Findings> all = FindingsOf(report, measure);
  std::string text = absl::StrCat(
      "### ", Escaped(measure.title), "\n\n**", Escaped(HeadlineOf(all)),
      ".**\n\n", measure.how.empty() ? "" : "How: ", Escaped(measure.how),
      measure.how.empty() ? "" : " ",
      measure.better == Better::kMore ? "More" : "Less",
      " is better.\n\n"
      "| server | median | least .. greatest | against the floor | note |\n"
      "|---|--:|--:|---|---|\n");
  for (const Findings& findings : all) {
    absl::StrAppend(&text, "| *", NameOf(findings.design), "* | | | | |\n");
    for (const Rank& rank : findings.ranks) {
      absl::StrAppend(&text, RowOf(findings, rank, measure.unit));
    }
  }
  return absl::StrCat(text, "\n");
}

std::string WhereOf(const BenchReport& report) {
  const BenchReport::Machine& machine = report.machine;
  std::vector<std::string> parts;
  for (const std::string& part :
       {machine.processor,
        machine.processors > 0 ? absl::StrCat(machine.processors, " processors")
                               : "",
        machine.memory_bytes > 0
            ? FigureOf(static_cast<double>(machine.memory_bytes), Unit::kBytes)
            : "",
        machine.kernel, machine.date,
        machine.commit.empty() ? "" : absl::StrCat("commit ", machine.commit),
        machine.command,
        WasBusy(machine) ? absl::StrCat("busy with other things before (",
                                        LoadOf(machine.before), ")")
                         : "",
        absl::StrCat(RoundsOf(report.rounds), ", medians",
                     report.quick ? ", quick" : "", ", seed ", report.seed)}) {
    if (!part.empty()) parts.push_back(Escaped(part));
  }
  return absl::StrCat("Measured on: ", absl::StrJoin(parts, "; "), "\n");
}

}  // namespace

std::string MarkdownOf(const BenchReport& report) {
  std::string text;
  for (const Measure& measure : report.measures) {
    absl::StrAppend(&text, TableOf(report, measure));
  }
  if (!report.absent.empty() || !report.left_out.empty()) {
    absl::StrAppend(&text, "Not measured:\n\n");
    for (const std::string& what : report.left_out) {
      absl::StrAppend(&text, "- ", Escaped(what),
                      ": did not fit into the time\n");
    }
    for (const BenchReport::Absent& absent : report.absent) {
      absl::StrAppend(&text, "- ", Escaped(absent.name), ": ",
                      Escaped(absent.why), "\n");
    }
    absl::StrAppend(&text, "\n");
  }
  absl::StrAppend(&text, WhereOf(report));
  if (report.servers.empty()) return text;
  absl::StrAppend(&text,
                  "\nStarted first as follows; each later start had a port and "
                  "a folder of its own. {port}, {folder} and {user} are of one "
                  "that never ran.\n\n");
  for (const BenchReport::Server& server : report.servers) {
    absl::StrAppend(&text, "- ", Escaped(server.name), ": ",
                    Escaped(server.command), server.version.empty() ? "" : " (",
                    Escaped(server.version), server.version.empty() ? "" : ")",
                    server.config.empty() ? "" : "; its configuration: ",
                    Escaped(server.config), "\n");
  }
  return text;
}

}  // namespace brood
