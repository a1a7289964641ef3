// SPDX-License-Identifier: Apache-2.0
#include "brood/server/crowd_policy.h"

#include <cstddef>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/source_key.h"
#include "brood/net/stream.h"
#include "brood/proc/unique_fd.h"
#include "brood/server/fair_queue.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using Verdict = CrowdPolicy::Verdict;

constexpr absl::Duration kStart = absl::Hours(5);
constexpr size_t kMost = CrowdPolicy::kMostOfOne;
constexpr size_t kMostKnown =
    CrowdPolicy::kMostOfOne / CrowdPolicy::kPartOfKnown;

SourceKey Source(std::string_view host) {
  return SourceKey::Of(*Address::Parse(absl::StrCat(host, ":9")));
}

const SourceKey& Flooder() {
  static const auto* const source = new SourceKey(Source("192.0.2.7"));
  return *source;
}

const SourceKey& Somebody() {
  static const auto* const source = new SourceKey(Source("192.0.2.8"));
  return *source;
}

// One to whom more than one source comes.
CrowdPolicy Visited(size_t places, absl::Duration now = kStart) {
  CrowdPolicy policy(places);
  policy.NoteArrival(Somebody(), now);
  policy.NoteArrival(Flooder(), now);
  return policy;
}

CrowdPolicy::Waiting AllOfOne(size_t n) { return {.all = n, .of_source = n}; }

// Lets `client` wait for its process, if it may.
bool MayWait(CrowdPolicy& policy, FairQueue<Stream>& queue, Stream client,
             const SourceKey& source, absl::Duration now) {
  policy.NoteArrival(source, now);
  const CrowdPolicy::Verdict verdict = policy.PutOff(
      source, {.all = queue.size(), .of_source = queue.size_of(source)}, now);
  if (verdict == CrowdPolicy::Verdict::kTurnAway) return false;
  queue.Push(source, std::move(client));
  return true;
}

TEST(CrowdPolicyTest, LetsTheOnlySourceWaitWhateverItsNumber) {
  CrowdPolicy policy(4);
  FairQueue<Stream> queue;
  for (int i = 0; i < 20; ++i) {
    EXPECT_TRUE(MayWait(policy, queue, Stream(UniqueFd(), Address()), Flooder(),
                        kStart));
  }
}

TEST(CrowdPolicyTest, TurnsAwayWhoHasMostOfAFullRoom) {
  CrowdPolicy policy(4);
  FairQueue<Stream> queue;
  const auto come = [&](const SourceKey& source) {
    return MayWait(policy, queue, Stream(UniqueFd(), Address()), source,
                   kStart);
  };
  ASSERT_TRUE(come(Somebody()));
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(come(Flooder()));
  EXPECT_FALSE(come(Flooder()));
  EXPECT_TRUE(come(Somebody()));
}

TEST(CrowdPolicyTest, HoldsBackWhoHasTooManyWhileOthersCome) {
  CrowdPolicy policy = Visited(CrowdPolicy::kMostPlaces);
  EXPECT_EQ(policy.PutOff(Flooder(), AllOfOne(kMost - 1), kStart),
            Verdict::kWait);
  EXPECT_EQ(policy.PutOff(Flooder(), AllOfOne(kMost), kStart),
            Verdict::kHoldBack);
}

TEST(CrowdPolicyTest, HoldsBackNobodyBehindWhomNobodyWouldWait) {
  CrowdPolicy policy(CrowdPolicy::kMostPlaces);
  policy.NoteArrival(Flooder(), kStart);
  policy.NoteArrival(Flooder(), kStart);
  EXPECT_EQ(policy.PutOff(Flooder(), AllOfOne(kMost), kStart), Verdict::kWait);
}

TEST(CrowdPolicyTest, ExpectsWhoHasComeForAWhileOnly) {
  CrowdPolicy policy = Visited(CrowdPolicy::kMostPlaces);
  const absl::Duration later = kStart + CrowdPolicy::kExpected;
  policy.NoteArrival(Flooder(), later);
  EXPECT_EQ(
      policy.PutOff(Flooder(), AllOfOne(kMost), later - absl::Nanoseconds(1)),
      Verdict::kHoldBack);
  EXPECT_EQ(policy.PutOff(Flooder(), AllOfOne(kMost), later), Verdict::kWait);
}

TEST(CrowdPolicyTest, HearsASourceAgainWhenAnEighthIsLeft) {
  CrowdPolicy policy = Visited(CrowdPolicy::kMostPlaces);
  EXPECT_FALSE(policy.IsOver(Flooder(), AllOfOne(kMost / 8 + 1), kStart));
  EXPECT_TRUE(policy.IsOver(Flooder(), AllOfOne(kMost / 8), kStart));
}

TEST(CrowdPolicyTest, ExpectsLessOfWhoWasHeldBackLately) {
  CrowdPolicy policy = Visited(CrowdPolicy::kMostPlaces);
  ASSERT_EQ(policy.PutOff(Flooder(), AllOfOne(kMost), kStart),
            Verdict::kHoldBack);
  EXPECT_EQ(policy.PutOff(Flooder(), AllOfOne(kMostKnown - 1), kStart),
            Verdict::kWait);
  EXPECT_EQ(policy.PutOff(Flooder(), AllOfOne(kMostKnown), kStart),
            Verdict::kHoldBack);
  EXPECT_FALSE(policy.IsOver(Flooder(), AllOfOne(kMostKnown / 8 + 1), kStart));
  EXPECT_TRUE(policy.IsOver(Flooder(), AllOfOne(kMostKnown / 8), kStart));
  EXPECT_EQ(policy.PutOff(Somebody(), AllOfOne(kMostKnown), kStart),
            Verdict::kWait);
}

TEST(CrowdPolicyTest, ForgetsThatASourceWasHeldBack) {
  CrowdPolicy policy = Visited(CrowdPolicy::kMostPlaces);
  ASSERT_EQ(policy.PutOff(Flooder(), AllOfOne(kMost), kStart),
            Verdict::kHoldBack);
  const absl::Duration later = kStart + CrowdPolicy::kKnown;
  policy.NoteArrival(Somebody(), later);
  policy.NoteArrival(Flooder(), later);
  EXPECT_EQ(policy.PutOff(Flooder(), AllOfOne(kMost - 1), later),
            Verdict::kWait);
}

TEST(CrowdPolicyTest, RemembersNoMoreSourcesThanItSays) {
  CrowdPolicy policy = Visited(CrowdPolicy::kMostPlaces);
  for (size_t i = 0; i < CrowdPolicy::kMostKnown; ++i) {
    ASSERT_EQ(policy.PutOff(Source(absl::StrCat("198.51.100.", i)),
                            AllOfOne(kMost), kStart),
              Verdict::kHoldBack);
  }
  ASSERT_EQ(policy.PutOff(Flooder(), AllOfOne(kMost), kStart),
            Verdict::kHoldBack);
  EXPECT_EQ(policy.PutOff(Flooder(), AllOfOne(kMostKnown), kStart),
            Verdict::kWait);
}

TEST(CrowdPolicyTest, GivesOneSourceAQuarterWhereThereAreFewPlaces) {
  CrowdPolicy policy = Visited(40);
  EXPECT_EQ(policy.PutOff(Flooder(), AllOfOne(9), kStart), Verdict::kWait);
  EXPECT_EQ(policy.PutOff(Flooder(), AllOfOne(10), kStart), Verdict::kHoldBack);
}

TEST(CrowdPolicyTest, HasAtLeastOnePlaceAndNoMoreThanItSays) {
  EXPECT_EQ(CrowdPolicy(0).places(), 1);
  EXPECT_EQ(CrowdPolicy(1'000'000).places(), CrowdPolicy::kMostPlaces);
}

TEST(CrowdPolicyTest, EmptiesTheKernelsQueueWhileThereArePlaces) {
  CrowdPolicy policy = Visited(4);
  EXPECT_TRUE(policy.WantsMore(AllOfOne(3), kStart));
  EXPECT_FALSE(policy.WantsMore({.all = 4, .of_source = 2}, kStart));
}

TEST(CrowdPolicyTest, EmptiesTheKernelsQueueForThoseBehindACrowd) {
  CrowdPolicy policy = Visited(4);
  ASSERT_EQ(policy.PutOff(Flooder(), {.all = 3, .of_source = 3}, kStart),
            Verdict::kHoldBack);
  ASSERT_TRUE(policy.crowd().has_value());
  EXPECT_EQ(*policy.crowd(), Flooder());
  const CrowdPolicy::Waiting full = {.all = 4, .of_source = 3};
  EXPECT_TRUE(policy.WantsMore(full, kStart));
  // Nobody is behind it.
  EXPECT_FALSE(policy.WantsMore(full, kStart + CrowdPolicy::kExpected));
}

TEST(CrowdPolicyTest, IsCrowdedWhileManyWaitAndOthersCome) {
  CrowdPolicy policy = Visited(CrowdPolicy::kMostPlaces);
  EXPECT_FALSE(policy.IsCrowded(kMostKnown, kStart));
  EXPECT_TRUE(policy.IsCrowded(kMostKnown + 1, kStart));
  EXPECT_FALSE(
      policy.IsCrowded(kMostKnown + 1, kStart + CrowdPolicy::kExpected));
}

}  // namespace
}  // namespace brood
