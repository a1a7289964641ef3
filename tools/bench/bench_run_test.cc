// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/bench_run.h"

#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/tools/bench/bench_options.h"
#include "brood/tools/bench/bench_report.h"
#include "brood/tools/bench/samples.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

std::string Folder() {
  std::string folder = absl::StrCat(getenv("TEST_TMPDIR"), "/run.XXXXXX");
  EXPECT_NE(mkdtemp(folder.data()), nullptr);
  return folder;
}

const BenchReport::Measure& Find(const BenchReport& report,
                                 std::string_view id) {
  for (const BenchReport::Measure& measure : report.measures) {
    if (measure.id == id) return measure;
  }
  ADD_FAILURE() << id;
  return report.measures.front();
}

TEST(BenchRunTest, MeasuresEachOfThoseWhoAreHereInEachRound) {
  std::vector<std::string> said;
  const absl::StatusOr<BenchReport> report = RunBench(
      {.quick = true,
       .rounds = 2,
       .only = {"floor-fork", "floor-iterative", "floor-prefork"},
       .measures = {"messages_64", "process_cpu", "process_control"}},
      Folder(),
      {.go_on = [] { return true; },
       .say = [&](std::string_view line) { said.emplace_back(line); }});
  ASSERT_THAT(report, IsOk());
  // Two who are beside this test, and one who is not.
  ASSERT_EQ(report->servers.size(), 2U);
  ASSERT_EQ(report->absent.size(), 1U);
  EXPECT_EQ(report->absent[0].name, "floor-prefork");
  EXPECT_THAT(report->absent[0].why, HasSubstr("prefork_floor"));
  for (const BenchReport::Measure& measure : report->measures) {
    ASSERT_EQ(measure.rows.size(), 2U);
    EXPECT_EQ(measure.rows[0].samples.size(), 2U);
  }
  EXPECT_EQ(Summarise(Find(*report, "messages_64").rows[0].samples)->rounds,
            2U);
  EXPECT_THAT(said.front(), StartsWith("round 1 of 2: floor-"));
  EXPECT_THAT(said.front(), Not(HasSubstr("left")));
  EXPECT_THAT(said.back(), StartsWith("round 2 of 2: what it costs floor-"));
}

TEST(BenchRunTest, ProcessControlIsWhatTheIterativeServerDoesNotNeed) {
  const absl::StatusOr<BenchReport> report = RunBench(
      {.quick = true,
       .rounds = 1,
       .only = {"floor-fork", "floor-iterative"},
       .measures = {"process_cpu", "process_control"}},
      Folder(), {.go_on = [] { return true; }, .say = [](std::string_view) {}});
  ASSERT_THAT(report, IsOk());
  const BenchReport::Measure& cpu = Find(*report, "process_cpu");
  const BenchReport::Measure& control = Find(*report, "process_control");
  ASSERT_EQ(cpu.rows[0].server, "floor-fork");
  ASSERT_EQ(cpu.rows[1].server, "floor-iterative");
  EXPECT_DOUBLE_EQ(*control.rows[0].samples[0],
                   *cpu.rows[0].samples[0] - *cpu.rows[1].samples[0]);
  EXPECT_EQ(control.rows[1].samples[0], std::nullopt);
}

TEST(BenchRunTest, WithoutTheIterativeServerThereIsNoProcessControl) {
  const absl::StatusOr<BenchReport> report = RunBench(
      {.quick = true,
       .rounds = 1,
       .only = {"floor-fork"},
       .measures = {"process_control"}},
      Folder(), {.go_on = [] { return true; }, .say = [](std::string_view) {}});
  ASSERT_THAT(report, IsOk());
  EXPECT_EQ(Find(*report, "process_control").rows[0].failure,
            "floor-iterative has no figure");
}

// Not even one server is started.
TEST(BenchRunTest, WhatDoesNotFitIntoTheTimeIsLeftOutAndNamed) {
  const absl::StatusOr<BenchReport> report =
      RunBench({.quick = true,
                .time_limit = absl::ZeroDuration(),
                .rounds = 1,
                .only = {"floor-fork", "floor-iterative"},
                .measures = {"messages_64", "with_1000_idle"}},
               Folder(),
               {.go_on = [] { return true; },
                .say = [](std::string_view line) { ADD_FAILURE() << line; }});
  ASSERT_THAT(report, IsOk());
  EXPECT_THAT(report->left_out,
              UnorderedElementsAre("floor-fork in round 1",
                                   "floor-iterative in round 1",
                                   "a crowd at floor-fork"));
  for (const BenchReport::Measure& measure : report->measures) {
    for (const BenchReport::Row& row : measure.rows) {
      EXPECT_EQ(row.failure, "left out, for there was no time left");
      EXPECT_EQ(row.samples[0], std::nullopt);
    }
  }
}

TEST(BenchRunTest, AQuickRunHasItsCrowdsLastAndEachOnce) {
  std::vector<std::string> said;
  const absl::StatusOr<BenchReport> report = RunBench(
      {.quick = true,
       .rounds = 2,
       .only = {"floor-fork"},
       .measures = {"messages_64", "idle_memory"}},
      Folder(),
      {.go_on = [] { return true; },
       .say = [&](std::string_view line) { said.emplace_back(line); }});
  ASSERT_THAT(report, IsOk());
  EXPECT_THAT(
      said, ElementsAre(StartsWith("round 1 of 2: floor-fork (0 of 3)"),
                        StartsWith("round 2 of 2: floor-fork (1 of 3, "),
                        StartsWith("round 1 of 2: a crowd at floor-fork (2")));
  EXPECT_EQ(Summarise(Find(*report, "idle_memory").rows[0].samples)->rounds,
            1U);
  // As it was run, from where it was found.
  EXPECT_THAT(report->servers[0].command, EndsWith("fork_floor"));
}

absl::StatusOr<BenchReport> TwoMinutes(const std::string& folder,
                                       std::function<bool()> go_on) {
  return RunBench({.quick = true, .rounds = 3}, folder,
                  {.go_on = std::move(go_on), .say = [](std::string_view) {}});
}

TEST(BenchRunTest, IsStoppedBeforeItBegins) {
  EXPECT_THAT(TwoMinutes(Folder(), [] { return false; }),
              StatusIs(absl::StatusCode::kCancelled));
}

TEST(BenchRunTest, NobodyToMeasureIsAnError) {
  EXPECT_THAT(
      RunBench({.only = {"floor-prefork"}}, Folder(),
               {.go_on = [] { return true; }, .say = [](std::string_view) {}}),
      StatusIs(absl::StatusCode::kNotFound,
               StartsWith("none of the contenders is on this machine")));
}

}  // namespace
}  // namespace brood
