// SPDX-License-Identifier: Apache-2.0
//
// An ExecHandler gives each connection to a program: the client is its standard
// input and output.
//
//   absl::Status ServeCat(const Address& address) {
//     absl::StatusOr<Listener> listener = Listener::Open(address, {});
//     if (!listener.ok()) return listener.status();
//     absl::StatusOr<std::unique_ptr<ExecHandler>> cat =
//         ExecHandler::Create({"cat"}, {});
//     if (!cat.ok()) return cat.status();  // There is none, and why.
//     auto model = ForkPerConnection::Create(*std::move(listener), **cat, {});
//     if (!model.ok()) return model.status();
//     return Supervise(**model, {});
//   }
//
// What it is not: a shell, nor a copy of the server: the program is spawned, so
// it costs the same however much memory and however many descriptors the server
// has.
//
// The program has its environment from program.h, no signal blocked or ignored,
// no descriptor of the server's but the connection and standard error, leads a
// process group, and is killed if the server dies.
//
// Errors: Create: a program that cannot be run, as program.h says. Start: as
// proc/spawn.h. Handle() is the program's exit code, or 128 and the signal that
// killed it, or 126 if it could not be started.
//
// Threads, fork: see connection_handler.h. Signals: a process that is sent
// SIGTERM while it is in Handle() passes it on to the program's group, a second
// later SIGKILL, and ends by SIGTERM when the program has ended, and with it
// whoever is left of that group. Who has left the group is the model's
// business, which marks the program (families.h) by limits. Rests on:
// UCSPI-1996.
#ifndef BROOD_SERVER_EXEC_HANDLER_H_
#define BROOD_SERVER_EXEC_HANDLER_H_

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/spawn_slots.h"
#include "brood/server/connection_handler.h"
#include "brood/server/program.h"

namespace brood {

class ExecHandler : public ConnectionHandler {
 public:
  struct Options {
    // The connection is standard error as well; otherwise that is the server's.
    bool stderr_to_socket = false;
    // Variables of the server's environment that the program has too, commas
    // between them.
    std::string keep_env = {};
  };

  // `argv` has the program's name first.
  static absl::StatusOr<std::unique_ptr<ExecHandler>> Create(
      std::vector<std::string> argv, const Options& options);

  std::string_view name() const override { return argv_.front(); }
  std::optional<std::string_view> program() const override { return path_; }
  absl::StatusOr<Child> Start(Stream& stream, const ConnectionInfo& info,
                              const HandlerProcess& process) override;
  // Blocks until the program has ended.
  int Handle(Stream& stream, const ConnectionInfo& info) override;

 private:
  ExecHandler(std::vector<std::string> argv, std::string path,
              ProgramEnvironment environment, SpawnSlots slots,
              bool stderr_to_socket)
      : argv_(std::move(argv)),
        path_(std::move(path)),
        environment_(std::move(environment)),
        slots_(std::move(slots)),
        stderr_to_socket_(stderr_to_socket) {}

  const std::vector<std::string> argv_;
  const std::string path_;
  const ProgramEnvironment environment_;
  const SpawnSlots slots_;
  const bool stderr_to_socket_;
};

}  // namespace brood

#endif  // BROOD_SERVER_EXEC_HANDLER_H_
