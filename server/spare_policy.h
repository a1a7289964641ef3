// SPDX-License-Identifier: Apache-2.0
//
// A SparePolicy says who gets one of a few processes that are there already,
// and when there should be more.
//
//   // Whether a client of `source` gets one, of `ready`, now.
//   bool Takes(SparePolicy& policy, const SourceKey& source, size_t ready) {
//     if (!policy.MayTake(source, ready)) return false;
//     policy.NoteTaken(source);
//     return true;
//   }
//
// What it is not: a queue. Who may not take one now waits where he waits, and
// may when there are more.
//
// Whoever comes is to find one that is ready, however many others take; and
// those who take most are those who come most. So the larger a part of the last
// kRemembered a source has taken, the more it has to leave: up to half of
// kMost, if all were its own, and none, if it took none.
//
// Ownership: none. Errors: none. Threads: one. Signals: none. Fork: a value.
// Rests on: nothing.
#ifndef BROOD_SERVER_SPARE_POLICY_H_
#define BROOD_SERVER_SPARE_POLICY_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>

#include "brood/net/source_key.h"

namespace brood {

class SparePolicy {
 public:
  static constexpr size_t kMost = 32;
  // How many are asked for at a time, at least.
  static constexpr size_t kBatch = 8;
  static constexpr size_t kRemembered = 32;

  // How many to ask for if so many are ready or on their way.
  static constexpr size_t Missing(size_t there) {
    return there + kBatch <= kMost ? kMost - there : 0;
  }

  bool MayTake(const SourceKey& source, size_t ready) const {
    const size_t taken = std::ranges::count(last_, source);
    return ready > kMost / 2 * taken / kRemembered;
  }
  void NoteTaken(const SourceKey& source) {
    last_[next_] = source;
    next_ = (next_ + 1) % kRemembered;
  }

 private:
  std::array<std::optional<SourceKey>, kRemembered> last_ = {};
  size_t next_ = 0;
};

}  // namespace brood

#endif  // BROOD_SERVER_SPARE_POLICY_H_
