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
// bound and the process still the one that bound it. A path that exists is
// replaced only if it is a socket on which nobody answers. See bound_path.h.
//
// A Listener can be left without losing a client. To close it resets those whom
// the kernel has taken in and Accept has not: they believe to be connected, and
// most have sent something. Drain() shuts the door first, and Drained() says
// when nobody is left between it and Accept:
//
//   absl::Status Leave(Listener& listener, absl::Time deadline,
//                      absl::FunctionRef<void(Accepted)> serve) {
//     if (absl::Status s = listener.Drain(); !s.ok()) return s;
//     for (;;) {
//       absl::StatusOr<std::optional<Accepted>> client = listener.Accept();
//       if (!client.ok()) return client.status();
//       if (client->has_value()) {
//         serve(**std::move(client));
//         continue;
//       }
//       const absl::StatusOr<bool> drained = listener.Drained();
//       if (!drained.ok()) return drained.status();
//       if (*drained || absl::Now() >= deadline) return listener.Close();
//       pollfd ready = {.fd = listener.fd(), .events = POLLIN, .revents = 0};
//       (void)poll(&ready, 1, 10);  // Somebody is still on his way.
//     }
//   }
//
// The deadline is for strangers who knock and never come in: the kernel waits
// for one of them about a minute. Three seconds do for all but the unluckiest.
// Of a flood of them the kernel remembers nobody (SYN cookies): who comes in by
// one just then is refused.
//
// Errors: every Status names the call and the address and carries its errno
// (see ErrnoOf): in use is FailedPrecondition (EADDRINUSE), not permitted is
// PermissionDenied (EACCES), not of this machine is EADDRNOTAVAIL; all of them
// are in docs/errors.md. An option that does not go with the address, or out of
// its range, is InvalidArgument and named. accept_error.h says what each errno
// of accept4(2) means; of them Accept passes over those that are about one
// client.
//
// Threads: one at a time. Signals: EINTR is retried. Fork: a copy shares the
// backlog, and clients are served by whoever accepts first; the place stays
// open until the last copy is closed, so a child that does not accept should
// Close. Drain() shuts the door for all copies.
// Rests on: accept4(2), "Error handling"; listen(2), socket(7), ip(7), ipv6(7),
// tcp(7), unix(7); for Drain() see listener.cc.
#ifndef BROOD_NET_LISTENER_H_
#define BROOD_NET_LISTENER_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/bound_path.h"
#include "brood/net/socket_options.h"
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
    // TCP: share the address with other listeners of the same user that ask for
    // it too; the kernel deals the clients out (SO_REUSEPORT).
    bool reuse_port = false;
    // TCP: bind even if no interface has the address, yet (IP_FREEBIND).
    bool free_bind = false;
    // TCP: only clients that come by this network interface.
    std::string device = {};
    // TCP: a client comes in when it has sent something, or after about this
    // long, in whole seconds; zero for as soon as it is connected.
    absl::Duration defer_accept = absl::ZeroDuration();
    // TCP: how many clients at once may send data with their first packet
    // (RFC 7413), if net.ipv4.tcp_fastopen permits; 0 for none.
    int fast_open = 0;
    // What holds for each client.
    SocketOptions socket = {};
    // A unix path: who may connect, whatever the umask is.
    BoundPath::Access access = {};
    // How long clients are left waiting while there is no descriptor for one
    // more; after that AcceptBatch turns them away, so that they need not wait
    // for what may never come.
    absl::Duration shed_after = absl::Seconds(1);
  };

  // Binds `address` and listens. Port 0 lets the kernel choose one. IPv6 is
  // IPv6 only, so [::] and 0.0.0.0 may have one port each; Everywhere() is one
  // socket for both, or for IPv4 alone where the kernel has no IPv6.
  static absl::StatusOr<Listener> Open(const Address& address,
                                       const Options& options);
  static absl::StatusOr<Listener> Open(const Address& address);
  // Takes over a stream socket that listens already, close-on-exec from here on
  // and non-blocking for all who share it. InvalidArgument if it is anything
  // else. Its path, if it has one, is not ours.
  static absl::StatusOr<Listener> Adopt(
      UniqueFd socket, absl::Duration shed_after = absl::Seconds(1));

  Listener(Listener&&) = default;
  Listener& operator=(Listener&& other) noexcept;

  // The descriptor, borrowed and non-blocking; -1 once closed.
  int fd() const { return socket_.get(); }
  // Where clients come in; the port is the real one.
  const Address& address() const { return address_; }

  // The next client; nullopt if nobody waits. Clients that gave up meanwhile
  // are passed over. A client that comes by IPv4 has an IPv4 address, whatever
  // the listener has. ResourceExhausted (EMFILE, ENFILE, ENOBUFS, ENOMEM) when
  // a client waits, or might, and cannot be let in: it stays in the backlog,
  // and fd() stays readable, so pause before asking again.
  absl::StatusOr<std::optional<Accepted>> Accept();

  // What one wake-up came to.
  struct Batch {
    // Why nobody more can be let in; OK if nothing is in the way.
    absl::Status trouble = absl::OkStatus();
    // How long to leave fd() unwatched, if trouble will pass: longer each time,
    // up to a second. nullopt if there is none, or it will not pass.
    std::optional<absl::Duration> pause = std::nullopt;
    // How many were reset because descriptors have run out for too long.
    int turned_away = 0;
  };
  // Gives `take` up to `max` clients, and no more once it says false. For loops
  // that are told when fd() is readable: bounded, so that others get their
  // turn, and with the right answer to each errno, so that a shortage makes it
  // neither spin nor starve.
  Batch AcceptBatch(int max, absl::FunctionRef<bool(Accepted&&)> take);

  // For a process that accepts once and has few descriptors: AcceptBatch keeps
  // none in reserve, and in a shortage lets clients wait for as long as it
  // lasts.
  void KeepNoReserve();

  // From now on nobody new can connect: at a socket that Open() made connecting
  // is refused, by the kernel and at once. With reuse_port there is no answer
  // instead, and whoever asks again once this one is closed, as all do after a
  // second, comes to those who share the port. Who shares an adopted socket
  // goes on; Accept yields what its backlog holds now, and nobody after that.
  absl::Status Drain();
  // Whether Accept has found nobody since Drain(), and nobody is on his way to
  // be accepted, neither here nor, with reuse_port, to those who share the
  // port: then Close loses nobody. On an error the kernel does not tell who is
  // on his way; a second is enough for most. Ask it instead of watching fd():
  // that of a unix listener is readable for ever once nobody new can connect.
  absl::StatusOr<bool> Drained() const;

  // Removes the path, if it is ours to remove, and closes the descriptor, now.
  // Reports the first failure.
  absl::Status Close();

 private:
  Listener(UniqueFd socket, const Address& address, absl::Duration shed_after)
      : socket_(std::move(socket)),
        address_(address),
        shed_after_(shed_after) {}

  Batch OnTrouble(const absl::Status& trouble);
  int TurnAway();
  void Reserve();
  void DropReserve();

  UniqueFd socket_;
  Address address_;
  std::optional<BoundPath> bound_path_;  // Goes before the socket does.
  bool adopted_ = false;
  bool shares_port_ = false;
  bool draining_ = false;
  bool nobody_waited_ = false;  // When Accept was last called since Drain().
  // Adopted, and draining: how many more to accept.
  std::optional<int> left_;
  absl::Duration shed_after_;
  // So that there is one more for a moment when there are no more.
  bool keeps_reserve_ = true;
  UniqueFd reserve_;
  pid_t reserve_owner_ = -1;
  absl::Duration trouble_since_;  // Monotonic. Of use while pause_ is not zero.
  absl::Duration pause_;
};

}  // namespace brood

#endif  // BROOD_NET_LISTENER_H_
