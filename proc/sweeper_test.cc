// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/sweeper.h"

#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/log/check.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/posix.h"
#include "brood/tests/gate.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::HasSubstr;

Sweeper* children = nullptr;

void OnChild(int) { children->Sweep(); }  // By sigaction(SIGCHLD, ...).

absl::StatusOr<Sweeper::Exit> AwaitExit(Sweeper& sweeper) {
  while (true) {
    const std::optional<Sweeper::Exit> exit = sweeper.Next();
    if (exit.has_value()) return *exit;
    const absl::StatusOr<bool> ready =
        PollUntil(sweeper.fd(), POLLIN, absl::InfiniteFuture());
    if (!ready.ok()) return ready.status();
  }
}

// As programs that have a handler start their children.
pid_t ForkClassically(absl::FunctionRef<int()> body) {
  const pid_t pid = fork();
  CHECK_NE(pid, -1);
  if (pid == 0) _exit(body());
  return pid;
}

Sweeper MustCreate(size_t capacity) {
  absl::StatusOr<Sweeper> sweeper = Sweeper::Create(capacity);
  CHECK_OK(sweeper);
  return *std::move(sweeper);
}

// Blocks until `pid`, a child, has ended, and leaves it a zombie.
void AwaitEnd(pid_t pid) {
  siginfo_t info;
  CHECK_EQ(RetryOnEintr([&] {
             return waitid(P_PID, pid, &info, WEXITED | WNOWAIT | __WALL);
           }),
           0);
}

bool Readable(const Sweeper& sweeper) {
  return *PollUntil(sweeper.fd(), POLLIN, absl::InfinitePast());
}

Sweeper::Exit NextExit(Sweeper& sweeper) {
  const absl::StatusOr<Sweeper::Exit> exit = AwaitExit(sweeper);
  CHECK_OK(exit);
  return *exit;
}

// SIGCHLD sweeps `sweeper` for as long as this lasts.
class SweepOnSigchld {
 public:
  explicit SweepOnSigchld(Sweeper& sweeper) {
    children = &sweeper;
    struct sigaction action = {};
    action.sa_handler = OnChild;
    action.sa_flags = SA_RESTART | SA_NOCLDSTOP;
    CHECK_EQ(sigaction(SIGCHLD, &action, &before_), 0);
  }
  ~SweepOnSigchld() { (void)sigaction(SIGCHLD, &before_, nullptr); }

 private:
  struct sigaction before_;
};

TEST(SweeperTest, HeaderExample) {
  Sweeper sweeper = MustCreate(1);
  const SweepOnSigchld on_sigchld(sweeper);
  const pid_t pid = ForkClassically([] { return 7; });
  ASSERT_THAT(sweeper.Add(pid, 1), IsOk());
  EXPECT_THAT(AwaitExit(sweeper),
              IsOkAndHolds(Sweeper::Exit{pid, 1, ExitStatus::Exited(7)}));
}

TEST(SweeperTest, SaysWhoseChildEndedAndHow) {
  Sweeper sweeper = MustCreate(2);
  const SweepOnSigchld on_sigchld(sweeper);
  Gate gate;
  const pid_t first = ForkClassically([&] {
    gate.Wait();
    return 7;
  });
  const pid_t second = ForkClassically([&] {
    gate.Wait();
    (void)raise(SIGKILL);
    return 0;
  });
  ASSERT_THAT(sweeper.Add(first, 10), IsOk());
  ASSERT_THAT(sweeper.Add(second, 20), IsOk());
  EXPECT_EQ(sweeper.size(), 2);
  EXPECT_FALSE(Readable(sweeper));
  EXPECT_EQ(sweeper.Next(), std::nullopt);
  gate.Open();
  std::map<uint64_t, Sweeper::Exit> ends;
  for (int i = 0; i < 2; ++i) {
    const Sweeper::Exit exit = NextExit(sweeper);
    EXPECT_TRUE(exit.status.usage().has_value());
    ends.emplace(exit.tag, exit);
  }
  EXPECT_EQ(ends.at(10), (Sweeper::Exit{first, 10, ExitStatus::Exited(7)}));
  EXPECT_EQ(ends.at(20),
            (Sweeper::Exit{second, 20, ExitStatus::Killed(SIGKILL)}));
  EXPECT_EQ(sweeper.Next(), std::nullopt);
  EXPECT_FALSE(Readable(sweeper));
  EXPECT_EQ(sweeper.size(), 0);
}

TEST(SweeperTest, LosesNoneOfThoseThatCoalesceIntoOneSignal) {
  constexpr int kChildren = 100;
  Sweeper sweeper = MustCreate(kChildren);
  sigset_t chld;
  sigset_t before;
  sigemptyset(&chld);
  sigaddset(&chld, SIGCHLD);
  ASSERT_EQ(sigprocmask(SIG_BLOCK, &chld, &before), 0);
  {
    const SweepOnSigchld on_sigchld(sweeper);
    Gate gate;
    std::vector<pid_t> pids;
    for (int i = 0; i < kChildren; ++i) {
      pids.push_back(ForkClassically([&, i] {
        gate.Wait();
        return i;
      }));
      ASSERT_THAT(sweeper.Add(pids.back(), i), IsOk());
    }
    gate.Open();
    for (const pid_t pid : pids) AwaitEnd(pid);
    EXPECT_EQ(sweeper.Next(), std::nullopt);
    // One signal is pending; its handler runs before this returns.
    ASSERT_EQ(sigprocmask(SIG_SETMASK, &before, nullptr), 0);
    for (int i = 0; i < kChildren; ++i) {
      const std::optional<Sweeper::Exit> exit = sweeper.Next();
      ASSERT_TRUE(exit.has_value());
      EXPECT_EQ(exit->pid, pids[exit->tag]);
      EXPECT_EQ(exit->status, ExitStatus::Exited(static_cast<int>(exit->tag)));
    }
  }
  EXPECT_EQ(sweeper.size(), 0);
}

TEST(SweeperTest, SeesAChildThatEndedBeforeItWasAdded) {
  Sweeper sweeper = MustCreate(1);
  const pid_t pid = ForkClassically([] { return 3; });
  AwaitEnd(pid);
  // There is no handler at all.
  ASSERT_THAT(sweeper.Add(pid, 0), IsOk());
  EXPECT_TRUE(Readable(sweeper));
  EXPECT_EQ(NextExit(sweeper).status, ExitStatus::Exited(3));
}

TEST(SweeperTest, TakesNoChildItWasNotGiven) {
  Sweeper sweeper = MustCreate(2);
  const pid_t foreign = ForkClassically([] { return 9; });
  AwaitEnd(foreign);
  const pid_t pid = ForkClassically([] { return 1; });
  AwaitEnd(pid);
  ASSERT_THAT(sweeper.Add(pid, 0), IsOk());
  sweeper.Sweep();
  EXPECT_EQ(NextExit(sweeper).pid, pid);
  EXPECT_EQ(sweeper.Next(), std::nullopt);
  int status;
  ASSERT_EQ(waitpid(foreign, &status, 0), foreign);
  EXPECT_EQ(WEXITSTATUS(status), 9);
}

TEST(SweeperTest, ReapsAChildThatSendsNoSigchld) {
  Sweeper sweeper = MustCreate(1);
  Gate gate;
  clone_args args = {};
  const pid_t pid = static_cast<pid_t>(syscall(SYS_clone3, &args, sizeof args));
  if (pid == 0) {
    gate.Wait();
    _exit(4);
  }
  ASSERT_GT(pid, 0);
  ASSERT_THAT(sweeper.Add(pid, 0), IsOk());
  gate.Open();
  AwaitEnd(pid);
  EXPECT_EQ(sweeper.Next(), std::nullopt);
  sweeper.Sweep();
  EXPECT_EQ(NextExit(sweeper).status, ExitStatus::Exited(4));
}

TEST(SweeperTest, TellsAStopFromAnEnd) {
  Sweeper sweeper = MustCreate(1);
  Gate gate;
  const pid_t pid = ForkClassically([&] {
    gate.Wait();
    return 0;
  });
  ASSERT_THAT(sweeper.Add(pid, 0), IsOk());
  ASSERT_EQ(kill(pid, SIGSTOP), 0);
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, pid, &info, WSTOPPED | WNOWAIT), 0);
  sweeper.Sweep();
  EXPECT_EQ(sweeper.Next(), std::nullopt);
  ASSERT_EQ(kill(pid, SIGKILL), 0);
  AwaitEnd(pid);
  sweeper.Sweep();
  EXPECT_EQ(NextExit(sweeper).status, ExitStatus::Killed(SIGKILL));
}

TEST(SweeperTest, ReportsAChildThatSomebodyElseReapedAsLost) {
  Sweeper sweeper = MustCreate(1);
  Gate gate;
  const pid_t pid = ForkClassically([&] {
    gate.Wait();
    return 0;
  });
  ASSERT_THAT(sweeper.Add(pid, 5), IsOk());
  gate.Open();
  ASSERT_EQ(RetryOnEintr([&] { return waitpid(-1, nullptr, 0); }), pid);
  sweeper.Sweep();
  EXPECT_EQ(NextExit(sweeper), (Sweeper::Exit{pid, 5, ExitStatus::Lost()}));
}

TEST(SweeperTest, IsFullUntilAnEndHasBeenYielded) {
  Sweeper sweeper = MustCreate(1);
  const pid_t first = ForkClassically([] { return 1; });
  const pid_t second = ForkClassically([] { return 2; });
  AwaitEnd(first);
  ASSERT_THAT(sweeper.Add(first, 1), IsOk());
  sweeper.Sweep();
  EXPECT_THAT(
      sweeper.Add(second, 2),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("capacity")));
  EXPECT_EQ(NextExit(sweeper).tag, 1);
  AwaitEnd(second);
  ASSERT_THAT(sweeper.Add(second, 2), IsOk());
  EXPECT_EQ(NextExit(sweeper),
            (Sweeper::Exit{second, 2, ExitStatus::Exited(2)}));
}

TEST(SweeperTest, LeavesErrnoAlone) {
  Sweeper sweeper = MustCreate(1);
  const pid_t pid = ForkClassically([] { return 0; });
  ASSERT_THAT(sweeper.Add(pid, 0), IsOk());
  ASSERT_TRUE(waitpid(pid, nullptr, 0) == pid || errno == ECHILD);
  errno = EDOM;
  sweeper.Sweep();  // Meets ECHILD, unless Add() did.
  EXPECT_EQ(errno, EDOM);
  EXPECT_EQ(NextExit(sweeper).pid, pid);
}

TEST(SweeperTest, RefusesWhatIsNoChild) {
  Sweeper sweeper = MustCreate(1);
  EXPECT_THAT(sweeper.Add(0, 0), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(sweeper.Add(-1, 0), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(ErrnoOf(sweeper.Add(getpid(), 0)), ECHILD);
  EXPECT_EQ(sweeper.size(), 0);
  EXPECT_THAT(Sweeper::Create(0), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(SweeperTest, DoesNothingInAForkedCopy) {
  Sweeper sweeper = MustCreate(1);
  Gate gate;
  const pid_t pid = ForkClassically([&] {
    gate.Wait();
    return 6;
  });
  ASSERT_THAT(sweeper.Add(pid, 0), IsOk());
  const pid_t copy = ForkClassically([&] {
    sweeper.Sweep();  // Has no such child.
    return sweeper.Next().has_value() ? 1 : 0;
  });
  int status;
  ASSERT_EQ(RetryOnEintr([&] { return waitpid(copy, &status, 0); }), copy);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_FALSE(Readable(sweeper));
  gate.Open();
  AwaitEnd(pid);
  sweeper.Sweep();
  EXPECT_EQ(NextExit(sweeper).status, ExitStatus::Exited(6));
}

TEST(SweeperTest, YieldsEachEndOnceWhenHandlerAndProgramSweepAtOnce) {
  constexpr uint64_t kChildren = 1000;
  constexpr size_t kCapacity = 16;
  Sweeper sweeper = MustCreate(kCapacity);
  const SweepOnSigchld on_sigchld(sweeper);
  std::vector<pid_t> pids;
  std::vector<int> seen(kChildren, 0);
  uint64_t yielded = 0;
  const auto note = [&](const Sweeper::Exit& exit) {
    ++seen[exit.tag];
    ++yielded;
    EXPECT_EQ(exit.pid, pids[exit.tag]);
    EXPECT_EQ(exit.status, ExitStatus::Exited(exit.tag % 256));
  };
  for (uint64_t i = 0; i < kChildren; ++i) {
    while (sweeper.size() == kCapacity) note(NextExit(sweeper));
    pids.push_back(ForkClassically([=] { return static_cast<int>(i % 256); }));
    ASSERT_THAT(sweeper.Add(pids.back(), i), IsOk());
    sweeper.Sweep();
    while (const std::optional<Sweeper::Exit> exit = sweeper.Next()) {
      note(*exit);
    }
  }
  // From here on the handler alone brings them.
  while (sweeper.size() > 0) note(NextExit(sweeper));
  EXPECT_EQ(yielded, kChildren);
  for (uint64_t i = 0; i < kChildren; ++i) EXPECT_EQ(seen[i], 1) << i;
}

TEST(SweeperTest, YieldsEachEndOnceWhenAnotherThreadSweepsToo) {
  constexpr uint64_t kChildren = 200;
  constexpr size_t kCapacity = 8;
  Sweeper sweeper = MustCreate(kCapacity);
  struct Work {
    Sweeper* sweeper;
    std::atomic<bool> done = false;
  } work = {&sweeper};
  const auto sweep = [](void* argument) -> void* {
    Work* of_thread = static_cast<Work*>(argument);
    while (!of_thread->done) of_thread->sweeper->Sweep();
    return nullptr;
  };
  pthread_t thread;
  ASSERT_EQ(pthread_create(&thread, nullptr, sweep, &work), 0);
  std::vector<int> seen(kChildren, 0);
  for (uint64_t i = 0; i < kChildren; ++i) {
    while (sweeper.size() == kCapacity) ++seen[NextExit(sweeper).tag];
    const pid_t pid = ForkClassically([] { return 0; });
    EXPECT_THAT(sweeper.Add(pid, i), IsOk());
  }
  while (sweeper.size() > 0) ++seen[NextExit(sweeper).tag];
  work.done = true;
  ASSERT_EQ(pthread_join(thread, nullptr), 0);
  for (uint64_t i = 0; i < kChildren; ++i) EXPECT_EQ(seen[i], 1) << i;
}

}  // namespace
}  // namespace brood
