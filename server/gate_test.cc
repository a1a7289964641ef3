// SPDX-License-Identifier: Apache-2.0
#include "brood/server/gate.h"

#include <array>
#include <cerrno>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/address_range_set.h"
#include "brood/net/listener.h"
#include "brood/net/proxy_protocol.h"
#include "brood/net/stream.h"
#include "brood/proc/posix.h"
#include "brood/server/acceptor.h"
#include "brood/server/admission.h"
#include "brood/server/connection_log.h"
#include "brood/server/poll_loop.h"
#include "brood/server/rules.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;

void LetInTwo(Acceptor& acceptor, Gate& gate, PollLoop& loop) {
  gate.Start(loop, [](Entrant entrant) {
    (void)entrant.stream.WriteAll("welcome\n");
  });
  acceptor.Start(loop, [&gate](Accepted&& client, const Address& local) {
    return gate.Arrive(std::move(client), local);
  });
}

Listener MustListen() {
  absl::StatusOr<Listener> listener =
      Listener::Open(*Address::Parse("127.0.0.1:0"));
  EXPECT_THAT(listener, IsOk());
  return *std::move(listener);
}

// All that a stream yields until its end.
std::string ReadAll(Stream& stream) {
  std::string all;
  std::array<char, 4096> buffer;
  for (;;) {
    const absl::StatusOr<IoResult> got = stream.Read(absl::MakeSpan(buffer));
    if (!got.ok() || got->end()) return all;
    all.append(buffer.data(), *got->bytes());
  }
}

class GateTest : public testing::Test {
 protected:
  // The gate, open.
  void Open(Gate::Options options) {
    gate_.emplace(std::move(options));
    gate_->OnEvent(
        [this](const LogEvent& event) { told_.push_back(event.sentence); });
    gate_->Start(loop_, [this](Entrant entrant) {
      inside_.push_back(std::move(entrant));
    });
  }

  // A client from 127.0.0.`host`, who has arrived.
  Stream Come(int host = 1) {
    absl::StatusOr<Stream> client = Stream::Connect(
        listener_.address(), absl::InfiniteFuture(),
        {.source = *Address::Parse(absl::StrCat("127.0.0.", host, ":0"))});
    EXPECT_THAT(client, IsOk());
    absl::StatusOr<std::optional<Accepted>> accepted = listener_.Accept();
    EXPECT_THAT(accepted, IsOk());
    wanted_ = gate_->Arrive(**std::move(accepted), listener_.address());
    return *std::move(client);
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

  static bool IsReset(Stream& stream) {
    std::array<char, 1> byte;
    return ErrnoOf(stream.Read(absl::MakeSpan(byte)).status()) == ECONNRESET;
  }

  PollLoop loop_;
  Listener listener_ = MustListen();
  std::optional<Gate> gate_;
  std::list<Entrant> inside_;
  std::vector<std::string> told_;
  bool wanted_ = false;
};

TEST_F(GateTest, HeaderExample) {
  Acceptor acceptor(MustListen());
  Gate gate(Gate::Options{});
  LetInTwo(acceptor, gate, loop_);
  absl::StatusOr<Stream> client = Stream::Connect(acceptor.addresses().front());
  ASSERT_THAT(client, IsOk());
  std::array<char, 8> got;
  Await([&] {
    const absl::StatusOr<IoResult> read = client->TryRead(absl::MakeSpan(got));
    return read.ok() && read->bytes() == 8;
  });
}

TEST_F(GateTest, LetsEverybodyInWithoutOptions) {
  Open({});
  const Stream client = Come();
  ASSERT_EQ(inside_.size(), 1);
  EXPECT_TRUE(wanted_);
  EXPECT_EQ(inside_.front().peer, *LocalAddressOf(client.fd()));
  EXPECT_EQ(inside_.front().local, listener_.address());
  EXPECT_EQ(inside_.front().proxy, std::nullopt);
}

TEST_F(GateTest, TurnsAwayWhomTheRulesDenyWithoutAWord) {
  Open({.message = "full",
        .rules = *Rules::Parse("deny 127.0.0.2\nallow all", "rules")});
  Stream denied = Come(2);
  EXPECT_EQ(ReadAll(denied), "") << "which is about limits, not about rules";
  const Stream allowed = Come(3);
  EXPECT_EQ(inside_.size(), 1);
  EXPECT_EQ(gate_->turned_away(), 1);
  EXPECT_THAT(told_, ElementsAre(MatchesRegex(
                         "turned away 127.0.0.2:[0-9]+: rules:1: deny "
                         "127.0.0.2")));
  gate_->set_rules(*Rules::Parse("allow all", "rules"));
  const Stream now_allowed = Come(2);
  EXPECT_EQ(inside_.size(), 2);
}

TEST_F(GateTest, LeavesClientsInTheKernelsQueueWithoutAWaitingRoom) {
  Open({.limits = {.max_connections = 2}});
  const Stream first = Come();
  EXPECT_TRUE(wanted_);
  const Stream second = Come();
  EXPECT_FALSE(wanted_);
  inside_.pop_front();
  EXPECT_TRUE(gate_->CallNext());
}

TEST_F(GateTest, RefusesOrResetsWhoFindsTheServerFull) {
  Open({.limits = {.max_connections = 1},
        .at_limit = AtLimit::kRefuse,
        .message = "full"});
  const Stream first = Come();
  EXPECT_TRUE(wanted_);
  Stream refused = Come();
  EXPECT_EQ(ReadAll(refused), "full\n");
  inside_.clear();
  const Stream next = Come();
  EXPECT_EQ(inside_.size(), 1);

  Open({.limits = {.max_connections = 1}, .at_limit = AtLimit::kReset});
  const Stream inside = Come();
  Stream reset = Come();
  EXPECT_TRUE(IsReset(reset));
}

TEST_F(GateTest, CallsTheSourceWithTheFewestFirst) {
  Open({.limits = {.max_connections = 2}, .max_waiting = 100});
  std::vector<Stream> flood;
  for (int i = 0; i < 20; ++i) flood.push_back(Come(2));
  EXPECT_EQ(inside_.size(), 2);
  EXPECT_EQ(gate_->waiting(), 18);
  const Stream other = Come(3);
  inside_.pop_front();
  EXPECT_TRUE(gate_->CallNext());
  ASSERT_EQ(inside_.size(), 2);
  EXPECT_EQ(inside_.back().peer, *LocalAddressOf(other.fd()));
  EXPECT_EQ(inside_.back().connections_of_source, 1);
}

TEST_F(GateTest, ShedsTheHeaviestSourceWhenTheRoomIsFull) {
  Open(
      {.limits = {.max_connections = 1}, .max_waiting = 2, .message = "later"});
  const Stream inside = Come(2);
  const Stream first = Come(2);
  Stream second = Come(2);
  const Stream other = Come(3);
  EXPECT_EQ(gate_->waiting(), 2);
  EXPECT_EQ(ReadAll(second), "later\n");
  EXPECT_THAT(told_, ElementsAre(HasSubstr("the waiting room is full")));
}

TEST_F(GateTest, RefusesWhoComesTooFastAndNobodyElse) {
  Open({.limits = {.rate_per_source = {.connections = 1,
                                       .period = absl::Hours(1),
                                       .burst = 2}}});
  const Stream first = Come(2);
  const Stream second = Come(2);
  Stream third = Come(2);
  EXPECT_EQ(ReadAll(third), "");
  const Stream other = Come(3);
  EXPECT_EQ(inside_.size(), 3);
  EXPECT_EQ(gate_->turned_away(), 1);
}

TEST_F(GateTest, BelievesATrustedProxyAndNobodyElse) {
  Open({.rules = *Rules::Parse("deny 192.0.2.0/24", "rules"),
        .trusted_proxies = *AddressRangeSet::Parse("127.0.0.2")});
  Stream proxy = Come(2);
  EXPECT_EQ(gate_->waiting(), 1);
  ASSERT_THAT(proxy.WriteAll("PROXY TCP4 198.51.100.7 203.0.113.1 4711 80\r\n"
                             "hello"),
              IsOk());
  Await([&] { return !inside_.empty(); });
  Entrant& entrant = inside_.front();
  EXPECT_EQ(entrant.peer, *Address::Parse("198.51.100.7:4711"));
  EXPECT_EQ(entrant.local, *Address::Parse("203.0.113.1:80"));
  EXPECT_EQ(entrant.proxy, *LocalAddressOf(proxy.fd()));
  std::array<char, 16> got;
  EXPECT_THAT(entrant.stream.Read(absl::MakeSpan(got)),
              IsOkAndHolds(IoResult::Bytes(5)));

  Stream denied = Come(2);
  ASSERT_THAT(denied.WriteAll("PROXY TCP4 192.0.2.7 203.0.113.1 4711 80\r\n"),
              IsOk());
  Await([&] { return gate_->turned_away() == 1; });
  EXPECT_EQ(ReadAll(denied), "");

  // Who is not trusted comes for himself, whatever he says.
  Stream liar = Come(3);
  ASSERT_THAT(liar.WriteAll("PROXY TCP4 198.51.100.7 203.0.113.1 1 2\r\n"),
              IsOk());
  EXPECT_EQ(inside_.back().peer, *LocalAddressOf(liar.fd()));
}

TEST_F(GateTest, CountsThoseWhoHaveYetToSpeakAsIfTheyWereInside) {
  Open({.limits = {.max_connections = 2},
        .trusted_proxies = *AddressRangeSet::Parse("127.0.0.2"),
        .proxy_timeout = absl::Milliseconds(20)});
  int wanted_again = 0;
  gate_->OnRoom([&] { ++wanted_again; });
  const Stream first = Come(1);
  EXPECT_TRUE(wanted_);
  Stream proxy = Come(2);
  EXPECT_FALSE(wanted_);
  ASSERT_THAT(proxy.WriteAll("PROXY TCP4 198.51.100.7 203.0.113.1 1 2\r\n"),
              IsOk());
  Await([&] { return inside_.size() == 2; });
  EXPECT_EQ(wanted_again, 0);

  // A place that was kept for somebody who does not come in is free again.
  inside_.pop_back();
  EXPECT_TRUE(gate_->CallNext());
  const Stream silent = Come(2);
  EXPECT_FALSE(wanted_);
  Await([&] { return gate_->turned_away() == 1; });
  EXPECT_EQ(wanted_again, 1);
}

TEST_F(GateTest, TurnsAwayAProxyThatTalksNonsenseOrNotAtAll) {
  Open({.trusted_proxies = *AddressRangeSet::Parse("127.0.0.2"),
        .proxy_timeout = absl::Milliseconds(20)});
  Stream silent = Come(2);
  Stream nonsense = Come(2);
  ASSERT_THAT(nonsense.WriteAll("GET / HTTP/1.0\r\n"), IsOk());
  Stream gone = Come(2);
  ASSERT_THAT(gone.Close(), IsOk());
  Await([&] { return gate_->turned_away() == 3; });
  EXPECT_TRUE(IsReset(silent));
  EXPECT_TRUE(IsReset(nonsense));
  EXPECT_THAT(told_, testing::Contains(HasSubstr("within 20ms")));
  EXPECT_THAT(inside_, IsEmpty());
  EXPECT_EQ(gate_->waiting(), 0);
}

TEST_F(GateTest, ExplainsWhatWouldBecomeOfAClientNow) {
  const Address peer = *Address::Parse("127.0.0.2:0");
  Open({.limits = {.max_connections = 1,
                   .rate_per_source = {.connections = 1,
                                       .period = absl::Hours(1),
                                       .burst = 4}},
        .max_waiting = 5,
        .trusted_proxies = *AddressRangeSet::Parse("127.0.0.9")});
  const Stream inside = Come(2);
  const Stream waiting = Come(2);
  const Stream other = Come(3);
  const Stream proxy = Come(9);
  EXPECT_EQ(gate_->Explain(peer),
            "counts as 127.0.0.2: 1 connections, no limit; rate 1/h,4\n"
            "all together: 1 connections, at most 1\n"
            "now: 127.0.0.2: 1 of 1 connections\n"
            "left of the rate: 2 of 4\n"
            "waiting: 2, at most 5; of this source 1\n"
            "yet to speak: 1 proxies\n");

  Open({.limits = {.max_connections = 1}, .at_limit = AtLimit::kRefuse});
  const Stream only = Come(2);
  EXPECT_EQ(gate_->Explain(peer),
            "counts as 127.0.0.2: connections not counted, no limit; rate no "
            "limit\n"
            "all together: 1 connections, at most 1\n"
            "now: 127.0.0.2: 1 of 1 connections\n"
            "waiting: nobody; at the limit clients are refused\n");
  Open({.at_limit = AtLimit::kReset});
  EXPECT_THAT(gate_->Explain(peer),
              HasSubstr("at the limit clients are reset"));
  Open({});
  EXPECT_THAT(gate_->Explain(peer),
              HasSubstr("waiting: in the kernel's queue"));
}

TEST_F(GateTest, ForgetsARateAndNoConnection) {
  const Address peer = *Address::Parse("127.0.0.2:0");
  Open({.limits = {.rate_per_source = {.connections = 1,
                                       .period = absl::Hours(1),
                                       .burst = 2}}});
  const Stream first = Come(2);
  const Stream second = Come(2);
  Stream third = Come(2);
  EXPECT_EQ(ReadAll(third), "");
  EXPECT_THAT(gate_->Forget(peer),
              IsOkAndHolds("127.0.0.2: 0 left of its rate, now 2\n"));
  const Stream fourth = Come(2);
  EXPECT_EQ(inside_.size(), 3);
  EXPECT_EQ(inside_.back().connections_of_source, 3);

  Open({});
  EXPECT_THAT(gate_->Forget(peer),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(GateTest, TurnsAwayAllWhoWait) {
  Open({.limits = {.max_connections = 1},
        .max_waiting = 10,
        .trusted_proxies = *AddressRangeSet::Parse("127.0.0.2")});
  const Stream inside = Come();
  Stream waiting = Come();
  Stream proxy = Come(2);
  EXPECT_EQ(gate_->waiting(), 2);
  gate_->TurnAwayAll("closing");
  EXPECT_EQ(gate_->waiting(), 0);
  EXPECT_TRUE(IsReset(waiting));
  EXPECT_TRUE(IsReset(proxy));
}

TEST_F(GateTest, TellsAFloodByItsNumber) {
  Open({.limits = {.max_connections = 1}, .at_limit = AtLimit::kReset});
  const Stream inside = Come();
  for (int i = 0; i < 100; ++i) Come();
  EXPECT_EQ(gate_->turned_away(), 100);
  EXPECT_LT(told_.size(), 60);
}

}  // namespace
}  // namespace brood
