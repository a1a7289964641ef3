// SPDX-License-Identifier: Apache-2.0
#include "brood/net/stream.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/types.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <ctime>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

absl::Status TooLate(std::string_view what) {
  return absl::DeadlineExceededError(absl::StrCat(what, ": deadline exceeded"));
}

// Calls `call` with flags until it moves something, ends or fails; blocks in
// the call itself if nothing limits it, else in poll.
//
// Blocking or not is chosen by MSG_DONTWAIT for each call, and the socket
// itself stays blocking: O_NONBLOCK belongs to the open file description, so it
// would follow the socket into every process that shares it, and a program
// which we exec for a client expects to block. It also spares a handler that
// may block the poll before each call.
template <typename Call, typename Describe>
absl::StatusOr<ssize_t> CallUntil(int fd, short events,
                                  const Deadline& deadline, Call call,
                                  Describe describe) {
  if (deadline.never()) {
    const ssize_t n = RetryOnEintr([&] { return call(0); });
    if (n >= 0) return n;
    // Somebody has set O_NONBLOCK or SO_RCVTIMEO: wait all the same.
    if (errno != EAGAIN) return ErrnoStatus(errno, describe());
  }
  for (;;) {
    const ssize_t n = RetryOnEintr([&] { return call(MSG_DONTWAIT); });
    if (n >= 0) return n;
    if (errno != EAGAIN) return ErrnoStatus(errno, describe());
    const absl::StatusOr<bool> ready = PollUntil(fd, events, deadline);
    if (!ready.ok()) return ready.status();
    if (!*ready) return TooLate(describe());
  }
}

std::string Recv(const Address& peer) {
  return absl::StrCat("recv from ", peer);
}

std::string Send(const Address& peer) { return absl::StrCat("send to ", peer); }

absl::Status NoBytes(std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": expected at least one byte"));
}

}  // namespace

absl::StatusOr<Stream> Stream::Connect(const Address& address,
                                       absl::Time deadline) {
  const std::string what = absl::StrCat("connect ", address);
  UniqueFd socket(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) {
    return ErrnoStatus(errno, absl::StrCat("socket for ", address));
  }
  // SO_SNDTIMEO, because it limits a blocking connect of every family. A
  // non-blocking one does not: where a unix backlog is full it fails at once
  // and leaves nothing to poll for.
  const Deadline end = deadline;
  const auto set_timeout = [&](absl::Duration timeout) {
    const timeval value = absl::ToTimeval(timeout);
    return setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &value,
                      sizeof(value));
  };
  for (;;) {
    if (!end.never()) {
      // Zero would mean no limit.
      if (set_timeout(std::max(end.Left(), absl::Microseconds(1))) == -1) {
        return ErrnoStatus(errno, absl::StrCat("SO_SNDTIMEO for ", address));
      }
    }
    if (connect(socket.get(), address.sockaddr(), address.sockaddr_length()) ==
        0) {
      break;
    }
    // After EINTR a TCP connect goes on by itself; calling again waits for it.
    // A unix one has to be called again anyway.
    if (errno == EINTR) continue;
    // What a timeout looks like: EINPROGRESS for TCP, EAGAIN for unix.
    if (!end.never() && (errno == EINPROGRESS || errno == EAGAIN)) {
      return TooLate(what);
    }
    return ErrnoStatus(errno, what);
  }
  if (!end.never() && set_timeout(absl::ZeroDuration()) == -1) {
    return ErrnoStatus(errno, absl::StrCat("SO_SNDTIMEO for ", address));
  }
  return Stream(std::move(socket), address);
}

absl::StatusOr<Stream> Stream::Adopt(UniqueFd socket) {
  absl::StatusOr<Address> peer = PeerAddressOf(socket.get());
  if (!peer.ok()) return peer.status();
  int type = 0;
  socklen_t length = sizeof(type);
  if (getsockopt(socket.get(), SOL_SOCKET, SO_TYPE, &type, &length) == -1) {
    return ErrnoStatus(errno, absl::StrCat("SO_TYPE of ", *peer));
  }
  // Elsewhere a read of nothing is not an end.
  if (type != SOCK_STREAM) {
    return absl::InvalidArgumentError(absl::StrCat(
        "adopt descriptor ", socket.get(), ": expected a stream socket"));
  }
  return Stream(std::move(socket), *peer);
}

absl::StatusOr<IoResult> Stream::TryRead(absl::Span<char> buffer) {
  if (buffer.empty()) return NoBytes(Recv(peer_));
  const ssize_t n = RetryOnEintr(
      [&] { return recv(fd(), buffer.data(), buffer.size(), MSG_DONTWAIT); });
  if (n > 0) return IoResult::Bytes(n);
  if (n == 0) return IoResult::End();
  if (errno == EAGAIN) return IoResult::WouldBlock();
  return ErrnoStatus(errno, Recv(peer_));
}

absl::StatusOr<IoResult> Stream::TryWrite(std::string_view data) {
  if (data.empty()) return NoBytes(Send(peer_));
  const ssize_t n = RetryOnEintr([&] {
    return send(fd(), data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  });
  if (n > 0) return IoResult::Bytes(n);
  if (errno == EAGAIN) return IoResult::WouldBlock();
  return ErrnoStatus(errno, Send(peer_));
}

absl::StatusOr<IoResult> Stream::Read(absl::Span<char> buffer,
                                      absl::Time deadline) {
  if (buffer.empty()) return NoBytes(Recv(peer_));
  const absl::StatusOr<ssize_t> n = CallUntil(
      fd(), POLLIN, deadline,
      [&](int flags) {
        return recv(fd(), buffer.data(), buffer.size(), flags);
      },
      [&] { return Recv(peer_); });
  if (!n.ok()) return n.status();
  return *n > 0 ? IoResult::Bytes(*n) : IoResult::End();
}

absl::Status Stream::WriteAll(std::string_view data, absl::Time deadline) {
  const Deadline end = deadline;
  std::string_view rest = data;
  const auto describe = [&] {
    return absl::StrCat(Send(peer_), " after ", data.size() - rest.size(),
                        " of ", data.size(), " bytes");
  };
  while (!rest.empty()) {
    const absl::StatusOr<ssize_t> n = CallUntil(
        fd(), POLLOUT, end,
        [&](int flags) {
          return send(fd(), rest.data(), rest.size(), flags | MSG_NOSIGNAL);
        },
        describe);
    if (!n.ok()) return n.status();
    rest.remove_prefix(*n);
    // A peer that reads as fast as we write would never make us wait.
    if (!rest.empty() && end.Left() == absl::ZeroDuration())
      return TooLate(describe());
  }
  return absl::OkStatus();
}

absl::Status Stream::ShutdownWrite() {
  if (shutdown(fd(), SHUT_WR) == -1) {
    return ErrnoStatus(errno, absl::StrCat("shutdown ", peer_));
  }
  return absl::OkStatus();
}

}  // namespace brood
