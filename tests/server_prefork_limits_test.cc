// SPDX-License-Identifier: Apache-2.0
//
// The limits of one connection and of one source are the same for workers that
// accept for themselves as for a process of one's own.
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/stream.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/posix.h"
#include "brood/tests/server_clients.h"
#include "brood/tests/server_process.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Optional;

ServerProcess StartServer(std::vector<std::string> more) {
  std::vector<std::string> args = {"--listen=127.0.0.1:0", "--model=prefork"};
  args.insert(args.end(), more.begin(), more.end());
  return ServerProcess(args);
}

// Clients that are still there are cut off.
void End(ServerProcess& server) {
  server.CloseItsOutput();
  server.Signal(SIGQUIT);
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
}

TEST(ServerPreforkLimitsTest, ASilentConnectionIsEndedAndSaysWhy) {
  for (const std::string& workers :
       {std::string("--workers=2"),
        std::string("--connections_per_worker=1")}) {
    ServerProcess server = StartServer({workers, "--idle_timeout=80ms"});
    SCOPED_TRACE(workers);
    Stream silent = Come(server, 1);
    EXPECT_EQ(ReadAll(silent), "");
    EXPECT_THAT(server.NextLogLine(),
                Optional(AllOf(HasSubstr("killed by SIGTERM"),
                               HasSubstr("because idle for 80ms"))));
    Stream next = Come(server, 1);
    EXPECT_TRUE(Echoes(next));
    End(server);
  }
}

TEST(ServerPreforkLimitsTest, AConnectionThatIsTooSlowIsEndedAndSaysWhy) {
  ServerProcess server = StartServer({"--workers=1", "--min_rate=1000/1s"});
  Stream slow = Come(server, 1);
  ASSERT_TRUE(Echoes(slow));
  EXPECT_EQ(ReadAll(slow), "");
  EXPECT_THAT(server.NextLogLine(),
              Optional(HasSubstr("because too slow for 1s")));
  End(server);
}

TEST(ServerPreforkLimitsTest, AProgramWhoseClientIsGoneIsToldSo) {
  ServerProcess server =
      StartServer({"--workers=1", "--client_gone_grace=0s", "--", "sh", "-c",
                   "echo ready; exec sleep 1000"});
  Stream client = Come(server, 1);
  std::array<char, 6> ready;
  ASSERT_THAT(client.Read(absl::MakeSpan(ready)), IsOk());
  ASSERT_THAT(client.Reset(), IsOk());
  EXPECT_THAT(server.NextLogLine(), Optional(HasSubstr("because client gone")));
  End(server);
}

TEST(ServerPreforkLimitsTest, AProgramIsAskedToEndBeforeItIsMadeTo) {
  for (const std::string& workers :
       {std::string("--workers=1"),
        std::string("--connections_per_worker=1")}) {
    SCOPED_TRACE(workers);
    ServerProcess server = StartServer(
        {workers, "--handler_timeout=50ms", "--", "sh", "-c",
         "trap 'echo asked; exit' TERM; while :; do sleep 1000 & wait; done"});
    Stream client = Come(server, 1);
    EXPECT_EQ(ReadAll(client), "asked\n");
    EXPECT_THAT(server.NextLogLine(),
                Optional(HasSubstr("because handler timeout of 50ms")));
    End(server);
  }
}

TEST(ServerPreforkLimitsTest, WhatAProgramHasReadAndWrittenIsLogged) {
  ServerProcess server = StartServer({"--workers=1", "--", "cat"});
  for (int i = 0; i < 3; ++i) {
    Stream client = Come(server, 1);
    ASSERT_TRUE(Echoes(client, "hello"));
    ASSERT_THAT(client.Close(), IsOk());
    EXPECT_THAT(server.NextLogLine(),
                Optional(HasSubstr("bytes_in 5 bytes_out 5")));
  }
  End(server);
}

// As if each had been forked for its client.
TEST(ServerPreforkLimitsTest, TheLogTellsOfTheProgramAndNotOfItsWorker) {
  for (const std::string& workers :
       {std::string("--workers=1"),
        std::string("--connections_per_worker=1")}) {
    SCOPED_TRACE(workers);
    ServerProcess server = StartServer(
        {workers, "--handler_timeout=1h", "--", "sh", "-c",
         "echo $$; read order; [ $order = exit ] && exit 7; kill -$order $$"});
    for (const auto& [order, end] :
         {std::pair("exit", "exited 7"), std::pair("SEGV", "killed by SIGSEGV"),
          std::pair("TERM", "killed by SIGTERM")}) {
      Stream client = Come(server, 1);
      std::array<char, 16> pid;
      const absl::StatusOr<IoResult> got = client.Read(absl::MakeSpan(pid));
      ASSERT_THAT(got, IsOk());
      const std::string number(pid.data(), *got->bytes() - 1);
      ASSERT_THAT(client.WriteAll(absl::StrCat(order, "\n")), IsOk());
      EXPECT_THAT(server.NextLogLine(),
                  Optional(AllOf(HasSubstr(absl::StrCat("pid ", number, " ")),
                                 HasSubstr(end))));
    }
    End(server);
  }
}

TEST(ServerPreforkLimitsTest, AProgramThatIsGoneIsToldOfAndNoConnection) {
  const std::string program =
      absl::StrCat(testing::TempDir(), "/gone_", getpid());
  for (const std::string& workers :
       {std::string("--workers=1"),
        std::string("--connections_per_worker=1")}) {
    SCOPED_TRACE(workers);
    ASSERT_EQ(symlink("/bin/cat", program.c_str()), 0);
    ServerProcess server = StartServer({workers, "--", program});
    ASSERT_EQ(unlink(program.c_str()), 0);
    for (int i = 0; i < 2; ++i) {
      Stream client = Come(server, 2);
      EXPECT_EQ(ReadAll(client), "");
      EXPECT_THAT(server.NextLogLine(),
                  Optional(AllOf(HasSubstr("peer 127.0.0.2:"),
                                 HasSubstr(" has no process: "),
                                 HasSubstr("(ENOENT)"))));
    }
    AwaitState(server, "active", 0);
    End(server);
  }
}

TEST(ServerPreforkLimitsTest, AProgramKnowsWhatItsProxySaysAndSoDoesTheLog) {
  ServerProcess server = StartServer(
      {"--workers=1", "--proxy_protocol=auto", "--trusted_proxies=127.0.0.2",
       "--", "sh", "-c", "echo $TCPREMOTEIP $TCPLOCALIP $TCPLOCALPORT"});
  Stream client = Come(server, 2);
  ASSERT_THAT(
      client.WriteAll("PROXY TCP4 198.51.100.7 203.0.113.1 4711 80\r\n"),
      IsOk());
  EXPECT_EQ(ReadAll(client), "198.51.100.7 203.0.113.1 80\n");
  EXPECT_THAT(server.NextLogLine(),
              Optional(AllOf(HasSubstr("peer 127.0.0.2:"),
                             HasSubstr("client 198.51.100.7:4711"),
                             HasSubstr("local 203.0.113.1:80"))));
  End(server);
}

// As with every model: see server_limits_test.cc for the others.
TEST(ServerPreforkLimitsTest, OneTooManyOfAllIsRefusedUntilThereIsAWorker) {
  for (const std::vector<std::string>& workers :
       std::vector<std::vector<std::string>>{
           {"--workers=2"},
           {"--max_connections=2"},
           {"--max_workers=2", "--max_spare_workers=1"},
           {"--max_connections=2", "--connections_per_worker=1"}}) {
    std::vector<std::string> flags = {"--at_limit=refuse",
                                      "--at_limit_message=full"};
    flags.insert(flags.end(), workers.begin(), workers.end());
    ServerProcess server = StartServer(flags);
    SCOPED_TRACE(workers.back());
    Stream first = Come(server, 1);
    Stream second = Come(server, 2);
    ASSERT_TRUE(Echoes(first));
    ASSERT_TRUE(Echoes(second));
    for (int i = 0; i < 3; ++i) {
      Stream third = Come(server, 3);
      EXPECT_EQ(ReadAll(third), "full\n");
      EXPECT_THAT(server.NextLogLineWith("turned away"),
                  Optional(HasSubstr("127.0.0.3: 2 of 2 connections")));
    }
    EXPECT_EQ(StateOf(server, "turned_away"), 3);
    EXPECT_EQ(StateOf(server, "connections"), 2);
    ASSERT_THAT(second.Close(), IsOk());
    AwaitState(server, "idle", 1);
    Stream fourth = Come(server, 4);
    EXPECT_TRUE(Echoes(fourth));
    Stream fifth = Come(server, 5);
    EXPECT_EQ(ReadAll(fifth), "full\n");
    EXPECT_TRUE(Echoes(first));
    End(server);
  }
}

TEST(ServerPreforkLimitsTest, OneTooManyOfAllIsReset) {
  ServerProcess server = StartServer({"--workers=1", "--at_limit=reset"});
  Stream first = Come(server, 1);
  ASSERT_TRUE(Echoes(first));
  EXPECT_TRUE(IsReset(Knock(server, 2)));
  EXPECT_TRUE(Echoes(first));
  End(server);
}

TEST(ServerPreforkLimitsTest, ACrowdIsSentOffAndThoseInsideAreServedOn) {
  ServerProcess server = StartServer({"--workers=3", "--at_limit=refuse"});
  server.CloseItsOutput();
  std::vector<Stream> inside;
  while (inside.size() < 3) {
    inside.push_back(Come(server, 1));
    ASSERT_TRUE(Echoes(inside.back()));
  }
  std::vector<Stream> crowd;
  for (int i = 0; i < 200; ++i) crowd.push_back(Come(server, 2));
  for (Stream& client : crowd) EXPECT_EQ(ReadAll(client), "");
  for (Stream& client : inside) EXPECT_TRUE(Echoes(client));
  server.Signal(SIGQUIT);
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
}

TEST(ServerPreforkLimitsTest, AWorkerThatIsKilledIsNoReasonToSendAnybodyOff) {
  ServerProcess server = StartServer({"--workers=1", "--at_limit=refuse"});
  Stream first = Come(server, 1);
  ASSERT_TRUE(Echoes(first));
  Stream second = Come(server, 2);
  EXPECT_EQ(ReadAll(second), "");
  (void)kill(ChildrenOf(server.pid()).at(0).pid, SIGKILL);
  EXPECT_EQ(ReadAll(first), "");
  ASSERT_TRUE(server.NextLogLineWith("killed by SIGKILL").has_value());
  Stream patient = Come(server, 2);
  EXPECT_TRUE(Echoes(patient));
  End(server);
}

TEST(ServerPreforkLimitsTest, OneTooManyOfASourceIsRefusedAndOthersAreNot) {
  for (const std::string& workers :
       {std::string("--workers=4"),
        std::string("--connections_per_worker=1")}) {
    ServerProcess server = StartServer(
        {workers, "--max_connections_per_source=2", "--at_limit=refuse",
         "--at_limit_message=too many of you"});
    SCOPED_TRACE(workers);
    Stream first = Come(server, 2);
    Stream second = Come(server, 2);
    ASSERT_TRUE(Echoes(first));
    ASSERT_TRUE(Echoes(second));
    Stream third = Come(server, 2);
    EXPECT_EQ(ReadAll(third), "too many of you\n");
    EXPECT_THAT(server.NextLogLineWith("turned away"),
                Optional(HasSubstr("127.0.0.2: 2 of 2 connections")));
    Stream other = Come(server, 3);
    EXPECT_TRUE(Echoes(other));
    End(server);
  }
}

TEST(ServerPreforkLimitsTest, WhomARuleDeniesIsToldNothingOfLimits) {
  ServerProcess server = StartServer(
      {"--workers=2", "--max_connections_per_source=2", "--at_limit=refuse",
       "--at_limit_message=too many of you", "--deny=127.0.0.2"});
  Stream denied = Come(server, 2);
  EXPECT_EQ(ReadAll(denied), "");
  Stream other = Come(server, 3);
  EXPECT_TRUE(Echoes(other));
  End(server);
}

TEST(ServerPreforkLimitsTest, ASourceThatComesTooFastIsResetAndOthersAreNot) {
  ServerProcess server =
      StartServer({"--workers=4", "--connection_rate_per_source=1/h,2",
                   "--at_limit=reset"});
  for (int i = 0; i < 2; ++i) {
    Stream client = Come(server, 2);
    EXPECT_TRUE(Echoes(client));
  }
  EXPECT_TRUE(IsReset(Knock(server, 2)));
  EXPECT_THAT(server.NextLogLineWith("turned away"),
              Optional(HasSubstr("127.0.0.2: more than 1/h,2")));
  Stream other = Come(server, 3);
  EXPECT_TRUE(Echoes(other));
  End(server);
}

// Its workers are killed in the middle, with and without a client; then its
// source has all its places again, and no more.
TEST(ServerPreforkLimitsTest, NoPlaceIsLostOrWonWhenWorkersAreKilled) {
  ServerProcess server = StartServer(
      {"--workers=4", "--max_connections_per_source=2", "--at_limit=refuse"});
  server.CloseItsOutput();
  for (int round = 0; round < 3; ++round) {
    std::vector<Stream> inside;
    while (inside.size() < 2) {
      Stream client = Come(server, 2);
      if (Echoes(client)) inside.push_back(std::move(client));
    }
    Stream third = Come(server, 2);
    EXPECT_EQ(ReadAll(third), "");
    for (const ProcessEntry& worker : ChildrenOf(server.pid())) {
      (void)kill(worker.pid, SIGKILL);
    }
    for (Stream& client : inside) EXPECT_EQ(ReadAll(client), "");
  }
  server.Signal(SIGQUIT);
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
}

TEST(ServerPreforkLimitsTest, AProgramIsToldHowManyItsSourceHas) {
  ServerProcess server = StartServer(
      {"--workers=2", "--", "sh", "-c", "echo $TCPCONNNUM; exec cat"});
  Stream first = Come(server, 2);
  std::array<char, 2> count;
  ASSERT_THAT(first.Read(absl::MakeSpan(count)), IsOk());
  EXPECT_EQ(count[0], '1');
  Stream second = Come(server, 2);
  ASSERT_THAT(second.Read(absl::MakeSpan(count)), IsOk());
  EXPECT_EQ(count[0], '2');
  End(server);
}

}  // namespace
}  // namespace brood
