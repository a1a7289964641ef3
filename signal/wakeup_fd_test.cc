// SPDX-License-Identifier: Apache-2.0
#include "brood/signal/wakeup_fd.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/proc/posix.h"
#include "brood/signal/action.h"
#include "brood/signal/mask.h"
#include "brood/tests/in_child.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::testing::Eq;
using ::testing::Optional;

constexpr auto kNothing = std::nullopt;

absl::StatusOr<uint64_t> WaitForTheThread(WakeupFd& done) {
  std::thread thread([&] { done.Wake(); });
  thread.join();
  const absl::StatusOr<bool> woken =
      PollUntil(done.fd(), POLLIN, absl::InfiniteFuture());
  if (!woken.ok()) return woken.status();
  const absl::StatusOr<std::optional<uint64_t>> wakes = done.Next();
  if (!wakes.ok()) return wakes.status();
  return wakes->value_or(0);
}

WakeupFd Create() {
  absl::StatusOr<WakeupFd> wakeup = WakeupFd::Create();
  EXPECT_THAT(wakeup, IsOk());
  return *std::move(wakeup);
}

bool Readable(const WakeupFd& wakeup) {
  return PollUntil(wakeup.fd(), POLLIN, absl::InfinitePast()).value_or(false);
}

TEST(WakeupFdTest, HeaderExample) {
  WakeupFd done = Create();
  EXPECT_THAT(WaitForTheThread(done), IsOkAndHolds(1));
}

TEST(WakeupFdTest, IsReadableFromAWakeUntilItIsTaken) {
  WakeupFd wakeup = Create();
  EXPECT_FALSE(Readable(wakeup));
  EXPECT_THAT(wakeup.Next(), IsOkAndHolds(Eq(kNothing)));
  wakeup.Wake();
  wakeup.Wake();
  EXPECT_TRUE(Readable(wakeup));
  EXPECT_THAT(wakeup.Next(), IsOkAndHolds(Optional(2)));
  EXPECT_FALSE(Readable(wakeup));
  EXPECT_THAT(wakeup.Next(), IsOkAndHolds(Eq(kNothing)));
}

TEST(WakeupFdTest, NeitherBlocksNorSurvivesExec) {
  const WakeupFd wakeup = Create();
  EXPECT_EQ(fcntl(wakeup.fd(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  EXPECT_EQ(fcntl(wakeup.fd(), F_GETFL) & O_NONBLOCK, O_NONBLOCK);
}

TEST(WakeupFdTest, CountsEveryWakeOfEveryThread) {
  constexpr int kThreads = 4;
  constexpr int kWakes = 1000;
  WakeupFd wakeup = Create();
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < kWakes; ++j) wakeup.Wake();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wakeup.Next(), IsOkAndHolds(Optional(kThreads * kWakes)));
}

TEST(WakeupFdTest, StaysReadableWhenItsCounterIsFull) {
  WakeupFd wakeup = Create();
  const uint64_t full = 0xfffffffffffffffe;
  ASSERT_EQ(write(wakeup.fd(), &full, sizeof(full)), sizeof(full));
  errno = EXDEV;
  wakeup.Wake();
  EXPECT_EQ(errno, EXDEV);
  EXPECT_THAT(wakeup.Next(), IsOkAndHolds(Optional(full)));
}

const WakeupFd* from_handler = nullptr;

TEST(WakeupFdTest, IsWokenFromAHandler) {
  WakeupFd wakeup = Create();
  from_handler = &wakeup;
  const absl::StatusOr<SignalMask> open = SignalMask::Unblock({SIGUSR1});
  ASSERT_THAT(open, IsOk());
  const absl::StatusOr<SignalAction> action =
      SignalAction::Handle(SIGUSR1, [](int) { from_handler->Wake(); });
  ASSERT_THAT(action, IsOk());
  ASSERT_EQ(raise(SIGUSR1), 0);
  EXPECT_THAT(wakeup.Next(), IsOkAndHolds(Optional(1)));
}

TEST(WakeupFdTest, IsWokenFromAForkedChild) {
  WakeupFd wakeup = Create();
  EXPECT_EQ(InChild([&] {
              wakeup.Wake();
              return 0;
            }),
            0);
  EXPECT_THAT(wakeup.Next(), IsOkAndHolds(Optional(1)));
}

}  // namespace
}  // namespace brood
