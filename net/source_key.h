// SPDX-License-Identifier: Apache-2.0
//
// A SourceKey is whom a client's connections count against: two clients have
// the same key if, for all that their addresses tell, they may be one party.
//
//   class PerSource {
//    public:
//     // How many connections, this one included, come from where `peer` is.
//     int Count(const Address& peer) { return ++counts_[SourceKey::Of(peer)]; }
//
//    private:
//     absl::flat_hash_map<SourceKey, int> counts_;
//   };
//
// What it is not: an identity. Behind one key may be a household, an office or
// a provider's whole town.
//
// An IPv4 client is its whole address. An IPv6 client is the first 64 bits,
// since a network of that size is the least that anybody is given, and a key of
// all 128 bits would let one machine be as many sources as it likes. Lengths
// says otherwise. An IPv4 client that came by IPv6 is an IPv4 client. Ports do
// not count; a scope does, for fe80:: on two links is two networks.
//
// A unix client's address tells nothing, most often: Of() has one key for all
// of them. Where the kernel says which user it is (SO_PEERCRED), OfUser() has a
// key for each.
//
// Errors: Lengths::Create refuses what is no prefix length with
// InvalidArgument; nothing else can fail.
//
// Threads, signals, fork: a value; compare, hash and copy it anywhere.
// Rests on: RFC 4291 section 2.5.1 and RFC 6177 for the 64 bits.
#ifndef BROOD_NET_SOURCE_KEY_H_
#define BROOD_NET_SOURCE_KEY_H_

#include <sys/types.h>

#include <compare>
#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "brood/net/address.h"
#include "brood/net/address_range.h"

namespace brood {

class SourceKey {
 public:
  // How many bits of an address count.
  class Lengths {
   public:
    // 32 and 64.
    Lengths() = default;
    // `ipv4` from 0 to 32, `ipv6` from 0 to 128.
    static absl::StatusOr<Lengths> Create(int ipv4, int ipv6);

    int ipv4() const { return ipv4_; }
    int ipv6() const { return ipv6_; }

   private:
    Lengths(int ipv4, int ipv6) : ipv4_(ipv4), ipv6_(ipv6) {}

    int ipv4_ = 32;
    int ipv6_ = 64;
  };

  static SourceKey Of(const Address& peer) { return Of(peer, Lengths()); }
  static SourceKey Of(const Address& peer, const Lengths& lengths);
  // Of a unix client that runs as `user`.
  static SourceKey OfUser(uid_t user) { return {std::nullopt, user}; }

  // All hosts that have it; nullopt for unix clients.
  const std::optional<AddressRange>& network() const { return network_; }

  // "192.0.2.7", "2001:db8::/64", "fe80::/64%2", "unix", "user 1000".
  std::string ToString() const;

  friend bool operator==(const SourceKey&, const SourceKey&) = default;
  // Unix clients, then users, then networks.
  friend std::strong_ordering operator<=>(const SourceKey&,
                                          const SourceKey&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const SourceKey& key) {
    return H::combine(std::move(h), key.network_, key.number_);
  }
  template <typename Sink>
  friend void AbslStringify(Sink& sink, const SourceKey& key) {
    sink.Append(key.ToString());
  }
  friend std::ostream& operator<<(std::ostream& os, const SourceKey& key) {
    return os << key.ToString();
  }

 private:
  SourceKey(const std::optional<AddressRange>& network,
            std::optional<uint32_t> number)
      : network_(network), number_(number) {}

  std::optional<AddressRange> network_;  // Unless it is a unix client.
  // Which scope, if it is a network in one; which user, if one is known.
  std::optional<uint32_t> number_;
};

}  // namespace brood

#endif  // BROOD_NET_SOURCE_KEY_H_
