// SPDX-License-Identifier: Apache-2.0
#include "brood/server/admission.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/source_key.h"
#include "brood/proc/posix.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using Verdict = Admission::Verdict;

// Some moment; the tests move it on.
constexpr absl::Duration kStart = absl::Hours(100);

Address Peer(std::string_view host) {
  return *Address::Parse(absl::StrCat(host, ":1234"));
}

Admission::Client From(std::string_view host) {
  return Admission::Client::Of(Peer(host));
}

// The n-th IPv4 source; 256 of them make a network.
Admission::Client IPv4(uint32_t n) {
  return From(absl::StrCat("10.", n >> 16, ".", (n >> 8) & 255, ".", n & 255));
}

// The n-th IPv6 source; 65536 of them make a network. Not by a text, which
// would take longer to read than all else that a million of them need.
Admission::Client IPv6(uint32_t n) {
  sockaddr_in6 v6 = {};
  v6.sin6_family = AF_INET6;
  v6.sin6_addr.s6_addr32[0] = htonl(0x20010db8);
  v6.sin6_addr.s6_addr32[1] = htonl(n);
  v6.sin6_addr.s6_addr[15] = 1;
  return Admission::Client::Of(*Address::FromSockaddr(
      reinterpret_cast<const sockaddr*>(&v6), sizeof(v6)));
}

absl::StatusOr<Admission::Slot> LetIn(Admission& admission,
                                      const Address& peer) {
  Admission::Arrival arrival =
      admission.Arrive(Admission::Client::Of(peer), MonotonicNow());
  if (arrival.slot.held()) return std::move(arrival.slot);
  // "192.0.2.7: 8 of 8 connections of this source"
  return absl::ResourceExhaustedError(arrival.answer.ToString());
}

TEST(AdmissionTest, HeaderExample) {
  Admission admission({.max_connections_per_source = 8});
  std::vector<Admission::Slot> slots;
  for (int i = 0; i < 8; ++i) {
    absl::StatusOr<Admission::Slot> slot = LetIn(admission, Peer("192.0.2.7"));
    ASSERT_THAT(slot, IsOk());
    slots.push_back(*std::move(slot));
  }
  EXPECT_THAT(LetIn(admission, Peer("192.0.2.7")),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       "192.0.2.7: 8 of 8 connections of this source"));
  EXPECT_THAT(LetIn(admission, Peer("192.0.2.8")), IsOk());
}

// ---- slots ----

TEST(AdmissionTest, GivesEachSlotBackOnceHoweverItEnds) {
  Admission admission({.max_connections = 3, .count_sources = true});
  const auto arrive = [&] {
    return std::move(admission.Arrive(IPv4(1), kStart).slot);
  };
  Admission::Slot a = arrive();
  EXPECT_TRUE(a.held());
  {
    Admission::Slot moved = std::move(a);
    EXPECT_TRUE(moved.held());
    EXPECT_FALSE(a.held());  // NOLINT(bugprone-use-after-move)
    EXPECT_EQ(admission.connections(), 1);
  }
  EXPECT_EQ(admission.connections(), 0);

  Admission::Slot b = arrive();
  a = arrive();
  EXPECT_EQ(admission.connections(), 2);
  a = std::move(b);
  EXPECT_EQ(admission.connections(), 1);
  Admission::Slot& itself = a;
  a = std::move(itself);
  EXPECT_TRUE(a.held());
  EXPECT_EQ(admission.connections(), 1);
  EXPECT_EQ(admission.connections_of(IPv4(1).source), 1);
  a = Admission::Slot();
  EXPECT_EQ(admission.connections(), 0);
  EXPECT_EQ(admission.connections_of(IPv4(1).source), 0);
}

TEST(AdmissionTest, IsOutlivedBySlots) {
  std::vector<Admission::Slot> slots;
  {
    Admission admission({.count_sources = true});
    admission.OnSourceChange(
        [](const SourceKey& key, size_t) { FAIL() << key; });
    admission.OnSourceChange(nullptr);
    for (uint32_t i = 0; i < 5; ++i) {
      slots.push_back(std::move(admission.Arrive(IPv4(i), kStart).slot));
    }
    const Admission moved = std::move(admission);
    EXPECT_EQ(moved.connections(), 5);
    slots.pop_back();
    EXPECT_EQ(moved.connections(), 4);
  }
  slots.erase(slots.begin());
  EXPECT_TRUE(slots.back().held());
}

// ---- limits ----

TEST(AdmissionTest, LetsInAsManyAsMayBeAndTheNextWhenOneLeaves) {
  Admission admission({.max_connections = 2});
  Admission::Arrival first = admission.Arrive(IPv4(1), kStart);
  Admission::Arrival second = admission.Arrive(IPv4(2), kStart);
  EXPECT_EQ(second.answer.verdict, Verdict::kAdmitted);
  EXPECT_EQ(second.answer.ToString(), "10.0.0.2: let in");
  Admission::Arrival third = admission.Arrive(IPv4(3), kStart);
  EXPECT_EQ(third.answer.verdict, Verdict::kServerFull);
  EXPECT_EQ(third.answer.ToString(), "10.0.0.3: 2 of 2 connections");
  EXPECT_FALSE(third.slot.held());
  EXPECT_EQ(admission.Admit(IPv4(3).source), std::nullopt);
  first.slot = Admission::Slot();
  EXPECT_TRUE(admission.Arrive(IPv4(3), kStart).slot.held());
  EXPECT_EQ(admission.sources(), 0) << "nobody asked to count them";
}

TEST(AdmissionTest, LetsNobodyInWhereTheLimitIsZero) {
  EXPECT_EQ(Admission({.max_connections = 0})
                .Arrive(IPv4(1), kStart)
                .answer.ToString(),
            "10.0.0.1: 0 of 0 connections");
  EXPECT_EQ(Admission({.max_connections_per_source = 0})
                .Arrive(IPv4(1), kStart)
                .answer.ToString(),
            "10.0.0.1: 0 of 0 connections of this source");
}

TEST(AdmissionTest, CountsAHouseholdOfIPv6AsOneSource) {
  Admission admission({.max_connections_per_source = 1});
  const Admission::Arrival one =
      admission.Arrive(From("[2001:db8::1]"), kStart);
  EXPECT_TRUE(one.slot.held());
  EXPECT_EQ(admission.Arrive(From("[2001:db8::2]"), kStart).answer.ToString(),
            "2001:db8::/64: 1 of 1 connections of this source");
  EXPECT_TRUE(admission.Arrive(From("[2001:db8:0:1::2]"), kStart).slot.held());
  const Admission::Arrival mapped =
      admission.Arrive(From("[::ffff:10.0.0.1]"), kStart);
  EXPECT_TRUE(mapped.slot.held());
  EXPECT_FALSE(admission.Arrive(From("10.0.0.1"), kStart).slot.held());
}

TEST(AdmissionTest, CountsUnixClientsByUserWhereTheUserIsKnown) {
  Admission admission({.max_connections_per_source = 1});
  const Admission::Arrival root =
      admission.Arrive(Admission::Client::OfUser(0), kStart);
  EXPECT_EQ(
      admission.Arrive(Admission::Client::OfUser(0), kStart).answer.ToString(),
      "user 0: 1 of 1 connections of this source");
  EXPECT_TRUE(
      admission.Arrive(Admission::Client::OfUser(1), kStart).slot.held());
}

TEST(AdmissionTest, KeepsItsCountsWhenLimitsChange) {
  Admission admission({.max_connections = 2, .max_connections_per_source = 2});
  std::vector<Admission::Slot> slots;
  slots.push_back(std::move(admission.Arrive(IPv4(1), kStart).slot));
  slots.push_back(std::move(admission.Arrive(IPv4(1), kStart).slot));
  admission.set_limits({.max_connections = 1, .max_connections_per_source = 1});
  EXPECT_EQ(admission.Arrive(IPv4(1), kStart).answer.ToString(),
            "10.0.0.1: 2 of 1 connections of this source");
  EXPECT_EQ(admission.Arrive(IPv4(2), kStart).answer.ToString(),
            "10.0.0.2: 2 of 1 connections");
  slots.pop_back();
  EXPECT_FALSE(admission.Arrive(IPv4(2), kStart).slot.held());
  slots.pop_back();
  EXPECT_TRUE(admission.Arrive(IPv4(2), kStart).slot.held());
  EXPECT_EQ(admission.connections(), 0);
}

TEST(AdmissionTest, CountsForTheWholeThoseWhoCameBeforeSourcesWereCounted) {
  Admission admission({.max_connections = 3});
  Admission::Arrival early = admission.Arrive(IPv4(1), kStart);
  admission.set_limits({.max_connections = 3, .max_connections_per_source = 1});
  Admission::Arrival late = admission.Arrive(IPv4(1), kStart);
  EXPECT_TRUE(late.slot.held());
  EXPECT_FALSE(admission.Arrive(IPv4(1), kStart).slot.held());
  EXPECT_EQ(admission.connections(), 2);
  early.slot = Admission::Slot();
  EXPECT_EQ(admission.connections_of(IPv4(1).source), 1);
  admission.set_limits({.max_connections = 3});
  late.slot = Admission::Slot();
  EXPECT_EQ(admission.connections(), 0);
  EXPECT_EQ(admission.sources(), 0);
}

TEST(AdmissionTest, TellsEachChangeOfASource) {
  Admission admission({.count_sources = true});
  std::vector<std::pair<std::string, size_t>> seen;
  admission.OnSourceChange([&](const SourceKey& key, size_t connections) {
    seen.emplace_back(key.ToString(), connections);
  });
  {
    const Admission::Arrival one = admission.Arrive(IPv4(1), kStart);
    const std::optional<Admission::Slot> two = admission.Admit(IPv4(1).source);
  }
  EXPECT_THAT(seen, ElementsAre(Pair("10.0.0.1", 1), Pair("10.0.0.1", 2),
                                Pair("10.0.0.1", 1), Pair("10.0.0.1", 0)));
}

// ---- the rate ----

ConnectionRate PerSecond(uint32_t connections, uint32_t burst) {
  return {.connections = connections, .burst = burst};
}

// How many of `attempts` at once are let in; they leave at once.
size_t Admitted(Admission& admission, const Admission::Client& client,
                absl::Duration now, size_t attempts) {
  size_t admitted = 0;
  for (size_t i = 0; i < attempts; ++i) {
    admitted += admission.Arrive(client, now).slot.held() ? 1 : 0;
  }
  return admitted;
}

TEST(AdmissionTest, LetsABurstInAndThenSoManyEachSecond) {
  Admission admission({.rate_per_source = PerSecond(5, 10)});
  EXPECT_EQ(Admitted(admission, IPv4(1), kStart, 10), 10);
  const Admission::Arrival no = admission.Arrive(IPv4(1), kStart);
  EXPECT_EQ(no.answer.verdict, Verdict::kSourceTooFast);
  EXPECT_EQ(no.answer.retry_after, absl::Milliseconds(200));
  EXPECT_EQ(no.answer.ToString(),
            "10.0.0.1: more than 5/s,10 from this source; again in 200ms");
  // Another pays with tokens of its own.
  EXPECT_EQ(Admitted(admission, IPv4(2), kStart, 20), 10);

  const absl::Duration almost =
      kStart + absl::Milliseconds(200) - absl::Nanoseconds(1);
  EXPECT_EQ(Admitted(admission, IPv4(1), almost, 5), 0);
  EXPECT_EQ(Admitted(admission, IPv4(1), kStart + absl::Milliseconds(200), 5),
            1);
  EXPECT_EQ(Admitted(admission, IPv4(1), kStart + absl::Seconds(1), 99), 4);
  EXPECT_EQ(Admitted(admission, IPv4(1), kStart + absl::Seconds(2), 99), 5);
  // A bucket holds no more than the burst, however long nobody comes.
  EXPECT_EQ(Admitted(admission, IPv4(1), kStart + absl::Hours(9), 99), 10);
}

TEST(AdmissionTest, HealsByItselfAsSoonAsItSaid) {
  Admission admission({.rate_per_source = PerSecond(7, 3)});
  absl::Duration now = kStart;
  EXPECT_EQ(Admitted(admission, IPv4(1), now, 1000), 3);
  for (int i = 0; i < 100; ++i) {
    const Admission::Arrival no = admission.Arrive(IPv4(1), now);
    ASSERT_EQ(no.answer.verdict, Verdict::kSourceTooFast);
    now += no.answer.retry_after;
    ASSERT_TRUE(admission.Arrive(IPv4(1), now).slot.held());
  }
  EXPECT_LT(now - kStart, absl::Milliseconds(14300));
}

TEST(AdmissionTest, TakesATokenFromWhoeverHasToWaitButNoSecondOne) {
  Admission admission(
      {.max_connections = 1, .rate_per_source = PerSecond(1, 3)});
  Admission::Arrival inside = admission.Arrive(IPv4(1), kStart);
  EXPECT_EQ(admission.Arrive(IPv4(1), kStart).answer.verdict,
            Verdict::kServerFull);
  EXPECT_EQ(admission.Arrive(IPv4(1), kStart).answer.verdict,
            Verdict::kServerFull);
  EXPECT_EQ(admission.Arrive(IPv4(1), kStart).answer.verdict,
            Verdict::kSourceTooFast);
  inside.slot = Admission::Slot();
  EXPECT_TRUE(admission.Admit(IPv4(1).source).has_value());
  EXPECT_TRUE(admission.Admit(IPv4(1).source).has_value());
}

TEST(AdmissionTest, CreditsNobodyWhenTheClockGoesBackAndForth) {
  Admission admission({.rate_per_source = PerSecond(1, 5)});
  EXPECT_EQ(Admitted(admission, IPv4(1), kStart, 9), 5);
  for (int i = 0; i < 9; ++i) {
    EXPECT_EQ(Admitted(admission, IPv4(1), kStart - absl::Hours(1), 9), 0);
    EXPECT_EQ(Admitted(admission, IPv4(1), kStart, 9), 0);
  }
  EXPECT_EQ(Admitted(admission, IPv4(1), kStart + absl::Seconds(1), 9), 1);
}

TEST(AdmissionTest, HealsWithinABucketWhateverTheRateAndTheTime) {
  const ConnectionRate rates[] = {
      PerSecond(1, 1),
      PerSecond(UINT32_MAX, UINT32_MAX),
      {.connections = 1, .period = absl::Hours(1), .burst = UINT32_MAX},
      {.connections = 3, .period = absl::Nanoseconds(1), .burst = 0},
      {.connections = 3, .period = -absl::Seconds(1)},
      {.connections = 3, .period = absl::ZeroDuration()}};
  const absl::Duration times[] = {-absl::InfiniteDuration(),
                                  -absl::Hours(int64_t{1} << 50),
                                  -absl::Hours(2),
                                  absl::ZeroDuration(),
                                  kStart,
                                  absl::Hours(int64_t{1} << 50)};
  for (const ConnectionRate& rate : rates) {
    Admission admission({.rate_per_source = rate});
    for (const absl::Duration now : times) {
      // Twice, so that a bucket of one is empty.
      admission.Arrive(IPv4(1), now);
      const Admission::Answer answer = admission.Arrive(IPv4(1), now).answer;
      EXPECT_GE(answer.retry_after, absl::ZeroDuration()) << rate;
      EXPECT_LE(answer.retry_after, absl::Hours(1)) << rate;
      EXPECT_TRUE(
          admission.Arrive(IPv4(1), now + answer.retry_after).slot.held())
          << rate << " at " << now;
    }
  }
}

TEST(AdmissionTest, TakesATokenThatNeverComesForOneThatNeverComes) {
  Admission admission(
      {.rate_per_source = {
           .connections = 1, .period = absl::InfiniteDuration(), .burst = 1}});
  EXPECT_TRUE(admission.Arrive(IPv4(1), kStart).slot.held());
  EXPECT_EQ(
      admission.Arrive(IPv4(1), kStart + absl::Hours(9)).answer.retry_after,
      absl::InfiniteDuration());
}

TEST(AdmissionTest, ForgivesWhatAFasterRateWouldHaveAllowed) {
  Admission admission(
      {.rate_per_source = {
           .connections = 1, .period = absl::Hours(1), .burst = 100}});
  EXPECT_EQ(Admitted(admission, IPv4(1), kStart, 999), 100);
  admission.set_limits({.rate_per_source = PerSecond(10, 1)});
  EXPECT_EQ(admission.Arrive(IPv4(1), kStart).answer.retry_after,
            absl::Milliseconds(100));
  EXPECT_EQ(Admitted(admission, IPv4(1), kStart + absl::Milliseconds(100), 9),
            1);
  admission.set_limits({});
  EXPECT_EQ(Admitted(admission, IPv4(1), kStart, 999), 999);
}

TEST(AdmissionTest, SaysHowManyTokensAreLeftAndGivesThemBack) {
  Admission admission({.rate_per_source = {.connections = 2, .burst = 3}});
  const Admission::Client one = From("192.0.2.1");
  const Admission::Client other = From("192.0.2.2");
  EXPECT_EQ(admission.TokensOf(one, kStart), 3);
  std::vector<Admission::Slot> slots;
  for (uint32_t left : {2U, 1U, 0U}) {
    slots.push_back(admission.Arrive(one, kStart).slot);
    EXPECT_EQ(admission.TokensOf(one, kStart), left);
  }
  EXPECT_FALSE(admission.Arrive(one, kStart).slot.held());
  EXPECT_EQ(admission.TokensOf(one, kStart), 0);
  EXPECT_EQ(admission.TokensOf(other, kStart), 3);
  EXPECT_EQ(admission.TokensOf(one, kStart + absl::Milliseconds(999)), 1);
  EXPECT_EQ(admission.TokensOf(one, kStart + absl::Hours(1)), 3);

  admission.Refill(one);
  EXPECT_EQ(admission.TokensOf(one, kStart), 3);
  const SourceKey key = one.source;
  EXPECT_EQ(admission.connections_of(key), 3);  // Those who are inside count.
  EXPECT_TRUE(admission.Arrive(one, kStart).slot.held());
  // Of one of whom nothing else is known nothing is remembered.
  slots.clear();
  admission.Refill(one);
  EXPECT_EQ(admission.sources(), 0);
  admission.Refill(other);
  EXPECT_EQ(admission.TokensOf(one, kStart), 3);
  EXPECT_EQ(Admission({}).TokensOf(one, kStart), std::nullopt);
}

TEST(AdmissionTest, PreviewsWithoutATrace) {
  Admission admission(
      {.max_connections = 2, .rate_per_source = PerSecond(1, 2)});
  for (int i = 0; i < 9; ++i) {
    EXPECT_EQ(admission.Preview(IPv4(1), kStart).verdict, Verdict::kAdmitted);
  }
  EXPECT_EQ(admission.sources(), 0);
  const Admission::Arrival one = admission.Arrive(IPv4(1), kStart);
  const Admission::Arrival two = admission.Arrive(IPv4(1), kStart);
  EXPECT_EQ(admission.Preview(IPv4(1), kStart).retry_after, absl::Seconds(1));
  EXPECT_EQ(admission.Preview(IPv4(2), kStart).ToString(),
            "10.0.0.2: 2 of 2 connections");
}

// ---- many sources ----

TEST(AdmissionTest, ForgetsWhomItNeedNotRemember) {
  Admission admission({.max_connections_per_source = 2});
  {
    const Admission::Arrival arrival = admission.Arrive(IPv4(1), kStart);
    EXPECT_EQ(admission.sources(), 1);
  }
  EXPECT_EQ(admission.sources(), 0);
  admission.set_limits({.max_connections = 0, .count_sources = true});
  EXPECT_FALSE(admission.Arrive(IPv4(1), kStart).slot.held());
  EXPECT_EQ(admission.sources(), 0);
}

TEST(AdmissionTest, StaysBoundedInASprayOfAMillionSources) {
  constexpr size_t kMaxSources = 4096;
  Admission admission(
      {.max_connections = 100, .rate_per_source = PerSecond(1, 2)},
      kMaxSources);
  const Admission::Client flooder = IPv4(7);
  EXPECT_EQ(Admitted(admission, flooder, kStart, 9), 2);
  std::vector<Admission::Slot> slots;
  size_t admitted = 0;
  for (uint32_t i = 0; i < 1'000'000; ++i) {
    // All in one second.
    const absl::Duration now = kStart + i * absl::Microseconds(1);
    Admission::Arrival arrival = admission.Arrive(IPv6(i), now);
    admitted += arrival.slot.held() ? 1 : 0;
    if (slots.size() < 50 && arrival.slot.held()) {
      slots.push_back(std::move(arrival.slot));
    }
    ASSERT_LE(admission.sources(), kMaxSources);
    if (i % 1000 == 0 && i > 500'000) {
      // Nobody else is shut out or set free by it.
      const Admission::Client other =
          From(absl::StrCat("192.0.", (i / 1000) % 256, ".", (i / 1000) / 256));
      ASSERT_TRUE(admission.Arrive(other, now).slot.held()) << i;
      ASSERT_FALSE(admission.Arrive(flooder, now).slot.held()) << i;
    }
  }
  // The first three quarters as themselves, the others as sixteen networks.
  EXPECT_LT(admitted, kMaxSources + 200);
  EXPECT_EQ(admission.connections(), 50);

  // When all have been quiet for long enough, there is room again.
  const absl::Duration later = kStart + absl::Minutes(1);
  for (uint32_t i = 0; i < 1000; ++i) {
    const Admission::Arrival arrival = admission.Arrive(IPv4(i * 256), later);
    ASSERT_TRUE(arrival.slot.held());
  }
  EXPECT_LE(admission.sources(), kMaxSources * 3 / 4);
  EXPECT_EQ(admission.Arrive(IPv6(77), later).answer.ToString(),
            "2001:db8:0:4d::/64: let in");
}

TEST(AdmissionTest, CountsNewSourcesAsTheirNetworksWhenThereAreTooMany) {
  Admission admission({.max_connections_per_source = 2}, /*max_sources=*/4);
  std::vector<Admission::Arrival> inside;
  for (const char* host : {"10.0.0.1", "10.0.1.1", "10.0.2.1"}) {
    inside.push_back(admission.Arrive(From(host), kStart));
    EXPECT_EQ(inside.back().answer.source, From(host).source);
  }
  for (const char* host : {"10.9.9.1", "10.9.9.2"}) {
    inside.push_back(admission.Arrive(From(host), kStart));
    EXPECT_EQ(inside.back().answer.ToString(), "10.9.9.0/24: let in");
  }
  EXPECT_EQ(admission.Preview(From("10.9.9.3"), kStart).ToString(),
            "10.9.9.0/24: 2 of 2 connections of this source");
  EXPECT_FALSE(admission.Arrive(From("10.9.9.3"), kStart).slot.held());
  // Those it knows are still themselves.
  inside.push_back(admission.Arrive(From("10.0.0.1"), kStart));
  EXPECT_TRUE(inside.back().slot.held());
  EXPECT_FALSE(admission.Arrive(From("10.0.0.1"), kStart).slot.held());
  // No room for another network: let in, and only the whole is counted.
  for (int i = 0; i < 5; ++i) {
    inside.push_back(admission.Arrive(From("[2001:db8::1]"), kStart));
    EXPECT_EQ(inside.back().answer.ToString(), "2001:db8::/48: let in");
  }
  EXPECT_EQ(admission.connections(), 11);
  EXPECT_EQ(admission.sources(), 4);
  inside.clear();
  EXPECT_EQ(admission.connections(), 0);
  EXPECT_EQ(admission.sources(), 0);
}

TEST(AdmissionTest, NeverMakesANetworkSmallerThanTheSource) {
  const SourceKey::Lengths lengths = *SourceKey::Lengths::Create(8, 32);
  const Admission::Client v4 = Admission::Client::Of(Peer("10.1.2.3"), lengths);
  EXPECT_EQ(v4.network, v4.source);
  const Admission::Client v6 =
      Admission::Client::Of(Peer("[2001:db8:1::1]"), lengths);
  EXPECT_EQ(v6.network.ToString(), "2001:db8::/32");
}

// ---- against a naive model ----

// What the header says, as plainly as it can be put: a count for each source,
// and a bucket of tokens that is filled, in nanoseconds of waiting, before each
// look.
class Model {
 public:
  explicit Model(const ConnectionLimits& limits) : limits_(limits) {}

  // With the same rate as before.
  void set_limits(const ConnectionLimits& limits) { limits_ = limits; }

  Verdict Arrive(int source, int64_t now) {
    Bucket& bucket =
        buckets_.try_emplace(source, Bucket{.tokens = Full(), .at = now})
            .first->second;
    bucket.tokens = std::min(Full(), bucket.tokens + now - bucket.at);
    bucket.at = now;
    if (bucket.tokens < Token()) return Verdict::kSourceTooFast;
    bucket.tokens -= Token();
    return Admit(source);
  }

  Verdict Admit(int source) {
    if (live_[source] >= limits_.max_connections_per_source) {
      return Verdict::kSourceFull;
    }
    if (all_ >= limits_.max_connections) return Verdict::kServerFull;
    ++live_[source];
    ++all_;
    return Verdict::kAdmitted;
  }

  void End(int source) {
    --live_[source];
    --all_;
  }

  size_t connections() const { return all_; }
  size_t connections_of(int source) { return live_[source]; }

 private:
  struct Bucket {
    int64_t tokens;
    int64_t at;
  };

  int64_t Token() const {
    return absl::ToInt64Nanoseconds(limits_.rate_per_source.period) /
           limits_.rate_per_source.connections;
  }
  int64_t Full() const { return Token() * limits_.rate_per_source.burst; }

  ConnectionLimits limits_;
  std::map<int, Bucket> buckets_;
  std::map<int, size_t> live_;
  size_t all_ = 0;
};

class AdmissionModelTest : public testing::TestWithParam<unsigned> {};

TEST_P(AdmissionModelTest, AgreesWithANaiveModelWhateverHappens) {
  constexpr int kSources = 40;
  std::mt19937 random(GetParam());
  const auto below = [&](size_t n) {
    return static_cast<uint32_t>(random() % n);
  };
  // In whole nanoseconds, so that both count the same.
  const ConnectionRate rate = {.connections = 5 + below(2) * 15,
                               .burst = 1 + below(12)};
  const auto any_limits = [&] {
    return ConnectionLimits{.max_connections = 1 + below(60),
                            .max_connections_per_source = 1 + below(6),
                            .rate_per_source = rate};
  };
  ConnectionLimits limits = any_limits();
  Admission admission(limits);
  Model model(limits);
  std::vector<std::pair<int, Admission::Slot>> inside;
  std::map<Verdict, int> seen;
  int64_t now = absl::ToInt64Nanoseconds(kStart);
  for (int i = 0; i < 60'000; ++i) {
    // Now in haste, now at ease.
    now += below(i / 1000 % 2 == 0 ? 3'000'000 : 60'000'000);
    const int source = static_cast<int>(below(kSources) * below(2));
    const Admission::Client client = IPv4(static_cast<uint32_t>(source));
    switch (below(8)) {
      case 0:
      case 1:
      case 2: {
        const Verdict expected = model.Arrive(source, now);
        const Verdict previewed =
            admission.Preview(client, absl::Nanoseconds(now)).verdict;
        Admission::Arrival arrival =
            admission.Arrive(client, absl::Nanoseconds(now));
        ASSERT_EQ(arrival.answer.verdict, expected) << arrival.answer;
        ASSERT_EQ(previewed, expected);
        ASSERT_EQ(arrival.slot.held(), expected == Verdict::kAdmitted);
        ++seen[expected];
        if (arrival.slot.held()) {
          inside.emplace_back(source, std::move(arrival.slot));
        }
        break;
      }
      case 3: {
        std::optional<Admission::Slot> slot = admission.Admit(client.source);
        ASSERT_EQ(slot.has_value(), model.Admit(source) == Verdict::kAdmitted);
        if (slot.has_value()) inside.emplace_back(source, *std::move(slot));
        break;
      }
      case 4:
      case 5:
      case 6:
        if (!inside.empty()) {
          const size_t who = below(inside.size());
          model.End(inside[who].first);
          std::swap(inside[who], inside.back());
          inside.pop_back();
        }
        break;
      case 7:
        if (below(100) > 0) break;
        limits = any_limits();
        admission.set_limits(limits);
        model.set_limits(limits);
        break;
    }
    ASSERT_EQ(admission.connections(), inside.size());
    ASSERT_EQ(admission.connections(), model.connections());
    ASSERT_EQ(admission.connections_of(client.source),
              model.connections_of(source));
  }
  EXPECT_GT(seen[Verdict::kAdmitted], 1000);
  EXPECT_GT(seen[Verdict::kServerFull], 100);
  EXPECT_GT(seen[Verdict::kSourceFull], 100);
  EXPECT_GT(seen[Verdict::kSourceTooFast], 1000);
  inside.clear();
  EXPECT_EQ(admission.connections(), 0);
  for (uint32_t i = 0; i < kSources; ++i) {
    EXPECT_EQ(admission.connections_of(IPv4(i).source), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, AdmissionModelTest, testing::Range(1U, 6U));

// ---- the flag's text ----

TEST(ConnectionRateTest, ReadsWhatItWrites) {
  for (const char* text :
       {"5/s,10", "30/m,5", "100/h,1", "1000000/s,1000000"}) {
    const absl::StatusOr<ConnectionRate> rate = ConnectionRate::Parse(text);
    ASSERT_THAT(rate, IsOk());
    EXPECT_EQ(rate->ToString(), text);
    EXPECT_TRUE(rate->limited());
  }
  EXPECT_THAT(ConnectionRate::Parse("5/s"),
              IsOkAndHolds(ConnectionRate{.connections = 5, .burst = 5}));
  EXPECT_EQ(ConnectionRate::Parse("30/m,5")->Interval(), absl::Seconds(2));
  EXPECT_EQ(ConnectionRate().ToString(), "no limit");
  EXPECT_FALSE(ConnectionRate().limited());
}

TEST(ConnectionRateTest, SaysWhatIsAllowed) {
  for (const char* text : {"",
                           "5",
                           "5/",
                           "/s",
                           "5/x",
                           "5/S",
                           "5/s,",
                           ",5",
                           "0/s",
                           "5/s,0",
                           "-5/s",
                           "+5/s",
                           " 5/s",
                           "5/s, 10",
                           "5/s,10,3",
                           "1000001/s",
                           "5/s,4294967297",
                           "5.5/s",
                           "99999999999999999999/s",
                           "5/s,10 "}) {
    EXPECT_THAT(
        ConnectionRate::Parse(text),
        StatusIs(absl::StatusCode::kInvalidArgument,
                 HasSubstr(absl::StrCat("connection rate \"", text,
                                        "\": expected N/s, N/m or N/h"))))
        << text;
  }
}

}  // namespace
}  // namespace brood
