// SPDX-License-Identifier: Apache-2.0
//
// The real server keeps its limits, fairly, and heals by itself.
#include <array>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status_matchers.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "brood/net/stream.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/posix.h"
#include "brood/tests/server_clients.h"
#include "brood/tests/server_drain.h"
#include "brood/tests/server_process.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::testing::HasSubstr;
using ::testing::Optional;

ServerProcess StartServer(std::vector<std::string> more) {
  std::vector<std::string> args = {"--listen=127.0.0.1:0"};
  args.insert(args.end(), more.begin(), more.end());
  return ServerProcess(args);
}

TEST(ServerLimitsTest, AFloodFromOneSourceDoesNotShutTheDoorOnAnother) {
  ServerProcess server =
      StartServer({"--max_connections=4", "--max_waiting=64"});
  std::vector<Stream> flood;
  for (int i = 0; i < 60; ++i) flood.push_back(Come(server, 2));
  ASSERT_TRUE(Echoes(flood.front()));
  Stream other = Come(server, 3);
  AwaitState(server, "waiting", 57);
  flood.erase(flood.begin());  // One slot is free, and it is the other's turn.
  EXPECT_TRUE(Echoes(other));
}

TEST(ServerLimitsTest, TheOneTooManyWaitsOrIsRefused) {
  ServerProcess queueing = StartServer({"--max_connections=1"});
  Stream inside = Come(queueing, 1);
  ASSERT_TRUE(Echoes(inside));
  Stream waiting = Come(queueing, 1);
  ASSERT_THAT(waiting.WriteAll("x"), IsOk());
  ASSERT_THAT(inside.Close(), IsOk());
  std::array<char, 1> byte;
  EXPECT_THAT(waiting.Read(absl::MakeSpan(byte)),
              IsOkAndHolds(IoResult::Bytes(1)));

  ServerProcess refusing = StartServer(
      {"--max_connections=1", "--at_limit=refuse", "--at_limit_message=full"});
  Stream first = Come(refusing, 1);
  ASSERT_TRUE(Echoes(first));
  Stream refused = Come(refusing, 1);
  EXPECT_EQ(ReadAll(refused), "full\n");
  EXPECT_THAT(refusing.NextLogLine(), Optional(HasSubstr("turned away")));
}

TEST(ServerLimitsTest, BehindAProxyTheOneTooManyWaitsInTheKernelsQueue) {
  ServerProcess server =
      StartServer({"--model=iterative", "--proxy_protocol=v1",
                   "--trusted_proxies=127.0.0.2", "--deny=192.0.2.9"});
  const auto header = [](std::string_view client) {
    return absl::StrCat("PROXY TCP4 ", client, " 203.0.113.1 4711 80\r\n");
  };
  Stream first = Come(server, 2);
  Stream denied = Come(server, 2);
  Stream second = Come(server, 2);
  // All have come before the first is known.
  ASSERT_THAT(second.WriteAll(header("192.0.2.8")), IsOk());
  ASSERT_THAT(denied.WriteAll(header("192.0.2.9")), IsOk());
  ASSERT_THAT(first.WriteAll(header("192.0.2.7")), IsOk());
  EXPECT_TRUE(Echoes(first));
  ASSERT_THAT(first.Close(), IsOk());
  EXPECT_EQ(ReadAll(denied), "");
  EXPECT_TRUE(Echoes(second));
}

TEST(ServerLimitsTest, ASourceHasItsLimitAndOthersTheirs) {
  ServerProcess server =
      StartServer({"--max_connections_per_source=2", "--at_limit=reset"});
  Stream first = Come(server, 2);
  Stream second = Come(server, 2);
  ASSERT_TRUE(Echoes(first));
  ASSERT_TRUE(Echoes(second));
  EXPECT_TRUE(IsReset(Knock(server, 2)));
  Stream other = Come(server, 3);
  EXPECT_TRUE(Echoes(other));
}

TEST(ServerLimitsTest, ASilentConnectionIsEndedAndSaysWhy) {
  ServerProcess server = StartServer({"--idle_timeout=50ms"});
  Stream silent = Come(server, 1);
  EXPECT_EQ(ReadAll(silent), "");
  EXPECT_THAT(server.NextLogLine(), Optional(HasSubstr("because idle for")));
}

TEST(ServerLimitsTest, NewRulesHoldAsSoonAsTheirFileIsWritten) {
  const std::string path = absl::StrCat(testing::TempDir(), "/live.rules");
  std::ofstream(path) << "allow all\n";
  ServerProcess server = StartServer({absl::StrCat("--rules=", path)});
  Stream allowed = Come(server, 2);
  EXPECT_TRUE(Echoes(allowed));
  std::ofstream(path) << "deny 127.0.0.2\nallow all\n";
  EXPECT_THAT(server.NextLogLineWith("rules hold"), Optional(HasSubstr("2")));
  Stream denied = Come(server, 2);
  EXPECT_EQ(ReadAll(denied), "");
  std::ofstream(path) << "deny 127.0.0.2\nalow all\n";
  EXPECT_THAT(server.NextLogLineWith("the old rules stay"),
              Optional(HasSubstr(absl::StrCat(path, ":2:1: "))));
  Stream still_denied = Come(server, 2);
  EXPECT_EQ(ReadAll(still_denied), "");
  EXPECT_TRUE(Echoes(allowed));  // Who is inside stays.
}

TEST(ServerLimitsTest, ADrainOfForksLosesNobody) {
  ExpectNobodyLostInADrain({"--backlog=4096"}, 1000);
}

TEST(ServerLimitsTest, ADrainOfFewPlacesLosesNobody) {
  ExpectNobodyLostInADrain({"--max_connections=20", "--max_waiting=10000"},
                           1000);
}

TEST(ServerLimitsTest, ADrainOfWorkersLosesNobody) {
  ExpectNobodyLostInADrain({"--model=prefork", "--workers=4"}, 1000);
}

TEST(ServerLimitsTest, EveryModelServesAndDrains) {
  for (const std::vector<std::string>& flags :
       std::vector<std::vector<std::string>>{
           {"--model=fork"},
           {"--model=iterative"},
           {"--model=prefork", "--workers=3"},
           {"--model=prefork", "--connections_per_worker=1"},
           {"--model=prefork", "--workers=2", "--", "cat"},
           {"--model=iterative", "--", "cat"}}) {
    ServerProcess server = StartServer(flags);
    SCOPED_TRACE(server.ready_line());
    for (int i = 0; i < 5; ++i) {
      Stream client = Come(server, 1);
      EXPECT_TRUE(Echoes(client));
    }
    server.Signal(SIGTERM);
    EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
  }
}

}  // namespace
}  // namespace brood
