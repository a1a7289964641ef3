// SPDX-License-Identifier: Apache-2.0
//
// Supervise runs a process model until a signal asks it to stop, and stops it
// with grace. A server of one's own is this much:
//
//   int RunEchoServer() {
//     EchoHandler handler;
//     absl::StatusOr<Listener> listener =
//         Listener::Open(*Address::Parse("127.0.0.1:0"), {});
//     if (!listener.ok()) return 1;
//     auto model =
//         ForkPerConnection::Create(*std::move(listener), handler, {});
//     return model.ok() && Supervise(**model, {}).ok() ? 0 : 1;
//   }
//
// What it is not: a daemon. It stays in the foreground, writes to descriptors
// that it is given, and leaves pid files and restarts to those whose business
// they are.
//
// The first SIGTERM or SIGINT drains: who has connected is served, who comes
// later is refused, until nobody is left or the time is up. When it is, what is
// left receives SIGTERM and, two seconds later, SIGKILL. A second SIGTERM or
// SIGINT sends SIGKILL at once. Each of these is an orderly end.
//
// One line says that clients may come:
//   listening on 127.0.0.1:7007 (model fork, service echo)
// and one line each how a connection ended:
//   pid 4242 peer 127.0.0.1:50344 exited 0 after 1.25ms
//
// Errors: what the loop or the model cannot recover from. A line that cannot be
// written at once is lost, and counted in the next one that can.
//
// Threads: call it with one. Signals: while it runs, SIGTERM, SIGINT and
// SIGPIPE are blocked, in this process only; they and SIGCHLD are not ignored,
// whatever the program was born with. A request to stop that comes after the
// return meets the caller's mask, so a program that wants a sure exit code
// blocks these signals before the call and leaves by _exit(2). Fork: in the
// model's hands. Rests on: signalfd(2).
#ifndef BROOD_SERVER_SUPERVISOR_H_
#define BROOD_SERVER_SUPERVISOR_H_

#include <unistd.h>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "brood/server/process_model.h"

namespace brood {

struct SuperviseOptions {
  // How long those inside may take to finish once the server is asked to stop.
  absl::Duration drain_timeout = absl::Seconds(30);
  // Where the line goes that says the server is ready; borrowed.
  int ready_fd = STDOUT_FILENO;
  // Where everything else goes; borrowed.
  int log_fd = STDERR_FILENO;
};

// Blocks until the model has been stopped.
absl::Status Supervise(ProcessModel& model, const SuperviseOptions& options);

}  // namespace brood

#endif  // BROOD_SERVER_SUPERVISOR_H_
