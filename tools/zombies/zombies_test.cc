// SPDX-License-Identifier: Apache-2.0
//
// The real program, on families that the test makes: a parent, and children
// that have ended.
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/log/check.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/process_table.h"
#include "brood/proc/spawn.h"
#include "brood/proc/unique_fd.h"
#include "brood/tools/zombies/zombies_process.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// A parent that runs `prepare`, which makes its children, and then does nothing
// until it is killed.
class Family {
 public:
  explicit Family(absl::FunctionRef<void()> prepare) {
    auto [reading, writing] = ZombiesProcess::MakePipe();
    absl::StatusOr<Child> parent =
        Fork({.parent_death_signal = SIGKILL}, [&]() -> int {
          prepare();
          writing = UniqueFd();
          while (true) pause();
        });
    CHECK_OK(parent);
    parent_.emplace(*std::move(parent));
    writing = UniqueFd();
    ZombiesProcess::ReadSome(reading);
  }
  ~Family() {
    (void)parent_->Signal(SIGKILL);
    (void)parent_->Wait();
  }
  Family(const Family&) = delete;
  Family& operator=(const Family&) = delete;

  pid_t pid() const { return parent_->pid(); }
  Child& parent() { return *parent_; }
  std::string flag() const { return absl::StrCat("--pid=", pid()); }

 private:
  std::optional<Child> parent_;
};

// In a family's parent: children that have all ended when this returns.
void MakeZombies(int count) {
  for (int i = 0; i < count; ++i) {
    const pid_t child = fork();
    if (child == 0) _exit(i);
    siginfo_t info;
    while (waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT) ==
               -1 &&
           errno == EINTR) {
    }
  }
}

void WaitOnce(int) { (void)waitpid(-1, nullptr, WNOHANG); }

void OnSigchld(void (*what)(int)) {
  struct sigaction action = {};
  action.sa_handler = what;
  (void)sigaction(SIGCHLD, &action, nullptr);
}

void Mask(int how, int signo) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signo);
  (void)sigprocmask(how, &set, nullptr);
}

std::optional<int> ExitCodeBelow(pid_t pid) {
  ZombiesProcess process({absl::StrCat("--pid=", pid)});
  return process.Wait().status.exit_code();
}

TEST(ZombiesTest, HeaderExample) {
  EXPECT_EQ(ExitCodeBelow(Family([] {}).pid()), 0);
  EXPECT_EQ(ExitCodeBelow(Family([] { MakeZombies(1); }).pid()), 1);
}

TEST(ZombiesTest, NoZombieIsExitCodeZero) {
  const Family family([] {});
  const ZombiesProcess::Outcome outcome = RunZombies({family.flag()});
  EXPECT_EQ(outcome.status, ExitStatus::Exited(0));
  EXPECT_EQ(outcome.output, "no zombie among 1 process\n");
  EXPECT_EQ(outcome.errors, "");
}

TEST(ZombiesTest, FindsThoseOfAParentThatDoesNothing) {
  const Family family([] { MakeZombies(3); });
  const ZombiesProcess::Outcome outcome = RunZombies({family.flag()});
  EXPECT_EQ(outcome.status, ExitStatus::Exited(1));
  EXPECT_THAT(outcome.output,
              AllOf(StartsWith("3 zombies of 1 parent, among 4 processes\n"),
                    HasSubstr(absl::StrCat("pid ", family.pid(), ", started ")),
                    HasSubstr("SIGCHLD: neither handled nor ignored\n"),
                    HasSubstr("kill -CHLD changes"), HasSubstr("  at least "),
                    HasSubstr("exited 2\n")));
}

TEST(ZombiesTest, SeesWhatEachParentDoesAboutSigchld) {
  const Family ignores([] {
    MakeZombies(1);
    OnSigchld(SIG_IGN);
  });
  const Family blocks([] {
    Mask(SIG_BLOCK, SIGCHLD);
    MakeZombies(1);
  });
  const Family handles_too_little([] {
    Mask(SIG_BLOCK, SIGCHLD);
    OnSigchld(WaitOnce);
    MakeZombies(3);
    Mask(SIG_UNBLOCK, SIGCHLD);
  });
  EXPECT_THAT(RunZombies({ignores.flag()}).output,
              HasSubstr("SIGCHLD: ignored\n"));
  EXPECT_THAT(
      RunZombies({blocks.flag()}).output,
      HasSubstr("SIGCHLD: neither handled nor ignored, blocked, one pending"));
  EXPECT_THAT(RunZombies({handles_too_little.flag()}).output,
              AllOf(StartsWith("2 zombies of 1 parent"),
                    HasSubstr("SIGCHLD: handled\n"), HasSubstr("waits once")));
}

TEST(ZombiesTest, AStoppedParentIsToGoOn) {
  Family family([] { MakeZombies(1); });
  ASSERT_THAT(family.parent().Signal(SIGSTOP), IsOk());
  siginfo_t info;
  ASSERT_EQ(
      waitid(P_PID, static_cast<id_t>(family.pid()), &info, WSTOPPED | __WALL),
      0);
  EXPECT_THAT(RunZombies({family.flag()}).output,
              HasSubstr(absl::StrCat("Cure: kill -CONT ", family.pid())));
}

TEST(ZombiesTest, KnowsChildrenOfWhichNoSigchldTells) {
  const Family family([] {
    absl::StatusOr<Child> child = Fork({}, [] { return 0; });
    siginfo_t info;
    (void)waitid(P_PID, static_cast<id_t>(child->pid()), &info,
                 WEXITED | WNOWAIT | __WALL);
    new Child(*std::move(child));  // Nobody is to reap it.
  });
  EXPECT_THAT(RunZombies({family.flag()}).output,
              AllOf(StartsWith("1 zombie of "), HasSubstr("__WALL")));
}

// The first thread's number is the process's, and what is left of it has the
// state of a zombie that nobody can reap until the others have ended.
TEST(ZombiesTest, AFirstThreadThatHasEndedRaisesNoAlarm) {
  auto [reading, writing] = ZombiesProcess::MakePipe();
  absl::StatusOr<Child> process = Fork({.parent_death_signal = SIGKILL}, [&] {
    pthread_t thread;
    int fd = writing.get();
    (void)pthread_create(
        &thread, nullptr,
        [](void* end) -> void* {
          while (ProcessTable().Read(getpid())->state !=
                 ProcessState::kZombie) {
            (void)sched_yield();
          }
          (void)close(*static_cast<int*>(end));
          while (true) pause();
        },
        &fd);
    return static_cast<int>(syscall(SYS_exit, 0));
  });
  ASSERT_THAT(process, IsOk());
  writing = UniqueFd();
  ZombiesProcess::ReadSome(reading);
  const ZombiesProcess::Outcome outcome =
      RunZombies({absl::StrCat("--pid=", getpid())});
  EXPECT_THAT(process->Signal(SIGKILL), IsOk());
  EXPECT_THAT(process->Wait(), IsOk());
  EXPECT_EQ(outcome.status, ExitStatus::Exited(0));
  EXPECT_THAT(outcome.output,
              AllOf(StartsWith("no zombie among "),
                    HasSubstr(absl::StrCat("pid ", process->pid(),
                                           ", looks like a zombie"))));
}

TEST(ZombiesTest, OneThatIsTooYoungIsNotCounted) {
  const Family family([] { MakeZombies(1); });
  // The second look comes after so long; the kernel's clock sees to that.
  EXPECT_EQ(RunZombies({family.flag(), "--min_age=0s"}).status,
            ExitStatus::Exited(1));
  ZombiesProcess patient({family.flag(), "--min_age=1h", "--watch=100ms"});
  EXPECT_THAT(patient.ReadLine(), HasSubstr(" 0 zombies; 1 not counted yet"));
  ASSERT_THAT(patient.child().Signal(SIGTERM), IsOk());
  EXPECT_EQ(patient.Wait().status, ExitStatus::Exited(0));
}

TEST(ZombiesTest, ShowsTheTreeAndJson) {
  const Family family([] { MakeZombies(1); });
  EXPECT_THAT(RunZombies({family.flag(), "--tree"}).output,
              HasSubstr(absl::StrCat(" (", family.pid(), "): 1 zombie\n`- ")));
  const ZombiesProcess::Outcome json =
      RunZombies({family.flag(), "--output=json"});
  EXPECT_EQ(json.status, ExitStatus::Exited(1));
  EXPECT_THAT(json.output,
              AllOf(StartsWith("{\"time\":\""), HasSubstr("\"zombies\":1,"),
                    HasSubstr(absl::StrCat("\"pid\":", family.pid(), ","))));
  EXPECT_EQ(json.output.find('\n'), json.output.size() - 1);
}

TEST(ZombiesTest, WatchesUntilItIsAskedToEnd) {
  const Family family([] { MakeZombies(2); });
  for (const int signo : {SIGINT, SIGTERM}) {
    ZombiesProcess watch({family.flag(), "--watch=100ms", "--min_age=0s"});
    for (int i = 0; i < 3; ++i) {
      EXPECT_THAT(watch.ReadLine(), HasSubstr(" 2 zombies: 2 of "));
    }
    ASSERT_THAT(watch.child().Signal(signo), IsOk());
    EXPECT_EQ(watch.Wait().status, ExitStatus::Exited(1));
  }
}

TEST(ZombiesTest, AMistakeInTheFlagsIsExitCodeTwo) {
  const ZombiesProcess::Outcome outcome = RunZombies({"--watch=never"});
  EXPECT_EQ(outcome.status, ExitStatus::Exited(2));
  EXPECT_EQ(outcome.output, "");
  EXPECT_EQ(outcome.errors,
            "zombies: --watch=\"never\": allowed is a duration from 100ms to "
            "1h\n");
  const ZombiesProcess::Outcome help = RunZombies({"--help"});
  EXPECT_EQ(help.status, ExitStatus::Exited(0));
  EXPECT_THAT(help.output, HasSubstr("exit code: 0 no zombie"));
}

TEST(ZombiesTest, WhereItCannotLookIsExitCodeThree) {
  // pid_max is at most that, and no pid is as high.
  const ZombiesProcess::Outcome outcome = RunZombies({"--pid=4194304"});
  EXPECT_EQ(outcome.status, ExitStatus::Exited(3));
  EXPECT_EQ(outcome.errors, "zombies: there is no process 4194304\n");
  EXPECT_EQ(outcome.output, "");
}

TEST(ZombiesTest, NobodyToReadItIsExitCodeThree) {
  const UniqueFd full(open("/dev/full", O_WRONLY | O_CLOEXEC));
  ASSERT_TRUE(full.valid());
  absl::StatusOr<Child> child =
      Spawn({getenv("ZOMBIES"), "--pid=1", "--min_age=0s"},
            {.fds = {{.child = 1, .parent = full.get()}}});
  ASSERT_THAT(child, IsOk());
  EXPECT_THAT(child->Wait(), IsOkAndHolds(ExitStatus::Exited(3)));
}

}  // namespace
}  // namespace brood
