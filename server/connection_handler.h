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
// eight bits: 0 says that all went well. A process that could not be given its
// limits exits with kCannotBegin and has not called it.
//
// Threads, signals, fork: Handle() runs in a process of the model's choosing,
// most often a forked child. No signal is blocked or handled there; what it
// changes in memory is not seen elsewhere.
#ifndef BROOD_SERVER_CONNECTION_HANDLER_H_
#define BROOD_SERVER_CONNECTION_HANDLER_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/limits.h"

namespace brood {

struct ConnectionInfo {
  // Where the client came in.
  Address local;
  // The client, whom a proxy may speak for.
  Address peer;
  // Counts the connections of the server, from 1; 0 if nobody does.
  uint64_t id = 0;
  // How many connections its source has, this one included, if that is counted.
  std::optional<uint64_t> connections_of_source = std::nullopt;
};

// What TCP has counted of a connection: bytes that came, and bytes that were
// sent, each once. After a reset the first may be one too few.
struct TcpTotals {
  bool known = false;
  uint64_t bytes_in = 0;
  uint64_t bytes_out = 0;
  uint64_t retransmits = 0;

  // Unknown for what is no TCP connection.
  static TcpTotals Of(int fd);
};

// What a process that handles one connection is like.
struct HandlerProcess {
  // For ForkOptions.
  std::optional<int> exit_signal = std::nullopt;
  Limits limits = {};
  // Where a forked process leaves what TCP counted, when Handle() has returned;
  // in memory that it shares with its parent. Nobody looks if null.
  TcpTotals* totals = nullptr;
};

// Whether a process could not be started for want of something that may be to
// be had again. Whatever else keeps it from beginning is the program's fault,
// and stays.
bool IsShortage(const absl::Status& status);
// How long to wait with the next try, if no process ends sooner.
inline constexpr absl::Duration kShortagePause = absl::Milliseconds(100);
// Whether a client that waits meanwhile has reset its connection, and left
// nothing to read. One that has only closed it may still have something to say.
bool WasGivenUp(const Stream& stream);

class ConnectionHandler {
 public:
  // What a shell says of a command that it could not run.
  static constexpr int kCannotBegin = 126;

  virtual ~ConnectionHandler() = default;

  // One word, for logs: "echo".
  virtual std::string_view name() const = 0;
  virtual int Handle(Stream& stream, const ConnectionInfo& info) = 0;

  // What a forked process does: its exit code, after Handle() under the limits
  // given. `exit_signal` is not looked at.
  int Serve(Stream& stream, const ConnectionInfo& info,
            const HandlerProcess& process);
  // Starts a process of its own for the connection: a fork that calls Serve(),
  // leads a process group and dies with its parent.
  virtual absl::StatusOr<Child> Start(Stream& stream,
                                      const ConnectionInfo& info,
                                      const HandlerProcess& process);
  // The path of the program that Start() runs instead, if it does.
  virtual std::optional<std::string_view> program() const {
    return std::nullopt;
  }
};

}  // namespace brood

#endif  // BROOD_SERVER_CONNECTION_HANDLER_H_
