// SPDX-License-Identifier: Apache-2.0
// How a child ends, and what its host does about SIGCHLD, in every pairing: the
// answer is the same, and right.
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_queue.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/proc/reaper.h"
#include "brood/proc/spawn.h"
#include "brood/proc/unique_fd.h"
#include "brood/tests/gate.h"
#include "brood/tests/kernel_release.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::testing::AnyOf;
using ::testing::Eq;

enum class Host {
  kLeavesSigchldAlone,
  kIgnoresSigchld,
  kSetsNoCldWait,
  kBlocksSigchld,
  kReapsAnyChildInItsHandler,
  kReapsAnyChildInAThread,
};

enum class End {
  kExit0,
  kExit7,
  kSigkill,
  kAbort,
  kEnoent,
  kEacces,
  kEnoexec,
  kE2big
};

enum class Start { kFork, kForkWithReaper, kSpawn, kSpawnWithReaper };

void ReapAny(int) {
  const int saved = errno;
  while (waitpid(-1, nullptr, WNOHANG) > 0) {
  }
  errno = saved;
}

// Does its worst for as long as it lives.
class HostileHost {
 public:
  explicit HostileHost(Host host) : host_(host) {
    struct sigaction action = {};
    sigset_t chld;
    sigemptyset(&chld);
    if (host == Host::kBlocksSigchld) sigaddset(&chld, SIGCHLD);
    if (host == Host::kIgnoresSigchld) action.sa_handler = SIG_IGN;
    if (host == Host::kSetsNoCldWait) action.sa_flags = SA_NOCLDWAIT;
    if (host == Host::kReapsAnyChildInItsHandler) {
      action.sa_handler = ReapAny;
      action.sa_flags = SA_RESTART;
    }
    EXPECT_EQ(sigaction(SIGCHLD, &action, &action_), 0);
    EXPECT_EQ(sigprocmask(SIG_BLOCK, &chld, &mask_), 0);
  }
  HostileHost(const HostileHost&) = delete;
  HostileHost& operator=(const HostileHost&) = delete;
  ~HostileHost() {
    stop_ = true;
    if (thief_.joinable()) thief_.join();
    EXPECT_EQ(sigaction(SIGCHLD, &action_, nullptr), 0);
    // What is pending is nobody's any more.
    const timespec now = {};
    sigset_t chld;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    if (host_ == Host::kBlocksSigchld) (void)sigtimedwait(&chld, nullptr, &now);
    EXPECT_EQ(sigprocmask(SIG_SETMASK, &mask_, nullptr), 0);
  }

  // Only now, for Fork() refuses to copy a process that has threads.
  void BeginToSteal() {
    if (host_ != Host::kReapsAnyChildInAThread) return;
    thief_ = std::thread([this] {
      while (!stop_) {
        ReapAny(SIGCHLD);
        std::this_thread::yield();
      }
    });
  }

 private:
  Host host_;
  struct sigaction action_ = {};
  sigset_t mask_;
  std::atomic<bool> stop_ = false;
  std::thread thief_;
};

class ChildMatrixTest
    : public testing::TestWithParam<std::tuple<Host, End, Start>> {
 protected:
  static Host host() { return std::get<0>(GetParam()); }
  static End end() { return std::get<1>(GetParam()); }
  static bool spawns() {
    return std::get<2>(GetParam()) == Start::kSpawn ||
           std::get<2>(GetParam()) == Start::kSpawnWithReaper;
  }
  static bool has_reaper() {
    return std::get<2>(GetParam()) == Start::kForkWithReaper ||
           std::get<2>(GetParam()) == Start::kSpawnWithReaper;
  }

  // What execve is to fail with, and which program fails so.
  static int exec_error() {
    switch (end()) {
      case End::kEnoent:
        return ENOENT;
      case End::kEacces:
        return EACCES;
      case End::kEnoexec:
        return ENOEXEC;
      case End::kE2big:
        return E2BIG;
      default:
        return 0;
    }
  }
  std::vector<std::string> Program() const {
    switch (end()) {
      case End::kExit0:
        return {"/bin/sh", "-c", "exit 0"};
      case End::kExit7:
        return {"/bin/sh", "-c", "exit 7"};
      case End::kSigkill:
        return {"/bin/sh", "-c", "kill -KILL $$"};
      case End::kAbort:
        return {"/bin/sh", "-c", "ulimit -c 0; kill -ABRT $$"};
      case End::kEnoent:
        return {"/nonexistent/program"};
      case End::kEacces:
      case End::kEnoexec:
        return {file_};
      case End::kE2big:
        return {"/bin/sh", std::string(1 << 20, 'x')};
    }
    return {};
  }

  void SetUp() override {
    const mode_t mode = end() == End::kEacces ? 0600 : 0700;
    const UniqueFd file(
        open(file_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, mode));
    ASSERT_TRUE(file.valid());
    ASSERT_EQ(write(file.get(), "neither program nor script", 26), 26);
  }
  void TearDown() override { EXPECT_EQ(unlink(file_.c_str()), 0); }

  int Body() const {
    switch (end()) {
      case End::kExit0:
        return 0;
      case End::kExit7:
        return 7;
      case End::kSigkill:
        return raise(SIGKILL);
      case End::kAbort:
        (void)prctl(PR_SET_DUMPABLE, 0);
        abort();
      default:
        break;
    }
    const std::vector<std::string> program = Program();
    std::vector<char*> argv;
    for (const std::string& argument : program) {
      argv.push_back(const_cast<char*>(argument.c_str()));
    }
    argv.push_back(nullptr);
    (void)execv(argv.front(), argv.data());
    return errno;
  }

  ExitStatus Expected() const {
    switch (end()) {
      case End::kExit0:
        return ExitStatus::Exited(0);
      case End::kExit7:
        return ExitStatus::Exited(7);
      case End::kSigkill:
        return ExitStatus::Killed(SIGKILL);
      case End::kAbort:
        return ExitStatus::Killed(SIGABRT);
      default:
        return ExitStatus::Exited(exec_error());
    }
  }

  std::string file_ = absl::StrCat(testing::TempDir(), "/matrix.", getpid());
};

// As a Reaper's owner sees it, or a Child's.
absl::StatusOr<ExitStatus> AwaitEnd(Child child, Reaper* reaper) {
  if (reaper == nullptr) return child.Wait();
  if (absl::Status s = reaper->Add(std::move(child), 0); !s.ok()) return s;
  while (true) {
    absl::StatusOr<std::optional<Reaper::Exit>> exit = reaper->Next();
    if (!exit.ok()) return exit.status();
    if (exit->has_value()) return (*exit)->status;
    absl::StatusOr<bool> ready =
        PollUntil(reaper->fd(), POLLIN, absl::InfiniteFuture());
    if (!ready.ok()) return ready.status();
  }
}

TEST_P(ChildMatrixTest, TellsHowItEnded) {
  std::optional<Reaper> reaper;
  if (has_reaper()) reaper = *Reaper::Create(*ExitQueue::Create());
  Reaper* const owner = reaper.has_value() ? &*reaper : nullptr;
  HostileHost hostile(host());
  if (!spawns()) {
    Gate gate;
    std::optional<int> exit_signal;
    if (owner != nullptr) exit_signal = owner->exit_signal();
    absl::StatusOr<Child> child = Fork({.exit_signal = exit_signal}, [&] {
      gate.Wait();
      return Body();
    });
    ASSERT_THAT(child, IsOk());
    hostile.BeginToSteal();
    gate.Open();
    EXPECT_THAT(AwaitEnd(*std::move(child), owner), IsOkAndHolds(Expected()));
    return;
  }
  hostile.BeginToSteal();
  absl::StatusOr<Child> child = Spawn(Program());
  if (exec_error() != 0) {
    EXPECT_EQ(ErrnoOf(child.status()), exec_error()) << child.status();
    return;
  }
  ASSERT_THAT(child, IsOk());
  if (KernelIsAtLeast(6, 15)) {  // It tells afterwards how a child ended.
    EXPECT_THAT(AwaitEnd(*std::move(child), owner), IsOkAndHolds(Expected()));
  } else {
    EXPECT_THAT(AwaitEnd(*std::move(child), owner),
                IsOkAndHolds(AnyOf(Eq(Expected()), Eq(ExitStatus::Lost()))));
  }
}

std::string NameOfCell(
    const testing::TestParamInfo<std::tuple<Host, End, Start>>& cell) {
  const std::vector<std::string> hosts = {"Default",         "Ignored",
                                          "NoCldWait",       "Blocked",
                                          "HandlerReapsAny", "ThreadReapsAny"};
  const std::vector<std::string> ends = {"Exit0",   "Exit7",  "Sigkill",
                                         "Abort",   "Enoent", "Eacces",
                                         "Enoexec", "E2big"};
  const std::vector<std::string> starts = {"Fork", "ForkWithReaper", "Spawn",
                                           "SpawnWithReaper"};
  return absl::StrCat(hosts[static_cast<size_t>(std::get<0>(cell.param))], "_",
                      ends[static_cast<size_t>(std::get<1>(cell.param))], "_",
                      starts[static_cast<size_t>(std::get<2>(cell.param))]);
}

INSTANTIATE_TEST_SUITE_P(
    Sigchld, ChildMatrixTest,
    testing::Combine(testing::Values(Host::kLeavesSigchldAlone,
                                     Host::kIgnoresSigchld,
                                     Host::kSetsNoCldWait, Host::kBlocksSigchld,
                                     Host::kReapsAnyChildInItsHandler,
                                     Host::kReapsAnyChildInAThread),
                     testing::Values(End::kExit0, End::kExit7, End::kSigkill,
                                     End::kAbort, End::kEnoent, End::kEacces,
                                     End::kEnoexec, End::kE2big),
                     testing::Values(Start::kFork, Start::kForkWithReaper,
                                     Start::kSpawn, Start::kSpawnWithReaper)),
    NameOfCell);

}  // namespace
}  // namespace brood
