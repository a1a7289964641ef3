// SPDX-License-Identifier: Apache-2.0
#include "brood/signal/action.h"

#include <poll.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "brood/proc/posix.h"
#include "brood/signal/mask.h"
#include "brood/signal/signal_set.h"
#include "brood/tests/in_child.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::Truly;

volatile std::sig_atomic_t reload = 0;

absl::Status Serve(absl::FunctionRef<void()> work) {
  const absl::StatusOr<SignalAction> hangup =
      SignalAction::Handle(SIGHUP, [](int) { reload = 1; });
  if (!hangup.ok()) return hangup.status();
  const absl::StatusOr<SignalAction> pipe = SignalAction::Ignore(SIGPIPE);
  if (!pipe.ok()) return pipe.status();
  work();
  return absl::OkStatus();
}

TEST(SignalActionTest, HeaderExample) {
  const absl::StatusOr<SignalMask> open = SignalMask::Unblock({SIGHUP});
  ASSERT_THAT(open, IsOk());
  reload = 0;
  EXPECT_THAT(Serve([] {
                EXPECT_EQ(raise(SIGPIPE), 0);
                EXPECT_EQ(raise(SIGHUP), 0);
              }),
              IsOk());
  EXPECT_EQ(reload, 1);
}

// The handlers of these tests, told apart by what they count.
volatile std::sig_atomic_t ours = 0;
volatile std::sig_atomic_t theirs = 0;
void Ours(int) { ours = ours + 1; }
void Theirs(int) { theirs = theirs + 1; }

struct sigaction Standing(int signo) {
  struct sigaction standing = {};
  EXPECT_EQ(sigaction(signo, nullptr, &standing), 0);
  return standing;
}

// What a host program does that knows nothing of us.
class ForeignAction {
 public:
  ForeignAction(int signo, void (*handler)(int)) : signo_(signo) {
    struct sigaction action = {};
    action.sa_handler = handler;
    EXPECT_EQ(sigaction(signo, &action, &previous_), 0);
  }
  ~ForeignAction() { EXPECT_EQ(sigaction(signo_, &previous_, nullptr), 0); }

 private:
  int signo_;
  struct sigaction previous_ = {};
};

TEST(SignalActionTest, RestoresTheOldActionOnlyIfOursStillStands) {
  const ForeignAction host(SIGUSR1, SIG_IGN);
  {
    const absl::StatusOr<SignalAction> action =
        SignalAction::Handle(SIGUSR1, Ours);
    ASSERT_THAT(action, IsOk());
    EXPECT_EQ(Standing(SIGUSR1).sa_handler, &Ours);
  }
  EXPECT_EQ(Standing(SIGUSR1).sa_handler, SIG_IGN);

  std::optional<ForeignAction> later;
  {
    const absl::StatusOr<SignalAction> action =
        SignalAction::Handle(SIGUSR1, Ours);
    ASSERT_THAT(action, IsOk());
    later.emplace(SIGUSR1, Theirs);
  }
  EXPECT_EQ(Standing(SIGUSR1).sa_handler, &Theirs);
}

TEST(SignalActionTest, RestoresFlagsAndMaskToo) {
  struct sigaction host = {};
  host.sa_handler = Theirs;
  host.sa_flags = SA_NODEFER | SA_NOCLDSTOP;
  sigaddset(&host.sa_mask, SIGHUP);
  struct sigaction before = {};
  ASSERT_EQ(sigaction(SIGUSR1, &host, &before), 0);
  {
    const absl::StatusOr<SignalAction> action = SignalAction::Handle(
        SIGUSR1, Ours, {.if_handled = IfHandled::kReplace});
    ASSERT_THAT(action, IsOk());
  }
  const struct sigaction after = Standing(SIGUSR1);
  EXPECT_EQ(after.sa_handler, &Theirs);
  EXPECT_EQ(after.sa_flags & (SA_NODEFER | SA_NOCLDSTOP | SA_RESTART),
            SA_NODEFER | SA_NOCLDSTOP);
  EXPECT_EQ(SignalSet::FromNative(after.sa_mask), SignalSet{SIGHUP});
  ASSERT_EQ(sigaction(SIGUSR1, &before, nullptr), 0);
}

TEST(SignalActionTest, TellsTheSameHandlerWithAnotherMaskFromOurs) {
  const ForeignAction host(SIGUSR1, SIG_IGN);
  struct sigaction other = {};
  other.sa_handler = Ours;
  other.sa_flags = SA_RESTART;
  sigaddset(&other.sa_mask, SIGHUP);
  {
    const absl::StatusOr<SignalAction> action =
        SignalAction::Handle(SIGUSR1, Ours);
    ASSERT_THAT(action, IsOk());
    ASSERT_EQ(sigaction(SIGUSR1, &other, nullptr), 0);
  }
  EXPECT_EQ(Standing(SIGUSR1).sa_handler, &Ours);
}

TEST(SignalActionTest, NestsLikeScopes) {
  const ForeignAction host(SIGUSR1, SIG_DFL);
  {
    const absl::StatusOr<SignalAction> outer =
        SignalAction::Handle(SIGUSR1, Theirs);
    ASSERT_THAT(outer, IsOk());
    {
      const absl::StatusOr<SignalAction> inner = SignalAction::Handle(
          SIGUSR1, Ours, {.if_handled = IfHandled::kReplace});
      ASSERT_THAT(inner, IsOk());
      EXPECT_EQ(Standing(SIGUSR1).sa_handler, &Ours);
    }
    EXPECT_EQ(Standing(SIGUSR1).sa_handler, &Theirs);
  }
  EXPECT_EQ(Standing(SIGUSR1).sa_handler, SIG_DFL);
}

TEST(SignalActionTest, RefusesASignalThatHasAHandlerAlready) {
  const ForeignAction host(SIGUSR1, Theirs);
  const auto refused = StatusIs(absl::StatusCode::kAlreadyExists,
                                HasSubstr("SIGUSR1 has a handler already"));
  EXPECT_THAT(SignalAction::Handle(SIGUSR1, Ours), refused);
  EXPECT_THAT(SignalAction::Ignore(SIGUSR1), refused);
  EXPECT_THAT(SignalAction::Default(SIGUSR1), refused);
  EXPECT_EQ(Standing(SIGUSR1).sa_handler, &Theirs);
}

TEST(SignalActionTest, SaysWhatASignalDoes) {
  EXPECT_THAT(DispositionOf(SIGKILL), IsOkAndHolds(Disposition::kDefault));
  const absl::StatusOr<SignalAction> ignored = SignalAction::Ignore(SIGUSR1);
  ASSERT_THAT(ignored, IsOk());
  EXPECT_THAT(DispositionOf(SIGUSR1), IsOkAndHolds(Disposition::kIgnored));
  const absl::StatusOr<SignalAction> handled =
      SignalAction::Handle(SIGUSR1, Ours);
  ASSERT_THAT(handled, IsOk());
  EXPECT_THAT(DispositionOf(SIGUSR1), IsOkAndHolds(Disposition::kHandled));
  const absl::StatusOr<SignalAction> reset =
      SignalAction::Default(SIGUSR1, {.if_handled = IfHandled::kReplace});
  ASSERT_THAT(reset, IsOk());
  EXPECT_THAT(DispositionOf(SIGUSR1), IsOkAndHolds(Disposition::kDefault));
  EXPECT_THAT(DispositionOf(65), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(SignalActionTest, RefusesWhatNoProgramMayChange) {
  for (const int signo : {SIGKILL, SIGSTOP}) {
    const auto refused = StatusIs(absl::StatusCode::kInvalidArgument,
                                  HasSubstr(NameOfSignal(signo)));
    EXPECT_THAT(SignalAction::Handle(signo, Ours), refused);
    EXPECT_THAT(SignalAction::Ignore(signo), refused);
    EXPECT_THAT(SignalAction::Default(signo), refused);
  }
}

TEST(SignalActionTest, RefusesToHandleOrIgnoreFaults) {
  for (const int signo : {SIGSEGV, SIGBUS, SIGILL, SIGFPE}) {
    const auto refused = StatusIs(absl::StatusCode::kInvalidArgument,
                                  HasSubstr(NameOfSignal(signo)));
    EXPECT_THAT(SignalAction::Handle(signo, Ours), refused);
    EXPECT_THAT(SignalAction::Ignore(signo), refused);
    EXPECT_THAT(
        SignalAction::Default(signo, {.if_handled = IfHandled::kReplace}),
        IsOk());
  }
}

TEST(SignalActionTest, RefusesNumbersThatAreNoSignals) {
  for (const int signo : {-1, 0, 32, 33, 65}) {
    EXPECT_THAT(SignalAction::Handle(signo, Ours),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
}

TEST(SignalActionTest, RefusesHandlersThatAreNoFunctions) {
  const auto refused = StatusIs(absl::StatusCode::kInvalidArgument,
                                HasSubstr("SIGUSR1 must be a function"));
  const SignalAction::Handler none = nullptr;
  const SignalAction::InfoHandler no_info = nullptr;
  EXPECT_THAT(SignalAction::Handle(SIGUSR1, none), refused);
  EXPECT_THAT(SignalAction::Handle(SIGUSR1, no_info), refused);
  EXPECT_THAT(SignalAction::Handle(SIGUSR1, SIG_IGN), refused);
}

volatile std::sig_atomic_t last_value = 0;
volatile std::sig_atomic_t last_sender = 0;

// Waits with `signo` let in until a handler has run. Blocked before and after,
// it cannot come between a look at what the handler did and the wait.
void AwaitHandler(int signo, const SignalMask& mask) {
  SignalSet blocked = mask.previous();
  blocked.Remove(signo);
  const sigset_t native = blocked.native();
  const timespec limit = {.tv_sec = 60, .tv_nsec = 0};
  ASSERT_EQ(ppoll(nullptr, 0, &limit, &native), -1) << "no signal came";
  ASSERT_EQ(errno, EINTR);
}

TEST(SignalActionTest, TellsAnInfoHandlerWhoSentWhat) {
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGUSR1});
  ASSERT_THAT(mask, IsOk());
  const absl::StatusOr<SignalAction> action =
      SignalAction::Handle(SIGUSR1, [](int, siginfo_t* info, void*) {
        last_value = info->si_value.sival_int;
        last_sender = info->si_pid;
      });
  ASSERT_THAT(action, IsOk());
  ASSERT_EQ(sigqueue(getpid(), SIGUSR1, {.sival_int = 42}), 0);
  ASSERT_NO_FATAL_FAILURE(AwaitHandler(SIGUSR1, *mask));
  EXPECT_EQ(last_value, 42);
  EXPECT_EQ(last_sender, getpid());
}

TEST(SignalActionTest, GivesTheKernelTheFlagsOfItsOptions) {
  const int all = SA_RESTART | static_cast<int>(SA_RESETHAND) | SA_NODEFER |
                  SA_ONSTACK | SA_NOCLDSTOP | SA_NOCLDWAIT;
  const std::pair<SignalActionOptions, int> kCases[] = {
      {{}, SA_RESTART},
      {{.restart = false}, 0},
      {{.restart = false, .reset_hand = true}, static_cast<int>(SA_RESETHAND)},
      {{.restart = false, .no_defer = true}, SA_NODEFER},
      {{.restart = false, .on_stack = true}, SA_ONSTACK},
      {{.restart = false, .no_child_stop = true}, SA_NOCLDSTOP},
      {{.restart = false, .no_child_wait = true}, SA_NOCLDWAIT},
  };
  for (const auto& [options, flags] : kCases) {
    const absl::StatusOr<SignalAction> action =
        SignalAction::Handle(SIGUSR1, Ours, options);
    ASSERT_THAT(action, IsOk());
    EXPECT_EQ(Standing(SIGUSR1).sa_flags & all, flags);
  }
}

volatile std::sig_atomic_t blocked_inside = 0;

TEST(SignalActionTest, BlocksItsMaskWhileTheHandlerRuns) {
  const ForeignAction host(SIGUSR1, SIG_IGN);
  const absl::StatusOr<SignalMask> open =
      SignalMask::Unblock({SIGUSR1, SIGUSR2});
  ASSERT_THAT(open, IsOk());
  blocked_inside = 0;
  // SIGKILL cannot be in a mask, yet the action is still found to be ours.
  {
    const absl::StatusOr<SignalAction> action =
        SignalAction::Handle(SIGUSR1,
                             [](int) {
                               sigset_t mask;
                               sigprocmask(SIG_BLOCK, nullptr, &mask);
                               blocked_inside = sigismember(&mask, SIGUSR1) +
                                                2 * sigismember(&mask, SIGUSR2);
                             },
                             {.mask = {SIGUSR2, SIGKILL}});
    ASSERT_THAT(action, IsOk());
    EXPECT_EQ(raise(SIGUSR1), 0);
    EXPECT_EQ(blocked_inside, 3);
  }
  EXPECT_THAT(DispositionOf(SIGUSR1), IsOkAndHolds(Disposition::kIgnored));
}

TEST(SignalActionTest, CountsAsOursTheDefaultThatResetHandLeaves) {
  const absl::StatusOr<SignalMask> open = SignalMask::Unblock({SIGUSR1});
  ASSERT_THAT(open, IsOk());
  const ForeignAction host(SIGUSR1, SIG_IGN);
  ours = 0;
  {
    const absl::StatusOr<SignalAction> once =
        SignalAction::Handle(SIGUSR1, Ours, {.reset_hand = true});
    ASSERT_THAT(once, IsOk());
    EXPECT_EQ(raise(SIGUSR1), 0);
    EXPECT_EQ(ours, 1);
    EXPECT_EQ(Standing(SIGUSR1).sa_handler, SIG_DFL);
  }
  EXPECT_EQ(Standing(SIGUSR1).sa_handler, SIG_IGN);
}

TEST(SignalActionTest, LeavesADefaultThatSomebodyElseSet) {
  const ForeignAction host(SIGUSR1, SIG_IGN);
  std::optional<ForeignAction> later;
  {
    const absl::StatusOr<SignalAction> once =
        SignalAction::Handle(SIGUSR1, Ours, {.reset_hand = true});
    ASSERT_THAT(once, IsOk());
    later.emplace(SIGUSR1, SIG_DFL);
  }
  EXPECT_EQ(Standing(SIGUSR1).sa_handler, SIG_DFL);
}

TEST(SignalActionTest, RestoresNothingAfterItWasMovedFrom) {
  const ForeignAction host(SIGUSR1, SIG_IGN);
  absl::StatusOr<SignalAction> made = SignalAction::Handle(SIGUSR1, Ours);
  ASSERT_THAT(made, IsOk());
  std::optional<SignalAction> from(*std::move(made));
  {
    const SignalAction to(*std::move(from));
    from.reset();
    EXPECT_EQ(Standing(SIGUSR1).sa_handler, &Ours);
  }
  EXPECT_EQ(Standing(SIGUSR1).sa_handler, SIG_IGN);
}

TEST(SignalActionTest, IsPutBackByAForkedChildForItselfOnly) {
  const ForeignAction host(SIGUSR1, SIG_IGN);
  absl::StatusOr<SignalAction> made = SignalAction::Handle(SIGUSR1, Ours);
  ASSERT_THAT(made, IsOk());
  std::optional<SignalAction> action(*std::move(made));
  EXPECT_EQ(InChild([&] {
              if (Standing(SIGUSR1).sa_handler != &Ours) return 1;
              action.reset();
              return Standing(SIGUSR1).sa_handler == SIG_IGN ? 0 : 2;
            }),
            0);
  EXPECT_EQ(Standing(SIGUSR1).sa_handler, &Ours);
}

TEST(SignalActionTest, LeavesNoZombieAndNoStatusWithNoChildWait) {
  const absl::StatusOr<SignalAction> action = SignalAction::Default(
      SIGCHLD, {.no_child_wait = true, .if_handled = IfHandled::kReplace});
  ASSERT_THAT(action, IsOk());
  const pid_t child = StartInChild([] { return 7; });
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), -1);
  EXPECT_EQ(errno, ECHILD);
  EXPECT_EQ(status, -1);
}

// What the textbook's handler prints, kept for the test to look at: a handler
// may not call printf.
struct Removed {
  pid_t pid;
  int status;
};
constexpr int kChildren = 20;
std::array<Removed, kChildren> removed;
volatile std::sig_atomic_t removed_count = 0;

// Loops, because SIGCHLDs coalesce: one may stand for many children.
void RemoveChildren(int) {
  const int saved = errno;
  int status;
  pid_t pid;
  while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
    const int i = removed_count;
    if (i < kChildren) removed[static_cast<size_t>(i)] = {pid, status};
    removed_count = i + 1;
  }
  errno = saved;
}

TEST(SignalActionTest, ReapsEveryChildWithTheClassicHandlerIfItLoops) {
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGCHLD});
  ASSERT_THAT(mask, IsOk());
  const absl::StatusOr<SignalAction> action =
      SignalAction::Handle(SIGCHLD, RemoveChildren, {.no_child_stop = true});
  ASSERT_THAT(action, IsOk());
  removed_count = 0;
  std::map<pid_t, int> expected;
  for (int code = 0; code < kChildren; ++code) {
    expected[StartInChild([code] { return code; })] = code;
  }
  while (removed_count < kChildren) {
    ASSERT_NO_FATAL_FAILURE(AwaitHandler(SIGCHLD, *mask));
  }
  std::map<pid_t, int> got;
  for (const Removed& child : removed) {
    EXPECT_TRUE(WIFEXITED(child.status));
    got[child.pid] = WEXITSTATUS(child.status);
  }
  EXPECT_EQ(got, expected);
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

constexpr SignalActionOptions kChained = {.if_handled = IfHandled::kChain};

// What the handlers of a chain saw, in the order in which they ran.
struct Seen {
  char who = ' ';
  int value = 0;
  pid_t sender = 0;
  bool hangup_blocked = false;
  bool usr2_blocked = false;
};
std::array<Seen, 16> seen;
volatile std::sig_atomic_t seen_count = 0;

void See(char who, const siginfo_t* info) {
  sigset_t mask;
  pthread_sigmask(SIG_BLOCK, nullptr, &mask);
  seen[static_cast<size_t>(seen_count)] = {
      .who = who,
      .value = info->si_value.sival_int,
      .sender = info->si_pid,
      .hangup_blocked = sigismember(&mask, SIGHUP) == 1,
      .usr2_blocked = sigismember(&mask, SIGUSR2) == 1};
  seen_count = seen_count + 1;
}
void SeeOurs(int, siginfo_t* info, void*) { See('o', info); }
void SeeTheirs(int, siginfo_t* info, void*) { See('t', info); }

std::string WhoRan() {
  std::string who;
  for (int i = 0; i < seen_count; ++i) who += seen[static_cast<size_t>(i)].who;
  return who;
}

// A host's registration in all its detail, and SIGUSR1 let in.
class ChainTest : public testing::Test {
 protected:
  ChainTest()
      : open_(*SignalMask::Unblock({SIGUSR1, SIGUSR2, SIGHUP})),
        host_(SIGUSR1, SIG_DFL) {
    seen_count = 0;
    ours = 0;
    theirs = 0;
  }

  void HostRegisters(void (*handler)(int, siginfo_t*, void*), int flags,
                     const SignalSet& mask = {}) {
    struct sigaction action = {};
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | flags;
    action.sa_mask = mask.native();
    EXPECT_EQ(sigaction(SIGUSR1, &action, nullptr), 0);
  }

  SignalMask open_;
  ForeignAction host_;
};

TEST_F(ChainTest, RunsOursAndThenTheirsWithTheSameSiginfo) {
  HostRegisters(SeeTheirs, 0);
  {
    const absl::StatusOr<SignalAction> action =
        SignalAction::Handle(SIGUSR1, SeeOurs, kChained);
    ASSERT_THAT(action, IsOk());
    const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGUSR1});
    ASSERT_THAT(mask, IsOk());
    ASSERT_EQ(sigqueue(getpid(), SIGUSR1, {.sival_int = 42}), 0);
    ASSERT_NO_FATAL_FAILURE(AwaitHandler(SIGUSR1, *mask));
    EXPECT_EQ(WhoRan(), "ot");
    for (const size_t i : {0, 1}) {
      EXPECT_EQ(seen[i].value, 42);
      EXPECT_EQ(seen[i].sender, getpid());
    }
    EXPECT_TRUE(action->stands());
  }
  EXPECT_EQ(Standing(SIGUSR1).sa_sigaction, &SeeTheirs);
}

TEST_F(ChainTest, RunsEachUnderTheMaskThatItAskedFor) {
  HostRegisters(SeeTheirs, 0, {SIGUSR2});
  const absl::StatusOr<SignalAction> action = SignalAction::Handle(
      SIGUSR1, SeeOurs, {.mask = {SIGHUP}, .if_handled = IfHandled::kChain});
  ASSERT_THAT(action, IsOk());
  ASSERT_EQ(raise(SIGUSR1), 0);
  ASSERT_EQ(WhoRan(), "ot");
  EXPECT_TRUE(seen[0].hangup_blocked);
  // ThreadSanitizer runs a handler with more blocked than it asked for, so of
  // ours only what must be blocked is looked at.
  EXPECT_FALSE(seen[1].hangup_blocked);
  EXPECT_TRUE(seen[1].usr2_blocked);
  const absl::StatusOr<SignalSet> after = SignalMask::Current();
  ASSERT_THAT(after, IsOk());
  EXPECT_EQ(*after, (*after - SignalSet{SIGUSR1, SIGUSR2, SIGHUP}));
}

TEST_F(ChainTest, RunsAHandlerOfTheOldKindToo) {
  const ForeignAction host(SIGUSR1, Theirs);
  const absl::StatusOr<SignalAction> action =
      SignalAction::Handle(SIGUSR1, Ours, kChained);
  ASSERT_THAT(action, IsOk());
  ASSERT_EQ(raise(SIGUSR1), 0);
  EXPECT_EQ(ours, 1);
  EXPECT_EQ(theirs, 1);
}

TEST_F(ChainTest, RunsAOneShotHandlerOnceAndLeavesItSpent) {
  HostRegisters(SeeTheirs, static_cast<int>(SA_RESETHAND));
  {
    const absl::StatusOr<SignalAction> action =
        SignalAction::Handle(SIGUSR1, SeeOurs, kChained);
    ASSERT_THAT(action, IsOk());
    ASSERT_EQ(raise(SIGUSR1), 0);
    ASSERT_EQ(raise(SIGUSR1), 0);
    EXPECT_EQ(WhoRan(), "oto");
  }
  EXPECT_EQ(Standing(SIGUSR1).sa_handler, SIG_DFL);
}

TEST_F(ChainTest, GivesBothWhatEitherNeeds) {
  const int all = SA_RESTART | SA_ONSTACK | SA_NOCLDSTOP;
  const struct {
    int theirs;
    SignalActionOptions ours;
    int both;
  } kCases[] = {
      {SA_RESTART, {}, SA_RESTART},
      {0, {}, 0},
      {SA_RESTART, {.restart = false}, 0},
      {SA_ONSTACK, {}, SA_ONSTACK},
      {0, {.on_stack = true}, SA_ONSTACK},
      {SA_NOCLDSTOP, {.no_child_stop = true}, SA_NOCLDSTOP},
      {0, {.no_child_stop = true}, 0},
      {SA_NOCLDSTOP, {}, 0},
  };
  for (const auto& [theirs_flags, options, both] : kCases) {
    HostRegisters(SeeTheirs, theirs_flags);
    SignalActionOptions chained = options;
    chained.if_handled = IfHandled::kChain;
    const absl::StatusOr<SignalAction> action =
        SignalAction::Handle(SIGUSR1, SeeOurs, chained);
    ASSERT_THAT(action, IsOk());
    EXPECT_EQ(Standing(SIGUSR1).sa_flags & all, both);
  }
}

TEST_F(ChainTest, IsAloneWhereThereIsNoHandlerToChain) {
  for (const auto none : {SIG_IGN, SIG_DFL}) {
    const ForeignAction host(SIGUSR1, none);
    ours = 0;
    const absl::StatusOr<SignalAction> action =
        SignalAction::Handle(SIGUSR1, Ours, kChained);
    ASSERT_THAT(action, IsOk());
    ASSERT_EQ(raise(SIGUSR1), 0);
    EXPECT_EQ(ours, 1);
    EXPECT_EQ(Standing(SIGUSR1).sa_handler, &Ours);
  }
}

TEST_F(ChainTest, MayBeTakenApartInAnyOrder) {
  HostRegisters(SeeTheirs, 0);
  absl::StatusOr<SignalAction> made =
      SignalAction::Handle(SIGUSR1, SeeOurs, kChained);
  ASSERT_THAT(made, IsOk());
  std::optional<SignalAction> first(*std::move(made));
  absl::StatusOr<SignalAction> on_top = SignalAction::Handle(
      SIGUSR1, [](int, siginfo_t* info, void*) { See('2', info); }, kChained);
  ASSERT_THAT(on_top, IsOk());
  std::optional<SignalAction> second(*std::move(on_top));
  ASSERT_EQ(raise(SIGUSR1), 0);
  EXPECT_EQ(WhoRan(), "2ot");

  first.reset();
  ASSERT_EQ(raise(SIGUSR1), 0);
  EXPECT_EQ(WhoRan(), "2ot2t");
  second.reset();
  ASSERT_EQ(raise(SIGUSR1), 0);
  EXPECT_EQ(WhoRan(), "2ot2tt");
}

struct sigaction below = {};
void CallBelow(int signo, siginfo_t* info, void* context) {
  See('f', info);
  below.sa_sigaction(signo, info, context);
}

TEST_F(ChainTest, PassesOnForSomebodyWhoStillCallsUsAfterWeHaveGone) {
  HostRegisters(SeeTheirs, 0);
  {
    const absl::StatusOr<SignalAction> action =
        SignalAction::Handle(SIGUSR1, SeeOurs, kChained);
    ASSERT_THAT(action, IsOk());
    below = Standing(SIGUSR1);
    HostRegisters(CallBelow, 0);
    ASSERT_EQ(raise(SIGUSR1), 0);
    EXPECT_EQ(WhoRan(), "fot");
    EXPECT_FALSE(action->stands());
  }
  ASSERT_EQ(raise(SIGUSR1), 0);
  EXPECT_EQ(WhoRan(), "fotft");
}

TEST_F(ChainTest, GoesOnInAForkedChildWhichMayTakeItApart) {
  HostRegisters(SeeTheirs, 0);
  absl::StatusOr<SignalAction> made =
      SignalAction::Handle(SIGUSR1, SeeOurs, kChained);
  ASSERT_THAT(made, IsOk());
  std::optional<SignalAction> action(*std::move(made));
  EXPECT_EQ(InChild([&] {
              raise(SIGUSR1);
              action.reset();
              raise(SIGUSR1);
              return WhoRan() == "ott" ? 0 : 1;
            }),
            0);
  ASSERT_EQ(raise(SIGUSR1), 0);
  EXPECT_EQ(WhoRan(), "ot");
}

TEST_F(ChainTest, TakesNoMoreRoomForAPairThatComesAgain) {
  HostRegisters(SeeTheirs, 0);
  for (int i = 0; i < 1000; ++i) {
    ASSERT_THAT(SignalAction::Handle(SIGUSR1, SeeOurs, kChained), IsOk());
  }
  EXPECT_EQ(Standing(SIGUSR1).sa_sigaction, &SeeTheirs);
}

TEST_F(ChainTest, SaysSoWhenThereAreTooManyPairs) {
  HostRegisters(SeeTheirs, 0);
  // In a child: pairs are remembered for as long as a process lives.
  EXPECT_EQ(
      InChild([&] {
        for (int bits = 0; bits < 64; ++bits) {
          SignalActionOptions options = kChained;
          for (int i = 0; i < 6; ++i) {
            if ((bits >> i & 1) != 0 && !options.mask.Add(SIGRTMIN + i).ok()) {
              return 1;
            }
          }
          // Those that earlier tests have taken may be missing here.
          if (!SignalAction::Handle(SIGUSR1, Ours, options).ok()) break;
        }
        const absl::StatusOr<SignalAction> action = SignalAction::Handle(
            SIGUSR1, Ours, {.restart = false, .if_handled = IfHandled::kChain});
        if (!absl::IsResourceExhausted(action.status())) return 2;
        return Standing(SIGUSR1).sa_sigaction == &SeeTheirs ? 0 : 3;
      }),
      0);
}

TEST_F(ChainTest, RefusesWhatIsNoHandlerAndWhatWouldTakeFromTheOther) {
  HostRegisters(SeeTheirs, 0);
  const auto refused =
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("for SIGUSR1"));
  EXPECT_THAT(SignalAction::Ignore(SIGUSR1, kChained), refused);
  EXPECT_THAT(SignalAction::Default(SIGUSR1, kChained), refused);
  EXPECT_THAT(
      SignalAction::Handle(
          SIGUSR1, Ours, {.reset_hand = true, .if_handled = IfHandled::kChain}),
      refused);
  EXPECT_THAT(SignalAction::Handle(
                  SIGUSR1, Ours,
                  {.no_child_wait = true, .if_handled = IfHandled::kChain}),
              refused);
  EXPECT_EQ(Standing(SIGUSR1).sa_sigaction, &SeeTheirs);
}

TEST_F(ChainTest, SurvivesSomebodyWhoKeepsRegistering) {
  std::atomic<bool> stop = false;
  std::thread thief([&] {
    while (!stop) {
      (void)std::signal(SIGUSR1, Theirs);
      (void)std::signal(SIGUSR1, SIG_IGN);
    }
  });
  for (int i = 0; i < 2000; ++i) {
    const absl::StatusOr<SignalAction> action =
        SignalAction::Handle(SIGUSR1, Ours, kChained);
    EXPECT_THAT(action, IsOk());
    EXPECT_EQ(raise(SIGUSR1), 0);
  }
  stop = true;
  thief.join();
}

TEST(SignalActionTest, LeavesASignalIgnoredThatWasSoAtTheStartIfAsked) {
  const ForeignAction nohup(SIGUSR1, SIG_IGN);
  const SignalActionOptions keep = {.if_ignored = IfIgnored::kKeep};
  {
    const absl::StatusOr<SignalAction> action =
        SignalAction::Handle(SIGUSR1, Ours, keep);
    ASSERT_THAT(action, IsOk());
    EXPECT_FALSE(action->installed());
    EXPECT_FALSE(action->stands());
    EXPECT_EQ(Standing(SIGUSR1).sa_handler, SIG_IGN);
  }
  EXPECT_EQ(Standing(SIGUSR1).sa_handler, SIG_IGN);

  const ForeignAction usual(SIGUSR1, SIG_DFL);
  const absl::StatusOr<SignalAction> action =
      SignalAction::Handle(SIGUSR1, Ours, keep);
  ASSERT_THAT(action, IsOk());
  EXPECT_TRUE(action->installed());
  EXPECT_TRUE(action->stands());
}

TEST(ReRaiseDefaultTest, EndsTheProcessByTheSignalFromWithinItsHandler) {
  EXPECT_EQ(InChild([] {
              const absl::StatusOr<SignalAction> action =
                  SignalAction::Handle(SIGTERM, ReRaiseDefault);
              raise(SIGTERM);
              return action.ok() ? 1 : 2;
            }),
            128 + SIGTERM);
}

TEST(ReRaiseDefaultTest, EndsTheProcessThoughTheSignalIsIgnoredAndBlocked) {
  for (const int signo : {SIGTERM, SIGKILL, SIGRTMIN + 1}) {
    EXPECT_EQ(InChild([signo] {
                const absl::StatusOr<SignalMask> mask =
                    SignalMask::Block(SignalSet::All());
                const absl::StatusOr<SignalAction> action =
                    SignalAction::Ignore(signo);
                ReRaiseDefault(signo);
                return 0;
              }),
              128 + signo);
  }
}

TEST(ReRaiseDefaultTest, ReturnsWithEverythingAsItWasIfTheDefaultIsToIgnore) {
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGWINCH});
  ASSERT_THAT(mask, IsOk());
  const absl::StatusOr<SignalAction> action =
      SignalAction::Handle(SIGWINCH, Ours);
  ASSERT_THAT(action, IsOk());
  ours = 0;
  errno = EXDEV;
  ReRaiseDefault(SIGWINCH);
  EXPECT_EQ(errno, EXDEV);
  EXPECT_EQ(ours, 0);
  EXPECT_TRUE(action->stands());
  EXPECT_THAT(SignalMask::Current(),
              IsOkAndHolds(Truly([](const SignalSet& blocked) {
                return blocked.Contains(SIGWINCH);
              })));
}

TEST(ReRaiseDefaultTest, ReturnsOnceSomebodyContinuesTheProcess) {
  const pid_t child = StartInChild([] {
    ReRaiseDefault(SIGSTOP);
    return 7;
  });
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, WUNTRACED), child);
  EXPECT_TRUE(WIFSTOPPED(status));
  ASSERT_EQ(kill(child, SIGCONT), 0);
  EXPECT_EQ(WaitForChild(child), 7);
}

TEST(ReRaiseDefaultTest, DoesNothingForWhatIsNoSignal) {
  for (const int signo : {-1, 0, 32, 33, 65}) ReRaiseDefault(signo);
}

TEST(SignalActionTest, LeavesWhatStandsWhenReleased) {
  {
    absl::StatusOr<SignalAction> action = SignalAction::Ignore(SIGUSR1);
    ASSERT_THAT(action, IsOk());
    (*std::move(action)).Release();
  }
  EXPECT_THAT(DispositionOf(SIGUSR1), IsOkAndHolds(Disposition::kIgnored));
  const struct sigaction by_default = {};
  ASSERT_EQ(sigaction(SIGUSR1, &by_default, nullptr), 0);
}

}  // namespace
}  // namespace brood
