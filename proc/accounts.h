// SPDX-License-Identifier: Apache-2.0
//
// The names of users and groups, by the files, and by getent(1) for what is not
// in them. Nothing of a name service is ever loaded into this process.
//
//   absl::Status BecomeOf(const std::string& user, const std::string& group) {
//     absl::StatusOr<Credentials> credentials = LookUpUser(user);
//     if (!credentials.ok()) return credentials.status();
//     const absl::StatusOr<gid_t> gid = LookUpGroup(group);
//     if (!gid.ok()) return gid.status();  // NotFound: no such group.
//     credentials->gid = *gid;
//     return DropPrivileges({.run_as = *credentials});
//   }
//
// What it is not: getpwnam(3). That loads what nsswitch.conf(5) names, which
// in a statically linked program is the shared object of another C library, and
// ends some of them by SIGSEGV; and whatever it loads stays, with its threads,
// descriptors and locks, in a process that is about to fork. Nor is it a list:
// it answers for one name, and remembers nothing.
//
// Who is asked: the files first, whatever the order in nsswitch.conf(5). For
// what is in neither, and for the groups that a user has besides those of the
// file, getent(1), which knows of LDAP, systemd and the like, is run where
// there is one. It is given a time; a group that it cannot tell of is then
// missing, as with getgrouplist(3), but a user or a group that is asked for is
// never taken for one that does not exist because nobody could be asked.
//
// Errors: NotFound, naming the name or the number, if there is none such;
// DeadlineExceeded, Unavailable or what Spawn() says if getent(1) did not
// answer; what open(2) and read(2) say of a file, but for one that is missing,
// which has no names in it.
//
// Threads: safe, as Spawn() is. Signals: SIGCHLD comes of getent(1). Fork: no
// state; not for the child of a program with threads, for it allocates.
// Rests on: passwd(5), group(5), getent(1), fgetpwent_r(3), fgetgrent_r(3).
#ifndef BROOD_PROC_ACCOUNTS_H_
#define BROOD_PROC_ACCOUNTS_H_

#include <sys/types.h>

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/proc/privileges.h"

namespace brood {

// Who knows the names.
struct AccountSources {
  std::string passwd = "/etc/passwd";
  std::string group = "/etc/group";
  // As Spawn() finds a program. Empty: only the files are asked.
  std::string getent = "getent";
  // How long each question to it may take.
  absl::Duration patience = absl::Seconds(10);
};

// What a login of the user called `name` would have. A number is no name.
absl::StatusOr<Credentials> LookUpUser(const std::string& name,
                                       const AccountSources& sources = {});

absl::StatusOr<gid_t> LookUpGroup(const std::string& name,
                                  const AccountSources& sources = {});

// What the user with this number is called.
absl::StatusOr<std::string> NameOfUser(uid_t uid,
                                       const AccountSources& sources = {});

}  // namespace brood

#endif  // BROOD_PROC_ACCOUNTS_H_
