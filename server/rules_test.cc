// SPDX-License-Identifier: Apache-2.0
#include "brood/server/rules.h"

#include <cstddef>
#include <random>
#include <string>
#include <string_view>
#include <utility>
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
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

Address Peer(std::string_view host) {
  return *Address::Parse(absl::StrCat(host, ":1234"));
}

absl::StatusOr<std::string> Judge(std::string_view text, const Address& peer) {
  const absl::StatusOr<Rules> rules = Rules::Parse(text, "office.rules");
  if (!rules.ok()) return rules.status();
  const Rules::Match match = rules->Lookup(peer);
  return absl::StrCat(
      match.allowed ? "welcome: " : "go away: ",
      match.rule == nullptr ? "nobody named you" : match.rule->ToString());
}

constexpr std::string_view kOffice =
    "# The office, but not its printer.\n"
    "deny 192.0.2.9\n"
    "allow 192.0.2.0/24, 2001:db8::/32\n"
    "\n"
    "  allow\tunix                        # whoever comes by a unix socket\r\n"
    "deny all                          # of whatever family\n"
    "allow 198.51.100.1\n";

TEST(RulesTest, HeaderExampleTheFirstRuleThatNamesAClientDecides) {
  EXPECT_THAT(Judge(kOffice, Peer("192.0.2.9")),
              IsOkAndHolds("go away: office.rules:2: deny 192.0.2.9"));
  for (const char* host :
       {"192.0.2.8", "[2001:db8::1]", "[::ffff:192.0.2.8]"}) {
    EXPECT_THAT(Judge(kOffice, Peer(host)),
                IsOkAndHolds("welcome: office.rules:3: "
                             "allow 192.0.2.0/24, 2001:db8::/32"));
  }
  EXPECT_THAT(Judge(kOffice, Address()),
              IsOkAndHolds("welcome: office.rules:5: allow\tunix"));
  // Also whom a later rule names.
  for (const char* host : {"198.51.100.1", "[2001:db9::1]"}) {
    EXPECT_THAT(Judge(kOffice, Peer(host)),
                IsOkAndHolds("go away: office.rules:6: deny all"));
  }
}

TEST(RulesTest, DeniesWhomNoRuleNamesWhereSomeAreAllowed) {
  const Address other = Peer("203.0.113.7");
  for (const char* everybody : {"", "\n\n", "# nothing\n", "deny 10.0.0.0/8",
                                "deny unix\ndeny 10.0.0.1\n"}) {
    EXPECT_THAT(Judge(everybody, other),
                IsOkAndHolds("welcome: nobody named you"));
  }
  for (const char* some : {"allow 10.0.0.0/8", "allow unix\ndeny 10.0.0.0/8",
                           "deny 10.0.0.0/8\nallow 10.0.0.1"}) {
    EXPECT_THAT(Judge(some, other), IsOkAndHolds("go away: nobody named you"));
  }
  EXPECT_THAT(Judge("deny 10.0.0.0/8", Address()),
              IsOkAndHolds("welcome: nobody named you"));
  EXPECT_TRUE(Rules().Lookup(other).allowed);
}

TEST(RulesTest, TellsTheFamiliesApart) {
  EXPECT_THAT(Judge("deny 0.0.0.0/0", Peer("[::1]")),
              IsOkAndHolds("welcome: nobody named you"));
  EXPECT_THAT(Judge("deny ::/0", Peer("[::ffff:10.0.0.1]")),
              IsOkAndHolds("welcome: nobody named you"));
  EXPECT_THAT(Judge("deny 0.0.0.0/0\ndeny ::/0", *Address::Parse("unix:/x")),
              IsOkAndHolds("welcome: nobody named you"));
  EXPECT_THAT(Judge("deny all", *Address::Parse("unix:@x")),
              IsOkAndHolds("go away: office.rules:1: deny all"));
  EXPECT_THAT(Judge("allow unix\ndeny all", *Address::Parse("unix:@x")),
              IsOkAndHolds("welcome: office.rules:1: allow unix"));
}

TEST(RulesTest, SaysLineAndColumnOfWhatIsWrong) {
  const auto error = [](std::string_view text) {
    return std::string(Rules::Parse(text, "r").status().message());
  };
  EXPECT_EQ(
      error("deny 10.0.0.0/8\n  permit all\n"),
      "r:2:3: \"permit\": expected \"allow\" or \"deny\", then ranges, as "
      "in allow 10.0.0.0/8, 2001:db8::/32");
  EXPECT_EQ(error("# x\n\nallow 10.0.0.0/8,  10.0.0.1/8\n"),
            "r:3:20: address range \"10.0.0.1/8\": expected 10.0.0.0/8, which "
            "has no bit set beyond its first 8, at character 1");
  EXPECT_THAT(error("deny nobody"),
              StartsWith("r:1:6: address range \"nobody\": expected an IPv4"));
  EXPECT_THAT(error("deny nobody"),
              HasSubstr("; or the word \"all\" or \"unix\""));
  EXPECT_EQ(error("allow 10.0.0.0/8 10.1.0.0/16"),
            "r:1:7: address range \"10.0.0.0/8 10.1.0.0/16\": expected nothing "
            "more at character 11");
  EXPECT_THAT(error("allow"), StartsWith("r:1:6: address range \"\""));
  EXPECT_THAT(error("allow # all"), StartsWith("r:1:6: address range \"\""));
  EXPECT_THAT(error("deny 10.0.0.1,\n"),
              StartsWith("r:1:15: address range \"\""));
  EXPECT_THAT(error("Allow all"), StartsWith("r:1:1: \"Allow\""));
  EXPECT_THAT(error("allowall"), StartsWith("r:1:1: \"allowall\""));
  EXPECT_THAT(error("\xef\xbb\xbf"
                    "deny all"),
              StartsWith("r:1:1: \"\\xef\\xbb\\xbf"));
  EXPECT_THAT(error(std::string_view("allow x\0y", 9)),
              StartsWith("r:1:7: address range \"x\\x00y\""));
  for (const char* text : {"x", "deny x", "deny all\nallow 10/8"}) {
    EXPECT_THAT(Rules::Parse(text, "r"),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         ::testing::Not(HasSubstr("\n"))));
  }
}

TEST(RulesTest, TakesFlagsWithDenialsFirst) {
  const absl::StatusOr<Rules> rules =
      Rules::FromFlags({"10.0.0.0/8,unix"}, {"10.0.0.13", "10.1.0.0/16"});
  ASSERT_THAT(rules, IsOk());
  const auto decision = [&](const Address& peer) {
    const Rules::Match match = rules->Lookup(peer);
    return std::pair<bool, std::string>(
        match.allowed, match.rule == nullptr ? "" : match.rule->ToString());
  };
  EXPECT_EQ(decision(Peer("10.0.0.13")),
            (std::pair<bool, std::string>(false, "--deny=10.0.0.13")));
  EXPECT_EQ(decision(Peer("10.1.0.1")),
            (std::pair<bool, std::string>(false, "--deny=10.1.0.0/16")));
  EXPECT_EQ(decision(Peer("10.2.0.1")),
            (std::pair<bool, std::string>(true, "--allow=10.0.0.0/8,unix")));
  EXPECT_EQ(decision(Peer("11.0.0.1")),
            (std::pair<bool, std::string>(false, "")));
  EXPECT_THAT(Rules::FromFlags({}, {})->rules(), IsEmpty());
  EXPECT_TRUE(Rules::FromFlags({}, {"10.0.0.1"})->allows_others());
  EXPECT_THAT(Rules::FromFlags({"10.0.0.1/8"}, {}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       StartsWith("--allow: address range \"10.0.0.1/8\": ")));
}

TEST(RulesTest, AgreesWithALookAtOneRuleAfterTheOther) {
  std::mt19937 random(5);
  const auto below = [&](unsigned n) {
    return static_cast<unsigned>(random() % n);
  };
  // Few addresses, so that ranges are in one another and equal.
  const auto any_host = [&](bool v4) {
    return v4 ? absl::StrCat("10.0.", below(4), ".", below(8))
              : absl::StrCat("2001:db8::", below(4), ":", below(8));
  };
  size_t named = 0;
  for (int round = 0; round < 200; ++round) {
    std::string text;
    std::vector<std::pair<bool, AddressRange>> plain;
    for (unsigned i = below(30); i > 0; --i) {
      const bool v4 = below(2) == 0;
      const bool allows = below(2) == 0;
      const std::string host = any_host(v4);
      const Address around = Peer(v4 ? host : absl::StrCat("[", host, "]"));
      const AddressRange range = *AddressRange::Around(
          around, static_cast<int>(v4 ? 16 + below(17) : 96 + below(33)));
      absl::StrAppend(&text, allows ? "allow " : "deny ", range, "\n");
      plain.emplace_back(allows, range);
    }
    const absl::StatusOr<Rules> rules = Rules::Parse(text, "r");
    ASSERT_THAT(rules, IsOk());
    for (int i = 0; i < 100; ++i) {
      const bool v4 = below(2) == 0;
      const std::string host = any_host(v4);
      const Address peer = Peer(v4 ? host : absl::StrCat("[", host, "]"));
      size_t first = 0;
      while (first < plain.size() && !plain[first].second.Contains(peer)) {
        ++first;
      }
      const Rules::Match match = rules->Lookup(peer);
      if (first == plain.size()) {
        ASSERT_EQ(match.rule, nullptr) << peer << "\n" << text;
        ASSERT_EQ(match.allowed, rules->allows_others());
      } else {
        ASSERT_EQ(match.rule, &rules->rules()[first]) << peer << "\n" << text;
        ASSERT_EQ(match.allowed, plain[first].first);
        ++named;
      }
    }
  }
  EXPECT_GT(named, 5000);
}

}  // namespace
}  // namespace brood
