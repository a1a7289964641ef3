// SPDX-License-Identifier: Apache-2.0
#include "brood/tests/deny_syscalls.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "absl/log/check.h"
#include "brood/proc/posix.h"

namespace brood {
namespace {

void Filter(std::initializer_list<long> numbers, uint32_t verdict) {
  std::vector<sock_filter> program;
  program.push_back(
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
  for (const long number : numbers) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
                               static_cast<uint32_t>(number), 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, verdict));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog filter = {.len = static_cast<unsigned short>(program.size()),
                             .filter = program.data()};
  CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  CHECK_EQ(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter), 0)
      << ErrnoStatus(errno, "seccomp");
}

}  // namespace

void DenySyscalls(std::initializer_list<long> numbers, int error) {
  Filter(numbers, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error));
}

void TrapSyscalls(std::initializer_list<long> numbers) {
  Filter(numbers, SECCOMP_RET_KILL_PROCESS);
}

}  // namespace brood
