// SPDX-License-Identifier: Apache-2.0
//
// A TcpInfo is what the kernel knew of one TCP connection at one moment.
//
//   std::string Describe(const Stream& stream) {
//     const absl::StatusOr<TcpInfo> info = TcpInfoOf(stream.fd());
//     if (!info.ok()) return std::string(info.status().message());
//     return absl::StrCat(
//         info->state, ", ", info->segments_retransmitted, " sent again, ",
//         info->bytes_received.value_or(0), " bytes received, the last ",
//         absl::FormatDuration(info->since_data_received), " ago");
//   }
//
// What it is not: alive; ask again for what is so now. Nor what the peer has
// read: acknowledged bytes lie in its kernel, and may lie there for ever.
//
// It can be had as long as the descriptor is open, of a connection that has
// ended or was reset too.
//
// Errors: every Status names the descriptor and carries its errno (see
// ErrnoOf). A unix socket has no such thing: Unimplemented (EOPNOTSUPP). One
// that was never connected is FailedPrecondition (ENOTCONN); before Linux 4.18
// it cannot be told from one that has ended, and its times mean nothing. A
// listener asked for a TcpInfo, or a connection for a ListenQueue, is
// InvalidArgument. What a kernel is too old for is nullopt.
//
// Threads, signals, fork: a value.
// Rests on: tcp(7) TCP_INFO; RFC 4898 for the counts of bytes.
#ifndef BROOD_NET_TCP_INFO_H_
#define BROOD_NET_TCP_INFO_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace brood {

// The states of RFC 9293, numbered as the kernel does.
enum class TcpState : uint8_t {
  kEstablished = 1,
  kSynSent,
  kSynReceived,
  kFinWait1,
  kFinWait2,
  kTimeWait,
  kClosed,
  kCloseWait,
  kLastAck,
  kListen,
  kClosing,
};

// "ESTABLISHED", as in the RFC; "unknown" for another number.
std::string_view NameOf(TcpState state);

template <typename Sink>
void AbslStringify(Sink& sink, TcpState state) {
  sink.Append(NameOf(state));
}

struct TcpInfo {
  // Of our end.
  TcpState state = TcpState::kClosed;

  // The round trip, smoothed, and how much it varies; nullopt before it was
  // measured.
  std::optional<absl::Duration> rtt = {};
  std::optional<absl::Duration> rtt_variation = {};

  // Since the last byte, or since the connection was made; zero before that. To
  // the millisecond at best.
  absl::Duration since_data_sent = absl::ZeroDuration();
  absl::Duration since_data_received = absl::ZeroDuration();

  // Sent and not acknowledged now; sent again, ever.
  uint32_t segments_unacknowledged = 0;
  uint32_t segments_retransmitted = 0;

  // Sent: every time that it was sent. Acknowledged and received: as sequence
  // numbers count, in which the first and the last segment of a peer (SYN, FIN)
  // may be a byte each. Linux 4.1 and, for what was sent, 4.19.
  std::optional<uint64_t> bytes_sent = {};
  std::optional<uint64_t> bytes_retransmitted = {};
  std::optional<uint64_t> bytes_acknowledged = {};
  std::optional<uint64_t> bytes_received = {};
  // Written, and still to be sent for the first time. Linux 4.6.
  std::optional<uint32_t> bytes_not_sent = {};
};

// Of the connection `fd`.
absl::StatusOr<TcpInfo> TcpInfoOf(int fd);

// How many connections wait to be accepted, and the limit. The kernel lets one
// more than that in.
struct ListenQueue {
  uint32_t depth = 0;
  uint32_t limit = 0;
};

// Of the TCP listener `fd`.
absl::StatusOr<ListenQueue> ListenQueueOf(int fd);

}  // namespace brood

#endif  // BROOD_NET_TCP_INFO_H_
