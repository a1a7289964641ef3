// SPDX-License-Identifier: Apache-2.0
#include "brood/signal/signal_source.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <ctime>
#include <latch>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "brood/proc/posix.h"
#include "brood/signal/action.h"
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
using ::testing::HasSubstr;
using ::testing::Not;

absl::StatusOr<uint64_t> CountReloads(absl::FunctionRef<void()> work) {
  absl::StatusOr<SignalSource> signals = SignalSource::Create({SIGHUP});
  if (!signals.ok()) return signals.status();
  work();
  uint64_t reloads = 0;
  while (true) {
    const absl::StatusOr<std::optional<SignalSource::Event>> event =
        signals->Next();
    if (!event.ok()) return event.status();
    if (!event->has_value()) return reloads;
    reloads += (*event)->count;
  }
}

// Everything that these tests receive is let in.
class SignalSourceTest : public testing::Test {
 protected:
  SignalSourceTest()
      : open_(*SignalMask::Unblock(SignalSet::All() - SignalSet{SIGPROF})) {}

  SignalMask open_;
};

SignalSource Create(const SignalSet& signals,
                    const SignalSourceOptions& options = {}) {
  absl::StatusOr<SignalSource> source = SignalSource::Create(signals, options);
  EXPECT_THAT(source, IsOk());
  return *std::move(source);
}

bool Readable(const SignalSource& source) {
  return PollUntil(source.fd(), POLLIN, absl::InfinitePast()).value_or(false);
}

// What there is to read, in its order.
std::vector<SignalSource::Event> Drain(SignalSource& source) {
  std::vector<SignalSource::Event> events;
  while (true) {
    const absl::StatusOr<std::optional<SignalSource::Event>> event =
        source.Next();
    EXPECT_THAT(event, IsOk());
    if (!event.ok() || !event->has_value()) return events;
    events.push_back(**event);
  }
}

std::vector<int> Numbers(const std::vector<SignalSource::Event>& events) {
  std::vector<int> numbers;
  for (const SignalSource::Event& event : events) {
    numbers.push_back(event.signal.signo);
  }
  return numbers;
}

uint64_t Sum(const std::vector<SignalSource::Event>& events, int signo) {
  uint64_t sum = 0;
  for (const SignalSource::Event& event : events) {
    if (event.signal.signo == signo) sum += event.count;
  }
  return sum;
}

// Lets `signo`, which is pending and blocked, in, until it has arrived `count`
// times. Within a system call, where ThreadSanitizer delays no signal and
// merges none.
void AwaitCount(const SignalSource& source, int signo, uint64_t count,
                const SignalMask& mask) {
  const sigset_t open = mask.previous().native();
  const timespec limit = {.tv_sec = 60, .tv_nsec = 0};
  while (source.CountOf(signo) < count) {
    ASSERT_EQ(ppoll(nullptr, 0, &limit, &open), -1) << "no signal came";
  }
}

struct sigaction Standing(int signo) {
  struct sigaction standing = {};
  EXPECT_EQ(sigaction(signo, nullptr, &standing), 0);
  return standing;
}

volatile std::sig_atomic_t theirs = 0;
void Theirs(int) { theirs = theirs + 1; }

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

TEST_F(SignalSourceTest, HeaderExample) {
  EXPECT_THAT(CountReloads([] {
                raise(SIGHUP);
                raise(SIGHUP);
              }),
              IsOkAndHolds(2));
}

TEST_F(SignalSourceTest, TellsWhatArrivedInItsOrder) {
  SignalSource source = Create({SIGUSR1, SIGUSR2});
  EXPECT_FALSE(Readable(source));
  EXPECT_TRUE(Drain(source).empty());
  raise(SIGUSR2);
  raise(SIGUSR1);
  raise(SIGUSR2);
  EXPECT_TRUE(Readable(source));
  EXPECT_EQ(Numbers(Drain(source)),
            (std::vector<int>{SIGUSR2, SIGUSR1, SIGUSR2}));
  EXPECT_FALSE(Readable(source));
  EXPECT_EQ(source.CountOf(SIGUSR1), 1);
  EXPECT_EQ(source.CountOf(SIGUSR2), 2);
  EXPECT_EQ(source.CountOf(SIGHUP), 0);
  EXPECT_EQ(source.CountOf(-1), 0);
  EXPECT_EQ(source.CountOf(65), 0);
}

TEST_F(SignalSourceTest, TellsTheSenderAndTheValue) {
  SignalSource source = Create({SIGUSR1});
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGUSR1});
  ASSERT_THAT(mask, IsOk());
  ASSERT_EQ(sigqueue(getpid(), SIGUSR1, {.sival_int = -42}), 0);
  AwaitCount(source, SIGUSR1, 1, *mask);
  const std::vector<SignalSource::Event> events = Drain(source);
  ASSERT_EQ(events.size(), 1);
  EXPECT_EQ(events[0].signal, (SignalEvent{.signo = SIGUSR1,
                                           .code = SI_QUEUE,
                                           .sender_pid = getpid(),
                                           .sender_uid = getuid(),
                                           .value = -42}));
  EXPECT_EQ(events[0].count, 1);
  EXPECT_FALSE(events[0].details_lost);
}

TEST_F(SignalSourceTest, NeitherBlocksNorSurvivesExec) {
  const SignalSource source = Create({SIGUSR1});
  EXPECT_EQ(fcntl(source.fd(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  EXPECT_EQ(fcntl(source.fd(), F_GETFL) & O_NONBLOCK, O_NONBLOCK);
}

TEST_F(SignalSourceTest, KeepsRealtimeSignalsInTheOrderOfTheirSending) {
  const int signo = SIGRTMIN + 1;
  SignalSource source = Create({});
  ASSERT_THAT(source.Add(signo), IsOk());
  const absl::StatusOr<SignalMask> mask =
      SignalMask::Block(*SignalSet::Of({signo}));
  ASSERT_THAT(mask, IsOk());
  for (int i = 0; i < 50; ++i) {
    ASSERT_EQ(sigqueue(getpid(), signo, {.sival_int = i}), 0);
  }
  AwaitCount(source, signo, 50, *mask);
  const std::vector<SignalSource::Event> events = Drain(source);
  ASSERT_EQ(events.size(), 50);
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(events[static_cast<size_t>(i)].signal.value, i);
  }
}

TEST_F(SignalSourceTest, TellsInItsPlaceThatDetailsAreLost) {
  SignalSource source = Create({SIGUSR1, SIGUSR2}, {.capacity = 4});
  for (int i = 0; i < 6; ++i) raise(SIGUSR1);
  for (int i = 0; i < 3; ++i) raise(SIGUSR2);
  // There is room again, but what is lost comes first.
  absl::StatusOr<std::optional<SignalSource::Event>> first = source.Next();
  ASSERT_THAT(first, IsOk());
  ASSERT_TRUE(first->has_value());
  raise(SIGUSR1);

  const std::vector<SignalSource::Event> events = Drain(source);
  ASSERT_EQ(events.size(), 5);
  for (const size_t i : {0, 1, 2}) EXPECT_FALSE(events[i].details_lost);
  EXPECT_TRUE(events[3].details_lost);
  EXPECT_EQ(events[3].signal, SignalEvent{.signo = SIGUSR1});
  EXPECT_EQ(events[3].count, 3);
  EXPECT_TRUE(events[4].details_lost);
  EXPECT_EQ(events[4].signal, SignalEvent{.signo = SIGUSR2});
  EXPECT_EQ(events[4].count, 3);
  EXPECT_EQ(source.CountOf(SIGUSR1), 7);

  raise(SIGUSR2);
  const std::vector<SignalSource::Event> after = Drain(source);
  ASSERT_EQ(after.size(), 1);
  EXPECT_FALSE(after[0].details_lost);
}

TEST_F(SignalSourceTest, StaysReadableUntilTheLastOfWhatIsLostIsTold) {
  SignalSource source = Create({SIGUSR1, SIGUSR2}, {.capacity = 1});
  for (int i = 0; i < 3; ++i) raise(SIGUSR1);
  for (int i = 0; i < 3; ++i) raise(SIGUSR2);
  // Of two there are details, of the others two sums.
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(Readable(source));
    ASSERT_TRUE(source.Next()->has_value());
  }
  EXPECT_EQ(*source.Next(), std::nullopt);
  EXPECT_FALSE(Readable(source));
}

TEST_F(SignalSourceTest, RestoresTheOldActionOnlyIfOursStillStands) {
  const ForeignAction host(SIGUSR1, SIG_IGN);
  { const SignalSource source = Create({SIGUSR1}); }
  EXPECT_EQ(Standing(SIGUSR1).sa_handler, SIG_IGN);

  std::optional<ForeignAction> later;
  {
    const SignalSource source = Create({SIGUSR1});
    later.emplace(SIGUSR1, Theirs);
  }
  EXPECT_EQ(Standing(SIGUSR1).sa_handler, &Theirs);
}

TEST_F(SignalSourceTest, RefusesReplacesOrChainsAHandlerThatStands) {
  const ForeignAction host(SIGUSR1, Theirs);
  EXPECT_THAT(SignalSource::Create({SIGUSR2, SIGUSR1}),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("SIGUSR1")));
  EXPECT_EQ(Standing(SIGUSR2).sa_handler, SIG_DFL) << "undone";
  theirs = 0;
  {
    SignalSource source =
        Create({SIGUSR1}, {.if_handled = IfHandled::kReplace});
    raise(SIGUSR1);
    EXPECT_EQ(Sum(Drain(source), SIGUSR1), 1);
    EXPECT_EQ(theirs, 0);
  }
  {
    SignalSource source = Create({SIGUSR1}, {.if_handled = IfHandled::kChain});
    raise(SIGUSR1);
    EXPECT_EQ(Sum(Drain(source), SIGUSR1), 1);
    EXPECT_EQ(theirs, 1);
  }
  EXPECT_EQ(Standing(SIGUSR1).sa_handler, &Theirs);
}

TEST_F(SignalSourceTest, LeavesASignalIgnoredThatWasSoAtTheStartIfAsked) {
  const ForeignAction nohup(SIGHUP, SIG_IGN);
  SignalSource source =
      Create({SIGHUP, SIGUSR1}, {.if_ignored = IfIgnored::kKeep});
  EXPECT_EQ(source.left_ignored(), SignalSet{SIGHUP});
  EXPECT_EQ(source.signals(), SignalSet{SIGUSR1});
  raise(SIGHUP);
  raise(SIGUSR1);
  EXPECT_EQ(Numbers(Drain(source)), std::vector<int>{SIGUSR1});
  EXPECT_EQ(Standing(SIGHUP).sa_handler, SIG_IGN);
}

TEST_F(SignalSourceTest, RefusesWhatNobodyReceives) {
  for (const SignalSet& set :
       {SignalSet{SIGKILL, SIGTERM}, SignalSet{SIGSTOP}, SignalSet{SIGSEGV}}) {
    EXPECT_THAT(SignalSource::Create(set),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
  SignalSource source = Create({});
  for (const int signo : {-1, 0, 32, 33, 65, SIGKILL, SIGSTOP, SIGBUS}) {
    EXPECT_THAT(source.Add(signo),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
  for (const size_t capacity : {size_t{0}, size_t{65537}}) {
    EXPECT_THAT(
        SignalSource::Create({SIGUSR1}, {.capacity = capacity}),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1 to 65536")));
  }
}

TEST_F(SignalSourceTest, NamesTheSignalThatEveryThreadBlocks) {
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGUSR1});
  ASSERT_THAT(mask, IsOk());
  EXPECT_THAT(SignalSource::Create({SIGUSR2, SIGUSR1}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("SIGUSR1"), Not(HasSubstr("SIGUSR2")))));
  EXPECT_EQ(Standing(SIGUSR2).sa_handler, SIG_DFL) << "undone";
}

TEST_F(SignalSourceTest, HearsWhatAnotherThreadTakes) {
  Gate gate;
  std::latch started(1);
  std::thread other([&started, read_fd = gate.read_fd()] {
    started.count_down();
    (void)PollUntil(read_fd, POLLIN, absl::InfiniteFuture());
  });
  started.wait();  // Until it runs it blocks everything.
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGUSR1});
  ASSERT_THAT(mask, IsOk());
  SignalSource source = Create({SIGUSR1});
  EXPECT_EQ(kill(getpid(), SIGUSR1), 0);
  EXPECT_THAT(PollUntil(source.fd(), POLLIN, absl::Now() + absl::Minutes(1)),
              IsOkAndHolds(true));
  EXPECT_EQ(Sum(Drain(source), SIGUSR1), 1);
  gate.Open();
  other.join();
}

TEST_F(SignalSourceTest, NoticesThatItsSignalsNoLongerCome) {
  SignalSource source = Create({SIGUSR1, SIGUSR2});
  EXPECT_THAT(source.Check(), IsOk());
  {
    const ForeignAction thief(SIGUSR1, Theirs);
    EXPECT_THAT(source.Check(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                         AllOf(HasSubstr("SIGUSR1"),
                                               Not(HasSubstr("SIGUSR2")))));
  }
  EXPECT_THAT(source.Check(), IsOk());
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGUSR2});
  ASSERT_THAT(mask, IsOk());
  EXPECT_THAT(source.Check(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                       HasSubstr("SIGUSR2")));
}

TEST_F(SignalSourceTest, ComesBackOnTopOfAThiefForWhoeverAsksNext) {
  const ForeignAction host(SIGUSR1, SIG_DFL);  // Cleans up.
  SignalSource robbed = Create({SIGUSR1});
  const ForeignAction thief(SIGUSR1, Theirs);
  EXPECT_THAT(SignalSource::Create({SIGUSR1}),
              StatusIs(absl::StatusCode::kAlreadyExists));
  SignalSource next = Create({SIGUSR1}, {.if_handled = IfHandled::kReplace});
  raise(SIGUSR1);
  EXPECT_EQ(Sum(Drain(next), SIGUSR1), 1);
  EXPECT_EQ(Sum(Drain(robbed), SIGUSR1), 1);
}

// ---- several sources ----

TEST_F(SignalSourceTest, TellsEverySourceOfTheSignal) {
  std::optional<SignalSource> first(Create({SIGUSR1, SIGUSR2}));
  SignalSource second = Create({SIGUSR1});
  raise(SIGUSR1);
  raise(SIGUSR2);
  EXPECT_EQ(Numbers(Drain(*first)), (std::vector<int>{SIGUSR1, SIGUSR2}));
  EXPECT_EQ(Numbers(Drain(second)), std::vector<int>{SIGUSR1});
  // The first to go takes nothing from the other.
  first.reset();
  EXPECT_EQ(Standing(SIGUSR2).sa_handler, SIG_DFL);
  raise(SIGUSR1);
  EXPECT_EQ(Sum(Drain(second), SIGUSR1), 1);
}

TEST_F(SignalSourceTest, SaysSoWhenASignalHasTooManySources) {
  std::vector<SignalSource> sources;
  for (int i = 0; i < SignalSource::kMaxSourcesOfASignal; ++i) {
    sources.push_back(Create({SIGUSR1}));
  }
  EXPECT_THAT(SignalSource::Create({SIGUSR1}),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("SIGUSR1 has 16")));
  sources.pop_back();
  sources.push_back(Create({SIGUSR1}));
  raise(SIGUSR1);
  for (SignalSource& source : sources) {
    EXPECT_EQ(Sum(Drain(source), SIGUSR1), 1);
  }
}

// As libuv's we_get_signals_mixed: watchers for once and for ever, of the same
// and of other signals, come and go while signals arrive.
TEST_F(SignalSourceTest, MixesSourcesThatComeAndGo) {
  SignalSource lasting = Create({SIGUSR1, SIGUSR2});
  uint64_t once = 0;
  for (int round = 0; round < 20; ++round) {
    SignalSource passing =
        Create(round % 2 == 0 ? SignalSet{SIGUSR1} : SignalSet{SIGUSR2});
    raise(SIGUSR1);
    raise(SIGUSR2);
    for (const SignalSource::Event& event : Drain(passing)) once += event.count;
    passing.Remove(SIGUSR1);
    passing.Remove(SIGUSR2);
    raise(SIGUSR1);
    raise(SIGUSR2);
    EXPECT_TRUE(Drain(passing).empty());
  }
  EXPECT_EQ(once, 20);
  EXPECT_EQ(lasting.CountOf(SIGUSR1), 40);
  EXPECT_EQ(lasting.CountOf(SIGUSR2), 40);
  const std::vector<SignalSource::Event> events = Drain(lasting);
  EXPECT_EQ(Sum(events, SIGUSR1) + Sum(events, SIGUSR2), 80);
}

// As libuv's signal_pending_on_close.
TEST_F(SignalSourceTest, GoesWithWhatNobodyRead) {
  SignalSource other = Create({SIGUSR2});
  {
    const SignalSource source = Create({SIGUSR1, SIGUSR2});
    for (int i = 0; i < 200; ++i) raise(i % 2 == 0 ? SIGUSR1 : SIGUSR2);
  }
  EXPECT_EQ(Sum(Drain(other), SIGUSR2), 100);
}

TEST_F(SignalSourceTest, AddsAndRemovesSignals) {
  SignalSource source = Create({});
  EXPECT_TRUE(Drain(source).empty());
  ASSERT_THAT(source.Add(SIGUSR1), IsOk());
  ASSERT_THAT(source.Add(SIGUSR2), IsOk());
  EXPECT_THAT(source.Add(SIGUSR1),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("SIGUSR1")));
  raise(SIGUSR1);
  raise(SIGUSR2);
  source.Remove(SIGUSR1);
  source.Remove(SIGUSR1);
  EXPECT_EQ(Numbers(Drain(source)), std::vector<int>{SIGUSR2});
  EXPECT_EQ(source.CountOf(SIGUSR1), 1);
  ASSERT_THAT(source.Add(SIGUSR1), IsOk());
  raise(SIGUSR1);
  EXPECT_EQ(Numbers(Drain(source)), std::vector<int>{SIGUSR1});
  EXPECT_EQ(source.CountOf(SIGUSR1), 2);
}

TEST_F(SignalSourceTest, StaysWhatItWasWhenItMoves) {
  SignalSource made = Create({SIGUSR1});
  SignalSource source(std::move(made));
  raise(SIGUSR1);
  EXPECT_EQ(Sum(Drain(source), SIGUSR1), 1);
  source = Create({SIGUSR2});
  EXPECT_EQ(Standing(SIGUSR1).sa_handler, SIG_DFL);
  raise(SIGUSR2);
  EXPECT_EQ(Sum(Drain(source), SIGUSR2), 1);
}

TEST_F(SignalSourceTest, KeepsErrno) {
  SignalSource source = Create({SIGUSR1}, {.capacity = 1});
  errno = EXDEV;
  raise(SIGUSR1);
  raise(SIGUSR1);
  EXPECT_EQ(errno, EXDEV);
}

TEST_F(SignalSourceTest, LetsSystemCallsGoOnUnlessToldOtherwise) {
  for (const bool restart : {true, false}) {
    const SignalSource source = Create({SIGUSR1}, {.restart = restart});
    EXPECT_EQ((Standing(SIGUSR1).sa_flags & SA_RESTART) != 0, restart);
  }
}

// ---- fork ----

TEST_F(SignalSourceTest, IsNotWokenByWhatAForkedChildReceives) {
  SignalSource source = Create({SIGUSR1});
  EXPECT_EQ(InChild([&] {
              raise(SIGUSR1);
              return absl::IsFailedPrecondition(source.Next().status()) &&
                             absl::IsFailedPrecondition(source.Check()) &&
                             absl::IsFailedPrecondition(source.Add(SIGUSR2))
                         ? 0
                         : 1;
            }),
            0);
  EXPECT_FALSE(Readable(source));
  EXPECT_EQ(source.CountOf(SIGUSR1), 0);
}

TEST_F(SignalSourceTest, IsOfItsMakersProcessEvenBeforeItHasASignal) {
  SignalSource source = Create({});
  EXPECT_EQ(InChild([&] {
              return absl::IsFailedPrecondition(source.Add(SIGUSR1)) ? 0 : 1;
            }),
            0);
}

TEST_F(SignalSourceTest, IsNotWokenByWhatAChildOfABareCloneReceives) {
  SignalSource source = Create({SIGUSR1});
  for (const uint64_t flags :
       {uint64_t{0}, uint64_t{CLONE_NEWUSER} | uint64_t{CLONE_NEWPID}}) {
    clone_args args = {};
    args.flags = flags;
    args.exit_signal = SIGCHLD;
    const long child = syscall(SYS_clone3, &args, sizeof(args));
    if (child == -1 && flags != 0) continue;  // No namespaces to be had here.
    ASSERT_NE(child, -1);
    if (child == 0) {
      // As PID 1 of a namespace it may share its number with another process.
      const long self = syscall(SYS_gettid);
      syscall(SYS_tgkill, self, self, SIGUSR1);
      _exit(0);
    }
    EXPECT_EQ(WaitForChild(static_cast<pid_t>(child)), 0);
    EXPECT_FALSE(Readable(source));
    EXPECT_EQ(source.CountOf(SIGUSR1), 0);
  }
}

TEST_F(SignalSourceTest, IsNotWokenByWhatAVforkChildReceives) {
  SignalSource source = Create({SIGUSR1});
  const pid_t child = vfork();
  if (child == 0) {
    kill(getpid(), SIGUSR1);
    _exit(0);
  }
  ASSERT_NE(child, -1);
  EXPECT_EQ(WaitForChild(child), 0);
  EXPECT_FALSE(Readable(source));
  EXPECT_EQ(source.CountOf(SIGUSR1), 0);
}

// As libuv's fork_signal_to_child.
TEST_F(SignalSourceTest, IsMadeAnewByAChildAndHearsTheChildsSignalsOnly) {
  SignalSource source = Create({SIGUSR1});
  raise(SIGUSR1);
  std::array<int, 2> ready;
  ASSERT_EQ(pipe2(ready.data(), O_CLOEXEC), 0);
  const pid_t child = StartInChild([&] {
    absl::StatusOr<SignalSource> own = SignalSource::Create({SIGUSR1});
    if (!own.ok() || Readable(*own)) return 1;
    (void)!write(ready[1], "x", 1);
    if (!PollUntil(own->fd(), POLLIN, absl::InfiniteFuture()).ok()) return 2;
    const absl::StatusOr<std::optional<SignalSource::Event>> event =
        own->Next();
    if (!event.ok() || !event->has_value()) return 3;
    return (*event)->signal.sender_pid == getppid() &&
                   own->CountOf(SIGUSR1) == 1
               ? 0
               : 4;
  });
  char byte;
  EXPECT_EQ(RetryOnEintr([&] { return read(ready[0], &byte, 1); }), 1);
  EXPECT_EQ(kill(child, SIGUSR1), 0);
  EXPECT_EQ(WaitForChild(child), 0);
  EXPECT_EQ(Drain(source).size(), 1);
  EXPECT_EQ(source.CountOf(SIGUSR1), 1);
  close(ready[0]);
  close(ready[1]);
}

TEST_F(SignalSourceTest, IsTakenApartByAChildForItselfOnly) {
  const ForeignAction host(SIGUSR1, SIG_IGN);
  std::optional<SignalSource> source(Create({SIGUSR1}));
  EXPECT_EQ(InChild([&] {
              source.reset();
              return Standing(SIGUSR1).sa_handler == SIG_IGN ? 0 : 1;
            }),
            0);
  raise(SIGUSR1);
  EXPECT_EQ(Sum(Drain(*source), SIGUSR1), 1);
}

// ---- threads ----

TEST_F(SignalSourceTest, CountsAMillionExactly) {
  constexpr int kThreads = 4;
  constexpr int kEach = 250'000;
  SignalSource source = Create({SIGUSR1, SIGUSR2});
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([i] {
      // To the thread itself, where it strikes before raise returns: none can
      // be merged with another that is pending.
      for (int j = 0; j < kEach; ++j) raise(i % 2 == 0 ? SIGUSR1 : SIGUSR2);
    });
  }
  std::map<int, uint64_t> told;
  while (told[SIGUSR1] + told[SIGUSR2] < kThreads * kEach) {
    ASSERT_THAT(PollUntil(source.fd(), POLLIN, absl::Now() + absl::Minutes(1)),
                IsOkAndHolds(true));
    for (const SignalSource::Event& event : Drain(source)) {
      told[event.signal.signo] += event.count;
    }
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(Drain(source).empty());
  for (const int signo : {SIGUSR1, SIGUSR2}) {
    EXPECT_EQ(source.CountOf(signo), kThreads / 2 * kEach);
    EXPECT_EQ(told[signo], kThreads / 2 * kEach);
  }
}

TEST_F(SignalSourceTest, PutsTheOldActionBackThoughAnotherCameAndWent) {
  {
    absl::StatusOr<SignalSource> first = SignalSource::Create({SIGUSR1});
    ASSERT_THAT(first, IsOk());
    struct sigaction ours;
    struct sigaction library = {};
    library.sa_handler = [](int) {};
    ASSERT_EQ(sigaction(SIGUSR1, &library, &ours), 0);
    EXPECT_THAT(SignalSource::Create({SIGUSR1}).status(),
                StatusIs(absl::StatusCode::kAlreadyExists));
    ASSERT_EQ(sigaction(SIGUSR1, &ours, nullptr), 0);
    EXPECT_THAT(first->Check(), IsOk());
  }
  EXPECT_THAT(DispositionOf(SIGUSR1), IsOkAndHolds(Disposition::kDefault));
}

TEST_F(SignalSourceTest, GoesSafelyWhileItsHandlerRunsElsewhere) {
  SignalSource lasting = Create({SIGUSR1});  // Else the default would kill.
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> raised = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      while (!stop) {
        raise(SIGUSR1);
        ++raised;
      }
    });
  }
  for (int i = 0; i < 2000; ++i) {
    SignalSource passing = Create({SIGUSR1}, {.capacity = 2});
    (void)passing.Next();
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(lasting.CountOf(SIGUSR1), raised);
}

TEST_F(SignalSourceTest, IsMadeAndDestroyedInManyThreadsAtOnce) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([] {
      for (int j = 0; j < 500; ++j) {
        SignalSource source = Create({SIGUSR1});
        raise(SIGUSR1);
        EXPECT_GE(Sum(Drain(source), SIGUSR1), 1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Standing(SIGUSR1).sa_handler, SIG_DFL);
}

}  // namespace
}  // namespace brood
