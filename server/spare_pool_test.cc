// SPDX-License-Identifier: Apache-2.0
#include "brood/server/spare_pool.h"

#include <sched.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/source_key.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_queue.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/process_table.h"
#include "brood/proc/reaper.h"
#include "brood/proc/unique_fd.h"
#include "brood/server/connection_handler.h"
#include "brood/server/poll_loop.h"
#include "brood/server/spare_policy.h"
#include "brood/tests/deny_syscalls.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::Field;
using ::testing::SizeIs;

// Has `client` served by a spare, if there is one for it. Its end is the
// reaper's to report, with `tag`.
bool Serve(SparePool& pool, const Stream& client, uint64_t tag) {
  const ConnectionInfo info = {.local = {}, .peer = client.peer()};
  return pool.Give(SourceKey::Of(client.peer()), client, info, nullptr, tag)
      .has_value();
}

class Sleeper : public ConnectionHandler {
 public:
  std::string_view name() const override { return "sleeper"; }
  int Handle(Stream& stream, const ConnectionInfo&) override {
    std::array<char, 1> end;
    return stream.Read(absl::MakeSpan(end)).ok() ? 7 : 1;
  }
};

class SparePoolTest : public testing::Test {
 protected:
  static constexpr size_t kFrom = 4;

  SparePoolTest()
      : reaper_(*Reaper::Create(*ExitQueue::Create())),
        pool_(reaper_, sleeper_) {
    pool_.Start(loop_, {}, kFrom, [this] { ++told_; });
    loop_.Watch(reaper_.fd(), [this] {
      for (auto exit = reaper_.Next(); exit.ok() && exit->has_value();
           exit = reaper_.Next()) {
        ends_.push_back(**exit);
        if ((*exit)->tag == SparePool::kTag) pool_.NoteEnd((*exit)->pid);
      }
      return absl::OkStatus();
    });
  }

  // Runs the loop until `condition` holds.
  void Await(absl::FunctionRef<bool()> condition) {
    while (!condition()) {
      loop_.CallAfter(absl::Milliseconds(1), [this] {
        loop_.Stop();
        return absl::OkStatus();
      });
      ASSERT_THAT(loop_.Run(), IsOk());
    }
  }
  void Fill() {
    pool_.NoteConnections(kFrom);
    Await([&] { return pool_.ready() == SparePolicy::kMost; });
  }

  // A client, whose other end a spare has, if one could be had.
  std::optional<Stream> Come(uint64_t tag) {
    std::array<int, 2> ends;
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()),
              0);
    Stream client = *Stream::Adopt(UniqueFd(ends[0]));
    const Stream connection = *Stream::Adopt(UniqueFd(ends[1]));
    if (!Serve(pool_, connection, tag)) return std::nullopt;
    return client;
  }

  // In the order in which they were forked, so the zygote is the first.
  static std::vector<pid_t> Children() {
    std::vector<Process> children;
    const std::vector<pid_t> found = *ProcessTable().ChildrenOf(getpid());
    for (const pid_t pid : found) {
      children.push_back(*ProcessTable().Read(pid));
    }
    std::ranges::stable_sort(children, {}, &Process::start);
    std::vector<pid_t> pids;
    for (const Process& child : children) pids.push_back(child.pid);
    return pids;
  }

  Sleeper sleeper_;
  PollLoop loop_;
  Reaper reaper_;
  int told_ = 0;
  std::vector<Reaper::Exit> ends_;
  SparePool pool_;
};

TEST_F(SparePoolTest, HeaderExample) {
  Fill();
  std::optional<Stream> client = Come(5);
  ASSERT_TRUE(client.has_value());
  ASSERT_THAT(client->Close(), IsOk());
  Await([&] { return !ends_.empty(); });
  EXPECT_EQ(ends_.at(0).tag, 5);
  EXPECT_EQ(ends_.at(0).status, ExitStatus::Exited(7));
}

TEST_F(SparePoolTest, HasNobodyReadyWhereThereIsNoCrowd) {
  pool_.NoteConnections(kFrom - 1);
  EXPECT_FALSE(pool_.is_on());
  EXPECT_EQ(pool_.WayFor(SourceKey::OfUser(1)), SparePool::Way::kFork);
  EXPECT_THAT(Children(), SizeIs(0));
}

TEST_F(SparePoolTest, HasClientsWaitForTheFirstOne) {
  pool_.NoteConnections(kFrom);
  EXPECT_EQ(pool_.WayFor(SourceKey::OfUser(1)), SparePool::Way::kWait);
  Await([&] { return told_ > 0; });
  EXPECT_EQ(pool_.WayFor(SourceKey::OfUser(1)), SparePool::Way::kSpare);
}

TEST_F(SparePoolTest, AsksForMoreWhenSomeAreTaken) {
  Fill();
  std::vector<Stream> clients;
  for (size_t i = 0; i < SparePolicy::kBatch; ++i) {
    std::optional<Stream> client = Come(i);
    ASSERT_TRUE(client.has_value());
    clients.push_back(*std::move(client));
  }
  EXPECT_LT(pool_.ready(), SparePolicy::kMost);
  Await([&] { return pool_.ready() == SparePolicy::kMost; });
}

TEST_F(SparePoolTest, HasWhoTakesAllLeaveSome) {
  Fill();
  std::vector<Stream> clients;
  while (std::optional<Stream> client = Come(clients.size())) {
    clients.push_back(*std::move(client));
  }
  const SourceKey greedy = SourceKey::Of(Address());
  EXPECT_EQ(pool_.WayFor(greedy), SparePool::Way::kWait);
  EXPECT_EQ(pool_.WayFor(SourceKey::OfUser(1)), SparePool::Way::kSpare);
  EXPECT_EQ(pool_.Give(greedy, clients.front(), {}, nullptr, 0), std::nullopt);
}

TEST_F(SparePoolTest, ReplacesASpareThatIsKilled) {
  Fill();
  std::vector<pid_t> spares = Children();
  spares.erase(spares.begin());
  for (const pid_t spare : spares) ASSERT_EQ(kill(spare, SIGKILL), 0);
  Await([&] {
    return ends_.size() == SparePolicy::kMost &&
           pool_.ready() == SparePolicy::kMost;
  });
  EXPECT_THAT(
      ends_,
      Each(AllOf(Field(&Reaper::Exit::tag, SparePool::kTag),
                 Field(&Reaper::Exit::status, ExitStatus::Killed(SIGKILL)))));
  EXPECT_TRUE(Come(0).has_value());
}

TEST_F(SparePoolTest, GivesNothingToSparesThatHaveBeenKilledAMomentAgo) {
  Fill();
  for (const pid_t child : Children()) ASSERT_EQ(kill(child, SIGKILL), 0);
  const auto is_dead = [](pid_t child) {
    return ProcessTable().Read(child)->zombie();
  };
  // The loop does not run, so the pool is not told.
  while (!std::ranges::all_of(Children(), is_dead)) sched_yield();
  EXPECT_FALSE(Come(0).has_value());
  EXPECT_EQ(pool_.ready(), 0);
}

TEST_F(SparePoolTest, HasEverybodyForkIfTheZygoteIsKilledAndBeginsAnew) {
  Fill();
  ASSERT_EQ(kill(Children().front(), SIGKILL), 0);
  Await([&] { return !pool_.is_on(); });
  EXPECT_EQ(pool_.WayFor(SourceKey::OfUser(1)), SparePool::Way::kFork);
  Await([&] {
    pool_.NoteConnections(kFrom);
    return pool_.is_on();
  });
  Await([&] { return pool_.ready() == SparePolicy::kMost; });
  EXPECT_TRUE(Come(0).has_value());
}

TEST_F(SparePoolTest, EndsWhenTheCrowdHasLeft) {
  Fill();
  pool_.NoteConnections(kFrom / 2);
  EXPECT_TRUE(pool_.is_on());
  pool_.NoteConnections(kFrom / 2 - 1);
  EXPECT_FALSE(pool_.is_on());
  Await([&] { return ends_.size() == SparePolicy::kMost + 1; });
  EXPECT_THAT(Children(), SizeIs(0));
}

TEST_F(SparePoolTest, BeginsAnewForNewMemory) {
  Fill();
  const pid_t before = Children().front();
  pool_.Renew();
  Await([&] {
    return pool_.ready() == SparePolicy::kMost &&
           ends_.size() == SparePolicy::kMost + 1;
  });
  EXPECT_NE(Children().front(), before);
  EXPECT_THAT(Children(), SizeIs(SparePolicy::kMost + 1));
}

TEST_F(SparePoolTest, NeverBeginsAgainOnceItIsStopped) {
  Fill();
  pool_.Stop();
  EXPECT_FALSE(pool_.is_on());
  Await([&] { return ends_.size() == SparePolicy::kMost + 1; });
  pool_.NoteConnections(kFrom);
  EXPECT_FALSE(pool_.is_on());
}

TEST_F(SparePoolTest, HasNobodyWaitForAZygoteThatDoesNotAnswer) {
  Fill();
  ASSERT_EQ(kill(Children().front(), SIGSTOP), 0);
  std::vector<Stream> clients;
  while (std::optional<Stream> client = Come(clients.size())) {
    clients.push_back(*std::move(client));
  }
  const SourceKey source = SourceKey::Of(Address());
  EXPECT_EQ(pool_.WayFor(source), SparePool::Way::kWait);
  Await([&] { return pool_.WayFor(source) == SparePool::Way::kFork; });
  // Nor is another to hold everybody up at once.
  pool_.NoteConnections(kFrom);
  EXPECT_EQ(pool_.WayFor(source), SparePool::Way::kFork);
}

TEST(SparePoolInASandboxTest, HasEverybodyForkWhereNoDescriptorCanBePassed) {
  absl::StatusOr<Child> child = Fork({}, [] {
    Reaper reaper = *Reaper::Create(*ExitQueue::Create());
    Sleeper sleeper;
    PollLoop loop;
    DenySyscalls({SYS_sendmsg}, ENOBUFS);
    SparePool pool(reaper, sleeper);
    SparePool::Way way = SparePool::Way::kWait;
    pool.Start(loop, {}, 1, [&] {
      way = pool.WayFor(SourceKey::OfUser(1));
      loop.Stop();
    });
    pool.NoteConnections(1);
    if (pool.WayFor(SourceKey::OfUser(1)) != SparePool::Way::kWait) return 1;
    if (!loop.Run().ok()) return 2;
    return way == SparePool::Way::kFork ? 0 : 3;
  });
  ASSERT_THAT(child, IsOk());
  EXPECT_THAT(child->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

}  // namespace
}  // namespace brood
