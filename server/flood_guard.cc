// SPDX-License-Identifier: Apache-2.0
#include "brood/server/flood_guard.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "brood/net/address_range.h"
#include "brood/net/source_key.h"

namespace brood {

bool FloodGuard::Count(const SourceKey& source, absl::Duration now) {
  if (threshold_ == 0 || !source.network().has_value()) return false;
  Entry& entry = FindOrReplace(*source.network(), now);
  // Those who had come before still have to go.
  if (entry.shut_until > now) return false;
  if (now - entry.since >= kWindow) {
    entry.since = now;
    entry.count = 0;
  }
  ++entry.count;
  return entry.count >= ThresholdOf(entry, now) && ShutOut(entry, now);
}

uint32_t FloodGuard::ThresholdOf(const Entry& entry, absl::Duration now) const {
  const bool known = now - entry.shut_until < kForgotten;
  return known ? std::max(threshold_ / kPartOfKnown, 1U) : threshold_;
}

bool FloodGuard::CountAll(const SourceKey& source, absl::Duration now) {
  if (threshold_ == 0 || !source.network().has_value()) return false;
  return ShutOut(FindOrReplace(*source.network(), now), now);
}

bool FloodGuard::ShutOut(Entry& entry, absl::Duration now) {
  if (entry.shut_until > now) return false;
  const bool again = now - entry.shut_until < kForgotten;
  const ptrdiff_t shut =
      std::count_if(entries_.begin(), entries_.end(),
                    [&](const Entry& one) { return one.shut_until > now; });
  if (shut >= static_cast<ptrdiff_t>(kMostShut)) return false;
  entry.penalty = again ? std::min(2 * entry.penalty, kLongest) : kFirst;
  entry.shut = true;
  entry.shut_since = now;
  entry.shut_until = now + entry.penalty;
  entry.since = entry.shut_until;
  entry.count = 0;
  return true;
}

const FloodGuard::Entry* FloodGuard::Find(const SourceKey& source) const {
  if (!source.network().has_value()) return nullptr;
  const auto entry = std::find_if(
      entries_.begin(), entries_.end(),
      [&](const Entry& one) { return one.network == source.network(); });
  return entry == entries_.end() ? nullptr : &*entry;
}

// In the place of the one with the lowest count that is not shut out, and with
// its count: so that many who come seldom do not hide one who comes often.
FloodGuard::Entry& FloodGuard::FindOrReplace(const AddressRange& network,
                                             absl::Duration now) {
  const auto weight = [&](const Entry& entry) {
    if (!entry.network.has_value()) return int64_t{-2};
    if (entry.shut_until > now) return int64_t{1} << 32;
    return now - entry.since >= kWindow ? int64_t{-1} : int64_t{entry.count};
  };
  Entry* least = entries_.data();
  int64_t least_weight = weight(*least);
  for (Entry& entry : entries_) {
    if (entry.network == network) return entry;
    if (const int64_t own = weight(entry); own < least_weight) {
      least = &entry;
      least_weight = own;
    }
  }
  const Entry replaced = *least;
  *least = {.network = network};
  if (least_weight >= 0) {
    least->count = replaced.count;
    least->since = replaced.since;
  }
  return *least;
}

std::vector<AddressRange> FloodGuard::Shut(absl::Duration now) const {
  std::vector<AddressRange> shut;
  for (const Entry& entry : entries_) {
    if (entry.shut_until > now) shut.push_back(*entry.network);
  }
  return shut;
}

std::optional<absl::Duration> FloodGuard::ShutUntil(const SourceKey& source,
                                                    absl::Duration now) const {
  const Entry* const entry = Find(source);
  if (entry == nullptr || entry->shut_until <= now) return std::nullopt;
  return entry->shut_until;
}

bool FloodGuard::WentOn(const SourceKey& source) const {
  const Entry* const entry = Find(source);
  return entry != nullptr && entry->penalty > kFirst;
}

std::optional<absl::Duration> FloodGuard::NextOpening(
    absl::Duration now) const {
  std::optional<absl::Duration> next;
  for (const Entry& entry : entries_) {
    if (entry.shut_until <= now) continue;
    next = std::min(next.value_or(entry.shut_until), entry.shut_until);
  }
  return next;
}

std::optional<AddressRange> FloodGuard::GoesOn(absl::Duration now,
                                               uint32_t knocks) {
  const auto shut = std::count_if(entries_.begin(), entries_.end(),
                                  [](const Entry& one) { return one.shut; });
  std::optional<AddressRange> who;
  for (Entry& entry : entries_) {
    if (!entry.shut || entry.shut_until > now) continue;
    entry.shut = shut == 1 && knocks >= ThresholdOf(entry, now) &&
                 now - entry.shut_since < kMostAtATime;
    if (!entry.shut) continue;
    entry.shut_until = now + kFirst;
    who = entry.network;
  }
  return who;
}

void FloodGuard::Forget(const SourceKey& source) {
  for (Entry& entry : entries_) {
    if (entry.network.has_value() && entry.network == source.network()) {
      entry = Entry();
    }
  }
}

}  // namespace brood
