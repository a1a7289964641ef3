// SPDX-License-Identifier: Apache-2.0
#include "brood/net/address_range_set.h"

#include <algorithm>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/net/address.h"
#include "brood/net/address_range.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::StartsWith;

Address Peer(std::string_view text) {
  const absl::StatusOr<Address> peer = Address::Parse(text);
  EXPECT_THAT(peer, IsOk());
  return *peer;
}

AddressRangeSet Set(std::string_view text) {
  const absl::StatusOr<AddressRangeSet> set = AddressRangeSet::Parse(text);
  EXPECT_THAT(set, IsOk());
  return *set;
}

absl::StatusOr<bool> IsTrusted(const Address& peer, std::string_view flag) {
  const absl::StatusOr<AddressRangeSet> proxies = AddressRangeSet::Parse(flag);
  if (!proxies.ok()) return proxies.status();
  return proxies->Contains(peer);
}

TEST(AddressRangeSetTest, HeaderExample) {
  constexpr std::string_view kFlag = "10.0.0.0/8, 2001:db8::/32";
  EXPECT_THAT(IsTrusted(Peer("10.1.2.3:4"), kFlag), IsOkAndHolds(true));
  EXPECT_THAT(IsTrusted(Peer("[2001:db8::1]:4"), kFlag), IsOkAndHolds(true));
  EXPECT_THAT(IsTrusted(Peer("[2001:db9::1]:4"), kFlag), IsOkAndHolds(false));
  EXPECT_THAT(IsTrusted(Peer("unix:/run/x"), kFlag), IsOkAndHolds(false));
}

TEST(AddressRangeSetTest, WithoutRangesContainsNobody) {
  EXPECT_TRUE(Set("").empty());
  EXPECT_EQ(Set(""), AddressRangeSet());
  EXPECT_EQ(Set("").ToString(), "");
  EXPECT_FALSE(Set("").Contains(Peer("127.0.0.1:1")));
  EXPECT_FALSE(Set("").Contains(Address()));
}

TEST(AddressRangeSetTest, KeepsInOrderWhatLiesInNoOther) {
  EXPECT_EQ(absl::StrCat(Set("2001:db8::/32,192.0.2.7,10.2.0.0/16 , 10.0.0.0/8,"
                             "10.0.0.0/9,192.0.2.7")),
            "10.0.0.0/8,192.0.2.7,2001:db8::/32");
  EXPECT_EQ(Set("10.0.0.0/8,10.1.0.0/16"), Set("::ffff:10.0.0.0/104"));
  EXPECT_EQ(Set("10.0.0.0/9,10.128.0.0/9").ranges().size(), 2u);
}

TEST(AddressRangeSetTest, SaysWhichRangeIsMalformed) {
  const struct {
    std::string text;
    std::string range;
  } kCases[] = {
      {"10.0.0.0/8,", ""},
      {",10.0.0.0/8", ""},
      {" ", ""},
      {"10.0.0.0/8,10.0.0.1/8", "10.0.0.1/8"},
      {"10.0.0.0/8 192.0.2.7", "10.0.0.0/8 192.0.2.7"},
  };
  for (const auto& test : kCases) {
    EXPECT_THAT(AddressRangeSet::Parse(test.text),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         StartsWith(absl::StrCat("address range \"", test.range,
                                                 "\": expected "))))
        << test.text;
  }
}

TEST(AddressRangeSetTest, ContainsWhatOneOfItsRangesContains) {
  std::mt19937_64 random(20240617);
  const auto below = [&](int limit) {
    return std::uniform_int_distribution<int>(0, limit - 1)(random);
  };
  const auto host = [&] {
    const std::string four =
        absl::StrCat(below(4), ".", below(4), ".", below(256), ".", below(256));
    switch (below(3)) {
      case 0:
        return Peer(absl::StrCat(four, ":1"));
      case 1:
        return Peer(absl::StrCat("[::ffff:", four, "]:1"));
    }
    return Peer(absl::StrCat("[", below(4), ":", below(4), "::", four, "]:1"));
  };
  int inside = 0;
  for (int round = 0; round < 200; ++round) {
    std::vector<AddressRange> ranges;
    for (int i = below(10); i > 0; --i) {
      const absl::StatusOr<AddressRange> range =
          AddressRange::Around(host(), 10 + below(23));
      ASSERT_THAT(range, IsOk());
      ranges.push_back(*range);
    }
    const AddressRangeSet set(ranges);
    ASSERT_THAT(AddressRangeSet::Parse(set.ToString()), IsOkAndHolds(set));
    for (int i = 0; i < 50; ++i) {
      const Address peer = host();
      const bool expected =
          std::any_of(ranges.begin(), ranges.end(),
                      [&](const auto& range) { return range.Contains(peer); });
      ASSERT_EQ(set.Contains(peer), expected) << peer << " and " << set;
      inside += expected ? 1 : 0;
    }
  }
  EXPECT_GT(inside, 500);
}

}  // namespace
}  // namespace brood
