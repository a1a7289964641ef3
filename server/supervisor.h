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
// SIGINT, or SIGQUIT, sends SIGKILL at once. Each of these is an orderly end.
// What else a signal asks for is in SupervisorSignals(). SIGHUP never ends the
// server, not even by the hang-up of its terminal. SIGWINCH and SIGUSR2 are
// left alone.
//
// One line says that clients may come, the same whatever the log's format is:
//   listening on 127.0.0.1:7007 (model fork, service echo)
// and one line each how a connection ended:
//   pid 4242 peer 127.0.0.1:50344 exited 0 after 1.25ms
// connection_log.h has the rest of it. A JSON log has the time in each line,
// and begins with the event "listening".
//
// A service manager hears READY, with where clients connect; RELOADING and
// READY around a SIGHUP; STOPPING when a stop begins; how many are inside, when
// that has changed, once a second at most; and WATCHDOG from a timer of the
// loop, so that a loop that is stuck is silent. What cannot be told without
// waiting is not told then; READY and the number are tried again.
//
// As PID 1, or where adopt_orphans asks for it, children that somebody else
// started and left behind are reaped, within a second of their end, a line for
// each. When the last client has left, SIGTERM is passed on to those that live,
// which have two seconds to end.
//
// Errors: what the loop or the model cannot recover from, and a descriptor for
// lines that cannot be written to. A line that cannot be written at once is
// lost, and counted in the next one that can, a second later at the latest if
// there is room. Without /proc orphans are not reaped, which is logged.
//
// Threads: call it with one. Signals: while it runs, SupervisedSignals() are
// blocked, in this process only. SIGTERM, SIGINT, SIGQUIT, SIGPIPE and SIGCHLD
// are not ignored, whatever the program was born with; a SIGHUP that is, as
// nohup(1) asks, stays so and is not read. A signal that comes after the return
// meets the caller's mask, so a program that wants a sure exit code blocks
// SupervisedSignals() before the call and leaves by _exit(2). Fork: in the
// model's hands. Rests on: signalfd(2), sd_notify(3), proc/orphans.h.
#ifndef BROOD_SERVER_SUPERVISOR_H_
#define BROOD_SERVER_SUPERVISOR_H_

#include <unistd.h>

#include <functional>
#include <optional>
#include <string_view>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/proc/unique_fd.h"
#include "brood/server/connection_log.h"
#include "brood/server/notify.h"
#include "brood/server/poll_loop.h"
#include "brood/server/process_model.h"
#include "brood/signal/signal_set.h"

namespace brood {

// What a signal asks the server for.
enum class SupervisorRequest {
  kStop,     // Drain; when that has begun, end now.
  kStopNow,  // End now.
  kReload,   // Read again what is read from files.
  kReport,   // Log how things stand.
  kMore,     // Capacity for one more,
  kFewer,    // or for one fewer.
};

struct SupervisorSignal {
  int signo;
  SupervisorRequest request;
  // For --help.
  std::string_view help;
};
absl::Span<const SupervisorSignal> SupervisorSignals();

// Those, and SIGPIPE, which asks for nothing: whoever reads the log may leave,
// and the server must not follow.
SignalSet SupervisedSignals();

struct SuperviseOptions {
  // Writes a line to the log, if there is one, until Supervise returns.
  using Log = std::function<void(const LogEvent& event)>;
  // What SIGUSR1 would log now; the first field is the phase, "serving" until a
  // stop begins. Not before the model has started, nor after Supervise returns.
  using State = std::function<LogEvent()>;

  // How long those inside may take to finish once the server is asked to stop.
  absl::Duration drain_timeout = absl::Seconds(30);

  // Where the line goes that says the server is ready; borrowed.
  int announce_fd = STDOUT_FILENO;
  // If valid, the same line goes there too, and then it is closed.
  UniqueFd ready_fd = {};
  // If not null, told how the server is doing; borrowed.
  const Notifier* notifier = nullptr;
  // How often it is told that the server is alive; see WatchdogInterval().
  std::optional<absl::Duration> watchdog = std::nullopt;

  // Where everything else goes; borrowed.
  int log_fd = STDERR_FILENO;
  // Nothing: there is no log, nor do records come to be.
  std::optional<LogFormat> log_format = LogFormat::kText;

  // Reads again what is read from files, for SIGHUP. If that fails, what was
  // read before stays.
  absl::AnyInvocable<absl::Status()> on_hangup = nullptr;
  // Called before the model starts: for what else the loop is to watch, such as
  // a RulesFile or a Control. What it fails with is what Supervise returns.
  absl::AnyInvocable<absl::Status(PollLoop& loop, Log log, State state)>
      prepare = nullptr;

  // Whether to reap children of this process that the model does not own; see
  // orphans.h for who else may have some.
  bool adopt_orphans = getpid() == 1;
};

// Blocks until the model has been stopped.
absl::Status Supervise(ProcessModel& model, SuperviseOptions options);

}  // namespace brood

#endif  // BROOD_SERVER_SUPERVISOR_H_
