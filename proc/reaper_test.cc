// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/reaper.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/log/log.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/tests/gate.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;

absl::Status WaitForAll(Reaper& reaper) {
  while (reaper.size() > 0) {
    absl::StatusOr<std::optional<Reaper::Exit>> exit = reaper.Next();
    if (!exit.ok()) return exit.status();
    if (exit->has_value()) {
      LOG(INFO) << (*exit)->pid << " " << (*exit)->status;
      continue;
    }
    absl::StatusOr<bool> ready =
        PollUntil(reaper.fd(), POLLIN, absl::InfiniteFuture());
    if (!ready.ok()) return ready.status();
  }
  return absl::OkStatus();
}

Child MustFork(absl::FunctionRef<int()> body) {
  absl::StatusOr<Child> child = Fork({}, body);
  EXPECT_THAT(child, IsOk());
  return *std::move(child);
}

Reaper MakeReaper() {
  absl::StatusOr<Reaper> reaper = Reaper::Create();
  EXPECT_THAT(reaper, IsOk());
  return *std::move(reaper);
}

// The next exit, waiting for it on the descriptor.
Reaper::Exit NextExit(Reaper& reaper) {
  while (true) {
    absl::StatusOr<std::optional<Reaper::Exit>> exit = reaper.Next();
    EXPECT_THAT(exit, IsOk());
    if (exit->has_value()) return **exit;
    EXPECT_THAT(PollUntil(reaper.fd(), POLLIN, absl::InfiniteFuture()),
                IsOkAndHolds(true));
  }
}

bool Readable(const Reaper& reaper) {
  return *PollUntil(reaper.fd(), POLLIN, absl::InfinitePast());
}

TEST(ReaperTest, HeaderExample) {
  Reaper reaper = MakeReaper();
  for (int i = 0; i < 3; ++i) {
    ASSERT_THAT(reaper.Add(MustFork([=] { return i; }), 0), IsOk());
  }
  EXPECT_THAT(WaitForAll(reaper), IsOk());
}

TEST(ReaperTest, SaysWhoseChildEndedAndHow) {
  Reaper reaper = MakeReaper();
  Child child = MustFork([] { return 7; });
  const pid_t pid = child.pid();
  ASSERT_THAT(reaper.Add(std::move(child), 1234), IsOk());
  const Reaper::Exit exit = NextExit(reaper);
  EXPECT_EQ(exit.pid, pid);
  EXPECT_EQ(exit.tag, 1234);
  EXPECT_EQ(exit.status, ExitStatus::Exited(7));
  EXPECT_TRUE(exit.status.usage().has_value());
  EXPECT_EQ(reaper.size(), 0);
}

TEST(ReaperTest, ReportsEachExitOnceHoweverManyComeTogether) {
  constexpr int kChildren = 200;
  Reaper reaper = MakeReaper();
  Gate gate;
  std::map<uint64_t, pid_t> pids;
  for (int i = 0; i < kChildren; ++i) {
    Child child = MustFork([&, i] {
      gate.Wait();
      return i;
    });
    pids[i] = child.pid();
    ASSERT_THAT(reaper.Add(std::move(child), i), IsOk());
  }
  EXPECT_FALSE(Readable(reaper));
  EXPECT_THAT(reaper.Next(), IsOkAndHolds(std::nullopt));
  gate.Open();
  std::set<uint64_t> seen;
  for (int i = 0; i < kChildren; ++i) {
    const Reaper::Exit exit = NextExit(reaper);
    EXPECT_EQ(exit.pid, pids[exit.tag]);
    EXPECT_EQ(exit.status, ExitStatus::Exited(static_cast<int>(exit.tag)));
    EXPECT_TRUE(seen.insert(exit.tag).second) << exit.tag << " came twice";
  }
  EXPECT_EQ(reaper.size(), 0);
  EXPECT_FALSE(Readable(reaper));
  EXPECT_THAT(reaper.Next(), IsOkAndHolds(std::nullopt));
}

TEST(ReaperTest, TakesAChildThatHasAlreadyEnded) {
  Reaper reaper = MakeReaper();
  Child child = MustFork([] { return 2; });
  ASSERT_THAT(PollUntil(child.fd(), POLLIN, absl::InfiniteFuture()),
              IsOkAndHolds(true));
  ASSERT_THAT(reaper.Add(std::move(child), 0), IsOk());
  EXPECT_TRUE(Readable(reaper));
  EXPECT_EQ(NextExit(reaper).status, ExitStatus::Exited(2));
}

TEST(ReaperTest, TakesNoChildItWasNotGiven) {
  Reaper reaper = MakeReaper();
  Child foreign = MustFork([] { return 9; });
  ASSERT_THAT(PollUntil(foreign.fd(), POLLIN, absl::InfiniteFuture()),
              IsOkAndHolds(true));
  ASSERT_THAT(reaper.Add(MustFork([] { return 1; }), 0), IsOk());
  EXPECT_EQ(NextExit(reaper).status, ExitStatus::Exited(1));
  EXPECT_THAT(reaper.Next(), IsOkAndHolds(std::nullopt));
  EXPECT_THAT(foreign.Wait(), IsOkAndHolds(ExitStatus::Exited(9)));
}

TEST(ReaperTest, ReportsAChildThatSomebodyElseReapedAsLost) {
  Reaper reaper = MakeReaper();
  Child child = MustFork([] { return 7; });
  const pid_t pid = child.pid();
  ASSERT_THAT(reaper.Add(std::move(child), 5), IsOk());
  int status;
  ASSERT_EQ(RetryOnEintr([&] { return waitpid(-1, &status, 0); }), pid);
  const Reaper::Exit exit = NextExit(reaper);
  EXPECT_EQ(exit.tag, 5);
  EXPECT_EQ(exit.status, ExitStatus::Lost());
  EXPECT_EQ(reaper.size(), 0);
}

TEST(ReaperTest, ForgetsAChildOfWhichASiblingHoldsThePidfd) {
  Reaper reaper = MakeReaper();
  ASSERT_THAT(reaper.Add(MustFork([] { return 1; }), 0), IsOk());
  Gate gate;
  Child sibling = MustFork([&] {  // Inherits the first child's pidfd.
    gate.Wait();
    return 0;
  });
  EXPECT_EQ(NextExit(reaper).status, ExitStatus::Exited(1));
  EXPECT_FALSE(Readable(reaper));
}

TEST(ReaperTest, SignalsAllThatLive) {
  Reaper reaper = MakeReaper();
  Gate gate;
  for (int i = 0; i < 3; ++i) {
    ASSERT_THAT(reaper.Add(MustFork([&] {
                             gate.Wait();
                             return 0;
                           }),
                           i),
                IsOk());
  }
  // One of them has ended but is not reported yet: no error.
  Child ended = MustFork([] { return 1; });
  ASSERT_THAT(PollUntil(ended.fd(), POLLIN, absl::InfiniteFuture()),
              IsOkAndHolds(true));
  ASSERT_THAT(reaper.Add(std::move(ended), 3), IsOk());
  EXPECT_THAT(reaper.SignalAll(SIGTERM), IsOk());
  std::map<uint64_t, ExitStatus> ends;
  while (reaper.size() > 0) {
    const Reaper::Exit exit = NextExit(reaper);
    ends.emplace(exit.tag, exit.status);
  }
  EXPECT_EQ(ends.size(), 4);
  for (const auto& [tag, status] : ends) {
    EXPECT_EQ(status,
              tag == 3 ? ExitStatus::Exited(1) : ExitStatus::Killed(SIGTERM));
  }
}

TEST(ReaperTest, KillsAndReapsWhatItStillHasWhenDestroyed) {
  Gate gate;
  std::vector<pid_t> pids;
  {
    Reaper reaper = MakeReaper();
    for (int i = 0; i < 5; ++i) {
      Child child = MustFork([&] {
        gate.Wait();
        return 0;
      });
      pids.push_back(child.pid());
      ASSERT_THAT(reaper.Add(std::move(child), i), IsOk());
    }
  }
  for (pid_t pid : pids) EXPECT_EQ(kill(pid, 0), -1);
}

TEST(ReaperTest, TakesItsChildrenAlongWhenMoved) {
  Gate gate;
  const auto waiting = [&] {
    gate.Wait();
    return 4;
  };
  Reaper first = MakeReaper();
  ASSERT_THAT(first.Add(MustFork(waiting), 1), IsOk());
  Reaper second = std::move(first);
  EXPECT_EQ(first.size(), 0);  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(second.size(), 1);
  Reaper third = MakeReaper();
  Child dropped = MustFork(waiting);
  const pid_t pid = dropped.pid();
  ASSERT_THAT(third.Add(std::move(dropped), 2), IsOk());
  third = std::move(second);
  EXPECT_EQ(kill(pid, 0), -1);  // What was assigned over is killed and reaped.
  gate.Open();
  EXPECT_EQ(NextExit(third).tag, 1);
}

TEST(ReaperTest, HarmsNobodyWhenDestroyedInAForkedCopy) {
  std::optional<Reaper> reaper = MakeReaper();
  Gate gate;
  ASSERT_THAT(reaper->Add(MustFork([&] {
                            gate.Wait();
                            return 3;
                          }),
                          0),
              IsOk());
  Child copy = MustFork([&] {
    reaper.reset();
    return 0;
  });
  EXPECT_THAT(copy.Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
  EXPECT_EQ(reaper->size(), 1);
  gate.Open();
  EXPECT_EQ(NextExit(*reaper).status, ExitStatus::Exited(3));
}

}  // namespace
}  // namespace brood
