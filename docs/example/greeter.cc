// SPDX-License-Identifier: Apache-2.0
// The server of one's own that README.md shows.
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/server/connection_handler.h"
#include "brood/server/fork_per_connection.h"
#include "brood/server/supervisor.h"

class Greeter : public brood::ConnectionHandler {
 public:
  std::string_view name() const override { return "greeter"; }
  int Handle(brood::Stream& client,
             const brood::ConnectionInfo& info) override {
    const std::string hello = absl::StrCat("hello ", info.peer, "\n");
    return client.WriteAll(hello).ok() ? 0 : 1;
  }
};

int main() {
  Greeter greeter;
  auto listener = brood::Listener::Open(*brood::Address::Parse("127.0.0.1:0"));
  if (!listener.ok()) return 1;
  auto model =
      brood::ForkPerConnection::Create(*std::move(listener), greeter, {});
  return model.ok() && brood::Supervise(**model, {}).ok() ? 0 : 1;
}
