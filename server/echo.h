// SPDX-License-Identifier: Apache-2.0
//
// Echo sends back what it receives, byte for byte, until the client has
// finished sending: RFC 862.
//
//   absl::Status ServeOne(Listener& listener) {
//     EchoHandler echo;
//     absl::StatusOr<std::optional<Accepted>> client = listener.Accept();
//     if (!client.ok() || !client->has_value()) return client.status();
//     echo.Handle((*client)->stream, {listener.address(), (*client)->peer});
//     return absl::OkStatus();
//   }
//
// What it is not: a line protocol. NUL bytes, halves of UTF-8 sequences and
// messages of any length are all the same to it.
//
// Errors: 0 when the client finished and has been sent everything, which
// includes one that shuts down its writing half and reads on; 1 when the
// connection broke.
//
// Threads, signals, fork: see connection_handler.h.
#ifndef BROOD_SERVER_ECHO_H_
#define BROOD_SERVER_ECHO_H_

#include <string_view>

#include "brood/net/stream.h"
#include "brood/server/connection_handler.h"

namespace brood {

class EchoHandler : public ConnectionHandler {
 public:
  std::string_view name() const override { return "echo"; }
  int Handle(Stream& stream, const ConnectionInfo& info) override;
};

}  // namespace brood

#endif  // BROOD_SERVER_ECHO_H_
