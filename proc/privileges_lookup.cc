// SPDX-License-Identifier: Apache-2.0
// Apart from privileges.cc, so that a program that asks for no user by name is
// linked without the C library's name service.
#include <grp.h>
#include <pwd.h>
#include <sys/types.h>

#include <cerrno>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/posix.h"
#include "brood/proc/privileges.h"

namespace brood {

absl::StatusOr<Credentials> LookUpUser(const std::string& name) {
  std::vector<char> buffer(1024);
  passwd entry = {};
  passwd* found = nullptr;
  int error;
  while ((error = getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(),
                             &found)) == ERANGE) {
    buffer.resize(buffer.size() * 2);
  }
  if (found == nullptr) {
    // getpwnam(3) lists these, beside 0, as what a name service may answer for
    // "no such user".
    if (error == 0 || error == ENOENT || error == ESRCH || error == EBADF ||
        error == EPERM) {
      return absl::NotFoundError(
          absl::StrCat("user \"", name, "\" does not exist"));
    }
    return ErrnoStatus(error, absl::StrCat("look up user \"", name, "\""));
  }
  Credentials credentials = {.uid = entry.pw_uid, .gid = entry.pw_gid};
  int count = 0;
  (void)getgrouplist(name.c_str(), entry.pw_gid, nullptr, &count);
  do {  // -1: there are more, by now `count`.
    credentials.groups.resize(count);
  } while (getgrouplist(name.c_str(), entry.pw_gid, credentials.groups.data(),
                        &count) == -1);
  credentials.groups.resize(count);
  return credentials;
}

}  // namespace brood
