// SPDX-License-Identifier: Apache-2.0
#include "brood/net/listener.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "brood/net/accept_error.h"
#include "brood/net/address.h"
#include "brood/net/bound_path.h"
#include "brood/net/handshakes.h"
#include "brood/net/socket_options.h"
#include "brood/net/stream.h"
#include "brood/net/tcp_info.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

// Younger than the C library's headers (Linux 5.7).
#ifndef SO_BINDTOIFINDEX
constexpr int SO_BINDTOIFINDEX = 62;
#endif

// How many clients that are gone Accept passes over in one call. What fails
// this often in a row is not the clients.
constexpr int kMaxClientsGone = 64;

// How many clients one batch turns away.
constexpr int kMaxTurnedAway = 1024;

// What an adopted listener yields at most while it drains, if the kernel does
// not say how many wait: the usual limit of a backlog.
constexpr int kUnknownBacklog = 4096;

constexpr absl::Duration kFirstPause = absl::Milliseconds(10);
constexpr absl::Duration kLongestPause = absl::Seconds(1);

absl::StatusOr<UniqueFd> NonBlockingSocket(const Address& address) {
  UniqueFd socket(::socket(address.family(),
                           SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) {
    return ErrnoStatus(errno, absl::StrCat("socket for ", address));
  }
  return socket;
}

absl::Status SetOption(int fd, int level, int option, std::string_view name,
                       const Address& address, int value = 1) {
  if (setsockopt(fd, level, option, &value, sizeof(value)) == -1) {
    return ErrnoStatus(errno, absl::StrCat(name, " for ", address));
  }
  return absl::OkStatus();
}

absl::Status CheckShedAfter(absl::Duration shed_after) {
  if (shed_after >= absl::ZeroDuration()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("shed_after ", absl::FormatDuration(shed_after),
                   ": allowed is 0s or more"));
}

absl::Status CheckOptions(const Listener::Options& options,
                          const Address& address) {
  const bool tcp =
      options.reuse_port || options.free_bind || !options.device.empty() ||
      options.defer_accept != absl::ZeroDuration() || options.fast_open != 0;
  if (tcp && address.family() == AF_UNIX) {
    return absl::InvalidArgumentError(
        absl::StrCat("reuse_port, free_bind, device, defer_accept and "
                     "fast_open are options of TCP, not of ",
                     address));
  }
  const BoundPath::Access& access = options.access;
  if ((access.mode.has_value() || access.owner.has_value() ||
       access.group.has_value()) &&
      !address.unix_path().has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "mode, owner and group are options of a unix path, not of ", address));
  }
  if (access.owner == static_cast<uid_t>(-1) ||
      access.group == static_cast<gid_t>(-1)) {
    return absl::InvalidArgumentError(
        "owner or group -1: allowed is an id; leave it out to change nothing");
  }
  if (access.mode.value_or(0) > 0777) {
    return absl::InvalidArgumentError(
        absl::StrFormat("mode 0%o: allowed is from 0 to 0777", *access.mode));
  }
  if (options.device.size() >= IFNAMSIZ ||
      absl::StrContains(options.device, '\0')) {
    return absl::InvalidArgumentError(absl::StrCat(
        "device \"", absl::CHexEscape(options.device),
        "\": allowed is the name of a network interface, at most 15 bytes"));
  }
  if (options.backlog < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("backlog ", options.backlog, ": allowed is 0 or more"));
  }
  if (options.fast_open < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "fast_open ", options.fast_open, ": allowed is 0 or more"));
  }
  if (options.defer_accept < absl::ZeroDuration() ||
      options.defer_accept > absl::Hours(1) ||
      options.defer_accept !=
          absl::Floor(options.defer_accept, absl::Seconds(1))) {
    return absl::InvalidArgumentError(absl::StrCat(
        "defer_accept ", absl::FormatDuration(options.defer_accept),
        ": allowed is whole seconds from 0s to 1h"));
  }
  return CheckShedAfter(options.shed_after);
}

// What has to be so before bind(2), and what clients inherit.
absl::Status SetOptions(int fd, const Listener::Options& options,
                        const Address& address) {
  absl::Status s = SetSocketOptions(fd, options.socket, address);
  if (!s.ok() || address.family() == AF_UNIX) return s;
  const bool ipv6 = address.family() == AF_INET6;
  // Whether [::] takes IPv4 too is otherwise up to net.ipv6.bindv6only.
  if (ipv6) {
    s = SetOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, "IPV6_V6ONLY", address,
                  address.both_families() ? 0 : 1);
  }
  if (s.ok() && options.reuse_address) {
    s = SetOption(fd, SOL_SOCKET, SO_REUSEADDR, "SO_REUSEADDR", address);
  }
  if (s.ok() && options.reuse_port) {
    s = SetOption(fd, SOL_SOCKET, SO_REUSEPORT, "SO_REUSEPORT", address);
  }
  if (s.ok() && options.free_bind) {
    constexpr int kIpv6FreeBind = 78;  // IPV6_FREEBIND of linux/in6.h.
    s = SetOption(fd, ipv6 ? IPPROTO_IPV6 : IPPROTO_IP,
                  ipv6 ? kIpv6FreeBind : IP_FREEBIND, "IP_FREEBIND", address);
  }
  if (s.ok() && !options.device.empty() &&
      setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, options.device.data(),
                 static_cast<socklen_t>(options.device.size())) == -1) {
    s = ErrnoStatus(errno, absl::StrCat("SO_BINDTODEVICE ", options.device,
                                        " for ", address));
  }
  if (s.ok() && options.defer_accept != absl::ZeroDuration()) {
    s = SetOption(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, "TCP_DEFER_ACCEPT",
                  address,
                  static_cast<int>(absl::ToInt64Seconds(options.defer_accept)));
  }
  if (s.ok() && options.fast_open != 0) {
    s = SetOption(fd, IPPROTO_TCP, TCP_FASTOPEN, "TCP_FASTOPEN", address,
                  options.fast_open);
  }
  return s;
}

// ---- Drain ----
//
// What was tried, with forty clients that connect, ask, wait for the answer and
// begin again, at a TCP listener that is left in the middle of it:
//
// - close: resets every client in the backlog, about as many as there were.
// - accept until EAGAIN, then close: one in most runs is reset, who connected
//   in between; and under load EAGAIN need not come.
// - shutdown(SHUT_RD): resets the backlog, for a TCP listener stops listening.
// - a filter that drops SYN and lets the rest of each handshake pass
//   (SO_ATTACH_FILTER): loses nobody. Who comes now hears nothing and asks
//   again a second later.
// - bind to a network interface that does not exist (SO_BINDTOIFINDEX): loses
//   nobody. Looking for a listener the kernel does not find this one any more,
//   so who comes now is refused at once, while the connections and the
//   handshakes that have begun belong to the socket and not to its address.
//   One kind of handshake has no socket: under a flood of SYNs the kernel
//   answers with a cookie (tcp_syncookies) and remembers nothing, so who comes
//   back with one is refused as well.
//   Among those who share a port the kernel deals clients out without looking
//   at the interface of each.
//
// So it is the last; and the filter for one who shares the port (who comes now
// finds another when he asks again) and where the kernel does not permit to
// change the interface a socket has been bound to (without CAP_NET_RAW).
//
// A unix listener that is shut down refuses whoever comes, and keeps its
// backlog.

absl::Status RefuseByShutdown(int fd, const Address& address) {
  if (shutdown(fd, SHUT_RD) == -1) {
    return ErrnoStatus(errno, absl::StrCat("shutdown ", address));
  }
  return absl::OkStatus();
}

absl::Status RefuseByInterface(int fd, const Address& address) {
  constexpr int kNoInterface = std::numeric_limits<int>::max();
  return SetOption(fd, SOL_SOCKET, SO_BINDTOIFINDEX, "SO_BINDTOIFINDEX",
                   address, kNoInterface);
}

absl::Status RefuseByFilter(int fd, const Address& address) {
  constexpr uint32_t kFlagsOffset = 13;  // In the TCP header.
  constexpr uint32_t kSyn = 0x02;
  constexpr uint32_t kAck = 0x10;
  std::array<sock_filter, 5> code = {{
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, kFlagsOffset),
      BPF_STMT(BPF_ALU | BPF_AND | BPF_K, kSyn | kAck),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kSyn, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0),
      BPF_STMT(BPF_RET | BPF_K, std::numeric_limits<uint32_t>::max()),
  }};
  const sock_fprog program = {.len = code.size(), .filter = code.data()};
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) ==
      -1) {
    return ErrnoStatus(errno, absl::StrCat("SO_ATTACH_FILTER for ", address));
  }
  return absl::OkStatus();
}

// How many clients wait to be accepted.
int BacklogOf(int fd) {
  const absl::StatusOr<ListenQueue> queue = ListenQueueOf(fd);
  return queue.ok() ? static_cast<int>(queue->depth) : kUnknownBacklog;
}

}  // namespace

absl::StatusOr<Listener> Listener::Open(const Address& address) {
  return Open(address, Options());
}

absl::StatusOr<Listener> Listener::Open(const Address& address,
                                        const Options& options) {
  // The kernel would choose an abstract name, which everyone on the machine may
  // connect to: not what one gets by forgetting to say where.
  if (address == Address()) {
    return absl::InvalidArgumentError(
        absl::StrCat("bind ", address, ": expected an address with a name"));
  }
  if (absl::Status s = CheckOptions(options, address); !s.ok()) return s;
  absl::StatusOr<UniqueFd> socket = NonBlockingSocket(address);
  if (!socket.ok()) {
    // No IPv6 in this kernel: every address of this machine is an IPv4 one.
    if (address.both_families() && ErrnoOf(socket.status()) == EAFNOSUPPORT) {
      return Open(*Address::Parse(absl::StrCat("0.0.0.0:", *address.port())),
                  options);
    }
    return socket.status();
  }
  const int fd = socket->get();
  if (absl::Status s = SetOptions(fd, options, address); !s.ok()) return s;
  // From here on the destructor of `listener` cleans up.
  Listener listener(*std::move(socket), address, options.shed_after);
  listener.shares_port_ = options.reuse_port;
  if (address.unix_path().has_value()) {
    absl::StatusOr<BoundPath> bound =
        BoundPath::Bind(fd, address, options.access);
    if (!bound.ok()) return bound.status();
    listener.bound_path_ = *std::move(bound);
  } else if (bind(fd, address.sockaddr(), address.sockaddr_length()) == -1) {
    return ErrnoStatus(errno, absl::StrCat("bind ", address));
  }
  if (listen(fd, options.backlog) == -1) {
    return ErrnoStatus(errno, absl::StrCat("listen ", address));
  }
  if (listener.bound_path_.has_value()) listener.bound_path_->Unlock();
  listener.Reserve();
  absl::StatusOr<Address> real = LocalAddressOf(fd);
  if (!real.ok()) return real.status();
  listener.address_ = *real;
  return listener;
}

absl::StatusOr<Listener> Listener::Adopt(UniqueFd socket,
                                         absl::Duration shed_after) {
  if (absl::Status s = CheckShedAfter(shed_after); !s.ok()) return s;
  const int fd = socket.get();
  const absl::StatusOr<Address> address = LocalAddressOf(fd);
  if (!address.ok()) return address.status();
  const auto ask = [&](int option, std::string_view name,
                       int& value) -> absl::Status {
    socklen_t length = sizeof(value);
    if (getsockopt(fd, SOL_SOCKET, option, &value, &length) == -1) {
      return ErrnoStatus(errno, absl::StrCat(name, " of ", *address));
    }
    return absl::OkStatus();
  };
  int type = 0;
  int listens = 0;
  if (absl::Status s = ask(SO_TYPE, "SO_TYPE", type); !s.ok()) return s;
  if (absl::Status s = ask(SO_ACCEPTCONN, "SO_ACCEPTCONN", listens); !s.ok())
    return s;
  if (type != SOCK_STREAM || listens == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("adopt descriptor ", fd, " at ", *address,
                     ": expected a stream socket that listens"));
  }
  const int flags = fcntl(fd, F_GETFL);
  if (flags == -1 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) == -1 ||
      fcntl(fd, F_SETFD, FD_CLOEXEC) == -1) {
    return ErrnoStatus(errno, absl::StrCat("fcntl for ", *address));
  }
  Listener listener(std::move(socket), *address, shed_after);
  listener.adopted_ = true;
  listener.Reserve();
  return listener;
}

Listener& Listener::operator=(Listener&& other) noexcept {
  bound_path_ = std::exchange(other.bound_path_, std::nullopt);
  socket_ = std::move(other.socket_);
  address_ = other.address_;
  adopted_ = other.adopted_;
  shares_port_ = other.shares_port_;
  draining_ = other.draining_;
  nobody_waited_ = other.nobody_waited_;
  left_ = other.left_;
  shed_after_ = other.shed_after_;
  keeps_reserve_ = other.keeps_reserve_;
  reserve_ = std::move(other.reserve_);
  reserve_owner_ = other.reserve_owner_;
  trouble_since_ = other.trouble_since_;
  pause_ = other.pause_;
  return *this;
}

absl::StatusOr<std::optional<Accepted>> Listener::Accept() {
  if (left_ == 0) {
    nobody_waited_ = true;
    return std::nullopt;
  }
  int error = 0;
  for (int gone = 0; gone < kMaxClientsGone; ++gone) {
    sockaddr_storage storage = {};
    socklen_t length = sizeof(storage);
    auto* address = reinterpret_cast<struct sockaddr*>(&storage);
    // Not SOCK_NONBLOCK; stream.cc says why.
    UniqueFd client(RetryOnEintr(
        [&] { return accept4(fd(), address, &length, SOCK_CLOEXEC); }));
    if (client.valid()) {
      if (left_.has_value()) --*left_;
      absl::StatusOr<Address> peer = Address::FromSockaddr(address, length);
      if (!peer.ok()) return peer.status();
      if (peer->family() == AF_INET6) *peer = peer->Unmapped();
      return Accepted{.stream = Stream(std::move(client), *peer),
                      .peer = *peer};
    }
    error = errno;
    const AcceptRemedy remedy = RemedyFor(error);
    if (remedy == AcceptRemedy::kWait) {
      nobody_waited_ = true;
      if (left_.has_value()) left_ = 0;
      return std::nullopt;
    }
    if (remedy != AcceptRemedy::kRetry) break;
  }
  return ErrnoStatus(error, absl::StrCat("accept ", address_));
}

Listener::Batch Listener::AcceptBatch(
    int max, absl::FunctionRef<bool(Accepted&&)> take) {
  if (keeps_reserve_ && (!reserve_.valid() || reserve_owner_ != getpid())) {
    Reserve();
  }
  for (int i = 0; i < max; ++i) {
    absl::StatusOr<std::optional<Accepted>> client = Accept();
    if (!client.ok()) return OnTrouble(client.status());
    pause_ = absl::ZeroDuration();
    if (!client->has_value() || !take(**std::move(client))) break;
  }
  return {};
}

Listener::Batch Listener::OnTrouble(const absl::Status& trouble) {
  const AcceptRemedy remedy = RemedyFor(ErrnoOf(trouble));
  Batch batch = {.trouble = trouble};
  if (remedy == AcceptRemedy::kGiveUp) return batch;
  const absl::Duration now = MonotonicNow();
  if (pause_ == absl::ZeroDuration()) trouble_since_ = now;
  pause_ = std::clamp(2 * pause_, kFirstPause, kLongestPause);
  if (remedy == AcceptRemedy::kShedAndPause && keeps_reserve_ &&
      now - trouble_since_ >= shed_after_) {
    batch.turned_away = TurnAway();
  }
  // Those who ran short together should not come back together; the low digits
  // of the clock are dice enough.
  const int64_t dice = absl::ToInt64Nanoseconds(now) % 1000;
  batch.pause = pause_ * (1.0 - static_cast<double>(dice) / 4000);
  return batch;
}

// The reserve makes room for one client at a time. Somebody else may be faster
// to take what it gives back, another thread or, if the whole machine is short,
// another process; then there is nobody to turn away this time.
int Listener::TurnAway() {
  reserve_ = UniqueFd();
  int turned_away = 0;
  // Those who came after an adopted one began to drain are not ours to turn
  // away.
  while (turned_away < kMaxTurnedAway && left_ != 0) {
    const UniqueFd client(RetryOnEintr(
        [&] { return accept4(fd(), nullptr, nullptr, SOCK_CLOEXEC); }));
    if (!client.valid()) break;
    // A reset: "closed" would read as an answer. A unix socket knows no linger.
    const linger reset = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(client.get(), SOL_SOCKET, SO_LINGER, &reset,
                     sizeof(reset));
    ++turned_away;
    if (left_.has_value()) --*left_;
  }
  Reserve();
  return turned_away;
}

void Listener::Reserve() {
  DropReserve();
  reserve_ = UniqueFd(eventfd(0, EFD_CLOEXEC));
  reserve_owner_ = getpid();
}

void Listener::DropReserve() {
  // In a forked child the number may have become somebody else's.
  if (reserve_owner_ != getpid()) (void)std::move(reserve_).Release();
  reserve_ = UniqueFd();
}

void Listener::KeepNoReserve() {
  DropReserve();
  keeps_reserve_ = false;
}

absl::Status Listener::Drain() {
  if (draining_) return absl::OkStatus();
  absl::Status refusing = absl::OkStatus();
  if (adopted_) {
    left_ = BacklogOf(fd());
  } else if (address_.family() == AF_UNIX) {
    refusing = RefuseByShutdown(fd(), address_);
  } else if (shares_port_ || !RefuseByInterface(fd(), address_).ok()) {
    refusing = RefuseByFilter(fd(), address_);
  }
  draining_ = refusing.ok();
  nobody_waited_ = false;
  return refusing;
}

absl::StatusOr<bool> Listener::Drained() const {
  if (!nobody_waited_) return false;
  if (adopted_ || address_.family() == AF_UNIX) return true;
  // In this order: a handshake that ends in between is in the backlog by the
  // time that is looked at.
  const absl::StatusOr<int> handshakes = HandshakesUnderWay(address_);
  if (!handshakes.ok()) return handshakes.status();
  if (*handshakes > 0) return false;
  const absl::StatusOr<bool> somebody_waits =
      PollUntil(fd(), POLLIN, absl::InfinitePast());
  if (!somebody_waits.ok()) return somebody_waits.status();
  return !*somebody_waits;
}

absl::Status Listener::Close() {
  absl::Status removed = absl::OkStatus();
  if (bound_path_.has_value()) removed = bound_path_->Remove();
  DropReserve();
  absl::Status closed = socket_.Close();
  return removed.ok() ? closed : removed;
}

}  // namespace brood
