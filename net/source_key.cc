// SPDX-License-Identifier: Apache-2.0
#include "brood/net/source_key.h"

#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/net/address.h"
#include "brood/net/address_range.h"

namespace brood {

absl::StatusOr<SourceKey::Lengths> SourceKey::Lengths::Create(int ipv4,
                                                              int ipv6) {
  const struct {
    const char* family;
    int length;
    int max;
  } kLengths[] = {{"IPv4", ipv4, AddressRange::kMaxPrefixIPv4},
                  {"IPv6", ipv6, AddressRange::kMaxPrefixIPv6}};
  for (const auto& [family, length, max] : kLengths) {
    if (length >= 0 && length <= max) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("length of an ", family, " source, ", length,
                     " bits: expected 0 to ", max));
  }
  return Lengths(ipv4, ipv6);
}

SourceKey SourceKey::Of(const Address& peer, const Lengths& lengths) {
  const Address unmapped = peer.Unmapped();
  if (unmapped.family() == AF_UNIX) return {std::nullopt, std::nullopt};
  const int length =
      unmapped.family() == AF_INET ? lengths.ipv4() : lengths.ipv6();
  // Cannot fail: Create has seen to the lengths.
  const AddressRange network = *AddressRange::Around(unmapped, length);
  if (unmapped.scope() == 0) return {network, std::nullopt};
  return {network, unmapped.scope()};
}

std::string SourceKey::ToString() const {
  if (!network_.has_value()) {
    return number_.has_value() ? absl::StrCat("user ", *number_) : "unix";
  }
  return number_.has_value() ? absl::StrCat(*network_, "%", *number_)
                             : network_->ToString();
}

}  // namespace brood
