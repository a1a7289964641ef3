// SPDX-License-Identifier: Apache-2.0
#include "brood/net/tcp_info.h"

// Not <netinet/tcp.h>, whose tcp_info ends where that of Linux 2.6 did. The two
// exclude each other.
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/proc/posix.h"

namespace brood {
namespace {

// What the kernel wrote, and how much of it: an older one knows a shorter
// struct, a newer one a longer.
struct Answer {
  template <typename T>
  std::optional<T> Optional(const T& field) const {
    const auto* const begin = reinterpret_cast<const char*>(&info);
    const auto* const end = reinterpret_cast<const char*>(&field + 1);
    if (static_cast<size_t>(end - begin) > length) return std::nullopt;
    return field;
  }

  tcp_info info = {};
  socklen_t length = sizeof(info);
};

std::string What(int fd) { return absl::StrCat("TCP_INFO of descriptor ", fd); }

absl::StatusOr<Answer> Ask(int fd) {
  Answer answer;
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &answer.info, &answer.length) ==
      -1) {
    return ErrnoStatus(errno, What(fd));
  }
  return answer;
}

bool IsListener(const Answer& answer) {
  return answer.info.tcpi_state == static_cast<uint8_t>(TcpState::kListen);
}

}  // namespace

std::string_view NameOf(TcpState state) {
  switch (state) {
    case TcpState::kEstablished:
      return "ESTABLISHED";
    case TcpState::kSynSent:
      return "SYN-SENT";
    case TcpState::kSynReceived:
      return "SYN-RECEIVED";
    case TcpState::kFinWait1:
      return "FIN-WAIT-1";
    case TcpState::kFinWait2:
      return "FIN-WAIT-2";
    case TcpState::kTimeWait:
      return "TIME-WAIT";
    case TcpState::kClosed:
      return "CLOSED";
    case TcpState::kCloseWait:
      return "CLOSE-WAIT";
    case TcpState::kLastAck:
      return "LAST-ACK";
    case TcpState::kListen:
      return "LISTEN";
    case TcpState::kClosing:
      return "CLOSING";
  }
  return "unknown";
}

absl::StatusOr<TcpInfo> TcpInfoOf(int fd) {
  const absl::StatusOr<Answer> answer = Ask(fd);
  if (!answer.ok()) return answer.status();
  // Its fields are those of the queue, and others that mean nothing.
  if (IsListener(*answer)) {
    return absl::InvalidArgumentError(
        absl::StrCat(What(fd), ": expected a connection and not a listener"));
  }
  const tcp_info& info = answer->info;
  // Counts what was acknowledged, and so the SYN of either side first (Linux
  // 4.18). A connection that has ended keeps it.
  if (info.tcpi_state == static_cast<uint8_t>(TcpState::kClosed) &&
      answer->Optional(info.tcpi_delivered) == 0u) {
    return ErrnoStatus(ENOTCONN, What(fd));
  }
  TcpInfo result = {
      .state = static_cast<TcpState>(info.tcpi_state),
      .since_data_sent = absl::Milliseconds(info.tcpi_last_data_sent),
      .since_data_received = absl::Milliseconds(info.tcpi_last_data_recv),
      .segments_unacknowledged = info.tcpi_unacked,
      .segments_retransmitted = info.tcpi_total_retrans,
      .bytes_sent = answer->Optional(info.tcpi_bytes_sent),
      .bytes_retransmitted = answer->Optional(info.tcpi_bytes_retrans),
      .bytes_acknowledged = answer->Optional(info.tcpi_bytes_acked),
      .bytes_received = answer->Optional(info.tcpi_bytes_received),
      .bytes_not_sent = answer->Optional(info.tcpi_notsent_bytes)};
  // The kernel counts from the start of its clock.
  if (result.state == TcpState::kSynSent) {
    result.since_data_sent = absl::ZeroDuration();
    result.since_data_received = absl::ZeroDuration();
  }
  // Without a sample the variation is a guess to begin with.
  if (info.tcpi_rtt != 0) {
    result.rtt = absl::Microseconds(info.tcpi_rtt);
    result.rtt_variation = absl::Microseconds(info.tcpi_rttvar);
  }
  return result;
}

absl::StatusOr<ListenQueue> ListenQueueOf(int fd) {
  const absl::StatusOr<Answer> answer = Ask(fd);
  if (!answer.ok()) return answer.status();
  if (!IsListener(*answer)) {
    return absl::InvalidArgumentError(
        absl::StrCat(What(fd), ": expected a listener"));
  }
  return ListenQueue{.depth = answer->info.tcpi_unacked,
                     .limit = answer->info.tcpi_sacked};
}

}  // namespace brood
