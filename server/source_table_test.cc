// SPDX-License-Identifier: Apache-2.0
#include "brood/server/source_table.h"

#include <sched.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/source_key.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/server/admission.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using Verdict = Admission::Verdict;

bool MayBeServed(const SourceTable& table, size_t slot, const Address& peer) {
  const SourceTable::Entry entry =
      table.Enter(slot, Admission::Client::Of(peer), MonotonicNow());
  return entry.answer.verdict == Admission::Verdict::kAdmitted;
}

Address At(std::string_view ip) {
  return *Address::Parse(absl::StrCat(ip, ":4711"));
}

SourceTable Table(size_t slots, const ConnectionLimits& limits,
                  size_t max_sources = Admission::kDefaultMaxSources) {
  absl::StatusOr<SourceTable> table =
      SourceTable::Create(slots, limits, max_sources);
  EXPECT_THAT(table, IsOk());
  for (size_t slot = 0; slot < slots; ++slot) table->Use(slot);
  return *std::move(table);
}

TEST(SourceTableTest, HeaderExample) {
  const SourceTable table = Table(3, {.max_connections_per_source = 1});
  EXPECT_TRUE(MayBeServed(table, 0, At("192.0.2.7")));
  EXPECT_FALSE(MayBeServed(table, 1, At("192.0.2.7")));
  EXPECT_TRUE(MayBeServed(table, 1, At("192.0.2.8")));
  table.Leave(0);
  EXPECT_TRUE(MayBeServed(table, 2, At("192.0.2.7")));
}

TEST(SourceTableTest, AnswersInTheWordsOfAnAdmission) {
  const ConnectionLimits limits = {
      .max_connections_per_source = 1,
      .rate_per_source = *ConnectionRate::Parse("1/m,2")};
  const SourceTable table = Table(3, limits);
  Admission admission(limits);
  const auto client = Admission::Client::Of(At("192.0.2.7"));
  std::vector<Admission::Arrival> arrivals;
  for (size_t slot = 0; slot < 3; ++slot) {
    arrivals.push_back(admission.Arrive(client, absl::Seconds(1000)));
    EXPECT_EQ(table.Enter(slot, client, absl::Seconds(1000)).answer.ToString(),
              arrivals.back().answer.ToString());
  }
  EXPECT_EQ(arrivals[1].answer.verdict, Verdict::kSourceFull);
  EXPECT_EQ(arrivals[2].answer.verdict, Verdict::kSourceTooFast);
}

TEST(SourceTableTest, CountsTheConnectionsOfASource) {
  const SourceTable table = Table(4, {.count_sources = true});
  const auto client = Admission::Client::Of(At("192.0.2.7"));
  for (size_t slot = 0; slot < 3; ++slot) {
    EXPECT_EQ(table.Enter(slot, client, absl::Seconds(1)).connections,
              slot + 1);
  }
  ASSERT_TRUE(MayBeServed(table, 3, At("192.0.2.8")));
  EXPECT_EQ(table.connections_of(client.source), 3);
  table.Leave(1);
  table.Leave(1);  // By its parent too.
  EXPECT_EQ(table.connections_of(client.source), 2);
}

TEST(SourceTableTest, SaysWhatIsLeftOfARateAndForgetsWhatWasTaken) {
  const SourceTable table =
      Table(1, {.rate_per_source = *ConnectionRate::Parse("2/s,3")});
  const auto client = Admission::Client::Of(At("192.0.2.7"));
  const absl::Duration now = absl::Seconds(1000);
  EXPECT_EQ(table.TokensOf(client, now), 3);
  for (const uint32_t left : {2u, 1u, 0u, 0u}) {
    (void)table.Enter(0, client, now);
    table.Leave(0);
    EXPECT_EQ(table.TokensOf(client, now), left);
  }
  EXPECT_EQ(table.TokensOf(Admission::Client::Of(At("192.0.2.8")), now), 3);
  table.Refill(client);
  EXPECT_EQ(table.TokensOf(client, now), 3);
  EXPECT_EQ(Table(1, {.count_sources = true}).TokensOf(client, now),
            std::nullopt);
}

TEST(SourceTableTest, GivesTokensBackAtTheirPace) {
  const SourceTable table =
      Table(1, {.rate_per_source = *ConnectionRate::Parse("2/s,3")});
  const auto verdict_at = [&](std::string_view ip, absl::Duration now) {
    const SourceTable::Entry entry =
        table.Enter(0, Admission::Client::Of(At(ip)), now);
    table.Leave(0);
    return entry.answer.verdict;
  };
  const absl::Duration now = absl::Seconds(1000);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(verdict_at("192.0.2.7", now), Verdict::kAdmitted);
  }
  EXPECT_EQ(verdict_at("192.0.2.7", now), Verdict::kSourceTooFast);
  EXPECT_EQ(verdict_at("192.0.2.8", now), Verdict::kAdmitted);
  EXPECT_EQ(verdict_at("192.0.2.7", now + absl::Milliseconds(499)),
            Verdict::kSourceTooFast);
  EXPECT_EQ(verdict_at("192.0.2.7", now + absl::Milliseconds(500)),
            Verdict::kAdmitted);
  EXPECT_EQ(verdict_at("192.0.2.7", now + absl::Milliseconds(999)),
            Verdict::kSourceTooFast);
}

// Three places for sources, and one for networks.
TEST(SourceTableTest, CountsByNetworkWhenItIsFullAndThenNotAtAll) {
  const SourceTable table =
      Table(1, {.rate_per_source = *ConnectionRate::Parse("1/s,1")},
            /*max_sources=*/4);
  const absl::Duration now = absl::Seconds(1000);
  const auto enter = [&](std::string_view ip, absl::Duration when) {
    const auto answer =
        table.Enter(0, Admission::Client::Of(At(ip)), when).answer;
    table.Leave(0);
    return answer;
  };
  for (const char* ip : {"10.0.0.1", "10.0.0.2", "10.0.0.3"}) {
    EXPECT_EQ(enter(ip, now).verdict, Verdict::kAdmitted);
    EXPECT_EQ(enter(ip, now).verdict, Verdict::kSourceTooFast);
  }
  // These two are one network; who is known has his own bucket as before.
  EXPECT_EQ(enter("198.51.100.1", now).verdict, Verdict::kAdmitted);
  const Admission::Answer answer = enter("198.51.100.2", now);
  EXPECT_EQ(answer.verdict, Verdict::kSourceTooFast);
  EXPECT_EQ(answer.source.ToString(), "198.51.100.0/24");
  EXPECT_EQ(enter("10.0.0.2", now).source.ToString(), "10.0.0.2");
  // No place is left even for a network: the door is not shut.
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(enter("203.0.113.9", now).verdict, Verdict::kAdmitted);
  }
  // Whose buckets are full again are forgotten.
  const absl::Duration later = now + absl::Seconds(1);
  EXPECT_EQ(enter("203.0.113.9", later).verdict, Verdict::kAdmitted);
  EXPECT_EQ(enter("203.0.113.9", later).source.ToString(), "203.0.113.9");
  EXPECT_EQ(enter("203.0.113.9", later).verdict, Verdict::kSourceTooFast);
}

// ---- Many processes ----

constexpr size_t kSlots = 6;
constexpr size_t kLimit = 2;

// What processes see of each other beside the table.
struct Witness {
  std::array<std::atomic<bool>, kSlots> inside;
  std::array<std::atomic<uint64_t>, kSlots> rounds;
  std::atomic<uint64_t> admitted;
  std::atomic<bool> too_many;
};

class SharedWitness {
 public:
  SharedWitness()
      : memory_(mmap(nullptr, sizeof(Witness), PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0)),
        witness_(new (memory_) Witness()) {}
  SharedWitness(const SharedWitness&) = delete;
  SharedWitness& operator=(const SharedWitness&) = delete;
  ~SharedWitness() { (void)munmap(memory_, sizeof(Witness)); }
  Witness* operator->() const { return witness_; }

 private:
  void* memory_;
  Witness* witness_;
};

// Comes and goes until it is killed.
int ComeAndGo(const SourceTable& table, const SharedWitness& witness,
              size_t slot) {
  while (true) {
    if (MayBeServed(table, slot, At("192.0.2.7"))) {
      witness->inside[slot] = true;
      size_t inside = 0;
      for (const std::atomic<bool>& other : witness->inside) inside += other;
      if (inside > kLimit) witness->too_many = true;
      ++witness->admitted;
      witness->inside[slot] = false;
      table.Leave(slot);
    }
    ++witness->rounds[slot];
  }
}

TEST(SourceTableTest, IsExactWhoeverIsKilledInTheMiddleOfAnything) {
  constexpr int kKills = 150;
  const SourceTable table =
      Table(kSlots, {.max_connections_per_source = kLimit});
  const SharedWitness witness;
  const auto start = [&](size_t slot) {
    absl::StatusOr<Child> child = Fork({.parent_death_signal = SIGKILL}, [&] {
      return ComeAndGo(table, witness, slot);
    });
    EXPECT_THAT(child, IsOk());
    return *std::move(child);
  };
  std::vector<Child> children;
  for (size_t slot = 0; slot < kSlots; ++slot) children.push_back(start(slot));
  for (int kill = 0; kill < kKills; ++kill) {
    const size_t slot = static_cast<size_t>(kill) % kSlots;
    // It has begun; where it is now nobody knows.
    const uint64_t seen = witness->rounds[slot];
    while (witness->rounds[slot] == seen) (void)sched_yield();
    ASSERT_THAT(children[slot].Signal(SIGKILL), IsOk());
    EXPECT_EQ(*children[slot].Wait(), ExitStatus::Killed(SIGKILL));
    witness->inside[slot] = false;
    table.Leave(slot);
    children[slot] = start(slot);
  }
  for (size_t slot = 0; slot < kSlots; ++slot) {
    ASSERT_THAT(children[slot].Signal(SIGKILL), IsOk());
    (void)children[slot].Wait();
    table.Leave(slot);
  }
  EXPECT_FALSE(witness->too_many);
  EXPECT_GT(witness->admitted, 0);
  // Every place has come back, and none twice.
  EXPECT_EQ(table.connections_of(SourceKey::Of(At("192.0.2.7"))), 0);
  for (size_t slot = 0; slot < kSlots; ++slot) {
    EXPECT_EQ(MayBeServed(table, slot, At("192.0.2.7")), slot < kLimit);
  }
}

// Of those who are dead without anybody knowing yet one may count, but nobody
// waits for them for ever.
TEST(SourceTableTest, WaitsForNobodyWhoIsDead) {
  const SourceTable table = Table(2, {.max_connections_per_source = 1});
  absl::StatusOr<Child> child =
      Fork({}, [&] { return MayBeServed(table, 0, At("192.0.2.7")) ? 0 : 1; });
  ASSERT_THAT(child, IsOk());
  EXPECT_EQ(*child->Wait(), ExitStatus::Exited(0));
  EXPECT_FALSE(MayBeServed(table, 1, At("192.0.2.7")));
  table.Leave(0);
  EXPECT_TRUE(MayBeServed(table, 1, At("192.0.2.7")));
}

TEST(SourceTableTest, GivesTokensOnlyOnceToManyProcesses) {
  constexpr uint32_t kBurst = 500;
  const SourceTable table =
      Table(kSlots,
            {.rate_per_source = ConnectionRate{
                 .connections = 1, .period = absl::Hours(1), .burst = kBurst}});
  const SharedWitness witness;
  std::vector<Child> children;
  for (size_t slot = 0; slot < kSlots; ++slot) {
    absl::StatusOr<Child> child = Fork({}, [&] {
      for (uint32_t i = 0; i < kBurst; ++i) {
        if (MayBeServed(table, slot, At("192.0.2.7"))) ++witness->admitted;
        table.Leave(slot);
      }
      return 0;
    });
    ASSERT_THAT(child, IsOk());
    children.push_back(*std::move(child));
  }
  for (Child& child : children) {
    EXPECT_EQ(*child.Wait(), ExitStatus::Exited(0));
  }
  EXPECT_EQ(witness->admitted, kBurst);
}

}  // namespace
}  // namespace brood
