// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/load/load_options.h"

#include <cstdint>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/proxy_protocol.h"
#include "brood/tools/load/load_plan.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Optional;
using ::testing::SizeIs;

int PrintServers(absl::Span<const std::string_view> args) {
  const absl::StatusOr<LoadOptions> options = ParseLoadOptions(args);
  if (!options.ok()) {
    std::cerr << options.status().message() << "\n";
    return 2;
  }
  for (const Address& to : options->plan.to) std::cout << to << "\n";
  return 0;
}

absl::StatusOr<LoadOptions> Parse(std::string_view line) {
  const std::vector<std::string_view> args =
      absl::StrSplit(line, ' ', absl::SkipEmpty());
  return ParseLoadOptions(args);
}

TEST(LoadOptionsTest, WithoutFlagsItIsTheServersOwnPlaceForTenSeconds) {
  const absl::StatusOr<LoadOptions> options = Parse("");
  ASSERT_THAT(options, IsOk());
  EXPECT_THAT(options->plan.to, ElementsAre(*Address::Parse("127.0.0.1:7007")));
  EXPECT_THAT(options->plan.duration, Optional(absl::Seconds(10)));
  EXPECT_EQ(options->plan.connections, std::nullopt);
  EXPECT_EQ(options->plan.concurrency, 16);
  EXPECT_EQ(options->processes, 1);
  EXPECT_EQ(PrintServers({}), 0);
  EXPECT_EQ(PrintServers({"--to=nowhere"}), 2);
}

TEST(LoadOptionsTest, EveryFlagFindsItsPlace) {
  const absl::StatusOr<LoadOptions> options = Parse(
      "--to=127.0.0.1:1,unix:@name --concurrency=7 --connections=1000 "
      "--duration=3s --rate=12.5 --processes=2 --service=discard --size=100 "
      "--messages=9 --think_time=5ms --proxy_protocol=v1 "
      "--proxy_from=10.0.0.0/30 --timeout=2s --output=json");
  ASSERT_THAT(options, IsOk());
  const LoadPlan& plan = options->plan;
  EXPECT_THAT(plan.to, SizeIs(2));
  EXPECT_EQ(plan.concurrency, 7);
  EXPECT_THAT(plan.connections, Optional(uint64_t{1000}));
  EXPECT_THAT(plan.duration, Optional(absl::Seconds(3)));
  EXPECT_THAT(plan.rate, Optional(12.5));
  EXPECT_EQ(options->processes, 2);
  EXPECT_EQ(plan.service, LoadPlan::Service::kDiscard);
  EXPECT_EQ(plan.message_size, 100);
  EXPECT_THAT(plan.messages, Optional(uint64_t{9}));
  EXPECT_EQ(plan.think_time, absl::Milliseconds(5));
  ASSERT_TRUE(plan.proxy.has_value());
  EXPECT_EQ(plan.proxy->version, ProxyHeader::Version::k1);
  EXPECT_THAT(plan.proxy->clients, SizeIs(4));
  EXPECT_EQ(plan.timeout, absl::Seconds(2));
  EXPECT_EQ(options->output, LoadOptions::Output::kJson);
}

TEST(LoadOptionsTest, ConnectionsAloneHaveNoLimitOfTime) {
  const absl::StatusOr<LoadOptions> options = Parse("--connections=5");
  ASSERT_THAT(options, IsOk());
  EXPECT_EQ(options->plan.duration, std::nullopt);
}

TEST(LoadOptionsTest, SourcesAreManyHosts) {
  const absl::StatusOr<LoadOptions> options =
      Parse("--from=127.0.0.1-127.0.0.50,127.1.0.0/24");
  ASSERT_THAT(options, IsOk());
  EXPECT_THAT(options->plan.from, SizeIs(50 + 256));
}

TEST(LoadOptionsTest, MessagesMayBeUnlimited) {
  const absl::StatusOr<LoadOptions> options = Parse("--messages=unlimited");
  ASSERT_THAT(options, IsOk());
  EXPECT_EQ(options->plan.messages, std::nullopt);
}

TEST(LoadOptionsTest, WhatIsWrongIsNamedInOneLine) {
  struct Case {
    std::string_view line;
    std::string_view named;
    std::string_view allowed;
  };
  for (const Case& wrong : std::vector<Case>{
           {"--to=nowhere", "--to", "expected"},
           {"--to=127.0.0.1:0", "--to=\"127.0.0.1:0\"", "allowed is addresses"},
           {"--from=127.0.0.1:80", "--from", "without a port"},
           {"--from=127.0.0.0/8", "127.0.0.0/8", "65536 hosts at most"},
           {"--from=127.0.0.9-127.0.0.1", "127.0.0.9-", "lower address first"},
           {"--from=::1", "from [::1]:0", "the same family"},
           {"--to=unix:@a --from=127.0.0.1", "unix:@a", "TCP"},
           {"--concurrency=0", "--concurrency=\"0\"", "from 1 to 1000000"},
           {"--connections=-1", "--connections=\"-1\"", "a number from 1"},
           {"--duration=0s", "--duration=\"0s\"", "from 1ms to 24h"},
           {"--duration=5", "--duration=\"5\"", "a duration"},
           {"--rate=0", "--rate=\"0\"", "from 0.001"},
           {"--rate=1e3", "--rate=\"1e3\"", "from 0.001"},
           {"--rate=nan", "--rate=\"nan\"", "from 0.001"},
           {"--processes=257", "--processes=\"257\"", "from 1 to 256"},
           {"--processes=17", "--processes=17", "--concurrency=16"},
           {"--service=http", "--service=\"http\"", "echo, discard or none"},
           {"--size=0", "--size=\"0\"", "from 1 to 1073741824"},
           {"--messages=0", "--messages=\"0\"", "unlimited"},
           {"--messages=unlimited --connections=1", "--messages=unlimited",
            "needs --duration"},
           {"--think_time=1s", "--think_time", "needs --messages"},
           {"--proxy_protocol=v3", "--proxy_protocol=\"v3\"", "v1 or v2"},
           {"--proxy_from=10.0.0.1", "--proxy_from", "needs --proxy_protocol"},
           {"--proxy_protocol=v1 --proxy_from=x", "--proxy_from", "a host"},
           {"--service=none --size=5", "--size", "--service=none"},
           {"--timeout=0s", "--timeout=\"0s\"", "from 1ms to 24h"},
           {"--output=xml", "--output=\"xml\"", "text or json"},
           {"--rat=5", "--rat", "--rate"},
           {"--rate=1 --rate=2", "--rate is given twice", "once"},
           {"127.0.0.1:7007", "127.0.0.1:7007", "--"},
       }) {
    EXPECT_THAT(Parse(wrong.line),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(wrong.named), HasSubstr(wrong.allowed),
                               Not(HasSubstr("\n")))))
        << wrong.line;
  }
}

TEST(LoadOptionsTest, HelpNamesEveryExitCodeAndIsNarrow) {
  const absl::StatusOr<LoadOptions> options = Parse("--help --processes=99");
  ASSERT_THAT(options, IsOk());
  EXPECT_TRUE(options->help);
  const std::string usage = LoadUsage();
  for (const std::string_view part :
       {"--to=", "--rate=", "10  wrong_bytes", "14  refused", "17  unanswered",
        "18  other"}) {
    EXPECT_THAT(usage, HasSubstr(part));
  }
  for (const std::string_view line : absl::StrSplit(usage, '\n')) {
    EXPECT_LE(line.size(), 80) << line;
  }
}

}  // namespace
}  // namespace brood
