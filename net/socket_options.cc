// SPDX-License-Identifier: Apache-2.0
#include "brood/net/socket_options.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/proc/posix.h"

namespace brood {
namespace {

constexpr absl::Duration kMaxKeepAlive = absl::Seconds(32767);
constexpr int kMaxKeepAliveCount = 127;
constexpr absl::Duration kMaxUserTimeout = absl::Hours(24 * 24);

absl::Status Set(int fd, int level, int option, std::string_view name,
                 int value, const Address& address) {
  if (setsockopt(fd, level, option, &value, sizeof(value)) == -1) {
    return ErrnoStatus(errno, absl::StrCat(name, " for ", address));
  }
  return absl::OkStatus();
}

absl::Status NotAllowed(std::string_view name, std::string_view value,
                        std::string_view allowed) {
  return absl::InvalidArgumentError(
      absl::StrCat(name, " ", value, ": allowed is ", allowed));
}

absl::Status CheckKeepAliveTime(std::string_view name, absl::Duration time) {
  if (time < absl::Seconds(1) || time > kMaxKeepAlive ||
      time != absl::Floor(time, absl::Seconds(1))) {
    return NotAllowed(name, absl::FormatDuration(time),
                      "whole seconds from 1 to 32767");
  }
  return absl::OkStatus();
}

absl::Status Check(const SocketOptions& options, const Address& address) {
  const bool tcp = options.no_delay || options.keep_alive.has_value() ||
                   options.user_timeout.has_value();
  if (tcp && address.family() == AF_UNIX) {
    return absl::InvalidArgumentError(absl::StrCat(
        "no_delay, keep_alive and user_timeout are options of TCP, not of ",
        address));
  }
  if (options.keep_alive.has_value()) {
    if (absl::Status s =
            CheckKeepAliveTime("keep_alive.idle", options.keep_alive->idle);
        !s.ok()) {
      return s;
    }
    if (absl::Status s = CheckKeepAliveTime("keep_alive.interval",
                                            options.keep_alive->interval);
        !s.ok()) {
      return s;
    }
    const int count = options.keep_alive->count;
    if (count < 1 || count > kMaxKeepAliveCount) {
      return NotAllowed("keep_alive.count", absl::StrCat(count),
                        "from 1 to 127");
    }
  }
  if (options.user_timeout.has_value() &&
      (*options.user_timeout < absl::Milliseconds(1) ||
       *options.user_timeout > kMaxUserTimeout)) {
    return NotAllowed("user_timeout",
                      absl::FormatDuration(*options.user_timeout),
                      "from 1ms to 576h");
  }
  if (options.send_buffer.has_value() && *options.send_buffer < 1) {
    return NotAllowed("send_buffer", absl::StrCat(*options.send_buffer),
                      "1 byte or more");
  }
  if (options.receive_buffer.has_value() && *options.receive_buffer < 1) {
    return NotAllowed("receive_buffer", absl::StrCat(*options.receive_buffer),
                      "1 byte or more");
  }
  return absl::OkStatus();
}

absl::Status SetKeepAlive(int fd, const KeepAlive& keep_alive,
                          const Address& address) {
  const auto seconds = [](absl::Duration time) {
    return static_cast<int>(absl::ToInt64Seconds(time));
  };
  absl::Status s =
      Set(fd, SOL_SOCKET, SO_KEEPALIVE, "SO_KEEPALIVE", 1, address);
  if (s.ok()) {
    s = Set(fd, IPPROTO_TCP, TCP_KEEPIDLE, "TCP_KEEPIDLE",
            seconds(keep_alive.idle), address);
  }
  if (s.ok()) {
    s = Set(fd, IPPROTO_TCP, TCP_KEEPINTVL, "TCP_KEEPINTVL",
            seconds(keep_alive.interval), address);
  }
  if (s.ok()) {
    s = Set(fd, IPPROTO_TCP, TCP_KEEPCNT, "TCP_KEEPCNT", keep_alive.count,
            address);
  }
  return s;
}

}  // namespace

absl::Status SetSocketOptions(int fd, const SocketOptions& options,
                              const Address& address) {
  absl::Status s = Check(options, address);
  if (s.ok() && options.no_delay) {
    s = Set(fd, IPPROTO_TCP, TCP_NODELAY, "TCP_NODELAY", 1, address);
  }
  if (s.ok() && options.keep_alive.has_value()) {
    s = SetKeepAlive(fd, *options.keep_alive, address);
  }
  if (s.ok() && options.user_timeout.has_value()) {
    s = Set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, "TCP_USER_TIMEOUT",
            static_cast<int>(absl::ToInt64Milliseconds(
                absl::Ceil(*options.user_timeout, absl::Milliseconds(1)))),
            address);
  }
  if (s.ok() && options.send_buffer.has_value()) {
    s = Set(fd, SOL_SOCKET, SO_SNDBUF, "SO_SNDBUF", *options.send_buffer,
            address);
  }
  if (s.ok() && options.receive_buffer.has_value()) {
    s = Set(fd, SOL_SOCKET, SO_RCVBUF, "SO_RCVBUF", *options.receive_buffer,
            address);
  }
  return s;
}

}  // namespace brood
