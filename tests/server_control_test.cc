// SPDX-License-Identifier: Apache-2.0
//
// The real server is asked while it runs: by which rule and which limit would a
// client be let in now, and what is left of its penalty; and it forgets one.
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/stream.h"
#include "brood/proc/exit_status.h"
#include "brood/tests/server_clients.h"
#include "brood/tests/server_process.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::Optional;
using ::testing::SizeIs;
using ::testing::StartsWith;

// What one run of the program says, when all it does is ask.
struct Asked {
  ExitStatus status;
  std::string answer;
  std::string complaint;
};

class ServerControlTest : public testing::Test {
 protected:
  ServerControlTest() : folder_("/tmp/server_control.XXXXXX") {
    EXPECT_NE(mkdtemp(folder_.data()), nullptr);
    path_ = absl::StrCat(folder_, "/control");
    control_ = absl::StrCat("--control=unix:", path_);
  }
  ~ServerControlTest() override { std::filesystem::remove_all(folder_); }

  std::vector<std::string> Flags(std::vector<std::string> more) const {
    std::vector<std::string> flags = {"--listen=127.0.0.1:0", control_};
    flags.insert(flags.end(), more.begin(), more.end());
    return flags;
  }

  Asked Ask(std::string_view request) const {
    ServerProcess asker({control_, absl::StrCat("--ask=", request)});
    std::string answer;  // Its first line is where another says it is ready.
    if (!asker.ready_line().empty()) {
      answer = absl::StrCat(asker.ready_line(), "\n", asker.RestOfOutput());
    }
    std::string complaint = asker.RestOfLog();
    return {asker.Wait(), std::move(answer), std::move(complaint)};
  }
  // Of one that has an answer.
  std::string Answer(std::string_view request) const {
    const Asked asked = Ask(request);
    EXPECT_EQ(asked.status, ExitStatus::Exited(0)) << asked.complaint;
    EXPECT_EQ(asked.complaint, "");
    return asked.answer;
  }
  // Asks until the answer has `text` in it.
  void AwaitAnswer(std::string_view request, std::string_view text) const {
    while (!absl::StrContains(Answer(request), text)) {
      if (HasFailure()) return;
    }
  }

  // A unix path must be short, and that of testing::TempDir() is not.
  std::string folder_;
  std::string path_;
  std::string control_;
};

// Ends it so that nothing of it is left at the path, not even in a child that
// has just begun.
void End(ServerProcess& server) {
  server.Signal(SIGQUIT);
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
}

// Row 19 of what no other server has.
TEST_F(ServerControlTest, ExplainsWhoWouldBeLetInNowAndForgetsAPenalty) {
  ServerProcess server(
      Flags({"--connection_rate_per_source=1/h,2", "--max_connections=2",
             "--max_connections_per_source=2", "--deny=127.0.0.9"}));
  EXPECT_EQ(Answer("explain 127.0.0.9"),
            "127.0.0.9: denied by --deny=127.0.0.9\n");
  const std::string fresh =
      "127.0.0.2: allowed, for no rule names it\n"
      "counts as 127.0.0.2: 0 connections, at most 2; rate 1/h,2\n"
      "all together: 0 connections, at most 2\n"
      "now: 127.0.0.2: let in\n"
      "left of the rate: 2 of 2\n"
      "waiting: 0, at most 1024; of this source 0\n";
  EXPECT_EQ(Answer("explain 127.0.0.2"), fresh);
  EXPECT_EQ(Answer("explain 127.0.0.2"), fresh);  // To ask costs nothing.

  Stream first = Come(server, 2);
  ASSERT_TRUE(Echoes(first));
  EXPECT_THAT(Answer("explain 127.0.0.2"),
              AllOf(HasSubstr("counts as 127.0.0.2: 1 connections"),
                    HasSubstr("all together: 1 connections"),
                    HasSubstr("now: 127.0.0.2: let in\n"),
                    HasSubstr("left of the rate: 1 of 2\n")));
  Stream second = Come(server, 2);
  ASSERT_TRUE(Echoes(second));
  EXPECT_THAT(Answer("explain 127.0.0.2"),
              AllOf(HasSubstr("now: 127.0.0.2: more than 1/h,2 from this "
                              "source; again in 59m"),
                    HasSubstr("left of the rate: 0 of 2\n")));
  // Another has done nothing, and would have to wait.
  Stream other = Come(server, 3);
  AwaitAnswer("explain 127.0.0.3",
              "waiting: 1, at most 1024; of this source 1");
  EXPECT_THAT(Answer("explain 127.0.0.4"),
              AllOf(HasSubstr("now: 127.0.0.4: 2 of 2 connections\n"),
                    HasSubstr("waiting: 1, at most 1024; of this source 0")));
  ASSERT_THAT(first.Close(), IsOk());
  EXPECT_TRUE(Echoes(other));
  ASSERT_THAT(second.Close(), IsOk());
  AwaitAnswer("state", " active 1 ");

  Stream too_fast = Come(server, 2);
  EXPECT_FALSE(Echoes(too_fast));
  EXPECT_EQ(Answer("forget 127.0.0.2"),
            "127.0.0.2: 0 left of its rate, now 2\n");
  EXPECT_THAT(server.NextLogLineWith("forgotten"),
              Optional(HasSubstr("as asked: 127.0.0.2: 0 left of its rate")));
  Stream healed = Come(server, 2);
  EXPECT_TRUE(Echoes(healed));
}

TEST_F(ServerControlTest, SpeaksOfTheSourcesOfWorkersToo) {
  ServerProcess server(
      Flags({"--model=prefork", "--workers=2", "--at_limit=reset",
             "--connection_rate_per_source=1/h,1"}));
  {
    Stream first = Come(server, 2);
    EXPECT_TRUE(Echoes(first));
    EXPECT_THAT(
        Answer("explain 127.0.0.2"),
        HasSubstr("counts as 127.0.0.2: 1 connections, no limit; rate "
                  "1/h,1\nleft of the rate: 0 of 1\nnow: 127.0.0.2: "
                  "more than 1/h,1 from this source\nworkers: active "));
    EXPECT_FALSE(Echoes(Knock(server, 2)));
  }
  EXPECT_EQ(Answer("forget 127.0.0.2"),
            "127.0.0.2: 0 left of its rate, now 1\n");
  Stream third = Come(server, 2);
  EXPECT_TRUE(Echoes(third));
  End(server);
}

TEST_F(ServerControlTest, SaysWhatWorkersWouldDoWithAClient) {
  for (const auto& [at_limit, verdict] :
       {std::pair("--at_limit=queue", "1 of 1 connections, waits for one"),
        std::pair("--at_limit=refuse", "1 of 1 connections, is refused"),
        std::pair("--at_limit=reset", "1 of 1 connections, is reset")}) {
    ServerProcess server(Flags({"--model=prefork", "--workers=1", at_limit}));
    EXPECT_THAT(Answer("explain 127.0.0.2"),
                HasSubstr("\nnow: 127.0.0.2: let in\n"));
    Stream client = Come(server, 2);
    ASSERT_TRUE(Echoes(client));
    EXPECT_THAT(Answer("explain 127.0.0.3"),
                HasSubstr(absl::StrCat("\nnow: 127.0.0.3: ", verdict, "\n")));
    ASSERT_THAT(client.Close(), IsOk());
    End(server);
  }
}

TEST_F(ServerControlTest, SaysHowThingsStandAsALineAndAsJson) {
  ServerProcess server(Flags({"--max_connections=7"}));
  Stream client = Come(server, 2);
  ASSERT_TRUE(Echoes(client));
  EXPECT_THAT(Answer("state"),
              MatchesRegex("serving: uptime [^ ]+ active 1 waiting 0 "
                           "connections 1 turned_away 0 max_connections 7 "
                           "lost_lines 0\n"));
  EXPECT_THAT(
      Answer("state json"),
      AllOf(StartsWith("{\"event\":\"state\",\"time\":\""),
            HasSubstr("\"phase\":\"serving\""), HasSubstr("\"active\":1,")));
  server.Signal(SIGUSR1);
  EXPECT_THAT(server.NextLogLine(), Optional(HasSubstr("active 1 waiting 0")));
}

TEST_F(ServerControlTest, TellsWhatMayBeAskedAndFailsOtherwise) {
  ServerProcess server(Flags({}));
  EXPECT_THAT(Answer("help"),
              AllOf(HasSubstr("explain ADDRESS: "),
                    HasSubstr("forget ADDRESS: "), HasSubstr("state: ")));
  for (const auto& [request, complaint] :
       {std::pair("reload",
                  "request \"reload\": allowed is explain ADDRESS, "
                  "forget ADDRESS, state, state json, help"),
        std::pair("explain 10.0.0.0/8", "client \"10.0.0.0/8\": expected an"),
        std::pair("forget 127.0.0.1", "no rate is limited")}) {
    const Asked asked = Ask(request);
    EXPECT_EQ(asked.status, ExitStatus::Exited(1));
    EXPECT_EQ(asked.answer, "");
    EXPECT_THAT(asked.complaint,
                StartsWith(absl::StrCat("server: --ask: ", complaint)));
  }
}

TEST_F(ServerControlTest, AsksInVainWhereNobodyListens) {
  const Asked asked = Ask("state");
  EXPECT_EQ(asked.status, ExitStatus::Exited(1));
  EXPECT_EQ(asked.answer, "");
  EXPECT_EQ(asked.complaint,
            absl::StrCat("server: --control=unix:", path_, ": connect unix:",
                         path_, ": No such file or directory (ENOENT)\n"));
}

TEST_F(ServerControlTest, AnswersWithEveryModel) {
  for (const std::vector<std::string>& flags :
       std::vector<std::vector<std::string>>{
           {"--model=iterative"},
           {"--model=prefork", "--workers=3"},
           {"--model=prefork", "--connections_per_worker=1"},
           {"--", "cat"}}) {
    ServerProcess server(Flags(flags));
    SCOPED_TRACE(server.ready_line());
    Stream client = Come(server, 2);
    ASSERT_TRUE(Echoes(client));
    AwaitAnswer("state", " active 1 ");
    EXPECT_THAT(Answer("explain 127.0.0.2"),
                AllOf(StartsWith("127.0.0.2: allowed, for no rule names it\n"),
                      HasSubstr("now: ")));
    End(server);
  }
}

TEST_F(ServerControlTest, ExplainsByTheRulesThatHoldNow) {
  const std::string rules = absl::StrCat(folder_, "/rules");
  for (const char* model : {"--model=fork", "--model=prefork"}) {
    std::ofstream(rules) << "allow all\n";
    ServerProcess server(Flags({model, absl::StrCat("--rules=", rules)}));
    EXPECT_THAT(Answer("explain 127.0.0.2"),
                StartsWith(absl::StrCat("127.0.0.2: allowed by ", rules,
                                        ":1: allow all\n")));
    std::ofstream(rules) << "deny 127.0.0.2\nallow all\n";
    AwaitAnswer(
        "explain 127.0.0.2",
        absl::StrCat("127.0.0.2: denied by ", rules, ":1: deny 127.0.0.2\n"));
    End(server);
  }
}

TEST_F(ServerControlTest, AnswersWhileItDrainsAndLeavesNoPath) {
  ServerProcess server(Flags({}));
  Stream client = Come(server, 2);
  ASSERT_TRUE(Echoes(client));
  struct stat found;
  ASSERT_EQ(stat(path_.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777, 0600);
  server.Signal(SIGTERM);
  ASSERT_THAT(server.NextLogLineWith("draining"), Optional(HasSubstr("TERM")));
  EXPECT_THAT(Answer("state"), StartsWith("draining: "));
  EXPECT_THAT(Answer("explain 127.0.0.2"),
              StartsWith("draining: nobody new can connect\n"));
  EXPECT_TRUE(Echoes(client));
  ASSERT_THAT(client.Close(), IsOk());
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
  EXPECT_EQ(stat(path_.c_str(), &found), -1);
}

TEST_F(ServerControlTest, TakesOverThePathOfAServerThatWasKilled) {
  {
    ServerProcess server(Flags({}));
    server.Signal(SIGKILL);
    EXPECT_EQ(server.Wait(), ExitStatus::Killed(SIGKILL));
  }
  struct stat found;
  ASSERT_EQ(stat(path_.c_str(), &found), 0);
  ServerProcess server(Flags({}));
  EXPECT_THAT(Answer("state"), StartsWith("serving: "));
  // And not that of one that lives.
  ServerProcess second(Flags({}));
  EXPECT_EQ(second.ready_line(), "");
  EXPECT_THAT(second.RestOfLog(),
              AllOf(StartsWith(absl::StrCat("server: ", control_, ": ")),
                    HasSubstr("(EADDRINUSE)")));
  EXPECT_EQ(second.Wait(), ExitStatus::Exited(1));
  EXPECT_THAT(Answer("state"), StartsWith("serving: "));
}

// The inodes of the sockets bound to `path`: the one that listens, and those
// of connections that came by it.
std::set<std::string> SocketsAt(const std::string& path) {
  std::set<std::string> inodes;
  std::ifstream file("/proc/net/unix");
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string_view> words =
        absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (words.size() == 8 && words[7] == path) inodes.emplace(words[6]);
  }
  return inodes;
}

// Those of them that the process has open.
std::set<std::string> OpenIn(pid_t pid, const std::set<std::string>& sockets) {
  std::set<std::string> open;
  std::error_code gone;
  for (const auto& entry : std::filesystem::directory_iterator(
           absl::StrCat("/proc/", pid, "/fd"), gone)) {
    const std::string target = std::filesystem::read_symlink(entry, gone);
    for (const std::string& socket : sockets) {
      if (target == absl::StrCat("socket:[", socket, "]")) open.insert(socket);
    }
  }
  return open;
}

TEST_F(ServerControlTest, ChildrenDoNotHaveIt) {
  for (const std::vector<std::string>& flags :
       std::vector<std::vector<std::string>>{{"--model=fork"},
                                             {"--model=prefork", "--workers=1"},
                                             {"--", "cat"}}) {
    ServerProcess server(Flags(flags));
    SCOPED_TRACE(server.ready_line());
    // Somebody who is about to ask.
    absl::StatusOr<Stream> asker = Stream::Connect(*Address::UnixPath(path_));
    ASSERT_THAT(asker, IsOk());
    Stream client = Come(server, 2);
    ASSERT_TRUE(Echoes(client));
    const std::set<std::string> sockets = SocketsAt(path_);
    EXPECT_THAT(OpenIn(server.pid(), sockets), Not(IsEmpty()));
    const std::vector<ProcessEntry> children = ChildrenOf(server.pid());
    ASSERT_THAT(children, SizeIs(1));
    EXPECT_THAT(OpenIn(children.front().pid, sockets), IsEmpty());
    End(server);
  }
}

}  // namespace
}  // namespace brood
