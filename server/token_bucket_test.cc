// SPDX-License-Identifier: Apache-2.0
#include "brood/server/token_bucket.h"

#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

bool MayCome(const Pace& pace, TokenBucket& bucket, absl::Duration now) {
  if (bucket.Wait(pace, now) > absl::ZeroDuration()) return false;
  bucket.Take(pace, now);
  return true;
}

TEST(TokenBucketTest, HeaderExample) {
  const Pace pace(absl::Seconds(2), 3);
  TokenBucket bucket;
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(MayCome(pace, bucket, absl::Seconds(100)));
  }
  EXPECT_FALSE(MayCome(pace, bucket, absl::Seconds(101)));
  EXPECT_EQ(bucket.Wait(pace, absl::Seconds(101)), absl::Seconds(1));
  EXPECT_TRUE(MayCome(pace, bucket, absl::Seconds(102)));
  EXPECT_FALSE(MayCome(pace, bucket, absl::Seconds(103)));
}

TEST(TokenBucketTest, IsTheSameWhenItIsPutTogetherAgainFromItsNumber) {
  const Pace pace(absl::Seconds(1), 1);
  TokenBucket bucket;
  ASSERT_TRUE(MayCome(pace, bucket, absl::Seconds(5)));
  TokenBucket again(bucket.paid_until());
  EXPECT_FALSE(again.IsFull(pace, absl::Milliseconds(5999)));
  EXPECT_TRUE(again.IsFull(pace, absl::Seconds(6)));
}

TEST(TokenBucketTest, HasNoEndWithoutALimit) {
  const Pace pace(absl::ZeroDuration(), 0);
  EXPECT_FALSE(pace.limited());
  TokenBucket bucket;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_TRUE(MayCome(pace, bucket, absl::ZeroDuration()));
  }
}

}  // namespace
}  // namespace brood
