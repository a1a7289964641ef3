// SPDX-License-Identifier: Apache-2.0
// A server of one's own, in a process of its own, driven as an operator would.
#include "brood/server/supervisor.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/server/connection_handler.h"
#include "brood/server/echo.h"
#include "brood/server/fork_per_connection.h"
#include "brood/server/iterative.h"
#include "brood/server/process_model.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::testing::HasSubstr;
using ::testing::StartsWith;

int RunEchoServer() {
  EchoHandler handler;
  absl::StatusOr<Listener> listener =
      Listener::Open(*Address::Parse("127.0.0.1:0"), {});
  if (!listener.ok()) return 1;
  auto model = ForkPerConnection::Create(*std::move(listener), handler, {});
  return model.ok() && Supervise(**model, {}).ok() ? 0 : 1;
}

absl::Status ServeEcho(const Address& address) {
  absl::StatusOr<Listener> listener = Listener::Open(address, {});
  if (!listener.ok()) return listener.status();
  EchoHandler echo;
  absl::StatusOr<std::unique_ptr<ForkPerConnection>> model =
      ForkPerConnection::Create(*std::move(listener), echo, {});
  if (!model.ok()) return model.status();
  return Supervise(**model, {});
}

absl::Status ServeOneByOne(Listener listener, ConnectionHandler& handler) {
  absl::StatusOr<std::unique_ptr<ProcessModel>> model =
      MakeIterative(std::move(listener), handler);
  if (!model.ok()) return model.status();
  return Supervise(**model, {});
}

// Does what its client says: "crash", "ignore" SIGTERM and stay, anything else.
class Moody : public ConnectionHandler {
 public:
  std::string_view name() const override { return "moody"; }
  int Handle(Stream& stream, const ConnectionInfo&) override {
    prctl(PR_SET_DUMPABLE, 0);  // No core file for a test.
    std::array<char, 64> buffer;
    while (true) {
      const absl::StatusOr<IoResult> got = stream.Read(absl::MakeSpan(buffer));
      if (!got.ok() || got->end()) return 0;
      const std::string_view order(buffer.data(), *got->bytes());
      if (order == "crash") abort();
      if (order == "ignore") (void)std::signal(SIGTERM, SIG_IGN);
      if (!stream.WriteAll(order).ok()) return 1;
    }
  }
};

// A server with that handler, in a child process; its log and its ready line
// come through one pipe.
class MoodyServer {
 public:
  explicit MoodyServer(absl::Duration drain_timeout) {
    std::array<int, 2> ends;
    EXPECT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
    reader_ = UniqueFd(ends[0]);
    UniqueFd writer(ends[1]);
    absl::StatusOr<Child> child = Fork({.parent_death_signal = SIGKILL}, [&] {
      Moody moody;
      absl::StatusOr<Listener> listener =
          Listener::Open(*Address::Parse("127.0.0.1:0"));
      if (!listener.ok()) return 10;
      auto model = ForkPerConnection::Create(*std::move(listener), moody, {});
      if (!model.ok()) return 11;
      return Supervise(**model, {.drain_timeout = drain_timeout,
                                 .ready_fd = writer.get(),
                                 .log_fd = writer.get()})
                     .ok()
                 ? 0
                 : 12;
    });
    EXPECT_THAT(child, IsOk());
    child_ = *std::move(child);
    writer = UniqueFd();
    std::string_view ready = ready_line_ = NextLine();
    EXPECT_THAT(ready_line_, HasSubstr("(model fork, service moody)"));
    absl::ConsumePrefix(&ready, "listening on ");
    address_ = *Address::Parse(ready.substr(0, ready.find(' ')));
  }

  Child& child() { return *child_; }
  const Address& address() const { return address_; }

  std::string NextLine() {
    std::string line;
    char byte;
    while (RetryOnEintr([&] { return read(reader_.get(), &byte, 1); }) == 1 &&
           byte != '\n') {
      line.push_back(byte);
    }
    return line;
  }

 private:
  std::optional<Child> child_;
  UniqueFd reader_;
  std::string ready_line_;
  Address address_;
};

std::string Ask(Stream& client, std::string_view order) {
  EXPECT_THAT(client.WriteAll(order), IsOk());
  std::array<char, 64> buffer;
  const absl::StatusOr<IoResult> got = client.Read(absl::MakeSpan(buffer));
  if (!got.ok() || got->end()) return "";
  return {buffer.data(), *got->bytes()};
}

Stream Connect(const MoodyServer& server) {
  absl::StatusOr<Stream> client = Stream::Connect(server.address());
  EXPECT_THAT(client, IsOk());
  return *std::move(client);
}

// Runs `serve` as a server in a process of its own, and stops it once it is
// ready.
void ExpectReadyAndStoppable(absl::FunctionRef<int()> serve) {
  std::array<int, 2> ends;
  ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
  const UniqueFd reader(ends[0]);
  const UniqueFd writer(ends[1]);
  absl::StatusOr<Child> server = Fork({.parent_death_signal = SIGKILL}, [&] {
    dup2(writer.get(), STDOUT_FILENO);
    return serve();
  });
  ASSERT_THAT(server, IsOk());
  std::array<char, 128> ready = {};
  ASSERT_GT(read(reader.get(), ready.data(), ready.size() - 1), 0);
  EXPECT_THAT(std::string(ready.data()), StartsWith("listening on 127.0.0.1:"));
  ASSERT_THAT(server->Signal(SIGTERM), IsOk());
  EXPECT_THAT(server->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(SupervisorTest, HeaderExample) { ExpectReadyAndStoppable(RunEchoServer); }

TEST(ForkPerConnectionTest, HeaderExample) {
  ExpectReadyAndStoppable(
      [] { return ServeEcho(*Address::Parse("127.0.0.1:0")).ok() ? 0 : 1; });
}

TEST(IterativeTest, HeaderExample) {
  ExpectReadyAndStoppable([] {
    EchoHandler echo;
    absl::StatusOr<Listener> listener =
        Listener::Open(*Address::Parse("127.0.0.1:0"));
    if (!listener.ok()) return 2;
    return ServeOneByOne(*std::move(listener), echo).ok() ? 0 : 1;
  });
}

TEST(SupervisorTest, LogsACrashAndServesOn) {
  MoodyServer server(absl::Seconds(30));
  Stream neighbour = Connect(server);
  EXPECT_EQ(Ask(neighbour, "before"), "before");
  Stream victim = Connect(server);
  EXPECT_EQ(Ask(victim, "crash"), "");
  EXPECT_THAT(server.NextLine(), HasSubstr(" killed by SIGABRT"));
  EXPECT_EQ(Ask(neighbour, "after"), "after");
}

TEST(SupervisorTest, KillsAHandlerThatIgnoresSigterm) {
  MoodyServer server(absl::ZeroDuration());
  Stream client = Connect(server);
  EXPECT_EQ(Ask(client, "ignore"), "ignore");
  ASSERT_THAT(server.child().Signal(SIGTERM), IsOk());
  EXPECT_THAT(server.NextLine(), HasSubstr("draining on SIGTERM: 1 inside"));
  EXPECT_THAT(server.NextLine(), HasSubstr("SIGTERM to 1"));
  EXPECT_THAT(server.NextLine(), HasSubstr("SIGKILL to 1"));
  EXPECT_THAT(server.NextLine(), HasSubstr(" killed by SIGKILL"));
  EXPECT_THAT(server.child().Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(SupervisorTest, EndsWellHoweverOftenItIsAsked) {
  MoodyServer server(absl::Hours(24));
  Stream client = Connect(server);
  EXPECT_EQ(Ask(client, "x"), "x");
  for (int i = 0; i < 10; ++i) {
    // It may have ended by then, which is what was asked for.
    if (!server.child().Signal(i % 2 == 0 ? SIGTERM : SIGINT).ok()) break;
  }
  EXPECT_THAT(server.child().Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

}  // namespace
}  // namespace brood
