// SPDX-License-Identifier: Apache-2.0
#include "brood/server/poll_loop.h"

#include <unistd.h>

#include <array>
#include <csignal>
#include <iostream>
#include <optional>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/signal/mask.h"
#include "brood/signal/signal_fd.h"
#include "brood/signal/signal_set.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;
using ::testing::ElementsAre;

absl::Status PrintSignalsFor(absl::Duration time, SignalFd& signals) {
  PollLoop loop;
  loop.Watch(signals.fd(), [&] {
    absl::StatusOr<std::optional<SignalEvent>> event = signals.Next();
    if (event.ok() && event->has_value()) {
      std::cout << NameOfSignal((*event)->signo) << "\n";
    }
    return event.status();
  });
  loop.CallAfter(time, [&] {
    loop.Stop();
    return absl::OkStatus();
  });
  return loop.Run();
}

// A pipe that is readable from the start.
struct ReadyPipe {
  ReadyPipe() {
    std::array<int, 2> ends;
    EXPECT_EQ(pipe(ends.data()), 0);
    reader = UniqueFd(ends[0]);
    writer = UniqueFd(ends[1]);
    EXPECT_EQ(write(writer.get(), "x", 1), 1);
  }
  UniqueFd reader;
  UniqueFd writer;
};

TEST(PollLoopTest, HeaderExample) {
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGUSR1});
  ASSERT_THAT(mask, IsOk());
  absl::StatusOr<SignalFd> signals = SignalFd::Create({SIGUSR1});
  ASSERT_THAT(signals, IsOk());
  ASSERT_EQ(raise(SIGUSR1), 0);
  testing::internal::CaptureStdout();
  EXPECT_THAT(PrintSignalsFor(absl::Milliseconds(1), *signals), IsOk());
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "SIGUSR1\n");
}

TEST(PollLoopTest, CallsAWatcherAgainUntilItDrains) {
  ReadyPipe pipe;
  PollLoop loop;
  int calls = 0;
  loop.Watch(pipe.reader.get(), [&] {
    if (++calls == 3) loop.Stop();
    return absl::OkStatus();
  });
  EXPECT_THAT(loop.Run(), IsOk());
  EXPECT_EQ(calls, 3);
}

TEST(PollLoopTest, CountsAHangUpAsReadable) {
  ReadyPipe pipe;
  char byte;
  ASSERT_EQ(read(pipe.reader.get(), &byte, 1), 1);
  pipe.writer = UniqueFd();
  PollLoop loop;
  loop.Watch(pipe.reader.get(), [&] {
    loop.Stop();
    return absl::OkStatus();
  });
  EXPECT_THAT(loop.Run(), IsOk());
}

TEST(PollLoopTest, LetsAWatcherUnwatchItselfAndOthers) {
  ReadyPipe first;
  ReadyPipe second;
  PollLoop loop;
  std::vector<int> called;
  const auto watcher = [&](int self, int other) {
    return [&, self, other] {
      called.push_back(self);
      loop.Unwatch(self);
      loop.Unwatch(other);
      return absl::OkStatus();
    };
  };
  const int a = first.reader.get();
  const int b = second.reader.get();
  loop.Watch(a, watcher(a, b));
  loop.Watch(b, watcher(b, a));
  loop.CallAfter(absl::Milliseconds(1), [&] {
    loop.Stop();
    return absl::OkStatus();
  });
  EXPECT_THAT(loop.Run(), IsOk());
  EXPECT_EQ(called.size(), 1);
}

TEST(PollLoopTest, CallsTheLatestWatcherOnly) {
  ReadyPipe pipe;
  PollLoop loop;
  loop.Watch(pipe.reader.get(),
             [] { return absl::InternalError("the former one"); });
  loop.Watch(pipe.reader.get(), [&] {
    loop.Stop();
    return absl::OkStatus();
  });
  EXPECT_THAT(loop.Run(), IsOk());
}

TEST(PollLoopTest, CallsInTheOrderOfTheirTimes) {
  PollLoop loop;
  std::vector<int> called;
  // All are due long since, whatever the machine is doing meanwhile.
  for (const int hours : {2, 3, 1}) {
    loop.CallAfter(-absl::Hours(hours), [&, hours] {
      called.push_back(hours);
      if (hours == 1) loop.Stop();
      return absl::OkStatus();
    });
  }
  EXPECT_THAT(loop.Run(), IsOk());
  EXPECT_THAT(called, ElementsAre(3, 2, 1));
}

TEST(PollLoopTest, CallsNothingBeforeItsTime) {
  PollLoop loop;
  constexpr absl::Duration kDelay = absl::Milliseconds(2);
  const absl::Duration begin = MonotonicNow();
  loop.CallAfter(kDelay, [&] {
    loop.Stop();
    return absl::OkStatus();
  });
  EXPECT_THAT(loop.Run(), IsOk());
  EXPECT_GE(MonotonicNow() - begin, kDelay);
}

TEST(PollLoopTest, LooksAtDescriptorsBeforeTimersThatAreDue) {
  ReadyPipe pipe;
  PollLoop loop;
  bool seen = false;
  loop.Watch(pipe.reader.get(), [&] {
    seen = true;
    return absl::OkStatus();
  });
  loop.CallAfter(-absl::Hours(1), [&] {
    loop.Stop();
    return absl::OkStatus();
  });
  EXPECT_THAT(loop.Run(), IsOk());
  EXPECT_TRUE(seen);
}

TEST(PollLoopTest, CallsOthersHoweverOftenAnActionAsksToBeCalledAtOnce) {
  const ReadyPipe pipe;
  PollLoop loop;
  absl::AnyInvocable<absl::Status()> again;
  again = [&] {
    loop.CallAfter(absl::ZeroDuration(), [&] { return again(); });
    return absl::OkStatus();
  };
  ASSERT_THAT(again(), IsOk());
  int calls = 0;
  const absl::Duration began = MonotonicNow();
  loop.Watch(pipe.reader.get(), [&] {
    if (++calls == 3) loop.Stop();
    return absl::OkStatus();
  });
  EXPECT_THAT(loop.Run(), IsOk());
  EXPECT_EQ(calls, 3);
  EXPECT_GE(loop.woken_at(), began);
  EXPECT_LE(loop.woken_at(), MonotonicNow());
}

TEST(PollLoopTest, EndsWithTheFirstErrorOfACallback) {
  ReadyPipe pipe;
  PollLoop loop;
  loop.Watch(pipe.reader.get(), [] { return absl::DataLossError("watcher"); });
  EXPECT_THAT(loop.Run(), StatusIs(absl::StatusCode::kDataLoss, "watcher"));
  PollLoop other;
  other.CallAfter(absl::ZeroDuration(),
                  [] { return absl::DataLossError("timer"); });
  EXPECT_THAT(other.Run(), StatusIs(absl::StatusCode::kDataLoss, "timer"));
}

TEST(PollLoopTest, RunsAgainAfterAStop) {
  PollLoop loop;
  for (int i = 0; i < 2; ++i) {
    loop.CallAfter(absl::ZeroDuration(), [&] {
      loop.Stop();
      return absl::OkStatus();
    });
    EXPECT_THAT(loop.Run(), IsOk());
  }
}

}  // namespace
}  // namespace brood
