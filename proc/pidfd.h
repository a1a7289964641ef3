// SPDX-License-Identifier: Apache-2.0
//
// What the kernel offers around pidfds and the C library does not, or not yet:
// each system call by its number, with its own result and errno.
//
//   pid_t EndAndReap(pid_t pid) {
//     const UniqueFd pidfd(PidfdOpen(pid));
//     PidfdInfo info = {.mask = kPidfdInfoExit};
//     if (PidfdSendSignal(pidfd.get(), SIGTERM) == -1) return -1;
//     if (waitpid(pid, nullptr, 0) == -1) return -1;
//     return PidfdGetInfo(pidfd.get(), info) == 0 ? pid : -1;
//   }
//
// What it is not: public, or an owner. Child is the one of a process, UniqueFd
// the one of a descriptor.
//
// Errors: -1 and errno, as section 2 of the manual has it. Threads, signals,
// fork: async-signal-safe, each of them.
// Rests on: pidfd_open(2) (Linux 5.3), pidfd_send_signal(2) (Linux 5.1), and
// PIDFD_GET_INFO of ioctl_pidfd(2) (Linux 6.13).
#ifndef BROOD_PROC_PIDFD_H_
#define BROOD_PROC_PIDFD_H_

#include <sys/types.h>

#include <array>
#include <cstdint>

namespace brood {

// A descriptor, close-on-exec.
int PidfdOpen(pid_t pid);

// To the whole process group that the process leads, or led (Linux 6.9). A
// kernel that cannot says EINVAL.
inline constexpr unsigned kPidfdSignalProcessGroup = 1 << 2;

int PidfdSendSignal(int pidfd, int signo, unsigned flags = 0);

// The part of struct pidfd_info that was there first, in Linux 6.13.
struct PidfdInfo {
  uint64_t mask = 0;  // In: what is wanted. Out: what there is.
  uint64_t cgroup_id = 0;
  std::array<uint32_t, 11> ids = {};
  int32_t exit_code = 0;  // As wait(2) has it.
};
static_assert(sizeof(PidfdInfo) == 64);

// The exit code, of a process that has been reaped (Linux 6.15). Without this
// bit in what comes back the code reads 0 and means nothing.
inline constexpr uint64_t kPidfdInfoExit = 1 << 3;

// ENOTTY before Linux 6.13; of one that has been reaped, ESRCH before 6.15.
int PidfdGetInfo(int pidfd, PidfdInfo& info);

}  // namespace brood

#endif  // BROOD_PROC_PIDFD_H_
