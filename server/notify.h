// SPDX-License-Identifier: Apache-2.0
//
// A Notifier tells whoever started the server how it is doing: that it is
// ready, that it stops, that it is alive. It speaks systemd's protocol.
//
//   absl::Status SayReady() {
//     const absl::StatusOr<Notifier> manager =
//         Notifier::Create(NotifyVariables::FromEnvironment());
//     UnsetNotifyVariables();
//     if (!manager.ok()) return manager.status();
//     return manager->Ready("listening on 127.0.0.1:7007");
//   }
//
// What it is not: libsystemd, nor a need for systemd. Where NOTIFY_SOCKET is
// not set nobody wants to know, and every message is sent: to nobody, and OK.
//
// NOTIFY_SOCKET is a path that begins with a slash, or an @ and an abstract
// name. WATCHDOG_USEC is how many microseconds the server may be silent, and
// WATCHDOG_PID, if it is there, which process that is said of.
//
// TellReady() is the other way to say it, s6's: a line into a descriptor that
// is then closed. It needs no variable, only an agreement on the number.
//
// Ownership: the Notifier owns a datagram socket, connected when it is made, so
// it still works after chroot(2) and without the privileges of the start.
// TellReady owns what it is given; give it a duplicate of 0, 1 and 2, which a
// later open(2) should not find free.
//
// Errors: a variable that does not mean anything is InvalidArgument, names and
// quotes it and says what is allowed. A socket that is not there is NotFound
// (ENOENT) or Unavailable (ECONNREFUSED). A full one is Unavailable (EAGAIN),
// and the message is not sent: nothing here ever waits. All but the first are
// no reason to stop serving.
//
// Threads: FromEnvironment reads the environment and UnsetNotifyVariables
// changes it: do both while there is one thread. The rest is safe. Signals: no
// SIGPIPE. Fork: close-on-exec; a forked child may speak, but systemd believes
// only the main process unless told otherwise (NotifyAccess=).
// Rests on: sd_notify(3), sd_watchdog_enabled(3), unix(7).
#ifndef BROOD_SERVER_NOTIFY_H_
#define BROOD_SERVER_NOTIFY_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/proc/unique_fd.h"

namespace brood {

// The variables as text; nullopt is "not set", and not the same as "".
struct NotifyVariables {
  std::optional<std::string> notify_socket = std::nullopt;
  std::optional<std::string> watchdog_usec = std::nullopt;
  std::optional<std::string> watchdog_pid = std::nullopt;

  // What the environment of this process says. The only reader of it here.
  static NotifyVariables FromEnvironment();
};

// Removes the variables, so that no child speaks for the server.
void UnsetNotifyVariables();

// How often Watchdog() is to be sent by the process `self`: twice in the time
// it may be silent. Nothing if nobody asks this process for it. Looks at
// nothing but its arguments.
absl::StatusOr<std::optional<absl::Duration>> WatchdogInterval(
    const NotifyVariables& variables, pid_t self);

class Notifier {
 public:
  static absl::StatusOr<Notifier> Create(const NotifyVariables& variables);

  // Whether anybody wants to know.
  bool listened_to() const { return socket_.valid(); }

  // A status is one line for people, UTF-8; a control character in it becomes a
  // space. An empty one says nothing and leaves the former.
  absl::Status Ready(std::string_view status) const;
  absl::Status Stopping(std::string_view status) const;
  // Ready() is to follow.
  absl::Status Reloading(std::string_view status) const;
  absl::Status Status(std::string_view status) const;
  absl::Status Watchdog() const;
  // Another process is the server from now on.
  absl::Status MainPid(pid_t pid) const;

 private:
  Notifier(UniqueFd socket, const Address& address)
      : socket_(std::move(socket)), address_(address) {}

  absl::Status Send(std::string_view assignments,
                    std::string_view status) const;

  UniqueFd socket_;  // None if nobody listens.
  Address address_;
};

// Writes `line` and a newline to `fd` and closes it. Where there is no reader,
// or no room now, it is Unavailable, and `fd` is closed all the same.
absl::Status TellReady(UniqueFd fd, std::string_view line);

}  // namespace brood

#endif  // BROOD_SERVER_NOTIFY_H_
