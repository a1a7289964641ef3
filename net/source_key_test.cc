// SPDX-License-Identifier: Apache-2.0
#include "brood/net/source_key.h"

#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/hash/hash_testing.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/net/address.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;

Address Peer(std::string_view text) {
  const absl::StatusOr<Address> peer = Address::Parse(text);
  EXPECT_THAT(peer, IsOk());
  return *peer;
}

SourceKey KeyOf(std::string_view peer) { return SourceKey::Of(Peer(peer)); }

class PerSource {
 public:
  // How many connections, this one included, come from where `peer` is.
  int Count(const Address& peer) { return ++counts_[SourceKey::Of(peer)]; }

 private:
  absl::flat_hash_map<SourceKey, int> counts_;
};

TEST(SourceKeyTest, HeaderExample) {
  PerSource sources;
  EXPECT_EQ(sources.Count(Peer("192.0.2.7:1")), 1);
  EXPECT_EQ(sources.Count(Peer("192.0.2.7:2")), 2);
  EXPECT_EQ(sources.Count(Peer("[::ffff:192.0.2.7]:3")), 3);
  EXPECT_EQ(sources.Count(Peer("192.0.2.8:1")), 1);
  EXPECT_EQ(sources.Count(Peer("[2001:db8::1]:1")), 1);
  EXPECT_EQ(sources.Count(Peer("[2001:db8::2:0:0:1]:1")), 2);
}

TEST(SourceKeyTest, IsAWholeIPv4AddressAndHalfAnIPv6One) {
  EXPECT_EQ(KeyOf("192.0.2.7:1"), KeyOf("192.0.2.7:2"));
  EXPECT_NE(KeyOf("192.0.2.7:1"), KeyOf("192.0.2.6:1"));
  EXPECT_EQ(KeyOf("[2001:db8::1]:1"), KeyOf("[2001:db8::ffff:1:2:3]:1"));
  EXPECT_NE(KeyOf("[2001:db8::1]:1"), KeyOf("[2001:db8:0:1::1]:1"));
  EXPECT_NE(KeyOf("0.0.0.0:1"), KeyOf("[::]:1"));
}

TEST(SourceKeyTest, IsAsLongAsLengthsSays) {
  const absl::StatusOr<SourceKey::Lengths> lengths =
      SourceKey::Lengths::Create(24, 48);
  ASSERT_THAT(lengths, IsOk());
  const auto key = [&](std::string_view peer) {
    return SourceKey::Of(Peer(peer), *lengths);
  };
  EXPECT_EQ(key("192.0.2.7:1").ToString(), "192.0.2.0/24");
  EXPECT_EQ(key("[2001:db8:1:2::1]:1").ToString(), "2001:db8:1::/48");
  EXPECT_EQ(key("192.0.2.7:1"), key("192.0.2.8:1"));
  EXPECT_NE(key("192.0.2.7:1"), key("192.0.3.7:1"));
  EXPECT_EQ(key("[2001:db8:1:2::1]:1"), key("[2001:db8:1:3::1]:1"));
  EXPECT_NE(key("[2001:db8:1:2::1]:1"), key("[2001:db8:2:2::1]:1"));
}

TEST(SourceKeyTest, OfNoBitsIsOneForAFamily) {
  const absl::StatusOr<SourceKey::Lengths> none =
      SourceKey::Lengths::Create(0, 0);
  ASSERT_THAT(none, IsOk());
  EXPECT_EQ(SourceKey::Of(Peer("192.0.2.7:1"), *none),
            SourceKey::Of(Peer("10.0.0.1:1"), *none));
  EXPECT_NE(SourceKey::Of(Peer("192.0.2.7:1"), *none),
            SourceKey::Of(Peer("[::1]:1"), *none));
}

TEST(SourceKeyTest, RefusesLengthsThatAreNone) {
  const struct {
    int ipv4;
    int ipv6;
    std::string message;
  } kCases[] = {
      {-1, 64, "length of an IPv4 source, -1 bits: expected 0 to 32"},
      {33, 64, "length of an IPv4 source, 33 bits: expected 0 to 32"},
      {32, -1, "length of an IPv6 source, -1 bits: expected 0 to 128"},
      {32, 129, "length of an IPv6 source, 129 bits: expected 0 to 128"},
  };
  for (const auto& test : kCases) {
    EXPECT_THAT(SourceKey::Lengths::Create(test.ipv4, test.ipv6),
                StatusIs(absl::StatusCode::kInvalidArgument, test.message));
  }
}

TEST(SourceKeyTest, OfALinkIsAnotherThanOfTheNext) {
  EXPECT_EQ(KeyOf("[fe80::1%2]:1"), KeyOf("[fe80::2%2]:1"));
  EXPECT_NE(KeyOf("[fe80::1%2]:1"), KeyOf("[fe80::1%3]:1"));
}

TEST(SourceKeyTest, OfUnixClientsIsOneUnlessTheirUserIsKnown) {
  EXPECT_EQ(KeyOf("unix:(unnamed)"), KeyOf("unix:/run/x"));
  EXPECT_EQ(KeyOf("unix:(unnamed)"), KeyOf("unix:@name"));
  EXPECT_EQ(SourceKey::OfUser(1000), SourceKey::OfUser(1000));
  EXPECT_NE(SourceKey::OfUser(1000), SourceKey::OfUser(0));
  EXPECT_NE(SourceKey::OfUser(0), KeyOf("unix:(unnamed)"));
}

TEST(SourceKeyTest, IsWrittenForAPerson) {
  EXPECT_EQ(absl::StrCat(KeyOf("192.0.2.7:1")), "192.0.2.7");
  EXPECT_EQ(absl::StrCat(KeyOf("[::ffff:192.0.2.7]:1")), "192.0.2.7");
  EXPECT_EQ(absl::StrCat(KeyOf("[2001:db8::1]:1")), "2001:db8::/64");
  EXPECT_EQ(absl::StrCat(KeyOf("[fe80::1%2]:1")), "fe80::/64%2");
  EXPECT_EQ(absl::StrCat(KeyOf("unix:/run/x")), "unix");
  EXPECT_EQ(absl::StrCat(SourceKey::OfUser(1000)), "user 1000");
}

TEST(SourceKeyTest, HashesAndOrdersByValue) {
  const std::vector<SourceKey> sorted = {
      KeyOf("unix:(unnamed)"),  SourceKey::OfUser(0), SourceKey::OfUser(1000),
      KeyOf("10.0.0.1:1"),      KeyOf("192.0.2.7:1"), KeyOf("[2001:db8::1]:1"),
      KeyOf("[2001:db9::1]:1"), KeyOf("[fe80::1]:1"), KeyOf("[fe80::1%2]:1"),
      KeyOf("[fe80::1%3]:1"),
  };
  EXPECT_TRUE(absl::VerifyTypeImplementsAbslHashCorrectly(sorted));
  for (size_t i = 1; i < sorted.size(); ++i) {
    EXPECT_LT(sorted[i - 1], sorted[i]);
  }
}

}  // namespace
}  // namespace brood
