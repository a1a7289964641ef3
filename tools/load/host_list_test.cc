// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/load/host_list.h"

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_join.h"
#include "brood/net/address.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;

absl::StatusOr<size_t> HowMany(std::string_view flag) {
  const absl::StatusOr<std::vector<Address>> hosts = ParseHosts(flag);
  if (!hosts.ok()) return hosts.status();  // Quotes what is no host.
  return hosts->size();
}

std::string Hosts(std::string_view text) {
  const absl::StatusOr<std::vector<Address>> hosts = ParseHosts(text);
  EXPECT_THAT(hosts, IsOk());
  return hosts.ok() ? absl::StrJoin(*hosts, " ") : "";
}

TEST(HostListTest, OneHostIsOne) {
  EXPECT_EQ(Hosts("127.0.0.1"), "127.0.0.1:0");
  EXPECT_EQ(Hosts("::1"), "[::1]:0");
}

TEST(HostListTest, AFirstAndALastAreAllBetweenThem) {
  EXPECT_EQ(Hosts("127.0.0.254-127.0.1.1"),
            "127.0.0.254:0 127.0.0.255:0 127.0.1.0:0 127.0.1.1:0");
  EXPECT_EQ(Hosts("127.0.0.7-127.0.0.7"), "127.0.0.7:0");
  EXPECT_EQ(Hosts("2001:db8::ffff-2001:db8::1:0"),
            "[2001:db8::ffff]:0 [2001:db8::1:0]:0");
}

TEST(HostListTest, ARangeIsAllItsHosts) {
  EXPECT_EQ(Hosts("127.0.0.4/30"),
            "127.0.0.4:0 127.0.0.5:0 127.0.0.6:0 127.0.0.7:0");
  EXPECT_EQ(Hosts("2001:db8::/127"), "[2001:db8::]:0 [2001:db8::1]:0");
  EXPECT_EQ(Hosts("127.0.0.9/32"), "127.0.0.9:0");
  EXPECT_EQ(Hosts("255.255.255.255/32"), "255.255.255.255:0");
}

TEST(HostListTest, AListKeepsItsOrder) {
  EXPECT_EQ(Hosts("127.0.0.3,127.0.0.1,127.0.0.3"),
            "127.0.0.3:0 127.0.0.1:0 127.0.0.3:0");
}

TEST(HostListTest, ThereAreSoManyAtMost) {
  EXPECT_THAT(HowMany("127.1.0.0/16"), IsOkAndHolds(kMaxHosts));
  for (const char* text : {"127.1.0.0/16,127.0.0.1", "0.0.0.0/0", "::/0"}) {
    EXPECT_THAT(HowMany(text), StatusIs(absl::StatusCode::kInvalidArgument))
        << text;
  }
}

TEST(HostListTest, WhatIsNoHostIsRefused) {
  for (const char* text :
       {"", ",", "127.0.0.1,", "127.0.0.1:80", "[::1]:80", "[::1]", "localhost",
        "127.0.0.1/8", "127.0.0.2-127.0.0.1", "127.0.0.1-::1", "127.0.0.1-",
        "-127.0.0.1", "unix:/x", "127.0.0.0/33", "127.0.0.0/-1"}) {
    EXPECT_THAT(HowMany(text), StatusIs(absl::StatusCode::kInvalidArgument))
        << text;
  }
}

}  // namespace
}  // namespace brood
