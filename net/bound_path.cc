// SPDX-License-Identifier: Apache-2.0
#include "brood/net/bound_path.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <ctime>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/net/address.h"
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
// file system, somebody who holds it and does not let go) Bind goes on without.
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
  const UniqueFd probe(
      socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe.valid()) {
    return ErrnoStatus(errno, absl::StrCat("socket for ", address));
  }
  // Whatever is not "refused" has somebody behind it: a full backlog (EAGAIN),
  // a socket of another type (EPROTOTYPE), one that we may not talk to
  // (EACCES).
  if (connect(probe.get(), address.sockaddr(), address.sockaddr_length()) ==
          0 ||
      (errno != ECONNREFUSED && errno != ENOENT)) {
    return ErrnoStatus(EADDRINUSE, absl::StrCat("bind ", address));
  }
  if (unlink(path.c_str()) == -1 && errno != ENOENT) {
    return ErrnoStatus(errno, absl::StrCat("unlink stale ", address));
  }
  return absl::OkStatus();
}

absl::Status BindOrReplace(int fd, const Address& address,
                           const std::string& path) {
  const auto bind_once = [&] {
    return bind(fd, address.sockaddr(), address.sockaddr_length());
  };
  if (bind_once() == 0) return absl::OkStatus();
  if (errno == EADDRINUSE) {
    if (absl::Status removed = RemoveStaleSocket(address, path); !removed.ok())
      return removed;
    if (bind_once() == 0) return absl::OkStatus();
  }
  return ErrnoStatus(errno, absl::StrCat("bind ", address));
}

}  // namespace

absl::StatusOr<BoundPath> BoundPath::Bind(int socket, const Address& address,
                                          const Access& access) {
  const std::string path(*address.unix_path());
  UniqueFd lock = LockDirectoryOf(path);
  // The file is born with the mode of the socket, less the umask: so there is
  // no moment at which it permits more than it shall.
  if (access.mode.has_value() && fchmod(socket, *access.mode) == -1) {
    return ErrnoStatus(errno, absl::StrCat("fchmod for ", address));
  }
  if (absl::Status s = BindOrReplace(socket, address, path); !s.ok()) return s;
  BoundPath bound(path, std::move(lock));
  if (absl::Status s = bound.SetAccess(address, access); !s.ok()) return s;
  return bound;
}

absl::Status BoundPath::SetAccess(const Address& address,
                                  const Access& access) {
  struct stat found;
  if (lstat(path_.c_str(), &found) == -1) {
    return ErrnoStatus(errno, absl::StrCat("lstat for ", address));
  }
  device_ = found.st_dev;
  inode_ = found.st_ino;
  if (!access.mode.has_value() && !access.owner.has_value() &&
      !access.group.has_value()) {
    return absl::OkStatus();
  }
  // One file from here on, whatever is put at its path meanwhile.
  const UniqueFd file(open(path_.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!file.valid() || fstat(file.get(), &found) == -1) {
    return ErrnoStatus(errno, absl::StrCat("open the socket of ", address));
  }
  if (found.st_dev != device_ || found.st_ino != inode_) {
    return ErrnoStatus(ESTALE, absl::StrCat("open the socket of ", address));
  }
  // The owner first: a change of owner may take bits of the mode away.
  if ((access.owner.has_value() || access.group.has_value()) &&
      fchownat(file.get(), "", access.owner.value_or(-1),
               access.group.value_or(-1), AT_EMPTY_PATH) == -1) {
    return ErrnoStatus(errno, absl::StrCat("chown ", address));
  }
  // What the umask has taken. O_PATH does not permit fchmod, its path does.
  if (access.mode.has_value() &&
      chmod(absl::StrCat("/proc/self/fd/", file.get()).c_str(), *access.mode) ==
          -1) {
    return ErrnoStatus(errno, absl::StrCat("chmod ", address));
  }
  return absl::OkStatus();
}

BoundPath::BoundPath(const std::string& path, UniqueFd lock)
    : path_(path), owner_(getpid()), lock_(std::move(lock)) {}

BoundPath::BoundPath(BoundPath&& other) noexcept
    : path_(std::exchange(other.path_, {})),
      device_(other.device_),
      inode_(other.inode_),
      owner_(other.owner_),
      lock_(std::move(other.lock_)) {}

BoundPath& BoundPath::operator=(BoundPath&& other) noexcept {
  if (this != &other) {
    (void)Remove();
    path_ = std::exchange(other.path_, {});
    device_ = other.device_;
    inode_ = other.inode_;
    owner_ = other.owner_;
    lock_ = std::move(other.lock_);
  }
  return *this;
}

BoundPath::~BoundPath() { (void)Remove(); }

absl::Status BoundPath::Remove() {
  const std::string path = std::exchange(path_, {});
  if (path.empty() || owner_ != getpid()) return absl::OkStatus();
  struct stat found;
  if (lstat(path.c_str(), &found) == -1 || found.st_dev != device_ ||
      found.st_ino != inode_) {
    return absl::OkStatus();
  }
  if (unlink(path.c_str()) == -1 && errno != ENOENT) {
    return ErrnoStatus(errno, absl::StrCat("unlink ", path));
  }
  return absl::OkStatus();
}

}  // namespace brood
