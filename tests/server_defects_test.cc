// SPDX-License-Identifier: Apache-2.0
//
// Five things that servers of this kind have been seen to do when the machine
// runs short, and that the real server does not: it counts a connection that
// never had a process for ever; it spins where nothing can be accepted, or lets
// everybody starve for it; it sleeps where it should serve; it closes its door.
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <fstream>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/log/check.h"
#include "absl/status/status_matchers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/net/stream.h"
#include "brood/proc/posix.h"
#include "brood/tests/server_clients.h"
#include "brood/tests/server_process.h"
#include "brood/tests/syscall_faults.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Optional;
using ::testing::SizeIs;
using ::testing::StartsWith;

// A soft limit of another process, which has it until this ends.
class Shortage {
 public:
  Shortage(pid_t pid, __rlimit_resource resource, rlim_t soft)
      : pid_(pid), resource_(resource) {
    CHECK_EQ(prlimit(pid_, resource_, nullptr, &old_), 0);
    const rlimit tight = {.rlim_cur = soft, .rlim_max = old_.rlim_max};
    CHECK_EQ(prlimit(pid_, resource_, &tight, nullptr), 0);
  }
  Shortage(Shortage&& other) noexcept
      : pid_(std::exchange(other.pid_, 0)),
        resource_(other.resource_),
        old_(other.old_) {}
  Shortage& operator=(Shortage&&) = delete;
  ~Shortage() { End(); }

  void End() {
    if (pid_ == 0) return;
    CHECK_EQ(prlimit(std::exchange(pid_, 0), resource_, &old_, nullptr), 0);
  }

 private:
  pid_t pid_;
  __rlimit_resource resource_;
  rlimit old_ = {};
};

// The number that the next descriptor of the process would have.
int NextDescriptorOf(pid_t pid) {
  struct stat entry;
  int fd = 0;
  while (lstat(absl::StrCat("/proc/", pid, "/fd/", fd).c_str(), &entry) == 0) {
    ++fd;
  }
  return fd;
}

// `spare` more descriptors, and then none.
Shortage OfDescriptors(pid_t pid, int spare) {
  return Shortage(pid, RLIMIT_NOFILE,
                  static_cast<rlim_t>(NextDescriptorOf(pid) + spare));
}

ServerProcess StartServer(std::vector<std::string> more) {
  more.insert(more.begin(), "--listen=127.0.0.1:0");
  return ServerProcess(more);
}

// Three come in and the fourth waits: no place is lost, and none is won.
void ExpectThreePlaces(ServerProcess& server) {
  AwaitState(server, "active", 0);
  AwaitState(server, "waiting", 0);
  std::vector<Stream> inside;
  for (int i = 0; i < 3; ++i) {
    inside.push_back(Come(server, 2));
    EXPECT_TRUE(Echoes(inside.back()));
  }
  Stream fourth = Come(server, 2);
  AwaitState(server, "waiting", 1);
  EXPECT_EQ(StateOf(server, "active"), 3);
  ASSERT_THAT(inside.front().Close(), IsOk());
  EXPECT_TRUE(Echoes(fourth));
}

const std::vector<std::string> kThreePlaces = {"--max_connections=3",
                                               "--max_connections_per_source=3",
                                               "--max_waiting=100"};

// A server whose forks can be made to fail.
class ServerWithoutForksTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!SyscallFaults::permitted()) {
      GTEST_SKIP() << "no system call can be made to fail here: no seccomp "
                      "with notifications (Linux 5.5)";
    }
    forks_.emplace(std::initializer_list<long>{SYS_clone, SYS_clone3, SYS_fork,
                                               SYS_vfork});
  }
  ServerProcess Start(std::vector<std::string> flags) {
    flags.insert(flags.begin(), "--listen=127.0.0.1:0");
    return ServerProcess(flags, [this] { forks_->Install(); });
  }
  SyscallFaults& forks() { return *forks_; }

  // While forks fail clients come, who are all served in the end.
  void ExpectNoPlaceLost(ServerProcess& server) {
    forks().Begin(EAGAIN);
    std::vector<Stream> clients;
    for (int i = 0; i < 6; ++i) clients.push_back(Come(server, 2));
    EXPECT_THAT(server.NextLogLineWith("clients have to wait"),
                Optional(HasSubstr("EAGAIN")));
    forks().AwaitFailures(5);
    EXPECT_EQ(StateOf(server, "active"), 0);
    forks().End();
    for (Stream& client : clients) {
      EXPECT_TRUE(Echoes(client));
      ASSERT_THAT(client.Close(), IsOk());
    }
    ExpectThreePlaces(server);
  }

 private:
  std::optional<SyscallFaults> forks_;
};

// ---- The place of a connection that never had a process ----

TEST_F(ServerWithoutForksTest, LosesNoPlaceToAForkThatFails) {
  ServerProcess server = Start(kThreePlaces);
  ExpectNoPlaceLost(server);
}

TEST_F(ServerWithoutForksTest, LosesNoPlaceToAProgramThatCannotBeForked) {
  std::vector<std::string> flags = kThreePlaces;
  flags.insert(flags.end(), {"--", "cat"});
  ServerProcess server = Start(flags);
  ExpectNoPlaceLost(server);
}

// A program has a pidfd, for which there must be a descriptor.
TEST(ServerDefectsTest, LosesNoPlaceToAProgramForWhichThereIsNoDescriptor) {
  std::vector<std::string> flags = kThreePlaces;
  flags.insert(flags.end(), {"--", "cat"});
  ServerProcess server = StartServer(flags);
  Shortage shortage = OfDescriptors(server.pid(), 1);
  std::vector<Stream> clients;
  // Alone it is accepted, on the last descriptor, and its program has none.
  // Two at once would have the second one not accepted.
  clients.push_back(Come(server, 2));
  EXPECT_THAT(server.NextLogLineWith("clients have to wait"),
              Optional(AllOf(HasSubstr("EMFILE"), Not(HasSubstr("accept")))));
  for (int i = 1; i < 6; ++i) clients.push_back(Come(server, 2));
  EXPECT_EQ(StateOf(server, "active"), 0);
  shortage.End();
  for (Stream& client : clients) {
    EXPECT_TRUE(Echoes(client));
    ASSERT_THAT(client.Close(), IsOk());
  }
  ExpectThreePlaces(server);
}

TEST(ServerDefectsTest, LosesNoPlaceToAProgramThatIsNotThereAnyMore) {
  const std::string path = absl::StrCat(testing::TempDir(), "/vanishing");
  std::ofstream(path) << "#!/bin/sh\nexec cat\n";
  ASSERT_EQ(chmod(path.c_str(), 0700), 0);
  std::vector<std::string> flags = kThreePlaces;
  flags.insert(flags.end(), {"--", path});
  ServerProcess server = StartServer(flags);
  ASSERT_EQ(rename(path.c_str(), absl::StrCat(path, ".away").c_str()), 0);
  for (int i = 0; i < 10; ++i) {
    Stream client = Come(server, 2);
    EXPECT_EQ(ReadAll(client), "");
    EXPECT_THAT(server.NextLogLineWith("has no process"),
                Optional(HasSubstr("ENOENT")));
  }
  ASSERT_EQ(rename(absl::StrCat(path, ".away").c_str(), path.c_str()), 0);
  ExpectThreePlaces(server);
  unlink(path.c_str());
}

// ---- Nothing can be accepted ----

// A loop that spins uses a whole processor, or its share of one.
void ExpectIdle(absl::Duration used, absl::Duration elapsed) {
  testing::Test::RecordProperty(
      "used_percent", absl::StrCat(100 * absl::FDivDuration(used, elapsed)));
  EXPECT_LT(used, elapsed / 10);
}

TEST(ServerDefectsTest, NeitherSpinsNorStarvesAnybodyWithoutDescriptors) {
  ServerProcess server = StartServer({});
  Stream inside = Come(server);
  ASSERT_TRUE(Echoes(inside));
  Stream leaving = Come(server);
  ASSERT_TRUE(Echoes(leaving));
  AwaitState(server, "active", 2);  // It has closed its copies of both.
  Shortage shortage = OfDescriptors(server.pid(), 0);
  const absl::Duration began = MonotonicNow();
  const absl::Duration used = CpuTimeOf(server.pid());
  Stream waiting = Come(server);
  EXPECT_THAT(server.NextLogLine(),
              Optional(AllOf(StartsWith("clients have to wait: accept "),
                             HasSubstr("EMFILE"))));
  // Who is inside stays, who leaves is reported, and signals are obeyed.
  EXPECT_TRUE(Echoes(inside));
  ASSERT_THAT(leaving.Close(), IsOk());
  EXPECT_THAT(server.NextLogLine(), Optional(HasSubstr("exited 0")));
  EXPECT_EQ(StateOf(server, "active"), 1);
  // Who has waited for about a second is told that there is no room, and not
  // left to wait for ever.
  EXPECT_TRUE(IsReset(waiting));
  ExpectIdle(CpuTimeOf(server.pid()) - used, MonotonicNow() - began);
  // Once it answers this it has turned away whom it is going to.
  EXPECT_EQ(StateOf(server, "active"), 1);
  shortage.End();
  Stream later = Come(server);
  EXPECT_TRUE(Echoes(later));
  EXPECT_THAT(server.NextLogLine(),
              Optional(std::string("clients come in again")));
}

TEST(ServerDefectsTest, LetsInWhoWaitedAsSoonAsThereAreDescriptors) {
  ServerProcess server = StartServer({});
  Shortage shortage = OfDescriptors(server.pid(), 0);
  Stream waiting = Come(server);
  ASSERT_THAT(server.NextLogLine(),
              Optional(StartsWith("clients have to wait")));
  shortage.End();
  EXPECT_TRUE(Echoes(waiting));
}

// The machine's table of files is not a test's to fill: it only seems full.
TEST(ServerDefectsTest, NeitherSpinsNorGivesUpWhenTheMachineHasNoFileLeft) {
  if (!SyscallFaults::permitted()) {
    GTEST_SKIP() << "no system call can be made to fail here";
  }
  SyscallFaults accepts({SYS_accept4});
  ServerProcess server({"--listen=127.0.0.1:0"}, [&] { accepts.Install(); });
  accepts.Begin(ENFILE);
  const absl::Duration began = MonotonicNow();
  const absl::Duration used = CpuTimeOf(server.pid());
  Stream waiting = Come(server);
  EXPECT_THAT(server.NextLogLine(),
              Optional(AllOf(StartsWith("clients have to wait: accept "),
                             HasSubstr("ENFILE"))));
  // Each pause is longer than the one before: about 10, 20, 40... milliseconds.
  accepts.AwaitFailures(6);
  EXPECT_GE(MonotonicNow() - began, absl::Milliseconds(200));
  ExpectIdle(CpuTimeOf(server.pid()) - used, MonotonicNow() - began);
  EXPECT_EQ(StateOf(server, "active"), 0);
  accepts.End();
  EXPECT_TRUE(Echoes(waiting));
}

void AwaitSleep(pid_t parent, pid_t pid) {
  const auto sleeps = [&] {
    for (const ProcessEntry& child : ChildrenOf(parent)) {
      if (child.pid == pid) return child.state == 'S';
    }
    return false;
  };
  while (!sleeps()) sched_yield();
}

TEST(ServerDefectsTest, HasWorkersThatDoNotSpinWithoutDescriptors) {
  ServerProcess server = StartServer({"--model=prefork", "--workers=2"});
  AwaitState(server, "idle", 2);
  const std::vector<ProcessEntry> workers = ChildrenOf(server.pid());
  ASSERT_THAT(workers, SizeIs(2));
  std::vector<pid_t> everybody = {server.pid()};
  std::vector<Shortage> shortages;
  for (const ProcessEntry& worker : workers) {
    everybody.push_back(worker.pid);
    AwaitSleep(server.pid(), worker.pid);  // It has all that it opens.
    shortages.push_back(OfDescriptors(worker.pid, 0));
  }
  const auto used_by_all = [&] {
    absl::Duration used;
    for (const pid_t pid : everybody) used += CpuTimeOf(pid);
    return used;
  };
  const absl::Duration began = MonotonicNow();
  const absl::Duration used = used_by_all();
  Stream waiting = Come(server);
  EXPECT_THAT(server.NextLogLineWith("clients have to wait"),
              Optional(HasSubstr("EMFILE")));
  EXPECT_TRUE(IsReset(waiting));
  ExpectIdle(used_by_all() - used, MonotonicNow() - began);
  shortages.clear();
  // Who comes while somebody is being turned away, is too.
  Stream later = Come(server);
  while (!Echoes(later)) later = Come(server);
  EXPECT_EQ(StateOf(server, "workers"), 2);
}

// ---- Nothing can be forked ----

// Each end is followed by another try to fork. A server that slept for a second
// after each that fails would need half a minute.
TEST_F(ServerWithoutForksTest, GoesOnServingEverybodyElse) {
  constexpr int kRounds = 30;
  ServerProcess server = Start({});
  Stream survivor = Come(server);
  ASSERT_TRUE(Echoes(survivor));
  const std::vector<ProcessEntry> its = ChildrenOf(server.pid());
  ASSERT_THAT(its, SizeIs(1));
  std::vector<Stream> inside;
  for (int i = 0; i < kRounds; ++i) {
    inside.push_back(Come(server));
    ASSERT_TRUE(Echoes(inside.back()));
  }
  const std::vector<ProcessEntry> children = ChildrenOf(server.pid());
  forks().Begin(EAGAIN);
  Stream waiting = Come(server);
  ASSERT_THAT(server.NextLogLine(),
              Optional(StartsWith("clients have to wait")));
  const int failures = forks().failures();
  const absl::Duration began = MonotonicNow();
  for (const ProcessEntry& child : children) {
    if (child.pid == its[0].pid) continue;
    ASSERT_EQ(kill(child.pid, SIGKILL), 0);
    EXPECT_THAT(server.NextLogLine(),
                Optional(StartsWith(absl::StrCat("pid ", child.pid, " "))));
    EXPECT_GT(StateOf(server, "active"), 0);
    EXPECT_TRUE(Echoes(survivor));
  }
  const absl::Duration took = MonotonicNow() - began;
  RecordProperty("took", absl::FormatDuration(took));
  EXPECT_GE(forks().failures() - failures, kRounds);
  EXPECT_LT(took, absl::Seconds(10));
  EXPECT_EQ(StateOf(server, "active"), 1);
  forks().End();
  EXPECT_TRUE(Echoes(waiting));
}

TEST_F(ServerWithoutForksTest, TriesAgainWithoutSpinning) {
  ServerProcess server = Start({});
  forks().Begin(EAGAIN);
  const absl::Duration began = MonotonicNow();
  const absl::Duration used = CpuTimeOf(server.pid());
  Stream waiting = Come(server);
  forks().AwaitFailures(8);
  ExpectIdle(CpuTimeOf(server.pid()) - used, MonotonicNow() - began);
  forks().End();
  EXPECT_TRUE(Echoes(waiting));
}

TEST_F(ServerWithoutForksTest, KeepsItsDoorOpen) {
  ServerProcess server = Start({});
  forks().Begin(EAGAIN);
  std::vector<Stream> clients;
  clients.push_back(Come(server));
  forks().AwaitFailures(3);
  // Come() would abort the test if one were refused.
  for (int i = 1; i < 50; ++i) clients.push_back(Come(server));
  forks().End();
  for (Stream& client : clients) EXPECT_TRUE(Echoes(client));
  EXPECT_EQ(StateOf(server, "active"), 50);
}

TEST_F(ServerWithoutForksTest, StartsTheProgramOfAWorkerOnceItCan) {
  ServerProcess server = Start({"--model=prefork", "--workers=1", "--", "cat"});
  AwaitState(server, "idle", 1);
  forks().Begin(EAGAIN);
  Stream client = Come(server);
  EXPECT_THAT(server.NextLogLineWith("clients have to wait"),
              Optional(HasSubstr("EAGAIN")));
  forks().AwaitFailures(3);
  forks().End();
  EXPECT_TRUE(Echoes(client));
}

TEST_F(ServerWithoutForksTest, ReplacesItsWorkersOnceItCan) {
  ServerProcess server = Start({"--model=prefork", "--workers=2"});
  AwaitState(server, "idle", 2);
  forks().Begin(EAGAIN);
  for (const ProcessEntry& worker : ChildrenOf(server.pid())) {
    ASSERT_EQ(kill(worker.pid, SIGKILL), 0);
  }
  EXPECT_THAT(server.NextLogLineWith("clients have to wait"),
              Optional(HasSubstr("EAGAIN")));
  std::vector<Stream> clients;
  for (int i = 0; i < 20; ++i) clients.push_back(Come(server));
  forks().AwaitFailures(3);
  EXPECT_EQ(StateOf(server, "workers"), 0);
  forks().End();
  for (Stream& client : clients) {
    EXPECT_TRUE(Echoes(client));
    ASSERT_THAT(client.Close(), IsOk());
  }
  AwaitState(server, "workers", 2);
}

}  // namespace
}  // namespace brood
