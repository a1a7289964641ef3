// SPDX-License-Identifier: Apache-2.0
//
// A relay carries over what each of two peers says to the other, until both
// have ended, and nothing that neither of them has said.
//
//   absl::Status Forward(Stream client, const Address& backend) {
//     absl::StatusOr<Stream> server =
//         Stream::Connect(backend, absl::Now() + absl::Seconds(5));
//     if (!server.ok()) return server.status();
//     const Relayed relayed =
//         Relay(client, *server, {.idle_limit = absl::Minutes(10)});
//     if (relayed.b_to_a == 0) return absl::DataLossError("no answer");
//     return relayed.status;
//   }
//
// What it is not: a proxy, which would listen, choose and log; nor a copy of
// the bytes, which the kernel moves from socket to socket through a pipe. Only
// where it refuses to, or has no pipe to spare, or stops before a byte of TCP
// that is urgent, do they come through memory of this process. The urgent byte
// itself (MSG_OOB) is not carried over, nor are the descriptors that come
// beside the bytes of a unix peer (see fd_passing.h): the kernel closes them.
//
// The end of one is said to the other once all before it has been; the other
// way goes on. A peer that reads no more has nothing said to it any more (to a
// unix peer at the other end a write then fails too), but what it says is
// carried over to its end. A reset, once what came before it has been taken,
// becomes a reset: the other peer never gets an end which nobody said.
//
// Ownership: both Streams are borrowed. Where each peer has said its end, they
// are open, though one may have read no more. Otherwise both have been Reset,
// which closes them: bytes may be lost that only the relay had.
//
// Errors: the message names call and peer, and ErrnoOf tells: a peer that was
// cut is what Stream says of it (ECONNRESET, ETIMEDOUT, ...); one that read no
// more is EPIPE, or ENOTCONN if it was only its end that the other could not
// say to it any more. Deadline and idle limit are DeadlineExceeded and have no
// errno. No descriptor to spare is no error.
//
// Threads: safe for different Streams; nobody else may use these two meanwhile.
// While it lasts, both are non-blocking, for all who share them: splice(2) has
// no flag for a single call. Signals: EINTR is retried. SIGPIPE is never
// raised, which splice(2) has no flag for either: it is blocked in this thread
// until the relay is over. Its disposition is never touched. Fork: no state.
// Rests on: splice(2), pipe(7), sigtimedwait(2).
#ifndef BROOD_NET_RELAY_H_
#define BROOD_NET_RELAY_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "brood/net/stream.h"

namespace brood {

struct RelayOptions {
  // When it is over, whatever is going on.
  absl::Time deadline = absl::InfiniteFuture();
  // How long no byte may move, either way.
  absl::Duration idle_limit = absl::InfiniteDuration();
};

// How a relay went: the bytes that one peer had said and that were written to
// the other, and how it ended.
struct Relayed {
  uint64_t a_to_b = 0;
  uint64_t b_to_a = 0;
  absl::Status status = absl::OkStatus();
};

// Blocks until both peers have ended, or one of them was cut.
[[nodiscard]] Relayed Relay(Stream& a, Stream& b,
                            const RelayOptions& options = RelayOptions());

}  // namespace brood

#endif  // BROOD_NET_RELAY_H_
