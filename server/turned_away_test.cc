// SPDX-License-Identifier: Apache-2.0
#include "brood/server/turned_away.h"

#include <array>
#include <cerrno>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/proc/posix.h"
#include "brood/server/admission.h"
#include "brood/server/connection_log.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::testing::MatchesRegex;
using ::testing::SizeIs;

void SendAway(TurnedAway& turned_away, Accepted client) {
  turned_away.Tell(client.peer, "we are closed");
  SayGoodbye(client.stream, "come back tomorrow", AtLimit::kRefuse);
}

struct Visit {
  Stream client;
  Accepted accepted;
};

Visit Come() {
  absl::StatusOr<Listener> listener =
      Listener::Open(*Address::Parse("127.0.0.1:0"));
  EXPECT_THAT(listener, IsOk());
  absl::StatusOr<Stream> client = Stream::Connect(listener->address());
  EXPECT_THAT(client, IsOk());
  absl::StatusOr<std::optional<Accepted>> accepted = listener->Accept();
  EXPECT_THAT(accepted, IsOk());
  return {.client = *std::move(client), .accepted = **std::move(accepted)};
}

TEST(TurnedAwayTest, HeaderExample) {
  TurnedAway turned_away;
  std::vector<std::string> told;
  turned_away.OnEvent(
      [&](const LogEvent& event) { told.push_back(event.sentence); });
  auto [client, accepted] = Come();
  ASSERT_THAT(client.WriteAll("unread"), IsOk());
  SendAway(turned_away, std::move(accepted));
  std::array<char, 64> buffer;
  const absl::StatusOr<IoResult> got = client.Read(absl::MakeSpan(buffer));
  ASSERT_THAT(got, IsOkAndHolds(IoResult::Bytes(19)));
  EXPECT_EQ(std::string(buffer.data(), 19), "come back tomorrow\n");
  EXPECT_THAT(client.Read(absl::MakeSpan(buffer)),
              IsOkAndHolds(IoResult::End()));
  ASSERT_THAT(told, SizeIs(1));
  EXPECT_THAT(told[0],
              MatchesRegex("turned away 127.0.0.1:[0-9]+: we are closed"));
}

TEST(TurnedAwayTest, ResetsWhoIsToBeReset) {
  auto [client, accepted] = Come();
  SayGoodbye(accepted.stream, "not said", AtLimit::kReset);
  std::array<char, 64> buffer;
  EXPECT_EQ(ErrnoOf(client.Read(absl::MakeSpan(buffer)).status()), ECONNRESET);
}

TEST(TurnedAwayTest, CountsThoseOfAFloodOfWhomItDoesNotTell) {
  TurnedAway turned_away;
  std::vector<std::string> told;
  turned_away.OnEvent(
      [&](const LogEvent& event) { told.push_back(event.sentence); });
  for (int i = 0; i < 1000; ++i) turned_away.Tell(Address(), "flood");
  turned_away.Count(5000);
  EXPECT_EQ(turned_away.count(), 6000);
  // A slow machine takes more than a second for this, and has more to say.
  EXPECT_GE(told.size(), TurnedAway::kToldPerSecond);
  EXPECT_LT(told.size(), 500);
}

TEST(TurnedAwayTest, CountsAlsoWhenNobodyListens) {
  TurnedAway turned_away;
  turned_away.Tell(Address(), "nobody listens");
  EXPECT_EQ(turned_away.count(), 1);
}

}  // namespace
}  // namespace brood
