// SPDX-License-Identifier: Apache-2.0
//
// SocketOptions are what a connection is asked to be like. What is set on a
// listener holds for every client it takes in.
//
//   absl::StatusOr<Stream> ConnectPromptly(const Address& address) {
//     absl::StatusOr<Stream> stream = Stream::Connect(address);
//     if (!stream.ok()) return stream;
//     const absl::Status set =
//         SetSocketOptions(stream->fd(), {.no_delay = true}, address);
//     if (!set.ok()) return set;
//     return stream;
//   }
//
// What it is not: every option there is. What a listener alone can have is in
// listener.h.
//
// Errors: a value that the kernel would not take, or would round, and an option
// of TCP for a unix address, is InvalidArgument, which names it and says what
// is allowed. Else setsockopt's errno, with the option and the address.
//
// Threads, signals, fork: no state; the socket's is shared by all copies of it.
// Rests on: socket(7), tcp(7).
#ifndef BROOD_NET_SOCKET_OPTIONS_H_
#define BROOD_NET_SOCKET_OPTIONS_H_

#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "brood/net/address.h"

namespace brood {

// Asks a peer that has said nothing for `idle` whether it is still there, every
// `interval`; after `count` questions without an answer the connection fails
// with ETIMEDOUT. Whole seconds from 1 to 32,767; count from 1 to 127.
struct KeepAlive {
  absl::Duration idle = absl::Hours(2);
  absl::Duration interval = absl::Seconds(75);
  int count = 9;
};

struct SocketOptions {
  // TCP: send small pieces at once instead of collecting them while earlier
  // ones are on their way.
  bool no_delay = false;
  // TCP.
  std::optional<KeepAlive> keep_alive = std::nullopt;
  // TCP: how long what was sent may go unacknowledged before the connection
  // fails with ETIMEDOUT: from 1 ms to 24 days. The kernel's own choice is
  // about a quarter of an hour.
  std::optional<absl::Duration> user_timeout = std::nullopt;
  // Bytes that may wait to be sent, or to be read. The kernel takes twice the
  // number, for its own records, and no more than net.core.wmem_max and
  // rmem_max. Set here they hold from the handshake on.
  std::optional<int> send_buffer = std::nullopt;
  std::optional<int> receive_buffer = std::nullopt;
};

// `address`, for messages, is where `fd` is bound or connected, or shall be.
absl::Status SetSocketOptions(int fd, const SocketOptions& options,
                              const Address& address);

}  // namespace brood

#endif  // BROOD_NET_SOCKET_OPTIONS_H_
