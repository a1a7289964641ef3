// SPDX-License-Identifier: Apache-2.0
#include "brood/net/address_range_set.h"

#include <sys/socket.h>

#include <algorithm>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "brood/net/address.h"
#include "brood/net/address_range.h"

namespace brood {

// Two ranges either share nothing or one contains the other. Sorted, what a
// range contains comes right after it.
AddressRangeSet::AddressRangeSet(std::vector<AddressRange> ranges)
    : ranges_(std::move(ranges)) {
  std::sort(ranges_.begin(), ranges_.end());
  const auto contains = [](const AddressRange& a, const AddressRange& b) {
    return a.Contains(b);
  };
  ranges_.erase(std::unique(ranges_.begin(), ranges_.end(), contains),
                ranges_.end());
}

absl::StatusOr<AddressRangeSet> AddressRangeSet::Parse(std::string_view text) {
  std::vector<AddressRange> ranges;
  if (text.empty()) return AddressRangeSet();
  for (const std::string_view part : absl::StrSplit(text, ',')) {
    const absl::StatusOr<AddressRange> range =
        AddressRange::Parse(absl::StripAsciiWhitespace(part));
    if (!range.ok()) return range.status();
    ranges.push_back(*range);
  }
  return AddressRangeSet(std::move(ranges));
}

bool AddressRangeSet::Contains(const Address& address) const {
  const Address unmapped = address.Unmapped();
  if (unmapped.family() == AF_UNIX) return false;
  const AddressRange host = *AddressRange::Around(
      unmapped, unmapped.family() == AF_INET ? AddressRange::kMaxPrefixIPv4
                                             : AddressRange::kMaxPrefixIPv6);
  // Only the last of those that do not begin after the host can contain it.
  const auto after = std::upper_bound(ranges_.begin(), ranges_.end(), host);
  return after != ranges_.begin() && std::prev(after)->Contains(host);
}

std::string AddressRangeSet::ToString() const {
  return absl::StrJoin(ranges_, ",");
}

}  // namespace brood
