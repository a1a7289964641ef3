// SPDX-License-Identifier: Apache-2.0
//
// A Listener is the place where clients come in, for as long as it lives.
//
//   absl::Status GreetOne(Listener& listener) {
//     pollfd ready = {.fd = listener.fd(), .events = POLLIN, .revents = 0};
//     if (poll(&ready, 1, -1) == -1) return ErrnoStatus(errno, "poll");
//     absl::StatusOr<std::optional<Accepted>> next = listener.Accept();
//     if (!next.ok()) return next.status();
//     if (!next->has_value()) return absl::OkStatus();  // It has left already.
//     return (*next)->stream.WriteAll("welcome\n");
//   }
//
// What it is not: a loop, a backlog of its own, or a limit on who may come in.
//
// Readiness: fd() is readable when Accept would yield a client or an error.
//
// Ownership: the Listener owns its descriptor, and in the file system the path
// it bound. The destructor removes that path if it is still the one that was
// bound (same device and inode) and the process still the one that bound it, so
// that neither a forked copy nor a successor's socket comes to harm. A relative
// path is found again only from the same working directory.
//
// A path that exists is replaced only if it is a socket on which nobody answers
// (connect is refused); the asking looks to a living server like a client that
// leaves at once. While it decides, Open holds flock(2) on the directory, where
// it can, and waits up to a second for whoever else holds it: of two servers
// that find one stale socket, one becomes its successor and the other learns of
// it.
//
// Errors: every Status names the call and the address and carries its errno
// (see ErrnoOf): in use is FailedPrecondition (EADDRINUSE), not permitted is
// PermissionDenied (EACCES), not of this machine is FailedPrecondition
// (EADDRNOTAVAIL). Accept says ResourceExhausted (EMFILE, ENFILE, ENOBUFS,
// ENOMEM) when a client waits, or might, and cannot be let in: the client stays
// in the backlog and fd() stays readable, so pause before asking again.
//
// Threads: one at a time. Signals: EINTR is retried. Fork: a copy shares the
// backlog, and clients are served by whoever accepts first; the place stays
// open until the last copy is closed, so a child that does not accept should
// Close. Rests on: accept4(2), "Error handling"; listen(2), ip(7), ipv6(7),
// unix(7).
#ifndef BROOD_NET_LISTENER_H_
#define BROOD_NET_LISTENER_H_

#include <sys/types.h>

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brood/net/address.h"
#include "brood/net/stream.h"
#include "brood/proc/unique_fd.h"

namespace brood {

// A client that has come in. Its descriptor is close-on-exec, and blocking (see
// stream.h).
struct Accepted {
  Stream stream;
  Address peer;
};

class Listener {
 public:
  struct Options {
    // How many clients may wait. The kernel's own limit is net.core.somaxconn.
    int backlog = 4096;
    // TCP: bind even while connections of a former listener linger in
    // TIME_WAIT. Never takes a port from a living listener.
    bool reuse_address = true;
  };

  // Binds `address` and listens. Port 0 lets the kernel choose one. IPv6 is
  // IPv6 only, so [::] and 0.0.0.0 may have one port each; Everywhere() is one
  // socket for both.
  static absl::StatusOr<Listener> Open(const Address& address,
                                       const Options& options);
  static absl::StatusOr<Listener> Open(const Address& address);

  Listener(Listener&& other) noexcept;
  Listener& operator=(Listener&& other) noexcept;
  ~Listener();

  // The descriptor, borrowed and non-blocking; -1 once closed.
  int fd() const { return socket_.get(); }
  // Where clients come in; the port is the real one.
  const Address& address() const { return address_; }

  // The next client; nullopt if nobody waits. Clients that gave up meanwhile
  // are passed over.
  absl::StatusOr<std::optional<Accepted>> Accept();

  // Removes the path, if it is ours to remove, and closes the descriptor, now.
  // Reports the first failure.
  absl::Status Close();

 private:
  // What bind(2) made in the file system, and by whom.
  struct BoundPath {
    std::string path;
    dev_t device;
    ino_t inode;
    pid_t owner;
  };

  Listener(UniqueFd socket, const Address& address);
  absl::Status RemovePath();

  UniqueFd socket_;
  Address address_;
  std::optional<BoundPath> bound_path_;
};

}  // namespace brood

#endif  // BROOD_NET_LISTENER_H_
