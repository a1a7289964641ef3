// SPDX-License-Identifier: Apache-2.0
//
// ForkPerConnection gives each client a process of its own.
//
//   absl::Status ServeEcho(const Address& address) {
//     absl::StatusOr<Listener> listener = Listener::Open(address, {});
//     if (!listener.ok()) return listener.status();
//     EchoHandler echo;
//     absl::StatusOr<std::unique_ptr<ForkPerConnection>> model =
//         ForkPerConnection::Create(*std::move(listener), echo, {});
//     if (!model.ok()) return model.status();
//     return Supervise(**model, {});
//   }
//
// What it is not: fast for clients that come and go by the thousand, each of
// which costs a fork; what it buys is that a handler may block, leak or crash,
// and only its own client notices.
//
// The child holds its connection and nothing else of the server's: not the
// listener, not the other clients. It dies with the server, even when that dies
// by SIGKILL.
//
// A client that has been accepted is never dropped for want of a process: it
// waits, and the fork is tried again when a child has ended or after a tenth of
// a second. Until it has succeeded, the others wait in the kernel's queue.
//
// Ownership: owns the acceptor and the children; the handler is borrowed.
// Errors: see process_model.h. Threads: one. Signals: none.
// Fork: yes. Rests on: fork.h, reaper.h, listener.h.
#ifndef BROOD_SERVER_FORK_PER_CONNECTION_H_
#define BROOD_SERVER_FORK_PER_CONNECTION_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/proc/reaper.h"
#include "brood/server/acceptor.h"
#include "brood/server/connection_handler.h"
#include "brood/server/connection_log.h"
#include "brood/server/poll_loop.h"
#include "brood/server/process_model.h"

namespace brood {

class ForkPerConnection : public ProcessModel {
 public:
  struct Options {
    // The name of the model, for logs.
    std::string_view name = "fork";
    // How many children may live at once; further clients wait in the kernel's
    // queue. At least 1. Default: as many as there are clients.
    size_t max_children = std::numeric_limits<size_t>::max();
  };

  static absl::StatusOr<std::unique_ptr<ForkPerConnection>> Create(
      Acceptor acceptor, ConnectionHandler& handler, const Options& options);

  std::string_view name() const override { return options_.name; }
  std::string_view service() const override { return handler_.name(); }
  const std::vector<Address>& addresses() const override {
    return acceptor_.addresses();
  }
  void OnConnectionEnd(
      absl::AnyInvocable<void(const ConnectionRecord&)> observer) override;
  void OnTrouble(
      absl::AnyInvocable<void(const absl::Status&)> observer) override;
  void OnEvent(absl::AnyInvocable<void(const LogEvent&)> observer) override;
  absl::Status Start(PollLoop& loop) override;
  void Drain(absl::AnyInvocable<void()> done) override;
  size_t active() const override {
    return live_ + (waiting_.has_value() ? 1 : 0);
  }
  void SignalHandlers(int signo, EndCause cause) override;
  size_t ChangeCapacity(int by) override;
  std::vector<LogField> State() const override;

 private:
  // One connection that has a process. The reaper's tag is its place among the
  // others.
  struct Connection {
    Address peer;
    absl::Duration begin;  // Monotonic.
  };
  // A client that has been accepted, and waits for a process.
  struct Waiting {
    Accepted client;
    Address local;
  };

  ForkPerConnection(Acceptor acceptor, ConnectionHandler& handler,
                    const Options& options, Reaper reaper);

  bool HasRoom() const { return live_ < max_children_; }
  // Gives the client a process, or lets it wait for one. Says whether another
  // is wanted.
  bool Take(Accepted client, const Address& local);
  absl::Status StartOne(Accepted& client, const Address& local);
  // Drains the reaper.
  absl::Status ReportEnds();
  // Gives the client that waits a process, if one is to be had now.
  void TryAgain();
  void TryAgainSoon();
  void Tell(const absl::Status& status);
  void CallDone();

  Acceptor acceptor_;
  ConnectionHandler& handler_;
  const Options options_;
  Reaper reaper_;
  absl::AnyInvocable<void(const ConnectionRecord&)> observer_;
  absl::AnyInvocable<void(const absl::Status&)> trouble_observer_;
  absl::AnyInvocable<void()> done_;
  bool in_trouble_ = false;
  PollLoop* loop_ = nullptr;
  std::optional<Waiting> waiting_;
  bool trying_soon_ = false;
  // A place is used again by the next connection: after a fork, each page that
  // the parent writes to is copied, and those who come and go write to one.
  std::vector<Connection> connections_;
  std::vector<uint64_t> free_;  // Places in connections_.
  size_t live_ = 0;
  size_t max_children_;
};

}  // namespace brood

#endif  // BROOD_SERVER_FORK_PER_CONNECTION_H_
