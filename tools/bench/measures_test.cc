// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/measures.h"

#include <cstdlib>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/tools/bench/contender.h"
#include "brood/tools/bench/started_server.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::Key;

Contender Find(std::string_view name) {
  for (Contender& contender : AllContenders()) {
    if (contender.name == name) return std::move(contender);
  }
  ADD_FAILURE() << name;
  return {};
}

StartedServer Start(const Contender& contender) {
  std::string folder = absl::StrCat(getenv("TEST_TMPDIR"), "/floor.XXXXXX");
  EXPECT_NE(mkdtemp(folder.data()), nullptr);
  return *StartedServer::Start(contender, contender.program, folder);
}

absl::StatusOr<Figures> HowFast(const StartedServer& server,
                                const Contender& contender) {
  const Measurer measurer({.quick = true, .go_on = [] { return true; }});
  return measurer.Measure(server, contender, {"connections"});
}

TEST(MeasuresTest, ConnectionsComeWithTheirLatencies) {
  const Contender floor = Find("floor-fork");
  const StartedServer server = Start(floor);
  const absl::StatusOr<Figures> figures = HowFast(server, floor);
  ASSERT_THAT(figures, IsOk());
  ASSERT_THAT(*figures, ElementsAre(Key("connections"), Key("latency_p50"),
                                    Key("latency_p99"), Key("latency_p999")));
  for (const auto& [id, figure] : *figures) {
    ASSERT_TRUE(figure.value.has_value()) << id << ": " << figure.failure;
    EXPECT_GT(*figure.value, 0) << id;
  }
  EXPECT_LE(*figures->at("latency_p50").value,
            *figures->at("latency_p99").value);
}

TEST(MeasuresTest, EachThingThatAppliesHasAFigure) {
  const Contender floor = Find("floor-fork");
  const StartedServer server = Start(floor);
  const Measurer measurer({.quick = true, .go_on = [] { return true; }});
  const std::set<std::string> ids = {"messages_64", "bytes_64k", "reap_latency",
                                     "with_10_idle", "zombies"};
  const absl::StatusOr<Figures> figures = measurer.Measure(server, floor, ids);
  ASSERT_THAT(figures, IsOk());
  EXPECT_EQ(figures->size(), ids.size());
  for (const auto& [id, figure] : *figures) {
    EXPECT_TRUE(figure.value.has_value()) << id << ": " << figure.failure;
  }
  EXPECT_EQ(figures->at("zombies").value, 0);
  // 64 KiB a message, and the whole message counts.
  EXPECT_GT(*figures->at("bytes_64k").value, 65'536);
}

// Whatever else the machine does.
TEST(MeasuresTest, AnIdleConnectionTakesAtLeastTheStackOfItsProcess) {
  const Contender floor = Find("floor-fork");
  const StartedServer server = Start(floor);
  const Measurer measurer({.quick = true, .go_on = [] { return true; }});
  const absl::StatusOr<Figures> figures =
      measurer.Measure(server, floor, {"idle_memory"});
  ASSERT_THAT(figures, IsOk());
  const Figure& memory = figures->at("idle_memory");
  ASSERT_TRUE(memory.value.has_value()) << memory.failure;
  EXPECT_GT(*memory.value, 16 << 10);
  EXPECT_LT(*memory.value, 4 << 20);
}

TEST(MeasuresTest, WhatDoesNotApplyHasNoFigure) {
  const Contender floor = Find("floor-iterative");
  const StartedServer server = Start(floor);
  const Measurer measurer({.quick = true, .go_on = [] { return true; }});
  // It has no child that could be reaped, and no crowd gets in.
  const absl::StatusOr<Figures> figures = measurer.Measure(
      server, floor, {"messages_64", "reap_latency", "with_10_idle"});
  ASSERT_THAT(figures, IsOk());
  EXPECT_TRUE(figures->at("messages_64").value.has_value());
  EXPECT_EQ(figures->at("reap_latency").failure,
            "no child ends with a connection");
  EXPECT_EQ(figures->at("with_10_idle").failure,
            "serves 1 at once: no crowd gets in");
}

TEST(MeasuresTest, IsStoppedAtOnce) {
  const Contender floor = Find("floor-fork");
  const StartedServer server = Start(floor);
  const Measurer measurer({.quick = false, .go_on = [] { return false; }});
  EXPECT_THAT(measurer.Measure(server, floor, {"connections"}),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(measurer.LoadForProcessCpu(server),
              StatusIs(absl::StatusCode::kCancelled));
}

}  // namespace
}  // namespace brood
