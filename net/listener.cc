// SPDX-License-Identifier: Apache-2.0
#include "brood/net/listener.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/net/address.h"
#include "brood/net/stream.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

// Serialises those who open a listener in one directory. Between bind and
// listen a socket refuses connections just as a stale one does; without the
// lock a second server could take the first one's path away in between, or both
// could find one stale socket and the slower one remove the faster one's new
// socket. The kernel lets go of the lock when the descriptor is closed, however
// the process ends.
//
// Where there is no lock to be had (a directory that may not be read, a network
// file system, somebody who holds it and does not let go) Open goes on without.
UniqueFd LockDirectoryOf(const std::string& path) {
  constexpr int kTries = 100;
  constexpr timespec kBetween = {.tv_sec = 0, .tv_nsec = 10'000'000};
  const size_t slash = path.rfind('/');
  const std::string directory =
      slash == std::string::npos ? "." : path.substr(0, slash + 1);
  UniqueFd lock(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lock.valid()) return lock;
  for (int i = 0; i < kTries; ++i) {
    if (flock(lock.get(), LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
      break;
    nanosleep(&kBetween, nullptr);
  }
  return lock;
}

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

// Removes the socket at `path` if nobody answers there. OK means that it is
// worth trying to bind again.
absl::Status RemoveStaleSocket(const Address& address,
                               const std::string& path) {
  struct stat found;
  if (lstat(path.c_str(), &found) == -1) {
    if (errno == ENOENT) return absl::OkStatus();  // Its owner has removed it.
    return ErrnoStatus(errno, absl::StrCat("lstat for ", address));
  }
  if (!S_ISSOCK(found.st_mode)) {
    return ErrnoStatus(
        EADDRINUSE,
        absl::StrCat("bind ", address, ", which is there and is no socket"));
  }
  const absl::StatusOr<UniqueFd> probe = NonBlockingSocket(address);
  if (!probe.ok()) return probe.status();
  // Whatever is not "refused" has somebody behind it: a full backlog (EAGAIN),
  // a socket of another type (EPROTOTYPE), one that we may not talk to
  // (EACCES).
  if (connect(probe->get(), address.sockaddr(), address.sockaddr_length()) ==
          0 ||
      (errno != ECONNREFUSED && errno != ENOENT)) {
    return ErrnoStatus(EADDRINUSE, absl::StrCat("bind ", address));
  }
  if (unlink(path.c_str()) == -1 && errno != ENOENT) {
    return ErrnoStatus(errno, absl::StrCat("unlink stale ", address));
  }
  return absl::OkStatus();
}

absl::Status Bind(int fd, const Address& address) {
  const auto bind_once = [&] {
    return bind(fd, address.sockaddr(), address.sockaddr_length());
  };
  if (bind_once() == 0) return absl::OkStatus();
  if (errno == EADDRINUSE && address.unix_path().has_value()) {
    const std::string path(*address.unix_path());
    const absl::Status removed = RemoveStaleSocket(address, path);
    if (!removed.ok()) return removed;
    if (bind_once() == 0) return absl::OkStatus();
  }
  return ErrnoStatus(errno, absl::StrCat("bind ", address));
}

// How an errno of accept4(2) reads. The manual page lists the network errors
// that Linux passes on from a connection which has failed before it was
// accepted: they say something about that client and nothing about the
// listener.
enum class AcceptError { kNobodyWaits, kClientGone, kFatal };

AcceptError ReadAcceptError(int error) {
  switch (error) {
    case EAGAIN:
      return AcceptError::kNobodyWaits;
    case ECONNABORTED:
    case EPERM:  // A firewall rule forbids this client.
    case EPROTO:
    case ENOPROTOOPT:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case EOPNOTSUPP:
    case ETIMEDOUT:
      return AcceptError::kClientGone;
  }
  return AcceptError::kFatal;
}

// How many clients that are gone Accept passes over in one call. What fails
// this often in a row is not the clients.
constexpr int kMaxClientsGone = 64;

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
  absl::StatusOr<UniqueFd> socket = NonBlockingSocket(address);
  if (!socket.ok()) return socket.status();
  const int fd = socket->get();
  if (address.family() != AF_UNIX && options.reuse_address) {
    if (absl::Status s =
            SetOption(fd, SOL_SOCKET, SO_REUSEADDR, "SO_REUSEADDR", address);
        !s.ok()) {
      return s;
    }
  }
  // Whether [::] takes IPv4 too is otherwise up to net.ipv6.bindv6only.
  if (address.family() == AF_INET6) {
    if (absl::Status s = SetOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, "IPV6_V6ONLY",
                                   address, address.both_families() ? 0 : 1);
        !s.ok()) {
      return s;
    }
  }

  const std::string path(address.unix_path().value_or(""));
  UniqueFd lock;
  if (!path.empty()) lock = LockDirectoryOf(path);
  if (absl::Status s = Bind(fd, address); !s.ok()) return s;
  // From here on the destructor of `listener` cleans up.
  Listener listener(*std::move(socket), address);
  if (!path.empty()) {
    struct stat bound;
    if (lstat(path.c_str(), &bound) == -1) {
      return ErrnoStatus(errno, absl::StrCat("lstat for ", address));
    }
    listener.bound_path_ = BoundPath{.path = path,
                                     .device = bound.st_dev,
                                     .inode = bound.st_ino,
                                     .owner = getpid()};
  }
  if (listen(fd, options.backlog) == -1) {
    return ErrnoStatus(errno, absl::StrCat("listen ", address));
  }
  absl::StatusOr<Address> real = LocalAddressOf(fd);
  if (!real.ok()) return real.status();
  listener.address_ = *real;
  return listener;
}

Listener::Listener(UniqueFd socket, const Address& address)
    : socket_(std::move(socket)), address_(address) {}

Listener::Listener(Listener&& other) noexcept
    : socket_(std::move(other.socket_)),
      address_(other.address_),
      bound_path_(std::exchange(other.bound_path_, std::nullopt)) {}

Listener& Listener::operator=(Listener&& other) noexcept {
  if (this != &other) {
    (void)RemovePath();
    socket_ = std::move(other.socket_);
    address_ = other.address_;
    bound_path_ = std::exchange(other.bound_path_, std::nullopt);
  }
  return *this;
}

Listener::~Listener() { (void)RemovePath(); }

absl::StatusOr<std::optional<Accepted>> Listener::Accept() {
  int error = 0;
  for (int gone = 0; gone < kMaxClientsGone; ++gone) {
    sockaddr_storage storage = {};
    socklen_t length = sizeof(storage);
    auto* address = reinterpret_cast<struct sockaddr*>(&storage);
    // Not SOCK_NONBLOCK; stream.cc says why.
    UniqueFd client(RetryOnEintr(
        [&] { return accept4(fd(), address, &length, SOCK_CLOEXEC); }));
    if (client.valid()) {
      const absl::StatusOr<Address> peer =
          Address::FromSockaddr(address, length);
      if (!peer.ok()) return peer.status();
      return Accepted{.stream = Stream(std::move(client), *peer),
                      .peer = *peer};
    }
    error = errno;
    switch (ReadAcceptError(error)) {
      case AcceptError::kNobodyWaits:
        return std::nullopt;
      case AcceptError::kClientGone:
        continue;
      case AcceptError::kFatal:
        return ErrnoStatus(error, absl::StrCat("accept ", address_));
    }
  }
  return ErrnoStatus(error, absl::StrCat("accept ", address_));
}

absl::Status Listener::Close() {
  absl::Status removed = RemovePath();
  absl::Status closed = socket_.Close();
  return removed.ok() ? closed : removed;
}

// Before the socket is closed: as long as it lives it holds on to the inode it
// has bound, whose number can therefore not have gone to another file.
absl::Status Listener::RemovePath() {
  const std::optional<BoundPath> bound =
      std::exchange(bound_path_, std::nullopt);
  if (!bound.has_value() || bound->owner != getpid()) return absl::OkStatus();
  struct stat found;
  if (lstat(bound->path.c_str(), &found) == -1 ||
      found.st_dev != bound->device || found.st_ino != bound->inode) {
    return absl::OkStatus();
  }
  if (unlink(bound->path.c_str()) == -1 && errno != ENOENT) {
    return ErrnoStatus(errno, absl::StrCat("unlink ", address_));
  }
  return absl::OkStatus();
}

}  // namespace brood
