// SPDX-License-Identifier: Apache-2.0
//
// An AddressRangeSet is the hosts of any number of ranges, and finds out fast
// whether one is among them.
//
//   absl::StatusOr<bool> IsTrusted(const Address& peer,
//                                  std::string_view flag) {
//     const absl::StatusOr<AddressRangeSet> proxies =
//         AddressRangeSet::Parse(flag);
//     if (!proxies.ok()) return proxies.status();
//     return proxies->Contains(peer);
//   }
//
// What it is not: a list of rules. All its ranges mean the same, in any order;
// a set of whom to let in and another of whom to keep out make a policy.
//
// The text form: ranges with commas between them, as in
// "10.0.0.0/8,2001:db8::/32"; Parse also takes blanks around a comma. No range
// at all is the set that contains nobody. What lies in another range of the set
// is left out when it is made, so two sets are equal if that makes them so;
// neighbours are not joined.
//
// Contains is a binary search: twenty steps for a million ranges.
//
// Errors: malformed text is InvalidArgument, one line about the range that is
// wrong; see address_range.h.
//
// Threads, signals, fork: a value; does not change, ask it from anywhere.
#ifndef BROOD_NET_ADDRESS_RANGE_SET_H_
#define BROOD_NET_ADDRESS_RANGE_SET_H_

#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/address_range.h"

namespace brood {

class AddressRangeSet {
 public:
  // Nobody.
  AddressRangeSet() = default;
  explicit AddressRangeSet(std::vector<AddressRange> ranges);

  static absl::StatusOr<AddressRangeSet> Parse(std::string_view text);

  bool Contains(const Address& address) const;
  bool empty() const { return ranges_.empty(); }
  // In order, none in another.
  absl::Span<const AddressRange> ranges() const { return ranges_; }

  std::string ToString() const;

  friend bool operator==(const AddressRangeSet&,
                         const AddressRangeSet&) = default;
  template <typename Sink>
  friend void AbslStringify(Sink& sink, const AddressRangeSet& set) {
    sink.Append(set.ToString());
  }
  friend std::ostream& operator<<(std::ostream& os,
                                  const AddressRangeSet& set) {
    return os << set.ToString();
  }

 private:
  std::vector<AddressRange> ranges_;
};

}  // namespace brood

#endif  // BROOD_NET_ADDRESS_RANGE_SET_H_
