// SPDX-License-Identifier: Apache-2.0
//
// DropPrivileges turns the calling process into an ordinary user's, and makes
// sure that there is no way back.
//
//   absl::Status BecomeNobody(const std::string& directory) {
//     const absl::StatusOr<Credentials> nobody = LookUpUser("nobody");
//     if (!nobody.ok()) return nobody.status();  // See accounts.h.
//     // Sockets below port 1024 have been bound, files of root's been opened.
//     return DropPrivileges({.chroot = directory,
//                            .run_as = *nobody,
//                            .no_new_privileges = true});
//   }
//
// What it is not: a sandbox. What is open stays open, and what the user may do
// the process may do. chroot(2) alone confines nobody who is still root, hence
// it is refused without an unprivileged user to become. For a program that is
// started, SpawnOptions have the same Credentials.
//
// Errors: InvalidArgument for user or group 0 and for -1, which to the kernel
// means "unchanged"; FailedPrecondition if the process has more than one
// thread; PermissionDenied (EPERM) without the privilege, naming the call;
// Internal if root can be regained all the same. After an error the process may
// be half of one user and half of another: let it end.
//
// Threads: call it with one, because no_new_privileges is the thread's.
// Signals: none. Fork: a child has its parent's credentials, and exec keeps
// them.
//
// Rests on: credentials(7), capabilities(7), setresuid(2), setgroups(2),
// chroot(2), PR_SET_NO_NEW_PRIVS in prctl(2).
#ifndef BROOD_PROC_PRIVILEGES_H_
#define BROOD_PROC_PRIVILEGES_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace brood {

// Who a process is. All three or none: a process that changed its user only
// would keep root's groups.
struct Credentials {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups = {};  // The supplementary ones.

  friend bool operator==(const Credentials&, const Credentials&) = default;
};

struct PrivilegeDrop {
  // The directory that becomes "/", and the current one. Only with `run_as`.
  std::optional<std::string> chroot = std::nullopt;
  std::optional<Credentials> run_as = std::nullopt;
  // No program that is executed from here on gains anything by set-user-ID,
  // set-group-ID or file capabilities.
  bool no_new_privileges = false;
};

absl::Status DropPrivileges(const PrivilegeDrop& drop);

// InvalidArgument if `credentials` name an id that is no id, which to the
// kernel means "unchanged".
absl::Status CheckCredentials(const Credentials& credentials);

}  // namespace brood

#endif  // BROOD_PROC_PRIVILEGES_H_
