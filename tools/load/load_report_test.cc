// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/load/load_report.h"

#include <cstdint>
#include <iostream>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/tools/load/load_plan.h"
#include "brood/tools/load/load_result.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Optional;

int Report(const LoadPlan& plan, const LoadResult& result, bool json) {
  std::cout << (json ? JsonReport(plan, result) : TextReport(plan, result));
  return ExitCodeOf(result);
}

std::string Verdict(const LoadResult& result) {
  if (result.failures.empty()) {
    return absl::StrCat("all ", result.whole, " whole");
  }
  const auto& [kind, failure] = *result.failures.begin();
  return absl::StrCat("at worst ", NameOf(kind), ": ", failure.first);
}

LoadPlan APlan() {
  LoadPlan plan = {.to = {*Address::Parse("127.0.0.1:7007")}};
  plan.duration = absl::Seconds(10);
  return plan;
}

LoadResult AResult() {
  LoadResult result;
  for (int i = 1; i <= 1000; ++i) {
    ++result.whole;
    ++result.messages;
    result.connect.Add(absl::Microseconds(10));
    result.connection.Add(absl::Microseconds(i));
    result.round_trip.Add(absl::Microseconds(i));
  }
  result.bytes_sent = result.bytes_received = 64'000;
  result.elapsed = absl::Seconds(2);
  result.cpu = absl::Seconds(0.5);
  return result;
}

TEST(LoadReportTest, ThePersonReadsHowManyHowFastAndHowLong) {
  EXPECT_EQ(
      TextReport(APlan(), AResult()),
      "127.0.0.1:7007: connections for 10s, at most 16 at once, 1 message of "
      "64 bytes each, echoed\n"
      "connections       1000 whole, 500.0/s in 2.00s\n"
      "messages          1000 whole, 500.0/s, 0.03 MB/s each way\n"
      "\n"
      "latency            p50       p90       p99     p99.9    p99.99       "
      "max\n"
      "connection       500us     900us     990us     999us    1.00ms    "
      "1.00ms\n"
      "connect         10.0us    10.0us    10.0us    10.0us    10.0us    "
      "10.0us\n"
      "round trip       500us     900us     990us     999us    1.00ms    "
      "1.00ms\n"
      "\n"
      "generator   used 25 % of one processor, waited for one 0 %\n");
  EXPECT_EQ(Report(APlan(), AResult(), /*json=*/false), 0);
  EXPECT_EQ(Verdict(AResult()), "all 1000 whole");
}

TEST(LoadReportTest, EachKindOfFailureHasItsLineAndItsExitCode) {
  std::set<int> codes;
  for (int i = 0; i < kLoadFailures; ++i) {
    const auto kind = static_cast<LoadFailure>(i);
    LoadResult result = AResult();
    result.Fail(kind, "what it was");
    result.Fail(kind, "what it was later");
    EXPECT_THAT(TextReport(APlan(), result),
                HasSubstr(absl::StrCat("         2 ", DescriptionOf(kind),
                                       "; the first: what it was\n")));
    EXPECT_THAT(JsonReport(APlan(), result),
                HasSubstr(absl::StrCat("\"", NameOf(kind),
                                       "\":{\"count\":2,\"first\":\"what it "
                                       "was\"}")));
    EXPECT_EQ(ExitCodeOf(result), ExitCodeOf(kind));
    EXPECT_GT(ExitCodeOf(kind), 2);
    EXPECT_TRUE(codes.insert(ExitCodeOf(kind)).second);
  }
}

TEST(LoadReportTest, OfSeveralFailuresTheWorstIsTheExitCode) {
  LoadResult result = AResult();
  result.Fail(LoadFailure::kRefused, "refused");
  result.Fail(LoadFailure::kWrongBytes, "wrong");
  result.Fail(LoadFailure::kOther, "other");
  EXPECT_EQ(ExitCodeOf(result), ExitCodeOf(LoadFailure::kWrongBytes));
  EXPECT_EQ(Verdict(result), "at worst wrong_bytes: wrong");
}

TEST(LoadReportTest, AGeneratorThatWasTheBottleneckSaysSo) {
  LoadResult result = AResult();
  result.cpu = absl::Seconds(1.96);
  EXPECT_THAT(TextReport(APlan(), result),
              HasSubstr("the generator was the bottleneck: it used 98 % of one "
                        "processor; the figures are its own, not the "
                        "server's\n"));
  EXPECT_THAT(JsonReport(APlan(), result),
              HasSubstr("\"was_bottleneck\":true"));
  result.processes = 2;
  EXPECT_FALSE(GeneratorWasBottleneck(result));
  EXPECT_THAT(TextReport(APlan(), result), HasSubstr("49 % of 2 processors"));
  EXPECT_THAT(JsonReport(APlan(), result),
              HasSubstr("\"was_bottleneck\":false"));
  result.waited_for_cpu = absl::Seconds(2);
  EXPECT_THAT(TextReport(APlan(), result), HasSubstr("others, perhaps"));
}

TEST(LoadReportTest, ManyConnectionsFromOneAddressAreAdvisedToHaveMore) {
  constexpr char kAdvice[] = "searches long for a free port";
  LoadResult result = AResult();
  result.whole = 20'002;  // In two seconds.
  LoadPlan plan = APlan();
  EXPECT_THAT(TextReport(plan, result), HasSubstr(kAdvice));
  plan.from = {*Address::Parse("127.0.0.1:0"), *Address::Parse("127.0.0.2:0")};
  EXPECT_THAT(TextReport(plan, result), Not(HasSubstr(kAdvice)));
  plan.from.clear();
  plan.to = {*Address::Parse("unix:@name")};
  EXPECT_THAT(TextReport(plan, result), Not(HasSubstr(kAdvice)));
}

TEST(LoadReportTest, WithARateItSaysHowLateItWas) {
  LoadPlan plan = APlan();
  plan.rate = 500;
  LoadResult result = AResult();
  result.lateness.Add(absl::Microseconds(123));
  EXPECT_THAT(
      TextReport(plan, result),
      AllOf(HasSubstr(", 500/s"), HasSubstr("began 123us late at p99")));
}

TEST(LoadReportTest, TheTimeUntilTheNextWasDueBelongsToARate) {
  LoadPlan plan = APlan();
  plan.rate = 10;
  LoadResult result;
  result.whole = 5;
  result.elapsed = absl::Milliseconds(401);
  EXPECT_THAT(TextReport(plan, result), HasSubstr("5 whole, 10.0/s in 401ms"));
  EXPECT_THAT(JsonReport(plan, result),
              HasSubstr("\"connections_per_second\":10.000,"));
  // Who was slower was slower.
  result.elapsed = absl::Seconds(1);
  EXPECT_THAT(TextReport(plan, result), HasSubstr("5 whole, 5.0/s in 1.00s"));
}

TEST(LoadReportTest, LatenciesOfNobodyAreNull) {
  LoadResult result;
  result.Fail(LoadFailure::kRefused, "refused");
  EXPECT_THAT(
      JsonReport(APlan(), result),
      HasSubstr("\"connection_us\":{\"count\":0,\"min\":null,\"mean\":null,"
                "\"p50\":null,"));
}

TEST(LoadReportTest, JsonIsOneLine) {
  LoadPlan plan = APlan();
  plan.to.push_back(*Address::Parse("unix:/a\\x2cb"));
  LoadResult result = AResult();
  result.Fail(LoadFailure::kOther, "a \"quote\"\nand a line");
  const std::string json = JsonReport(plan, result);
  EXPECT_THAT(json, AllOf(EndsWith("}\n"), HasSubstr("\\\"quote\\\""),
                          HasSubstr("\"p99.9\":999."),
                          HasSubstr("\"connections_per_second\":500.000"),
                          HasSubstr("\"exit_code\":18")));
  EXPECT_THAT(json.substr(0, json.size() - 1), Not(HasSubstr("\n")));
}

TEST(LoadReportTest, ARunThatDidNotEndByItselfSaysSo) {
  LoadResult result = AResult();
  result.stopped = true;
  result.abandoned = 7;
  EXPECT_THAT(TextReport(APlan(), result), HasSubstr("stopped; 7 were open\n"));
  result.gave_up = true;
  EXPECT_THAT(TextReport(APlan(), result), HasSubstr("gave up"));
}

TEST(LoadReportTest, ProgressSaysHowFastAndHowLongStill) {
  const LoadProgress progress = {.elapsed = absl::Seconds(2),
                                 .whole = 900,
                                 .failed = 100,
                                 .messages = 900,
                                 .open = 16};
  EXPECT_EQ(ProgressReport(APlan(), progress),
            "1000 connections, 500/s, 100 failed, 16 open, 8s to go");
  LoadPlan plan = APlan();
  plan.duration.reset();
  plan.connections = 11'000;
  EXPECT_THAT(ProgressReport(plan, progress), EndsWith("20s to go"));
  plan.duration = absl::Seconds(5);
  EXPECT_THAT(ProgressReport(plan, progress), EndsWith("3s to go"));
}

TEST(LoadResultTest, ItTravelsBetweenProcesses) {
  LoadResult result = AResult();
  result.Fail(LoadFailure::kReset, "two\nlines \"and\" more");
  result.Fail(LoadFailure::kReset, "");
  result.stopped = true;
  result.abandoned = 3;
  result.waited_for_cpu = absl::Nanoseconds(12345);
  EXPECT_THAT(LoadResult::Decode(result.Encode()), Optional(result));
  EXPECT_THAT(LoadResult::Decode(LoadResult().Encode()),
              Optional(LoadResult()));
  for (const char* text : {"", "1 2 3", "a\nb\nc\nd\ne"}) {
    EXPECT_FALSE(LoadResult::Decode(text).has_value()) << text;
  }
}

TEST(LoadResultTest, MergedItIsTheSumOfBoth) {
  LoadResult merged = AResult();
  merged.Fail(LoadFailure::kReset, "first");
  LoadResult other = AResult();
  other.Fail(LoadFailure::kReset, "second");
  other.Fail(LoadFailure::kClosed, "third");
  other.elapsed = absl::Seconds(5);
  merged.Merge(other);
  EXPECT_EQ(merged.whole, 2000);
  EXPECT_EQ(merged.failed(), 3);
  EXPECT_EQ(merged.failures[LoadFailure::kReset].first, "first");
  EXPECT_EQ(merged.elapsed, absl::Seconds(5));
  EXPECT_EQ(merged.processes, 2);
  EXPECT_EQ(merged.connection.count(), 2000);
}

}  // namespace
}  // namespace brood
