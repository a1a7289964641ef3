// SPDX-License-Identifier: Apache-2.0
#include "brood/server/connection_handler.h"

#include <sys/socket.h>
#include <sys/types.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "brood/net/stream.h"
#include "brood/net/tcp_info.h"
#include "brood/proc/child.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"

namespace brood {

// An end that was received counts as a byte, for it has a sequence number; one
// that was sent counts among the acknowledged. Of a connection that is over for
// both (closed, as far as the descriptor tells) each side had one, or else it
// was reset: then nobody has acknowledged more than the bytes that were sent.
//
// What was sent, and not what is acknowledged by now: the last answer hardly
// ever is when its handler ends, for the client's kernel takes its time. Of
// what was sent again each byte counts once, and an end is none.
TcpTotals TcpTotals::Of(int fd) {
  const absl::StatusOr<TcpInfo> info = TcpInfoOf(fd);
  if (!info.ok()) return {};
  const uint64_t in = info->bytes_received.value_or(0);
  const uint64_t sent = info->bytes_sent.value_or(0);
  const uint64_t out =
      sent - std::min(sent, info->bytes_retransmitted.value_or(0));
  const TcpState state = info->state;
  const bool end_received =
      state == TcpState::kTimeWait || state == TcpState::kCloseWait ||
      state == TcpState::kLastAck || state == TcpState::kClosing ||
      (state == TcpState::kClosed &&
       info->bytes_acknowledged.value_or(0) > out);
  return {.known = true,
          .bytes_in = in - (end_received && in > 0 ? 1 : 0),
          .bytes_out = out,
          .retransmits = info->segments_retransmitted};
}

bool IsShortage(const absl::Status& status) {
  switch (ErrnoOf(status)) {
    case EAGAIN:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ETXTBSY:
      return true;
    default:
      return absl::IsResourceExhausted(status);
  }
}

bool WasGivenUp(const Stream& stream) {
  char byte;
  const ssize_t got = RetryOnEintr(
      [&] { return recv(stream.fd(), &byte, 1, MSG_PEEK | MSG_DONTWAIT); });
  return got == -1 && errno != EAGAIN;
}

int ConnectionHandler::Serve(Stream& stream, const ConnectionInfo& info,
                             const HandlerProcess& process) {
  // Each page of code that a child runs through is mapped anew.
  if (!process.limits.entries().empty() && !process.limits.Apply().ok()) {
    return kCannotBegin;
  }
  const int connection = stream.fd();
  const int code = Handle(stream, info);
  if (process.totals != nullptr) *process.totals = TcpTotals::Of(connection);
  return code;
}

absl::StatusOr<Child> ConnectionHandler::Start(Stream& stream,
                                               const ConnectionInfo& info,
                                               const HandlerProcess& process) {
  const int connection = stream.fd();
  return Fork({.exit_signal = process.exit_signal,
               .parent_death_signal = SIGKILL,
               .new_process_group = true,
               .keep_fds = absl::MakeConstSpan(&connection, 1)},
              [&] { return Serve(stream, info, process); });
}

}  // namespace brood
