// SPDX-License-Identifier: Apache-2.0
//
// An AddressRange is all hosts of one family whose addresses begin with the
// same bits.
//
//   absl::Status LetIn(const Address& peer, std::string_view flag) {
//     const absl::StatusOr<AddressRange> range = AddressRange::Parse(flag);
//     if (!range.ok()) return range.status();  // Quotes `flag`, says where.
//     if (range->Contains(peer)) return absl::OkStatus();
//     return absl::PermissionDeniedError(
//         absl::StrCat(peer, " is not in ", *range));
//   }
//
// What it is not: a rule. Whether those inside are let in or kept out, and
// which of several ranges decides, is for others to say. Nor does it know ports
// or interfaces: every port of a host is in the range, and so is a host in
// whatever scope.
//
// The text form, which ToString writes and Parse reads:
//
//   10.0.0.0/8            IPv4, the first 8 bits
//   2001:db8::/32         IPv6, the first 32 bits
//   192.0.2.7             one host, the same as 192.0.2.7/32
//   2001:db8::7           one host, the same as 2001:db8::7/128
//
// Bits that are set beyond the prefix, as in 10.0.0.1/8, are an error: either
// the host was meant or the prefix, and a list of who may come in is no place
// for a guess. Parse(r.ToString()) == r, always.
//
// An IPv4 address in its IPv6 form is the IPv4 address here, in a text as in
// Contains: ::ffff:10.0.0.0/104 is 10.0.0.0/8, and ::/0, which is all of IPv6,
// contains no [::ffff:10.0.0.1]:80. So a list means the same whether clients
// come by a socket of their own family or by one for both.
//
// Errors: malformed text is InvalidArgument, one line that quotes the text and
// says what was expected at which character, counted in bytes from 1.
//
// Threads, signals, fork: a value; compare, hash and copy it anywhere.
// Rests on: RFC 4632, RFC 4291.
#ifndef BROOD_NET_ADDRESS_RANGE_H_
#define BROOD_NET_ADDRESS_RANGE_H_

#include <sys/socket.h>

#include <array>
#include <compare>
#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "brood/net/address.h"

namespace brood {

class AddressRange {
 public:
  static constexpr int kMaxPrefixIPv4 = 32;
  static constexpr int kMaxPrefixIPv6 = 128;

  static absl::StatusOr<AddressRange> Parse(std::string_view text);
  // All hosts that share the first `prefix_length` bits with `address`. Not of
  // a unix address, which has no bits to share: InvalidArgument.
  static absl::StatusOr<AddressRange> Around(const Address& address,
                                             int prefix_length);

  // AF_INET or AF_INET6.
  sa_family_t family() const { return family_; }
  int prefix_length() const { return prefix_length_; }

  // In network order; an IPv4 host is the first four bytes, zeros after it.
  using Host = std::array<uint8_t, 16>;
  const Host& first_host() const { return first_host_; }

  // False for every unix address.
  bool Contains(const Address& address) const;
  // Whether all of `other` is in this range.
  bool Contains(const AddressRange& other) const;

  std::string ToString() const;

  friend bool operator==(const AddressRange&, const AddressRange&) = default;
  // By family, then first host; of two that begin at one host, the wider first.
  // So a range comes before all that it contains, and after those come the
  // ranges that share nothing with it.
  friend std::strong_ordering operator<=>(const AddressRange&,
                                          const AddressRange&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const AddressRange& range) {
    return H::combine(std::move(h), range.family_, range.first_host_,
                      range.prefix_length_);
  }
  template <typename Sink>
  friend void AbslStringify(Sink& sink, const AddressRange& range) {
    sink.Append(range.ToString());
  }
  friend std::ostream& operator<<(std::ostream& os, const AddressRange& range) {
    return os << range.ToString();
  }

 private:
  AddressRange(sa_family_t family, const Host& host, int prefix_length);

  sa_family_t family_;
  Host first_host_;
  int prefix_length_;
};

}  // namespace brood

#endif  // BROOD_NET_ADDRESS_RANGE_H_
