// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/stop.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <optional>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_queue.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/tests/deny_syscalls.h"
#include "brood/tests/gate.h"
#include "brood/tests/traced_child.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::Optional;

constexpr absl::Duration kLong = absl::Hours(1);
constexpr absl::Duration kShort = absl::Milliseconds(20);

absl::StatusOr<std::optional<ExitStatus>> AskThenKill(Child child) {
  absl::StatusOr<Stop> stop = Stop::Begin(
      std::move(child),
      {.steps = {{SIGTERM, absl::Seconds(5)}, {SIGKILL, absl::Seconds(2)}}});
  if (!stop.ok()) return stop.status();
  while (true) {  // Or watch stop->fd() in a loop that does more.
    absl::StatusOr<std::optional<Stop::Result>> result = stop->Next();
    if (!result.ok()) return result.status();
    if (result->has_value()) return (*result)->status;
    absl::StatusOr<bool> ready =
        PollUntil(stop->fd(), POLLIN, absl::InfiniteFuture());
    if (!ready.ok()) return ready.status();
  }
}

Child MustFork(const ForkOptions& options, absl::FunctionRef<int()> body) {
  absl::StatusOr<Child> child = Fork(options, body);
  EXPECT_THAT(child, IsOk());
  return *std::move(child);
}

// A child that lives until `gate` opens, and ignores SIGTERM if it is stubborn.
Child Living(Gate& gate, bool stubborn, const ForkOptions& options = {}) {
  Gate ready;
  Child child = MustFork(options, [&] {
    if (stubborn) (void)std::signal(SIGTERM, SIG_IGN);
    ready.Open();
    gate.Wait();
    return 0;
  });
  ready.Wait();
  return child;
}

Stop MustBegin(Child child, StopPlan plan) {
  absl::StatusOr<Stop> stop = Stop::Begin(std::move(child), std::move(plan));
  EXPECT_THAT(stop, IsOk());
  return *std::move(stop);
}

Stop::Result Finish(Stop& stop) {
  while (true) {
    absl::StatusOr<std::optional<Stop::Result>> result = stop.Next();
    EXPECT_THAT(result, IsOk());
    if (result->has_value()) return **result;
    EXPECT_THAT(PollUntil(stop.fd(), POLLIN, absl::InfiniteFuture()),
                IsOkAndHolds(true));
  }
}

TEST(StopTest, HeaderExample) {
  Gate gate;
  EXPECT_THAT(AskThenKill(Living(gate, /*stubborn=*/false)),
              IsOkAndHolds(Optional(ExitStatus::Killed(SIGTERM))));
}

TEST(StopTest, TakesNoFurtherStepWhenTheFirstWorks) {
  Gate gate;
  Stop stop = MustBegin(Living(gate, /*stubborn=*/false),
                        {.steps = {{SIGTERM, kLong}, {SIGKILL, kLong}}});
  const Stop::Result result = Finish(stop);
  EXPECT_EQ(result.status, ExitStatus::Killed(SIGTERM));
  EXPECT_EQ(result.signo, SIGTERM);
  EXPECT_FALSE(result.group_remains);
  EXPECT_THAT(stop.Next(), StatusIs(absl::StatusCode::kOutOfRange));
}

TEST(StopTest, KillsWhatDoesNotObey) {
  Gate gate;
  Stop stop = MustBegin(Living(gate, /*stubborn=*/true),
                        {.steps = {{SIGTERM, kShort}, {SIGKILL, kLong}}});
  const Stop::Result result = Finish(stop);
  EXPECT_EQ(result.status, ExitStatus::Killed(SIGKILL));
  EXPECT_EQ(result.signo, SIGKILL);
}

TEST(StopTest, SaysThatNoStepWasNeeded) {
  Child child = MustFork({}, [] { return 3; });
  ASSERT_THAT(PollUntil(child.fd(), POLLIN, absl::InfiniteFuture()),
              IsOkAndHolds(true));
  Stop stop = MustBegin(std::move(child), {});
  const Stop::Result result = Finish(stop);
  EXPECT_EQ(result.status, ExitStatus::Exited(3));
  EXPECT_EQ(result.signo, 0);
}

TEST(StopTest, WakesAStoppedChildSoThatItCanObey) {
  Gate gate;
  Child child = Living(gate, /*stubborn=*/false);
  ASSERT_THAT(child.Signal(SIGSTOP), IsOk());
  siginfo_t info = {};
  ASSERT_EQ(waitid(P_PID, child.pid(), &info, WSTOPPED | __WALL), 0);
  Stop stop = MustBegin(std::move(child), {.steps = {{SIGTERM, kLong}}});
  EXPECT_EQ(Finish(stop).status, ExitStatus::Killed(SIGTERM));
}

TEST(StopTest, TakesAllStepsAtOnceWhenTheDeadlineHasPassed) {
  Gate gate;
  Stop stop = MustBegin(Living(gate, /*stubborn=*/true),
                        {.steps = {{SIGTERM, kLong}, {SIGKILL, kLong}},
                         .deadline = absl::InfinitePast()});
  // By now it is dying; that it has died may come after the plan's end.
  const Stop::Result result = Finish(stop);
  EXPECT_EQ(result.signo, SIGKILL);
  if (!result.status.has_value()) {
    EXPECT_THAT(std::move(stop).Release().Wait(),
                IsOkAndHolds(ExitStatus::Killed(SIGKILL)));
  }
}

TEST(StopTest, BeginsTheLastStepEarlyEnoughForTheDeadline) {
  Gate gate;
  Stop stop = MustBegin(Living(gate, /*stubborn=*/true),
                        {.steps = {{SIGTERM, kLong}, {SIGKILL, kLong}},
                         .deadline = absl::Now() + kLong + kShort});
  EXPECT_EQ(Finish(stop).status, ExitStatus::Killed(SIGKILL));
}

TEST(StopTest, StopsAChildWithoutADescriptor) {
  absl::StatusOr<ExitQueue> queue = ExitQueue::Create();
  ASSERT_THAT(queue, IsOk());
  Gate gate;
  Stop stop = MustBegin(
      Living(gate, /*stubborn=*/true, {.exit_signal = queue->signo()}),
      {.steps = {{SIGTERM, kShort}, {SIGKILL, kLong}}});
  EXPECT_EQ(Finish(stop).status, ExitStatus::Killed(SIGKILL));
}

// A child that leads a group in which there is another process.
Child Family(Gate& gate, bool stubborn_grandchild) {
  Gate ready;
  Child leader = MustFork({.new_process_group = true}, [&] {
    Gate grandchild_ready;
    if (fork() == 0) {
      if (stubborn_grandchild) (void)std::signal(SIGTERM, SIG_IGN);
      grandchild_ready.Open();
      ready.Open();
      gate.Wait();
      _exit(0);
    }
    grandchild_ready.Wait();
    ready.Open();
    gate.Wait();
    return 0;
  });
  ready.Wait();
  return leader;
}

// Orphans come here, and not to a process outside of the test.
class StopGroupTest : public testing::Test {
 protected:
  StopGroupTest() { (void)prctl(PR_SET_CHILD_SUBREAPER, 1); }
  ~StopGroupTest() override {
    (void)prctl(PR_SET_CHILD_SUBREAPER, 0);
    // The grandchild, whom nobody else knows.
    (void)RetryOnEintr([&] { return waitpid(-1, &orphan_status_, 0); });
  }

  int orphan_status_ = 0;
};

TEST_F(StopGroupTest, StopsTheWholeGroup) {
  Gate gate;
  Stop stop = MustBegin(Family(gate, /*stubborn_grandchild=*/false),
                        {.steps = {{SIGTERM, kLong}}, .whole_group = true});
  const Stop::Result result = Finish(stop);
  EXPECT_EQ(result.status, ExitStatus::Killed(SIGTERM));
  EXPECT_FALSE(result.group_remains);
}

TEST_F(StopGroupTest, GoesOnUntilNobodyOfTheGroupIsLeft) {
  Gate gate;
  Stop stop = MustBegin(
      Family(gate, /*stubborn_grandchild=*/true),
      {.steps = {{SIGTERM, kShort}, {SIGKILL, kLong}}, .whole_group = true});
  const Stop::Result result = Finish(stop);
  EXPECT_EQ(result.status, ExitStatus::Killed(SIGTERM));
  EXPECT_EQ(result.signo, SIGKILL);
  EXPECT_FALSE(result.group_remains);
}

TEST_F(StopGroupTest, SaysThatSomebodyOfTheGroupIsLeft) {
  Gate gate;
  Stop stop = MustBegin(Family(gate, /*stubborn_grandchild=*/true),
                        {.steps = {{SIGTERM, kShort}}, .whole_group = true});
  const Stop::Result result = Finish(stop);
  EXPECT_EQ(result.status, ExitStatus::Killed(SIGTERM));
  EXPECT_TRUE(result.group_remains);
  gate.Open();
}

TEST(StopTest, GivesTheChildBackIfItOutlivesAllSteps) {
  TracedChild traced;
  if (!traced.permitted()) GTEST_SKIP() << "ptrace is not permitted";
  traced.Die();
  Stop stop = MustBegin(std::move(traced.child()),
                        {.steps = {{SIGTERM, kShort}, {SIGKILL, kShort}}});
  const Stop::Result result = Finish(stop);
  EXPECT_EQ(result.status, std::nullopt);
  EXPECT_EQ(result.signo, SIGKILL);
  traced.LetGo();
  EXPECT_THAT(std::move(stop).Release().Wait(),
              IsOkAndHolds(ExitStatus::Exited(9)));
}

TEST(StopTest, NoticesWhenATracerLetsGo) {
  TracedChild traced;
  if (!traced.permitted()) GTEST_SKIP() << "ptrace is not permitted";
  traced.Die();
  Stop stop =
      MustBegin(std::move(traced.child()), {.steps = {{SIGKILL, kLong}}});
  traced.LetGo();
  EXPECT_EQ(Finish(stop).status, ExitStatus::Exited(9));
}

TEST(StopTest, GivesTheFirstStepItsPatienceBeforeALastOneWithoutEnd) {
  Gate gate;
  Stop stop = MustBegin(
      Living(gate, /*stubborn=*/false),
      {.steps = {{SIGTERM, kLong}, {SIGKILL, absl::InfiniteDuration()}},
       .deadline = absl::Now() + kLong});
  const Stop::Result result = Finish(stop);
  EXPECT_EQ(result.status, ExitStatus::Killed(SIGTERM));
  EXPECT_EQ(result.signo, SIGTERM);
}

TEST(StopTest, GoesOnWhenASignalIsForbidden) {
  const absl::StatusOr<ExitStatus> status = [] {
    Child parent = MustFork({}, [] {
      Gate gate;
      Child child = Living(gate, /*stubborn=*/true);
      DenySyscalls({SYS_pidfd_send_signal}, EPERM);
      Stop stop = MustBegin(std::move(child),
                            {.steps = {{SIGTERM, kShort}, {SIGKILL, kShort}}});
      const Stop::Result result = Finish(stop);
      if (result.status.has_value() || ErrnoOf(result.trouble) != EPERM) {
        return 1;
      }
      Child back = std::move(stop).Release();
      gate.Open();
      return back.Wait().ok() ? 0 : 2;
    });
    return parent.Wait();
  }();
  EXPECT_THAT(status, IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST_F(StopGroupTest, SignalsNoStrangerWhenTheLeaderWasStolen) {
  Gate gate;
  const pid_t pid = fork();
  ASSERT_NE(pid, -1);
  if (pid == 0) {
    (void)setpgid(0, 0);
    if (fork() == 0) {
      gate.Wait();
      _exit(0);
    }
    gate.Wait();
    _exit(0);
  }
  (void)setpgid(pid, pid);
  absl::StatusOr<Child> child = Child::Adopt(pid);
  ASSERT_THAT(child, IsOk());
  gate.Open();
  ASSERT_EQ(RetryOnEintr([&] { return waitpid(pid, nullptr, 0); }), pid);
  Gate stranger_gate;
  Child stranger = Living(stranger_gate, /*stubborn=*/false);
  absl::StatusOr<Stop> stop = Stop::Begin(
      *std::move(child), {.steps = {{SIGKILL, kShort}}, .whole_group = true});
  // Its group may be gone by then, and that is a reason to refuse.
  if (stop.ok()) (void)Finish(*stop);
  EXPECT_THAT(stranger.TryWait(), IsOkAndHolds(std::nullopt));
}

TEST(StopTest, RefusesPlansThatMeanNothing) {
  Gate gate;
  Child child = Living(gate, /*stubborn=*/false);
  const auto begin = [&](StopPlan plan) {
    return Stop::Begin(std::move(child), std::move(plan)).status();
  };
  EXPECT_THAT(begin({.steps = {}}), StatusIs(absl::StatusCode::kInvalidArgument,
                                             HasSubstr("no steps")));
  EXPECT_THAT(begin({.steps = {{SIGTERM, kShort}, {99, kShort}}}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("steps[1]: 99 is no signal")));
  EXPECT_THAT(begin({.steps = {{SIGTERM, -kShort}}}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("steps[0]: the patience -20ms")));
  EXPECT_THAT(begin({.whole_group = true}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("it leads none")));
  EXPECT_THAT(child.TryWait(), IsOkAndHolds(std::nullopt));  // Still ours.
}

}  // namespace
}  // namespace brood
