// SPDX-License-Identifier: Apache-2.0
#include "brood/net/address_range.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "absl/hash/hash_testing.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "brood/net/address.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::HasSubstr;

using Random = std::mt19937_64;

int Below(int limit, Random& random) {
  return std::uniform_int_distribution<int>(0, limit - 1)(random);
}

AddressRange Range(std::string_view text) {
  const absl::StatusOr<AddressRange> range = AddressRange::Parse(text);
  EXPECT_THAT(range, IsOk());
  return *range;
}

Address Peer(std::string_view text) {
  const absl::StatusOr<Address> peer = Address::Parse(text);
  EXPECT_THAT(peer, IsOk());
  return *peer;
}

// Few hosts, so that ranges often meet.
Address RandomHost(Random& random) {
  const auto byte = [&] {
    return Below(2, random) == 0 ? 0 : 1 << Below(8, random);
  };
  if (Below(2, random) == 0) {
    return Peer(
        absl::StrCat(byte(), ".", byte(), ".", byte(), ".", byte(), ":1"));
  }
  const auto group = [&] {
    return absl::StrCat(absl::Hex(byte() * 256 + byte()));
  };
  return Peer(absl::StrCat("[", group(), ":", group(), "::", group(), "]:1"));
}

AddressRange RandomRange(Random& random) {
  const Address host = RandomHost(random);
  const int max = host.Unmapped().family() == AF_INET ? 32 : 128;
  return *AddressRange::Around(host, Below(max + 1, random));
}

// The bits of a host as 0s and 1s: the definition, if slow.
std::string BitsOf(const Address& host) {
  const Address unmapped = host.Unmapped();
  const auto* bytes = reinterpret_cast<const uint8_t*>(unmapped.sockaddr());
  const bool v4 = unmapped.family() == AF_INET;
  std::string bits;
  for (int i = 0; i < (v4 ? 4 : 16); ++i) {
    for (int bit = 7; bit >= 0; --bit) {
      bits.push_back(((bytes[(v4 ? 4 : 8) + i] >> bit) & 1) == 1 ? '1' : '0');
    }
  }
  return bits;
}

absl::Status LetIn(const Address& peer, std::string_view flag) {
  const absl::StatusOr<AddressRange> range = AddressRange::Parse(flag);
  if (!range.ok()) return range.status();  // Quotes `flag`, says where.
  if (range->Contains(peer)) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat(peer, " is not in ", *range));
}

TEST(AddressRangeTest, HeaderExample) {
  EXPECT_THAT(LetIn(Peer("10.1.2.3:4"), "10.0.0.0/8"), IsOk());
  EXPECT_THAT(LetIn(Peer("11.1.2.3:4"), "10.0.0.0/8"),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       "11.1.2.3:4 is not in 10.0.0.0/8"));
  EXPECT_THAT(LetIn(Peer("11.1.2.3:4"), "10.0.0.0/33"),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(AddressRangeTest, ReadsEachFormAndWritesItBack) {
  const struct {
    std::string text;
    std::string written;
  } kCases[] = {
      {"10.0.0.0/8", "10.0.0.0/8"},
      {"10.128.0.0/9", "10.128.0.0/9"},
      {"0.0.0.0/0", "0.0.0.0/0"},
      {"255.255.255.254/31", "255.255.255.254/31"},
      {"192.0.2.7", "192.0.2.7"},
      {"192.0.2.7/32", "192.0.2.7"},
      {"2001:DB8::/32", "2001:db8::/32"},
      {"2001:db8:8000::/33", "2001:db8:8000::/33"},
      {"::/0", "::/0"},
      {"::", "::"},
      {"::1/128", "::1"},
      {"2001:db8::7", "2001:db8::7"},
      {"::ffff:10.0.0.0/104", "10.0.0.0/8"},
      {"::ffff:0:0/96", "0.0.0.0/0"},
      {"::ffff:192.0.2.7", "192.0.2.7"},
      {"::fffe:0:0/95", "::fffe:0:0/95"},
      {"::192.0.2.0/120", "::192.0.2.0/120"},
  };
  for (const auto& test : kCases) {
    SCOPED_TRACE(test.text);
    const absl::StatusOr<AddressRange> range = AddressRange::Parse(test.text);
    ASSERT_THAT(range, IsOk());
    EXPECT_EQ(absl::StrCat(*range), test.written);
    EXPECT_THAT(AddressRange::Parse(test.written), IsOkAndHolds(*range));
  }
}

TEST(AddressRangeTest, SaysWhatIsWrongWithAMalformedTextAndWhere) {
  const std::string no_host =
      "an IPv4 address, as in 10.0.0.0/8, or an IPv6 address, as in "
      "2001:db8::/32,";
  const std::string no_slash = "\"/\" and a prefix length, or nothing more,";
  const struct {
    std::string text;
    std::string expected;
    int at;
  } kCases[] = {
      {"", no_host, 1},
      {" 10.0.0.0/8", no_host, 1},
      {"localhost", no_host, 1},
      {"10/8", no_host, 1},
      {"/8", no_host, 1},
      {"0x0a.0.0.0/8", no_host, 1},
      {std::string("\0", 1), no_host, 1},
      {"\xef\xbc\x91.0.0.0/8", no_host, 1},
      {"10.0.0.0\\8", no_slash, 9},
      {"10.0.0.00/8", "a number from 0 to 255", 8},
      {"2001:db8::/032", "a prefix length from 0 to 128", 12},
      {"2001:db8::/4294967328", "a prefix length from 0 to 128", 12},
      {"[::1]/128", no_host, 1},
      {"unix:/run/x", no_host, 1},
      {"10.0.0", "\".\"", 7},
      {"10.0.0/8", "\".\"", 7},
      {"10.0.0.256", "a number from 0 to 255", 8},
      {"10.0.0.0:80", no_slash, 9},
      {"10.0.0.0 /8", no_slash, 9},
      {"fe80::1%2", no_slash, 8},
      {"::1]", no_slash, 4},
      {"1:2:3", "\":\"", 6},
      {"1:2:3:4:5:6:7:8:9", no_slash, 16},
      {":80", "a group of 1 to 4 hexadecimal digits", 1},
      {"10.0.0.0/", "a prefix length from 0 to 32", 10},
      {"10.0.0.0/33", "a prefix length from 0 to 32", 10},
      {"10.0.0.0/-1", "a prefix length from 0 to 32", 10},
      {"10.0.0.0/08", "a prefix length from 0 to 32", 10},
      {"10.0.0.0/255.0.0.0", "a prefix length from 0 to 32", 10},
      {"::/129", "a prefix length from 0 to 128", 4},
      {"10.0.0.0/8 ", "nothing more", 11},
      {"10.0.0.0/8/8", "nothing more", 11},
      {std::string("10.0.0.0/8\0", 11), "nothing more", 11},
      {"10.0.0.1/8", "10.0.0.0/8, which has no bit set beyond its first 8,", 1},
      {"10.64.0.0/9", "10.0.0.0/9, which has no bit set beyond its first 9,",
       1},
      {"1.2.3.4/0", "0.0.0.0/0, which has no bit set beyond its first 0,", 1},
      {"2001:db8::1/64",
       "2001:db8::/64, which has no bit set beyond its first 64,", 1},
      {"::ffff:0:0/95",
       "::fffe:0:0/95, which has no bit set beyond its first 95,", 1},
  };
  for (const auto& test : kCases) {
    SCOPED_TRACE(absl::CHexEscape(test.text));
    const size_t at = static_cast<size_t>(test.at);
    EXPECT_THAT(
        AddressRange::Parse(test.text),
        StatusIs(
            absl::StatusCode::kInvalidArgument,
            absl::StrCat("address range \"", absl::CHexEscape(test.text),
                         "\": expected ", test.expected, " at character ", at,
                         at > test.text.size() ? ", where it ends" : "")));
  }
}

TEST(AddressRangeTest, QuotesTheBeginningOfALongTextAndSaysWhereItIsWrong) {
  const std::string zeros(1000, '0');
  EXPECT_THAT(
      AddressRange::Parse("10.0.0.0/8" + zeros),
      StatusIs(absl::StatusCode::kInvalidArgument,
               absl::StrCat("address range \"10.0.0.0/8", zeros.substr(0, 118),
                            "\"... (1010 bytes): expected a prefix "
                            "length from 0 to 32 at character 10")));
  EXPECT_THAT(AddressRange::Parse("10.0.0.0/8" + std::string(200, '/')),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("\"... (210 bytes): expected nothing more at "
                                 "character 11")));
}

TEST(AddressRangeTest, ContainsTheHostsThatBeginAsItDoes) {
  const struct {
    std::string range;
    std::string inside;
    std::string outside;
  } kCases[] = {
      {"10.0.0.0/8", "10.255.255.255:1", "11.0.0.0:1"},
      {"10.128.0.0/9", "10.128.0.0:1", "10.127.255.255:1"},
      {"0.0.0.0/0", "255.255.255.255:65535", "[::1]:1"},
      {"192.0.2.7", "192.0.2.7:80", "192.0.2.6:80"},
      {"2001:db8::/32", "[2001:db8:ffff::1]:1", "[2001:db9::]:1"},
      {"2001:db8:8000::/33", "[2001:db8:8000::]:1", "[2001:db8:7fff::]:1"},
      {"::1", "[::1]:1", "[::2]:1"},
      {"fe80::/10", "[fe80::1%2]:1", "[fec0::1%2]:1"},
      {"::/128", ":80", "[::1]:80"},
      {"10.0.0.0/8", "[::ffff:10.1.2.3]:1", "[::10.1.2.3]:1"},
      {"::/0", "[::1]:1", "[::ffff:10.1.2.3]:1"},
      {"::fffe:0:0/95", "[::fffe:1.2.3.4]:1", "[::ffff:1.2.3.4]:1"},
      {"0.0.0.0/0", "1.2.3.4:1", "unix:/run/x"},
      {"::/0", "[1::]:1", "unix:(unnamed)"},
  };
  for (const auto& test : kCases) {
    SCOPED_TRACE(test.range);
    EXPECT_TRUE(Range(test.range).Contains(Peer(test.inside))) << test.inside;
    EXPECT_FALSE(Range(test.range).Contains(Peer(test.outside)))
        << test.outside;
  }
}

TEST(AddressRangeTest, ContainsExactlyTheHostsThatShareItsBits) {
  Random random(20240613);
  int inside = 0;
  for (int i = 0; i < 20000; ++i) {
    const Address first = RandomHost(random);
    const Address second = RandomHost(random);
    const std::string bits = BitsOf(first);
    const int length = Below(static_cast<int>(bits.size()) + 1, random);
    const absl::StatusOr<AddressRange> range =
        AddressRange::Around(first, length);
    ASSERT_THAT(range, IsOk());
    ASSERT_TRUE(range->Contains(first)) << *range << ", " << first;
    const std::string others = BitsOf(second);
    const bool expected = bits.size() == others.size() &&
                          bits.compare(0, static_cast<size_t>(length), others,
                                       0, static_cast<size_t>(length)) == 0;
    ASSERT_EQ(range->Contains(second), expected) << *range << ", " << second;
    inside += expected ? 1 : 0;
  }
  EXPECT_GT(inside, 1000);
}

TEST(AddressRangeTest, ParsesWhatItHasWritten) {
  Random random(20240614);
  for (int i = 0; i < 20000; ++i) {
    const AddressRange range = RandomRange(random);
    ASSERT_THAT(AddressRange::Parse(range.ToString()), IsOkAndHolds(range));
  }
}

TEST(AddressRangeTest, ContainsTheRangesThatLieInIt) {
  EXPECT_TRUE(Range("10.0.0.0/8").Contains(Range("10.0.0.0/8")));
  EXPECT_TRUE(Range("10.0.0.0/8").Contains(Range("10.1.0.0/16")));
  EXPECT_TRUE(Range("10.0.0.0/8").Contains(Range("::ffff:10.1.0.0/112")));
  EXPECT_FALSE(Range("10.1.0.0/16").Contains(Range("10.0.0.0/8")));
  EXPECT_FALSE(Range("10.0.0.0/8").Contains(Range("11.0.0.0/8")));
  EXPECT_FALSE(Range("::/0").Contains(Range("10.0.0.0/8")));
  EXPECT_FALSE(Range("0.0.0.0/0").Contains(Range("::/0")));
}

TEST(AddressRangeTest, AroundKeepsTheFirstBitsAndRefusesWhatHasNone) {
  EXPECT_THAT(AddressRange::Around(Peer("10.1.2.3:80"), 15),
              IsOkAndHolds(Range("10.0.0.0/15")));
  EXPECT_THAT(AddressRange::Around(Peer("[::ffff:10.1.2.3]:80"), 8),
              IsOkAndHolds(Range("10.0.0.0/8")));
  EXPECT_THAT(AddressRange::Around(Peer("[2001:db8::1]:80"), 64),
              IsOkAndHolds(Range("2001:db8::/64")));
  EXPECT_THAT(AddressRange::Around(Address(), 8),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "range around unix:(unnamed): expected an IPv4 or an "
                       "IPv6 address"));
  for (const int length : {-1, 33}) {
    EXPECT_THAT(
        AddressRange::Around(Peer("10.1.2.3:80"), length),
        StatusIs(absl::StatusCode::kInvalidArgument,
                 absl::StrCat("range around 10.1.2.3:80, prefix length ",
                              length, ": expected one from 0 to 32")));
  }
  EXPECT_THAT(AddressRange::Around(Peer("[::1]:80"), 129),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("expected one from 0 to 128")));
}

TEST(AddressRangeTest, HashesAndComparesByValue) {
  Random random(20240615);
  std::vector<AddressRange> ranges = {Range("0.0.0.0/0"), Range("::/0")};
  for (int i = 0; i < 100; ++i) ranges.push_back(RandomRange(random));
  EXPECT_TRUE(absl::VerifyTypeImplementsAbslHashCorrectly(ranges));
  EXPECT_EQ(Range("10.0.0.0/8"), Range("::ffff:10.0.0.0/104"));
  EXPECT_NE(Range("10.0.0.0/8"), Range("10.0.0.0/9"));
  EXPECT_NE(Range("0.0.0.0/0"), Range("::/0"));
}

TEST(AddressRangeTest, OrdersARangeRightBeforeThoseInIt) {
  Random random(20240616);
  std::vector<AddressRange> ranges;
  for (int i = 0; i < 300; ++i) ranges.push_back(RandomRange(random));
  std::sort(ranges.begin(), ranges.end());
  for (auto outer = ranges.begin(); outer != ranges.end(); ++outer) {
    const auto contained = [&](const AddressRange& range) {
      return outer->Contains(range);
    };
    const auto end = std::find_if_not(outer, ranges.end(), contained);
    EXPECT_TRUE(std::none_of(end, ranges.end(), contained)) << *outer;
  }
}

}  // namespace
}  // namespace brood
