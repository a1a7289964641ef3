// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/bench_findings.h"

#include <optional>
#include <string>
#include <vector>

#include "brood/tools/bench/bench_report.h"
#include "brood/tools/bench/contender.h"
#include "brood/tools/bench/made_up_report.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using Measure = BenchReport::Measure;

std::string Best(const BenchReport& report, const Measure& measure) {
  const std::vector<Findings> findings = FindingsOf(report, measure);
  if (findings.empty()) return "nobody";
  return findings.front().ranks.front().row->server;
}

std::string Headline(const BenchReport& report, const Measure& measure) {
  return HeadlineOf(FindingsOf(report, measure));
}

TEST(BenchFindingsTest, HeaderExample) {
  const BenchReport report = MadeUpReport();
  EXPECT_EQ(Best(report, report.measures[0]), "floor-fork");
  EXPECT_EQ(Best(report, Measure()), "nobody");
  EXPECT_EQ(Headline(report, Measure()), "no figures");
}

TEST(BenchFindingsTest, EachDesignIsRankedByItself) {
  const BenchReport report = MadeUpReport();
  const std::vector<Findings> findings =
      FindingsOf(report, report.measures.front());
  ASSERT_EQ(findings.size(), 4);
  std::vector<std::string> names;
  for (const Findings::Rank& rank : findings[0].ranks) {
    names.push_back(rank.row->server);
  }
  EXPECT_EQ(names, (std::vector<std::string>{"floor-fork", "floor-textbook",
                                             "brood-fork", "brood-fork-log",
                                             "socat", "python-forking"}));
  EXPECT_EQ(findings[1].ranks.back().row->server, "xinetd");
  EXPECT_EQ(findings[1].ranks.back().note,
            "no figure: xinetd: <fatal> \"cannot\" bind\n");
  EXPECT_EQ(findings[1].floor, nullptr);
  EXPECT_EQ(findings[2].floor->server, "floor-prefork");
}

TEST(BenchFindingsTest, LessIsBetterWhereTheMeasureSaysSo) {
  const BenchReport report = MadeUpReport();
  EXPECT_EQ(Best(report, report.measures[1]), "floor-fork");
  EXPECT_EQ(FindingsOf(report, report.measures[1])[0].ranks.back().row->server,
            "python-forking");
}

TEST(BenchFindingsTest, TheVerdictIsAgainstTheFloorOfTheDesign) {
  const BenchReport report = MadeUpReport();
  const std::vector<Findings> findings =
      FindingsOf(report, report.measures.front());
  EXPECT_EQ(findings[0].ranks[0].verdict, "");
  EXPECT_EQ(findings[0].ranks[2].verdict, "0.86 of floor-fork");
  EXPECT_EQ(findings[1].ranks[0].verdict, "");
}

TEST(BenchFindingsTest, TheSentenceFollowsFromTheFigures) {
  BenchReport report = MadeUpReport();
  EXPECT_EQ(Headline(report, report.measures[0]),
            "brood-fork serves 0.86 of what floor-fork does and 2.6 times what "
            "socat does, the best of 2 peers");
  EXPECT_EQ(FindingsOf(report, report.measures[0])[1].sentence,
            "brood-cat against tcpserver: too close to call");
  EXPECT_EQ(FindingsOf(report, report.measures[0])[2].sentence,
            "brood-prefork serves 0.78 of what floor-prefork does (but the "
            "load generator may have been the limit)");
  EXPECT_EQ(FindingsOf(report, report.measures[0])[3].sentence,
            "brood-iterative: 19,000/s, and nobody to compare it with");
  EXPECT_EQ(Headline(report, report.measures[3]),
            "brood-fork has none where socat has some; has none, like "
            "floor-fork");

  Measure& measure = report.measures[0];
  measure.rows[2].samples = {6000, 7500, 6800, 7000, 6500};
  EXPECT_EQ(Headline(report, measure),
            "brood-fork serves 2.6 times what socat does, the best of 2 peers; "
            "against floor-fork it is too close to call");
  measure.rows.erase(measure.rows.begin());
  EXPECT_EQ(FindingsOf(report, measure)[0].sentence.substr(0, 14),
            "brood-fork-log");
  measure.rows.erase(measure.rows.begin());
  EXPECT_EQ(FindingsOf(report, measure)[0].sentence,
            "the best is floor-textbook with 7,200/s");
  EXPECT_EQ(Headline(report, measure), FindingsOf(report, measure)[1].sentence)
      << "where brood has a figure";
}

TEST(BenchFindingsTest, ABusyGeneratorIsNotedWhenItWasSoInMostRounds) {
  BenchReport report = MadeUpReport();
  EXPECT_EQ(FindingsOf(report, report.measures[0])[2].ranks[1].note,
            "the load generator was busy in 4 of 5 rounds, so the figure may "
            "be its own");
  report.measures[0].rows[9].generator_was_busy = 2;
  EXPECT_EQ(FindingsOf(report, report.measures[0])[2].ranks[1].note, "");
}

TEST(BenchFindingsTest, WithoutAnyFigureItSaysSo) {
  const BenchReport report = {.rounds = 1};
  const Measure measure = {
      .rows = {{.server = "unheard-of", .samples = {std::nullopt}}}};
  const std::vector<Findings> findings = FindingsOf(report, measure);
  ASSERT_EQ(findings.size(), 1);
  EXPECT_EQ(findings[0].sentence, "no figures");
  EXPECT_EQ(findings[0].ranks[0].note, "no figure: not measured");
  EXPECT_EQ(findings[0].ranks[0].origin, Origin::kPeer);
  const Measure why = {.rows = {{.server = "a", .failure = "not measured: x"}}};
  EXPECT_EQ(FindingsOf(report, why)[0].ranks[0].note, "not measured: x");
}

}  // namespace
}  // namespace brood
