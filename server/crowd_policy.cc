// SPDX-License-Identifier: Apache-2.0
#include "brood/server/crowd_policy.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/base/attributes.h"
#include "absl/time/time.h"
#include "brood/net/source_key.h"

namespace brood {
namespace {

// Of the places, for one source while others come.
constexpr size_t kPartOfOne = 4;
// Of what it may have, when who was held back is heard again.
constexpr size_t kPartLeft = 8;

}  // namespace

CrowdPolicy::CrowdPolicy(size_t places)
    : places_(std::clamp<size_t>(places, 1, kMostPlaces)),
      most_of_one_(
          std::clamp<size_t>(places_ / kPartOfOne, size_t{1}, kMostOfOne)) {}

// Seldom called where it matters, and then not to be a part of the frame from
// which a process is forked; see fork_per_connection.cc.
ABSL_ATTRIBUTE_NOINLINE void CrowdPolicy::NoteOther(const SourceKey& source,
                                                    absl::Duration now) {
  if (newest_.has_value()) others_until_ = now + kExpected;
  newest_ = source;
}

CrowdPolicy::Verdict CrowdPolicy::PutOff(const SourceKey& source,
                                         Waiting waiting, absl::Duration now) {
  if (IsMost(waiting.of_source)) crowd_ = source;
  if (!HasOthers(now)) return Verdict::kWait;
  if (IsMost(waiting.of_source) && waiting.all >= places_) {
    return Verdict::kTurnAway;
  }
  if (waiting.of_source < MostOf(source, now)) return Verdict::kWait;
  NoteHeld(source, now);
  return Verdict::kHoldBack;
}

bool CrowdPolicy::IsOver(const SourceKey& source, Waiting waiting,
                         absl::Duration now) const {
  return waiting.of_source <= MostOf(source, now) / kPartLeft;
}

bool CrowdPolicy::WantsMore(Waiting waiting, absl::Duration now) const {
  return waiting.all < places_ || (IsMost(waiting.of_source) && HasOthers(now));
}

bool CrowdPolicy::IsCrowded(size_t waiting, absl::Duration now) const {
  return waiting > most_of_one_ / kPartOfKnown && HasOthers(now);
}

size_t CrowdPolicy::MostOf(const SourceKey& source, absl::Duration now) const {
  const bool known = absl::c_any_of(known_, [&](const Known& one) {
    return one.source == source && now < one.until;
  });
  return known ? std::max<size_t>(most_of_one_ / kPartOfKnown, 1)
               : most_of_one_;
}

void CrowdPolicy::NoteHeld(const SourceKey& source, absl::Duration now) {
  std::erase_if(known_, [&](const Known& one) {
    return one.source == source || one.until <= now;
  });
  if (known_.size() < kMostKnown) {
    known_.push_back({.source = source, .until = now + kKnown});
  }
}

}  // namespace brood
