// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/bench_page.h"

#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "brood/tools/bench/bench_findings.h"
#include "brood/tools/bench/bench_report.h"
#include "brood/tools/bench/made_up_report.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

std::string Page(const BenchReport& report, const std::string& path) {
  const std::string page = PageOf(report);
  std::ofstream(path) << page;
  return page;
}

size_t CountOf(std::string_view what, std::string_view text) {
  size_t count = 0;
  for (size_t at = text.find(what); at != std::string_view::npos;
       at = text.find(what, at + 1)) {
    ++count;
  }
  return count;
}

// The first thing that is wrong with the tags of a page, or nothing.
std::string WrongTag(std::string_view page) {
  const std::set<std::string_view> alone = {"!DOCTYPE", "meta", "link"};
  std::vector<std::string_view> open;
  while (true) {
    const size_t begin = page.find('<');
    if (page.substr(0, begin).find('>') != std::string_view::npos &&
        (open.empty() || open.back() != "style")) {
      return "a > that ends no tag";
    }
    if (begin == std::string_view::npos) break;
    page.remove_prefix(begin + 1);
    const size_t end = page.find('>');
    if (end == std::string_view::npos) return "a tag without end";
    const std::string_view tag = page.substr(0, end);
    page.remove_prefix(end + 1);
    if (CountOf("\"", tag) % 2 != 0) return std::string(tag);
    const std::string_view name = tag.substr(0, tag.find(' '));
    if (alone.count(name) > 0 || tag.back() == '/') continue;
    if (name.empty() || name.front() != '/') {
      open.push_back(name);
    } else if (open.empty() || open.back() != name.substr(1)) {
      return absl::StrCat(tag, " closes what is not open");
    } else {
      open.pop_back();
    }
  }
  return open.empty() ? "" : absl::StrCat(open.back(), " is never closed");
}

TEST(BenchPageTest, HeaderExampleIsAPageToLookAt) {
  const char* const folder = std::getenv("TEST_UNDECLARED_OUTPUTS_DIR");
  const std::string path = absl::StrCat(
      folder != nullptr ? folder : testing::TempDir(), "/page.html");
  EXPECT_TRUE(absl::StartsWith(Page(MadeUpReport(), path), "<!DOCTYPE html>"));
}

TEST(BenchPageTest, AReportOfAlmostNothingIsAPageToo) {
  BenchReport report = {.machine = {.kernel = "Linux 6.18"}, .rounds = 5};
  report.measures.push_back({.id = "connections",
                             .title = "Connections a second",
                             .unit = Unit::kPerSecond,
                             .better = Better::kMore});
  std::string page = PageOf(report);
  EXPECT_EQ(WrongTag(page), "");
  EXPECT_TRUE(absl::StrContains(page, "<h2>no figures</h2>"));
  EXPECT_TRUE(absl::StrContains(page, "Linux 6.18"));
  EXPECT_FALSE(absl::StrContains(page, "Not measured"));
  EXPECT_EQ(WrongTag(PageOf({})), "");
}

TEST(BenchPageTest, EveryTagIsClosed) {
  EXPECT_EQ(WrongTag("<p>a &gt; b</p>"), "");
  EXPECT_NE(WrongTag("<p><b>a</p></b>"), "");
  EXPECT_NE(WrongTag("<p>"), "");
  EXPECT_NE(WrongTag("a > b"), "");
  EXPECT_EQ(WrongTag(PageOf(MadeUpReport())), "");
}

TEST(BenchPageTest, LoadsNothingAndRunsNothing) {
  const std::string page = PageOf(MadeUpReport());
  for (const std::string_view loaded :
       {"http:", "https:", "=\"//", "src=\"", "url(", "@import", "<script",
        "onload", "javascript"}) {
    EXPECT_FALSE(absl::StrContains(page, loaded)) << loaded;
  }
}

TEST(BenchPageTest, EveryTextOfTheReportIsText) {
  // Wherever a text can stand.
  const std::string bad = "<script>'\"&\x01</p>";
  const std::string good =
      "&lt;script&gt;&#39;&quot;&amp;\xef\xbf\xbd&lt;/p&gt;";
  BenchReport report;
  report.machine = {bad, 1, 1, bad, bad, bad, bad};
  report.rounds = 3;
  report.servers = {
      {.name = bad, .command = bad, .config = bad, .version = bad}};
  report.left_out = {bad};
  report.absent = {{.name = bad, .why = bad}};
  report.measures = {{.id = bad, .title = bad, .how = bad}};
  report.measures[0].rows = {{.server = bad, .samples = {1, 2, 3}},
                             {.server = bad, .failure = bad}};
  const std::string page = PageOf(report);
  EXPECT_EQ(WrongTag(page), "");
  EXPECT_FALSE(absl::StrContains(page, "<script"));
  EXPECT_FALSE(absl::StrContains(page, "\x01"));
  EXPECT_GE(CountOf(good, page), 20);
}

TEST(BenchPageTest, EachMeasureOpensWithItsFinding) {
  const BenchReport report = MadeUpReport();
  const std::vector<Findings> findings =
      FindingsOf(report, report.measures.front());
  const std::string page = PageOf(report);
  EXPECT_TRUE(absl::StrContains(
      page, absl::StrCat("<h2>", HeadlineOf(findings), "</h2>")));
  EXPECT_EQ(CountOf(findings[1].sentence, page), 1);
  EXPECT_TRUE(absl::StrContains(page, "more is better"));
  EXPECT_TRUE(absl::StrContains(page, "less is better"));
}

TEST(BenchPageTest, BarsBeginAtZeroAndTheLongestSpreadFillsTheScale) {
  BenchReport report = {.rounds = 3};
  report.servers = {{.name = "a"}, {.name = "b"}};
  report.measures = {{.id = "m"}};
  report.measures[0].rows = {{.server = "a", .samples = {100, 100, 100}},
                             {.server = "b", .samples = {50, 25, 75}}};
  const std::string page = PageOf(report);
  EXPECT_TRUE(absl::StrContains(
      page, "class=\"bar\" y=\"17%\" height=\"66%\" width=\"100.00%\""));
  EXPECT_TRUE(absl::StrContains(
      page, "class=\"bar\" y=\"17%\" height=\"66%\" width=\"50.00%\""));
  EXPECT_TRUE(
      absl::StrContains(page, "class=\"spread\" x1=\"25.00%\" x2=\"75.00%\""));
  EXPECT_FALSE(absl::StrContains(page, "logarithmic"));
}

TEST(BenchPageTest, FiguresFarApartAreDotsOnALogarithmicScaleThatSaysSo) {
  BenchReport report = {.rounds = 3};
  report.servers = {{.name = "a"}, {.name = "b"}, {.name = "c"}};
  report.measures = {{.id = "m", .unit = Unit::kSeconds}};
  report.measures[0].rows = {{.server = "a", .samples = {1, 1, 1}},
                             {.server = "b", .samples = {0.0066, 0.0066}},
                             {.server = "c", .samples = {0, 0, 0}}};
  std::string page = PageOf(report);
  EXPECT_TRUE(absl::StrContains(page, "The scale is logarithmic"));
  EXPECT_EQ(CountOf("class=\"dot\"", page), 3);
  EXPECT_EQ(CountOf("class=\"bar\"", page), 0);
  EXPECT_TRUE(absl::StrContains(page, ">100 ms</span>"));

  report.measures[0].rows[1].samples = {0.0067, 0.0067};
  page = PageOf(report);
  EXPECT_FALSE(absl::StrContains(page, "logarithmic"));
  EXPECT_EQ(CountOf("class=\"bar\"", page), 3);
}

TEST(BenchPageTest, WhatIsDoubtfulOrMissingIsSaid) {
  const std::string page = PageOf(MadeUpReport());
  EXPECT_TRUE(absl::StrContains(page, "busy in 4 of 5 rounds"));
  EXPECT_TRUE(absl::StrContains(page, "no figure: xinetd: &lt;fatal&gt;"));
  EXPECT_TRUE(absl::StrContains(page, "not installed; Debian has it in ncat"));
  EXPECT_TRUE(absl::StrContains(page, "too close to call"));
  EXPECT_TRUE(absl::StrContains(page, "18446744073709551615"));
  EXPECT_TRUE(absl::StrContains(page, ">socat version 1.7.4.4<"));
  EXPECT_FALSE(absl::StrContains(page, "was busy with other things"));
  BenchReport busy = MadeUpReport();
  busy.machine.before = {.average = 7};
  busy.left_out = {"a crowd at socat"};
  EXPECT_TRUE(absl::StrContains(PageOf(busy), "began (load average 7.00): "));
  EXPECT_TRUE(absl::StrContains(
      PageOf(busy),
      "<dt>a crowd at socat</dt><dd>did not fit into the time</dd>"));
  BenchReport quick = MadeUpReport();
  quick.quick = true;
  quick.rounds = 2;
  EXPECT_TRUE(absl::StrContains(PageOf(quick), "This was a quick run"));
  quick.measures[0].rows[0].samples = {1000};
  EXPECT_TRUE(absl::StrContains(PageOf(quick), ">too few rounds *<"));
}

}  // namespace
}  // namespace brood
