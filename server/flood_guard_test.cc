// SPDX-License-Identifier: Apache-2.0
#include "brood/server/flood_guard.h"

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/address_range.h"
#include "brood/net/source_key.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Optional;

constexpr absl::Duration kStart = absl::Hours(5);
constexpr absl::Duration kTick = absl::Milliseconds(1);

SourceKey Source(std::string_view host) {
  return SourceKey::Of(*Address::Parse(absl::StrCat(host, ":9")));
}

// How many it takes, one each millisecond, until the source is shut out;
// nullopt if `most` do not do. `now` goes with it.
std::optional<int> Flood(FloodGuard& guard, const SourceKey& source,
                         absl::Duration& now, int most = 10'000) {
  for (int i = 1; i <= most; ++i, now += kTick) {
    if (guard.Count(source, now)) return i;
  }
  return std::nullopt;
}

// Who is to be shut out, once `peer` has been turned away too.
std::vector<AddressRange> AndOneMore(FloodGuard& guard, const Address& peer,
                                     absl::Duration now) {
  (void)guard.Count(SourceKey::Of(peer), now);
  return guard.Shut(now);
}

TEST(FloodGuardTest, ShutsOutWhoeverReachesTheThreshold) {
  FloodGuard guard(2);
  const Address peer = *Address::Parse("192.0.2.7:9");
  EXPECT_THAT(AndOneMore(guard, peer, kStart), IsEmpty());
  EXPECT_THAT(AndOneMore(guard, peer, kStart),
              ElementsAre(*AddressRange::Parse("192.0.2.7")));
}

TEST(FloodGuardTest, ShutsOutASourceOfWhomManyAreTurnedAwayWithinASecond) {
  FloodGuard guard(100);
  absl::Duration now = kStart;
  const SourceKey flooder = Source("192.0.2.7");
  EXPECT_THAT(Flood(guard, flooder, now), Optional(100));
  EXPECT_THAT(guard.Shut(now), ElementsAre(*AddressRange::Parse("192.0.2.7")));
  EXPECT_EQ(guard.ShutUntil(flooder, now), now + FloodGuard::kFirst);
  EXPECT_EQ(guard.NextOpening(now), now + FloodGuard::kFirst);
  EXPECT_EQ(guard.ShutUntil(Source("192.0.2.8"), now), std::nullopt);
}

TEST(FloodGuardTest, LetsThoseAloneWhoAreFewerInEachSecond) {
  FloodGuard guard(100);
  const SourceKey source = Source("192.0.2.7");
  for (absl::Duration now = kStart; now < kStart + absl::Minutes(1);
       now += absl::Milliseconds(11)) {
    ASSERT_FALSE(guard.Count(source, now)) << now;
  }
  EXPECT_THAT(guard.Shut(kStart + absl::Minutes(1)), IsEmpty());
}

TEST(FloodGuardTest, HearsWhoeverAsksAgainAfterASecond) {
  EXPECT_LT(FloodGuard::kFirst, absl::Seconds(1));
  FloodGuard guard(10);
  absl::Duration now = kStart;
  const SourceKey flooder = Source("192.0.2.7");
  ASSERT_TRUE(Flood(guard, flooder, now).has_value());
  now += FloodGuard::kFirst;
  EXPECT_THAT(guard.Shut(now), IsEmpty());
  EXPECT_EQ(guard.NextOpening(now), std::nullopt);
  EXPECT_EQ(guard.ShutUntil(flooder, now), std::nullopt);
}

TEST(FloodGuardTest, DoublesTheTimeForThoseWhoGoOnUpToALimit) {
  FloodGuard guard(10);
  absl::Duration now = kStart;
  const SourceKey flooder = Source("192.0.2.7");
  std::vector<absl::Duration> times;
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(Flood(guard, flooder, now).has_value());
    times.push_back(*guard.ShutUntil(flooder, now) - now);
    now += times.back();
  }
  EXPECT_THAT(times, ElementsAre(FloodGuard::kFirst, 2 * FloodGuard::kFirst,
                                 4 * FloodGuard::kFirst, 8 * FloodGuard::kFirst,
                                 8 * FloodGuard::kFirst));
  EXPECT_EQ(times.back(), FloodGuard::kLongest);
}

TEST(FloodGuardTest, DoesNotHearWhoGoesOnUntilItCeases) {
  FloodGuard guard(160);
  absl::Duration now = kStart;
  const SourceKey flooder = Source("192.0.2.7");
  ASSERT_TRUE(Flood(guard, flooder, now).has_value());
  EXPECT_EQ(guard.GoesOn(now, 1'000), std::nullopt);  // Is not due.
  for (int i = 0; i < 5; ++i) {
    now = *guard.ShutUntil(flooder, now);
    EXPECT_EQ(guard.GoesOn(now, 10), AddressRange::Parse("192.0.2.7").value());
    EXPECT_EQ(guard.NextOpening(now), now + FloodGuard::kFirst);
  }
  now = *guard.ShutUntil(flooder, now);
  EXPECT_EQ(guard.GoesOn(now, 9), std::nullopt);
  EXPECT_THAT(guard.Shut(now), IsEmpty());
  // It has been shut out once.
  EXPECT_THAT(Flood(guard, flooder, now), Optional(10));
  EXPECT_EQ(*guard.ShutUntil(flooder, now) - now, 2 * FloodGuard::kFirst);
}

TEST(FloodGuardTest, HearsAFloodOnceAMinuteHoweverItGoesOn) {
  FloodGuard guard(10);
  absl::Duration now = kStart;
  const SourceKey flooder = Source("192.0.2.7");
  ASSERT_TRUE(Flood(guard, flooder, now).has_value());
  const absl::Duration began = now;
  while (guard.ShutUntil(flooder, now).has_value()) {
    now = *guard.ShutUntil(flooder, now);
    (void)guard.GoesOn(now, 1'000'000);
  }
  EXPECT_GE(now - began, FloodGuard::kMostAtATime);
  EXPECT_LE(now - began, FloodGuard::kMostAtATime + FloodGuard::kFirst);
}

TEST(FloodGuardTest, HearsEachOfSeveralBecauseItIsNotKnownWhoKnocks) {
  FloodGuard guard(10);
  absl::Duration now = kStart;
  ASSERT_TRUE(Flood(guard, Source("192.0.2.7"), now).has_value());
  ASSERT_TRUE(Flood(guard, Source("192.0.2.8"), now).has_value());
  now = *guard.ShutUntil(Source("192.0.2.7"), now);
  EXPECT_EQ(guard.GoesOn(now, 1'000), std::nullopt);
  EXPECT_THAT(guard.Shut(now), ElementsAre(*AddressRange::Parse("192.0.2.8")));
  now = *guard.ShutUntil(Source("192.0.2.8"), now);
  EXPECT_THAT(guard.GoesOn(now, 1'000),
              Optional(*AddressRange::Parse("192.0.2.8")));
}

TEST(FloodGuardTest, ForgetsAfterAQuietTime) {
  FloodGuard guard(10);
  absl::Duration now = kStart;
  const SourceKey flooder = Source("192.0.2.7");
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(Flood(guard, flooder, now).has_value());
    now = *guard.ShutUntil(flooder, now);
  }
  now += FloodGuard::kForgotten;
  ASSERT_TRUE(Flood(guard, flooder, now).has_value());
  EXPECT_EQ(*guard.ShutUntil(flooder, now) - now, FloodGuard::kFirst);
}

TEST(FloodGuardTest, DoesNotCountThoseWhoHadComeBefore) {
  FloodGuard guard(10);
  absl::Duration now = kStart;
  const SourceKey flooder = Source("192.0.2.7");
  ASSERT_TRUE(Flood(guard, flooder, now).has_value());
  const absl::Duration until = *guard.ShutUntil(flooder, now);
  // The kernel's queue was full of them.
  for (int i = 0; i < 4096; ++i) ASSERT_FALSE(guard.Count(flooder, now));
  EXPECT_EQ(guard.ShutUntil(flooder, now), until);
  now = until;
  EXPECT_TRUE(guard.Shut(now).empty());
}

TEST(FloodGuardTest, HearsLessOfThoseWhoHaveBeenShutOutUntilThatIsForgotten) {
  FloodGuard guard(160);
  absl::Duration now = kStart;
  const SourceKey flooder = Source("192.0.2.7");
  EXPECT_THAT(Flood(guard, flooder, now), Optional(160));
  now = *guard.ShutUntil(flooder, now);
  EXPECT_EQ(Flood(guard, flooder, now, 9), std::nullopt);
  EXPECT_FALSE(guard.WentOn(flooder));
  EXPECT_THAT(Flood(guard, flooder, now), Optional(1));
  EXPECT_TRUE(guard.WentOn(flooder));
  EXPECT_THAT(Flood(guard, Source("192.0.2.8"), now), Optional(160));
  now = *guard.ShutUntil(flooder, now) + FloodGuard::kForgotten;
  EXPECT_THAT(Flood(guard, flooder, now), Optional(160));
}

TEST(FloodGuardTest, CountsANetworkOfIPv6AsOneAndUnixClientsNotAtAll) {
  FloodGuard guard(10);
  absl::Duration now = kStart;
  for (int i = 0; i < 9; ++i) {
    ASSERT_FALSE(guard.Count(Source(absl::StrCat("[2001:db8::", i, "]")), now));
  }
  EXPECT_TRUE(guard.Count(Source("[2001:db8::ffff]"), now));
  EXPECT_THAT(guard.Shut(now),
              ElementsAre(*AddressRange::Parse("2001:db8::/64")));
  const SourceKey unix_client = SourceKey::Of(*Address::Parse("unix:@x"));
  EXPECT_EQ(Flood(guard, unix_client, now), std::nullopt);
  EXPECT_FALSE(guard.CountAll(unix_client, now));
}

TEST(FloodGuardTest, FindsAFlooderAmongManyWhoComeSeldom) {
  FloodGuard guard(500);
  absl::Duration now = kStart;
  const SourceKey flooder = Source("192.0.2.7");
  bool found = false;
  // Of each five one is his.
  for (int i = 0; i < 10'000 && !found; ++i) {
    now += absl::Microseconds(100);
    const SourceKey other =
        Source(absl::StrCat("10.", i % 200, ".", i / 200 % 250, ".", i % 250));
    found = i % 5 == 0 ? guard.Count(flooder, now) : false;
    if (i % 5 != 0) (void)guard.Count(other, now);
  }
  EXPECT_TRUE(found);
  EXPECT_TRUE(guard.ShutUntil(flooder, now).has_value());
}

TEST(FloodGuardTest, ShutsOutNoMoreThanItMay) {
  FloodGuard guard(10);
  absl::Duration now = kStart;
  for (size_t i = 0; i < FloodGuard::kMostShut; ++i) {
    ASSERT_TRUE(guard.CountAll(Source(absl::StrCat("192.0.2.", i)), now));
  }
  EXPECT_FALSE(guard.CountAll(Source("192.0.3.1"), now));
  EXPECT_EQ(guard.Shut(now).size(), FloodGuard::kMostShut);
  now += FloodGuard::kFirst;
  EXPECT_TRUE(guard.CountAll(Source("192.0.3.1"), now));
}

TEST(FloodGuardTest, ForgetsWhomItIsToldToForget) {
  FloodGuard guard(10);
  absl::Duration now = kStart;
  const SourceKey flooder = Source("192.0.2.7");
  ASSERT_TRUE(guard.CountAll(flooder, now));
  guard.Forget(Source("192.0.2.8"));
  ASSERT_EQ(guard.Shut(now).size(), 1U);
  guard.Forget(flooder);
  EXPECT_THAT(guard.Shut(now), IsEmpty());
  EXPECT_THAT(Flood(guard, flooder, now), Optional(10));
  EXPECT_EQ(*guard.ShutUntil(flooder, now) - now, FloodGuard::kFirst);
}

TEST(FloodGuardTest, WithAThresholdOfZeroShutsNobodyOut) {
  FloodGuard guard(0);
  absl::Duration now = kStart;
  EXPECT_EQ(Flood(guard, Source("192.0.2.7"), now), std::nullopt);
  EXPECT_FALSE(guard.CountAll(Source("192.0.2.7"), now));
}

}  // namespace
}  // namespace brood
