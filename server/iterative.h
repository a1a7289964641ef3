// SPDX-License-Identifier: Apache-2.0
//
// The iterative model serves one client at a time; the others wait in the
// kernel's queue for their turn.
//
//   absl::Status ServeOneByOne(Listener listener, ConnectionHandler& handler) {
//     absl::StatusOr<std::unique_ptr<ProcessModel>> model =
//         MakeIterative(std::move(listener), handler);
//     if (!model.ok()) return model.status();
//     return Supervise(**model, {});
//   }
//
// What it is not: a server without children. The textbook's iterative server
// calls the handler in its own process, and then a handler that blocks also
// blocks SIGTERM, and one that crashes takes the server with it. Here the one
// client still has a process of its own, and the server stays free to answer
// signals. None of them makes it two at a time: its capacity is 1.
//
// Ownership, errors, threads, signals, fork: as fork_per_connection.h.
#ifndef BROOD_SERVER_ITERATIVE_H_
#define BROOD_SERVER_ITERATIVE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "brood/server/acceptor.h"
#include "brood/server/connection_handler.h"
#include "brood/server/fork_per_connection.h"
#include "brood/server/process_model.h"

namespace brood {

// Of `options`, the name, how many come in at once and where the others wait
// are the model's own.
absl::StatusOr<std::unique_ptr<ProcessModel>> MakeIterative(
    Acceptor acceptor, ConnectionHandler& handler,
    ForkPerConnection::Options options = {});

}  // namespace brood

#endif  // BROOD_SERVER_ITERATIVE_H_
