// SPDX-License-Identifier: Apache-2.0
//
// An ActivatedSocket is a socket that was open before the program began, and
// was handed to it by whoever started it: socket activation.
//
//   absl::StatusOr<UniqueFd> HttpSocket() {
//     absl::StatusOr<std::vector<ActivatedSocket>> sockets =
//         AdoptActivatedSockets(ActivationVariables::FromEnvironment());
//     if (!sockets.ok()) return sockets.status();
//     for (ActivatedSocket& socket : *sockets) {
//       if (socket.name == "http" && socket.listening) {
//         return std::move(socket.fd);
//       }
//     }
//     return absl::NotFoundError("nobody has opened a socket named http");
//   }
//
// What it is not: a protocol. The starter leaves the sockets at descriptor 3
// and up, and three variables in the environment: LISTEN_FDS says how many,
// LISTEN_PID for which process, LISTEN_FDNAMES, which may be missing, their
// names, colons between them.
//
// It is for nobody, and not an error, if LISTEN_FDS or LISTEN_PID is missing or
// LISTEN_PID is another process: so it is in the children of a program that was
// started so, which inherit the variables.
//
// Ownership: all or nothing. On success the caller owns every socket, and each
// is close-on-exec; O_NONBLOCK is as it was, for it belongs to the starter too.
// On an error all descriptors are as they were, and nobody's. What has come
// through execve(2) cannot be close-on-exec; so a descriptor that is has been
// adopted before, or opened since, and is somebody's already:
// FailedPrecondition, and not a second owner.
//
// Errors: a variable that does not mean anything is InvalidArgument, which
// quotes it and says what was expected. So is a count that differs from the
// number of names, for to guess which socket has which name is worse than not
// to start. A descriptor that is closed or no socket is FailedPrecondition
// (EBADF, ENOTSOCK; see ErrnoOf) and says which, with its name.
//
// Threads: FromEnvironment reads the environment and UnsetActivationVariables
// changes it, and in Linux no lock guards that against other threads: do both
// while there is one. Signals: no. Fork: LISTEN_PID is not the child.
// Rests on: sd_listen_fds(3), systemd-socket-activate(1), fcntl(2).
#ifndef BROOD_NET_ACTIVATION_H_
#define BROOD_NET_ACTIVATION_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brood/proc/unique_fd.h"

namespace brood {

// The variables as text; nullopt is "not set", and not the same as "".
struct ActivationVariables {
  std::optional<std::string> listen_pid = std::nullopt;
  std::optional<std::string> listen_fds = std::nullopt;
  std::optional<std::string> listen_fdnames = std::nullopt;

  // What the environment of this process says. The only reader of it here.
  static ActivationVariables FromEnvironment();
};

// The first descriptor that is handed over.
inline constexpr int kFirstActivatedFd = 3;
// No more can be handed over.
inline constexpr int kMaxActivatedFds = 4096;
// The longest name.
inline constexpr int kMaxActivatedName = 255;
// The name of each where none is given, as sd_listen_fds(3) has it.
inline constexpr char kUnknownActivatedName[] = "unknown";

// What the variables say to the process `self`: the names of the descriptors
// from kFirstActivatedFd on, one for each. Looks at nothing but its arguments.
absl::StatusOr<std::vector<std::string>> ActivatedNames(
    const ActivationVariables& variables, pid_t self);

struct ActivatedSocket {
  UniqueFd fd;
  // What the starter calls it: printable ASCII without colons; may be empty,
  // and need not be the only one of this name.
  std::string name;
  // Whether clients come in here. Otherwise it is one of them already (as
  // inetd would have it), or a socket of another kind.
  bool listening = false;
};

// Takes over what `variables` say is for this process; nothing if nothing is.
absl::StatusOr<std::vector<ActivatedSocket>> AdoptActivatedSockets(
    const ActivationVariables& variables);

// Removes the variables, so that nobody further down looks at them. Nothing
// else here does: the environment belongs to the whole process.
void UnsetActivationVariables();

}  // namespace brood

#endif  // BROOD_NET_ACTIVATION_H_
