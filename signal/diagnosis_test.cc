// SPDX-License-Identifier: Apache-2.0
#include "brood/signal/diagnosis.h"

#include <sched.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <csignal>
#include <latch>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/signal/action.h"
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
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

absl::Status Reachable(int signo) {
  const absl::StatusOr<SignalOutlook> outlook = WhoWouldTake(signo);
  if (!outlook.ok()) return outlook.status();
  if (outlook->disposition == Disposition::kIgnored) {
    return absl::FailedPreconditionError("ignored");
  }
  if (outlook->takers.empty()) {
    return absl::FailedPreconditionError("blocked in every thread");
  }
  return absl::OkStatus();
}

TEST(DiagnosisTest, HeaderExample) {
  const absl::StatusOr<SignalMask> open = SignalMask::Unblock({SIGUSR1});
  ASSERT_THAT(open, IsOk());
  EXPECT_THAT(Reachable(SIGUSR1), IsOk());
  {
    const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGUSR1});
    ASSERT_THAT(mask, IsOk());
    EXPECT_THAT(Reachable(SIGUSR1),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         "blocked in every thread"));
  }
  const absl::StatusOr<SignalAction> action = SignalAction::Ignore(SIGUSR1);
  ASSERT_THAT(action, IsOk());
  EXPECT_THAT(Reachable(SIGUSR1),
              StatusIs(absl::StatusCode::kFailedPrecondition, "ignored"));
}

// A second thread, with the mask of the thread that makes it, for a scope.
class OtherThread {
 public:
  OtherThread() : thread_([this] { Run(); }) { started_.wait(); }
  ~OtherThread() {
    done_.count_down();
    thread_.join();
  }
  pid_t tid() const { return tid_; }

 private:
  void Run() {
    tid_ = gettid();
    started_.count_down();
    done_.wait();
  }

  std::latch started_{1};
  std::latch done_{1};
  pid_t tid_ = 0;
  std::thread thread_;
};

TEST(DiagnosisTest, NamesTheThreadThatWouldTakeASignal) {
  const absl::StatusOr<SignalMask> open = SignalMask::Unblock({SIGUSR1});
  ASSERT_THAT(open, IsOk());
  const OtherThread other;
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGUSR1, SIGUSR2});
  ASSERT_THAT(mask, IsOk());
  EXPECT_THAT(
      WhoWouldTake(SIGUSR1),
      IsOkAndHolds(Field(&SignalOutlook::takers, ElementsAre(other.tid()))));
  EXPECT_THAT(CheckSomeThreadTakes({SIGUSR1}), IsOk());
  EXPECT_THAT(
      CheckNoThreadTakes({SIGUSR1}),
      StatusIs(absl::StatusCode::kFailedPrecondition,
               HasSubstr(absl::StrCat("SIGUSR1 (thread ", other.tid(), ")"))));
}

TEST(DiagnosisTest, NamesTheSignalsThatEveryThreadBlocks) {
  const absl::StatusOr<SignalMask> mask = SignalMask::Replace({SIGUSR1});
  ASSERT_THAT(mask, IsOk());
  const OtherThread other;
  EXPECT_THAT(BlockedEverywhere(), IsOkAndHolds(SignalSet{SIGUSR1}));
  EXPECT_THAT(WhoWouldTake(SIGUSR1),
              IsOkAndHolds(Field(&SignalOutlook::takers, IsEmpty())));
  EXPECT_THAT(CheckSomeThreadTakes({SIGUSR1, SIGUSR2}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("SIGUSR1"), Not(HasSubstr("SIGUSR2")))));
  EXPECT_THAT(CheckNoThreadTakes({SIGUSR1}), IsOk());
}

TEST(DiagnosisTest, KnowsRealtimeSignals) {
  const absl::StatusOr<SignalSet> realtime =
      SignalSet::Of({SIGRTMIN, SIGRTMAX});
  ASSERT_THAT(realtime, IsOk());
  const absl::StatusOr<SignalMask> mask = SignalMask::Replace(*realtime);
  ASSERT_THAT(mask, IsOk());
  EXPECT_THAT(BlockedEverywhere(), IsOkAndHolds(*realtime));
}

TEST(DiagnosisTest, RefusesNumbersThatAreNoSignals) {
  for (const int signo : {-1, 0, 32, 33, 65}) {
    EXPECT_THAT(WhoWouldTake(signo),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
}

// The main thread leaves with SIGUSR1 open, and stays as a zombie while the
// other, which blocks it, lives on.
TEST(DiagnosisTest, DoesNotCountAMainThreadThatHasLeft) {
  EXPECT_EQ(
      InChild([]() -> int {
        const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGUSR1});
        std::thread([] {
          while (!CheckNoThreadTakes({SIGUSR1}).ok()) sched_yield();
          _exit(7);
        }).detach();
        const absl::StatusOr<SignalMask> open = SignalMask::Unblock({SIGUSR1});
        if (!mask.ok() || !open.ok()) return 1;
        // Not pthread_exit, which unwinds into GoogleTest's frames.
        syscall(SYS_exit, 0);
        return 2;
      }),
      7);
}

}  // namespace
}  // namespace brood
