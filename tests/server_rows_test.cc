// SPDX-License-Identifier: Apache-2.0
//
// What no server that this one was compared with can do, shown on the real
// binary: the row of that comparison stands above each test.
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdint>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/tests/server_clients.h"
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
using ::testing::Not;
using ::testing::Optional;
using ::testing::SizeIs;
using ::testing::StartsWith;

ServerProcess StartServer(std::vector<std::string> more) {
  more.insert(more.begin(), "--listen=127.0.0.1:0");
  return ServerProcess(more);
}

// Up to the next newline.
std::string ReadLine(Stream& stream) {
  std::string line;
  std::array<char, 1> byte;
  while (true) {
    const absl::StatusOr<IoResult> got = stream.Read(absl::MakeSpan(byte));
    if (!got.ok() || got->end() || byte[0] == '\n') return line;
    line.push_back(byte[0]);
  }
}

char StateOfProcess(pid_t parent, pid_t pid) {
  for (const ProcessEntry& child : ChildrenOf(parent)) {
    if (child.pid == pid) return child.state;
  }
  return '-';
}

// `places` more come in and one more waits.
void ExpectPlacesLeft(ServerProcess& server, int places) {
  const uint64_t before = StateOf(server, "active");
  std::vector<Stream> inside;
  for (int i = 0; i < places; ++i) {
    inside.push_back(Come(server));
    EXPECT_TRUE(Echoes(inside.back()));
  }
  Stream waiting = Come(server);
  AwaitState(server, "waiting", 1);
  EXPECT_EQ(StateOf(server, "active"), before + places);
}

// ---- Row 1: supervision by what is one's own, safe beside others' children.

// A child that the program had before it became the server, as exec keeps it.
TEST(ServerRowsTest, LeavesTheChildOfSomebodyElseAloneAndUncounted) {
  ServerProcess server({"--listen=127.0.0.1:0", "--max_connections=2"}, [] {
    if (fork() != 0) return;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)syscall(SYS_close_range, 0, ~0U, 0);
    while (true) pause();
  });
  const std::vector<ProcessEntry> children = ChildrenOf(server.pid());
  ASSERT_THAT(children, SizeIs(1));
  const pid_t foreign = children[0].pid;
  Stream inside = Come(server);
  ASSERT_TRUE(Echoes(inside));
  ASSERT_EQ(kill(foreign, SIGKILL), 0);
  while (StateOfProcess(server.pid(), foreign) != 'Z') sched_yield();
  for (int i = 0; i < 10; ++i) {  // Ends of its own are reaped beside it.
    Stream client = Come(server);
    EXPECT_TRUE(Echoes(client));
    ASSERT_THAT(client.Close(), IsOk());
    EXPECT_THAT(server.NextLogLine(), Optional(HasSubstr("exited 0")));
  }
  EXPECT_EQ(StateOf(server, "active"), 1);
  ExpectPlacesLeft(server, 1);
  // Whoever started it may still ask how it ended.
  EXPECT_EQ(StateOfProcess(server.pid(), foreign), 'Z');
  AwaitState(server, "waiting", 0);
  AwaitState(server, "active", 1);
  EXPECT_EQ(ZombiesOf(server.pid()), 1);
}

// ---- Row 2: slots are counted exactly, whatever happens.

void ExpectNoPlaceLostOrWon(const std::vector<std::string>& program) {
  constexpr int kPlaces = 4;
  std::vector<std::string> flags = {absl::StrCat("--max_connections=", kPlaces),
                                    "--max_waiting=100"};
  flags.insert(flags.end(), program.begin(), program.end());
  ServerProcess server = StartServer(flags);
  for (int round = 0; round < 10; ++round) {
    // As many as there are places and some who wait, of whom each ends in
    // another way.
    std::vector<Stream> clients;
    for (int i = 0; i < 2 * kPlaces; ++i) clients.push_back(Come(server));
    for (int i = 0; i < kPlaces; ++i) ASSERT_TRUE(Echoes(clients[i]));
    const std::vector<ProcessEntry> children = ChildrenOf(server.pid());
    ASSERT_EQ(children.size(), kPlaces);
    ASSERT_EQ(kill(children[0].pid, SIGKILL), 0);
    ASSERT_EQ(kill(children[1].pid, SIGTERM), 0);
    ASSERT_THAT(clients[0].Reset(), IsOk());
    ASSERT_THAT(clients[kPlaces].Reset(), IsOk());
    for (int i = 1; i < kPlaces; ++i) ASSERT_THAT(clients[i].Close(), IsOk());
    for (int i = kPlaces + 1; i < 2 * kPlaces; ++i) {
      EXPECT_TRUE(Echoes(clients[i]));
    }
    clients.clear();
    AwaitState(server, "active", 0);
    EXPECT_EQ(StateOf(server, "waiting"), 0);
  }
  // One of each round may have left before it had a process.
  EXPECT_EQ(StateOf(server, "connections") + StateOf(server, "turned_away"),
            10 * 2 * kPlaces);
  EXPECT_LE(StateOf(server, "turned_away"), 10);
  EXPECT_EQ(ZombiesOf(server.pid()), 0);
  ExpectPlacesLeft(server, kPlaces);
}

TEST(ServerRowsTest, LosesAndWinsNoPlaceHoweverConnectionsEnd) {
  ExpectNoPlaceLostOrWon({});
}

TEST(ServerRowsTest, LosesAndWinsNoPlaceHoweverProgramsEnd) {
  ExpectNoPlaceLostOrWon({"--", "cat"});
}

// The server is PID 1 of a pid namespace, and what its programs leave behind is
// its own to reap, but never was a connection.
int CountOrphansAsPidOne() {
  if (unshare(CLONE_NEWUSER | CLONE_NEWPID) == -1) return 77;
  ServerProcess server(
      {"--listen=127.0.0.1:0", "--max_connections=2", "--", "sh", "-c",
       "sleep 1000 >/dev/null 2>&1 & echo ready; cat"},
      [] {
        if (unshare(CLONE_NEWNS) == -1 ||
            mount("proc", "/proc", "proc", 0, nullptr) == -1) {
          _exit(77);
        }
      });
  if (server.ready_line().empty()) return 77;
  Stream inside = Come(server);
  EXPECT_EQ(ReadLine(inside), "ready");
  constexpr int kOrphans = 5;
  for (int i = 0; i < kOrphans; ++i) {
    Stream client = Come(server);
    EXPECT_EQ(ReadLine(client), "ready");
    EXPECT_THAT(client.Close(), IsOk());
    EXPECT_THAT(server.NextLogLine(), Optional(HasSubstr("exited 0")));
  }
  AwaitState(server, "orphans", kOrphans);
  EXPECT_EQ(StateOf(server, "active"), 1);
  int killed = 0;
  for (const ProcessEntry& child : ChildrenOf(server.pid())) {
    std::string name;
    std::ifstream(absl::StrCat("/proc/", child.pid, "/comm")) >> name;
    if (name == "sleep" && kill(child.pid, SIGKILL) == 0) ++killed;
  }
  EXPECT_EQ(killed, kOrphans);
  for (int i = 0; i < killed; ++i) {
    EXPECT_THAT(server.NextLogLine(),
                Optional(MatchesRegex("orphan [0-9]+ killed by SIGKILL")));
  }
  EXPECT_EQ(StateOf(server, "orphans"), 0);
  EXPECT_EQ(StateOf(server, "active"), 1);
  EXPECT_EQ(ZombiesOf(server.pid()), 0);
  Stream second = Come(server);
  EXPECT_EQ(ReadLine(second), "ready");
  Stream third = Come(server);
  AwaitState(server, "waiting", 1);
  EXPECT_EQ(StateOf(server, "active"), 2);
  return testing::Test::HasFailure() ? 1 : 0;
}

TEST(ServerRowsTest, CountsNoOrphanThatItAdopts) {
  absl::StatusOr<Child> all =
      Fork({.parent_death_signal = SIGKILL}, CountOrphansAsPidOne);
  ASSERT_THAT(all, IsOk());
  const absl::StatusOr<ExitStatus> status = all->Wait();
  ASSERT_THAT(status, IsOk());
  if (*status == ExitStatus::Exited(77)) {
    GTEST_SKIP() << "no pid namespace with a /proc of its own is to be had";
  }
  EXPECT_EQ(*status, ExitStatus::Exited(0));
}

// ---- Row 3: a program is told that its client has gone.

TEST(ServerRowsTest, TellsAProgramThatItsClientIsGone) {
  ServerProcess server = StartServer(
      {"--client_gone_grace=20ms", "--", "sh", "-c",
       "trap 'exit 7' TERM; echo ready; while :; do sleep 1000 & wait; done"});
  Stream client = Come(server);
  ASSERT_EQ(ReadLine(client), "ready");
  ASSERT_THAT(client.Reset(), IsOk());
  EXPECT_THAT(server.NextLogLine(),
              Optional(AllOf(HasSubstr(" exited 7 "),
                             EndsWith("because client gone for 20ms"))));
}

TEST(ServerRowsTest, KillsAProgramThatDoesNotListenThatItsClientIsGone) {
  ServerProcess server =
      StartServer({"--client_gone_grace=0s", "--", "sh", "-c",
                   "trap '' TERM; echo ready; exec sleep 1000"});
  Stream client = Come(server);
  ASSERT_EQ(ReadLine(client), "ready");
  ASSERT_THAT(client.Reset(), IsOk());
  EXPECT_THAT(server.NextLogLine(),
              Optional(AllOf(HasSubstr(" killed by SIGKILL "),
                             HasSubstr("because client gone"))));
}

TEST(ServerRowsTest, LetsAProgramFinishForAClientThatHasOnlyFinishedSending) {
  ServerProcess server = StartServer(
      {"--client_gone_grace=0s", "--", "sh", "-c", "cat; echo done"});
  Stream client = Come(server);
  ASSERT_THAT(client.ShutdownWrite(), IsOk());
  EXPECT_EQ(ReadAll(client), "done\n");
  EXPECT_THAT(server.NextLogLine(), Optional(AllOf(HasSubstr(" exited 0 "),
                                                   Not(HasSubstr("because")))));
}

// ---- Row 4: whom a program has started goes with it.

TEST(ServerRowsTest, EndsTheWholeGroupOfAProgramAndNotItAlone) {
  ServerProcess server = StartServer(
      {"--client_gone_grace=0s", "--", "sh", "-c",
       "(trap '' TERM; exec sleep 1000) & echo $!; "
       "(trap '' TERM; sleep 1000; echo late) & echo $!; echo $$; wait"});
  Stream client = Come(server);
  Stream other = Come(server);
  std::vector<UniqueFd> family;
  const auto add = [&](Stream& stream) {
    pid_t pid = 0;
    ASSERT_TRUE(absl::SimpleAtoi(ReadLine(stream), &pid));
    family.emplace_back(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    ASSERT_TRUE(family.back().valid());
  };
  for (int i = 0; i < 3; ++i) add(client);
  for (int i = 0; i < 3; ++i) add(other);
  ASSERT_THAT(client.Reset(), IsOk());
  EXPECT_THAT(server.NextLogLine(), Optional(HasSubstr("client gone")));
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(PollUntil(family[i].get(), POLLIN, absl::InfiniteFuture()),
                IsOkAndHolds(true));
  }
  for (int i = 3; i < 6; ++i) {  // Nobody else's family is touched.
    EXPECT_THAT(PollUntil(family[i].get(), POLLIN, absl::InfinitePast()),
                IsOkAndHolds(false));
  }
}

// The models, each with room for two.
const std::vector<std::vector<std::string>>& ModelsForTwo() {
  static const auto& models = *new std::vector<std::vector<std::string>>{
      {"--model=fork"},
      {"--model=prefork", "--workers=2"},
      {"--model=prefork", "--workers=2", "--connections_per_worker=1"}};
  return models;
}

ServerProcess StartServerFor(const std::string& script,
                             std::vector<std::string> flags) {
  flags.insert(flags.end(), {"--", "sh", "-c", script});
  return StartServer(std::move(flags));
}

// Whoever says his pid in the next line, by a descriptor that goes on meaning
// him.
UniqueFd NextMember(Stream& stream) {
  pid_t pid = 0;
  EXPECT_TRUE(absl::SimpleAtoi(ReadLine(stream), &pid));
  UniqueFd member(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  EXPECT_TRUE(member.valid());
  return member;
}

void ExpectEnd(absl::Span<const UniqueFd> members) {
  for (const UniqueFd& member : members) {
    EXPECT_THAT(PollUntil(member.get(), POLLIN, absl::InfiniteFuture()),
                IsOkAndHolds(true));
  }
}

void ExpectLife(absl::Span<const UniqueFd> members) {
  for (const UniqueFd& member : members) {
    EXPECT_THAT(PollUntil(member.get(), POLLIN, absl::InfinitePast()),
                IsOkAndHolds(false));
  }
}

// The program, and three who do not listen to SIGTERM: one in a session of its
// own, a daemon, and a daemon that knows of no connection.
constexpr std::string_view kScattered =
    "echo $$; trap '' TERM; "
    "setsid sleep 1000 & echo $!; "
    "(setsid sh -c 'echo $$; exec sleep 1000' &); "
    "(env -i setsid /bin/sh -c 'echo $$; exec /bin/sleep 1000' &); "
    "trap - TERM; ";

std::vector<UniqueFd> Scattered(Stream& stream) {
  std::vector<UniqueFd> members;
  for (int i = 0; i < 4; ++i) members.push_back(NextMember(stream));
  return members;
}

TEST(ServerRowsTest, EndsWhomAProgramHasStartedWhereverTheyWent) {
  for (std::vector<std::string> flags : ModelsForTwo()) {
    SCOPED_TRACE(absl::StrCat(flags[0], " ", flags.size()));
    flags.push_back("--client_gone_grace=0s");
    ServerProcess server =
        StartServerFor(absl::StrCat(kScattered, "wait"), flags);
    Stream client = Come(server);
    Stream other = Come(server);
    const std::vector<UniqueFd> family = Scattered(client);
    const std::vector<UniqueFd> of_other = Scattered(other);
    ASSERT_THAT(client.Reset(), IsOk());
    ExpectEnd(family);
    ExpectLife(of_other);
    ASSERT_THAT(other.Reset(), IsOk());
    ExpectEnd(of_other);
    while (ZombiesOf(server.pid()) > 0) sched_yield();
  }
}

TEST(ServerRowsTest, EndsWhomAProgramHasStartedWhenItIsToEndAtOnce) {
  for (std::vector<std::string> flags : ModelsForTwo()) {
    SCOPED_TRACE(absl::StrCat(flags[0], " ", flags.size()));
    flags.push_back("--drain_timeout=24h");
    ServerProcess server =
        StartServerFor(absl::StrCat(kScattered, "wait"), flags);
    Stream client = Come(server);
    const std::vector<UniqueFd> family = Scattered(client);
    server.Signal(SIGTERM);
    ASSERT_THAT(server.NextLogLineWith("draining"),
                Optional(HasSubstr("1 in")));
    server.Signal(SIGTERM);
    EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
    ExpectEnd(family);
  }
}

TEST(ServerRowsTest, AsksWhomAProgramHasStartedBeforeItEndsThem) {
  for (std::vector<std::string> flags : ModelsForTwo()) {
    SCOPED_TRACE(absl::StrCat(flags[0], " ", flags.size()));
    flags.push_back("--handler_timeout=500ms");
    ServerProcess server = StartServerFor(
        "(setsid sh -c 'trap \"echo asked; exit\" TERM; echo $$; "
        "while :; do sleep 1000 & wait; done' &); "
        "trap '' TERM; exec sleep 1000",
        flags);
    Stream client = Come(server);
    std::vector<UniqueFd> family;
    family.push_back(NextMember(client));
    EXPECT_EQ(ReadLine(client), "asked");
    ExpectEnd(family);
  }
}

TEST(ServerRowsTest, LetsThoseLiveWhomAProgramLeavesThatEndsByItself) {
  for (std::vector<std::string> flags : ModelsForTwo()) {
    SCOPED_TRACE(absl::StrCat(flags[0], " ", flags.size()));
    flags.push_back("--client_gone_grace=0s");
    ServerProcess server = StartServerFor(
        absl::StrCat(kScattered, "read line; [ \"$line\" ] || wait"), flags);
    Stream first = Come(server);
    std::vector<UniqueFd> left = Scattered(first);
    ASSERT_THAT(first.WriteAll("go\n"), IsOk());
    ExpectEnd(absl::MakeConstSpan(&left.front(), 1));
    left.erase(left.begin());
    EXPECT_THAT(server.NextLogLine(), Optional(HasSubstr(" exited 0 ")));
    // Somebody else's program is ended, and then the server ends.
    Stream second = Come(server);
    const std::vector<UniqueFd> ended = Scattered(second);
    ASSERT_THAT(second.Reset(), IsOk());
    ExpectEnd(ended);
    ExpectLife(left);
    // Who is left is reaped all the same.
    ASSERT_EQ(
        syscall(SYS_pidfd_send_signal, left.back().get(), SIGKILL, nullptr, 0),
        0);
    while (ZombiesOf(server.pid()) > 0) sched_yield();
    left.pop_back();
    server.Signal(SIGTERM);
    EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
    ExpectLife(left);
    for (const UniqueFd& member : left) {
      EXPECT_EQ(
          syscall(SYS_pidfd_send_signal, member.get(), SIGKILL, nullptr, 0), 0);
    }
  }
}

// ---- Row 5: a graceful stop serves who is in the kernel's queue.

// The server is held while they connect, so that it has let in none of them
// when it is told to stop.
void ExpectQueueServed(const std::vector<std::string>& flags, size_t workers) {
  SCOPED_TRACE(flags[0]);
  constexpr int kClients = 200;
  ServerProcess server = StartServer(flags);
  if (workers > 0) AwaitState(server, "idle", workers);
  std::vector<pid_t> everybody = {server.pid()};
  for (const ProcessEntry& child : ChildrenOf(server.pid())) {
    everybody.push_back(child.pid);
  }
  ASSERT_EQ(everybody.size(), workers + 1);
  for (const pid_t pid : everybody) ASSERT_EQ(kill(pid, SIGSTOP), 0);
  std::vector<Stream> clients;
  for (int i = 0; i < kClients; ++i) clients.push_back(Come(server));
  server.Signal(SIGTERM);
  for (const pid_t pid : everybody) ASSERT_EQ(kill(pid, SIGCONT), 0);
  for (int i = 0; i < kClients; ++i) {
    EXPECT_TRUE(Echoes(clients[i], absl::StrCat("client ", i)));
    ASSERT_THAT(clients[i].Close(), IsOk());
  }
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
}

TEST(ServerRowsTest, ServesWhoIsInTheKernelsQueueWhenItStops) {
  ExpectQueueServed({"--model=fork"}, 0);
  ExpectQueueServed({"--model=iterative"}, 0);
  ExpectQueueServed({"--model=prefork", "--workers=2"}, 2);
  ExpectQueueServed({"--model=fork", "--", "cat"}, 0);
}

// ---- Row 6: a rate for each source, for programs too, that heals by itself.

TEST(ServerRowsTest, LetsASourceInAgainThatHasComeTooOften) {
  ServerProcess server = StartServer(
      {"--connection_rate_per_source=20/s,5", "--at_limit=reset", "--", "cat"});
  int refused = 0;
  int served = 0;
  while (refused == 0) {
    ++(Echoes(Knock(server, 2)) ? served : refused);
  }
  EXPECT_GE(served, 5);
  for (int i = 0; i < 5; ++i) {  // It is nobody else's affair.
    Stream other = Come(server, 3);
    EXPECT_TRUE(Echoes(other));
  }
  // The next token comes within a twentieth of a second, and nobody has to do
  // anything for it.
  const absl::Duration began = MonotonicNow();
  while (!Echoes(Knock(server, 2))) continue;
  EXPECT_LT(MonotonicNow() - began, absl::Seconds(5));
}

// ---- Row 7: a source of IPv6 is its network, by default.

// A client for whom a proxy speaks.
Stream ComeBehindAProxy(const ServerProcess& server, std::string_view source) {
  Stream stream = Come(server);
  const bool v6 = absl::StrContains(source, ':');
  EXPECT_THAT(stream.WriteAll(absl::StrCat(
                  "PROXY ", v6 ? "TCP6 " : "TCP4 ", source,
                  v6 ? " 2001:db8:ffff::1" : " 192.0.2.99", " 4000 7007\r\n")),
              IsOk());
  return stream;
}

TEST(ServerRowsTest, TakesASixtyFourOfIpv6AndAMappedAddressForOneSource) {
  const std::vector<std::string> flags = {
      "--proxy_protocol=v1", "--trusted_proxies=127.0.0.1",
      "--max_connections_per_source=1", "--at_limit=refuse",
      "--at_limit_message=full"};
  ServerProcess server = StartServer(flags);
  Stream first = ComeBehindAProxy(server, "2001:db8:0:7::1");
  ASSERT_TRUE(Echoes(first));
  Stream same = ComeBehindAProxy(server, "2001:db8:0:7:ffff:ffff:ffff:ffff");
  EXPECT_EQ(ReadAll(same), "full\n");
  Stream next = ComeBehindAProxy(server, "2001:db8:0:8::1");
  EXPECT_TRUE(Echoes(next));
  Stream v4 = ComeBehindAProxy(server, "192.0.2.7");
  ASSERT_TRUE(Echoes(v4));
  Stream mapped = ComeBehindAProxy(server, "::ffff:192.0.2.7");
  EXPECT_EQ(ReadAll(mapped), "full\n");
  Stream neighbour = ComeBehindAProxy(server, "192.0.2.8");
  EXPECT_TRUE(Echoes(neighbour));
}

TEST(ServerRowsTest, TakesWiderNetworksForOneSourceWhereItIsTold) {
  ServerProcess server =
      StartServer({"--proxy_protocol=v1", "--trusted_proxies=127.0.0.1",
                   "--max_connections_per_source=1", "--source_prefix=24,48",
                   "--at_limit=refuse", "--at_limit_message=full"});
  Stream first = ComeBehindAProxy(server, "2001:db8:0:7::1");
  ASSERT_TRUE(Echoes(first));
  Stream same = ComeBehindAProxy(server, "2001:db8:0:8::1");
  EXPECT_EQ(ReadAll(same), "full\n");
  Stream next = ComeBehindAProxy(server, "2001:db8:1::1");
  EXPECT_TRUE(Echoes(next));
}

// ---- Row 8: at the limit the heaviest source goes first, as it is told.

TEST(ServerRowsTest, TurnsAwayTheHeaviestSourceFirst) {
  ServerProcess server =
      StartServer({"--max_connections=2", "--max_waiting=10"});
  Stream inside = Come(server, 4);
  ASSERT_TRUE(Echoes(inside));
  Stream first = Come(server, 2);
  ASSERT_TRUE(Echoes(first));
  std::vector<Stream> heavy;
  for (int i = 0; i < 10; ++i) heavy.push_back(Come(server, 2));
  AwaitState(server, "waiting", 10);
  Stream light = Come(server, 3);
  // The last of those who are too many has to go, and not the newcomer.
  EXPECT_EQ(ReadAll(heavy.back()), "");
  EXPECT_THAT(server.NextLogLine(),
              Optional(AllOf(StartsWith("turned away 127.0.0.2:"),
                             HasSubstr("the waiting room is full"))));
  EXPECT_EQ(StateOf(server, "waiting"), 10);
  // Nor do those who came before it go first: one of theirs is inside.
  ASSERT_THAT(inside.Close(), IsOk());
  EXPECT_TRUE(Echoes(light));
}

TEST(ServerRowsTest, SaysNoAsItIsToldTo) {
  struct Case {
    std::vector<std::string> flags;
    std::string says;
    bool reset;
  };
  for (const Case& c :
       {Case{{"--at_limit=refuse", "--at_limit_message=full"}, "full\n", false},
        Case{{"--at_limit=refuse"}, "", false},
        Case{{"--at_limit=reset"}, "", true}}) {
    std::vector<std::string> flags = c.flags;
    flags.push_back("--max_connections=1");
    ServerProcess server = StartServer(flags);
    Stream inside = Come(server);
    ASSERT_TRUE(Echoes(inside));
    if (c.reset) {
      EXPECT_TRUE(IsReset(Knock(server, 1)));
    } else {
      Stream refused = Come(server);
      EXPECT_EQ(ReadAll(refused), c.says);
    }
    ASSERT_THAT(inside.Close(), IsOk());
    AwaitState(server, "active", 0);
    Stream later = Come(server);
    EXPECT_TRUE(Echoes(later));
  }
}

// ---- Row 9: one line says all that there is to say of a connection.

// The value of a field in a line of JSON, as it is written there.
std::string FieldOf(const std::string& line, std::string_view name) {
  const std::string key = absl::StrCat("\"", name, "\":");
  size_t begin = line.find(key);
  if (begin == std::string::npos) return "";
  begin += key.size();
  const bool text = line[begin] == '"';
  const size_t end = line.find_first_of(text ? "\"" : ",}", begin + 1);
  return text ? line.substr(begin + 1, end - begin - 1)
              : line.substr(begin, end - begin);
}

double NumberOf(const std::string& line, std::string_view name) {
  double number = -1;
  EXPECT_TRUE(absl::SimpleAtod(FieldOf(line, name), &number))
      << name << " of " << line;
  return number;
}

TEST(ServerRowsTest, LogsEveryFieldOfAConnectionAndItIsTrue) {
  for (const std::vector<std::string>& model :
       std::vector<std::vector<std::string>>{
           {"--model=fork"},
           {"--model=iterative"},
           {"--model=prefork", "--workers=1"}}) {
    SCOPED_TRACE(model[0]);
    std::vector<std::string> flags = model;
    flags.push_back("--log_format=json");
    ServerProcess server = StartServer(flags);
    const absl::Duration began = MonotonicNow();
    Stream client = Come(server, 5);
    ASSERT_TRUE(Echoes(client, std::string(12'345, 'x')));
    const std::vector<ProcessEntry> children = ChildrenOf(server.pid());
    ASSERT_THAT(children, SizeIs(1));
    const std::string peer = LocalAddressOf(client.fd())->ToString();
    ASSERT_THAT(client.WriteAll("yes"), IsOk());
    ASSERT_THAT(client.ShutdownWrite(), IsOk());
    EXPECT_EQ(ReadAll(client), "yes");
    const std::optional<std::string> line =
        server.NextLogLineWith("\"event\":\"connection\"");
    const double took = absl::ToDoubleSeconds(MonotonicNow() - began);
    ASSERT_TRUE(line.has_value());
    EXPECT_EQ(FieldOf(*line, "id"), "1");
    EXPECT_EQ(FieldOf(*line, "pid"), absl::StrCat(children[0].pid));
    EXPECT_EQ(FieldOf(*line, "peer"), peer);
    EXPECT_EQ(FieldOf(*line, "local"), server.address().ToString());
    EXPECT_EQ(absl::StrCat("--model=", FieldOf(*line, "model")), model[0]);
    EXPECT_EQ(FieldOf(*line, "service"), "echo");
    EXPECT_EQ(FieldOf(*line, "status"), "exited 0");
    EXPECT_EQ(FieldOf(*line, "exit_code"), "0");
    EXPECT_GT(NumberOf(*line, "duration_seconds"), 0);
    EXPECT_LE(NumberOf(*line, "duration_seconds"), took);
    EXPECT_EQ(FieldOf(*line, "bytes_in"), "12348");
    EXPECT_EQ(FieldOf(*line, "bytes_out"), "12348");
    EXPECT_EQ(FieldOf(*line, "retransmits"), "0");
    EXPECT_GE(NumberOf(*line, "user_seconds"), 0);
    EXPECT_LE(
        NumberOf(*line, "user_seconds") + NumberOf(*line, "system_seconds"),
        took);
    EXPECT_GE(NumberOf(*line, "max_resident_bytes"), 100'000);
    EXPECT_EQ(FieldOf(*line, "because"), "");
  }
}

TEST(ServerRowsTest, LogsEachByteHoweverTheConnectionEnds) {
  for (const std::vector<std::string>& flags :
       std::vector<std::vector<std::string>>{{"--model=fork"},
                                             {"--model=prefork", "--workers=1"},
                                             {"--model=fork", "--", "cat"}}) {
    SCOPED_TRACE(absl::StrJoin(flags, " "));
    ServerProcess server = StartServer(flags);
    for (const bool reset : {true, false}) {
      Stream client = Come(server);
      ASSERT_TRUE(Echoes(client, "hello"));
      ASSERT_THAT(reset ? client.Reset() : client.Close(), IsOk());
      EXPECT_THAT(server.NextLogLineWith("bytes_in"),
                  Optional(HasSubstr("bytes_in 5 bytes_out 5 ")));
    }
  }
}

TEST(ServerRowsTest, LogsWhatAProgramHasUsedAndWhyItWasEnded) {
  constexpr int kHeld = 20'000'000;
  ServerProcess server = StartServer(
      {"--log_format=json", "--handler_timeout=1s", "--", "sh", "-c",
       absl::StrCat("x=$(head -c ", kHeld,
                    " /dev/zero | tr '\\0' x); echo ready; "
                    "while :; do :; done")});
  Stream client = Come(server);
  EXPECT_EQ(ReadAll(client), "ready\n");
  const std::optional<std::string> line =
      server.NextLogLineWith("\"event\":\"connection\"");
  ASSERT_TRUE(line.has_value());
  EXPECT_THAT(FieldOf(*line, "program"), EndsWith("/sh"));
  EXPECT_EQ(FieldOf(*line, "status"), "killed by SIGTERM");
  EXPECT_EQ(FieldOf(*line, "signal"), "SIGTERM");
  EXPECT_EQ(FieldOf(*line, "because"), "handler_timeout");
  EXPECT_EQ(FieldOf(*line, "limit_seconds"), "1");
  EXPECT_EQ(FieldOf(*line, "bytes_in"), "0");
  EXPECT_EQ(FieldOf(*line, "bytes_out"), "6");
  EXPECT_GE(NumberOf(*line, "duration_seconds"), 1);
  // A loop that does nothing takes the processor, as far as it gets it.
  EXPECT_GE(NumberOf(*line, "user_seconds"), 0.05);
  EXPECT_GE(NumberOf(*line, "max_resident_bytes"), kHeld);
}

// ---- Row 13: from an end to the next client it is no second, but at once.

TEST(ServerRowsTest, LetsTheNextOneInAsSoonAsAChildHasEnded) {
  constexpr int kRounds = 100;
  for (const std::vector<std::string>& flags :
       std::vector<std::vector<std::string>>{
           {"--max_connections=1"},
           {"--model=iterative"},
           {"--max_connections=1", "--", "cat"}}) {
    ServerProcess server = StartServer(flags);
    std::vector<absl::Duration> waits;
    Stream inside = Come(server);
    ASSERT_TRUE(Echoes(inside));
    for (int i = 0; i < kRounds; ++i) {
      Stream next = Come(server);
      ASSERT_THAT(next.WriteAll("x"), IsOk());
      const std::vector<ProcessEntry> children = ChildrenOf(server.pid());
      ASSERT_THAT(children, SizeIs(1));
      const absl::Duration began = MonotonicNow();
      ASSERT_EQ(kill(children[0].pid, SIGKILL), 0);
      std::array<char, 1> byte;
      ASSERT_THAT(next.Read(absl::MakeSpan(byte)),
                  IsOkAndHolds(IoResult::Bytes(1)));
      waits.push_back(MonotonicNow() - began);
      inside = std::move(next);
    }
    std::sort(waits.begin(), waits.end());
    RecordProperty(absl::StrCat("median", flags.size(), flags[0].substr(2, 4)),
                   absl::FormatDuration(waits[kRounds / 2]));
    RecordProperty(absl::StrCat("worst", flags.size(), flags[0].substr(2, 4)),
                   absl::FormatDuration(waits.back()));
    EXPECT_LT(waits[kRounds / 2], absl::Milliseconds(50));
  }
}

// ---- Row 15: workers are replaced a few at a time, and never all at once.

TEST(ServerRowsTest, RecyclesFewWorkersAtATimeAndEachAtAMomentOfItsOwn) {
  constexpr int kWorkers = 10;
  constexpr uint64_t kEach = 50;
  ServerProcess server =
      StartServer({"--model=prefork", absl::StrCat("--workers=", kWorkers),
                   absl::StrCat("--connections_per_worker=", kEach)});
  AwaitState(server, "idle", kWorkers);
  std::map<std::string, uint64_t> served;  // By pid.
  for (int i = 0; i < 200; ++i) {
    for (int j = 0; j < 10; ++j) {
      Stream client = Come(server);
      ASSERT_TRUE(Echoes(client));
    }
    for (int j = 0; j < 10; ++j) {
      const std::optional<std::string> line = server.NextLogLine();
      ASSERT_THAT(line, Optional(StartsWith("pid ")));
      ++served[line->substr(4, line->find(' ', 4) - 4)];
    }
    // A tenth may go at once, after another is ready.
    EXPECT_LE(StateOf(server, "retiring"), kWorkers / 10);
    EXPECT_GE(StateOf(server, "workers"), kWorkers);
    EXPECT_LE(StateOf(server, "workers"), kWorkers + kWorkers / 10);
  }
  std::set<std::string> living;
  for (const ProcessEntry& child : ChildrenOf(server.pid())) {
    living.insert(absl::StrCat(child.pid));
  }
  std::set<uint64_t> numbers;
  int gone = 0;
  for (const auto& [pid, number] : served) {
    if (living.contains(pid)) continue;
    ++gone;
    numbers.insert(number);
    EXPECT_GE(number, kEach - kEach / 10);
  }
  EXPECT_GE(gone, 5);
  EXPECT_GT(numbers.size(), 1);  // Not all after the same number.
}

// ---- Row 16: who crashes again and again has to wait longer and longer, and
// nobody else has.

TEST(ServerRowsTest, WaitsLongerForEachCrashOfASlotAndServesMeanwhile) {
  ServerProcess server = StartServer({"--model=prefork", "--workers=2"});
  AwaitState(server, "idle", 2);
  const std::vector<ProcessEntry> first = ChildrenOf(server.pid());
  ASSERT_THAT(first, SizeIs(2));
  const pid_t steady = first[0].pid;
  pid_t victim = first[1].pid;
  for (const std::string_view back_off : {"100ms", "200ms", "400ms"}) {
    ASSERT_EQ(kill(victim, SIGSEGV), 0);
    EXPECT_THAT(server.NextLogLineWith("SIGSEGV"),
                Optional(absl::StrCat("worker ", victim,
                                      " killed by SIGSEGV: another starts in ",
                                      back_off)));
    EXPECT_EQ(StateOf(server, "backing_off"), 1);
    int served = 0;
    while (StateOf(server, "backing_off") == 1) {
      Stream client = Come(server);
      ASSERT_TRUE(Echoes(client));
      ++served;
    }
    EXPECT_GT(served, 0);
    AwaitState(server, "idle", 2);
    for (const ProcessEntry& child : ChildrenOf(server.pid())) {
      if (child.pid != steady) victim = child.pid;
    }
    EXPECT_EQ(StateOfProcess(server.pid(), steady), 'S');
  }
}

// ---- Row 20: the same signals for every model, and graceful first.

void ExpectTheUsualSignals(const std::vector<std::string>& flags) {
  SCOPED_TRACE(flags[0]);
  for (const int stop : {SIGTERM, SIGINT}) {
    ServerProcess server = StartServer(flags);
    Stream inside = Come(server);
    ASSERT_TRUE(Echoes(inside, "before"));
    for (const int signo : {SIGHUP, SIGTTIN, SIGTTOU, SIGUSR1}) {
      server.Signal(signo);
      EXPECT_THAT(server.NextLogLine(),
                  Optional(HasSubstr(signo == SIGUSR1 ? "serving: "
                                                      : NameOfSignal(signo))));
      EXPECT_TRUE(Echoes(inside, "still here"));
    }
    server.Signal(stop);
    EXPECT_THAT(
        server.NextLogLine(),
        Optional(AllOf(HasSubstr(NameOfSignal(stop)), HasSubstr("1 inside"))));
    EXPECT_TRUE(Echoes(inside, "after"));
    ASSERT_THAT(inside.Close(), IsOk());
    EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
  }
  for (const std::vector<int>& now :
       std::vector<std::vector<int>>{{SIGTERM, SIGTERM}, {SIGQUIT}}) {
    std::vector<std::string> patient = flags;
    patient.insert(patient.begin(), "--drain_timeout=24h");
    ServerProcess server = StartServer(patient);
    Stream inside = Come(server);
    ASSERT_TRUE(Echoes(inside));
    server.Signal(now[0]);
    if (now.size() > 1) {
      ASSERT_THAT(server.NextLogLine(), Optional(HasSubstr("draining")));
      server.Signal(now[1]);
    }
    EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
    EXPECT_EQ(ReadAll(inside), "");
  }
  std::vector<std::string> brief = flags;
  brief.insert(brief.begin(), "--drain_timeout=10ms");
  ServerProcess deadline = StartServer(brief);
  Stream silent = Come(deadline);
  ASSERT_TRUE(Echoes(silent));
  deadline.Signal(SIGTERM);
  EXPECT_EQ(deadline.Wait(), ExitStatus::Exited(0));
}

TEST(ServerRowsTest, ObeysTheSameSignalsWhateverTheModel) {
  ExpectTheUsualSignals({"--model=fork"});
  ExpectTheUsualSignals({"--model=iterative"});
  ExpectTheUsualSignals({"--model=prefork", "--workers=2"});
  ExpectTheUsualSignals({"--model=prefork", "--connections_per_worker=1"});
  ExpectTheUsualSignals({"--model=fork", "--", "cat"});
}

}  // namespace
}  // namespace brood
