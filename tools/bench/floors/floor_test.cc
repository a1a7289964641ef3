// SPDX-License-Identifier: Apache-2.0
//
// The floor that the environment variable SERVER names.
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/stream.h"
#include "brood/tests/server_process.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;

Stream Come(const ServerProcess& floor) {
  absl::StatusOr<Stream> client = Stream::Connect(floor.address());
  EXPECT_THAT(client, IsOk());
  return *std::move(client);
}

void ExpectEcho(Stream& client, const std::string& text) {
  ASSERT_THAT(client.WriteAll(text), IsOk());
  std::string back;
  std::array<char, 65536> buffer;
  while (back.size() < text.size()) {
    const absl::StatusOr<IoResult> got =
        client.Read(absl::MakeSpan(buffer), absl::Now() + absl::Seconds(30));
    ASSERT_THAT(got, IsOk());
    ASSERT_TRUE(got->bytes().has_value());
    back.append(buffer.data(), *got->bytes());
  }
  EXPECT_TRUE(back == text);
}

TEST(FloorTest, EchoesSmallMessagesAndLargeOnes) {
  ServerProcess floor({});
  Stream client = Come(floor);
  ExpectEcho(client, "x");
  ExpectEcho(client, std::string(65536, 'y'));
  ExpectEcho(client, "z");
}

TEST(FloorTest, ServesSeveralAtOnceAndOthersAfterThem) {
  ServerProcess floor({});
  for (int round = 0; round < 3; ++round) {
    std::vector<Stream> clients;
    for (int i = 0; i < 8; ++i) {
      clients.push_back(Come(floor));
      ExpectEcho(clients.back(), "hello");
    }
    for (Stream& client : clients) ExpectEcho(client, "still here");
  }
}

}  // namespace
}  // namespace brood
