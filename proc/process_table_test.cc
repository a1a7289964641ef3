// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/process_table.h"

#include <poll.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
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
using ::absl_testing::StatusIs;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

absl::StatusOr<std::string> WhoLeavesZombies() {
  absl::StatusOr<std::vector<ZombieFamily>> families = ProcessTable().Zombies();
  if (!families.ok()) return families.status();
  std::string report;
  for (const ZombieFamily& family : *families) {
    absl::StrAppend(&report, family.parent_pid, " owes ", family.zombies.size(),
                    " waits");
    if (family.signals.has_value() && family.signals->blocks(SIGCHLD)) {
      absl::StrAppend(&report, " and blocks SIGCHLD");
    }
  }
  return report;
}

// A line of /proc/PID/stat as Linux 6 writes it.
std::string Stat(pid_t pid, std::string_view name, char state, pid_t parent) {
  return absl::StrCat(
      pid, " (", name, ") ", std::string(1, state), " ", parent,
      " 17745 5480 0 -1 4194368 18 0 0 0 250 1050 0 0 20 0 3 0 104542 2400256 "
      "101 18446744073709551615 94879103942656 94879103946333 140731373094304 "
      "0 0 0 65536 0 0 1 0 0 17 1 0 0 0 0 0 94879103954384 94879103955224 "
      "94879172878336 140731373095586 140731373095591 140731373095591 "
      "140731373096947 9\n");
}

constexpr std::string_view kStatus =
    "Name:\tSigIgn:\\nSigBlk:\nState:\tS (sleeping)\nSigQ:\t1/96365\n"
    "SigPnd:\t0000000000000001\nShdPnd:\t0000000000010000\n"
    "SigBlk:\t0000000000010000\nSigIgn:\t8000000000001000\n"
    "SigCgt:\t0000000000004002\nCapInh:\t0000000000000000\n";

// A proc file system of files.
class FakeProc {
 public:
  FakeProc()
      : root_(absl::StrCat(
            testing::TempDir(), "/proc.", getpid(), ".",
            testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::create_directories(root_);
  }
  ~FakeProc() { std::filesystem::remove_all(root_); }

  void Write(std::string_view path, std::string_view text) {
    const std::filesystem::path file = root_ / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  void AddProcess(pid_t pid, char state, pid_t parent) {
    // One thread.
    Write(absl::StrCat(pid, "/stat"),
          absl::StrReplaceAll(Stat(pid, "fake", state, parent),
                              {{" 20 0 3 0 ", " 20 0 1 0 "}}));
  }
  ProcessTable Table() const { return ProcessTable(root_.string()); }

 private:
  std::filesystem::path root_;
};

// A child that stays until it is killed or `gate` opens.
Child Idle(Gate& gate) {
  absl::StatusOr<Child> child = Fork({}, [&] {
    gate.Wait();
    return 0;
  });
  EXPECT_THAT(child, IsOk());
  return *std::move(child);
}

// A child that has ended and is not reaped.
Child Zombie(int code) {
  absl::StatusOr<Child> child = Fork({}, [=] { return code; });
  EXPECT_THAT(child, IsOk());
  EXPECT_THAT(PollUntil(child->fd(), POLLIN, absl::InfiniteFuture()),
              IsOkAndHolds(true));
  return *std::move(child);
}

std::vector<pid_t> PidsOf(const std::vector<Process>& processes) {
  std::vector<pid_t> pids;
  for (const Process& process : processes) pids.push_back(process.pid);
  return pids;
}

const ZombieFamily* FamilyOf(pid_t parent,
                             const std::vector<ZombieFamily>& families) {
  const auto it = std::find_if(
      families.begin(), families.end(),
      [=](const ZombieFamily& family) { return family.parent_pid == parent; });
  return it == families.end() ? nullptr : &*it;
}

TEST(ProcessTableTest, HeaderExample) {
  const Child zombie = Zombie(0);
  EXPECT_THAT(WhoLeavesZombies(),
              IsOkAndHolds(HasSubstr(absl::StrCat(getpid(), " owes 1 waits"))));
}

TEST(ProcessTest, IsParsedFromItsLine) {
  const absl::StatusOr<Process> process =
      Process::Parse(Stat(42, "server", 'S', 1));
  ASSERT_THAT(process, IsOk());
  EXPECT_EQ(process->pid, 42);
  EXPECT_EQ(process->name, "server");
  EXPECT_EQ(process->state, ProcessState::kSleeping);
  EXPECT_EQ(process->parent_pid, 1);
  EXPECT_EQ(process->process_group, 17745);
  EXPECT_EQ(process->session, 5480);
  const int64_t ticks = sysconf(_SC_CLK_TCK);
  EXPECT_EQ(process->user_time, absl::Seconds(250) / ticks);
  EXPECT_EQ(process->system_time, absl::Seconds(1050) / ticks);
  EXPECT_EQ(process->start, absl::Seconds(104542) / ticks);
  EXPECT_EQ(process->thread_count, 3);
  EXPECT_EQ(process->resident_bytes, 101 * sysconf(_SC_PAGESIZE));
  EXPECT_EQ(process->exit_signal, SIGCHLD);
  EXPECT_EQ(ExitStatus::FromWaitStatus(process->wait_status),
            ExitStatus::Killed(SIGKILL));
}

TEST(ProcessTest, IsParsedWhateverItsName) {
  for (const std::string_view name :
       {"", " ", "a b", "a) S\n1 (b", ") Z 1 ", "(", ")", "))) ((", "\n", " (",
        ") ", "(sd-pam)", "\xff\xfe\t\x01", "1 2 3 4 5 6 7 8"}) {
    const absl::StatusOr<Process> process =
        Process::Parse(Stat(42, name, 'R', 7));
    ASSERT_THAT(process, IsOk()) << name;
    EXPECT_EQ(process->name, name);
    EXPECT_EQ(process->state, ProcessState::kRunning);
    EXPECT_EQ(process->parent_pid, 7);
  }
}

TEST(ProcessTest, IsRefusedWhereverItsLineIsCutBeforeTheLastField) {
  const std::string line = Stat(42, "a) (b", 'S', 1);
  const size_t last_field = line.rfind(' ');
  for (size_t length = 0; length <= last_field; ++length) {
    EXPECT_THAT(Process::Parse(line.substr(0, length)),
                StatusIs(absl::StatusCode::kDataLoss,
                         HasSubstr("not a line of /proc/PID/stat")))
        << length;
  }
}

TEST(ProcessTest, IsRefusedIfAFieldIsNoNumber) {
  for (const auto& [from, to] :
       std::vector<std::pair<std::string, std::string>>{
           {"42 (", "0 ("},
           {"42 (", "-1 ("},
           {"42 (", "x ("},
           {"42 (", "99999999999 ("},
           {" S 1 ", " SS 1 "},
           {" S 1 ", " S x "},
           {" S 1 ", " S  1 "},
           {" 104542 ", " -1 "},
           {" 104542 ", " 99999999999999999999 "}}) {
    EXPECT_THAT(Process::Parse(
                    absl::StrReplaceAll(Stat(42, "a", 'S', 1), {{from, to}})),
                StatusIs(absl::StatusCode::kDataLoss))
        << from << " -> " << to;
  }
}

TEST(ProcessTest, HoldsTheLargestNumbers) {
  const std::string most = absl::StrCat(std::numeric_limits<uint64_t>::max());
  const absl::StatusOr<Process> process = Process::Parse(absl::StrReplaceAll(
      Stat(42, "a", 'S', 1),
      {{" 104542 ", absl::StrCat(" ", most, " ")},
       {"2400256 101", absl::StrCat(most, " ", most)},
       {" 250 1050 ", absl::StrCat(" ", most, " ", most, " ")}}));
  ASSERT_THAT(process, IsOk());
  EXPECT_EQ(process->resident_bytes, std::numeric_limits<int64_t>::max());
  EXPECT_GT(process->user_time, absl::Hours(24) * 365 * 1000);
  EXPECT_EQ(process->user_time, process->start);
}

TEST(ProcessTest, KeepsAStateItDoesNotKnow) {
  const absl::StatusOr<Process> process = Process::Parse(Stat(1, "a", 'q', 0));
  ASSERT_THAT(process, IsOk());
  EXPECT_EQ(static_cast<char>(process->state), 'q');
}

TEST(ProcessTest, IsNoZombieWhileAThreadOfItRuns) {
  // The line above has three threads.
  EXPECT_FALSE(Process::Parse(Stat(1, "a", 'Z', 0))->zombie());

  absl::StatusOr<Child> child = Fork({}, [] {
    pthread_t thread;
    const auto sleep = [](void*) -> void* {
      while (true) pause();
    };
    if (pthread_create(&thread, nullptr, sleep, nullptr) != 0) return 1;
    (void)syscall(SYS_exit, 0);  // Of the first thread alone.
    return 2;
  });
  ASSERT_THAT(child, IsOk());
  const ProcessTable table;
  absl::StatusOr<Process> process = table.Read(child->pid());
  while (process.ok() && process->state != ProcessState::kZombie) {
    process = table.Read(child->pid());
  }
  ASSERT_THAT(process, IsOk());
  EXPECT_FALSE(process->zombie());
  EXPECT_THAT(child->TryWait(), IsOkAndHolds(std::nullopt));
  ASSERT_THAT(child->Signal(SIGKILL), IsOk());
  EXPECT_THAT(PollUntil(child->fd(), POLLIN, absl::InfiniteFuture()),
              IsOkAndHolds(true));
  process = table.Read(child->pid());
  ASSERT_THAT(process, IsOk());
  EXPECT_TRUE(process->zombie());
}

TEST(ProcessTest, IsAnotherIfItStartedAtAnotherTime) {
  const Process first = *Process::Parse(Stat(42, "a", 'S', 1));
  Process renamed = first;
  renamed.name = "b";
  renamed.parent_pid = 9;
  Process later = first;
  later.start += absl::Milliseconds(10);
  EXPECT_TRUE(first.SameAs(renamed));
  EXPECT_FALSE(first.SameAs(later));
}

TEST(SignalStateTest, IsParsedFromItsLines) {
  const absl::StatusOr<SignalState> state = SignalState::Parse(kStatus);
  ASSERT_THAT(state, IsOk());
  EXPECT_TRUE(state->blocks(SIGCHLD));
  EXPECT_FALSE(state->blocks(SIGTERM));
  EXPECT_TRUE(state->handles(SIGTERM));
  EXPECT_TRUE(state->handles(SIGINT));
  EXPECT_FALSE(state->handles(SIGCHLD));
  EXPECT_TRUE(state->ignores(SIGPIPE));
  EXPECT_TRUE(state->ignores(64));
  EXPECT_TRUE(state->awaits(SIGCHLD));
  EXPECT_TRUE(state->awaits(SIGHUP));
  for (int none : {0, -1, 65, 1000}) EXPECT_FALSE(state->ignores(none));
}

TEST(SignalStateTest, IsRefusedIfALineIsMissingOrNoNumber) {
  for (const std::string_view line :
       {"SigPnd:", "ShdPnd:", "SigBlk:\t", "SigIgn:\t", "SigCgt:"}) {
    EXPECT_THAT(
        SignalState::Parse(absl::StrReplaceAll(kStatus, {{line, "Else:"}})),
        StatusIs(absl::StatusCode::kDataLoss))
        << line;
  }
  EXPECT_THAT(
      SignalState::Parse(absl::StrReplaceAll(kStatus, {{"4002", "400x"}})),
      StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(SignalState::Parse(""), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(ProcessTableTest, ReadsTheCallerItself) {
  const absl::StatusOr<Process> self = ProcessTable().Read(getpid());
  ASSERT_THAT(self, IsOk());
  EXPECT_EQ(self->pid, getpid());
  EXPECT_EQ(self->parent_pid, getppid());
  EXPECT_EQ(self->process_group, getpgrp());
  EXPECT_EQ(self->session, getsid(0));
  EXPECT_FALSE(self->zombie());
  EXPECT_GT(self->resident_bytes, 0);
  EXPECT_GE(self->Age(), absl::ZeroDuration());
  EXPECT_LT(self->Age(), absl::Hours(1));
}

TEST(ProcessTableTest, ReadsAHostileNameFromTheKernel) {
  constexpr const char* kName = "a) Z\n1 (b";
  Gate gate;
  Gate named;
  const Child child = [&] {
    absl::StatusOr<Child> forked = Fork({}, [&] {
      (void)prctl(PR_SET_NAME, kName);
      named.Open();
      gate.Wait();
      return 0;
    });
    EXPECT_THAT(forked, IsOk());
    return *std::move(forked);
  }();
  named.Wait();
  const ProcessTable table;
  const absl::StatusOr<Process> process = table.Read(child.pid());
  ASSERT_THAT(process, IsOk());
  EXPECT_EQ(process->name, kName);
  EXPECT_EQ(process->parent_pid, getpid());
  EXPECT_FALSE(process->zombie());
  EXPECT_THAT(table.Signals(child.pid()), IsOk());
}

TEST(ProcessTableTest, SaysHowAZombieEnded) {
  const Child zombie = Zombie(7);
  const absl::StatusOr<Process> process = ProcessTable().Read(zombie.pid());
  ASSERT_THAT(process, IsOk());
  EXPECT_TRUE(process->zombie());
  EXPECT_EQ(ExitStatus::FromWaitStatus(process->wait_status),
            ExitStatus::Exited(7));
}

TEST(ProcessTableTest, DoesNotFindAProcessThatIsGone) {
  Child child = Zombie(0);
  ASSERT_THAT(child.Wait(), IsOk());
  const ProcessTable table;
  EXPECT_THAT(table.Read(child.pid()), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(table.Signals(child.pid()),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(table.ChildrenOf(child.pid()),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST(ProcessTableTest, ListsEachProcessOnceInOrder) {
  Gate gate;
  const Child child = Idle(gate);
  const absl::StatusOr<std::vector<Process>> list = ProcessTable().List();
  ASSERT_THAT(list, IsOk());
  const std::vector<pid_t> pids = PidsOf(*list);
  EXPECT_TRUE(std::is_sorted(pids.begin(), pids.end()));
  EXPECT_EQ(std::set<pid_t>(pids.begin(), pids.end()).size(), pids.size());
  EXPECT_THAT(pids, Contains(getpid()));
  EXPECT_THAT(pids, Contains(child.pid()));
}

TEST(ProcessTableTest, ListsWhileProcessesComeAndGo) {
  Gate gate;
  absl::StatusOr<Child> storm = Fork({}, [&] {
    while (*PollUntil(gate.read_fd(), POLLIN, absl::InfinitePast()) == false) {
      const pid_t pid = fork();
      if (pid == 0) _exit(0);
      if (pid > 0) (void)waitpid(pid, nullptr, 0);
    }
    return 0;
  });
  ASSERT_THAT(storm, IsOk());
  const ProcessTable table;
  for (int i = 0; i < 50; ++i) {
    EXPECT_THAT(table.List(), IsOk());
    EXPECT_THAT(table.ChildrenOf(storm->pid()), IsOk());
    EXPECT_THAT(table.Zombies(), IsOk());
  }
}

TEST(ProcessTableTest, FindsChildrenThatLiveAndThatHaveEnded) {
  const ProcessTable table;
  EXPECT_THAT(table.ChildrenOf(getpid()), IsOkAndHolds(IsEmpty()));
  Gate gate;
  const Child living = Idle(gate);
  const Child ended = Zombie(0);
  std::vector<pid_t> both = {living.pid(), ended.pid()};
  std::sort(both.begin(), both.end());
  EXPECT_THAT(table.ChildrenOf(getpid()), IsOkAndHolds(both));
  EXPECT_THAT(table.ChildrenOf(living.pid()), IsOkAndHolds(IsEmpty()));
}

TEST(ProcessTableTest, FindsTheChildrenOfEachThread) {
  // In a child, for the test program itself is to have one thread.
  absl::StatusOr<Child> parent = Fork({}, [] {
    struct Work {
      Gate gate;
      pid_t pid = -1;
    } work;
    const auto fork_one = [](void* argument) -> void* {
      Work* of_thread = static_cast<Work*>(argument);
      of_thread->pid = fork();
      if (of_thread->pid == 0) {
        of_thread->gate.Wait();
        _exit(0);
      }
      // The thread stays, so that the child stays its own.
      char byte;
      (void)RetryOnEintr(
          [&] { return read(of_thread->gate.read_fd(), &byte, 1); });
      return nullptr;
    };
    pthread_t thread;
    if (pthread_create(&thread, nullptr, fork_one, &work) != 0) return 1;
    const ProcessTable table;
    absl::StatusOr<std::vector<pid_t>> children = table.ChildrenOf(getpid());
    while (children.ok() && children->empty()) {
      children = table.ChildrenOf(getpid());
    }
    work.gate.Open();
    if (pthread_join(thread, nullptr) != 0) return 2;
    (void)RetryOnEintr([&] { return waitpid(work.pid, nullptr, 0); });
    return children.ok() && *children == std::vector<pid_t>{work.pid} ? 0 : 3;
  });
  ASSERT_THAT(parent, IsOk());
  EXPECT_THAT(parent->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(ProcessTableTest, SaysWhoseTheZombiesAreAndWhatTheParentDoesAboutThem) {
  Gate ready;
  Gate gate;
  absl::StatusOr<Child> parent = Fork({}, [&] {
    sigset_t chld;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &chld, nullptr);
    for (int i = 0; i < 3; ++i) {
      const pid_t pid = fork();
      if (pid == 0) _exit(i);
      siginfo_t info;
      (void)waitid(P_PID, pid, &info, WEXITED | WNOWAIT);
    }
    ready.Open();
    gate.Wait();
    return 0;
  });
  ASSERT_THAT(parent, IsOk());
  ready.Wait();
  const absl::StatusOr<std::vector<ZombieFamily>> families =
      ProcessTable().Zombies();
  ASSERT_THAT(families, IsOk());
  const ZombieFamily* family = FamilyOf(parent->pid(), *families);
  ASSERT_NE(family, nullptr);
  EXPECT_EQ(family->zombies.size(), 3);
  for (const Process& zombie : family->zombies) {
    EXPECT_TRUE(zombie.zombie());
    EXPECT_EQ(zombie.parent_pid, parent->pid());
  }
  ASSERT_TRUE(family->parent.has_value());
  EXPECT_EQ(family->parent->pid, parent->pid());
  EXPECT_FALSE(family->parent->zombie());
  ASSERT_TRUE(family->signals.has_value());
  EXPECT_TRUE(family->signals->blocks(SIGCHLD));
  EXPECT_TRUE(family->signals->awaits(SIGCHLD));
  EXPECT_FALSE(family->signals->handles(SIGCHLD));
  EXPECT_FALSE(family->signals->ignores(SIGCHLD));
  EXPECT_EQ(FamilyOf(getpid(), *families), nullptr);
}

TEST(ProcessTableTest, TellsIgnoringFromHandling) {
  Gate gate;
  for (const bool ignore : {true, false}) {
    Gate ready;
    absl::StatusOr<Child> child = Fork({}, [&] {
      (void)std::signal(
          SIGCHLD, ignore ? SIG_IGN : [](int) {});
      ready.Open();
      gate.Wait();
      return 0;
    });
    ASSERT_THAT(child, IsOk());
    ready.Wait();
    const absl::StatusOr<SignalState> state =
        ProcessTable().Signals(child->pid());
    ASSERT_THAT(state, IsOk());
    EXPECT_EQ(state->ignores(SIGCHLD), ignore);
    EXPECT_EQ(state->handles(SIGCHLD), !ignore);
  }
}

TEST(FakeProcTest, SkipsWhatIsNoProcessAndWhatHasVanished) {
  FakeProc proc;
  proc.AddProcess(10, 'S', 1);
  proc.AddProcess(9, 'S', 1);
  proc.Write("self/stat", "not looked at");
  proc.Write("uptime", "1.0 1.0");
  proc.Write("11/vanished", "has no stat any more");
  proc.Write("012x/stat", "not looked at");
  const absl::StatusOr<std::vector<Process>> list = proc.Table().List();
  ASSERT_THAT(list, IsOk());
  EXPECT_THAT(PidsOf(*list), ElementsAre(9, 10));
}

TEST(FakeProcTest, ReportsALineThatNoKernelWrites) {
  FakeProc proc;
  proc.Write("10/stat", "10 (x) S 1\n");
  EXPECT_THAT(proc.Table().List(),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("10 (x) S 1")));
}

TEST(FakeProcTest, ReportsARootThatIsNotThere) {
  EXPECT_THAT(ProcessTable("/nowhere").List(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nowhere")));
}

TEST(FakeProcTest, FindsChildrenByParentWhereTheKernelKeepsNoList) {
  FakeProc proc;
  proc.AddProcess(1, 'S', 0);
  proc.AddProcess(5, 'S', 1);
  proc.AddProcess(7, 'Z', 5);
  proc.AddProcess(6, 'S', 5);
  EXPECT_THAT(proc.Table().ChildrenOf(5), IsOkAndHolds(ElementsAre(6, 7)));
  EXPECT_THAT(proc.Table().ChildrenOf(6), IsOkAndHolds(IsEmpty()));
  EXPECT_THAT(proc.Table().ChildrenOf(8),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST(FakeProcTest, JoinsTheListsOfAllThreads) {
  FakeProc proc;
  proc.AddProcess(5, 'S', 1);
  proc.Write("5/task/5/children", "30 10 ");
  proc.Write("5/task/6/children", "20 10 ");
  proc.Write("5/task/7/gone", "");
  EXPECT_THAT(proc.Table().ChildrenOf(5),
              IsOkAndHolds(ElementsAre(10, 20, 30)));
  proc.Write("5/task/6/children", "20 x ");
  EXPECT_THAT(proc.Table().ChildrenOf(5),
              StatusIs(absl::StatusCode::kDataLoss));
}

TEST(FakeProcTest, KeepsZombiesWhoseParentIsOutOfSight) {
  FakeProc proc;
  proc.AddProcess(10, 'Z', 0);
  proc.AddProcess(12, 'Z', 5);
  proc.AddProcess(11, 'Z', 5);
  proc.AddProcess(5, 'S', 1);
  const absl::StatusOr<std::vector<ZombieFamily>> families =
      proc.Table().Zombies();
  ASSERT_THAT(families, IsOk());
  ASSERT_EQ(families->size(), 2);
  EXPECT_EQ((*families)[0].parent_pid, 0);
  EXPECT_FALSE((*families)[0].parent.has_value());
  EXPECT_FALSE((*families)[0].signals.has_value());
  EXPECT_EQ((*families)[1].parent_pid, 5);
  EXPECT_TRUE((*families)[1].parent.has_value());
  EXPECT_THAT(PidsOf((*families)[1].zombies), ElementsAre(11, 12));
}

}  // namespace
}  // namespace brood
