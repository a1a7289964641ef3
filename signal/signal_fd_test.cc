// SPDX-License-Identifier: Apache-2.0
#include "brood/signal/signal_fd.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <latch>
#include <optional>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "brood/proc/posix.h"
#include "brood/signal/action.h"
#include "brood/signal/diagnosis.h"
#include "brood/signal/mask.h"
#include "brood/signal/signal_event.h"
#include "brood/signal/signal_set.h"
#include "brood/tests/gate.h"
#include "brood/tests/in_child.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::AllOf;
using ::testing::Eq;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Optional;

constexpr auto kNothing = std::nullopt;

absl::StatusOr<pid_t> WaitForStop() {
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGTERM});
  if (!mask.ok()) return mask.status();
  absl::StatusOr<SignalFd> stop = SignalFd::Create({SIGTERM});
  if (!stop.ok()) return stop.status();
  while (true) {
    const absl::StatusOr<std::optional<SignalEvent>> event = stop->Next();
    if (!event.ok()) return event.status();
    if (event->has_value()) return (*event)->sender_pid;
    const absl::StatusOr<bool> ready =
        PollUntil(stop->fd(), POLLIN, absl::InfiniteFuture());
    if (!ready.ok()) return ready.status();
  }
}

TEST(SignalFdTest, HeaderExample) {
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGTERM});
  ASSERT_THAT(mask, IsOk());
  const pid_t child = StartInChild([] { return kill(getppid(), SIGTERM); });
  EXPECT_THAT(WaitForStop(), IsOkAndHolds(child));
  EXPECT_EQ(WaitForChild(child), 0);
}

bool Readable(const SignalFd& signals) {
  return PollUntil(signals.fd(), POLLIN, absl::InfinitePast()).value_or(false);
}

// Waits for a signal that is on its way.
absl::StatusOr<std::optional<SignalEvent>> Await(SignalFd& signals) {
  const absl::StatusOr<bool> ready =
      PollUntil(signals.fd(), POLLIN, absl::Now() + absl::Minutes(1));
  if (!ready.ok()) return ready.status();
  return signals.Next();
}

TEST(SignalFdTest, YieldsNothingWhileNothingIsPending) {
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGUSR1});
  ASSERT_THAT(mask, IsOk());
  absl::StatusOr<SignalFd> signals = SignalFd::Create({SIGUSR1});
  ASSERT_THAT(signals, IsOk());
  EXPECT_FALSE(Readable(*signals));
  EXPECT_THAT(signals->Next(), IsOkAndHolds(Eq(kNothing)));
}

TEST(SignalFdTest, IsReadableUntilItsSignalsAreDrained) {
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGUSR1, SIGUSR2});
  ASSERT_THAT(mask, IsOk());
  absl::StatusOr<SignalFd> signals = SignalFd::Create({SIGUSR1, SIGUSR2});
  ASSERT_THAT(signals, IsOk());
  ASSERT_EQ(raise(SIGUSR2), 0);
  ASSERT_EQ(raise(SIGUSR1), 0);
  EXPECT_TRUE(Readable(*signals));
  SignalSet seen;
  for (int i = 0; i < 2; ++i) {
    const absl::StatusOr<std::optional<SignalEvent>> event = signals->Next();
    ASSERT_THAT(event, IsOkAndHolds(Not(Eq(kNothing))));
    EXPECT_THAT(seen.Add((*event)->signo), IsOk());
  }
  EXPECT_EQ(seen, (SignalSet{SIGUSR1, SIGUSR2}));
  EXPECT_FALSE(Readable(*signals));
  EXPECT_THAT(signals->Next(), IsOkAndHolds(Eq(kNothing)));
}

TEST(SignalFdTest, NeitherBlocksNorSurvivesExec) {
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGUSR1});
  ASSERT_THAT(mask, IsOk());
  const absl::StatusOr<SignalFd> signals = SignalFd::Create({SIGUSR1});
  ASSERT_THAT(signals, IsOk());
  EXPECT_EQ(fcntl(signals->fd(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  EXPECT_EQ(fcntl(signals->fd(), F_GETFL) & O_NONBLOCK, O_NONBLOCK);
}

TEST(SignalFdTest, NamesTheSignalsThatAreNotBlocked) {
  const absl::StatusOr<SignalMask> mask = SignalMask::Replace({SIGUSR1});
  ASSERT_THAT(mask, IsOk());
  EXPECT_THAT(
      SignalFd::Create({SIGUSR1, SIGUSR2, SIGHUP}),
      StatusIs(absl::StatusCode::kFailedPrecondition,
               AllOf(HasSubstr("SIGHUP SIGUSR2"), Not(HasSubstr("SIGUSR1")))));
  EXPECT_THAT(SignalMask::Current(), IsOkAndHolds(SignalSet{SIGUSR1}));
}

TEST(SignalFdTest, RefusesNoSignalsAndTheUnblockable) {
  const absl::StatusOr<SignalMask> mask = SignalMask::Block(SignalSet::All());
  ASSERT_THAT(mask, IsOk());
  for (const SignalSet& set :
       {SignalSet{}, SignalSet{SIGKILL, SIGTERM}, SignalSet{SIGSTOP}}) {
    EXPECT_THAT(SignalFd::Create(set),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
  EXPECT_THAT(SignalFd::Create(SignalSet::All() - SignalSet{SIGKILL, SIGSTOP}),
              IsOk());
}

TEST(SignalFdTest, TellsTheSenderAndTheValue) {
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGUSR1});
  ASSERT_THAT(mask, IsOk());
  absl::StatusOr<SignalFd> signals = SignalFd::Create({SIGUSR1});
  ASSERT_THAT(signals, IsOk());
  ASSERT_EQ(sigqueue(getpid(), SIGUSR1, {.sival_int = -42}), 0);
  EXPECT_THAT(
      signals->Next(),
      IsOkAndHolds(Optional(AllOf(Field(&SignalEvent::signo, SIGUSR1),
                                  Field(&SignalEvent::code, SI_QUEUE),
                                  Field(&SignalEvent::sender_pid, getpid()),
                                  Field(&SignalEvent::sender_uid, getuid()),
                                  Field(&SignalEvent::value, -42)))));
}

TEST(SignalFdTest, TellsWhichChildSentSigchldAndWhy) {
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGCHLD});
  ASSERT_THAT(mask, IsOk());
  const absl::StatusOr<SignalAction> action = SignalAction::Default(SIGCHLD);
  ASSERT_THAT(action, IsOk());
  absl::StatusOr<SignalFd> signals = SignalFd::Create({SIGCHLD});
  ASSERT_THAT(signals, IsOk());
  const pid_t child = StartInChild([] { return 7; });
  EXPECT_THAT(
      Await(*signals),
      IsOkAndHolds(Optional(AllOf(Field(&SignalEvent::signo, SIGCHLD),
                                  Field(&SignalEvent::code, CLD_EXITED),
                                  Field(&SignalEvent::sender_pid, child)))));
  EXPECT_EQ(WaitForChild(child), 7);
}

TEST(SignalFdTest, CoalescesStandardSignalsAndQueuesRealtimeOnes) {
  absl::StatusOr<SignalSet> set = SignalSet::Of({SIGUSR1, SIGRTMIN + 1});
  ASSERT_THAT(set, IsOk());
  const absl::StatusOr<SignalMask> mask = SignalMask::Block(*set);
  ASSERT_THAT(mask, IsOk());
  absl::StatusOr<SignalFd> signals = SignalFd::Create(*set);
  ASSERT_THAT(signals, IsOk());
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(sigqueue(getpid(), SIGUSR1, {.sival_int = i}), 0);
    ASSERT_EQ(sigqueue(getpid(), SIGRTMIN + 1, {.sival_int = i}), 0);
  }
  EXPECT_THAT(signals->Next(),
              IsOkAndHolds(Optional(AllOf(Field(&SignalEvent::signo, SIGUSR1),
                                          Field(&SignalEvent::value, 0)))));
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(
        signals->Next(),
        IsOkAndHolds(Optional(AllOf(Field(&SignalEvent::signo, SIGRTMIN + 1),
                                    Field(&SignalEvent::value, i)))));
  }
  EXPECT_THAT(signals->Next(), IsOkAndHolds(Eq(kNothing)));
}

TEST(SignalFdTest, HearsNoExitWhileSigchldIsIgnored) {
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGCHLD});
  ASSERT_THAT(mask, IsOk());
  const absl::StatusOr<SignalAction> action = SignalAction::Ignore(SIGCHLD);
  ASSERT_THAT(action, IsOk());
  absl::StatusOr<SignalFd> signals = SignalFd::Create({SIGCHLD});
  ASSERT_THAT(signals, IsOk());
  const pid_t child = StartInChild([] { return 0; });
  EXPECT_EQ(waitpid(child, nullptr, 0), -1);  // Returns when it is gone.
  EXPECT_THAT(signals->Next(), IsOkAndHolds(Eq(kNothing)));
}

TEST(SignalFdTest, HearsAnIgnoredSignalThatIsSentWhileBlocked) {
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGUSR1});
  ASSERT_THAT(mask, IsOk());
  absl::StatusOr<SignalFd> signals = SignalFd::Create({SIGUSR1});
  ASSERT_THAT(signals, IsOk());
  ASSERT_EQ(kill(getpid(), SIGUSR1), 0);
  const absl::StatusOr<SignalAction> action = SignalAction::Ignore(SIGUSR1);
  ASSERT_THAT(action, IsOk());
  EXPECT_THAT(signals->Next(), IsOkAndHolds(Eq(kNothing)))
      << "what was pending is lost when the signal becomes ignored";
  ASSERT_EQ(kill(getpid(), SIGUSR1), 0);
  EXPECT_THAT(signals->Next(),
              IsOkAndHolds(Optional(Field(&SignalEvent::signo, SIGUSR1))));
}

TEST(SignalFdTest, ReadsTheSignalsOfTheProcessThatReads) {
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGUSR1});
  ASSERT_THAT(mask, IsOk());
  absl::StatusOr<SignalFd> signals = SignalFd::Create({SIGUSR1});
  ASSERT_THAT(signals, IsOk());
  ASSERT_EQ(kill(getpid(), SIGUSR1), 0);
  EXPECT_EQ(InChild([&] {
              if (Readable(*signals)) return 1;
              if (kill(getpid(), SIGUSR1) == -1 || !Readable(*signals))
                return 2;
              const absl::StatusOr<std::optional<SignalEvent>> event =
                  signals->Next();
              const bool own = event.ok() && event->has_value() &&
                               (*event)->sender_pid == getpid();
              return own ? 0 : 3;
            }),
            0);
  EXPECT_THAT(
      signals->Next(),
      IsOkAndHolds(Optional(Field(&SignalEvent::sender_pid, getpid()))));
}

TEST(SignalFdTest, CannotTellWhoseExitARealtimeSignalAnnounces) {
  const int exit_signal = SIGRTMIN + 1;
  const absl::StatusOr<SignalSet> set = SignalSet::Of({exit_signal});
  ASSERT_THAT(set, IsOk());
  const absl::StatusOr<SignalMask> mask = SignalMask::Block(*set);
  ASSERT_THAT(mask, IsOk());
  absl::StatusOr<SignalFd> signals = SignalFd::Create(*set);
  ASSERT_THAT(signals, IsOk());
  clone_args args = {};
  args.exit_signal = static_cast<__u64>(exit_signal);
  const long child = syscall(SYS_clone3, &args, sizeof(args));
  ASSERT_NE(child, -1);
  if (child == 0) _exit(0);
  EXPECT_THAT(
      Await(*signals),
      IsOkAndHolds(Optional(AllOf(Field(&SignalEvent::signo, exit_signal),
                                  Field(&SignalEvent::sender_pid, 0)))));
  EXPECT_EQ(waitpid(static_cast<pid_t>(child), nullptr, __WALL), child);
}

TEST(SignalFdTest, LeavesPendingWhatNobodyRead) {
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGUSR1});
  ASSERT_THAT(mask, IsOk());
  {
    const absl::StatusOr<SignalFd> unread = SignalFd::Create({SIGUSR1});
    ASSERT_THAT(unread, IsOk());
    ASSERT_EQ(raise(SIGUSR1), 0);
  }
  absl::StatusOr<SignalFd> signals = SignalFd::Create({SIGUSR1});
  ASSERT_THAT(signals, IsOk());
  EXPECT_THAT(signals->Next(),
              IsOkAndHolds(Optional(Field(&SignalEvent::signo, SIGUSR1))));
}

std::atomic<bool> taken = false;

TEST(SignalFdTest, MissesWhatAThreadTakesThatDoesNotBlockIt) {
  const absl::StatusOr<SignalAction> action =
      SignalAction::Handle(SIGUSR1, [](int) { taken = true; });
  ASSERT_THAT(action, IsOk());
  const absl::StatusOr<SignalMask> open = SignalMask::Unblock({SIGUSR1});
  ASSERT_THAT(open, IsOk());
  Gate gate;
  std::latch started(1);
  std::thread thief([&] {
    started.count_down();
    // In short waits: ThreadSanitizer puts a signal off that comes just before
    // one, until the wait has ended.
    absl::StatusOr<bool> opened = false;
    while (opened.ok() && !*opened) {
      opened = PollUntil(gate.read_fd(), POLLIN,
                         absl::Now() + absl::Milliseconds(10));
    }
  });
  started.wait();
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGUSR1});
  ASSERT_THAT(mask, IsOk());
  absl::StatusOr<SignalFd> signals = SignalFd::Create({SIGUSR1});
  ASSERT_THAT(signals, IsOk());
  EXPECT_THAT(CheckNoThreadTakes({SIGUSR1}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("SIGUSR1 (thread ")));
  taken = false;
  ASSERT_EQ(kill(getpid(), SIGUSR1), 0);
  while (!taken) sched_yield();
  EXPECT_THAT(signals->Next(), IsOkAndHolds(Eq(kNothing)));
  gate.Open();
  thief.join();
  EXPECT_THAT(CheckNoThreadTakes({SIGUSR1}), IsOk());
}

}  // namespace
}  // namespace brood
