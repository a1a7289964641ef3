// SPDX-License-Identifier: Apache-2.0
#include "brood/tests/own_network.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "brood/proc/unique_fd.h"
#include "brood/tests/in_child.h"

namespace brood {
namespace {

bool WriteFile(const char* path, std::string_view text) {
  const UniqueFd file(open(path, O_WRONLY | O_CLOEXEC));
  return write(file.get(), text.data(), text.size()) ==
         static_cast<ssize_t>(text.size());
}

bool BringLoopbackUp() {
  const UniqueFd socket_of_any_kind(
      socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request = {};
  std::memcpy(request.ifr_name, "lo", sizeof("lo"));
  request.ifr_flags = IFF_UP;
  return ioctl(socket_of_any_kind.get(), SIOCSIFFLAGS, &request) == 0;
}

int Enter() {
  if (unshare(CLONE_NEWNET) == -1) {
    // Not root: then as root of a user namespace.
    const uid_t user = geteuid();
    const gid_t group = getegid();
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) == -1) return errno;
    if (!WriteFile("/proc/self/setgroups", "deny") ||
        !WriteFile("/proc/self/uid_map", absl::StrCat("0 ", user, " 1")) ||
        !WriteFile("/proc/self/gid_map", absl::StrCat("0 ", group, " 1"))) {
      return errno;
    }
  }
  return BringLoopbackUp() ? 0 : errno;
}

}  // namespace

int EnterOwnNetwork() {
  // A part of it cannot be undone, so somebody else tries first.
  if (const int error = InChild(Enter); error != 0) return error;
  return Enter();
}

}  // namespace brood
