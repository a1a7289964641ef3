// SPDX-License-Identifier: Apache-2.0
// One client at a time, or a process for each: what a second client sees while
// the first one is silent.
#include <poll.h>

#include <array>
#include <csignal>
#include <iostream>
#include <memory>
#include <string_view>
#include <utility>

#include "absl/log/check.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/server/connection_log.h"
#include "brood/server/echo.h"
#include "brood/server/fork_per_connection.h"
#include "brood/server/iterative.h"
#include "brood/server/poll_loop.h"
#include "brood/server/process_model.h"

namespace brood {
namespace {

enum class Model { kIterative, kFork };

constexpr int kClients = 2;

// The server: runs until its second client has left. The exit code is 0 if all
// went well.
int Serve(Model which, Listener listener) {
  EchoHandler echo;
  absl::StatusOr<std::unique_ptr<ProcessModel>> model =
      which == Model::kIterative
          ? MakeIterative(std::move(listener), echo)
          : ForkPerConnection::Create(std::move(listener), echo, {});
  if (!model.ok()) return 1;
  PollLoop loop;
  int ended = 0;
  (*model)->OnConnectionEnd([&](const ConnectionRecord&) {
    if (++ended == kClients) loop.Stop();
  });
  return (*model)->Start(loop).ok() && loop.Run().ok() ? 0 : 1;
}

void Say(std::string_view name, Stream& client, std::string_view text) {
  std::cout << "  " << name << " says: " << text << "\n";
  CHECK_OK(client.WriteAll(text));
}

// Blocks until an answer comes.
void Hear(std::string_view name, Stream& client) {
  std::array<char, 64> buffer;
  const IoResult got = client.Read(absl::MakeSpan(buffer)).value();
  const std::string_view text(buffer.data(), got.bytes().value_or(0));
  std::cout << "  " << name << " hears: " << text << "\n";
}

void Leave(std::string_view name, Stream& client) {
  std::cout << "  " << name << " leaves\n";
  CHECK_OK(client.Close());
}

void Show(std::string_view title, Model which) {
  std::cout << title << "\n";
  Listener listener =
      Listener::Open(Address::Parse("127.0.0.1:0").value()).value();
  // The parent keeps its copy of the listener, to look at the queue.
  const auto serve = [&] { return Serve(which, std::move(listener)); };
  Child server = Fork({.parent_death_signal = SIGKILL}, serve).value();

  Stream first = Stream::Connect(listener.address()).value();
  Say("the first client", first, "one");
  Hear("the first client", first);
  std::cout << "  the first client stays, and is silent\n";

  Stream second = Stream::Connect(listener.address()).value();
  Say("the second client", second, "two");
  if (which == Model::kIterative) {
    // A listener is readable while somebody waits in its queue.
    CHECK_OK(PollUntil(listener.fd(), POLLIN, absl::InfiniteFuture()));
    std::cout << "  nobody lets the second client in: it waits in the queue\n";
    Leave("the first client", first);
    Hear("the second client", second);
  } else {
    Hear("the second client", second);
    Leave("the first client", first);
  }
  Leave("the second client", second);
  std::cout << "  the server " << server.Wait().value() << "\n";
}

}  // namespace
}  // namespace brood

int main() {
  brood::Show("one client at a time", brood::Model::kIterative);
  brood::Show("a process for each client", brood::Model::kFork);
  return 0;
}
