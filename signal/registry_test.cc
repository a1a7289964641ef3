// SPDX-License-Identifier: Apache-2.0
#include "brood/signal/registry.h"

#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include <csignal>
#include <latch>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/proc/posix.h"
#include "brood/signal/action.h"
#include "brood/signal/mask.h"
#include "brood/signal/signal_set.h"
#include "brood/signal/signal_source.h"
#include "brood/tests/in_child.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::HasSubstr;

absl::Status ServeUntilTerm(absl::FunctionRef<void()> reload) {
  absl::StatusOr<SignalRegistry> signals = SignalRegistry::Create();
  if (!signals.ok()) return signals.status();
  bool stop = false;
  absl::Status added =
      signals->Add(SIGHUP, [&](const SignalSource::Event&) { reload(); });
  added.Update(
      signals->Add(SIGTERM, [&](const SignalSource::Event&) { stop = true; }));
  while (added.ok() && !stop) {
    added = PollUntil(signals->fd(), POLLIN, absl::InfiniteFuture()).status();
    if (added.ok()) added = signals->Dispatch().status();
  }
  return added;
}

class SignalRegistryTest : public testing::Test {
 protected:
  SignalRegistryTest()
      : open_(*SignalMask::Unblock({SIGHUP, SIGTERM, SIGUSR1, SIGUSR2})),
        signals_(*SignalRegistry::Create()) {}

  // Writes down what was called.
  SignalRegistry::Callback Note(char name) {
    return [this, name](const SignalSource::Event&) { called_ += name; };
  }
  bool Readable() {
    return PollUntil(signals_.fd(), POLLIN, absl::InfinitePast())
        .value_or(false);
  }

  SignalMask open_;
  SignalRegistry signals_;
  std::string called_;
};

TEST_F(SignalRegistryTest, HeaderExample) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer may put a handler off for as long as its "
                  "thread waits, and here it waits for the handler";
#endif
  std::latch served(1);
  std::thread sender([&] {
    while (DispositionOf(SIGTERM).value_or(Disposition::kDefault) !=
           Disposition::kHandled) {
      sched_yield();
    }
    EXPECT_EQ(kill(getpid(), SIGHUP), 0);
    served.wait();
    EXPECT_EQ(kill(getpid(), SIGTERM), 0);
  });
  int reloads = 0;
  EXPECT_THAT(ServeUntilTerm([&] {
                ++reloads;
                served.count_down();
              }),
              IsOk());
  sender.join();
  EXPECT_EQ(reloads, 1);
}

TEST_F(SignalRegistryTest, CallsForEachArrivalInItsOrder) {
  ASSERT_THAT(signals_.Add(SIGUSR1, Note('1')), IsOk());
  ASSERT_THAT(signals_.Add(SIGUSR2, Note('2')), IsOk());
  EXPECT_THAT(signals_.Dispatch(), IsOkAndHolds(0));
  raise(SIGUSR2);
  raise(SIGUSR1);
  raise(SIGUSR2);
  EXPECT_EQ(called_, "") << "a callback is no handler";
  EXPECT_TRUE(Readable());
  EXPECT_THAT(signals_.Dispatch(), IsOkAndHolds(3));
  EXPECT_EQ(called_, "212");
  EXPECT_FALSE(Readable());
}

TEST_F(SignalRegistryTest, LetsACallbackRemoveItself) {
  auto alive = std::make_shared<int>(0);
  const std::weak_ptr<int> watched = alive;
  bool alive_to_the_end = false;
  ASSERT_THAT(
      signals_.Add(SIGUSR1,
                   [&, kept = std::move(alive)](const SignalSource::Event&) {
                     signals_.Remove(SIGUSR1);
                     alive_to_the_end = !watched.expired();
                     called_ += '1';
                   }),
      IsOk());
  raise(SIGUSR1);
  raise(SIGUSR1);
  EXPECT_THAT(signals_.Dispatch(), IsOkAndHolds(1));
  EXPECT_EQ(called_, "1");
  EXPECT_TRUE(alive_to_the_end);
  EXPECT_TRUE(watched.expired());
  EXPECT_THAT(DispositionOf(SIGUSR1), IsOkAndHolds(Disposition::kDefault));
}

TEST_F(SignalRegistryTest, LetsACallbackRemoveAnotherAndAddAThird) {
  ASSERT_THAT(signals_.Add(SIGUSR1,
                           [&](const SignalSource::Event&) {
                             called_ += '1';
                             signals_.Remove(SIGUSR2);
                             EXPECT_THAT(signals_.Add(SIGHUP, Note('h')),
                                         IsOk());
                             raise(SIGHUP);
                           }),
              IsOk());
  ASSERT_THAT(signals_.Add(SIGUSR2, Note('2')), IsOk());
  raise(SIGUSR1);
  raise(SIGUSR2);
  EXPECT_THAT(signals_.Dispatch(), IsOkAndHolds(2));
  EXPECT_EQ(called_, "1h");
}

TEST_F(SignalRegistryTest, CallsANewCallbackForNothingThatCameBefore) {
  ASSERT_THAT(signals_.Add(SIGUSR1, Note('1')), IsOk());
  raise(SIGUSR1);
  signals_.Remove(SIGUSR1);
  ASSERT_THAT(signals_.Add(SIGUSR1, Note('n')), IsOk());
  EXPECT_THAT(signals_.Dispatch(), IsOkAndHolds(0));
  raise(SIGUSR1);
  EXPECT_THAT(signals_.Dispatch(), IsOkAndHolds(1));
  EXPECT_EQ(called_, "n");
}

TEST_F(SignalRegistryTest, LetsACallbackDispatch) {
  ASSERT_THAT(signals_.Add(SIGUSR1,
                           [&](const SignalSource::Event&) {
                             called_ += '(';
                             EXPECT_THAT(signals_.Dispatch(), IsOk());
                             called_ += ')';
                           }),
              IsOk());
  ASSERT_THAT(signals_.Add(SIGUSR2, Note('2')), IsOk());
  raise(SIGUSR1);
  raise(SIGUSR2);
  EXPECT_THAT(signals_.Dispatch(), IsOkAndHolds(1));
  EXPECT_EQ(called_, "(2)");
}

TEST_F(SignalRegistryTest, ReturnsFromASignalThatKeepsComing) {
  ASSERT_THAT(signals_.Add(SIGUSR1,
                           [&](const SignalSource::Event&) { raise(SIGUSR1); }),
              IsOk());
  raise(SIGUSR1);
  EXPECT_THAT(signals_.Dispatch(), IsOkAndHolds(SignalRegistry::kBatch));
  EXPECT_TRUE(Readable());
}

TEST_F(SignalRegistryTest, SharesASignalWithAnotherRegistry) {
  absl::StatusOr<SignalRegistry> other = SignalRegistry::Create();
  ASSERT_THAT(other, IsOk());
  ASSERT_THAT(signals_.Add(SIGUSR1, Note('a')), IsOk());
  ASSERT_THAT(other->Add(SIGUSR1, Note('b')), IsOk());
  raise(SIGUSR1);
  EXPECT_THAT(signals_.Dispatch(), IsOkAndHolds(1));
  EXPECT_THAT(other->Dispatch(), IsOkAndHolds(1));
  EXPECT_EQ(called_, "ab");
}

TEST_F(SignalRegistryTest, RefusesWhatItCannotCallFor) {
  EXPECT_THAT(signals_.Add(SIGUSR1, nullptr),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("SIGUSR1 must be a function")));
  for (const int signo : {SIGKILL, SIGSTOP, SIGSEGV, 0, 32, 65}) {
    EXPECT_THAT(signals_.Add(signo, Note('x')),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
  ASSERT_THAT(signals_.Add(SIGUSR1, Note('1')), IsOk());
  EXPECT_THAT(signals_.Add(SIGUSR1, Note('2')),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("SIGUSR1")));
  raise(SIGUSR1);
  EXPECT_THAT(signals_.Dispatch(), IsOkAndHolds(1));
  EXPECT_EQ(called_, "1");
}

TEST_F(SignalRegistryTest, NamesTheSignalThatEveryThreadBlocks) {
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGUSR1});
  ASSERT_THAT(mask, IsOk());
  EXPECT_THAT(
      signals_.Add(SIGUSR1, Note('1')),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("SIGUSR1")));
}

TEST_F(SignalRegistryTest, LeavesASignalIgnoredThatWasSoAtTheStartIfAsked) {
  const absl::StatusOr<SignalAction> nohup = SignalAction::Ignore(SIGHUP);
  ASSERT_THAT(nohup, IsOk());
  absl::StatusOr<SignalRegistry> signals =
      SignalRegistry::Create({.if_ignored = IfIgnored::kKeep});
  ASSERT_THAT(signals, IsOk());
  ASSERT_THAT(signals->Add(SIGHUP, Note('h')), IsOk());
  raise(SIGHUP);
  EXPECT_THAT(signals->Dispatch(), IsOkAndHolds(0));
  EXPECT_EQ(signals->source().left_ignored(), SignalSet{SIGHUP});
}

TEST_F(SignalRegistryTest, DispatchesNothingInAForkedChild) {
  ASSERT_THAT(signals_.Add(SIGUSR1, Note('1')), IsOk());
  raise(SIGUSR1);
  EXPECT_EQ(
      InChild([&] {
        return absl::IsFailedPrecondition(signals_.Dispatch().status()) ? 0 : 1;
      }),
      0);
  EXPECT_THAT(signals_.Dispatch(), IsOkAndHolds(1));
}

}  // namespace
}  // namespace brood
