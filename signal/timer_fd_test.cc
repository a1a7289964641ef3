// SPDX-License-Identifier: Apache-2.0
#include "brood/signal/timer_fd.h"

#include <fcntl.h>
#include <poll.h>

#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "brood/proc/posix.h"
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
using ::testing::Ge;
using ::testing::Gt;
using ::testing::HasSubstr;
using ::testing::Le;
using ::testing::Optional;

constexpr auto kNothing = std::nullopt;
constexpr absl::Duration kLong = absl::Hours(1);

absl::StatusOr<uint64_t> CountTicks(absl::Duration period, int rounds) {
  absl::StatusOr<TimerFd> timer = TimerFd::Create();
  if (!timer.ok()) return timer.status();
  const absl::Status armed = timer->ExpireEvery(period);
  if (!armed.ok()) return armed;
  uint64_t ticks = 0;
  for (int i = 0; i < rounds; ++i) {
    const absl::StatusOr<bool> ready =
        PollUntil(timer->fd(), POLLIN, absl::InfiniteFuture());
    if (!ready.ok()) return ready.status();
    const absl::StatusOr<std::optional<uint64_t>> expired = timer->Next();
    if (!expired.ok()) return expired.status();
    ticks += expired->value_or(0);
  }
  return ticks;
}

TEST(TimerFdTest, HeaderExample) {
  const absl::Duration began = MonotonicNow();
  const absl::StatusOr<uint64_t> ticks = CountTicks(absl::Milliseconds(1), 3);
  EXPECT_THAT(ticks, IsOkAndHolds(Ge(3)));
  EXPECT_GE(MonotonicNow() - began,
            absl::Milliseconds(static_cast<int64_t>(ticks.value_or(0))));
}

TimerFd Create() {
  absl::StatusOr<TimerFd> timer = TimerFd::Create();
  EXPECT_THAT(timer, IsOk());
  return *std::move(timer);
}

bool Readable(const TimerFd& timer) {
  return PollUntil(timer.fd(), POLLIN, absl::InfinitePast()).value_or(false);
}

// Whether it expires, however slow the machine.
bool Expires(const TimerFd& timer) {
  return PollUntil(timer.fd(), POLLIN, absl::Now() + absl::Minutes(1))
      .value_or(false);
}

TEST(TimerFdTest, NeverExpiresUnlessItIsArmed) {
  TimerFd timer = Create();
  EXPECT_FALSE(Readable(timer));
  EXPECT_THAT(timer.Next(), IsOkAndHolds(Eq(kNothing)));
  EXPECT_THAT(timer.Left(), IsOkAndHolds(absl::InfiniteDuration()));
}

TEST(TimerFdTest, ExpiresOnceAndNotBeforeItsTime) {
  TimerFd timer = Create();
  const absl::Duration delay = absl::Milliseconds(2);
  const absl::Duration began = MonotonicNow();
  ASSERT_THAT(timer.ExpireAfter(delay), IsOk());
  ASSERT_TRUE(Expires(timer));
  EXPECT_GE(MonotonicNow() - began, delay);
  EXPECT_THAT(timer.Next(), IsOkAndHolds(Optional(1)));
  EXPECT_FALSE(Readable(timer));
  EXPECT_THAT(timer.Next(), IsOkAndHolds(Eq(kNothing)));
  EXPECT_THAT(timer.Left(), IsOkAndHolds(absl::InfiniteDuration()));
}

TEST(TimerFdTest, ExpiresAtOnceIfItIsDueAlready) {
  TimerFd timer = Create();
  for (const absl::Duration delay :
       {absl::ZeroDuration(), absl::Nanoseconds(1) / 4, absl::Seconds(-1),
        -absl::InfiniteDuration()}) {
    SCOPED_TRACE(delay);
    ASSERT_THAT(timer.ExpireAfter(delay), IsOk());
    EXPECT_TRUE(Expires(timer));
    EXPECT_THAT(timer.Next(), IsOkAndHolds(Optional(1)));
  }
  for (const absl::Time when :
       {absl::InfinitePast(), absl::UnixEpoch(), absl::Now()}) {
    SCOPED_TRACE(when);
    ASSERT_THAT(timer.ExpireAt(when), IsOk());
    EXPECT_TRUE(Expires(timer));
    EXPECT_THAT(timer.Next(), IsOkAndHolds(Optional(1)));
  }
}

TEST(TimerFdTest, ExpiresAtADeadline) {
  TimerFd timer = Create();
  ASSERT_THAT(timer.ExpireAt(absl::Now() + kLong), IsOk());
  EXPECT_THAT(timer.Left(),
              IsOkAndHolds(AllOf(Gt(kLong - absl::Minutes(10)), Le(kLong))));
  ASSERT_THAT(timer.ExpireAt(absl::Now() + absl::Milliseconds(1)), IsOk());
  EXPECT_TRUE(Expires(timer));
}

TEST(TimerFdTest, NeverExpiresIfThatIsInfinitelyFarAway) {
  TimerFd timer = Create();
  for (int i = 0; i < 3; ++i) {
    ASSERT_THAT(timer.ExpireAfter(kLong), IsOk());
    ASSERT_THAT(i == 0   ? timer.ExpireAfter(absl::InfiniteDuration())
                : i == 1 ? timer.ExpireAt(absl::InfiniteFuture())
                         : timer.ExpireEvery(absl::InfiniteDuration()),
                IsOk());
    EXPECT_THAT(timer.Left(), IsOkAndHolds(absl::InfiniteDuration()));
  }
}

TEST(TimerFdTest, TakesDelaysThatNobodyWillLiveToSee) {
  TimerFd timer = Create();
  const absl::Duration eons = absl::Hours(1LL << 50);
  ASSERT_THAT(timer.ExpireAfter(eons), IsOk());
  EXPECT_FALSE(Readable(timer));
  EXPECT_THAT(timer.Left(), IsOkAndHolds(Gt(absl::Hours(24 * 365 * 100))));
  ASSERT_THAT(timer.ExpireEvery(eons), IsOk());
  EXPECT_FALSE(Readable(timer));
}

TEST(TimerFdTest, CountsTheExpirationsThatNobodyTookInTime) {
  TimerFd timer = Create();
  ASSERT_THAT(timer.ExpireEvery(absl::Milliseconds(1)), IsOk());
  TimerFd later = Create();
  ASSERT_THAT(later.ExpireAfter(absl::Milliseconds(10)), IsOk());
  ASSERT_TRUE(Expires(later));
  EXPECT_THAT(timer.Next(), IsOkAndHolds(Optional(Ge(9))));
}

TEST(TimerFdTest, RefusesAPeriodThatIsNotPositive) {
  TimerFd timer = Create();
  ASSERT_THAT(timer.ExpireAfter(kLong), IsOk());
  for (const absl::Duration period :
       {absl::ZeroDuration(), absl::Seconds(-1), -absl::InfiniteDuration()}) {
    EXPECT_THAT(timer.ExpireEvery(period),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr(absl::FormatDuration(period))));
  }
  EXPECT_THAT(timer.Left(), IsOkAndHolds(Le(kLong))) << "armed as before";
}

TEST(TimerFdTest, ForgetsWhatNobodyTookWhenItIsSetAgain) {
  TimerFd timer = Create();
  ASSERT_THAT(timer.ExpireAfter(absl::ZeroDuration()), IsOk());
  ASSERT_TRUE(Expires(timer));
  ASSERT_THAT(timer.Disarm(), IsOk());
  EXPECT_FALSE(Readable(timer));
  ASSERT_THAT(timer.ExpireAfter(absl::ZeroDuration()), IsOk());
  ASSERT_TRUE(Expires(timer));
  ASSERT_THAT(timer.ExpireAfter(kLong), IsOk());
  EXPECT_THAT(timer.Next(), IsOkAndHolds(Eq(kNothing)));
}

TEST(TimerFdTest, NeitherBlocksNorSurvivesExec) {
  const TimerFd timer = Create();
  EXPECT_EQ(fcntl(timer.fd(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  EXPECT_EQ(fcntl(timer.fd(), F_GETFL) & O_NONBLOCK, O_NONBLOCK);
}

TEST(TimerFdTest, IsLeftAloneByAChildThatOnlyDestroysItsCopy) {
  std::optional<TimerFd> timer(Create());
  ASSERT_THAT(timer->ExpireAfter(kLong), IsOk());
  EXPECT_EQ(InChild([&] {
              timer.reset();
              return 0;
            }),
            0);
  EXPECT_THAT(timer->Left(), IsOkAndHolds(Le(kLong)));
}

}  // namespace
}  // namespace brood
