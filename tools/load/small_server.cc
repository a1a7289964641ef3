// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/load/small_server.h"

#include <poll.h>

#include <csignal>
#include <cstddef>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/log/check.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"

namespace brood {
namespace {

Listener ListenAnywhere() {
  absl::StatusOr<Listener> listener =
      Listener::Open(*Address::Parse("127.0.0.1:0"));
  CHECK_OK(listener);
  return *std::move(listener);
}

Listener ListenAt(const std::optional<Address>& at) {
  if (!at.has_value()) return ListenAnywhere();
  absl::StatusOr<Listener> listener = Listener::Open(*at, {.backlog = 1});
  CHECK_OK(listener);
  return *std::move(listener);
}

}  // namespace

SmallServer::SmallServer(
    absl::FunctionRef<void(Stream client, int number)> serve,
    std::optional<Address> at) {
  Listener listener = ListenAt(at);
  address_ = listener.address();
  absl::StatusOr<Child> child = Fork({.parent_death_signal = SIGKILL}, [&] {
    for (int number = 0;;) {
      CHECK_OK(PollUntil(listener.fd(), POLLIN, absl::InfiniteFuture()));
      absl::StatusOr<std::optional<Accepted>> client = listener.Accept();
      CHECK_OK(client);
      if (!client->has_value()) continue;
      serve(std::move((*client)->stream), number++);
    }
    return 0;
  });
  CHECK_OK(child);
  child_ = *std::move(child);
}

SmallServer::~SmallServer() { std::move(*child_).Drop(absl::InfiniteFuture()); }

void EchoAll(Stream& client,
             absl::FunctionRef<void(char* begin, char* end)> change) {
  std::vector<char> buffer(65'536);
  for (;;) {
    const absl::StatusOr<IoResult> got = client.Read(absl::MakeSpan(buffer));
    if (!got.ok() || got->end()) return;
    const size_t size = *got->bytes();
    change(buffer.data(), buffer.data() + size);
    if (!client.WriteAll(std::string_view(buffer.data(), size)).ok()) return;
  }
}

Address Nowhere() { return ListenAnywhere().address(); }

}  // namespace brood
