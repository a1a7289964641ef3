// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/child.h"

#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <ctime>
#include <optional>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "brood/proc/exit_queue.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/tests/deny_syscalls.h"
#include "brood/tests/gate.h"
#include "brood/tests/kernel_release.h"
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

constexpr int kNever = 99;

absl::StatusOr<ExitStatus> RunFor(absl::Duration limit, Child child) {
  absl::StatusOr<std::optional<ExitStatus>> status =
      child.WaitUntil(absl::Now() + limit);
  if (!status.ok()) return status.status();
  if (status->has_value()) return **status;
  if (absl::Status s = child.Signal(SIGKILL); !s.ok()) return s;
  return child.Wait();
}

// A child that does nothing until it is killed or `gate` opens, then exits 99.
Child Idle(Gate& gate) {
  absl::StatusOr<Child> child = Fork({}, [&] {
    gate.Wait();
    return kNever;
  });
  EXPECT_THAT(child, IsOk());
  return *std::move(child);
}

Child Exiting(int code) {
  absl::StatusOr<Child> child = Fork({}, [=] { return code; });
  EXPECT_THAT(child, IsOk());
  return *std::move(child);
}

// 0 if nobody owes a wait for `pid` any more, or never did.
bool Exists(pid_t pid) { return kill(pid, 0) == 0; }

TEST(ChildTest, HeaderExample) {
  EXPECT_THAT(RunFor(absl::Hours(1), Exiting(7)),
              IsOkAndHolds(ExitStatus::Exited(7)));
  Gate gate;
  EXPECT_THAT(RunFor(absl::ZeroDuration(), Idle(gate)),
              IsOkAndHolds(ExitStatus::Killed(SIGKILL)));
}

TEST(ChildTest, WaitsUntilTheProcessHasEnded) {
  Child child = Exiting(3);
  absl::StatusOr<ExitStatus> status = child.Wait();
  ASSERT_THAT(status, IsOkAndHolds(ExitStatus::Exited(3)));
  EXPECT_TRUE(status->usage().has_value());
  EXPECT_GT(status->usage()->max_resident_bytes, 0);
}

TEST(ChildTest, TriesWithoutBlocking) {
  Gate gate;
  Child child = Idle(gate);
  EXPECT_THAT(child.TryWait(), IsOkAndHolds(std::nullopt));
  gate.Open();
  EXPECT_THAT(PollUntil(child.fd(), POLLIN, absl::InfiniteFuture()),
              IsOkAndHolds(true));
  EXPECT_THAT(child.TryWait(),
              IsOkAndHolds(Optional(ExitStatus::Exited(kNever))));
}

TEST(ChildTest, AnswersTheSameWhenAskedAgain) {
  Child child = Exiting(5);
  EXPECT_THAT(child.Wait(), IsOkAndHolds(ExitStatus::Exited(5)));
  EXPECT_THAT(child.Wait(), IsOkAndHolds(ExitStatus::Exited(5)));
  EXPECT_THAT(child.TryWait(), IsOkAndHolds(Optional(ExitStatus::Exited(5))));
}

TEST(ChildTest, WaitsNoLongerThanTheDeadline) {
  Gate gate;
  Child child = Idle(gate);
  EXPECT_THAT(child.WaitUntil(absl::InfinitePast()),
              IsOkAndHolds(std::nullopt));
  EXPECT_THAT(child.WaitUntil(absl::Now() + absl::Milliseconds(5)),
              IsOkAndHolds(std::nullopt));
}

TEST(ChildTest, IsReadableOnceTheProcessHasEndedAndStaysSo) {
  Child child = Exiting(0);
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(PollUntil(child.fd(), POLLIN, absl::InfiniteFuture()),
                IsOkAndHolds(true));
    EXPECT_THAT(child.Wait(), IsOk());
  }
}

TEST(ChildTest, TellsAStopFromAnEnd) {
  Gate gate;
  Child child = Idle(gate);
  ASSERT_THAT(child.Signal(SIGSTOP), IsOk());
  siginfo_t info = {};
  ASSERT_EQ(waitid(P_PID, child.pid(), &info, WSTOPPED | __WALL), 0);
  EXPECT_THAT(child.TryWait(), IsOkAndHolds(std::nullopt));
  ASSERT_THAT(child.Signal(SIGKILL), IsOk());
  EXPECT_THAT(child.Wait(), IsOkAndHolds(ExitStatus::Killed(SIGKILL)));
}

TEST(ChildTest, RefusesToSignalAProcessThatHasEnded) {
  Child child = Exiting(0);
  ASSERT_THAT(child.Wait(), IsOk());
  EXPECT_THAT(child.Signal(SIGTERM),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("ESRCH")));
}

TEST(ChildTest, NamesASignalThatDoesNotExist) {
  Gate gate;
  Child child = Idle(gate);
  EXPECT_THAT(child.Signal(99), StatusIs(absl::StatusCode::kInvalidArgument,
                                         HasSubstr("send signal 99")));
}

TEST(ChildTest, KillsAndReapsWhenDestroyed) {
  Gate gate;
  pid_t pid;
  {
    Child child = Idle(gate);
    pid = child.pid();
    ASSERT_TRUE(Exists(pid));
  }
  EXPECT_FALSE(Exists(pid));
}

TEST(ChildTest, KillsAndReapsWhenAssignedTo) {
  Gate gate;
  Child child = Idle(gate);
  const pid_t first = child.pid();
  child = Idle(gate);
  EXPECT_FALSE(Exists(first));
  EXPECT_TRUE(Exists(child.pid()));
}

TEST(ChildTest, LetsGoOfTheProcessItReleases) {
  Gate gate;
  const pid_t pid = Idle(gate).Release();
  ASSERT_TRUE(Exists(pid));
  gate.Open();
  int status;
  ASSERT_EQ(RetryOnEintr([&] { return waitpid(pid, &status, __WALL); }), pid);
  EXPECT_EQ(WEXITSTATUS(status), kNever);
}

TEST(ChildTest, CannotBeTakenByAWaitForAnyChild) {
  Child child = Exiting(7);
  ASSERT_THAT(PollUntil(child.fd(), POLLIN, absl::InfiniteFuture()),
              IsOkAndHolds(true));
  int status;
  EXPECT_EQ(waitpid(-1, &status, 0), -1);
  EXPECT_THAT(child.Wait(), IsOkAndHolds(ExitStatus::Exited(7)));
}

TEST(ChildTest, TellsTheTrueStatusWhenTheProgramIgnoresSigchld) {
  struct sigaction ignore = {};
  ignore.sa_handler = SIG_IGN;
  struct sigaction old;
  ASSERT_EQ(sigaction(SIGCHLD, &ignore, &old), 0);
  EXPECT_THAT(Exiting(7).Wait(), IsOkAndHolds(ExitStatus::Exited(7)));
  ASSERT_EQ(sigaction(SIGCHLD, &old, nullptr), 0);
}

// A child such as the rest of the world makes, which anybody can take.
Child OrdinaryChild(int wait_status) {
  const pid_t pid = fork();
  EXPECT_NE(pid, -1);
  if (pid == 0) {
    if (WIFSIGNALED(wait_status)) raise(WTERMSIG(wait_status));
    _exit(WEXITSTATUS(wait_status));
  }
  absl::StatusOr<Child> child = Child::Adopt(pid);
  EXPECT_THAT(child, IsOk());
  return *std::move(child);
}

TEST(ChildTest, TellsTheTrueStatusWhenSomebodyElseHasReaped) {
  if (!KernelIsAtLeast(6, 15)) GTEST_SKIP() << "needs Linux 6.15";
  for (const int wait_status : {0, 7 << 8, SIGKILL, SIGTERM}) {
    Child child = OrdinaryChild(wait_status);
    int status;
    ASSERT_EQ(RetryOnEintr([&] { return waitpid(-1, &status, 0); }),
              child.pid());
    ASSERT_EQ(status, wait_status);
    absl::StatusOr<ExitStatus> told = child.Wait();
    EXPECT_THAT(told, IsOkAndHolds(ExitStatus::FromWaitStatus(wait_status)));
    EXPECT_FALSE(told->usage().has_value());
    EXPECT_THAT(child.Signal(SIGTERM), StatusIs(absl::StatusCode::kNotFound));
  }
}

TEST(ChildTest, SaysLostWhenTheKernelDoesNotTellAfterwards) {
  absl::StatusOr<Child> old_kernel = Fork({}, [] {
    DenySyscalls({SYS_ioctl}, ENOTTY);
    Child child = OrdinaryChild(7 << 8);
    (void)RetryOnEintr([&] { return waitpid(child.pid(), nullptr, 0); });
    const absl::StatusOr<ExitStatus> status = child.Wait();
    return status.ok() && *status == ExitStatus::Lost() ? 0 : 1;
  });
  ASSERT_THAT(old_kernel, IsOk());
  EXPECT_THAT(old_kernel->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(ChildTest, WaitsOnlyUntilTheDeadlineForAChildThatATracerHolds) {
  TracedChild traced;
  if (!traced.permitted()) GTEST_SKIP() << "ptrace is not permitted";
  traced.Die();
  EXPECT_THAT(traced.child().TryWait(), IsOkAndHolds(std::nullopt));
  const std::clock_t before = std::clock();
  EXPECT_THAT(traced.child().WaitUntil(absl::Now() + absl::Milliseconds(200)),
              IsOkAndHolds(std::nullopt));
  // Without turning round and round.
  EXPECT_LT(std::clock() - before, CLOCKS_PER_SEC / 10);
  traced.LetGo();
  EXPECT_THAT(traced.child().WaitUntil(absl::InfiniteFuture()),
              IsOkAndHolds(Optional(ExitStatus::Exited(9))));
}

TEST(ChildTest, PutsAsideADroppedChildThatATracerHolds) {
  TracedChild traced;
  if (!traced.permitted()) GTEST_SKIP() << "ptrace is not permitted";
  traced.Die();
  const pid_t pid = traced.child().pid();
  { const Child dropped = std::move(traced.child()); }
  EXPECT_EQ(ReapDropped(), 1);
  EXPECT_TRUE(Exists(pid));
  traced.LetGo();
  EXPECT_EQ(ReapDropped(), 0);
  EXPECT_FALSE(Exists(pid));
}

TEST(ChildTest, DropsWithoutWaitingAtAll) {
  Gate gate;
  Child child = Idle(gate);
  const pid_t pid = child.pid();
  std::move(child).Drop(absl::InfinitePast());
  EXPECT_THAT(child.TryWait(),  // NOLINT(bugprone-use-after-move)
              StatusIs(absl::StatusCode::kFailedPrecondition));
  siginfo_t info = {};
  (void)waitid(P_PID, pid, &info, WEXITED | WNOWAIT | __WALL);
  EXPECT_EQ(ReapDropped(), 0);
  EXPECT_FALSE(Exists(pid));
}

TEST(ChildTest, ReapsWhatWasPutAsideWhenTheNextChildIsMade) {
  TracedChild traced;
  if (!traced.permitted()) GTEST_SKIP() << "ptrace is not permitted";
  traced.Die();
  const pid_t pid = traced.child().pid();
  { const Child dropped = std::move(traced.child()); }
  traced.LetGo();
  EXPECT_THAT(Exiting(0).Wait(), IsOk());
  EXPECT_FALSE(Exists(pid));
}

// A child without a descriptor does all that one with a descriptor does.
class ChildWithExitSignalTest : public testing::Test {
 protected:
  Child Start(absl::FunctionRef<int()> body) {
    absl::StatusOr<Child> child = Fork({.exit_signal = queue_->signo()}, body);
    EXPECT_THAT(child, IsOk());
    EXPECT_EQ(child->fd(), -1);
    return *std::move(child);
  }

  absl::StatusOr<ExitQueue> queue_ = ExitQueue::Create();
};

TEST_F(ChildWithExitSignalTest, Waits) {
  EXPECT_THAT(Start([] { return 3; }).Wait(),
              IsOkAndHolds(ExitStatus::Exited(3)));
}

TEST_F(ChildWithExitSignalTest, WaitsUntilTheDeadline) {
  Gate gate;
  Child child = Start([&] {
    gate.Wait();
    return 4;
  });
  EXPECT_THAT(child.TryWait(), IsOkAndHolds(std::nullopt));
  EXPECT_THAT(child.WaitUntil(absl::Now() + absl::Milliseconds(5)),
              IsOkAndHolds(std::nullopt));
  gate.Open();
  EXPECT_THAT(child.WaitUntil(absl::InfiniteFuture()),
              IsOkAndHolds(Optional(ExitStatus::Exited(4))));
}

TEST_F(ChildWithExitSignalTest, WaitsUntilTheDeadlineWithoutPidfds) {
  Child sandboxed = Start([&] {
    DenySyscalls({SYS_pidfd_open}, EPERM);
    const pid_t pid = fork();
    if (pid == 0) _exit(4);
    Child child(pid, SIGCHLD);
    absl::StatusOr<std::optional<ExitStatus>> status =
        child.WaitUntil(absl::InfiniteFuture());
    return status.ok() && *status == ExitStatus::Exited(4) ? 0 : 1;
  });
  EXPECT_THAT(sandboxed.Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST_F(ChildWithExitSignalTest, IsSignalledAndNotSignalledAfterItsEnd) {
  Gate gate;
  Child child = Start([&] {
    gate.Wait();
    return 0;
  });
  EXPECT_THAT(child.Signal(SIGTERM), IsOk());
  EXPECT_THAT(child.Wait(), IsOkAndHolds(ExitStatus::Killed(SIGTERM)));
  EXPECT_THAT(child.Signal(SIGTERM), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(ChildWithExitSignalTest, IsKilledAndReapedWhenDestroyed) {
  Gate gate;
  pid_t pid;
  {
    const Child child = Start([&] {
      gate.Wait();
      return 0;
    });
    pid = child.pid();
  }
  EXPECT_FALSE(Exists(pid));
}

TEST(ChildTest, NeitherKillsNorWaitsInAForkedCopy) {
  Gate gate;
  std::optional<Child> child = Idle(gate);
  absl::StatusOr<Child> other = Fork({}, [&] {
    if (child->Wait().status().code() !=
        absl::StatusCode::kFailedPrecondition) {
      return 1;
    }
    if (child->Signal(SIGKILL).code() !=
        absl::StatusCode::kFailedPrecondition) {
      return 2;
    }
    child.reset();
    return 0;
  });
  ASSERT_THAT(other, IsOk());
  EXPECT_THAT(other->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
  EXPECT_THAT(child->TryWait(), IsOkAndHolds(std::nullopt));
}

TEST(ChildTest, AdoptsAChildThatSomethingElseStarted) {
  const pid_t pid = fork();
  ASSERT_NE(pid, -1);
  if (pid == 0) _exit(4);
  absl::StatusOr<Child> child = Child::Adopt(pid);
  ASSERT_THAT(child, IsOk());
  EXPECT_EQ(child->pid(), pid);
  EXPECT_THAT(child->Wait(), IsOkAndHolds(ExitStatus::Exited(4)));
}

TEST(ChildTest, AdoptsNoStranger) {
  EXPECT_THAT(Child::Adopt(0),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("pid 0")));
  EXPECT_THAT(Child::Adopt(-1), StatusIs(absl::StatusCode::kInvalidArgument));
  const absl::StatusOr<Child> self = Child::Adopt(getpid());
  EXPECT_EQ(ErrnoOf(self.status()), ECHILD) << self.status();
}

}  // namespace
}  // namespace brood
