// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/bench_page.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "brood/tools/bench/bench_findings.h"
#include "brood/tools/bench/bench_report.h"
#include "brood/tools/bench/bench_words.h"
#include "brood/tools/bench/contender.h"
#include "brood/tools/bench/samples.h"

namespace brood {
namespace {

using Measure = BenchReport::Measure;
using Rank = Findings::Rank;

// The policy lets a browser load nothing, whatever else the page says.
constexpr std::string_view kHead = R"(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>brood and its peers, measured</title>
<style>
:root {
  --paper: #fdfdfc; --ink: #1d2125; --soft: #5c646c; --line: #dfe2e4;
  --panel: #f3f4f4; --brood: #0f7b72; --floor: #d3b67c; --peer: #b3b9bf;
  --spread: #1d2125;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15181b; --ink: #e4e7e9; --soft: #9aa3ab; --line: #30363b;
    --panel: #1e2327; --brood: #35b5a6; --floor: #8c7340; --peer: #596169;
    --spread: #e4e7e9;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 62rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: break-word;
}
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: .1rem 0 .4rem; text-wrap: balance; }
h3 { font-size: .95rem; margin: 1.4rem 0 .4rem; }
h3 span { font-weight: normal; color: var(--soft); }
p { margin: .4rem 0; max-width: 44rem; text-wrap: pretty; }
a { color: inherit; text-decoration-color: var(--brood); text-underline-offset: .2em; }
.soft, figcaption { color: var(--soft); font-size: .9rem; }
.soft p { margin: .2rem 0; }
.over { color: var(--soft); font-size: .85rem; margin: 0; }
.contents { padding: 0; margin: 1.2rem 0; list-style: none; }
.contents li { padding: .45rem 0; border-top: 1px solid var(--line); }
.contents b { display: block; font-weight: 600; }
section { margin-top: 3rem; padding-top: 1.2rem; border-top: 1px solid var(--line); }
.key { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; font-size: .85rem; color: var(--soft); margin: 1rem 0; padding: 0; list-style: none; }
.key i { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; margin-right: .4rem; vertical-align: -.08rem; }
.key i.thin { width: 1.4rem; height: 2px; background: var(--spread); vertical-align: .25rem; }
.key i.dash { width: 0; height: 1rem; border-left: 1px dashed var(--soft); border-radius: 0; vertical-align: -.2rem; }
.bars { list-style: none; margin: 0; padding: 0; }
.bars li { display: grid; grid-template-columns: 12rem 1fr; column-gap: .8rem; align-items: center; }
.name { text-align: right; font-size: .9rem; min-width: 0; }
.of-brood .name { font-weight: 600; }
.plot { position: relative; height: 1.75rem; border-left: 1px solid var(--soft); }
.scaled { position: absolute; top: 0; bottom: 0; left: 0; right: 6.2rem; }
.scaled > * { position: absolute; }
svg { width: 100%; height: 100%; overflow: visible; }
.spread { stroke: var(--spread); stroke-width: 2px; stroke-linecap: square; opacity: .75; }
.figure { top: 50%; transform: translateY(-50%); margin-left: .35rem; padding: 0 .15rem; line-height: 1.2; background: var(--paper); white-space: nowrap; font-size: .9rem; font-variant-numeric: tabular-nums; }
.dotted .figure { margin-left: .6rem; }
.of-brood .figure { font-weight: 600; }
.floor-line { stroke: var(--soft); stroke-dasharray: 3 3; opacity: .8; }
line.tick { stroke: var(--line); }
.axis .plot { height: 1.3rem; border: 0; }
.axis .tick { transform: translateX(-50%); font-size: .75rem; color: var(--soft); white-space: nowrap; }
.of-brood { --own: var(--brood); }
.of-floor { --own: var(--floor); }
.of-peer { --own: var(--peer); }
.bar, .dot { fill: var(--own); }
.key i[class^="of-"] { background: var(--own); }
.note { grid-column: 2; color: var(--soft); font-size: .82rem; line-height: 1.35; margin-bottom: .3rem; min-width: 0; }
.failed .name { color: var(--soft); }
.failed .note { margin: .25rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
td:nth-child(3), th:nth-child(3) { padding-right: 1.6rem; }
td:nth-child(2), td:nth-child(3), th.number { text-align: right; white-space: nowrap; }
tbody th { padding-top: 1.4rem; }
tbody .of-brood td:first-child { font-weight: 600; }
td.why { white-space: normal !important; text-align: left !important; color: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; margin: .6rem 0; font-size: .9rem; }
dt { color: var(--soft); }
dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
details { border-bottom: 1px solid var(--line); padding: .4rem 0; font-size: .9rem; }
summary { cursor: pointer; }
summary span { color: var(--soft); }
pre { background: var(--panel); padding: .7rem .9rem; margin: .5rem 0; border-radius: 4px; overflow-x: auto; font: .8rem/1.45 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
pre.command { white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  body { padding: 1.2rem 1rem 3rem; }
  h1 { font-size: 1.45rem; }
  h2 { font-size: 1.15rem; }
  .bars li { grid-template-columns: minmax(0, 1fr); margin-top: .35rem; }
  .name { text-align: left; line-height: 1.2; }
  .plot { height: 1.4rem; }
  .note { grid-column: 1; }
  table { font-size: .78rem; }
  th, td { padding-right: .6rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .4rem; }
}
@media print { section, details, .bars li { break-inside: avoid; } }
</style>
</head>
<body>
)";

// Between tags, and within an attribute in either quotes.
std::string Escaped(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '&') {
      escaped += "&amp;";
    } else if (c == '<') {
      escaped += "&lt;";
    } else if (c == '>') {
      escaped += "&gt;";
    } else if (c == '"') {
      escaped += "&quot;";
    } else if (c == '\'') {
      escaped += "&#39;";
    } else if ((c >= 0 && c < ' ' && c != '\n' && c != '\t') || c == 0x7f) {
      escaped += "\xef\xbf\xbd";  // HTML has no way to write these.
    } else {
      escaped += c;
    }
  }
  return escaped;
}

std::string Percent(double part) {
  return absl::StrFormat("%.2f%%", 100 * std::clamp(part, 0.0, 1.0));
}

std::string_view ClassOf(Origin origin) {
  switch (origin) {
    case Origin::kBrood:
      return "of-brood";
    case Origin::kFloor:
      return "of-floor";
    case Origin::kPeer:
      return "of-peer";
  }
  return "of-peer";
}

// Where a figure is between the left, 0, and the right, 1; the same for all
// designs of a measure.
class Scale {
 public:
  Scale(const std::vector<Findings>& all, Unit unit) : unit_(unit) {
    double least_median = HUGE_VAL;
    double greatest_median = 0;
    double least = HUGE_VAL;
    for (const Findings& findings : all) {
      for (const Rank& rank : findings.ranks) {
        if (!rank.summary.has_value()) continue;
        greatest_ = std::max(greatest_, rank.summary->greatest);
        greatest_median = std::max(greatest_median, rank.summary->median);
        // Zero has no place on a logarithmic scale.
        if (rank.summary->median > 0) {
          least_median = std::min(least_median, rank.summary->median);
        }
        if (rank.summary->least > 0) {
          least = std::min(least, rank.summary->least);
        }
      }
    }
    logarithmic_ = greatest_median > kWide * least_median;
    if (logarithmic_) least_ = std::min(least, least_median) / kRoom;
  }

  bool logarithmic() const { return logarithmic_; }

  double At(double value) const {
    if (!logarithmic_) return greatest_ > 0 ? value / greatest_ : 0;
    if (value <= least_) return 0;
    return std::log(value / least_) / std::log(greatest_ / least_);
  }

  // Round figures to draw lines at; a few.
  std::vector<double> Ticks() const {
    const double step = unit_ == Unit::kBytes ? 16 : 10;
    const double log_step = std::log(step);
    const auto first = static_cast<int>(std::ceil(std::log(least_) / log_step));
    const auto last =
        static_cast<int>(std::floor(std::log(greatest_) / log_step));
    std::vector<double> ticks;
    for (int power = first; power <= last; ++power) {
      ticks.push_back(std::pow(step, power));
    }
    while (ticks.size() > kMostTicks) {
      std::vector<double> every_second;
      for (size_t i = 0; i < ticks.size(); i += 2) {
        every_second.push_back(ticks[i]);
      }
      ticks = std::move(every_second);
    }
    return ticks;
  }

 private:
  static constexpr double kWide = 150;
  static constexpr double kRoom = 1.5;
  // So many have room side by side on a narrow screen.
  static constexpr size_t kMostTicks = 4;

  Unit unit_;
  bool logarithmic_ = false;
  double least_ = 0;
  double greatest_ = 0;
};

// A line from the top of a plot to its foot.
std::string Upright(std::string_view what, const std::string& where) {
  return absl::StrCat("<line class=\"", what, "\" x1=\"", where, "\" x2=\"",
                      where, "\" y1=\"0\" y2=\"100%\"/>");
}

// What the lines are, below them; "10 ms" and not "10.0 ms".
std::string AxisOf(const Scale& scale, Unit unit) {
  std::string html =
      "<li class=\"axis\"><span class=\"name\"></span><span class=\"plot\">"
      "<span class=\"scaled\">";
  for (const double tick : scale.Ticks()) {
    const std::string label = absl::StrReplaceAll(
        FigureOf(tick, unit),
        {{".00 ", " "}, {".0 ", " "}, {".00/", "/"}, {".0/", "/"}});
    absl::StrAppend(&html, "<span class=\"tick\" style=\"left:",
                    Percent(scale.At(tick)), "\">", label, "</span>");
  }
  return absl::StrCat(html, "</span></span></li>\n");
}

// Across every row of a design, where its floor is; nothing without one.
std::string FloorLineOf(const Findings& findings, const Scale& scale) {
  if (findings.floor == nullptr) return "";
  const std::optional<Summary> floor = Summarise(findings.floor->samples);
  if (!floor.has_value()) return "";
  return Upright("floor-line", Percent(scale.At(floor->median)));
}

std::string RowOf(const Rank& rank, std::string_view floor_line,
                  const Scale& scale, Unit unit) {
  std::string html = absl::StrCat("<li class=\"", ClassOf(rank.origin),
                                  rank.summary.has_value() ? "" : " failed",
                                  "\"><span class=\"name\">",
                                  Escaped(rank.row->server), "</span>");
  if (rank.summary.has_value()) {
    const Summary& summary = *rank.summary;
    const double median = scale.At(summary.median);
    const double least = scale.At(summary.least);
    const double greatest = scale.At(summary.greatest);
    absl::StrAppend(&html, "<span class=\"plot\"><span class=\"scaled",
                    scale.logarithmic() ? " dotted" : "",
                    "\"><svg aria-hidden=\"true\">");
    if (scale.logarithmic()) {
      for (const double tick : scale.Ticks()) {
        absl::StrAppend(&html, Upright("tick", Percent(scale.At(tick))));
      }
    } else {
      absl::StrAppend(&html, "<rect class=\"bar\" y=\"17%\" height=\"66%\" ",
                      "width=\"", Percent(median), "\"/>");
    }
    absl::StrAppend(&html, floor_line, "<line class=\"spread\" x1=\"",
                    Percent(least), "\" x2=\"", Percent(greatest),
                    "\" y1=\"50%\" y2=\"50%\"/>");
    if (scale.logarithmic()) {
      absl::StrAppend(&html, "<circle class=\"dot\" cx=\"", Percent(median),
                      "\" cy=\"50%\" r=\"6\"/>");
    }
    absl::StrAppend(&html, "</svg>");
    absl::StrAppend(&html, "<span class=\"figure\" style=\"left:",
                    Percent(std::max(median, greatest)), "\">",
                    FigureOf(summary.median, unit), "</span></span></span>");
  }
  if (!rank.note.empty()) {
    absl::StrAppend(&html, "<span class=\"note\">", Escaped(rank.note),
                    "</span>");
  }
  return absl::StrCat(html, "</li>\n");
}

std::string DesignOf(const Findings& findings, std::string_view headline,
                     const Scale& scale, Unit unit) {
  std::string html =
      absl::StrCat("<h3>", Escaped(NameOf(findings.design)), "</h3>\n");
  if (findings.sentence != headline) {
    absl::StrAppend(&html, "<p class=\"soft\">", Escaped(findings.sentence),
                    "</p>\n");
  }
  const std::string floor_line = FloorLineOf(findings, scale);
  absl::StrAppend(&html, "<ol class=\"bars\">\n");
  for (const Rank& rank : findings.ranks) {
    absl::StrAppend(&html, RowOf(rank, floor_line, scale, unit));
  }
  if (scale.logarithmic()) absl::StrAppend(&html, AxisOf(scale, unit));
  return absl::StrCat(html, "</ol>\n");
}

std::string SectionOf(const Measure& measure,
                      const std::vector<Findings>& all) {
  const std::string headline = HeadlineOf(all);
  const Scale scale(all, measure.unit);
  std::string html = absl::StrCat(
      "<section id=\"", Escaped(measure.id), "\">\n<p class=\"over\">",
      Escaped(measure.title), ", ",
      measure.better == Better::kMore ? "more" : "less", " is better</p>\n<h2>",
      Escaped(headline), "</h2>\n<p>", Escaped(measure.how), "</p>\n");
  if (scale.logarithmic()) {
    absl::StrAppend(&html,
                    "<p class=\"soft\">The scale is logarithmic: each line is ",
                    measure.unit == Unit::kBytes ? "sixteen" : "ten",
                    " times the one to its left, or a power of it. It has no "
                    "zero; what is zero is at the edge.</p>\n");
  }
  for (const Findings& findings : all) {
    absl::StrAppend(&html, DesignOf(findings, headline, scale, measure.unit));
  }
  return absl::StrCat(html, "</section>\n");
}

std::string TableOf(const BenchReport& report,
                    const std::vector<std::vector<Findings>>& findings) {
  std::string html =
      "<section id=\"figures\">\n<h2>All figures</h2>\n<div class=\"wide\">\n"
      "<table>\n<thead><tr><th>server</th><th class=\"number\">median</th>"
      "<th class=\"number\">least .. greatest</th><th>against the floor</th>"
      "</tr></thead>\n";
  for (size_t i = 0; i < report.measures.size(); ++i) {
    const Measure& measure = report.measures[i];
    absl::StrAppend(&html, "<tbody>\n<tr><th colspan=\"4\">",
                    Escaped(measure.title), "</th></tr>\n");
    for (const Findings& of_design : findings[i]) {
      for (const Rank& rank : of_design.ranks) {
        absl::StrAppend(&html, "<tr class=\"", ClassOf(rank.origin), "\"><td>",
                        Escaped(rank.row->server), "</td>");
        if (!rank.summary.has_value()) {
          absl::StrAppend(&html, "<td class=\"why\" colspan=\"3\">",
                          Escaped(rank.note), "</td></tr>\n");
          continue;
        }
        absl::StrAppend(
            &html, "<td>", FigureOf(rank.summary->median, measure.unit),
            "</td><td>", SpreadOf(*rank.summary, measure.unit), "</td><td>",
            rank.row == of_design.floor ? "the floor" : Escaped(rank.verdict),
            rank.note.empty() ? "" : " *", "</td></tr>\n");
      }
    }
    absl::StrAppend(&html, "</tbody>\n");
  }
  return absl::StrCat(html,
                      "</table>\n</div>\n<p class=\"soft\">* has a note at its "
                      "bar.</p>\n</section>\n");
}

std::string AbsentOf(const BenchReport& report) {
  if (report.absent.empty() && report.left_out.empty()) return "";
  std::string html = "<section id=\"absent\">\n<h2>Not measured</h2>\n<dl>\n";
  for (const std::string& what : report.left_out) {
    absl::StrAppend(&html, "<dt>", Escaped(what),
                    "</dt><dd>did not fit into the time</dd>\n");
  }
  for (const BenchReport::Absent& absent : report.absent) {
    absl::StrAppend(&html, "<dt>", Escaped(absent.name), "</dt><dd>",
                    Escaped(absent.why), "</dd>\n");
  }
  return absl::StrCat(html, "</dl>\n</section>\n");
}

std::string HowOf(const BenchReport& report) {
  const BenchReport::Machine& machine = report.machine;
  std::string html = "<section id=\"how\">\n<h2>Where and how</h2>\n<dl>\n";
  const auto append = [&](std::string_view name, std::string_view value) {
    if (value.empty()) return;
    absl::StrAppend(&html, "<dt>", name, "</dt><dd>", Escaped(value),
                    "</dd>\n");
  };
  append("processor", machine.processor);
  if (machine.processors > 0) {
    append("processors", absl::StrCat(machine.processors));
  }
  if (machine.memory_bytes > 0) {
    append("memory",
           FigureOf(static_cast<double>(machine.memory_bytes), Unit::kBytes));
  }
  append("kernel", machine.kernel);
  append("load before", LoadOf(machine.before));
  append("load after, much of it its own", LoadOf(machine.after));
  append("date", machine.date);
  append("commit", machine.commit);
  append("command", machine.command);
  append("rounds", absl::StrCat(report.rounds, report.quick ? ", quick" : ""));
  append("seed", absl::StrCat(report.seed));
  return absl::StrCat(html, "</dl>\n</section>\n");
}

std::string ServersOf(const BenchReport& report) {
  std::string html =
      "<section id=\"servers\">\n<h2>How each server was started</h2>\n"
      "<p class=\"soft\">As it was when it first ran; each later start had a "
      "port and a folder of its own. {port}, {folder} and {user} are of one "
      "that never ran.</p>\n";
  for (const BenchReport::Server& server : report.servers) {
    absl::StrAppend(&html, "<details>\n<summary>", Escaped(server.name),
                    " <span>", Escaped(NameOf(server.design)),
                    "</span></summary>\n<pre class=\"command\">",
                    Escaped(server.command), "</pre>\n");
    if (!server.version.empty()) {
      absl::StrAppend(&html, "<p class=\"soft\">", Escaped(server.version),
                      "</p>\n");
    }
    if (!server.config.empty()) {
      absl::StrAppend(&html,
                      "<p class=\"soft\">and its configuration:</p>\n"
                      "<pre>",
                      Escaped(server.config), "</pre>\n");
    }
    absl::StrAppend(&html, "</details>\n");
  }
  return absl::StrCat(html, "</section>\n");
}

}  // namespace

std::string PageOf(const BenchReport& report) {
  std::vector<std::vector<Findings>> findings;
  findings.reserve(report.measures.size());
  for (const Measure& measure : report.measures) {
    findings.push_back(FindingsOf(report, measure));
  }
  std::string html(kHead);
  absl::StrAppend(
      &html, "<header>\n<h1>brood and its peers, measured</h1>\n",
      "<p>Each figure is the median of ", RoundsOf(report.rounds),
      "; in each round all servers were measured, in a new order. Only servers "
      "of one design are compared. Two are told apart if no round of one is "
      "among those of the other, their medians are 3&#160;% apart, and they "
      "differ with 99&#160;% confidence, given how much the rounds of all "
      "servers of that measure do; else it is too close to call. Fewer than "
      "three rounds are too few.</p>\n");
  if (report.quick) {
    absl::StrAppend(&html, "<p>This was a quick run: an indication.</p>\n");
  }
  if (WasBusy(report.machine)) {
    absl::StrAppend(&html,
                    "<p>The machine was busy with other things before this "
                    "began (",
                    Escaped(LoadOf(report.machine.before)),
                    "): the figures are theirs, too.</p>\n");
  }
  absl::StrAppend(&html, "<p class=\"soft\">", Escaped(report.machine.date),
                  report.machine.date.empty() ? "" : " &#183; ",
                  "<a href=\"#how\">where and how</a> &#183; "
                  "<a href=\"#figures\">all figures</a> &#183; "
                  "<a href=\"#servers\">servers</a>");
  if (!report.absent.empty() || !report.left_out.empty()) {
    absl::StrAppend(&html, " &#183; <a href=\"#absent\">not measured</a>");
  }
  absl::StrAppend(&html, "</p>\n</header>\n<ul class=\"contents\">\n");
  for (size_t i = 0; i < report.measures.size(); ++i) {
    absl::StrAppend(&html, "<li><b><a href=\"#", Escaped(report.measures[i].id),
                    "\">", Escaped(report.measures[i].title), "</a></b>",
                    Escaped(HeadlineOf(findings[i])), "</li>\n");
  }
  absl::StrAppend(
      &html,
      "</ul>\n<ul class=\"key\"><li><i class=\"of-brood\"></i>brood</li>"
      "<li><i class=\"of-floor\"></i>floor: the least that it can cost</li>"
      "<li><i class=\"of-peer\"></i>peers</li>"
      "<li><i class=\"thin\"></i>least to greatest of the rounds</li>"
      "<li><i class=\"dash\"></i>where the floor is</li></ul>\n");
  for (size_t i = 0; i < report.measures.size(); ++i) {
    absl::StrAppend(&html, SectionOf(report.measures[i], findings[i]));
  }
  absl::StrAppend(&html, TableOf(report, findings), AbsentOf(report),
                  HowOf(report), ServersOf(report), "</body>\n</html>\n");
  return html;
}

}  // namespace brood
