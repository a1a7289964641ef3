// SPDX-License-Identifier: Apache-2.0
#include "brood/net/address_range.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/net/address.h"
#include "brood/net/address_reader.h"

namespace brood {
namespace {

// ::ffff:0:0/96, which holds the IPv6 forms of all IPv4 addresses.
constexpr std::array<uint8_t, 16> kMapped = {0, 0, 0, 0, 0,    0,
                                             0, 0, 0, 0, 0xff, 0xff};
constexpr int kMappedPrefix = 96;

int MaxPrefix(sa_family_t family) {
  return family == AF_INET ? AddressRange::kMaxPrefixIPv4
                           : AddressRange::kMaxPrefixIPv6;
}

// Whether the first `bits` bits of both are the same.
bool SharePrefix(const std::array<uint8_t, 16>& a,
                 const std::array<uint8_t, 16>& b, int bits) {
  const int bytes = bits / 8;
  if (!std::equal(a.begin(), a.begin() + bytes, b.begin())) return false;
  const int rest = bits % 8;
  return rest == 0 || ((a[bytes] ^ b[bytes]) >> (8 - rest)) == 0;
}

}  // namespace

AddressRange::AddressRange(sa_family_t family, const Host& host,
                           int prefix_length)
    : family_(family), first_host_(host), prefix_length_(prefix_length) {
  const int bytes = prefix_length / 8;
  const int rest = prefix_length % 8;
  if (rest > 0) {
    first_host_[bytes] &= static_cast<uint8_t>(0xff << (8 - rest));
  }
  std::fill(first_host_.begin() + bytes + (rest > 0 ? 1 : 0), first_host_.end(),
            uint8_t{0});
}

absl::StatusOr<AddressRange> AddressRange::Parse(std::string_view text) {
  AddressReader reader("address range", text);
  const AddressReader start = reader;
  Host host = {};
  sa_family_t family = AF_INET;
  if (reader.AtDottedNumber()) {
    in_addr v4;
    if (absl::Status s = reader.IPv4(v4); !s.ok()) return s;
    std::memcpy(host.data(), &v4, sizeof(v4));
  } else if (reader.AtGroup()) {
    in6_addr v6;
    if (absl::Status s = reader.IPv6(v6); !s.ok()) return s;
    std::memcpy(host.data(), &v6, sizeof(v6));
    family = AF_INET6;
  } else {
    return reader.Expected(
        "an IPv4 address, as in 10.0.0.0/8, or an IPv6 address, as in "
        "2001:db8::/32,");
  }
  int prefix_length = MaxPrefix(family);
  if (reader.Skip("/")) {
    const std::optional<uint32_t> number =
        reader.Decimal(static_cast<uint32_t>(prefix_length));
    if (!number.has_value()) {
      return reader.Expected(
          absl::StrCat("a prefix length from 0 to ", prefix_length));
    }
    prefix_length = static_cast<int>(*number);
    if (!reader.AtEnd()) return reader.Expected("nothing more");
  } else if (!reader.AtEnd()) {
    return reader.Expected("\"/\" and a prefix length, or nothing more,");
  }

  const AddressRange range(family, host, prefix_length);
  if (range.first_host_ != host) {
    return start.Expected(absl::StrCat(
        range, ", which has no bit set beyond its first ", prefix_length, ","));
  }
  if (family == AF_INET6 && SharePrefix(host, kMapped, kMappedPrefix)) {
    // A shorter prefix would have left bits of ffff beyond it.
    std::rotate(host.begin(), host.begin() + kMappedPrefix / 8, host.end());
    std::fill(host.begin() + sizeof(in_addr), host.end(), uint8_t{0});
    return AddressRange(AF_INET, host, prefix_length - kMappedPrefix);
  }
  return range;
}

absl::StatusOr<AddressRange> AddressRange::Around(const Address& address,
                                                  int prefix_length) {
  const Address unmapped = address.Unmapped();
  if (unmapped.family() == AF_UNIX) {
    return absl::InvalidArgumentError(absl::StrCat(
        "range around ", address, ": expected an IPv4 or an IPv6 address"));
  }
  const int max = MaxPrefix(unmapped.family());
  if (prefix_length < 0 || prefix_length > max) {
    return absl::InvalidArgumentError(
        absl::StrCat("range around ", address, ", prefix length ",
                     prefix_length, ": expected one from 0 to ", max));
  }
  Host host = {};
  if (unmapped.family() == AF_INET) {
    sockaddr_in v4;
    std::memcpy(&v4, unmapped.sockaddr(), sizeof(v4));
    std::memcpy(host.data(), &v4.sin_addr, sizeof(v4.sin_addr));
  } else {
    sockaddr_in6 v6;
    std::memcpy(&v6, unmapped.sockaddr(), sizeof(v6));
    std::memcpy(host.data(), &v6.sin6_addr, sizeof(v6.sin6_addr));
  }
  return AddressRange(unmapped.family(), host, prefix_length);
}

bool AddressRange::Contains(const Address& address) const {
  const Address unmapped = address.Unmapped();
  if (unmapped.family() != family_) return false;
  return Contains(*Around(unmapped, MaxPrefix(family_)));
}

bool AddressRange::Contains(const AddressRange& other) const {
  return family_ == other.family_ && prefix_length_ <= other.prefix_length_ &&
         SharePrefix(first_host_, other.first_host_, prefix_length_);
}

std::string AddressRange::ToString() const {
  std::array<char, INET6_ADDRSTRLEN> host;
  inet_ntop(family_, first_host_.data(), host.data(), host.size());
  if (prefix_length_ == MaxPrefix(family_)) return host.data();
  return absl::StrCat(host.data(), "/", prefix_length_);
}

}  // namespace brood
