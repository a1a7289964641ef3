// SPDX-License-Identifier: Apache-2.0
#include "brood/net/handshakes.h"

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::testing::Eq;

absl::StatusOr<bool> NobodyIsOnTheWay(const Address& local) {
  const absl::StatusOr<int> handshakes = HandshakesUnderWay(local);
  if (!handshakes.ok()) return handshakes.status();
  return *handshakes == 0;
}

// With TCP_DEFER_ACCEPT the handshake of a client that has said nothing is not
// over, and nothing but the client can end it soon.
TEST(HandshakesTest, CountsThoseThatTheClientTakesForConnections) {
  absl::StatusOr<Listener> listener = Listener::Open(
      *Address::Parse("127.0.0.1:0"), {.defer_accept = absl::Seconds(60)});
  ASSERT_THAT(listener, IsOk());
  const Address& local = listener->address();
  EXPECT_THAT(NobodyIsOnTheWay(local), IsOkAndHolds(true));
  std::vector<Stream> clients;
  for (int i = 1; i <= 300; ++i) {
    absl::StatusOr<Stream> client = Stream::Connect(local);
    ASSERT_THAT(client, IsOk());
    clients.push_back(*std::move(client));
  }
  EXPECT_THAT(HandshakesUnderWay(local), IsOkAndHolds(300));
  EXPECT_THAT(NobodyIsOnTheWay(local), IsOkAndHolds(false));
  EXPECT_THAT(clients.front().WriteAll("x"), IsOk());
  EXPECT_THAT(HandshakesUnderWay(local), IsOkAndHolds(299));
}

TEST(HandshakesTest, OfBothFamiliesAreCountedForAListenerOfBoth) {
  absl::StatusOr<Listener> listener = Listener::Open(
      Address::Everywhere(0), {.defer_accept = absl::Seconds(60)});
  ASSERT_THAT(listener, IsOk());
  const std::string port = absl::StrCat(*listener->address().port());
  int expected = 0;
  std::vector<Stream> clients;
  for (const std::string_view host : {"127.0.0.1:", "[::1]:"}) {
    absl::StatusOr<Stream> client =
        Stream::Connect(*Address::Parse(absl::StrCat(host, port)));
    if (!client.ok()) continue;  // No IPv6 here.
    clients.push_back(*std::move(client));
    ++expected;
  }
  EXPECT_GE(expected, 1);
  EXPECT_THAT(HandshakesUnderWay(listener->address()), IsOkAndHolds(expected));
}

TEST(HandshakesTest, KeepAListenerFromBeingDrained) {
  absl::StatusOr<Listener> listener = Listener::Open(
      *Address::Parse("127.0.0.1:0"), {.defer_accept = absl::Seconds(60)});
  ASSERT_THAT(listener, IsOk());
  absl::StatusOr<Stream> client = Stream::Connect(listener->address());
  ASSERT_THAT(client, IsOk());
  ASSERT_THAT(listener->Drain(), IsOk());
  EXPECT_THAT(listener->Accept(), IsOkAndHolds(Eq(std::nullopt)));
  EXPECT_THAT(listener->Drained(), IsOkAndHolds(false));
  // The door is shut, but not in the face of who has one foot in it.
  EXPECT_THAT(client->WriteAll("x"), IsOk());
  absl::StatusOr<std::optional<Accepted>> accepted = listener->Accept();
  ASSERT_THAT(accepted, IsOk());
  EXPECT_TRUE(accepted->has_value());
  EXPECT_THAT(listener->Accept(), IsOkAndHolds(Eq(std::nullopt)));
  EXPECT_THAT(listener->Drained(), IsOkAndHolds(true));
}

}  // namespace
}  // namespace brood
