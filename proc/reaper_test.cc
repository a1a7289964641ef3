// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/reaper.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/log/log.h"
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
using ::testing::AnyOf;
using ::testing::Ne;

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

// The ways by which a Reaper can hear of an end.
enum class Way {
  kPidfd,      // The child has one.
  kExitQueue,  // It has none, and announces its end.
  kSilent,     // It has none and is like any other process.
};

class ReaperTest : public testing::TestWithParam<Way> {
 protected:
  static Reaper MakeReaper() {
    if (GetParam() == Way::kExitQueue) {
      absl::StatusOr<ExitQueue> queue = ExitQueue::Create();
      EXPECT_THAT(queue, IsOk());
      absl::StatusOr<Reaper> reaper = Reaper::Create(*std::move(queue));
      EXPECT_THAT(reaper, IsOk());
      return *std::move(reaper);
    }
    absl::StatusOr<Reaper> reaper = Reaper::Create();
    EXPECT_THAT(reaper, IsOk());
    return *std::move(reaper);
  }

  static Child MustFork(const Reaper& reaper, absl::FunctionRef<int()> body) {
    if (GetParam() == Way::kSilent) {
      const pid_t pid = fork();
      EXPECT_NE(pid, -1);
      if (pid == 0) _exit(body());
      return Child(pid, SIGCHLD);
    }
    absl::StatusOr<Child> child =
        Fork({.exit_signal = reaper.exit_signal()}, body);
    EXPECT_THAT(child, IsOk());
    EXPECT_EQ(child->fd() == -1, GetParam() == Way::kExitQueue);
    return *std::move(child);
  }
};

std::string NameOfWay(const testing::TestParamInfo<Way>& info) {
  switch (info.param) {
    case Way::kPidfd:
      return "Pidfd";
    case Way::kExitQueue:
      return "ExitQueue";
    case Way::kSilent:
      break;
  }
  return "Looking";
}

INSTANTIATE_TEST_SUITE_P(HearsOfItBy, ReaperTest,
                         testing::Values(Way::kPidfd, Way::kExitQueue,
                                         Way::kSilent),
                         NameOfWay);

bool Readable(const Reaper& reaper) {
  return *PollUntil(reaper.fd(), POLLIN, absl::InfinitePast());
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

// Returns when `pid` has ended and can be reaped.
void AwaitEnd(pid_t pid) {
  siginfo_t info = {};
  ASSERT_EQ(RetryOnEintr([&] {
              return waitid(P_PID, pid, &info, WEXITED | WNOWAIT | __WALL);
            }),
            0);
}

bool Exists(pid_t pid) { return kill(pid, 0) == 0; }

TEST_P(ReaperTest, HeaderExample) {
  Reaper reaper = MakeReaper();
  for (int i = 0; i < 3; ++i) {
    ASSERT_THAT(reaper.Add(MustFork(reaper, [=] { return i; }), 0), IsOk());
  }
  EXPECT_THAT(WaitForAll(reaper), IsOk());
}

TEST_P(ReaperTest, SaysWhoseChildEndedAndHow) {
  Reaper reaper = MakeReaper();
  Child child = MustFork(reaper, [] { return 7; });
  const pid_t pid = child.pid();
  ASSERT_THAT(reaper.Add(std::move(child), 1234), IsOk());
  EXPECT_EQ(reaper.size(), 1);
  const Reaper::Exit exit = NextExit(reaper);
  EXPECT_FALSE(reaper.Contains(pid));
  EXPECT_EQ(exit.pid, pid);
  EXPECT_EQ(exit.tag, 1234);
  EXPECT_EQ(exit.status, ExitStatus::Exited(7));
  EXPECT_TRUE(exit.status.usage().has_value());
  EXPECT_EQ(reaper.size(), 0);
}

TEST_P(ReaperTest, ReportsAnEndWithTheTagThatWasSetLast) {
  Reaper reaper = MakeReaper();
  Gate gate;
  Child child = MustFork(reaper, [&] {
    gate.Wait();
    return 7;
  });
  const pid_t pid = child.pid();
  ASSERT_THAT(reaper.Add(std::move(child), 1), IsOk());
  reaper.SetTag(pid, 2);
  reaper.SetTag(getpid(), 3);  // Nobody of these.
  gate.Open();
  const Reaper::Exit exit = NextExit(reaper);
  EXPECT_EQ(exit.pid, pid);
  EXPECT_EQ(exit.tag, 2);
}

TEST_P(ReaperTest, SetsTheTagOfAChildThatHadEndedWhenItWasAdded) {
  Reaper reaper = MakeReaper();
  Child child = MustFork(reaper, [] { return 7; });
  const pid_t pid = child.pid();
  AwaitEnd(pid);
  ASSERT_THAT(reaper.Add(std::move(child), 1), IsOk());
  reaper.SetTag(pid, 2);
  EXPECT_EQ(NextExit(reaper).tag, 2);
}

TEST_P(ReaperTest, ReportsEachExitOnceHoweverManyComeTogether) {
  constexpr int kChildren = 200;
  Reaper reaper = MakeReaper();
  Gate gate;
  std::map<uint64_t, pid_t> pids;
  for (int i = 0; i < kChildren; ++i) {
    Child child = MustFork(reaper, [&, i] {
      gate.Wait();
      return i;
    });
    pids[i] = child.pid();
    ASSERT_THAT(reaper.Add(std::move(child), i), IsOk());
  }
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
  EXPECT_THAT(reaper.Next(), IsOkAndHolds(std::nullopt));
}

TEST_P(ReaperTest, IsReadableUntilAllHaveBeenReported) {
  constexpr int kChildren = 5;
  Reaper reaper = MakeReaper();
  Gate gate;
  std::vector<pid_t> pids;
  for (int i = 0; i < kChildren; ++i) {
    Child child = MustFork(reaper, [&] {
      gate.Wait();
      return 0;
    });
    pids.push_back(child.pid());
    ASSERT_THAT(reaper.Add(std::move(child), i), IsOk());
  }
  gate.Open();
  for (const pid_t pid : pids) AwaitEnd(pid);
  (void)NextExit(reaper);
  for (int i = 1; i < kChildren; ++i) {
    EXPECT_TRUE(Readable(reaper));
    EXPECT_THAT(reaper.Next(), IsOkAndHolds(Ne(std::nullopt)));
  }
  EXPECT_THAT(reaper.Next(), IsOkAndHolds(std::nullopt));
  EXPECT_FALSE(Readable(reaper));
}

TEST_P(ReaperTest, TakesAChildThatHasAlreadyEnded) {
  Reaper reaper = MakeReaper();
  Child child = MustFork(reaper, [] { return 2; });
  AwaitEnd(child.pid());
  // Its announcement, if it made one, is lost on a Reaper that has no such
  // child yet.
  EXPECT_THAT(reaper.Next(), IsOkAndHolds(std::nullopt));
  ASSERT_THAT(reaper.Add(std::move(child), 0), IsOk());
  EXPECT_TRUE(Readable(reaper));
  EXPECT_EQ(NextExit(reaper).status, ExitStatus::Exited(2));
}

TEST_P(ReaperTest, TakesNoChildItWasNotGiven) {
  Reaper reaper = MakeReaper();
  Child foreign = MustFork(reaper, [] { return 9; });
  AwaitEnd(foreign.pid());
  ASSERT_THAT(reaper.Add(MustFork(reaper, [] { return 1; }), 0), IsOk());
  EXPECT_EQ(NextExit(reaper).status, ExitStatus::Exited(1));
  EXPECT_THAT(reaper.Next(), IsOkAndHolds(std::nullopt));
  EXPECT_THAT(foreign.Wait(), IsOkAndHolds(ExitStatus::Exited(9)));
}

TEST_P(ReaperTest, ReportsAStolenChildByItsTrueStatusOrAsLost) {
  Reaper reaper = MakeReaper();
  Gate gate;
  const pid_t pid = fork();
  ASSERT_NE(pid, -1);
  if (pid == 0) {
    gate.Wait();
    _exit(7);
  }
  const bool has_pidfd = GetParam() == Way::kPidfd;
  ASSERT_THAT(
      reaper.Add(has_pidfd ? *Child::Adopt(pid) : Child(pid, SIGCHLD), 5),
      IsOk());
  gate.Open();
  ASSERT_EQ(RetryOnEintr([&] { return waitpid(-1, nullptr, 0); }), pid);
  const Reaper::Exit exit = NextExit(reaper);
  EXPECT_EQ(exit.tag, 5);
  EXPECT_THAT(exit.status, AnyOf(ExitStatus::Exited(7), ExitStatus::Lost()));
  EXPECT_EQ(reaper.size(), 0);
}

// A child with this pid, which nobody has; -1 where that is not permitted.
pid_t ForkAs(pid_t pid, absl::FunctionRef<int()> body) {
  clone_args args = {};
  args.exit_signal = SIGCHLD;
  args.set_tid = reinterpret_cast<uintptr_t>(&pid);
  args.set_tid_size = 1;
  const long child = syscall(SYS_clone3, &args, sizeof(args));
  if (child == 0) _exit(body());
  return static_cast<pid_t>(child);
}

TEST_P(ReaperTest, TellsAStolenChildFromTheNextOneWithItsPid) {
  Reaper reaper = MakeReaper();
  const bool has_pidfd = GetParam() == Way::kPidfd;
  const auto child_of = [&](pid_t pid) {
    return has_pidfd ? *Child::Adopt(pid) : Child(pid, SIGCHLD);
  };
  Gate gate;
  const pid_t pid = fork();
  ASSERT_NE(pid, -1);
  if (pid == 0) {
    gate.Wait();
    _exit(7);
  }
  ASSERT_THAT(reaper.Add(child_of(pid), 1), IsOk());
  gate.Open();
  ASSERT_EQ(RetryOnEintr([&] { return waitpid(pid, nullptr, 0); }), pid);
  Gate second_gate;
  const pid_t second = ForkAs(pid, [&] {
    second_gate.Wait();
    return 8;
  });
  if (second == -1) {
    EXPECT_EQ(NextExit(reaper).tag, 1);
    GTEST_SKIP() << "to choose a pid is not permitted";
  }
  ASSERT_EQ(second, pid);
  ASSERT_THAT(reaper.Add(child_of(second), 2), IsOk());
  const Reaper::Exit first_exit = NextExit(reaper);
  EXPECT_EQ(first_exit.tag, 1);
  EXPECT_THAT(first_exit.status,
              AnyOf(ExitStatus::Exited(7), ExitStatus::Lost()));
  second_gate.Open();
  const Reaper::Exit second_exit = NextExit(reaper);
  EXPECT_EQ(second_exit.tag, 2);
  EXPECT_EQ(second_exit.status, ExitStatus::Exited(8));
}

TEST_P(ReaperTest, NeitherHangsNorSpinsOverADeadChildThatATracerHolds) {
  Reaper reaper = MakeReaper();
  TracedChild traced({.exit_signal = reaper.exit_signal()});
  if (!traced.permitted()) GTEST_SKIP() << "ptrace is not permitted";
  ASSERT_THAT(reaper.Add(std::move(traced.child()), 0), IsOk());
  traced.Die();
  // At most it finds out that there is nothing to report, and then is quiet.
  for (int i = 0; Readable(reaper); ++i) {
    ASSERT_LT(i, 3);
    EXPECT_THAT(reaper.Next(), IsOkAndHolds(std::nullopt));
  }
  // It goes on reporting others.
  ASSERT_THAT(reaper.Add(MustFork(reaper, [] { return 1; }), 1), IsOk());
  EXPECT_EQ(NextExit(reaper).status, ExitStatus::Exited(1));
  traced.LetGo();
  EXPECT_EQ(NextExit(reaper).status, ExitStatus::Exited(9));
}

TEST_P(ReaperTest, ForgetsAChildOfWhichASiblingHoldsThePidfd) {
  Reaper reaper = MakeReaper();
  ASSERT_THAT(reaper.Add(MustFork(reaper, [] { return 1; }), 0), IsOk());
  Gate gate;
  Child sibling = MustFork(reaper, [&] {  // Inherits the first child's pidfd.
    gate.Wait();
    return 0;
  });
  EXPECT_EQ(NextExit(reaper).status, ExitStatus::Exited(1));
  EXPECT_THAT(reaper.Next(), IsOkAndHolds(std::nullopt));
  EXPECT_FALSE(Readable(reaper));
}

TEST_P(ReaperTest, SignalsAllThatLive) {
  Reaper reaper = MakeReaper();
  Gate gate;
  for (int i = 0; i < 3; ++i) {
    ASSERT_THAT(reaper.Add(MustFork(reaper,
                                    [&] {
                                      gate.Wait();
                                      return 0;
                                    }),
                           i),
                IsOk());
  }
  // One of them has ended but is not reported yet: no error.
  Child ended = MustFork(reaper, [] { return 1; });
  AwaitEnd(ended.pid());
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

TEST_P(ReaperTest, KillsAndReapsWhatItStillHasWhenDestroyed) {
  Gate gate;
  std::vector<pid_t> pids;
  {
    Reaper reaper = MakeReaper();
    for (int i = 0; i < 5; ++i) {
      Child child = MustFork(reaper, [&] {
        gate.Wait();
        return 0;
      });
      pids.push_back(child.pid());
      ASSERT_THAT(reaper.Add(std::move(child), i), IsOk());
    }
  }
  for (const pid_t pid : pids) EXPECT_FALSE(Exists(pid));
}

TEST_P(ReaperTest, TakesItsChildrenAlongWhenMoved) {
  Gate gate;
  const auto waiting = [&] {
    gate.Wait();
    return 4;
  };
  Reaper first = MakeReaper();
  ASSERT_THAT(first.Add(MustFork(first, waiting), 1), IsOk());
  Reaper second = std::move(first);
  EXPECT_EQ(first.size(), 0);  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(second.size(), 1);
  Reaper third = MakeReaper();
  Child dropped = MustFork(third, waiting);
  const pid_t pid = dropped.pid();
  ASSERT_THAT(third.Add(std::move(dropped), 2), IsOk());
  third = std::move(second);
  EXPECT_FALSE(Exists(pid));  // What was assigned over is killed and reaped.
  gate.Open();
  EXPECT_EQ(NextExit(third).tag, 1);
}

TEST_P(ReaperTest, HarmsNobodyWhenDestroyedInAForkedCopy) {
  std::optional<Reaper> reaper = MakeReaper();
  Gate gate;
  ASSERT_THAT(reaper->Add(MustFork(*reaper,
                                   [&] {
                                     gate.Wait();
                                     return 3;
                                   }),
                          0),
              IsOk());
  Child copy = MustFork(*reaper, [&] {
    reaper.reset();
    return 0;
  });
  EXPECT_THAT(copy.Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
  EXPECT_EQ(reaper->size(), 1);
  gate.Open();
  EXPECT_EQ(NextExit(*reaper).status, ExitStatus::Exited(3));
}

TEST_P(ReaperTest, WorksWithinAForkedChild) {
  // Of the parent's Reaper the child has only a copy, but it may have its own.
  const Reaper reaper = MakeReaper();
  Child nested = MustFork(reaper, [] {
    Reaper own = MakeReaper();
    for (int i = 0; i < 10; ++i) {
      if (!own.Add(MustFork(own, [=] { return i; }), i).ok()) return 1;
    }
    for (int i = 0; i < 10; ++i) {
      const Reaper::Exit exit = NextExit(own);
      if (exit.status != ExitStatus::Exited(static_cast<int>(exit.tag))) {
        return 2;
      }
    }
    return 0;
  });
  EXPECT_THAT(nested.Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

// Leads a group of its own, in which it leaves somebody who ignores SIGTERM and
// keeps a pipe open, and ends when it is told to.
Child LeaderOfTwo(Reaper& reaper, int pipe_to_keep) {
  absl::StatusOr<Child> child = Fork(
      {.exit_signal = reaper.exit_signal(), .new_process_group = true}, [&] {
        const pid_t other = fork();
        if (other == 0) {
          signal(SIGTERM, SIG_IGN);
          (void)!write(pipe_to_keep, "x", 1);
          for (;;) pause();
        }
        for (;;) pause();
        return 0;
      });
  EXPECT_THAT(child, IsOk());
  return *std::move(child);
}

TEST(ReaperTest, SignalsAGroupAndKillsWhatItsLeaderLeavesBehind) {
  for (const bool queue : {false, true}) {
    absl::StatusOr<Reaper> reaper =
        queue ? Reaper::Create(*ExitQueue::Create()) : Reaper::Create();
    ASSERT_THAT(reaper, IsOk());
    std::array<int, 2> ends;
    ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
    UniqueFd reader(ends[0]);
    UniqueFd writer(ends[1]);
    Child leader = LeaderOfTwo(*reaper, writer.get());
    writer = UniqueFd();
    char byte;
    ASSERT_EQ(read(reader.get(), &byte, 1), 1);  // The other is there.
    const pid_t pid = leader.pid();
    ASSERT_THAT(reaper->Add(std::move(leader), 1), IsOk());
    EXPECT_EQ(ErrnoOf(reaper->SignalGroup(pid + 1, SIGTERM)), ESRCH);
    reaper->KillGroupAtEnd(pid);
    EXPECT_THAT(reaper->SignalGroup(pid, SIGTERM), IsOk());
    std::optional<Reaper::Exit> exit;
    while (!exit.has_value()) {
      pollfd ready = {.fd = reaper->fd(), .events = POLLIN, .revents = 0};
      ASSERT_EQ(poll(&ready, 1, -1), 1);
      absl::StatusOr<std::optional<Reaper::Exit>> next = reaper->Next();
      ASSERT_THAT(next, IsOk());
      exit = *next;
    }
    EXPECT_EQ(exit->status, ExitStatus::Killed(SIGTERM));
    EXPECT_EQ(read(reader.get(), &byte, 1), 0);  // The other is gone.
    EXPECT_EQ(ErrnoOf(reaper->SignalGroup(pid, SIGTERM)), ESRCH);
  }
}

TEST(ReaperInASandboxTest, ReportsChildrenWhereThereAreNoPidfds) {
  absl::StatusOr<Child> sandboxed = Fork({}, [] {
    DenySyscalls({SYS_clone3, SYS_prctl, SYS_pidfd_open}, EPERM);
    Reaper reaper = *Reaper::Create();
    for (int i = 0; i < 10; ++i) {
      absl::StatusOr<Child> child = Fork({}, [=] { return i; });
      if (!child.ok() || child->fd() != -1) return 1;
      if (!reaper.Add(*std::move(child), i).ok()) return 2;
    }
    while (reaper.size() > 0) {
      const Reaper::Exit exit = NextExit(reaper);
      if (exit.status != ExitStatus::Exited(static_cast<int>(exit.tag))) {
        return 3;
      }
    }
    return 0;
  });
  ASSERT_THAT(sandboxed, IsOk());
  EXPECT_THAT(sandboxed->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(ReaperInASandboxTest, NeedsNoDescriptorForAQueuedChild) {
  absl::StatusOr<Child> crowded = Fork({}, [] {
    Reaper reaper = *Reaper::Create(*ExitQueue::Create());
    const rlimit none = {.rlim_cur = 3, .rlim_max = 3};
    if (setrlimit(RLIMIT_NOFILE, &none) == -1) return 1;
    absl::StatusOr<Child> child =
        Fork({.exit_signal = reaper.exit_signal()}, [] { return 7; });
    if (!child.ok() || !reaper.Add(*std::move(child), 0).ok()) return 2;
    return NextExit(reaper).status == ExitStatus::Exited(7) ? 0 : 3;
  });
  ASSERT_THAT(crowded, IsOk());
  EXPECT_THAT(crowded->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

// ---- what only a queue can suffer ----

class ReaperWithExitQueueTest : public ReaperTest {};

INSTANTIATE_TEST_SUITE_P(HearsOfItBy, ReaperWithExitQueueTest,
                         testing::Values(Way::kExitQueue), NameOfWay);

// How many signals may wait, for as long as it lives.
class SignalQueueLimit {
 public:
  explicit SignalQueueLimit(rlim_t limit) {
    EXPECT_EQ(getrlimit(RLIMIT_SIGPENDING, &before_), 0);
    const rlimit now = {.rlim_cur = limit, .rlim_max = before_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_SIGPENDING, &now), 0);
  }
  SignalQueueLimit(const SignalQueueLimit&) = delete;
  SignalQueueLimit& operator=(const SignalQueueLimit&) = delete;
  ~SignalQueueLimit() { EXPECT_EQ(setrlimit(RLIMIT_SIGPENDING, &before_), 0); }

 private:
  rlimit before_ = {};
};

TEST_P(ReaperWithExitQueueTest, ReportsThoseForWhomTheQueueHadNoRoom) {
  constexpr int kChildren = 100;
  Reaper reaper = MakeReaper();
  Gate gate;
  std::vector<pid_t> pids;
  for (int i = 0; i < kChildren; ++i) {
    Child child = MustFork(reaper, [&, i] {
      gate.Wait();
      return i;
    });
    pids.push_back(child.pid());
    ASSERT_THAT(reaper.Add(std::move(child), i), IsOk());
  }
  const SignalQueueLimit limit(10);
  gate.Open();
  for (const pid_t pid : pids) AwaitEnd(pid);
  // All at once, and not when it next looks after them.
  std::set<uint64_t> seen;
  for (int i = 0; i < kChildren; ++i) {
    absl::StatusOr<std::optional<Reaper::Exit>> exit = reaper.Next();
    ASSERT_THAT(exit, IsOkAndHolds(Ne(std::nullopt)));
    EXPECT_EQ((*exit)->status,
              ExitStatus::Exited(static_cast<int>((*exit)->tag)));
    EXPECT_TRUE(seen.insert((*exit)->tag).second);
    EXPECT_EQ(Readable(reaper), i < kChildren - 1);
  }
}

TEST_P(ReaperWithExitQueueTest, ReportsAnEndThatNobodyAnnounced) {
  Reaper reaper = MakeReaper();
  const SignalQueueLimit none(0);  // As if others had taken all the room.
  ASSERT_THAT(reaper.Add(MustFork(reaper, [] { return 6; }), 1), IsOk());
  EXPECT_EQ(NextExit(reaper).status, ExitStatus::Exited(6));
}

TEST_P(ReaperWithExitQueueTest, ReportsAChildThatBecameAnotherProgram) {
  Reaper reaper = MakeReaper();
  ASSERT_THAT(reaper.Add(MustFork(reaper,
                                  [] {
                                    execl("/bin/sh", "sh", "-c", "exit 5",
                                          nullptr);
                                    return 1;
                                  }),
                         1),
              IsOk());
  EXPECT_EQ(NextExit(reaper).status, ExitStatus::Exited(5));
}

TEST_P(ReaperTest, IsNotKeptFromLookingByChildrenThatEndAtOnce) {
  Reaper reaper = MakeReaper();
  ASSERT_THAT(reaper.Add(MustFork(reaper,
                                  [] {
                                    execl("/bin/true", "true", nullptr);
                                    return 1;
                                  }),
                         1),
              IsOk());
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  bool found = false;
  while (!found && absl::Now() < deadline) {
    Child brief = MustFork(reaper, [] { return 0; });
    AwaitEnd(brief.pid());
    ASSERT_THAT(reaper.Add(std::move(brief), 2), IsOk());
    absl::StatusOr<std::optional<Reaper::Exit>> exit = reaper.Next();
    for (; exit.ok() && exit->has_value(); exit = reaper.Next()) {
      found = found || (*exit)->tag == 1;
    }
    ASSERT_THAT(exit, IsOk());
  }
  EXPECT_TRUE(found);
}

TEST_P(ReaperTest, RefusesAChildThatIsNotTheCallersToGive) {
  Reaper reaper = MakeReaper();
  Child child = MustFork(reaper, [] { return 0; });
  const pid_t pid = child.pid();
  AwaitEnd(pid);
  (void)std::move(child).Release();
  EXPECT_THAT(reaper.Add(std::move(child), 1),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(reaper.size(), 0);
  EXPECT_THAT(reaper.Next(), IsOkAndHolds(std::nullopt));
  EXPECT_EQ(waitpid(pid, nullptr, __WALL), pid);
}

TEST_P(ReaperTest, KillsAllThatATracerHoldsWithinOneTimeForAll) {
  std::vector<std::unique_ptr<TracedChild>> traced;
  {
    Reaper reaper = MakeReaper();
    for (int i = 0; i < 10; ++i) {
      traced.push_back(std::make_unique<TracedChild>(
          ForkOptions{.exit_signal = reaper.exit_signal()}));
      if (!traced.back()->permitted()) {
        GTEST_SKIP() << "ptrace is not permitted";
      }
      ASSERT_THAT(reaper.Add(std::move(traced.back()->child()), i), IsOk());
      traced.back()->Die();
    }
    const absl::Time before = absl::Now();
    { const Reaper dropped = std::move(reaper); }
    EXPECT_LT(absl::Now() - before, absl::Milliseconds(700));
  }
  // Each has inherited the grips of those before it.
  for (; !traced.empty(); traced.pop_back()) traced.back()->LetGo();
  EXPECT_EQ(ReapDropped(), 0);
  // It stayed ignored, since they had still to announce their end.
  if (GetParam() == Way::kExitQueue) {
    struct sigaction by_default = {};
    struct sigaction left;
    ASSERT_EQ(sigaction(SIGRTMAX, &by_default, &left), 0);
    EXPECT_EQ(left.sa_handler, SIG_IGN);
  }
}

TEST_P(ReaperWithExitQueueTest, SignalsAChildThatBecameAnotherProgram) {
  Reaper reaper = MakeReaper();
  Gate running;
  Child child = MustFork(reaper, [&] {
    (void)fcntl(running.read_fd(), F_SETFD, 0);
    execl("/bin/sleep", "sleep", "1000", nullptr);
    return 1;
  });
  ASSERT_THAT(reaper.Add(std::move(child), 1), IsOk());
  running.Wait();  // Its writing end is closed by exec.
  EXPECT_THAT(reaper.SignalAll(SIGTERM), IsOk());
  EXPECT_EQ(NextExit(reaper).status, ExitStatus::Killed(SIGTERM));
}

TEST_P(ReaperWithExitQueueTest, TakesNobodysChildForOneThatBecameAProgram) {
  Reaper reaper = MakeReaper();
  Gate gate;
  Child child = MustFork(reaper, [&] {
    (void)fcntl(gate.read_fd(), F_SETFD, 0);
    (void)dup2(gate.read_fd(), STDIN_FILENO);
    gate.Open();
    execl("/bin/cat", "cat", nullptr);
    return 1;
  });
  const pid_t pid = child.pid();
  ASSERT_THAT(reaper.Add(std::move(child), 1), IsOk());
  gate.Open();
  // Once it is like any other child it can be stolen, and its pid be another's.
  while (waitpid(pid, nullptr, 0) == -1) ASSERT_EQ(errno, ECHILD);
  // The kernel tells when a process started in ticks of 10 ms.
  const absl::Time ticks_later = absl::Now() + absl::Milliseconds(30);
  while (absl::Now() < ticks_later) std::this_thread::yield();
  Gate second_gate;
  const pid_t second = ForkAs(pid, [&] {
    second_gate.Wait();
    return 8;
  });
  if (second != -1) {
    EXPECT_THAT(reaper.SignalAll(SIGKILL), IsOk());
  }
  const Reaper::Exit exit = NextExit(reaper);
  EXPECT_EQ(exit.tag, 1);
  EXPECT_THAT(exit.status, AnyOf(ExitStatus::Lost(), ExitStatus::Exited(0)));
  if (second == -1) GTEST_SKIP() << "to choose a pid is not permitted";
  second_gate.Open();
  int status;
  EXPECT_EQ(RetryOnEintr([&] { return waitpid(pid, &status, 0); }), pid);
  EXPECT_EQ(WEXITSTATUS(status), 8);
}

TEST_P(ReaperWithExitQueueTest, OwnsChildrenWithAPidfdToo) {
  Reaper reaper = MakeReaper();
  std::set<uint64_t> tags;
  for (int i = 0; i < 50; ++i) {
    ASSERT_THAT(reaper.Add(MustFork(reaper, [] { return 0; }), 2 * i), IsOk());
    absl::StatusOr<Child> child = Fork({}, [] { return 0; });
    ASSERT_THAT(child, IsOk());
    ASSERT_THAT(reaper.Add(*std::move(child), 2 * i + 1), IsOk());
  }
  while (reaper.size() > 0) {
    EXPECT_TRUE(tags.insert(NextExit(reaper).tag).second);
  }
  EXPECT_EQ(tags.size(), 100);
}

}  // namespace
}  // namespace brood
