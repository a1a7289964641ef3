// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/orphans.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/log/check.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/proc/reaper.h"
#include "brood/tests/deny_syscalls.h"
#include "brood/tests/gate.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::HasSubstr;

// What a forked test body exits with if this machine does not permit the test.
constexpr int kNotPermitted = 77;

absl::StatusOr<ExitStatus> RunAsInit(Child main) {
  absl::StatusOr<Orphans> orphans = Orphans::Receive(
      [pid = main.pid()](pid_t child) { return child == pid; });
  if (!orphans.ok()) return orphans.status();
  while (true) {
    absl::StatusOr<std::optional<ExitStatus>> end = main.TryWait();
    if (!end.ok()) return end.status();
    if (end->has_value()) return **end;
    absl::StatusOr<std::optional<Orphans::Exit>> orphan = orphans->Next();
    if (!orphan.ok()) return orphan.status();
    if (orphan->has_value()) continue;  // It is reaped; log it, perhaps.
    std::array<pollfd, 2> fds = {
        {{main.fd(), POLLIN, 0}, {orphans->fd(), POLLIN, 0}}};
    (void)poll(fds.data(), fds.size(), -1);
  }
}

Child MustFork(absl::FunctionRef<int()> body) {
  absl::StatusOr<Child> child = Fork({}, body);
  CHECK_OK(child);
  return *std::move(child);
}

// Looks for orphans only when told to.
Orphans MustReceive(Orphans::IsMine is_mine) {
  absl::StatusOr<Orphans> orphans =
      Orphans::Receive(std::move(is_mine), absl::InfiniteDuration());
  CHECK_OK(orphans);
  return *std::move(orphans);
}

bool NoneIsMine(pid_t) { return false; }

bool IsSubreaper() {
  int is = 0;
  CHECK_EQ(prctl(PR_GET_CHILD_SUBREAPER, &is, 0, 0, 0), 0);
  return is != 0;
}

bool Readable(const Orphans& orphans) {
  return *PollUntil(orphans.fd(), POLLIN, absl::InfinitePast());
}

// The next end, waiting for it on the descriptor.
Orphans::Exit NextExit(Orphans& orphans) {
  while (true) {
    absl::StatusOr<std::optional<Orphans::Exit>> exit = orphans.Next();
    CHECK_OK(exit);
    if (exit->has_value()) return **exit;
    CHECK_OK(PollUntil(orphans.fd(), POLLIN, absl::InfiniteFuture()));
  }
}

// Starts `count` processes, each of which runs `body` with its number, under a
// parent that ends at once; returns their pids once they are this process's.
std::vector<pid_t> MakeOrphans(int count, absl::FunctionRef<int(int)> body) {
  std::array<int, 2> ends;
  CHECK_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
  Child parent = MustFork([&] {
    for (int i = 0; i < count; ++i) {
      const pid_t pid = fork();
      if (pid == 0) {
        (void)close(ends[0]);
        (void)close(ends[1]);
        _exit(body(i));
      }
      if (write(ends[1], &pid, sizeof pid) != sizeof pid) return 1;
    }
    return 0;
  });
  (void)close(ends[1]);
  std::vector<pid_t> pids;
  pid_t pid;
  while (RetryOnEintr([&] { return read(ends[0], &pid, sizeof pid); }) ==
         sizeof pid) {
    pids.push_back(pid);
  }
  (void)close(ends[0]);
  CHECK_EQ(*parent.Wait(), ExitStatus::Exited(0));
  CHECK_EQ(pids.size(), static_cast<size_t>(count));
  return pids;
}

pid_t MakeOrphan(absl::FunctionRef<int()> body) {
  return MakeOrphans(1, [&](int) { return body(); }).front();
}

// Blocks until `pid`, a child, has ended, and leaves it a zombie.
void AwaitEnd(pid_t pid) {
  siginfo_t info;
  CHECK_EQ(RetryOnEintr([&] {
             return waitid(P_PID, pid, &info, WEXITED | WNOWAIT | __WALL);
           }),
           0);
}

// A child as a server makes it that wants no SIGCHLD.
pid_t CloneWithoutExitSignal(absl::FunctionRef<int()> body) {
  clone_args args = {};
  const pid_t pid = static_cast<pid_t>(syscall(SYS_clone3, &args, sizeof args));
  if (pid == 0) _exit(body());
  return pid;
}

TEST(OrphansTest, HeaderExample) {
  Gate gate;
  Child main = MustFork([&] {
    gate.Wait();
    return 7;
  });
  const std::vector<pid_t> orphans = [&] {
    // For the length of the call, so that they come to this process.
    Orphans receiver = MustReceive(NoneIsMine);
    return MakeOrphans(3, [](int i) { return i; });
  }();
  for (const pid_t pid : orphans) AwaitEnd(pid);
  gate.Open();
  EXPECT_THAT(RunAsInit(std::move(main)), IsOkAndHolds(ExitStatus::Exited(7)));
  // Which end it saw first is not settled.
  for (const pid_t pid : orphans) (void)waitpid(pid, nullptr, 0);
}

TEST(OrphansTest, ReapsADaemonThatForkedTwice) {
  Orphans orphans = MustReceive(NoneIsMine);
  Gate gate;
  const pid_t daemon = MakeOrphan([&] {
    (void)setsid();
    gate.Wait();
    return 5;
  });
  ASSERT_THAT(orphans.Scan(), IsOk());
  EXPECT_EQ(orphans.size(), 1);
  EXPECT_THAT(orphans.Next(), IsOkAndHolds(std::nullopt));
  EXPECT_FALSE(Readable(orphans));
  gate.Open();
  // No scan and no SIGCHLD is needed for one that is known.
  const Orphans::Exit exit = NextExit(orphans);
  EXPECT_EQ(exit.pid, daemon);
  EXPECT_EQ(exit.status, ExitStatus::Exited(5));
  EXPECT_TRUE(exit.status.usage().has_value());
  EXPECT_EQ(orphans.size(), 0);
  EXPECT_FALSE(Readable(orphans));
}

TEST(OrphansTest, AreReadableAfterAScanThatFoundAnEnd) {
  Orphans orphans = MustReceive(NoneIsMine);
  EXPECT_TRUE(Readable(orphans));  // It looks once when it is made.
  EXPECT_THAT(orphans.Next(), IsOkAndHolds(std::nullopt));
  EXPECT_FALSE(Readable(orphans));
  const std::vector<pid_t> pids = MakeOrphans(2, [](int i) { return i; });
  for (const pid_t pid : pids) AwaitEnd(pid);
  EXPECT_FALSE(Readable(orphans));
  ASSERT_THAT(orphans.Scan(), IsOk());
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(Readable(orphans));
    EXPECT_THAT(orphans.Next(), IsOkAndHolds(testing::Optional(testing::_)));
  }
  EXPECT_THAT(orphans.Next(), IsOkAndHolds(std::nullopt));
  EXPECT_FALSE(Readable(orphans));
}

TEST(OrphansTest, LookByThemselvesOnceInAnInterval) {
  absl::StatusOr<Orphans> orphans =
      Orphans::Receive(NoneIsMine, absl::Milliseconds(1));
  ASSERT_THAT(orphans, IsOk());
  EXPECT_THAT(orphans->Next(), IsOkAndHolds(std::nullopt));
  const pid_t pid = MakeOrphan([] { return 3; });
  const Orphans::Exit exit = NextExit(*orphans);
  EXPECT_EQ(exit.pid, pid);
  EXPECT_EQ(exit.status, ExitStatus::Exited(3));
}

TEST(OrphansTest, ReportEachEndOnceHoweverManyCoalesceIntoOneSignal) {
  constexpr int kOrphans = 50;
  sigset_t chld;
  sigset_t before;
  sigemptyset(&chld);
  sigaddset(&chld, SIGCHLD);
  ASSERT_EQ(sigprocmask(SIG_BLOCK, &chld, &before), 0);
  Orphans orphans = MustReceive(NoneIsMine);
  const std::vector<pid_t> pids =
      MakeOrphans(kOrphans, [](int i) { return i; });
  for (const pid_t pid : pids) AwaitEnd(pid);
  // One signal is pending for all of them.
  const timespec now = {};
  ASSERT_EQ(sigtimedwait(&chld, nullptr, &now), SIGCHLD);
  ASSERT_EQ(sigtimedwait(&chld, nullptr, &now), -1);
  ASSERT_THAT(orphans.Scan(), IsOk());
  std::map<pid_t, ExitStatus> ends;
  for (int i = 0; i < kOrphans; ++i) {
    const Orphans::Exit exit = NextExit(orphans);
    EXPECT_TRUE(ends.emplace(exit.pid, exit.status).second);
  }
  for (int i = 0; i < kOrphans; ++i) {
    ASSERT_TRUE(ends.contains(pids[i]));
    EXPECT_EQ(ends.at(pids[i]), ExitStatus::Exited(i));
  }
  EXPECT_THAT(orphans.Next(), IsOkAndHolds(std::nullopt));
  ASSERT_EQ(sigprocmask(SIG_SETMASK, &before, nullptr), 0);
}

TEST(OrphansTest, ReapAThousandBesideAReaperWithLiveChildren) {
  constexpr int kOrphans = 1000;
  constexpr int kChildren = 20;
  // Two descriptors for each that lives, here; a thousand may be the limit.
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit before = limit;
  limit.rlim_cur = limit.rlim_max;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);

  std::set<pid_t> mine;
  absl::StatusOr<Reaper> reaper = Reaper::Create();
  ASSERT_THAT(reaper, IsOk());
  Gate children_gate;
  for (int i = 0; i < kChildren; ++i) {
    Child child = MustFork([&, i] {
      // Half of them have ended before any orphan has.
      if (i % 2 == 0) children_gate.Wait();
      return i;
    });
    mine.insert(child.pid());
    if (i % 2 == 1) AwaitEnd(child.pid());
    ASSERT_THAT(reaper->Add(std::move(child), i), IsOk());
  }
  Orphans orphans =
      MustReceive([&mine](pid_t pid) { return mine.contains(pid); });
  Gate orphans_gate;
  const std::vector<pid_t> pids = MakeOrphans(kOrphans, [&](int i) {
    if (i % 3 != 0) orphans_gate.Wait();
    return i % 256;
  });
  ASSERT_THAT(orphans.Scan(), IsOk());
  orphans_gate.Open();
  std::map<pid_t, ExitStatus> ends;
  while (ends.size() < kOrphans) {
    const Orphans::Exit exit = NextExit(orphans);
    EXPECT_TRUE(ends.emplace(exit.pid, exit.status).second);
    EXPECT_FALSE(mine.contains(exit.pid));
    if (orphans.size() == 0) {
      ASSERT_THAT(orphans.Scan(), IsOk());
    }
  }
  for (int i = 0; i < kOrphans; ++i) {
    ASSERT_TRUE(ends.contains(pids[i]));
    EXPECT_EQ(ends.at(pids[i]), ExitStatus::Exited(i % 256));
  }
  // All of the Reaper's are still there to be reported.
  children_gate.Open();
  for (int seen = 0; seen < kChildren;) {
    absl::StatusOr<std::optional<Reaper::Exit>> exit = reaper->Next();
    ASSERT_THAT(exit, IsOk());
    if (!exit->has_value()) {
      ASSERT_THAT(PollUntil(reaper->fd(), POLLIN, absl::InfiniteFuture()),
                  IsOkAndHolds(true));
      continue;
    }
    EXPECT_EQ((*exit)->status,
              ExitStatus::Exited(static_cast<int>((*exit)->tag)));
    ++seen;
  }
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
}

TEST(OrphansTest, TakeNoChildThatIsMine) {
  Child mine = MustFork([] { return 9; });
  AwaitEnd(mine.pid());
  Orphans orphans =
      MustReceive([pid = mine.pid()](pid_t child) { return child == pid; });
  ASSERT_THAT(orphans.Scan(), IsOk());
  EXPECT_THAT(orphans.Next(), IsOkAndHolds(std::nullopt));
  EXPECT_THAT(mine.Wait(), IsOkAndHolds(ExitStatus::Exited(9)));
}

TEST(OrphansTest, TakeNoCloneChildWhateverIsMineSays) {
  Orphans orphans = MustReceive(NoneIsMine);
  Gate gate;
  const pid_t living = CloneWithoutExitSignal([&] {
    gate.Wait();
    return 1;
  });
  const pid_t ended = CloneWithoutExitSignal([] { return 2; });
  AwaitEnd(ended);
  ASSERT_THAT(orphans.Scan(), IsOk());
  EXPECT_EQ(orphans.size(), 0);
  EXPECT_THAT(orphans.Next(), IsOkAndHolds(std::nullopt));
  gate.Open();
  int status;
  EXPECT_EQ(waitpid(living, &status, __WALL), living);
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_EQ(waitpid(ended, &status, __WALL), ended);
  EXPECT_EQ(WEXITSTATUS(status), 2);
}

TEST(OrphansTest, ReapAnOrphanThatWasACloneChild) {
  Orphans orphans = MustReceive(NoneIsMine);
  const pid_t pid = MakeOrphan([] {
    // This one is the orphan's parent and ends before it.
    std::array<int, 2> ends;
    if (pipe(ends.data()) != 0) return 1;
    const pid_t parent = getpid();
    const pid_t orphan = CloneWithoutExitSignal([&] {
      while (getppid() == parent) (void)sched_yield();
      return 4;
    });
    return orphan > 0 ? 0 : 1;
  });
  std::map<pid_t, ExitStatus> ends;
  while (ends.size() < 2) {
    ASSERT_THAT(orphans.Scan(), IsOk());
    const Orphans::Exit exit = NextExit(orphans);
    ends.emplace(exit.pid, exit.status);
  }
  EXPECT_EQ(ends.at(pid), ExitStatus::Exited(0));
  ends.erase(pid);
  EXPECT_EQ(ends.begin()->second, ExitStatus::Exited(4));
}

TEST(OrphansTest, DoNotHangWhereSigchldWasIgnoredFromTheStart) {
  Child body = MustFork([] {
    (void)std::signal(SIGCHLD, SIG_IGN);
    Orphans orphans = MustReceive(NoneIsMine);
    Gate gate;
    std::array<int, 2> ends;
    if (pipe(ends.data()) != 0) return 1;
    // By hand, because nobody can wait for a status here.
    const pid_t parent = fork();
    if (parent == 0) {
      const pid_t pid = fork();
      if (pid == 0) {
        gate.Wait();
        _exit(6);
      }
      (void)!write(ends[1], &pid, sizeof pid);
      _exit(0);
    }
    pid_t pid;
    if (read(ends[0], &pid, sizeof pid) != sizeof pid) return 2;
    while (orphans.size() == 0) {
      if (!orphans.Scan().ok()) return 3;
    }
    // The parent may be taken for an orphan too, since none is mine.
    gate.Open();
    while (true) {
      const Orphans::Exit exit = NextExit(orphans);
      if (exit.pid == parent) {
        if (!orphans.Scan().ok()) return 4;
        if (orphans.size() == 0) return 0;  // It went before it was seen.
        continue;
      }
      if (exit.pid != pid) return 5;
      return exit.status.lost() || exit.status.exit_code() == 6 ? 0 : 6;
    }
  });
  EXPECT_THAT(body.Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(OrphansTest, ReportOneThatSomebodyElseReapedAsLost) {
  Orphans orphans = MustReceive(NoneIsMine);
  Gate gate;
  const pid_t pid = MakeOrphan([&] {
    gate.Wait();
    return 5;
  });
  ASSERT_THAT(orphans.Scan(), IsOk());
  ASSERT_EQ(orphans.size(), 1);
  gate.Open();
  ASSERT_EQ(RetryOnEintr([&] { return waitpid(-1, nullptr, 0); }), pid);
  const Orphans::Exit exit = NextExit(orphans);
  EXPECT_EQ(exit.pid, pid);
  EXPECT_TRUE(exit.status.lost() || exit.status == ExitStatus::Exited(5));
}

TEST(OrphansTest, FindEndsByScanningWhenThereIsNoDescriptorToSpare) {
  Child body = MustFork([] {
    Orphans orphans = MustReceive(NoneIsMine);
    Gate gate;
    const pid_t pid = MakeOrphan([&] {
      gate.Wait();
      return 5;
    });
    DenySyscalls({SYS_pidfd_open}, EMFILE);
    if (!orphans.Scan().ok()) return 1;
    if (orphans.size() != 0) return 2;
    gate.Open();
    AwaitEnd(pid);
    if (!orphans.Scan().ok()) return 3;
    return NextExit(orphans) == Orphans::Exit{pid, ExitStatus::Exited(5)} ? 0
                                                                          : 4;
  });
  EXPECT_THAT(body.Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(OrphansTest, DoNotSpinOnOneThatATracerHolds) {
  pid_t mine = -1;
  Orphans orphans = MustReceive([&mine](pid_t pid) { return pid == mine; });
  Gate gate;
  const pid_t pid = MakeOrphan([&] {
    (void)prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
    gate.Wait();
    return 5;
  });
  ASSERT_THAT(orphans.Scan(), IsOk());
  ASSERT_EQ(orphans.size(), 1);
  Gate seized;
  Gate let_go;
  Child tracer = MustFork([&] {
    gate.Open();  // This process's copy.
    if (ptrace(PTRACE_SEIZE, pid, nullptr, nullptr) == -1) {
      return kNotPermitted;
    }
    seized.Open();
    let_go.Wait();
    return 0;
  });
  mine = tracer.pid();
  seized.Wait();
  // From here on the tracer is dead or has seized.
  if (*PollUntil(tracer.fd(), POLLIN, absl::InfinitePast())) {
    EXPECT_THAT(tracer.Wait(), IsOkAndHolds(ExitStatus::Exited(kNotPermitted)));
    gate.Open();
    EXPECT_EQ(NextExit(orphans).pid, pid);
    GTEST_SKIP() << "ptrace is not permitted here";
  }
  gate.Open();
  ASSERT_THAT(PollUntil(orphans.fd(), POLLIN, absl::InfiniteFuture()),
              IsOkAndHolds(true));
  while (Readable(orphans)) {
    ASSERT_THAT(orphans.Next(), IsOkAndHolds(std::nullopt));
  }
  EXPECT_THAT(orphans.Next(), IsOkAndHolds(std::nullopt));
  let_go.Open();
  EXPECT_THAT(tracer.Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
  ASSERT_THAT(orphans.Scan(), IsOk());
  EXPECT_EQ(NextExit(orphans), (Orphans::Exit{pid, ExitStatus::Exited(5)}));
}

TEST(OrphansTest, SignalAllThatAreKnown) {
  Orphans orphans = MustReceive(NoneIsMine);
  Gate gate;
  (void)MakeOrphans(3, [&](int) {
    gate.Wait();
    return 0;
  });
  ASSERT_THAT(orphans.Scan(), IsOk());
  EXPECT_EQ(orphans.size(), 3);
  EXPECT_THAT(orphans.SignalAll(SIGTERM), IsOk());
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(NextExit(orphans).status, ExitStatus::Killed(SIGTERM));
  }
  EXPECT_THAT(orphans.SignalAll(SIGTERM), IsOk());
}

TEST(OrphansTest, ThatLiveOutliveTheirReceiver) {
  Gate gate;
  pid_t pid;
  {
    Orphans orphans = MustReceive(NoneIsMine);
    pid = MakeOrphan([&] {
      gate.Wait();
      return 5;
    });
    ASSERT_THAT(orphans.Scan(), IsOk());
    ASSERT_EQ(orphans.size(), 1);
  }
  gate.Open();
  int status;
  ASSERT_EQ(RetryOnEintr([&] { return waitpid(pid, &status, 0); }), pid);
  EXPECT_EQ(WEXITSTATUS(status), 5);
}

TEST(OrphansTest, MakeASubreaperForAsLongAsTheyLast) {
  ASSERT_FALSE(IsSubreaper());
  {
    Orphans first = MustReceive(NoneIsMine);
    EXPECT_TRUE(IsSubreaper());
    Orphans second = std::move(first);
    EXPECT_TRUE(IsSubreaper());
    {
      // It is one already, so this changes and undoes nothing.
      Orphans third = MustReceive(NoneIsMine);
    }
    EXPECT_TRUE(IsSubreaper());
    Orphans fourth = MustReceive(NoneIsMine);
    fourth = std::move(second);
    EXPECT_TRUE(IsSubreaper());
  }
  EXPECT_FALSE(IsSubreaper());
}

TEST(OrphansTest, TakeTheLivingAlongWhenMoved) {
  Orphans first = MustReceive(NoneIsMine);
  Gate gate;
  const pid_t pid = MakeOrphan([&] {
    gate.Wait();
    return 1;
  });
  ASSERT_THAT(first.Scan(), IsOk());
  Orphans second = std::move(first);
  EXPECT_EQ(first.size(), 0);  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(second.size(), 1);
  gate.Open();
  EXPECT_EQ(NextExit(second).pid, pid);
}

TEST(OrphansTest, AreOfNoUseAndDoNoHarmInAForkedCopy) {
  std::optional<Orphans> orphans = MustReceive(NoneIsMine);
  Gate gate;
  const pid_t pid = MakeOrphan([&] {
    gate.Wait();
    return 3;
  });
  ASSERT_THAT(orphans->Scan(), IsOk());
  Child copy = MustFork([&] {
    if (orphans->Scan().code() != absl::StatusCode::kFailedPrecondition ||
        orphans->Next().status().code() !=
            absl::StatusCode::kFailedPrecondition ||
        orphans->SignalAll(SIGKILL).code() !=
            absl::StatusCode::kFailedPrecondition) {
      return 1;
    }
    orphans.reset();
    return 0;
  });
  EXPECT_THAT(copy.Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
  EXPECT_TRUE(IsSubreaper());
  gate.Open();
  EXPECT_EQ(NextExit(*orphans).pid, pid);
}

TEST(OrphansTest, RefuseWhatTheyCannotWorkWith) {
  EXPECT_THAT(
      Orphans::Receive(NoneIsMine, absl::ZeroDuration()),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("positive")));
  EXPECT_THAT(
      Orphans::Receive(nullptr).status(),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("is_mine")));
  EXPECT_FALSE(IsSubreaper());
}

// Runs `body` as PID 1 of a new pid namespace, with a /proc of its own if
// asked. Returns what it exits with.
absl::StatusOr<ExitStatus> AsPidOne(bool mount_proc,
                                    absl::FunctionRef<int()> body) {
  Child outer = MustFork([&] {
    if (unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS) == -1) {
      return kNotPermitted;
    }
    absl::StatusOr<Child> init = Fork({}, [&] {
      if (mount_proc && mount("proc", "/proc", "proc", 0, nullptr) == -1) {
        return kNotPermitted;
      }
      if (getpid() != 1) return 1;
      return body();
    });
    if (!init.ok()) return 2;
    return init->Wait()->exit_code().value_or(3);
  });
  return outer.Wait();
}

TEST(OrphansAsPidOneTest, ReapWhatTheMainChildLeavesBehind) {
  const absl::StatusOr<ExitStatus> end = AsPidOne(true, [] {
    std::set<pid_t> mine;
    Orphans orphans =
        MustReceive([&mine](pid_t pid) { return mine.contains(pid); });
    if (IsSubreaper()) return 10;  // PID 1 need not be.
    absl::StatusOr<Reaper> reaper = Reaper::Create();
    if (!reaper.ok()) return 11;
    Gate gate;
    Child main = MustFork([&] {
      gate.Wait();
      return 7;
    });
    mine.insert(main.pid());
    if (!reaper->Add(std::move(main), 0).ok()) return 12;
    const std::vector<pid_t> pids = MakeOrphans(20, [](int i) { return i; });
    for (const pid_t pid : pids) AwaitEnd(pid);
    if (!orphans.Scan().ok()) return 13;
    for (int i = 0; i < 20; ++i) {
      if (mine.contains(NextExit(orphans).pid)) return 14;
    }
    gate.Open();
    if (!PollUntil(reaper->fd(), POLLIN, absl::InfiniteFuture()).ok()) {
      return 15;
    }
    if (!orphans.Scan().ok()) return 16;
    absl::StatusOr<std::optional<Reaper::Exit>> exit = reaper->Next();
    if (!exit.ok() || !exit->has_value()) return 17;
    return (*exit)->status == ExitStatus::Exited(7) ? 0 : 18;
  });
  ASSERT_THAT(end, IsOk());
  if (*end == ExitStatus::Exited(kNotPermitted)) {
    GTEST_SKIP() << "no pid namespace with a /proc of its own is to be had";
  }
  EXPECT_EQ(*end, ExitStatus::Exited(0));
}

TEST(OrphansAsPidOneTest, RefuseAProcOfAnotherNamespace) {
  const absl::StatusOr<ExitStatus> end = AsPidOne(false, [] {
    const absl::Status status = Orphans::Receive(NoneIsMine).status();
    return status.code() == absl::StatusCode::kFailedPrecondition ? 0 : 10;
  });
  ASSERT_THAT(end, IsOk());
  if (*end == ExitStatus::Exited(kNotPermitted)) {
    GTEST_SKIP() << "no pid namespace is to be had";
  }
  EXPECT_EQ(*end, ExitStatus::Exited(0));
}

}  // namespace
}  // namespace brood
