// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/bench_table.h"

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "brood/tools/bench/bench_report.h"
#include "brood/tools/bench/contender.h"
#include "brood/tools/bench/made_up_report.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

std::string WithTables(std::string_view text, const BenchReport& report) {
  return absl::StrCat(text, "\n", MarkdownOf(report));
}

TEST(BenchTableTest, HeaderExample) {
  EXPECT_TRUE(absl::StartsWith(WithTables("# Figures", MadeUpReport()),
                               "# Figures\n### Connections a second\n\n"));
}

TEST(BenchTableTest, AMeasureIsItsFindingAndItsTable) {
  BenchReport report = {.machine = {.kernel = "Linux 6.18"}, .rounds = 3};
  report.servers = {
      {.name = "brood-fork",
       .origin = Origin::kBrood,
       .command = "server --model=fork"},
      {.name = "socat", .command = "socat PIPE", .version = "1.7"},
      {.name = "floor-fork", .origin = Origin::kFloor, .command = "floor"},
      {.name = "ncat", .command = "ncat", .config = "a\nb\n"}};
  report.measures = {{.id = "connections",
                      .title = "Connections a second",
                      .how = "They come and go.",
                      .unit = Unit::kPerSecond}};
  report.measures[0].rows = {
      {.server = "brood-fork", .samples = {860, 850, 870}},
      {.server = "socat", .samples = {430, 425, 435}, .generator_was_busy = 2},
      {.server = "floor-fork", .samples = {1000, 990, 1010}},
      {.server = "ncat", .failure = "did not start"}};
  EXPECT_EQ(
      MarkdownOf(report),
      "### Connections a second\n"
      "\n"
      "**brood-fork serves 0.86 of what floor-fork does and 2.0 times what "
      "socat does (but the load generator may have been the limit).**\n"
      "\n"
      "How: They come and go. More is better.\n"
      "\n"
      "| server | median | least .. greatest | against the floor | note |\n"
      "|---|--:|--:|---|---|\n"
      "| *a process for each connection* | | | | |\n"
      "| floor-fork | 1,000/s | 990/s .. 1,010/s | the floor |  |\n"
      "| **brood-fork** | 860/s | 850/s .. 870/s | 0.86 of floor-fork |  |\n"
      "| socat | 430/s | 425/s .. 435/s | 0.43 of floor-fork | the load "
      "generator was busy in 2 of 3 rounds, so the figure may be its own |\n"
      "| ncat | | | | no figure: did not start |\n"
      "\n"
      "Measured on: Linux 6.18; 3 rounds, medians, seed 0\n"
      "\n"
      "Started first as follows; each later start had a port and a folder of "
      "its own. {port}, {folder} and {user} are of one that never ran.\n"
      "\n"
      "- brood-fork: server --model=fork\n"
      "- socat: socat PIPE (1.7)\n"
      "- floor-fork: floor\n"
      "- ncat: ncat; its configuration: a b\n");
}

TEST(BenchTableTest, NoTextLeavesItsCell) {
  const std::string bad = "<b>|`*_[a](b)\\&\n| x";
  BenchReport report;
  report.machine = {bad, 1, 1, bad, bad, bad, bad};
  report.servers = {
      {.name = bad, .command = bad, .config = bad, .version = bad}};
  report.left_out = {bad};
  report.absent = {{.name = bad, .why = bad}};
  report.measures = {{.id = bad, .title = bad, .how = bad}};
  report.measures[0].rows = {{.server = bad, .samples = {1, 2, 3}},
                             {.server = bad, .failure = bad}};
  int rows = 0;
  for (std::string_view line : absl::StrSplit(MarkdownOf(report), '\n')) {
    EXPECT_FALSE(absl::StrContains(line, '<')) << line;
    EXPECT_FALSE(absl::StrContains(line, " `")) << line;
    if (!absl::StartsWith(line, "|")) continue;
    ++rows;
    size_t bars = 0;
    for (size_t i = 0; i < line.size(); ++i) {
      if (line[i] == '|' && (i == 0 || line[i - 1] != '\\')) ++bars;
    }
    EXPECT_EQ(bars, 6) << line;
  }
  EXPECT_EQ(rows, 5) << "two of the head, a design, two servers";
}

TEST(BenchTableTest, WhoWasNotMeasuredIsNamed) {
  const std::string text = MarkdownOf(MadeUpReport());
  EXPECT_TRUE(absl::StrContains(
      text, "- ncat: not installed; Debian has it in ncat\n"));
  EXPECT_TRUE(absl::StrContains(text, "- b&lt;u&gt;sybox: "));
  EXPECT_TRUE(absl::StrContains(text, "--only='a\\|b'"));
}

}  // namespace
}  // namespace brood
