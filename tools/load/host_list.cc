// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/load/host_list.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "brood/net/address.h"
#include "brood/net/address_range.h"
#include "brood/server/flag_values.h"

namespace brood {
namespace {

absl::StatusOr<Address> ParseHost(std::string_view text) {
  // A port would be read as one otherwise, or a path.
  const bool v6 = absl::StrContains(text, ':');
  absl::StatusOr<Address> host = Address::Parse(
      v6 ? absl::StrCat("[", text, "]:0") : absl::StrCat(text, ":0"));
  if (host.ok() && !text.empty() && host->family() != AF_UNIX) return host;
  return absl::InvalidArgumentError(absl::StrCat(
      QuotedArgument(text),
      ": allowed is a host such as 127.0.0.1 or ::1, without a port"));
}

// The bytes of a host, with `change` made to them.
template <typename Change>
Address Changed(const Address& host, Change change) {
  sockaddr_storage storage = {};
  std::memcpy(&storage, host.sockaddr(), host.sockaddr_length());
  auto* const v4 = reinterpret_cast<sockaddr_in*>(&storage);
  auto* const v6 = reinterpret_cast<sockaddr_in6*>(&storage);
  if (host.family() == AF_INET) {
    change(reinterpret_cast<uint8_t*>(&v4->sin_addr), size_t{4});
  } else {
    change(v6->sin6_addr.s6_addr, size_t{16});
  }
  return Address::FromSockaddr(reinterpret_cast<sockaddr*>(&storage),
                               host.sockaddr_length())
      .value_or(host);
}

Address Next(const Address& host) {
  return Changed(host, [](uint8_t* bytes, size_t size) {
    for (size_t i = size; i-- > 0;) {
      if (++bytes[i] != 0) return;
    }
  });
}

Address LastOf(const Address& first, int prefix_length) {
  return Changed(first, [&](uint8_t* bytes, size_t size) {
    for (size_t bit = static_cast<size_t>(prefix_length); bit < 8 * size;
         ++bit) {
      bytes[bit / 8] |= static_cast<uint8_t>(0x80 >> bit % 8);
    }
  });
}

// The first and the last of what `text` says.
absl::StatusOr<std::pair<Address, Address>> ParseEnds(std::string_view text) {
  const bool is_range = absl::StrContains(text, '/');
  const std::pair<std::string_view, std::string_view> ends =
      absl::StrSplit(text, absl::MaxSplits(is_range ? '/' : '-', 1));
  if (is_range) {
    const absl::StatusOr<AddressRange> range = AddressRange::Parse(text);
    if (!range.ok()) return range.status();
    const absl::StatusOr<Address> first = ParseHost(ends.first);
    if (!first.ok()) return first.status();
    return std::pair(*first, LastOf(*first, range->prefix_length()));
  }
  const absl::StatusOr<Address> first = ParseHost(ends.first);
  if (!first.ok() || !absl::StrContains(text, '-')) {
    if (!first.ok()) return first.status();
    return std::pair(*first, *first);
  }
  const absl::StatusOr<Address> last = ParseHost(ends.second);
  if (!last.ok()) return last.status();
  if (first->family() == last->family() && *first <= *last) {
    return std::pair(*first, *last);
  }
  return absl::InvalidArgumentError(
      absl::StrCat(QuotedArgument(text),
                   ": allowed is the lower address first, and both of "
                   "one family"));
}

}  // namespace

absl::StatusOr<std::vector<Address>> ParseHosts(std::string_view text) {
  std::vector<Address> hosts;
  for (const std::string_view part : absl::StrSplit(text, ',')) {
    const absl::StatusOr<std::pair<Address, Address>> ends = ParseEnds(part);
    if (!ends.ok()) return ends.status();
    for (Address host = ends->first;; host = Next(host)) {
      if (hosts.size() == kMaxHosts) {
        return absl::InvalidArgumentError(
            absl::StrCat(QuotedArgument(text), ": allowed are ", kMaxHosts,
                         " hosts at most"));
      }
      hosts.push_back(host);
      if (host == ends->second) break;
    }
  }
  return hosts;
}

}  // namespace brood
