// SPDX-License-Identifier: Apache-2.0
#include "brood/server/echo.h"

#include <sys/socket.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/server/connection_handler.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;

absl::Status ServeOne(Listener& listener) {
  EchoHandler echo;
  absl::StatusOr<std::optional<Accepted>> client = listener.Accept();
  if (!client.ok() || !client->has_value()) return client.status();
  echo.Handle((*client)->stream, {listener.address(), (*client)->peer});
  return absl::OkStatus();
}

class Greeter : public ConnectionHandler {
 public:
  std::string_view name() const override { return "greeter"; }
  int Handle(Stream& stream, const ConnectionInfo& info) override {
    const std::string hello = absl::StrCat("hello ", info.peer, "\n");
    return stream.WriteAll(hello).ok() ? 0 : 1;
  }
};

std::string ReadAll(Stream& stream) {
  std::string received;
  std::vector<char> buffer(4096);
  while (true) {
    const absl::StatusOr<IoResult> got = stream.Read(absl::MakeSpan(buffer));
    if (!got.ok() || got->end()) return received;
    received.append(buffer.data(), *got->bytes());
  }
}

struct Pair {
  Pair() {
    std::array<int, 2> ends;
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()),
              0);
    client.emplace(UniqueFd(ends[0]), Address());
    server.emplace(UniqueFd(ends[1]), Address());
  }
  std::optional<Stream> client;
  std::optional<Stream> server;
};

TEST(EchoTest, HeaderExample) {
  absl::StatusOr<Listener> listener =
      Listener::Open(*Address::Parse("127.0.0.1:0"));
  ASSERT_THAT(listener, IsOk());
  EXPECT_THAT(ServeOne(*listener), IsOk());  // Nobody is there: not an error.
  absl::StatusOr<Stream> client = Stream::Connect(listener->address());
  ASSERT_THAT(client, IsOk());
  ASSERT_THAT(client->WriteAll("hello"), IsOk());
  ASSERT_THAT(client->ShutdownWrite(), IsOk());
  ASSERT_THAT(ServeOne(*listener), IsOk());
  EXPECT_EQ(ReadAll(*client), "hello");
}

TEST(EchoTest, IsOneHandlerOfMany) {
  Pair pair;
  Greeter greeter;
  EXPECT_EQ(
      greeter.Handle(*pair.server, {Address(), *Address::Parse("127.0.0.1:7")}),
      0);
  pair.server.reset();
  EXPECT_EQ(ReadAll(*pair.client), "hello 127.0.0.1:7\n");
}

TEST(EchoTest, SendsBackEveryValueAByteCanHave) {
  Pair pair;
  std::string all;
  for (int i = 0; i < 256; ++i) all.push_back(static_cast<char>(i));
  ASSERT_THAT(pair.client->WriteAll(all), IsOk());
  ASSERT_THAT(pair.client->ShutdownWrite(), IsOk());
  EXPECT_EQ(EchoHandler().Handle(*pair.server, {}), 0);
  pair.server.reset();
  EXPECT_EQ(ReadAll(*pair.client), all);
}

TEST(EchoTest, EndsWellWithAClientThatSaysNothing) {
  Pair pair;
  pair.client.reset();
  EXPECT_EQ(EchoHandler().Handle(*pair.server, {}), 0);
}

TEST(EchoTest, ReportsAClientThatLeftWithoutReading) {
  Pair pair;
  ASSERT_THAT(pair.client->WriteAll("never read back"), IsOk());
  pair.client.reset();
  EXPECT_EQ(EchoHandler().Handle(*pair.server, {}), 1);
}

TEST(EchoTest, SendsBackMoreThanTheKernelHolds) {
  Pair pair;
  const std::string data(4 << 20, 'x');
  absl::StatusOr<Child> server =
      Fork({}, [&] { return EchoHandler().Handle(*pair.server, {}); });
  ASSERT_THAT(server, IsOk());
  pair.server.reset();
  absl::StatusOr<Child> sender = Fork({}, [&] {
    return pair.client->WriteAll(data).ok() && pair.client->ShutdownWrite().ok()
               ? 0
               : 1;
  });
  ASSERT_THAT(sender, IsOk());
  EXPECT_TRUE(ReadAll(*pair.client) == data);
  EXPECT_THAT(sender->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
  EXPECT_THAT(server->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

}  // namespace
}  // namespace brood
