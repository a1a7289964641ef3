// SPDX-License-Identifier: Apache-2.0
//
// A TokenBucket says when whoever it is for may come again, and is one number.
//
//   bool MayCome(const Pace& pace, TokenBucket& bucket, absl::Duration now) {
//     if (bucket.Wait(pace, now) > absl::ZeroDuration()) return false;
//     bucket.Take(pace, now);
//     return true;
//   }
//
// What it is not: a clock. The bucket is full at first, and tokens come back to
// it at its pace.
//
// Ownership: none. Errors: none. Threads, signals, fork: a value.
// Rests on: the generic cell rate algorithm, ITU-T I.371.
#ifndef BROOD_SERVER_TOKEN_BUCKET_H_
#define BROOD_SERVER_TOKEN_BUCKET_H_

#include <algorithm>
#include <cstdint>

#include "absl/time/time.h"

namespace brood {

// What a rate means to a bucket: how long one token takes, and all of them.
struct Pace {
  // An `interval` of zero is no limit; a burst of 0 counts as 1.
  Pace(absl::Duration interval, uint32_t burst)
      : token(interval), bucket(token * std::max(burst, uint32_t{1})) {}

  bool limited() const { return token > absl::ZeroDuration(); }

  absl::Duration token;
  absl::Duration bucket;
};

class TokenBucket {
 public:
  TokenBucket() = default;
  explicit TokenBucket(absl::Duration paid_until) : paid_until_(paid_until) {}

  // Until when the tokens that were taken have been paid for. It is full if
  // that has passed, and empty if it is a whole bucket away.
  absl::Duration paid_until() const { return paid_until_; }

  bool IsFull(const Pace& pace, absl::Duration now) const {
    return paid_until_ <= now || !pace.limited();
  }
  // How long until there is a token; zero if there is one.
  absl::Duration Wait(const Pace& pace, absl::Duration now) const {
    return std::max(Debt(pace, now) + pace.token - pace.bucket,
                    absl::ZeroDuration());
  }
  // How many there are. REQUIRES: the pace is limited.
  uint32_t Tokens(const Pace& pace, absl::Duration now) const {
    return static_cast<uint32_t>((pace.bucket - Debt(pace, now)) / pace.token);
  }
  void Take(const Pace& pace, absl::Duration now) {
    paid_until_ = now + Debt(pace, now) + pace.token;
  }
  // Forgives what is more than a bucket, as after the rate was set up: else it
  // would stay empty until the old rate is satisfied.
  void Settle(const Pace& pace, absl::Duration now) {
    if (paid_until_ - now > pace.bucket) paid_until_ = now + pace.bucket;
  }

 private:
  absl::Duration Debt(const Pace& pace, absl::Duration now) const {
    return std::clamp(paid_until_ - now, absl::ZeroDuration(), pace.bucket);
  }

  absl::Duration paid_until_ = -absl::InfiniteDuration();
};

}  // namespace brood

#endif  // BROOD_SERVER_TOKEN_BUCKET_H_
