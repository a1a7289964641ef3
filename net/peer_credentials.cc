// SPDX-License-Identifier: Apache-2.0
#include "brood/net/peer_credentials.h"

#include <sys/socket.h>
#include <sys/types.h>

#include <cerrno>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

// <sys/socket.h> of glibc 2.36 does not know it (Linux 6.5).
constexpr int kSoPeerPidfd = 77;

std::string What(std::string_view option, int fd) {
  return absl::StrCat(option, " of descriptor ", fd);
}

// Others answer too: another family that it was nobody, and a listener, which
// keeps the credentials for those who will connect, that it was itself.
absl::Status CheckIsUnixConnection(std::string_view option, int fd) {
  int family = AF_UNSPEC;
  socklen_t length = sizeof(family);
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &length) == -1) {
    return ErrnoStatus(errno, What(option, fd));
  }
  if (family != AF_UNIX) {
    return absl::InvalidArgumentError(
        absl::StrCat(What(option, fd), ": expected a unix socket"));
  }
  int listens = 0;
  length = sizeof(listens);
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) == -1) {
    return ErrnoStatus(errno, What(option, fd));
  }
  if (listens != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        What(option, fd), ": expected a connection and not a listener"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<gid_t>> PeerGroupsOf(int fd) {
  std::vector<gid_t> groups(32);
  for (;;) {
    auto length = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    const int result =
        getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &length);
    // The kernel says how much would have been enough.
    if (result == -1 && errno != ERANGE) {
      return ErrnoStatus(errno, What("SO_PEERGROUPS", fd));
    }
    groups.resize(length / sizeof(gid_t));
    if (result == 0) return groups;
  }
}

}  // namespace

absl::StatusOr<PeerCredentials> PeerCredentialsOf(int fd) {
  constexpr std::string_view kOption = "SO_PEERCRED";
  if (absl::Status s = CheckIsUnixConnection(kOption, fd); !s.ok()) return s;
  ucred peer = {};
  socklen_t length = sizeof(peer);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == -1) {
    return ErrnoStatus(errno, What(kOption, fd));
  }
  // What the kernel answers as long as there is no peer.
  if (peer.uid == static_cast<uid_t>(-1)) {
    return ErrnoStatus(ENOTCONN, What(kOption, fd));
  }
  absl::StatusOr<std::vector<gid_t>> groups = PeerGroupsOf(fd);
  if (!groups.ok()) return groups.status();
  return PeerCredentials{.pid = peer.pid,
                         .uid = peer.uid,
                         .gid = peer.gid,
                         .groups = *std::move(groups)};
}

absl::StatusOr<UniqueFd> PeerPidfdOf(int fd) {
  constexpr std::string_view kOption = "SO_PEERPIDFD";
  if (absl::Status s = CheckIsUnixConnection(kOption, fd); !s.ok()) return s;
  int pidfd = -1;
  socklen_t length = sizeof(pidfd);
  if (getsockopt(fd, SOL_SOCKET, kSoPeerPidfd, &pidfd, &length) == -1) {
    return ErrnoStatus(errno == ENODATA ? ENOTCONN : errno, What(kOption, fd));
  }
  return UniqueFd(pidfd);
}

}  // namespace brood
