// SPDX-License-Identifier: Apache-2.0
//
// A ConnectionHandler is what a server does with one connection. It is written
// once and runs unchanged under every process model.
//
//   class Greeter : public ConnectionHandler {
//    public:
//     std::string_view name() const override { return "greeter"; }
//     int Handle(Stream& stream, const ConnectionInfo& info) override {
//       const std::string hello = absl::StrCat("hello ", info.peer, "\n");
//       return stream.WriteAll(hello).ok() ? 0 : 1;
//     }
//   };
//
// What it is not: asynchronous. Handle() blocks as it likes, because the
// process it runs in has nothing else to do.
//
// Ownership: the stream is closed after Handle() returns, whatever it did.
//
// Errors: the result of Handle() becomes the exit code of the process, low
// eight bits: 0 says that all went well.
//
// Threads, signals, fork: Handle() runs in a process of the model's choosing,
// most often a forked child. No signal is blocked or handled there; what it
// changes in memory is not seen elsewhere.
#ifndef BROOD_SERVER_CONNECTION_HANDLER_H_
#define BROOD_SERVER_CONNECTION_HANDLER_H_

#include <string_view>

#include "brood/net/address.h"
#include "brood/net/stream.h"

namespace brood {

struct ConnectionInfo {
  Address local;
  Address peer;
};

class ConnectionHandler {
 public:
  virtual ~ConnectionHandler() = default;

  // One word, for logs: "echo".
  virtual std::string_view name() const = 0;
  virtual int Handle(Stream& stream, const ConnectionInfo& info) = 0;
};

}  // namespace brood

#endif  // BROOD_SERVER_CONNECTION_HANDLER_H_
