// SPDX-License-Identifier: Apache-2.0
#include "brood/server/spare_policy.h"

#include <cstddef>
#include <string>
#include <string_view>

#include "brood/net/address.h"
#include "brood/net/source_key.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

SourceKey Source(std::string_view host) {
  return SourceKey::Of(*Address::Parse(std::string(host) + ":1"));
}

// Whether a client of `source` gets one, of `ready`, now.
bool Takes(SparePolicy& policy, const SourceKey& source, size_t ready) {
  if (!policy.MayTake(source, ready)) return false;
  policy.NoteTaken(source);
  return true;
}

TEST(SparePolicyTest, HeaderExample) {
  SparePolicy policy;
  EXPECT_TRUE(Takes(policy, Source("192.0.2.1"), 1));
  EXPECT_FALSE(Takes(policy, Source("192.0.2.1"), 0));
}

TEST(SparePolicyTest, LeavesHalfToOthersIfOneHasTakenAll) {
  SparePolicy policy;
  const SourceKey flood = Source("192.0.2.1");
  for (size_t i = 0; i < SparePolicy::kRemembered; ++i) policy.NoteTaken(flood);
  EXPECT_FALSE(policy.MayTake(flood, SparePolicy::kMost / 2));
  EXPECT_TRUE(policy.MayTake(flood, SparePolicy::kMost / 2 + 1));
  EXPECT_TRUE(policy.MayTake(Source("192.0.2.2"), 1));
}

TEST(SparePolicyTest, HasEachLeaveInProportion) {
  SparePolicy policy;
  const SourceKey flood = Source("192.0.2.1");
  const SourceKey seldom = Source("192.0.2.2");
  for (size_t i = 0; i < SparePolicy::kRemembered; ++i) {
    policy.NoteTaken(i % 4 == 0 ? seldom : flood);
  }
  EXPECT_FALSE(policy.MayTake(flood, SparePolicy::kMost / 2 * 3 / 4));
  EXPECT_TRUE(policy.MayTake(seldom, SparePolicy::kMost / 2 * 3 / 4));
  EXPECT_FALSE(policy.MayTake(seldom, SparePolicy::kMost / 2 / 4));
  EXPECT_TRUE(policy.MayTake(seldom, SparePolicy::kMost / 2 / 4 + 1));
}

TEST(SparePolicyTest, ForgetsWhatWasLongAgo) {
  SparePolicy policy;
  const SourceKey early = Source("192.0.2.1");
  for (size_t i = 0; i < SparePolicy::kRemembered; ++i) policy.NoteTaken(early);
  for (size_t i = 0; i < SparePolicy::kRemembered; ++i) {
    policy.NoteTaken(Source("192.0.2.2"));
  }
  EXPECT_TRUE(policy.MayTake(early, 1));
}

// Or who has taken most, and may have the last but these, would wait for ever.
TEST(SparePolicyTest, AsksForMoreBeforeAnybodyHasToWait) {
  EXPECT_EQ(SparePolicy::Missing(0), SparePolicy::kMost);
  EXPECT_EQ(SparePolicy::Missing(SparePolicy::kMost), 0);
  EXPECT_EQ(SparePolicy::Missing(SparePolicy::kMost - SparePolicy::kBatch + 1),
            0);
  EXPECT_GT(SparePolicy::Missing(SparePolicy::kMost / 2), 0);
}

}  // namespace
}  // namespace brood
