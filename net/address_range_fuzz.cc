// SPDX-License-Identifier: Apache-2.0
// The input is read as a range, as a set of ranges, and up to the first blank
// as a range and after it as an address of which it is asked.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/log/check.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "brood/net/address.h"
#include "brood/net/address_range.h"
#include "brood/net/address_range_set.h"
#include "brood/net/quoted.h"
#include "brood/net/source_key.h"

namespace brood {
namespace {

void ReadAsRange(std::string_view text) {
  const absl::StatusOr<AddressRange> range = AddressRange::Parse(text);
  if (!range.ok()) {
    const std::string_view message = range.status().message();
    CHECK(absl::StartsWith(
        message, absl::StrCat("address range ", Quoted(text), ": expected ")))
        << message;
    CHECK(absl::StrContains(message, " at character ")) << message;
    return;
  }
  CHECK(range->Contains(*range)) << *range;
  const absl::StatusOr<AddressRange> again =
      AddressRange::Parse(range->ToString());
  CHECK(again.ok()) << again.status();
  CHECK(*again == *range) << *again << " and " << *range;
}

void ReadAsSet(std::string_view text) {
  const absl::StatusOr<AddressRangeSet> set = AddressRangeSet::Parse(text);
  if (!set.ok()) return;
  const absl::StatusOr<AddressRangeSet> again =
      AddressRangeSet::Parse(set->ToString());
  CHECK(again.ok()) << again.status();
  CHECK(*again == *set) << *again << " and " << *set;
}

void ReadAsQuestion(std::string_view text) {
  const size_t blank = text.find(' ');
  if (blank == text.npos) return;
  const absl::StatusOr<Address> peer = Address::Parse(text.substr(blank + 1));
  if (!peer.ok()) return;
  CHECK(SourceKey::Of(*peer) == SourceKey::Of(peer->Unmapped())) << *peer;

  const absl::StatusOr<AddressRange> range =
      AddressRange::Parse(text.substr(0, blank));
  if (!range.ok()) return;
  const bool inside = range->Contains(*peer);
  CHECK_EQ(inside, AddressRangeSet({*range}).Contains(*peer)) << text;
  const absl::StatusOr<AddressRange> around =
      AddressRange::Around(*peer, range->prefix_length());
  const bool same = around.ok() && *around == *range;
  CHECK_EQ(inside, same) << text;
}

}  // namespace
}  // namespace brood

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  brood::ReadAsRange(input);
  brood::ReadAsSet(input);
  brood::ReadAsQuestion(input);
  return 0;
}
