// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/families.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <string>
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
#include "brood/proc/limits.h"
#include "brood/proc/pidfd.h"
#include "brood/proc/posix.h"
#include "brood/proc/process_table.h"
#include "brood/proc/spawn.h"
#include "brood/proc/unique_fd.h"
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

absl::Status RunAndLeaveNobody(const std::vector<std::string>& argv) {
  absl::StatusOr<Families> families =
      Families::Receive([](pid_t) { return false; });
  if (!families.ok()) return families.status();
  SpawnOptions options;
  absl::Status status = options.limits.Set(families->MarkOf(1));
  absl::StatusOr<Child> program = Spawn(argv, options);
  if (!program.ok()) return program.status();
  (void)program->Wait();
  families->End(1);
  while (status.ok() && families->ending() > 0) {
    (void)PollUntil(families->fd(), POLLIN, absl::InfiniteFuture());
    status = families->Look();
  }
  return status;
}

Families MustReceive(Families::IsMine is_mine = [](pid_t) { return false; }) {
  absl::StatusOr<Families> families = Families::Receive(std::move(is_mine));
  CHECK_OK(families);
  return *std::move(families);
}

// A child that is the first of the family `number`, and leads a process group.
Child Begin(const Families& families, uint64_t number,
            absl::FunctionRef<int()> body) {
  Limits mark;
  CHECK_OK(mark.Set(families.MarkOf(number)));
  absl::StatusOr<Child> child = Fork({.new_process_group = true}, [&] {
    CHECK_OK(mark.Apply());
    return body();
  });
  CHECK_OK(child);
  return *std::move(child);
}

// What members say of themselves: their pids, as they are ready.
class Roll {
 public:
  Roll() {
    std::array<int, 2> ends;
    CHECK_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
    in_ = UniqueFd(ends[0]);
    out_ = UniqueFd(ends[1]);
  }

  void SayHere() const {
    const pid_t pid = getpid();
    CHECK_EQ(write(out_.get(), &pid, sizeof pid), ssize_t{sizeof pid});
  }

  // The next one who has said so, by a descriptor that goes on meaning it.
  UniqueFd Next() const {
    UniqueFd pidfd(PidfdOpen(NextPid()));
    CHECK(pidfd.valid());
    return pidfd;
  }

  pid_t NextPid() const {
    pid_t pid = 0;
    CHECK_EQ(RetryOnEintr([&] { return read(in_.get(), &pid, sizeof pid); }),
             ssize_t{sizeof pid});
    return pid;
  }

 private:
  UniqueFd in_;
  UniqueFd out_;
};

// For ever; the result is for bodies that have to have one.
int Stay() {
  while (true) pause();
}

// Who stays in a session of its own, as a child of the caller.
void StartInOwnSession(const Roll& roll) {
  if (fork() != 0) return;
  CHECK_NE(setsid(), -1);
  roll.SayHere();
  Stay();
}

// Who stays, as a daemon does: in a session of its own, and its parents ended.
void StartDaemon(const Roll& roll) {
  const pid_t between = fork();
  if (between == 0) {
    CHECK_NE(setsid(), -1);
    if (fork() != 0) _exit(0);
    while (getppid() == getsid(0)) sched_yield();
    roll.SayHere();
    Stay();
  }
  CHECK_EQ(waitpid(between, nullptr, 0), between);
}

bool HasEnded(const UniqueFd& pidfd) {
  return *PollUntil(pidfd.get(), POLLIN, absl::InfinitePast());
}

void AwaitEnd(const UniqueFd& pidfd) {
  CHECK_OK(PollUntil(pidfd.get(), POLLIN, absl::InfiniteFuture()));
}

void LookUntilNobodyIsLeft(Families& families) {
  while (families.ending() > 0) {
    ASSERT_THAT(PollUntil(families.fd(), POLLIN, absl::InfiniteFuture()),
                IsOkAndHolds(true));
    ASSERT_THAT(families.Look(), IsOk());
  }
}

bool IsSubreaper() {
  int is = 0;
  CHECK_EQ(prctl(PR_GET_CHILD_SUBREAPER, &is, 0, 0, 0), 0);
  return is != 0;
}

bool HasChildren() {
  siginfo_t info = {};
  return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0;
}

TEST(FamiliesTest, HeaderExample) {
  EXPECT_THAT(RunAndLeaveNobody({"sh", "-c",
                                 "setsid sleep 1000 >/dev/null 2>&1 &"
                                 "(setsid sleep 1000 >/dev/null 2>&1 &)"}),
              IsOk());
  EXPECT_FALSE(HasChildren());
}

TEST(FamiliesTest, EndsWhoHasLeftTheSessionAndWhoHasNoParentAnyMore) {
  Families families = MustReceive();
  Roll roll;
  Child first = Begin(families, 1, [&] {
    StartInOwnSession(roll);
    StartDaemon(roll);
    return 0;
  });
  std::vector<UniqueFd> members;
  for (int i = 0; i < 2; ++i) members.push_back(roll.Next());
  ASSERT_THAT(first.Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
  families.End(1);
  EXPECT_EQ(families.ending(), 1);
  LookUntilNobodyIsLeft(families);
  for (const UniqueFd& member : members) EXPECT_TRUE(HasEnded(member));
  EXPECT_FALSE(HasChildren());
}

TEST(FamiliesTest, EndsAWholeTreeHoweverDeep) {
  constexpr int kDeep = 50;
  Families families = MustReceive();
  Roll roll;
  Child first = Begin(families, 1, [&] {
    for (int i = 0; i < kDeep; ++i) {
      if (fork() != 0) return i > 0 ? Stay() : 0;
      CHECK_NE(setsid(), -1);
      roll.SayHere();
    }
    return Stay();
  });
  std::vector<UniqueFd> members;
  for (int i = 0; i < kDeep; ++i) members.push_back(roll.Next());
  ASSERT_THAT(first.Wait(), IsOk());
  families.End(1);
  LookUntilNobodyIsLeft(families);
  for (const UniqueFd& member : members) EXPECT_TRUE(HasEnded(member));
  EXPECT_FALSE(HasChildren());
}

TEST(FamiliesTest, KnowsAMemberThatHasExecutedAndEmptiedItsEnvironment) {
  Families families = MustReceive();
  SpawnOptions options;
  ASSERT_THAT(options.limits.Set(families.MarkOf(1)), IsOk());
  absl::StatusOr<Child> program =
      Spawn({"sh", "-c",
             "cd /; (exec env -i setsid sh -c 'exec sleep 1000' "
             ">/dev/null 2>&1 &)"},
            options);
  ASSERT_THAT(program, IsOk());
  ASSERT_THAT(program->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
  ASSERT_TRUE(HasChildren());
  families.End(1);
  LookUntilNobodyIsLeft(families);
  EXPECT_FALSE(HasChildren());
}

// Some end as soon as they have children, so that their children come up;
// others stay, so that they are below; and all of them go on as long as they
// can.
TEST(FamiliesTest, EndsThoseWhoForkWhileTheyAreEnded) {
  constexpr int kMost = 3000;
  void* const memory =
      mmap(nullptr, sizeof(std::atomic<int>), PROT_READ | PROT_WRITE,
           MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  auto& forks = *new (memory) std::atomic<int>(0);
  Families families = MustReceive();
  Child first = Begin(families, 1, [&] {
    if (fork() != 0) return 0;
    while (true) {
      const int number = forks++;
      if (number >= kMost) Stay();
      (void)setsid();
      if (fork() != 0 && number % 3 == 0) _exit(0);
    }
  });
  ASSERT_THAT(first.Wait(), IsOk());
  while (forks < kMost / 10) sched_yield();
  families.End(1);
  LookUntilNobodyIsLeft(families);
  EXPECT_FALSE(HasChildren());
  RecordProperty("forks", forks.load());
  EXPECT_EQ(munmap(memory, sizeof(std::atomic<int>)), 0);
}

TEST(FamiliesTest, LeavesOtherFamiliesAndStrangersAlone) {
  Gate gate;
  absl::StatusOr<Child> stranger = Fork({}, [&] {
    gate.Wait();
    return 7;
  });
  ASSERT_THAT(stranger, IsOk());
  Families families = MustReceive();
  Roll roll;
  std::vector<UniqueFd> members;
  for (const uint64_t number : {1, 2}) {
    Child first = Begin(families, number, [&] {
      StartDaemon(roll);
      return 0;
    });
    members.push_back(roll.Next());
    ASSERT_THAT(first.Wait(), IsOk());
  }
  families.End(1);
  LookUntilNobodyIsLeft(families);
  EXPECT_TRUE(HasEnded(members[0]));
  EXPECT_FALSE(HasEnded(members[1]));
  EXPECT_THAT(stranger->TryWait(), IsOkAndHolds(std::nullopt));
  families.End(2);
  LookUntilNobodyIsLeft(families);
  EXPECT_TRUE(HasEnded(members[1]));
  gate.Open();
  EXPECT_THAT(stranger->Wait(), IsOkAndHolds(ExitStatus::Exited(7)));
}

// A child of the caller's own is waited for by its owner, whatever it carries.
TEST(FamiliesTest, LeavesToItsOwnerWhatIsSomebodysToWaitFor) {
  pid_t mine = 0;
  Families families = MustReceive([&](pid_t pid) { return pid == mine; });
  SpawnOptions options;
  ASSERT_THAT(options.limits.Set(families.MarkOf(1)), IsOk());
  absl::StatusOr<Child> program = Spawn({"sh", "-c", "exit 5"}, options);
  ASSERT_THAT(program, IsOk());
  mine = program->pid();
  ASSERT_THAT(PollUntil(program->fd(), POLLIN, absl::InfiniteFuture()), IsOk());
  families.End(1);
  ASSERT_THAT(families.Look(), IsOk());
  EXPECT_THAT(program->Wait(), IsOkAndHolds(ExitStatus::Exited(5)));
}

// The pid of who began a family may be another's by the time that it is asked.
TEST(FamiliesTest, TouchesNobodyBelowAPidThatIsAnothersByNow) {
  Families families = MustReceive();
  Roll roll;
  Child other = Begin(families, 2, [&] {
    StartInOwnSession(roll);
    return Stay();
  });
  const UniqueFd member = roll.Next();
  families.Ask(1, other.pid());
  ASSERT_THAT(families.Look(), IsOk());
  EXPECT_FALSE(HasEnded(member));
  ASSERT_THAT(other.Signal(SIGKILL), IsOk());
  ASSERT_THAT(other.Wait(), IsOk());
  families.End(2);
  LookUntilNobodyIsLeft(families);
  EXPECT_TRUE(HasEnded(member));
}

// The group is asked by its owner, and nobody is to be asked twice.
TEST(FamiliesTest, AsksThoseWhoAreNotInTheGroupOfTheFirst) {
  pid_t mine = 0;
  Families families = MustReceive([&](pid_t pid) { return pid == mine; });
  Roll roll;
  Child first = Begin(families, 1, [&] {
    if (fork() == 0) return Stay();
    StartInOwnSession(roll);
    StartDaemon(roll);
    return Stay();
  });
  mine = first.pid();
  const UniqueFd in_session = roll.Next();
  const UniqueFd daemon = roll.Next();
  families.Ask(1, first.pid());
  ASSERT_THAT(PollUntil(families.fd(), POLLIN, absl::InfiniteFuture()),
              IsOkAndHolds(true));
  ASSERT_THAT(families.Look(), IsOk());
  AwaitEnd(in_session);
  AwaitEnd(daemon);
  EXPECT_THAT(first.TryWait(), IsOkAndHolds(std::nullopt));
  int in_group = 0;
  const absl::StatusOr<std::vector<pid_t>> children =
      ProcessTable().ChildrenOf(first.pid());
  ASSERT_THAT(children, IsOk());
  for (const pid_t child : *children) in_group += getpgid(child) == mine;
  EXPECT_EQ(in_group, 1);
  ASSERT_THAT(first.Signal(SIGKILL), IsOk());
  ASSERT_THAT(first.Wait(), IsOk());
  mine = 0;
  families.End(1);
  LookUntilNobodyIsLeft(families);
  EXPECT_FALSE(HasChildren());
}

TEST(FamiliesTest, ReapsWhoIsLeftWhenItEndsAndNotBefore) {
  Families families = MustReceive();
  Roll roll;
  Gate gate;
  Child first = Begin(families, 1, [&] {
    if (fork() != 0) return 0;
    roll.SayHere();
    gate.Wait();
    return 0;
  });
  const UniqueFd left = roll.Next();
  ASSERT_THAT(first.Wait(), IsOk());
  ASSERT_THAT(families.Look(), IsOk());
  EXPECT_FALSE(HasEnded(left));
  EXPECT_TRUE(HasChildren());
  gate.Open();
  AwaitEnd(left);
  ASSERT_THAT(families.Look(), IsOk());
  EXPECT_FALSE(HasChildren());
}

TEST(FamiliesTest, LeavesReapingToOthersIfItIsToldTo) {
  absl::StatusOr<Families> families =
      Families::Receive([](pid_t) { return false; }, Families::Reaps::kNobody);
  ASSERT_THAT(families, IsOk());
  Roll roll;
  Child first = Begin(*families, 1, [&] {
    StartDaemon(roll);
    return 0;
  });
  const pid_t daemon = roll.NextPid();
  ASSERT_THAT(first.Wait(), IsOk());
  families->End(1);
  ASSERT_THAT(families->Look(), IsOk());
  int status = 0;
  EXPECT_EQ(waitpid(daemon, &status, 0), daemon);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  LookUntilNobodyIsLeft(*families);
}

TEST(FamiliesTest, ReapsWhoHasLostHisMarkIfAllAreToBeReaped) {
  pid_t mine = 0;
  absl::StatusOr<Families> families = Families::Receive(
      [&](pid_t pid) { return pid == mine; }, Families::Reaps::kAll);
  ASSERT_THAT(families, IsOk());
  Roll roll;
  Child first = Begin(*families, 1, [&] {
    const rlimit other = {.rlim_cur = 5, .rlim_max = RLIM_INFINITY};
    CHECK_EQ(setrlimit(RLIMIT_LOCKS, &other), 0);
    if (fork() != 0) return 0;
    roll.SayHere();
    return 0;
  });
  mine = first.pid();
  const UniqueFd left = roll.Next();
  ASSERT_THAT(first.Wait(), IsOk());
  mine = 0;
  AwaitEnd(left);
  ASSERT_THAT(families->Look(), IsOk());
  EXPECT_FALSE(HasChildren());
}

TEST(FamiliesTest, ReadsAMarkThatItMayNotAskFor) {
  absl::StatusOr<Child> child = Fork({}, [] {
    Families families = MustReceive();
    Roll roll;
    Child first = Begin(families, 1, [&] {
      StartDaemon(roll);
      return 0;
    });
    const UniqueFd daemon = roll.Next();
    CHECK_OK(first.Wait());
    DenySyscalls({SYS_prlimit64}, EPERM);
    families.End(1);
    LookUntilNobodyIsLeft(families);
    return HasEnded(daemon) ? 0 : 1;
  });
  ASSERT_THAT(child, IsOk());
  EXPECT_THAT(child->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(FamiliesTest, EndsAWholeTreeWithoutPidfds) {
  absl::StatusOr<Child> child = Fork({}, [] {
    Families families = MustReceive();
    Roll roll;
    Child first = Begin(families, 1, [&] {
      for (int i = 0; i < 5; ++i) {
        if (fork() != 0) return i > 0 ? Stay() : 0;
        CHECK_NE(setsid(), -1);
      }
      roll.SayHere();
      return Stay();
    });
    const UniqueFd last = roll.Next();
    CHECK_OK(first.Wait());
    DenySyscalls({SYS_pidfd_open}, ENOSYS);
    families.End(1);
    LookUntilNobodyIsLeft(families);
    return HasEnded(last) && !HasChildren() ? 0 : 1;
  });
  ASSERT_THAT(child, IsOk());
  EXPECT_THAT(child->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(FamiliesTest, IsASubreaperForAsLongAsItLives) {
  ASSERT_FALSE(IsSubreaper());
  {
    Families families = MustReceive();
    EXPECT_TRUE(IsSubreaper());
    const Families moved = std::move(families);
    EXPECT_TRUE(IsSubreaper());
  }
  EXPECT_FALSE(IsSubreaper());
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
  { const Families families = MustReceive(); }
  EXPECT_TRUE(IsSubreaper());
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0), 0);
}

TEST(FamiliesTest, SaysWhatItLacks) {
  EXPECT_THAT(Families::Receive(nullptr),
              StatusIs(absl::StatusCode::kInvalidArgument));
  absl::StatusOr<Child> child = Fork({}, [] {
    Limits low;
    CHECK_OK(low.Set({.resource = RLIMIT_LOCKS, .soft = 100, .hard = 100}));
    CHECK_OK(low.Apply());
    const absl::Status status =
        Families::Receive([](pid_t) { return false; }).status();
    EXPECT_THAT(status,
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         HasSubstr("LOCKS, and the hard one is only 100")));
    return testing::Test::HasFailure() ? 1 : 0;
  });
  ASSERT_THAT(child, IsOk());
  EXPECT_THAT(child->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(FamiliesTest, BelongsToTheProcessThatReceivesThem) {
  Families families = MustReceive();
  absl::StatusOr<Child> child = Fork({}, [&] {
    EXPECT_THAT(families.Look(),
                StatusIs(absl::StatusCode::kFailedPrecondition));
    return testing::Test::HasFailure() ? 1 : 0;
  });
  ASSERT_THAT(child, IsOk());
  EXPECT_THAT(child->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

}  // namespace
}  // namespace brood
