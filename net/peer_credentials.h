// SPDX-License-Identifier: Apache-2.0
//
// PeerCredentials say who connected a unix stream, or listened for it: as the
// kernel saw it, not as the peer says.
//
//   absl::Status Admit(const Stream& client) {
//     const absl::StatusOr<PeerCredentials> peer =
//         PeerCredentialsOf(client.fd());
//     if (!peer.ok()) return peer.status();
//     if (peer->uid == 0 || peer->uid == geteuid()) return absl::OkStatus();
//     return absl::PermissionDeniedError(
//         absl::StrCat("user ", peer->uid, " may not come in"));
//   }
//
// What it is not: who writes. A server learns who called connect(2), a client
// who called listen(2), both ends of a socketpair(2) who made it; each with the
// effective ids of that moment. Since then the socket may have been inherited
// or passed on, and the process have become another user.
//
// Nor is `pid` a name to act upon: its process may be gone and the number taken
// by another. A pidfd is one, see PeerPidfdOf.
//
// Errors: every Status names the descriptor and carries its errno (see
// ErrnoOf): not a socket is ENOTSOCK, not connected is FailedPrecondition
// (ENOTCONN). Sockets of other families, and listeners, are InvalidArgument.
//
// Threads, signals, fork: a value.
// Rests on: unix(7) SO_PEERCRED and SO_PEERPIDFD (Linux 6.5); SO_PEERGROUPS
// (Linux 4.13); pidfd_open(2).
#ifndef BROOD_NET_PEER_CREDENTIALS_H_
#define BROOD_NET_PEER_CREDENTIALS_H_

#include <sys/types.h>

#include <vector>

#include "absl/status/statusor.h"
#include "brood/proc/unique_fd.h"

namespace brood {

struct PeerCredentials {
  // 0 if the peer is in a pid namespace that this one does not see.
  pid_t pid = 0;
  // The overflow id, 65534 as a rule, if this user namespace has none for it.
  uid_t uid = 0;
  gid_t gid = 0;
  // The supplementary groups, in the kernel's order.
  std::vector<gid_t> groups = {};
};

// Of whoever connected the unix socket `fd`, or listened for it.
absl::StatusOr<PeerCredentials> PeerCredentialsOf(int fd);

// A pidfd of the same process, close-on-exec: readable once it has ended. A
// kernel that does not know it is ENOPROTOOPT; there is no other way that could
// not hit the wrong process. Of one that is already reaped, an older kernel has
// none (ESRCH, EINVAL).
absl::StatusOr<UniqueFd> PeerPidfdOf(int fd);

}  // namespace brood

#endif  // BROOD_NET_PEER_CREDENTIALS_H_
