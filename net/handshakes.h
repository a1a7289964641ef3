// SPDX-License-Identifier: Apache-2.0
//
// Handshakes are clients on their way in: the kernel has answered them and
// waits for their last word, which they themselves take for a connection.
//
//   absl::StatusOr<bool> NobodyIsOnTheWay(const Address& local) {
//     const absl::StatusOr<int> handshakes = HandshakesUnderWay(local);
//     if (!handshakes.ok()) return handshakes.status();
//     return *handshakes == 0;
//   }
//
// What it is not: who waits to be accepted; those have arrived.
//
// Errors: what sock_diag(7) is not able or not allowed to tell, with its errno.
// Threads: safe. Signals: EINTR is retried. Fork: no state.
// Rests on: sock_diag(7); SYN_RECV in tcp(7), counted by the kernel since 4.4.
#ifndef BROOD_NET_HANDSHAKES_H_
#define BROOD_NET_HANDSHAKES_H_

#include "absl/status/statusor.h"
#include "brood/net/address.h"

namespace brood {

// Of the TCP clients of `local`, an address that is listened on. Walks the
// kernel's table of connections: a millisecond or so for ten thousand.
absl::StatusOr<int> HandshakesUnderWay(const Address& local);

}  // namespace brood

#endif  // BROOD_NET_HANDSHAKES_H_
