// SPDX-License-Identifier: Apache-2.0
#include "brood/net/stream.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
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
                                  const Deadline* deadline, Call call,
                                  Describe describe) {
  if (deadline == nullptr) {
    const ssize_t n = RetryOnEintr([&] { return call(0); });
    if (n >= 0) return n;
    // Somebody has set O_NONBLOCK or SO_RCVTIMEO: wait all the same.
    if (errno != EAGAIN) return ErrnoStatus(errno, describe());
    const Deadline never = absl::InfiniteFuture();
    return CallUntil(fd, events, &never, call, describe);
  }
  for (;;) {
    const ssize_t n = RetryOnEintr([&] { return call(MSG_DONTWAIT); });
    if (n >= 0) return n;
    if (errno != EAGAIN) return ErrnoStatus(errno, describe());
    const absl::StatusOr<bool> ready = PollUntil(fd, events, *deadline);
    if (!ready.ok()) {
      return ErrnoStatus(ErrnoOf(ready.status()),
                         absl::StrCat("poll to ", describe()));
    }
    if (!*ready) return TooLate(describe());
  }
}

std::string Recv(const Address& peer) {
  return absl::StrCat("recv from ", peer);
}

std::string Send(const Address& peer) { return absl::StrCat("send to ", peer); }

// As CallUntil() takes it.
const Deadline* UnlessNever(const Deadline& deadline) {
  return deadline.never() ? nullptr : &deadline;
}

absl::Status NoBytes(std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": expected at least one byte"));
}

// Pieces as the kernel takes them: IOV_MAX at once, and without the empty ones,
// which would take the room of others. Only what is used is ever written.
class Pieces {
 public:
  // From `bytes` into the first of `pieces`.
  template <typename Piece>
  explicit Pieces(absl::Span<const Piece> pieces, size_t bytes = 0) {
    for (const Piece& piece : pieces) {
      if (piece.size() > bytes) {
        if (count_ == parts_.size()) return;
        parts_[count_++] = {.iov_base = const_cast<char*>(piece.data()) + bytes,
                            .iov_len = piece.size() - bytes};
      }
      bytes = 0;
    }
  }

  bool empty() const { return count_ == 0; }
  msghdr Message() {
    msghdr message = {};
    message.msg_iov = parts_.data();
    message.msg_iovlen = count_;
    return message;
  }

 private:
  std::array<iovec, IOV_MAX> parts_;
  size_t count_ = 0;
};

// Whether `error` says that the connection is no more: by the peer (a reset),
// by the timers of this end, by its administrator (ECONNABORTED), or by what a
// router has said (icmp(7)), which TCP tells once it gives up.
//
// EPIPE says only that one of both has closed a direction. All others are of
// one call (EFAULT, EMSGSIZE), or of a filter or a want of this machine that
// may pass (EPERM, ENOMEM). EACCES would be among the first too, of a router of
// IPv6 that prohibits, but says as a rule that somebody here does.
bool EndsConnection(int error) {
  switch (error) {
    case ECONNRESET:
    case ECONNABORTED:
    case ECONNREFUSED:
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case EHOSTDOWN:
    case ENETUNREACH:
    case ENETDOWN:
    case ENONET:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case EPROTO:
      return true;
  }
  return false;
}

// Whether connect has come to the end of SO_SNDTIMEO. TCP says EINPROGRESS, but
// EALREADY if a signal had interrupted it before; unix says EAGAIN, which of
// TCP would be another matter.
bool IsTimeoutOfConnect(int error, sa_family_t family) {
  if (family == AF_UNIX) return error == EAGAIN;
  return error == EINPROGRESS || error == EALREADY;
}

absl::Status BindSource(int fd, const Address& source, const Address& address) {
  const auto what = [&] {
    return absl::StrCat("bind ", source, " to connect ", address);
  };
  if (source.family() != address.family() || source.family() == AF_UNIX) {
    return absl::InvalidArgumentError(absl::StrCat(
        what(), ": expected an IPv4 or IPv6 address of the same family"));
  }
  // Otherwise bind chooses the port, and knows no peer yet: it has to be one
  // that no other connection from this address has. Where the kernel does not
  // know the option it is still a port.
  constexpr int kOn = 1;
  (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &kOn, sizeof(kOn));
  if (bind(fd, source.sockaddr(), source.sockaddr_length()) == -1) {
    return ErrnoStatus(errno, what());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Stream> Stream::Connect(const Address& address,
                                       absl::Time deadline,
                                       const ConnectOptions& options) {
  const std::string what = absl::StrCat("connect ", address);
  UniqueFd socket(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) {
    return ErrnoStatus(errno, absl::StrCat("socket for ", address));
  }
  if (options.source.has_value()) {
    if (absl::Status s = BindSource(socket.get(), *options.source, address);
        !s.ok()) {
      return s;
    }
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
    // A unix one has to be called again anyway. The kernel counts the time in
    // jiffies: signals that come faster than those would keep us here for ever.
    const bool too_late =
        errno == EINTR
            ? end.Left() == absl::ZeroDuration()
            : !end.never() && IsTimeoutOfConnect(errno, address.family());
    if (too_late) return TooLate(what);
    if (errno != EINTR) return ErrnoStatus(errno, what);
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
  if (fcntl(socket.get(), F_SETFD, FD_CLOEXEC) == -1) {
    return ErrnoStatus(errno, absl::StrCat("FD_CLOEXEC for ", *peer));
  }
  return Stream(std::move(socket), peer->Unmapped());
}

// The kernel keeps one error for a socket and forgets it with the first call
// that reports it, whichever that is. A read after that says end, because no
// more will come: the end of a connection that was cut. So it is kept here.
//
// Atomic, because reader and writer may be two threads.
absl::Status Stream::Remember(absl::Status failure) {
  if (const int error = ErrnoOf(failure); EndsConnection(error)) {
    std::atomic_ref<int>(lost_).store(error, std::memory_order_relaxed);
  }
  return failure;
}

int Stream::lost() const {
  // Of a const int there is no atomic_ref.
  return std::atomic_ref<int>(const_cast<int&>(lost_))
      .load(std::memory_order_relaxed);
}

absl::StatusOr<IoResult> Stream::End() {
  if (lost() != 0) return ErrnoStatus(lost(), Recv(peer_));
  return IoResult::End();
}

absl::StatusOr<IoResult> Stream::TryRead(absl::Span<char> buffer) {
  if (buffer.empty()) return NoBytes(Recv(peer_));
  const ssize_t n = RetryOnEintr(
      [&] { return recv(fd(), buffer.data(), buffer.size(), MSG_DONTWAIT); });
  if (n > 0) return IoResult::Bytes(n);
  if (n == 0) return End();
  if (errno == EAGAIN) return IoResult::WouldBlock();
  return Remember(ErrnoStatus(errno, Recv(peer_)));
}

absl::StatusOr<IoResult> Stream::TryReadV(
    absl::Span<const absl::Span<char>> buffers) {
  Pieces pieces(buffers);
  if (pieces.empty()) return NoBytes(Recv(peer_));
  msghdr message = pieces.Message();
  const ssize_t n =
      RetryOnEintr([&] { return recvmsg(fd(), &message, MSG_DONTWAIT); });
  if (n > 0) return IoResult::Bytes(n);
  if (n == 0) return End();
  if (errno == EAGAIN) return IoResult::WouldBlock();
  return Remember(ErrnoStatus(errno, Recv(peer_)));
}

absl::StatusOr<IoResult> Stream::TryWrite(std::string_view data) {
  if (data.empty()) return NoBytes(Send(peer_));
  const ssize_t n = RetryOnEintr([&] {
    return send(fd(), data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  });
  if (n > 0) return IoResult::Bytes(n);
  if (errno == EAGAIN) return IoResult::WouldBlock();
  return Remember(ErrnoStatus(errno, Send(peer_)));
}

absl::StatusOr<IoResult> Stream::TryWriteV(
    absl::Span<const std::string_view> data) {
  Pieces pieces(data);
  if (pieces.empty()) return NoBytes(Send(peer_));
  const msghdr message = pieces.Message();
  const ssize_t n = RetryOnEintr(
      [&] { return sendmsg(fd(), &message, MSG_DONTWAIT | MSG_NOSIGNAL); });
  if (n > 0) return IoResult::Bytes(n);
  if (errno == EAGAIN) return IoResult::WouldBlock();
  return Remember(ErrnoStatus(errno, Send(peer_)));
}

absl::StatusOr<IoResult> Stream::Read(absl::Span<char> buffer) {
  return ReadUntil(buffer, nullptr);
}

absl::StatusOr<IoResult> Stream::Read(absl::Span<char> buffer,
                                      absl::Time deadline) {
  const Deadline end = deadline;
  return ReadUntil(buffer, UnlessNever(end));
}

absl::StatusOr<IoResult> Stream::ReadUntil(absl::Span<char> buffer,
                                           const Deadline* deadline) {
  if (buffer.empty()) return NoBytes(Recv(peer_));
  const absl::StatusOr<ssize_t> n = CallUntil(
      fd(), POLLIN, deadline,
      [&](int flags) {
        return recv(fd(), buffer.data(), buffer.size(), flags);
      },
      [&] { return Recv(peer_); });
  if (!n.ok()) return Remember(n.status());
  if (*n == 0) return End();
  return IoResult::Bytes(*n);
}

absl::StatusOr<IoResult> Stream::ReadV(
    absl::Span<const absl::Span<char>> buffers, absl::Time deadline) {
  const Deadline end = deadline;
  Pieces pieces(buffers);
  if (pieces.empty()) return NoBytes(Recv(peer_));
  const absl::StatusOr<ssize_t> n = CallUntil(
      fd(), POLLIN, UnlessNever(end),
      [&](int flags) {
        msghdr message = pieces.Message();
        return recvmsg(fd(), &message, flags);
      },
      [&] { return Recv(peer_); });
  if (!n.ok()) return Remember(n.status());
  if (*n == 0) return End();
  return IoResult::Bytes(*n);
}

absl::Status Stream::WriteAll(std::string_view data) {
  return WriteUntil(data, nullptr);
}

absl::Status Stream::WriteAll(std::string_view data, absl::Time deadline) {
  const Deadline end = deadline;
  return WriteUntil(data, UnlessNever(end));
}

absl::Status Stream::WriteUntil(std::string_view data,
                                const Deadline* deadline) {
  std::string_view rest = data;
  const auto describe = [&] {
    return absl::StrCat(Send(peer_), " after ", data.size() - rest.size(),
                        " of ", data.size(), " bytes");
  };
  while (!rest.empty()) {
    const absl::StatusOr<ssize_t> n = CallUntil(
        fd(), POLLOUT, deadline,
        [&](int flags) {
          return send(fd(), rest.data(), rest.size(), flags | MSG_NOSIGNAL);
        },
        describe);
    if (!n.ok()) return Remember(n.status());
    rest.remove_prefix(*n);
    // A peer that reads as fast as we write would never make us wait.
    if (!rest.empty() && deadline != nullptr &&
        deadline->Left() == absl::ZeroDuration()) {
      return TooLate(describe());
    }
  }
  return absl::OkStatus();
}

absl::Status Stream::WriteAllV(absl::Span<const std::string_view> data,
                               absl::Time deadline) {
  const Deadline end = deadline;
  absl::Span<const std::string_view> rest = data;
  size_t taken = 0;         // Of the first piece of `rest`.
  size_t taken_before = 0;  // Of those before it.
  const auto describe = [&] {
    size_t all = 0;
    for (const std::string_view piece : data) all += piece.size();
    return absl::StrCat(Send(peer_), " after ", taken_before + taken, " of ",
                        all, " bytes");
  };
  for (;;) {
    // Passes over what was taken, and over empty pieces wherever they are.
    while (!rest.empty() && taken >= rest.front().size()) {
      taken -= rest.front().size();
      taken_before += rest.front().size();
      rest.remove_prefix(1);
    }
    if (rest.empty()) return absl::OkStatus();
    if (taken_before + taken > 0 && end.Left() == absl::ZeroDuration()) {
      return TooLate(describe());
    }
    Pieces pieces(rest, taken);
    const msghdr message = pieces.Message();
    const absl::StatusOr<ssize_t> n = CallUntil(
        fd(), POLLOUT, UnlessNever(end),
        [&](int flags) {
          return sendmsg(fd(), &message, flags | MSG_NOSIGNAL);
        },
        describe);
    if (!n.ok()) return Remember(n.status());
    taken += *n;
  }
}

absl::Status Stream::SetNoDelay(bool no_delay) {
  if (peer_.family() == AF_UNIX && fd() != -1) return absl::OkStatus();
  const int value = no_delay ? 1 : 0;
  if (setsockopt(fd(), IPPROTO_TCP, TCP_NODELAY, &value, sizeof(value)) == -1) {
    return ErrnoStatus(errno, absl::StrCat("TCP_NODELAY for ", peer_));
  }
  return absl::OkStatus();
}

absl::Status Stream::ShutdownWrite() {
  if (shutdown(fd(), SHUT_WR) == -1) {
    return ErrnoStatus(errno, absl::StrCat("shutdown ", peer_));
  }
  return absl::OkStatus();
}

absl::Status Stream::Reset() {
  constexpr linger kDropAtOnce = {.l_onoff = 1, .l_linger = 0};
  if (setsockopt(fd(), SOL_SOCKET, SO_LINGER, &kDropAtOnce,
                 sizeof(kDropAtOnce)) == -1) {
    return ErrnoStatus(errno, absl::StrCat("SO_LINGER for ", peer_));
  }
  return Close();
}

}  // namespace brood
