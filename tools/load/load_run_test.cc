// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/load/load_run.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/log/check.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/proxy_protocol.h"
#include "brood/net/stream.h"
#include "brood/proc/posix.h"
#include "brood/tools/load/histogram.h"
#include "brood/tools/load/load_plan.h"
#include "brood/tools/load/load_result.h"
#include "brood/tools/load/small_server.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Key;
using ::testing::Lt;

using Service = LoadPlan::Service;

absl::StatusOr<absl::Duration> WaitOfTheUnluckiest(const LoadPlan& plan) {
  const absl::StatusOr<LoadResult> result =
      RunLoad(plan, [](const LoadProgress& progress) {
        return progress.failed == 0;  // Or stop.
      });
  if (!result.ok()) return result.status();
  return result->connection.max();
}

absl::StatusOr<LoadResult> LoadOf(const SmallServer& server) {
  LoadPlan plan = {.to = {server.address()}, .concurrency = 2};
  plan.connections = 3;
  return RunLoad(plan, [](const LoadProgress&) { return true; });
}

LoadPlan PlanTo(const Address& to, uint64_t connections,
                size_t concurrency = 4) {
  LoadPlan plan = {.to = {to}, .concurrency = concurrency};
  plan.connections = connections;
  return plan;
}

LoadResult ResultOf(const LoadPlan& plan, size_t processes = 1) {
  absl::StatusOr<LoadResult> result = RunLoadInProcesses(
      plan, processes, [](const LoadProgress&) { return true; });
  CHECK_OK(result);
  return *std::move(result);
}

void Echo(Stream client, int) { EchoAll(client); }

// Until `size` bytes have come, or the end.
std::string ReadExactly(Stream& client, size_t size) {
  std::string text(size, '\0');
  size_t have = 0;
  while (have < size) {
    const absl::StatusOr<IoResult> got =
        client.Read(absl::MakeSpan(text).subspan(have));
    if (!got.ok() || got->end()) break;
    have += *got->bytes();
  }
  text.resize(have);
  return text;
}

// For so long; who comes meanwhile waits.
void StandStill(Stream& client, absl::Duration time) {
  (void)PollUntil(client.fd(), /*events=*/0, absl::Now() + time);
}

TEST(LoadRunTest, EveryConnectionToAServerThatEchoesIsWhole) {
  SmallServer server(Echo);
  const LoadResult result = ResultOf(PlanTo(server.address(), 200));
  EXPECT_EQ(result.whole, 200);
  EXPECT_THAT(result.failures, IsEmpty());
  EXPECT_EQ(result.messages, 200);
  EXPECT_EQ(result.bytes_sent, 200 * 64);
  EXPECT_EQ(result.bytes_received, 200 * 64);
  EXPECT_EQ(result.connection.count(), 200);
  EXPECT_EQ(result.connect.count(), 200);
  EXPECT_EQ(result.round_trip.count(), 200);
  EXPECT_EQ(result.lateness.count(), 0);
  EXPECT_LE(result.round_trip.max(), result.connection.max());
  EXPECT_LE(result.connection.max(), result.elapsed);
  EXPECT_FALSE(result.stopped);
  EXPECT_THAT(LoadOf(server), IsOk());
  EXPECT_THAT(WaitOfTheUnluckiest(PlanTo(server.address(), 3)),
              IsOkAndHolds(Ge(absl::Nanoseconds(1))));
}

TEST(LoadRunTest, MessagesLongerThanEveryBufferGoBothWaysAtOnce) {
  SmallServer server(Echo);
  LoadPlan plan = PlanTo(server.address(), 2, 1);
  plan.message_size = 20'000'000;
  plan.messages = 2;
  const LoadResult result = ResultOf(plan);
  EXPECT_EQ(result.whole, 2);
  EXPECT_THAT(result.failures, IsEmpty());
  EXPECT_EQ(result.messages, 4);
  EXPECT_EQ(result.bytes_received, 80'000'000);
}

TEST(LoadRunTest, ManyMessagesAndPausesBetweenThemAreWhole) {
  SmallServer server(Echo);
  LoadPlan plan = PlanTo(server.address(), 3, 1);
  plan.messages = 5;
  plan.message_size = 3;
  plan.think_time = absl::Milliseconds(2);
  const LoadResult result = ResultOf(plan);
  EXPECT_EQ(result.whole, 3);
  EXPECT_EQ(result.messages, 15);
  EXPECT_EQ(result.round_trip.count(), 15);
  EXPECT_GE(result.connection.min(), 4 * plan.think_time);
}

TEST(LoadRunTest, AnAnswerInPiecesIsWhole) {
  SmallServer server([](Stream client, int) {
    CHECK_OK(client.SetNoDelay(true));
    const std::string message = ReadExactly(client, 64);
    for (const char byte : message) {
      CHECK_OK(client.WriteAll(std::string_view(&byte, 1)));
    }
    EchoAll(client);
  });
  const LoadResult result = ResultOf(PlanTo(server.address(), 10));
  EXPECT_EQ(result.whole, 10);
  EXPECT_THAT(result.failures, IsEmpty());
}

TEST(LoadRunTest, UnixPlacesAreReachedEvenIfTheirBacklogIsFull) {
  // Abstract names are of the whole machine, and pids are not.
  const std::string name =
      absl::StrCat("load_run_test", std::random_device()());
  SmallServer server(Echo, *Address::UnixAbstract(name));
  const LoadResult result = ResultOf(PlanTo(server.address(), 300, 100));
  EXPECT_EQ(result.whole, 300);
  EXPECT_THAT(result.failures, IsEmpty());
}

TEST(LoadRunTest, NobodyListening) {
  LoadPlan plan = PlanTo(Nowhere(), 20);
  const LoadResult result = ResultOf(plan);
  EXPECT_EQ(result.whole, 0);
  ASSERT_THAT(result.failures, ElementsAre(Key(LoadFailure::kRefused)));
  EXPECT_EQ(result.failures.begin()->second.count, 20);
  EXPECT_THAT(result.failures.begin()->second.first,
              AllOf(HasSubstr("connect 127.0.0.1:"), HasSubstr("refused")));
  plan.to = {*Address::Parse("unix:/nonexistent/socket")};
  EXPECT_THAT(ResultOf(plan).failures, ElementsAre(Key(LoadFailure::kRefused)));
  plan.to = {*Address::Parse("unix:@nobody is called this")};
  EXPECT_THAT(ResultOf(plan).failures, ElementsAre(Key(LoadFailure::kRefused)));
}

TEST(LoadRunTest, AServerWithoutHopeIsGivenUp) {
  const LoadResult result = ResultOf(PlanTo(Nowhere(), 1'000'000));
  EXPECT_TRUE(result.gave_up);
  EXPECT_EQ(result.failed(), 1000);
}

TEST(LoadRunTest, AServerThatClosesBeforeItHasAnswered) {
  SmallServer server([](Stream client, int) { (void)ReadExactly(client, 64); });
  const LoadResult result = ResultOf(PlanTo(server.address(), 20));
  ASSERT_THAT(result.failures, ElementsAre(Key(LoadFailure::kUnanswered)));
  EXPECT_EQ(result.failures.begin()->second.count, 20);
  EXPECT_THAT(result.failures.begin()->second.first,
              HasSubstr("after 0 of 64 bytes"));
}

TEST(LoadRunTest, AServerThatClosesInTheMiddleOfItsAnswer) {
  SmallServer server([](Stream client, int) {
    const std::string message = ReadExactly(client, 64);
    (void)client.WriteAll(std::string_view(message).substr(0, 10));
  });
  const LoadResult result = ResultOf(PlanTo(server.address(), 20));
  ASSERT_THAT(result.failures, ElementsAre(Key(LoadFailure::kClosed)));
  EXPECT_THAT(result.failures.begin()->second.first,
              HasSubstr("after 10 of 64 bytes"));
}

// Of what it has not read its kernel makes a reset, which may come before the
// client has said it, or while it connects: a race with one outcome.
TEST(LoadRunTest, AServerThatClosesAtOnceHasNotAnswered) {
  SmallServer server([](Stream, int) {});
  const LoadResult result = ResultOf(PlanTo(server.address(), 20));
  EXPECT_EQ(result.failed(), 20);
  EXPECT_THAT(result.failures, ElementsAre(Key(LoadFailure::kUnanswered)));
}

TEST(LoadRunTest, AServerThatResetsInTheMiddle) {
  SmallServer server([](Stream client, int) {
    CHECK_OK(client.WriteAll(ReadExactly(client, 64)));
    (void)ReadExactly(client, 64);
    CHECK_OK(client.Reset());
  });
  LoadPlan plan = PlanTo(server.address(), 20);
  plan.messages = 2;
  const LoadResult result = ResultOf(plan);
  EXPECT_THAT(result.failures, ElementsAre(Key(LoadFailure::kReset)));
  EXPECT_EQ(result.failed(), 20);
}

TEST(LoadRunTest, AServerThatNeverAnswers) {
  std::vector<Stream> held;
  SmallServer server(
      [&](Stream client, int) { held.push_back(std::move(client)); });
  LoadPlan plan = PlanTo(server.address(), 6, 3);
  plan.timeout = absl::Milliseconds(30);
  const LoadResult result = ResultOf(plan);
  ASSERT_THAT(result.failures, ElementsAre(Key(LoadFailure::kTimeout)));
  EXPECT_EQ(result.failed(), 6);
  EXPECT_THAT(result.failures.begin()->second.first,
              AllOf(HasSubstr("for 30ms"), HasSubstr("after 0 of 64 bytes")));
  EXPECT_GE(result.elapsed, absl::Milliseconds(60));
}

TEST(LoadRunTest, AServerThatEchoesOneWrongByte) {
  SmallServer server([](Stream client, int number) {
    int seen = 0;
    EchoAll(client, [&](char* begin, char* end) {
      for (char* at = begin; at != end; ++at) {
        if (number == 3 && ++seen == 42) *at ^= 1;
      }
    });
  });
  const LoadResult result = ResultOf(PlanTo(server.address(), 20, 1));
  EXPECT_EQ(result.whole, 19);
  ASSERT_THAT(result.failures, ElementsAre(Key(LoadFailure::kWrongBytes)));
  EXPECT_EQ(result.failed(), 1);
  EXPECT_THAT(result.failures.begin()->second.first,
              HasSubstr("as byte 42 on connection 3"));
}

TEST(LoadRunTest, AnAnswerThatBelongsToAnotherConnectionIsWrong) {
  std::string message;
  SmallServer server([&](Stream client, int number) {
    if (number == 0) message = ReadExactly(client, 64);
    (void)client.WriteAll(message);
    EchoAll(client, [](char*, char*) {});
  });
  const LoadResult result = ResultOf(PlanTo(server.address(), 2, 1));
  EXPECT_THAT(result.failures, ElementsAre(Key(LoadFailure::kWrongBytes)));
  EXPECT_EQ(result.whole, 1);
}

TEST(LoadRunTest, OneByteMoreThanWasSentIsWrong) {
  SmallServer server([](Stream client, int) {
    const std::string message = ReadExactly(client, 64);
    (void)client.WriteAll(message + "x");
    EchoAll(client);
  });
  const LoadResult result = ResultOf(PlanTo(server.address(), 5, 1));
  EXPECT_THAT(result.failures, ElementsAre(Key(LoadFailure::kWrongBytes)));
}

TEST(LoadRunTest, WhatSomeSufferOthersDoNot) {
  SmallServer server([](Stream client, int number) {
    CHECK_OK(client.WriteAll(ReadExactly(client, 64)));
    const std::string message = ReadExactly(client, 64);
    if (number % 4 == 1) return;
    if (number % 4 == 2) {
      CHECK_OK(client.Reset());
      return;
    }
    CHECK_OK(client.WriteAll(message));
    EchoAll(client);
  });
  LoadPlan plan = PlanTo(server.address(), 40, 1);
  plan.messages = 2;
  const LoadResult result = ResultOf(plan);
  EXPECT_EQ(result.whole, 20);
  EXPECT_EQ(result.failures.at(LoadFailure::kClosed).count, 10);
  EXPECT_EQ(result.failures.at(LoadFailure::kReset).count, 10);
}

TEST(LoadRunTest, ADiscardingServerIsWholeWhenItHasTakenAllAndEnds) {
  SmallServer server([](Stream client, int) {
    CHECK_EQ(ReadExactly(client, 1'000'000).size(), 300'000);
  });
  LoadPlan plan = PlanTo(server.address(), 3);
  plan.service = Service::kDiscard;
  plan.message_size = 100'000;
  plan.messages = 3;
  const LoadResult result = ResultOf(plan);
  EXPECT_EQ(result.whole, 3);
  EXPECT_EQ(result.bytes_sent, 900'000);
  SmallServer talker(
      [](Stream client, int) { CHECK_OK(client.WriteAll("hello")); });
  plan.to = {talker.address()};
  EXPECT_EQ(ResultOf(plan).whole, 0);
}

TEST(LoadRunTest, NoServiceIsConnectAndClose) {
  SmallServer server([](Stream client, int) { EchoAll(client); });
  LoadPlan plan = PlanTo(server.address(), 50);
  plan.service = Service::kNone;
  const LoadResult result = ResultOf(plan);
  EXPECT_EQ(result.whole, 50);
  EXPECT_EQ(result.bytes_sent, 0);
}

TEST(LoadRunTest, SourcesAndServersComeInTurn) {
  const auto serve = [](Stream client, int number) {
    const auto host = absl::StrCat("127.0.0.", 2 + number % 3, ":");
    CHECK(absl::StrContains(client.peer().ToString(), host)) << client.peer();
    EchoAll(client);
  };
  SmallServer server(serve);
  SmallServer other(serve);
  LoadPlan plan = PlanTo(server.address(), 30, 1);
  plan.to.push_back(other.address());
  for (const char* host : {"127.0.0.2:0", "127.0.0.3:0", "127.0.0.4:0"}) {
    plan.from.push_back(*Address::Parse(host));
  }
  const LoadResult result = ResultOf(plan);
  EXPECT_EQ(result.whole, 30);
  EXPECT_THAT(result.failures, IsEmpty());
}

TEST(LoadRunTest, ASourceThatIsNotOfThisMachineIsFoundBeforeTheStart) {
  LoadPlan plan = PlanTo(Nowhere(), 1);
  plan.from = {*Address::Parse("192.0.2.1:0")};
  EXPECT_THAT(
      RunLoad(plan, [](const LoadProgress&) { return true; }),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("192.0.2.1")));
}

TEST(LoadRunTest, AProxyHeaderTellsOfEachClientInTurn) {
  for (const auto version :
       {ProxyHeader::Version::k1, ProxyHeader::Version::k2}) {
    SmallServer server([](Stream client, int number) {
      const absl::StatusOr<std::optional<ProxyHeader>> header = ReadProxyHeader(
          client.fd(), client.peer(), [](const Address&) { return true; },
          absl::InfiniteFuture());
      CHECK_OK(header);
      const std::string source = (*header)->SourceOr(client.peer()).ToString();
      CHECK_EQ(source, number % 2 == 0
                           ? absl::StrCat("192.0.2.7:", 1024 + number / 2)
                           : absl::StrCat("[2001:db8::7]:", 1024 + number / 2));
      EchoAll(client);
    });
    LoadPlan plan = PlanTo(server.address(), 10, 1);
    plan.proxy = {.version = version,
                  .clients = {*Address::Parse("192.0.2.7:0"),
                              *Address::Parse("[2001:db8::7]:0")}};
    const LoadResult result = ResultOf(plan);
    EXPECT_EQ(result.whole, 10);
    EXPECT_THAT(result.failures, IsEmpty());
  }
}

// Connection 20 stands still for 200 ms. Of 150, one every 2 ms, a hundred are
// due meanwhile.
void StandStillOnce(Stream client, int number) {
  if (number == 20) StandStill(client, absl::Milliseconds(200));
  EchoAll(client);
}

TEST(LoadRunTest, WithARateAllWhoWereDueSeeThatTheServerStoodStill) {
  for (const size_t concurrency : {2, 200}) {
    SmallServer server(StandStillOnce);
    LoadPlan plan = PlanTo(server.address(), 150, concurrency);
    plan.rate = 500;
    const LoadResult result = ResultOf(plan);
    EXPECT_EQ(result.whole, 150);
    EXPECT_GE(result.connection.Quantile(0.70), absl::Milliseconds(50));
    EXPECT_EQ(result.lateness.count(), 150);
    EXPECT_GE(result.elapsed, absl::Milliseconds(298));
  }
}

TEST(LoadRunTest, WithoutARateOnlyOneSeesIt) {
  SmallServer server(StandStillOnce);
  const LoadResult result = ResultOf(PlanTo(server.address(), 150, 1));
  EXPECT_EQ(result.whole, 150);
  EXPECT_LT(result.connection.Quantile(0.70), absl::Milliseconds(50));
  EXPECT_GE(result.connection.max(), absl::Milliseconds(200));
}

TEST(LoadRunTest, PercentilesAreThoseOfTheDelaysOfTheServer) {
  // Of a hundred: 55 of 2 ms, 37 of 10 ms, 7 of 40 ms, 1 of 200 ms.
  SmallServer server([](Stream client, int number) {
    const int place = number * 37 % 100;
    const int delay = place < 55 ? 2 : place < 92 ? 10 : place < 99 ? 40 : 200;
    StandStill(client, absl::Milliseconds(delay));
    EchoAll(client);
  });
  const LoadResult result = ResultOf(PlanTo(server.address(), 100, 1));
  for (const Histogram* histogram : {&result.connection, &result.round_trip}) {
    EXPECT_THAT(histogram->Quantile(0.5),
                AllOf(Ge(absl::Milliseconds(1.9)), Lt(absl::Milliseconds(10))));
    EXPECT_THAT(histogram->Quantile(0.9),
                AllOf(Ge(absl::Milliseconds(9.9)), Lt(absl::Milliseconds(40))));
    EXPECT_THAT(histogram->Quantile(0.99), AllOf(Ge(absl::Milliseconds(39.9)),
                                                 Lt(absl::Milliseconds(200))));
    EXPECT_GE(histogram->max(), absl::Milliseconds(199.9));
  }
}

TEST(LoadRunTest, WhoWasDueAndNeverBeganIsAFailure) {
  SmallServer server([](Stream client, int) {
    StandStill(client, absl::Milliseconds(20));
    EchoAll(client);
  });
  LoadPlan plan = {.to = {server.address()}, .concurrency = 1};
  plan.duration = absl::Milliseconds(100);
  plan.rate = 1000;
  const LoadResult result = ResultOf(plan);
  ASSERT_THAT(result.failures, ElementsAre(Key(LoadFailure::kNotBegun)));
  EXPECT_EQ(result.whole + result.failed(), 100);
  EXPECT_LE(result.whole, 6);
}

TEST(LoadRunTest, ADurationEndsARunAndNoMessageIsCutShort) {
  SmallServer server(Echo);
  LoadPlan plan = {.to = {server.address()}, .concurrency = 1};
  plan.duration = absl::Milliseconds(100);
  plan.messages = std::nullopt;
  const LoadResult endless = ResultOf(plan);
  EXPECT_EQ(endless.whole, 1);
  EXPECT_THAT(endless.failures, IsEmpty());
  EXPECT_GT(endless.messages, 1);
  EXPECT_GE(endless.elapsed, absl::Milliseconds(100));
  plan.messages = 1000;
  plan.think_time = absl::Minutes(1);
  const LoadResult thinking = ResultOf(plan);
  EXPECT_EQ(thinking.whole, 1);
  EXPECT_EQ(thinking.connection.count(), 0);  // It had more to say.
  EXPECT_LT(thinking.elapsed, absl::Minutes(1));
}

TEST(LoadRunTest, ARunThatIsStoppedAbandonsWhoIsOpen) {
  std::vector<Stream> held;
  SmallServer server(
      [&](Stream client, int) { held.push_back(std::move(client)); });
  for (const size_t processes : {1, 2}) {
    const absl::StatusOr<LoadResult> result =
        RunLoadInProcesses(PlanTo(server.address(), 6, 4), processes,
                           [](const LoadProgress&) { return false; });
    ASSERT_THAT(result, IsOk());
    EXPECT_TRUE(result->stopped);
    EXPECT_EQ(result->abandoned, 4);
    EXPECT_THAT(result->failures, IsEmpty());
  }
}

TEST(LoadRunTest, ProcessesShareAPlanAndTheirResultsAreOne) {
  SmallServer server(Echo);
  LoadPlan plan = PlanTo(server.address(), 101, 5);
  plan.rate = 2000;
  const LoadResult result = ResultOf(plan, 3);
  EXPECT_EQ(result.processes, 3);
  EXPECT_EQ(result.whole, 101);
  EXPECT_EQ(result.connection.count(), 101);
  EXPECT_EQ(result.lateness.count(), 101);
  EXPECT_THAT(result.failures, IsEmpty());
  plan.to = {Nowhere()};
  EXPECT_EQ(ResultOf(plan, 3).failures.at(LoadFailure::kRefused).count, 101);
}

TEST(LoadRunTest, APlanThatContradictsItselfIsRefused) {
  LoadPlan plan = PlanTo(Nowhere(), 1);
  plan.concurrency = 0;
  EXPECT_THAT(RunLoad(plan, [](const LoadProgress&) { return true; }),
              StatusIs(absl::StatusCode::kInvalidArgument));
  plan.concurrency = 2;
  EXPECT_THAT(
      RunLoadInProcesses(plan, 3, [](const LoadProgress&) { return true; }),
      StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace brood
