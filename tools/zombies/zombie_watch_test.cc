// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/zombies/zombie_watch.h"

#include <csignal>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/proc/process_table.h"
#include "brood/tools/zombies/snapshot.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

Process Make(pid_t pid, pid_t parent, ProcessState state,
             int64_t start_seconds = 0, int64_t threads = 1) {
  Process process;
  process.pid = pid;
  process.parent_pid = parent;
  process.state = state;
  process.start = absl::Seconds(start_seconds);
  process.thread_count = threads;
  process.exit_signal = SIGCHLD;
  return process;
}

Process Alive(pid_t pid, pid_t parent) {
  return Make(pid, parent, ProcessState::kSleeping);
}

Process Zombie(pid_t pid, pid_t parent, int64_t start_seconds = 0) {
  return Make(pid, parent, ProcessState::kZombie, start_seconds);
}

// Read from `second` to half a second later.
Snapshot At(int64_t second, std::vector<Process> processes) {
  Snapshot snapshot;
  snapshot.processes = std::move(processes);
  snapshot.begun = absl::Seconds(second);
  snapshot.ended = absl::Seconds(second) + absl::Milliseconds(500);
  return snapshot;
}

std::vector<pid_t> PidsOf(const std::vector<Process>& processes) {
  std::vector<pid_t> pids;
  for (const Process& process : processes) pids.push_back(process.pid);
  return pids;
}

std::vector<pid_t> PidsOf(const ZombieReport& report) {
  std::vector<pid_t> pids;
  for (const ZombieParent& parent : report.parents) {
    for (const FoundZombie& zombie : parent.zombies) {
      pids.push_back(zombie.process.pid);
    }
  }
  return pids;
}

ZombieReport SecondLook(const Snapshot& first, const Snapshot& second) {
  ZombieWatch watch({.min_age = absl::Seconds(1)});
  (void)watch.Look(first);
  return *watch.Look(second);  // Those that were zombies for a second.
}

TEST(ZombieWatchTest, HeaderExample) {
  const ZombieReport report =
      SecondLook(At(10, {Alive(1, 0), Zombie(2, 1), Alive(3, 1)}),
                 At(12, {Alive(1, 0), Zombie(2, 1), Zombie(3, 1)}));
  EXPECT_THAT(PidsOf(report), ElementsAre(2));
  EXPECT_EQ(report.zombies, 1);
  EXPECT_EQ(report.young, 1) << "3 was alive at the first look";
  EXPECT_EQ(report.processes, 3);
  // Ended at 10.5, begun at 12: never more than the truth.
  EXPECT_EQ(report.parents[0].zombies[0].age, absl::Milliseconds(1500));
}

TEST(ZombieWatchTest, AnAgeOfZeroCountsWhoeverIsThere) {
  ZombieWatch watch({});
  const absl::StatusOr<ZombieReport> report =
      watch.Look(At(10, {Alive(1, 0), Zombie(2, 1)}));
  ASSERT_THAT(report, IsOk());
  EXPECT_THAT(PidsOf(*report), ElementsAre(2));
  EXPECT_EQ(report->young, 0);
  EXPECT_EQ(report->parents[0].zombies[0].age, absl::ZeroDuration());
}

TEST(ZombieWatchTest, APidThatIsUsedAgainIsAnotherZombie) {
  const ZombieReport report =
      SecondLook(At(10, {Alive(1, 0), Zombie(2, 1, /*start_seconds=*/5)}),
                 At(12, {Alive(1, 0), Zombie(2, 1, /*start_seconds=*/11)}));
  EXPECT_THAT(PidsOf(report), IsEmpty());
  EXPECT_EQ(report.young, 1);
}

TEST(ZombieWatchTest, KeepsTheAgeOfAZombieThatGoesToAnotherParent) {
  const ZombieReport report =
      SecondLook(At(10, {Alive(1, 0), Alive(5, 1), Zombie(6, 5)}),
                 At(20, {Alive(1, 0), Zombie(6, 1)}));
  ASSERT_THAT(PidsOf(report), ElementsAre(6));
  EXPECT_EQ(report.parents[0].pid, 1);
  EXPECT_EQ(report.parents[0].zombies[0].age, absl::Milliseconds(9500));
}

TEST(ZombieWatchTest, AFirstThreadThatEndedBeforeOthersMakesNoZombie) {
  ZombieWatch watch({});
  const absl::StatusOr<ZombieReport> report = watch.Look(
      At(10, {Alive(1, 0), Make(2, 1, ProcessState::kZombie, 0, 3)}));
  ASSERT_THAT(report, IsOk());
  EXPECT_EQ(report->zombies, 0);
  EXPECT_EQ(report->young, 0);
  EXPECT_THAT(PidsOf(report->headless), ElementsAre(2));
}

TEST(ZombieWatchTest, LooksOnlyBelowTheProcessThatIsNamed) {
  const Snapshot snapshot =
      At(10, {Alive(1, 0), Alive(10, 1), Alive(11, 10), Zombie(12, 11),
              Zombie(13, 10), Alive(20, 1), Zombie(21, 20), Zombie(22, 1)});
  ZombieWatch watch({.below = 10});
  const absl::StatusOr<ZombieReport> report = watch.Look(snapshot);
  ASSERT_THAT(report, IsOk());
  EXPECT_THAT(PidsOf(*report), ElementsAre(13, 12));  // By parent.
  EXPECT_EQ(report->processes, 4);
  EXPECT_THAT(PidsOf(report->ancestors), ElementsAre(10));
  EXPECT_THAT(ZombieWatch({.below = 99}).Look(snapshot),
              StatusIs(absl::StatusCode::kNotFound, "there is no process 99"));
}

TEST(ZombieWatchTest, KnowsTheAncestorsOfEachParent) {
  ZombieWatch watch({});
  const absl::StatusOr<ZombieReport> report =
      watch.Look(At(10, {Alive(1, 0), Alive(5, 1), Alive(6, 5), Zombie(7, 6),
                         Alive(8, 1), Zombie(9, 8)}));
  ASSERT_THAT(report, IsOk());
  EXPECT_THAT(PidsOf(report->ancestors), ElementsAre(1, 5));
}

TEST(ZombieWatchTest, SaysSoWhereTheParentIsNotThere) {
  Snapshot snapshot = At(10, {Zombie(7, 6), Zombie(8, 0)});
  snapshot.some_hidden = true;
  ZombieWatch watch({});
  const absl::StatusOr<ZombieReport> report = watch.Look(snapshot);
  ASSERT_THAT(report, IsOk());
  ASSERT_EQ(report->parents.size(), 2);
  EXPECT_EQ(report->parents[0].pid, 0);
  EXPECT_EQ(report->parents[1].pid, 6);
  EXPECT_FALSE(report->parents[1].process.has_value());
  EXPECT_TRUE(report->some_hidden);
}

// 5 became 6's child, and 6 had been 5's when it was read.
TEST(ZombieWatchTest, IsNotLedInACircleByWhatChangedMeanwhile) {
  const Snapshot snapshot =
      At(10, {Alive(1, 0), Alive(5, 6), Alive(6, 5), Zombie(7, 6)});
  EXPECT_THAT(ZombieWatch({}).Look(snapshot), IsOk());
  const absl::StatusOr<ZombieReport> below =
      ZombieWatch({.below = 1}).Look(snapshot);
  ASSERT_THAT(below, IsOk());
  EXPECT_EQ(below->zombies, 0);
}

}  // namespace
}  // namespace brood
