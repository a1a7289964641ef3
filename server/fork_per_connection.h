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
// a second. When descriptors run out, the clients wait in the kernel's queue in
// the same way.
//
// Ownership: owns the listener and the children; the handler is borrowed.
// Errors: see process_model.h. Threads: one. Signals: none.
// Fork: yes. Rests on: fork.h, reaper.h, listener.h.
#ifndef BROOD_SERVER_FORK_PER_CONNECTION_H_
#define BROOD_SERVER_FORK_PER_CONNECTION_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/proc/reaper.h"
#include "brood/server/connection_handler.h"
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
      Listener listener, ConnectionHandler& handler, const Options& options);

  std::string_view name() const override { return options_.name; }
  std::string_view service() const override { return handler_.name(); }
  const Address& address() const override { return listener_.address(); }
  void OnConnectionEnd(
      absl::AnyInvocable<void(const ConnectionEnd&)> observer) override;
  void OnTrouble(
      absl::AnyInvocable<void(const absl::Status&)> observer) override;
  absl::Status Start(PollLoop& loop) override;
  void StopAccepting() override;
  size_t active() const override { return waiting_.size() + live_.size(); }
  void SignalHandlers(int signo) override;

 private:
  struct Live {
    Address peer;
    absl::Duration begin;  // Monotonic.
  };

  ForkPerConnection(Listener listener, ConnectionHandler& handler,
                    const Options& options, Reaper reaper);

  bool HasRoom() const { return live_.size() < options_.max_children; }
  // Drains: the listener's, then the reaper's.
  absl::Status AcceptClients();
  absl::Status ReportEnds();
  // Forks for the clients that wait, while there is room.
  void StartWaiting();
  absl::Status StartOne(Accepted& client);
  // Says when trouble begins, and when nobody has to wait any more.
  void Tell(const absl::Status& status);
  // Watches the listener if, and only if, a client could be taken in now.
  void UpdateWatch();
  // Takes in nobody and forks nobody until a child has ended or a little while
  // has passed: what is short comes back with either.
  void Pause(const absl::Status& why);
  void Resume();

  Listener listener_;
  ConnectionHandler& handler_;
  const Options options_;
  Reaper reaper_;
  absl::AnyInvocable<void(const ConnectionEnd&)> observer_;
  absl::AnyInvocable<void(const absl::Status&)> trouble_observer_;
  bool in_trouble_ = false;
  PollLoop* loop_ = nullptr;
  bool accepting_ = false;
  bool watching_ = false;  // The listener.
  bool paused_ = false;
  uint64_t pause_count_ = 0;
  uint64_t next_tag_ = 0;
  std::deque<Accepted> waiting_;  // Accepted, without a process yet.
  absl::flat_hash_map<uint64_t, Live> live_;  // By the reaper's tag.
};

}  // namespace brood

#endif  // BROOD_SERVER_FORK_PER_CONNECTION_H_
