// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/pidfd.h"

#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

namespace brood {

int PidfdOpen(pid_t pid) {
  return static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
}

int PidfdSendSignal(int pidfd, int signo, unsigned flags) {
  return static_cast<int>(
      syscall(SYS_pidfd_send_signal, pidfd, signo, nullptr, flags));
}

int PidfdGetInfo(int pidfd, PidfdInfo& info) {
  // <linux/pidfd.h> has this number and the record, where it is new enough.
  return ioctl(pidfd, _IOWR(0xff, 11, PidfdInfo), &info);
}

}  // namespace brood
