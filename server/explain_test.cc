// SPDX-License-Identifier: Apache-2.0
#include "brood/server/explain.h"

#include <iostream>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/source_key.h"
#include "brood/proc/posix.h"
#include "brood/server/admission.h"
#include "brood/server/rules.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::StartsWith;

constexpr absl::Duration kNow = absl::Hours(1);

Rules Parsed(std::string_view text) {
  return *Rules::Parse(text, "office.rules");
}

int PrintExplanation(std::string_view flag, const Rules& rules,
                     const Admission& admission) {
  const absl::StatusOr<std::string> lines =
      Explain(flag, rules, admission, MonotonicNow());
  if (!lines.ok()) std::cerr << lines.status().message() << "\n";
  if (lines.ok()) std::cout << *lines;
  return lines.ok() ? 0 : 2;
}

TEST(ExplainTest, HeaderExample) {
  testing::internal::CaptureStdout();
  EXPECT_EQ(PrintExplanation("203.0.113.7",
                             Parsed("\n\ndeny 203.0.113.0/24\nallow all"),
                             Admission({})),
            0);
  EXPECT_EQ(testing::internal::GetCapturedStdout(),
            "203.0.113.7: denied by office.rules:3: deny 203.0.113.0/24\n");
  testing::internal::CaptureStderr();
  EXPECT_EQ(PrintExplanation("nobody", Rules(), Admission({})), 2);
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              StartsWith("client \"nobody\": expected an address"));
}

TEST(ExplainTest, SaysWhichLimitsWouldSpeakAndHowThingsStand) {
  Admission admission({.max_connections = 3,
                       .max_connections_per_source = 8,
                       .rate_per_source = {.connections = 5, .burst = 2}});
  const auto arrive = [&](std::string_view peer) {
    return admission.Arrive(Admission::Client::Of(*Address::Parse(peer)), kNow);
  };
  const Rules rules = Parsed("allow 192.0.2.0/24\n");
  const Admission::Arrival one = arrive("192.0.2.7:1");
  EXPECT_THAT(
      Explain("192.0.2.7", rules, admission, kNow),
      IsOkAndHolds("192.0.2.7: allowed by office.rules:1: allow 192.0.2.0/24\n"
                   "counts as 192.0.2.7: 1 connections, at most 8; rate 5/s,2\n"
                   "all together: 1 connections, at most 3\n"
                   "now: 192.0.2.7: let in\n"));
  const Admission::Arrival two = arrive("192.0.2.7:1");
  EXPECT_THAT(
      Explain("192.0.2.7", rules, admission, kNow),
      IsOkAndHolds("192.0.2.7: allowed by office.rules:1: allow 192.0.2.0/24\n"
                   "counts as 192.0.2.7: 2 connections, at most 8; rate 5/s,2\n"
                   "all together: 2 connections, at most 3\n"
                   "now: 192.0.2.7: more than 5/s,2 from this source; again in "
                   "200ms\n"));
  const Admission::Arrival three = arrive("192.0.2.8:1");
  EXPECT_THAT(
      Explain("192.0.2.9:80", rules, admission, kNow),
      IsOkAndHolds("192.0.2.9:80: allowed by office.rules:1: allow "
                   "192.0.2.0/24\n"
                   "counts as 192.0.2.9: 0 connections, at most 8; rate 5/s,2\n"
                   "all together: 3 connections, at most 3\n"
                   "now: 192.0.2.9: 3 of 3 connections\n"));
}

TEST(ExplainTest, SaysThatNoRuleNamesAClient) {
  EXPECT_THAT(
      Explain("2001:db8::7", Rules(), Admission({}), kNow),
      IsOkAndHolds("2001:db8::7: allowed, for no rule names it\n"
                   "counts as 2001:db8::/64: 0 connections, no limit; rate no "
                   "limit\n"
                   "all together: 0 connections, no limit\n"
                   "now: 2001:db8::/64: let in\n"));
  EXPECT_THAT(Explain("2001:db8::7", Parsed("allow unix"), Admission({}), kNow),
              IsOkAndHolds("2001:db8::7: denied, for no rule names it and "
                           "there are rules that allow\n"));
}

TEST(ExplainTest, TakesAClientInEachOfItsForms) {
  const Rules deny = Parsed("deny all");
  for (const char* client :
       {"10.0.0.1", "10.0.0.1:80", "::1", "::ffff:10.0.0.1", "[::1]:80",
        "[::1]", "unix", "unix:/run/x", "unix:@x", "unix:(unnamed)"}) {
    EXPECT_THAT(Explain(client, deny, Admission({}), kNow),
                IsOkAndHolds(StartsWith(client)));
  }
  for (const char* other : {"", ":80", "10.0.0.0/8", "10.0.0", "localhost",
                            "10.0.0.1 ", "[::1", "unix:", "all"}) {
    EXPECT_THAT(Explain(other, deny, Admission({}), kNow),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << other;
  }
  EXPECT_THAT(
      Explain("2001:db8:1:2::7", Rules(), Admission({}), kNow,
              *SourceKey::Lengths::Create(32, 48)),
      IsOkAndHolds(::testing::HasSubstr("counts as 2001:db8:1::/48: ")));
}

TEST(ExplainTest, SaysWhatItMeantToForget) {
  const SourceKey source = SourceKey::Of(*Address::Parse("192.0.2.7:9"));
  EXPECT_THAT(
      ExplainForgotten(
          {.source = source, .before = 0, .now = 2, .heard_again = true}),
      IsOkAndHolds("192.0.2.7: 0 left of its rate, now 2; heard again\n"));
  EXPECT_THAT(
      ExplainForgotten(
          {.source = source, .before = 1, .now = 2, .heard_again = false}),
      IsOkAndHolds("192.0.2.7: 1 left of its rate, now 2\n"));
  EXPECT_THAT(ExplainForgotten({.source = source,
                                .before = std::nullopt,
                                .now = std::nullopt,
                                .heard_again = true}),
              IsOkAndHolds("192.0.2.7: heard again\n"));
  EXPECT_THAT(ExplainForgotten({.source = source,
                                .before = std::nullopt,
                                .now = std::nullopt,
                                .heard_again = false}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       "no rate is limited, so there is nothing to forget"));
}

}  // namespace
}  // namespace brood
