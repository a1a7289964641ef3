// SPDX-License-Identifier: Apache-2.0
#include "brood/tests/syscall_faults.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <new>
#include <utility>
#include <vector>

#include "absl/log/check.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/fd_passing.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"

namespace brood {

bool SyscallFaults::permitted() {
  uint32_t action = SECCOMP_RET_USER_NOTIF;
  return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

SyscallFaults::SyscallFaults(std::initializer_list<long> numbers)
    : numbers_(numbers) {
  void* const memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED) << ErrnoStatus(errno, "mmap");
  shared_ = new (memory) Shared();
  std::array<int, 2> ends;
  CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  ours_.emplace(UniqueFd(ends[0]), Address());
  theirs_.emplace(UniqueFd(ends[1]), Address());
  absl::StatusOr<Child> judge =
      Fork({.parent_death_signal = SIGKILL}, [this] { return Judge(); });
  CHECK_OK(judge);
  judge_ = *std::move(judge);
}

SyscallFaults::~SyscallFaults() {
  judge_.reset();
  (void)munmap(shared_, sizeof(Shared));
}

void SyscallFaults::Install() {
  std::vector<sock_filter> code;
  code.push_back(
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
  for (const long number : numbers_) {
    code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
                            static_cast<uint32_t>(number), 0, 1));
    code.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF));
  }
  code.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog filter = {.len = static_cast<unsigned short>(code.size()),
                             .filter = code.data()};
  CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  const UniqueFd questions(
      static_cast<int>(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                               SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter)));
  CHECK(questions.valid()) << ErrnoStatus(errno, "seccomp");
  const int fd = questions.get();
  CHECK_OK(SendFds(*theirs_, "x", absl::MakeConstSpan(&fd, 1)));
}

// Until it is killed, or nobody is left who could ask.
int SyscallFaults::Judge() {
  theirs_.reset();
  std::array<char, 1> byte;
  absl::StatusOr<ReceivedFds> got =
      ReceiveFds(*ours_, absl::MakeSpan(byte), /*max_fds=*/1);
  if (!got.ok() || got->fds.size() != 1) return 1;
  const int questions = got->fds[0].get();
  while (true) {
    pollfd ready = {.fd = questions, .events = POLLIN, .revents = 0};
    (void)RetryOnEintr([&] { return poll(&ready, 1, -1); });
    if ((ready.revents & POLLIN) == 0) return 0;
    seccomp_notif question = {};
    // Whoever asked may have been killed meanwhile (ENOENT).
    if (ioctl(questions, SECCOMP_IOCTL_NOTIF_RECV, &question) == -1) continue;
    const int error = shared_->error;
    seccomp_notif_resp answer = {.id = question.id,
                                 .val = 0,
                                 .error = -error,
                                 .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    if (error != 0) answer.flags = 0;
    const int sent = ioctl(questions, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    if (sent == 0 && error != 0) ++shared_->failures;
  }
}

void SyscallFaults::AwaitFailures(int more) const {
  const int enough = failures() + more;
  while (failures() < enough) sched_yield();
}

}  // namespace brood
