// SPDX-License-Identifier: Apache-2.0
#include "brood/server/waiting_room.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "brood/net/address.h"
#include "brood/net/source_key.h"
#include "brood/net/stream.h"
#include "brood/proc/unique_fd.h"
#include "brood/server/admission.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::testing::ElementsAre;
using ::testing::Optional;

// The n-th of many.
SourceKey Source(int n) {
  return SourceKey::Of(
      *Address::Parse(absl::StrCat("10.0.", n / 256, ".", n % 256, ":1234")));
}

ConnectionLimits AtMost(size_t connections, size_t per_source) {
  return {.max_connections = connections,
          .max_connections_per_source = per_source,
          .count_sources = true};
}

std::vector<Admission::Slot> Take(Admission& admission, int source, int n) {
  std::vector<Admission::Slot> slots;
  for (int i = 0; i < n; ++i) {
    slots.push_back(*admission.Admit(Source(source)));
  }
  return slots;
}

using Room = WaitingRoom<std::string>;

// The names of all that may start, who stay inside.
std::vector<std::string> CallAll(Room& room,
                                 std::vector<Admission::Slot>& inside) {
  std::vector<std::string> names;
  while (std::optional<Room::Called> next = room.TryNext()) {
    names.push_back(next->client);
    inside.push_back(std::move(next->slot));
  }
  return names;
}

// Starts whoever may start by now.
void StartWaiting(WaitingRoom<Stream>& room,
                  absl::FunctionRef<void(Stream, Admission::Slot)> start) {
  while (auto next = room.TryNext()) {
    start(std::move(next->client), std::move(next->slot));
  }
}

TEST(WaitingRoomTest, HeaderExample) {
  Admission admission(AtMost(1, 1));
  WaitingRoom<Stream> room(admission, 10);
  std::vector<Admission::Slot> inside = Take(admission, 1, 1);
  std::array<int, 2> ends;
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  room.Enter(Source(2), Stream(UniqueFd(ends[0]), Address()));
  room.Enter(Source(2), Stream(UniqueFd(ends[1]), Address()));
  std::vector<int> started;
  const auto start = [&](Stream stream, Admission::Slot slot) {
    started.push_back(stream.fd());
    inside.push_back(std::move(slot));
  };
  StartWaiting(room, start);
  EXPECT_THAT(started, ElementsAre());
  inside.clear();
  StartWaiting(room, start);
  EXPECT_THAT(started, ElementsAre(ends[0]));
  EXPECT_EQ(room.size(), 1);
}

TEST(WaitingRoomTest, CallsTheOneOfAnotherSourceBeforeTheRestOfAFlood) {
  Admission admission(AtMost(8, ConnectionLimits::kNone));
  Room room(admission, 20'000);
  std::vector<Admission::Slot> flood = Take(admission, 1, 8);
  for (int i = 0; i < 10'000; ++i) {
    EXPECT_EQ(room.Enter(Source(1), absl::StrCat("flood ", i)).shed,
              std::nullopt);
  }
  room.Enter(Source(2), "quiet");
  EXPECT_EQ(room.sources(), 2);
  EXPECT_EQ(room.size_of(Source(1)), 10'000);
  EXPECT_EQ(room.size_of(Source(2)), 1);
  EXPECT_EQ(room.size_of(Source(3)), 0);
  EXPECT_FALSE(room.TryNext().has_value());
  flood.pop_back();
  std::optional<Room::Called> next = room.TryNext();
  ASSERT_TRUE(next.has_value());
  EXPECT_EQ(next->client, "quiet");
  EXPECT_EQ(next->source, Source(2));
  EXPECT_FALSE(room.TryNext().has_value());
  flood.pop_back();
  EXPECT_EQ(room.TryNext()->client, "flood 0");
}

TEST(WaitingRoomTest, CallsEqualSourcesInTheOrderInWhichTheyCame) {
  Admission admission(AtMost(4, ConnectionLimits::kNone));
  Room room(admission, 100);
  std::vector<Admission::Slot> inside = Take(admission, 9, 4);
  room.Enter(Source(1), "1a");
  room.Enter(Source(1), "1b");
  room.Enter(Source(1), "1c");
  room.Enter(Source(2), "2a");
  room.Enter(Source(3), "3a");
  room.Enter(Source(2), "2b");
  inside.clear();
  EXPECT_THAT(CallAll(room, inside), ElementsAre("1a", "2a", "3a", "1b"));
}

TEST(WaitingRoomTest, SeesThatAConnectionOfAWaitingSourceHasEnded) {
  Admission admission(AtMost(5, ConnectionLimits::kNone));
  Room room(admission, 100);
  std::vector<Admission::Slot> one = Take(admission, 1, 3);
  std::vector<Admission::Slot> two = Take(admission, 2, 2);
  room.Enter(Source(1), "of three");
  room.Enter(Source(2), "of two");
  one.resize(1);  // Two have ended, so that it has one.
  std::vector<Admission::Slot> inside;
  EXPECT_THAT(CallAll(room, inside), ElementsAre("of three", "of two"));
}

TEST(WaitingRoomTest, LetsNobodyWaitForASourceThatIsFull) {
  Admission admission(AtMost(100, 2));
  Room room(admission, 100);
  std::vector<Admission::Slot> one = Take(admission, 1, 2);
  std::vector<Admission::Slot> inside;
  room.Enter(Source(1), "1a");
  room.Enter(Source(1), "1b");
  EXPECT_THAT(CallAll(room, inside), ElementsAre());
  room.Enter(Source(2), "2a");
  EXPECT_THAT(CallAll(room, inside), ElementsAre("2a"));
  one.pop_back();
  EXPECT_THAT(CallAll(room, inside), ElementsAre("1a"));
  // More room for each, as after a reload.
  admission.set_limits(AtMost(100, 3));
  EXPECT_THAT(CallAll(room, inside), ElementsAre("1b"));
}

TEST(WaitingRoomTest, ShedsTheLastOfTheHeaviestSourceAndNotTheNewcomer) {
  Admission admission(AtMost(0, ConnectionLimits::kNone));
  Room room(admission, 4);
  for (const char* name : {"1a", "1b", "1c"}) room.Enter(Source(1), name);
  EXPECT_EQ(room.Enter(Source(2), "2a").shed, std::nullopt);
  EXPECT_THAT(room.Enter(Source(3), "3a").shed, Optional(std::string("1c")));
  EXPECT_THAT(room.Enter(Source(1), "1d").shed, Optional(std::string("1d")));
  EXPECT_THAT(room.Enter(Source(4), "4a").shed, Optional(std::string("1b")));
  // Now that all are alike, who came last goes.
  EXPECT_THAT(room.Enter(Source(5), "5a").shed, Optional(std::string("5a")));
  EXPECT_EQ(room.size(), 4);
  EXPECT_EQ(room.sources(), 4);
}

TEST(WaitingRoomTest, CountsTheLiveConnectionsOfWhoIsToBeShed) {
  Admission admission(AtMost(5, ConnectionLimits::kNone));
  Room room(admission, 3);
  const std::vector<Admission::Slot> one = Take(admission, 1, 5);
  room.Enter(Source(1), "1a");
  room.Enter(Source(2), "2a");
  room.Enter(Source(2), "2b");
  EXPECT_THAT(room.Enter(Source(2), "2c").shed, Optional(std::string("1a")));
}

TEST(WaitingRoomTest, HasNoRoomWhereThereIsNone) {
  Admission admission(AtMost(0, 0));
  Room room(admission, 0);
  EXPECT_THAT(room.Enter(Source(1), "a").shed, Optional(std::string("a")));
  EXPECT_EQ(room.size(), 0);
  EXPECT_EQ(room.sources(), 0);
  EXPECT_FALSE(room.TryNext().has_value());
}

TEST(WaitingRoomTest, LetsAClientGoThatDoesNotWaitAnyMore) {
  Admission admission(AtMost(0, ConnectionLimits::kNone));
  Room room(admission, 10);
  const Room::Ticket a = room.Enter(Source(1), "a").ticket;
  const Room::Ticket b = room.Enter(Source(1), "b").ticket;
  const Room::Ticket c = room.Enter(Source(2), "c").ticket;
  EXPECT_THAT(room.Take(a), Optional(std::string("a")));
  EXPECT_EQ(room.Take(a), std::nullopt);
  EXPECT_THAT(room.Take(c), Optional(std::string("c")));
  EXPECT_EQ(room.sources(), 1);
  admission.set_limits(AtMost(9, 9));
  std::vector<Admission::Slot> inside;
  EXPECT_THAT(CallAll(room, inside), ElementsAre("b"));
  EXPECT_EQ(room.Take(b), std::nullopt);
}

TEST(WaitingRoomTest, LeavesTheAdmissionAloneWhenItIsGone) {
  Admission admission(AtMost(1, 1));
  std::vector<Admission::Slot> inside = Take(admission, 1, 1);
  {
    WaitingRoom<std::unique_ptr<int>> room(admission, 10);
    room.Enter(Source(1), std::make_unique<int>(1));
  }
  inside.clear();
  EXPECT_EQ(admission.connections(), 0);
}

// The whole of the rules, by looking at everybody each time.
class NaiveRoom {
 public:
  explicit NaiveRoom(size_t capacity) : capacity_(capacity) {}

  struct Client {
    int source;
    uint64_t name;
  };

  template <typename Live>
  std::optional<uint64_t> Enter(const Client& client, Live live) {
    clients_.push_back(client);
    if (clients_.size() <= capacity_) return std::nullopt;
    const auto claim = [&](const Client& c) {
      size_t weight = live(c.source);
      for (const Client& other : clients_) weight += other.source == c.source;
      return std::pair(weight, c.name);
    };
    return Erase(std::max_element(
        clients_.begin(), clients_.end(),
        [&](const Client& a, const Client& b) { return claim(a) < claim(b); }));
  }

  template <typename Live>
  std::optional<uint64_t> TryNext(Live live, size_t all,
                                  const ConnectionLimits& limits) {
    if (clients_.empty() || all >= limits.max_connections) return std::nullopt;
    const auto turn = [&](const Client& c) {
      return std::pair(live(c.source), c.name);
    };
    const auto next = std::min_element(
        clients_.begin(), clients_.end(),
        [&](const Client& a, const Client& b) { return turn(a) < turn(b); });
    if (live(next->source) >= limits.max_connections_per_source) {
      return std::nullopt;
    }
    return Erase(next);
  }

  bool Take(uint64_t name) {
    const auto found =
        std::find_if(clients_.begin(), clients_.end(),
                     [&](const Client& c) { return c.name == name; });
    if (found == clients_.end()) return false;
    Erase(found);
    return true;
  }

  size_t size() const { return clients_.size(); }

 private:
  uint64_t Erase(std::vector<Client>::iterator who) {
    const uint64_t name = who->name;
    clients_.erase(who);
    return name;
  }

  size_t capacity_;
  std::vector<Client> clients_;
};

class WaitingRoomModelTest : public testing::TestWithParam<unsigned> {};

TEST_P(WaitingRoomModelTest, AgreesWithANaiveModelWhateverHappens) {
  constexpr size_t kCapacity = 30;
  std::mt19937 random(GetParam());
  const auto below = [&](size_t n) { return random() % n; };
  ConnectionLimits limits = AtMost(12, 4);
  Admission admission(limits);
  WaitingRoom<uint64_t> room(admission, kCapacity);
  NaiveRoom naive(kCapacity);
  std::vector<std::pair<int, Admission::Slot>> inside;
  const auto live = [&](int source) {
    return static_cast<size_t>(
        std::count_if(inside.begin(), inside.end(),
                      [&](const auto& c) { return c.first == source; }));
  };
  uint64_t name = 0;
  size_t shed = 0;
  for (int i = 0; i < 20'000; ++i) {
    // Some come far more often than others.
    const int source = static_cast<int>(below(1 + below(10)));
    switch (below(5)) {
      case 0:
      case 1: {
        ++name;
        const auto entered = room.Enter(Source(source), name);
        ASSERT_EQ(entered.ticket, name);
        ASSERT_EQ(entered.shed,
                  naive.Enter({.source = source, .name = name}, live));
        shed += entered.shed.has_value() ? 1 : 0;
        break;
      }
      case 2: {
        const auto expected = naive.TryNext(live, inside.size(), limits);
        std::optional<WaitingRoom<uint64_t>::Called> next = room.TryNext();
        ASSERT_EQ(next.has_value(), expected.has_value());
        if (!next.has_value()) break;
        ASSERT_EQ(next->client, *expected);
        int of = 0;
        while (Source(of) != next->source) ++of;
        inside.emplace_back(of, std::move(next->slot));
        break;
      }
      case 3:
        if (!inside.empty()) {
          std::swap(inside[below(inside.size())], inside.back());
          inside.pop_back();
        }
        break;
      case 4: {
        const uint64_t who = name - std::min(name, uint64_t{below(200)});
        ASSERT_EQ(room.Take(who).has_value(), naive.Take(who));
        if (below(50) == 0) {
          limits = AtMost(below(20), below(6));
          admission.set_limits(limits);
        }
        break;
      }
    }
    ASSERT_EQ(room.size(), naive.size());
    ASSERT_EQ(admission.connections(), inside.size());
  }
  EXPECT_GT(shed, 100);
}

INSTANTIATE_TEST_SUITE_P(Seeds, WaitingRoomModelTest, testing::Range(1U, 6U));

}  // namespace
}  // namespace brood
