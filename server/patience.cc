// SPDX-License-Identifier: Apache-2.0
#include "brood/server/patience.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/socket_options.h"
#include "brood/net/tcp_info.h"
#include "brood/server/connection_log.h"
#include "brood/server/poll_loop.h"

namespace brood {
namespace {

// Of a connection that its client has closed the client's kernel keeps a record
// for tcp_fin_timeout, and answers a question after that by a reset. For one who
// only waits it answers that he is there. A network that is down is no answer:
// hence many questions, ten minutes of them, before it counts as one.
constexpr KeepAlive kAfterTheEnd = {
    .idle = absl::Seconds(5), .interval = absl::Seconds(5), .count = 120};

void AskItsKernel(int fd) {
  int asks = 0;
  socklen_t length = sizeof(asks);
  if (getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &asks, &length) == -1 ||
      asks != 0) {
    return;  // It does already, as often as whoever set it wants.
  }
  const absl::StatusOr<Address> address = LocalAddressOf(fd);
  // The end of a unix client is seen at once.
  if (!address.ok() || address->family() == AF_UNIX) return;
  (void)SetSocketOptions(fd, {.keep_alive = kAfterTheEnd}, *address);
}

}  // namespace

absl::Duration Patience::shortest() const {
  return std::min(
      {handler_timeout, idle_timeout,
       min_rate.has_value() ? min_rate->period : absl::InfiniteDuration()});
}

absl::Duration Patience::tick() const {
  return std::clamp(std::min(shortest(), kTermToKill) / 8,
                    absl::Milliseconds(5), absl::Milliseconds(250));
}

std::optional<Ended> Progress::LimitOf(const Patience& patience, int fd,
                                       absl::Duration now) {
  if (now < look_at_) return std::nullopt;
  if (now - begin_ >= patience.handler_timeout) {
    return Ended{.cause = EndCause::kHandlerTimeout,
                 .limit = patience.handler_timeout};
  }
  // Its descriptor may be on its way.
  if (fd == -1 && patience.asks_tcp()) return std::nullopt;
  look_at_ = begin_ + patience.handler_timeout;
  if (!patience.asks_tcp()) return std::nullopt;
  const absl::StatusOr<TcpInfo> info = TcpInfoOf(fd);
  if (!info.ok()) return std::nullopt;  // Of unix there is none.
  // What it waited before its turn is not its silence.
  const absl::Duration silent = std::min(
      {info->since_data_received, info->since_data_sent, now - begin_});
  if (silent >= patience.idle_timeout) {
    return Ended{.cause = EndCause::kIdle, .limit = patience.idle_timeout};
  }
  look_at_ = std::min(look_at_, now + (patience.idle_timeout - silent));
  if (patience.min_rate.has_value() &&
      now - period_begin_ >= patience.min_rate->period) {
    const uint64_t bytes =
        info->bytes_received.value_or(0) + info->bytes_acknowledged.value_or(0);
    const bool too_slow = bytes - period_bytes_ < patience.min_rate->bytes;
    period_begin_ = now;
    period_bytes_ = bytes;
    if (too_slow) {
      return Ended{.cause = EndCause::kTooSlow,
                   .limit = patience.min_rate->period};
    }
  }
  if (patience.min_rate.has_value()) {
    look_at_ = std::min(look_at_, period_begin_ + patience.min_rate->period);
  }
  return std::nullopt;
}

void CallWhenClientIsGone(PollLoop& loop, int fd, absl::Duration grace,
                          PollLoop::Callback then) {
  loop.WatchEnd(fd, [&loop, fd, grace, then = std::move(then)]() mutable {
    AskItsKernel(fd);
    loop.WatchGone(fd, [&loop, fd, grace, then = std::move(then)]() mutable {
      loop.Unwatch(fd);
      loop.CallAfter(grace, std::move(then));
      return absl::OkStatus();
    });
    return absl::OkStatus();
  });
}

}  // namespace brood
