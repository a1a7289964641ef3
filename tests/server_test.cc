// SPDX-License-Identifier: Apache-2.0
// The real server, from outside: what a person who runs it may rely on.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <optional>
#include <random>
#include <set>
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
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/tests/server_process.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Optional;
using ::testing::StartsWith;

constexpr std::string_view kAnyPort = "--listen=127.0.0.1:0";

ServerProcess StartServer(std::vector<std::string> flags = {}) {
  flags.insert(flags.begin(), std::string(kAnyPort));
  ServerProcess server(flags);
  EXPECT_THAT(server.ready_line(), StartsWith("listening on "));
  return server;
}

Stream Connect(const ServerProcess& server) {
  absl::StatusOr<Stream> stream = Stream::Connect(server.address());
  CHECK_OK(stream);
  return *std::move(stream);
}

// Reads until the end, or until `limit` bytes have come.
std::string ReadAll(Stream& stream, size_t limit = SIZE_MAX) {
  std::string received;
  std::vector<char> buffer(1 << 16);
  while (received.size() < limit) {
    const absl::StatusOr<IoResult> got = stream.Read(absl::MakeSpan(buffer));
    EXPECT_THAT(got, IsOk());
    if (!got.ok() || got->end()) break;
    received.append(buffer.data(), *got->bytes());
  }
  return received;
}

bool Echoes(Stream& stream, std::string_view text) {
  return stream.WriteAll(text).ok() && ReadAll(stream, text.size()) == text;
}

std::string RandomBytes(size_t size) {
  std::mt19937_64 random(42);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

// Sends from a process of its own, so that this one can read meanwhile.
Child SendInBackground(Stream& stream, std::string_view data) {
  absl::StatusOr<Child> sender = Fork({}, [&] {
    return stream.WriteAll(data).ok() && stream.ShutdownWrite().ok() ? 0 : 1;
  });
  CHECK_OK(sender);
  return *std::move(sender);
}

TEST(ServerTest, SaysWhereItListensOnceItDoes) {
  ServerProcess server = StartServer();
  EXPECT_THAT(server.ready_line(),
              MatchesRegex("listening on 127\\.0\\.0\\.1:[1-9][0-9]* "
                           "\\(model fork, service echo\\)"));
  EXPECT_THAT(StartServer({"--model=iterative"}).ready_line(),
              EndsWith("(model iterative, service echo)"));
}

TEST(ServerTest, EchoesSixtyFourMebibytesByteForByte) {
  ServerProcess server = StartServer();
  Stream client = Connect(server);
  const std::string data = RandomBytes(64 << 20);
  Child sender = SendInBackground(client, data);
  EXPECT_TRUE(ReadAll(client) == data);
  EXPECT_THAT(sender.Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(ServerTest, SendsEverythingToAClientThatHasFinishedSending) {
  ServerProcess server = StartServer();
  Stream client = Connect(server);
  ASSERT_THAT(client.WriteAll("the last word"), IsOk());
  ASSERT_THAT(client.ShutdownWrite(), IsOk());
  EXPECT_EQ(ReadAll(client), "the last word");
  EXPECT_THAT(server.NextLogLine(), Optional(HasSubstr("exited 0")));
}

TEST(ServerTest, ServesTwoHundredClientsWhileOneStaysSilent) {
  ServerProcess server = StartServer();
  Stream silent = Connect(server);
  std::vector<Stream> clients;
  for (int i = 0; i < 200; ++i) clients.push_back(Connect(server));
  // All at once, then in the other order: nobody waits for anybody.
  for (size_t i = 0; i < clients.size(); ++i) {
    ASSERT_THAT(clients[i].WriteAll(absl::StrCat("client ", i)), IsOk());
  }
  for (size_t i = clients.size(); i-- > 0;) {
    const std::string expected = absl::StrCat("client ", i);
    EXPECT_EQ(ReadAll(clients[i], expected.size()), expected);
  }
  EXPECT_EQ(ChildrenOf(server.pid()).size(), 201);
  EXPECT_EQ(ZombiesOf(server.pid()), 0);
  EXPECT_TRUE(Echoes(silent, "at last"));
}

TEST(ServerTest, LogsWhoseChildEndedAndHow) {
  ServerProcess server = StartServer();
  std::string peer;
  pid_t pid;
  {
    Stream client = Connect(server);
    ASSERT_TRUE(Echoes(client, "x"));
    peer = LocalAddressOf(client.fd())->ToString();
    ASSERT_EQ(ChildrenOf(server.pid()).size(), 1);
    pid = ChildrenOf(server.pid())[0].pid;
  }
  EXPECT_THAT(
      server.NextLogLine(),
      Optional(MatchesRegex(absl::StrCat("pid ", pid, " peer ", peer,
                                         " exited 0 after [0-9.]+.?s .*"))));
}

// Each storm is 2,000 connections by four clients; when all their ends have
// been reported, every child must have been reaped, and reported once.
TEST(ServerTest, LeavesNoZombieInTwentyThousandConnections) {
  constexpr int kStorms = 10;
  constexpr int kClients = 4;
  constexpr int kConnectionsOfEach = 500;
  ServerProcess server = StartServer();
  for (int storm = 0; storm < kStorms; ++storm) {
    std::vector<Child> clients;
    for (int i = 0; i < kClients; ++i) {
      absl::StatusOr<Child> client =
          Fork({.parent_death_signal = SIGKILL}, [&] {
            for (int j = 0; j < kConnectionsOfEach; ++j) {
              absl::StatusOr<Stream> stream = Stream::Connect(server.address());
              if (!stream.ok() || !Echoes(*stream, "ping")) return 1;
            }
            return 0;
          });
      ASSERT_THAT(client, IsOk());
      clients.push_back(*std::move(client));
    }
    std::set<std::string> ends;
    for (int i = 0; i < kClients * kConnectionsOfEach; ++i) {
      std::optional<std::string> line = server.NextLogLine();
      ASSERT_THAT(line, Optional(HasSubstr(" exited 0 after ")));
      // Without its duration: the pid and the peer.
      const std::string whose = line->substr(0, line->find(" exited"));
      EXPECT_TRUE(ends.insert(whose).second) << whose << " came twice";
    }
    for (Child& client : clients) {
      EXPECT_THAT(client.Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
    }
    EXPECT_EQ(ZombiesOf(server.pid()), 0);
    EXPECT_EQ(ChildrenOf(server.pid()).size(), 0);
  }
}

TEST(ServerTest, ReportsACrashByItsSignalAndNobodyElseNotices) {
  ServerProcess server = StartServer();
  Stream neighbour = Connect(server);
  ASSERT_TRUE(Echoes(neighbour, "before"));
  const pid_t neighbours = ChildrenOf(server.pid()).at(0).pid;
  Stream victim = Connect(server);
  ASSERT_TRUE(Echoes(victim, "before"));
  for (const ProcessEntry& child : ChildrenOf(server.pid())) {
    if (child.pid == neighbours) continue;
    ASSERT_EQ(kill(child.pid, SIGSEGV), 0);
  }
  EXPECT_EQ(ReadAll(victim), "");
  EXPECT_THAT(server.NextLogLine(), Optional(HasSubstr(" killed by SIGSEGV")));
  EXPECT_TRUE(Echoes(neighbour, "after"));
  Stream later = Connect(server);
  EXPECT_TRUE(Echoes(later, "after"));
  EXPECT_EQ(ZombiesOf(server.pid()), 0);
}

TEST(ServerTest, GivesEachChildItsOwnConnectionAndNothingElse) {
  ServerProcess server = StartServer();
  Stream first = Connect(server);
  ASSERT_TRUE(Echoes(first, "x"));
  Stream second = Connect(server);
  ASSERT_TRUE(Echoes(second, "x"));
  for (const ProcessEntry& child : ChildrenOf(server.pid())) {
    int sockets = 0;
    int others = 0;
    for (int fd = 3; fd < 64; ++fd) {
      std::array<char, 256> target;
      const ssize_t length =
          readlink(absl::StrCat("/proc/", child.pid, "/fd/", fd).c_str(),
                   target.data(), target.size());
      if (length < 0) continue;
      ++(absl::StartsWith({target.data(), static_cast<size_t>(length)},
                          "socket:")
             ? sockets
             : others);
    }
    EXPECT_EQ(sockets, 1);
    EXPECT_EQ(others, 0);
  }
}

TEST(ServerTest, DrainsOnTheFirstSignal) {
  for (const int signo : {SIGTERM, SIGINT}) {
    ServerProcess server = StartServer();
    Stream inside = Connect(server);
    ASSERT_TRUE(Echoes(inside, "before"));
    server.Signal(signo);
    EXPECT_THAT(server.NextLogLine(),
                Optional(AllOf(HasSubstr("draining"), HasSubstr("1 inside"))));
    EXPECT_EQ(ErrnoOf(Stream::Connect(server.address()).status()),
              ECONNREFUSED);
    EXPECT_TRUE(Echoes(inside, "after"));
    ASSERT_THAT(inside.Close(), IsOk());
    EXPECT_THAT(server.NextLogLine(), Optional(HasSubstr("exited 0")));
    EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
  }
}

TEST(ServerTest, EndsAtOnceWhenNobodyIsInside) {
  ServerProcess server = StartServer();
  server.Signal(SIGTERM);
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
}

TEST(ServerTest, TerminatesWhoIsLeftWhenTheTimeIsUp) {
  ServerProcess server = StartServer({"--drain_timeout=10ms"});
  Stream silent = Connect(server);
  ASSERT_TRUE(Echoes(silent, "x"));
  server.Signal(SIGTERM);
  EXPECT_THAT(server.NextLogLineWith("killed"),
              Optional(HasSubstr("killed by SIGTERM")));
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
  EXPECT_EQ(ReadAll(silent), "");
}

TEST(ServerTest, EndsAtOnceOnASecondSignal) {
  ServerProcess server = StartServer({"--drain_timeout=24h"});
  Stream silent = Connect(server);
  ASSERT_TRUE(Echoes(silent, "x"));
  server.Signal(SIGTERM);
  ASSERT_THAT(server.NextLogLine(), Optional(HasSubstr("draining")));
  server.Signal(SIGINT);
  EXPECT_THAT(server.NextLogLineWith("pid"),
              Optional(HasSubstr("killed by SIGKILL")));
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
}

// What a terminal does on Ctrl-C.
TEST(ServerTest, DrainsWhenItsWholeProcessGroupIsSignalled) {
  ServerProcess server({std::string(kAnyPort)}, [] { setpgid(0, 0); });
  Stream inside = Connect(server);
  ASSERT_TRUE(Echoes(inside, "before"));
  ASSERT_EQ(kill(-server.pid(), SIGINT), 0);
  EXPECT_THAT(server.NextLogLine(), Optional(HasSubstr("1 inside")));
  EXPECT_TRUE(Echoes(inside, "after"));
  ASSERT_THAT(inside.Close(), IsOk());
  EXPECT_THAT(server.NextLogLine(), Optional(HasSubstr("exited 0")));
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
}

TEST(ServerTest, EndsWellHoweverOftenItIsAsked) {
  for (int round = 0; round < 20; ++round) {
    ServerProcess server = StartServer({"--drain_timeout=24h"});
    Stream silent = Connect(server);
    for (int i = 0; i < 200; ++i) {
      ASSERT_EQ(kill(server.pid(), i % 2 == 0 ? SIGTERM : SIGINT), 0);
    }
    EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
  }
}

TEST(ServerTest, ServesOnWhenNobodyReadsItsLog) {
  constexpr int kMoreThanAPageOfLines = 150;
  ServerProcess server = StartServer();
  server.ShrinkItsLog();
  for (int i = 0; i < kMoreThanAPageOfLines; ++i) {
    Stream client = Connect(server);
    ASSERT_TRUE(Echoes(client, "x"));
  }
  // The log is read up to where it broke off; the next line says what is
  // missing.
  Stream client = Connect(server);
  ASSERT_TRUE(Echoes(client, "x"));
  while (ChildrenOf(server.pid()).size() != 1) {  // The others are reaped.
  }
  ASSERT_THAT(server.NextLogLine(), Optional(HasSubstr("exited 0")));
  ASSERT_THAT(client.Close(), IsOk());
  EXPECT_THAT(server.NextLogLineWith("lost"),
              Optional(MatchesRegex("[0-9]+ lines? lost")));
  // On a slow machine the loss may be told in two parts.
  EXPECT_THAT(server.NextLogLineWith("exited"),
              Optional(HasSubstr("exited 0")));
}

TEST(ServerTest, ServesOneClientAtATimeWhenIterative) {
  ServerProcess server = StartServer({"--model=iterative"});
  Stream first = Connect(server);
  ASSERT_TRUE(Echoes(first, "first"));
  Stream second = Connect(server);
  ASSERT_THAT(second.WriteAll("second"), IsOk());
  // A few more words with the first: had the second been let in, it would have
  // been answered as well.
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(Echoes(first, "still here"));
  std::array<char, 1> byte;
  EXPECT_THAT(second.TryRead(absl::MakeSpan(byte)),
              IsOkAndHolds(IoResult::WouldBlock()));
  EXPECT_EQ(ChildrenOf(server.pid()).size(), 1);
  ASSERT_THAT(first.Close(), IsOk());
  EXPECT_EQ(ReadAll(second, 6), "second");
}

TEST(ServerTest, ServesWhoWaitedWhenItDrains) {
  ServerProcess server = StartServer({"--model=iterative"});
  Stream first = Connect(server);
  ASSERT_TRUE(Echoes(first, "first"));
  Stream second = Connect(server);
  Stream third = Connect(server);
  server.Signal(SIGTERM);
  ASSERT_THAT(server.NextLogLine(), Optional(HasSubstr("1 inside")));
  ASSERT_THAT(first.Close(), IsOk());
  EXPECT_TRUE(Echoes(second, "second"));
  ASSERT_THAT(second.Close(), IsOk());
  EXPECT_TRUE(Echoes(third, "third"));
  ASSERT_THAT(third.Close(), IsOk());
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
}

TEST(ServerTest, OutlivesWhoeverReadItsLog) {
  ServerProcess server = StartServer();
  server.CloseItsOutput();
  for (int i = 0; i < 3; ++i) {
    Stream client = Connect(server);
    EXPECT_TRUE(Echoes(client, "x"));
  }
  server.Signal(SIGTERM);
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
}

TEST(ServerTest, ReportsEndsEvenIfBornWithSigchldIgnored) {
  ServerProcess server({std::string(kAnyPort)},
                       [] { (void)std::signal(SIGCHLD, SIG_IGN); });
  ASSERT_THAT(Connect(server).Close(), IsOk());
  EXPECT_THAT(server.NextLogLine(), Optional(HasSubstr("exited 0")));
}

TEST(ServerTest, AnswersSignalsEvenIfBornWithThemIgnoredAndBlocked) {
  ServerProcess server({std::string(kAnyPort)}, [] {
    (void)std::signal(SIGTERM, SIG_IGN);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, nullptr);
  });
  Stream silent = Connect(server);
  ASSERT_TRUE(Echoes(silent, "x"));
  server.Signal(SIGTERM);
  EXPECT_THAT(server.NextLogLine(), Optional(HasSubstr("draining")));
  server.Signal(SIGTERM);
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
}

TEST(ServerTest, SendsItsLogToNoClientWhenBornWithoutDescriptors) {
  const std::string name =
      absl::StrCat("unix:@brood/closed/", std::random_device()());
  ServerProcess server({absl::StrCat("--listen=", name)}, [] {
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) close(fd);
  });
  // It cannot say when it is ready, so ask until it answers.
  absl::StatusOr<Stream> client = absl::UnavailableError("not yet");
  while (!client.ok()) client = Stream::Connect(*Address::Parse(name));
  for (int i = 0; i < 3; ++i) {
    Stream other = *Stream::Connect(*Address::Parse(name));
    EXPECT_TRUE(Echoes(other, "other"));
  }
  EXPECT_TRUE(Echoes(*client, "mine"));
  ASSERT_THAT(client->ShutdownWrite(), IsOk());
  EXPECT_EQ(ReadAll(*client), "");
}

TEST(ServerTest, ListensOnAnyKindOfAddress) {
  const std::string path = absl::StrCat("brood_any_", getpid(), ".sock");
  for (const std::string& listen :
       {std::string("[::1]:0"), absl::StrCat("unix:", path),
        absl::StrCat("unix:@brood/any/", std::random_device()())}) {
    ServerProcess server({absl::StrCat("--listen=", listen)});
    if (listen == "[::1]:0" && server.ready_line().empty()) {
      GTEST_LOG_(INFO) << "SKIPPED: no IPv6 here: " << server.RestOfLog();
      continue;
    }
    Stream client = Connect(server);
    EXPECT_TRUE(Echoes(client, listen)) << listen;
    server.Signal(SIGTERM);
    ASSERT_THAT(client.Close(), IsOk());
    EXPECT_EQ(server.Wait(), ExitStatus::Exited(0)) << listen;
  }
  struct stat left;
  EXPECT_EQ(stat(path.c_str(), &left), -1) << "left its socket behind";
}

struct BadInput {
  std::vector<std::string> args;
  int exit_code;
  std::vector<std::string> says;
};

void ExpectRefused(const BadInput& bad) {
  SCOPED_TRACE(bad.args[0]);
  ServerProcess server(bad.args);
  EXPECT_EQ(server.ready_line(), "");
  const std::string said = server.RestOfLog();
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(bad.exit_code));
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  for (const std::string& part : bad.says) EXPECT_THAT(said, HasSubstr(part));
}

TEST(ServerTest, RefusesBadFlagsInOneLine) {
  const std::string long_path = "unix:/" + std::string(200, 'x');
  const std::vector<BadInput> cases = {
      {{"--port=80"}, 2, {"--port", "--help"}},
      {{"7007"}, 2, {"7007", "--listen"}},
      {{"--listen"}, 2, {"--listen", "value"}},
      {{"--listen=nonsense"}, 2, {"--listen", "nonsense"}},
      {{"--listen=127.0.0.1:65536"},
       2,
       {"--listen", "127.0.0.1:65536", "65535"}},
      {{"--listen=two\nlines"}, 2, {"--listen", "two\\nlines"}},
      {{absl::StrCat("--listen=", long_path)}, 2, {"--listen", "108", "201"}},
      {{"--model=threads"}, 2, {"--model", "threads", "fork", "iterative"}},
      {{"--drain_timeout=-1s"}, 2, {"--drain_timeout", "-1s", "0s to 24h"}},
      {{"--drain_timeout=25h"}, 2, {"--drain_timeout", "25h", "0s to 24h"}},
      {{"--drain_timeout=inf"}, 2, {"--drain_timeout", "inf", "0s to 24h"}},
      {{"--drain_timeout=soon"}, 2, {"--drain_timeout", "soon", "0s to 24h"}},
  };
  for (const BadInput& bad : cases) ExpectRefused(bad);
}

TEST(ServerTest, SaysInOneLineWhatTheWorldRefuses) {
  ServerProcess first = StartServer();
  const std::string taken =
      absl::StrCat("--listen=", first.address().ToString());
  ExpectRefused({{taken}, 1, {taken, "EADDRINUSE", "choose another"}});
  ExpectRefused({{"--listen=192.0.2.1:0"}, 1, {"192.0.2.1", "EADDRNOTAVAIL"}});
  ExpectRefused(
      {{"--listen=unix:/no/such/folder/s"}, 1, {"/no/such/folder/s"}});
}

TEST(ServerTest, ReplacesNothingButASocketThatNobodyAnswers) {
  const std::string file = absl::StrCat("brood_file_", getpid());
  UniqueFd(open(file.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  ExpectRefused({{absl::StrCat("--listen=unix:", file)}, 1, {file}});
  struct stat still;
  EXPECT_EQ(stat(file.c_str(), &still), 0);
  unlink(file.c_str());

  const std::string path = absl::StrCat("brood_stale_", getpid());
  const std::string flag = absl::StrCat("--listen=unix:", path);
  {
    ServerProcess killed({flag});
    ExpectRefused({{flag}, 1, {path, "EADDRINUSE"}});
    // Whoever asked was a client; until its process has begun, it has a copy of
    // the socket, too.
    EXPECT_TRUE(killed.NextLogLineWith("exited").has_value());
    killed.Signal(SIGKILL);
    killed.Wait();
  }
  ASSERT_EQ(stat(path.c_str(), &still), 0);
  ServerProcess successor({flag});
  Stream client = Connect(successor);
  EXPECT_TRUE(Echoes(client, "x"));
  ASSERT_THAT(client.Close(), IsOk());
  successor.Signal(SIGTERM);
  EXPECT_EQ(successor.Wait(), ExitStatus::Exited(0));
  EXPECT_EQ(stat(path.c_str(), &still), -1);
}

TEST(ServerTest, ExplainsItselfWhenAsked) {
  ServerProcess server({"--help"});
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
  EXPECT_EQ(server.RestOfLog(), "");
}

}  // namespace
}  // namespace brood
