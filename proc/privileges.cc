// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/privileges.h"

#include <grp.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/posix.h"
#include "brood/proc/single_threaded.h"

namespace brood {
namespace {

absl::Status Check(const PrivilegeDrop& drop) {
  if (!IsSingleThreaded()) {
    return absl::FailedPreconditionError(
        "drop privileges: the process has more than one thread, and the others "
        "would keep theirs");
  }
  if (!drop.run_as.has_value()) {
    if (drop.chroot.has_value()) {
      return absl::InvalidArgumentError(
          "drop privileges: chroot without run_as: root can leave it");
    }
    return absl::OkStatus();
  }
  if (drop.run_as->uid == 0 || drop.run_as->gid == 0 ||
      std::ranges::count(drop.run_as->groups, gid_t{0}) != 0) {
    return absl::InvalidArgumentError(
        "drop privileges: run_as: user and groups must not be 0, which is "
        "root's");
  }
  return CheckCredentials(*drop.run_as);
}

absl::Status EnterChroot(const std::string& directory) {
  if (directory.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError(
        "drop privileges: chroot: there is a NUL in the path");
  }
  if (chroot(directory.c_str()) == -1) {
    return ErrnoStatus(errno,
                       absl::StrCat("drop privileges: chroot ", directory));
  }
  // A current directory outside is a way out, for root and with "..".
  if (chdir("/") == -1) {
    return ErrnoStatus(errno, "drop privileges: chdir / after chroot");
  }
  return absl::OkStatus();
}

absl::Status Become(const Credentials& user) {
  // The user last: with it goes the privilege to change the groups.
  if (setgroups(user.groups.size(), user.groups.data()) == -1) {
    return ErrnoStatus(errno, "drop privileges: setgroups");
  }
  if (setresgid(user.gid, user.gid, user.gid) == -1) {
    return ErrnoStatus(errno,
                       absl::StrCat("drop privileges: setresgid ", user.gid));
  }
  if (setresuid(user.uid, user.uid, user.uid) == -1) {
    return ErrnoStatus(errno,
                       absl::StrCat("drop privileges: setresuid ", user.uid));
  }
  return absl::OkStatus();
}

// What was asked for is compared with what is, and the way back is tried: it
// stays open to a process that keeps CAP_SETUID, as PR_SET_KEEPCAPS or
// SECBIT_NO_SETUID_FIXUP may have it.
absl::Status VerifyThereIsNoWayBack(const Credentials& user) {
  std::array<uid_t, 3> uids;
  std::array<gid_t, 3> gids;
  const bool as_asked =
      getresuid(&uids[0], &uids[1], &uids[2]) == 0 &&
      getresgid(&gids[0], &gids[1], &gids[2]) == 0 &&
      std::ranges::count(uids, user.uid) == std::ssize(uids) &&
      std::ranges::count(gids, user.gid) == std::ssize(gids);
  if (!as_asked || setresuid(-1, 0, -1) == 0 || setresgid(-1, 0, -1) == 0 ||
      setgroups(user.groups.size(), user.groups.data()) == 0) {
    return absl::InternalError(absl::StrCat("drop privileges: user ", user.uid,
                                            " can still become root"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckCredentials(const Credentials& credentials) {
  if (credentials.uid == static_cast<uid_t>(-1)) {
    return absl::InvalidArgumentError("run_as: uid -1 is no user");
  }
  if (credentials.gid == static_cast<gid_t>(-1) ||
      std::ranges::count(credentials.groups, static_cast<gid_t>(-1)) != 0) {
    return absl::InvalidArgumentError("run_as: gid -1 is no group");
  }
  return absl::OkStatus();
}

absl::Status DropPrivileges(const PrivilegeDrop& drop) {
  if (absl::Status s = Check(drop); !s.ok()) return s;
  if (drop.chroot.has_value()) {  // First, as it takes root.
    if (absl::Status s = EnterChroot(*drop.chroot); !s.ok()) return s;
  }
  if (drop.run_as.has_value()) {
    if (absl::Status s = Become(*drop.run_as); !s.ok()) return s;
    if (absl::Status s = VerifyThereIsNoWayBack(*drop.run_as); !s.ok()) {
      return s;
    }
  }
  if (drop.no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1) {
    return ErrnoStatus(errno, "drop privileges: no_new_privs");
  }
  return absl::OkStatus();
}

}  // namespace brood
