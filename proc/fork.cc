// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/fork.h"

#include <linux/sched.h>
#include <sys/prctl.h>
#include <sys/single_threaded.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "brood/proc/child.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

constexpr int kFirstFdAfterStdio = 3;

// glibc clears its flag when a thread is made and need not set it again, so a
// false answer is only a reason to ask the kernel: a directory's link count is
// its subdirectories plus two, and /proc/self/task has one for each thread.
bool HasOneThread() {
  if (__libc_single_threaded) return true;
  struct stat task;
  return stat("/proc/self/task", &task) == 0 && task.st_nlink == 3;
}

// What CLONE_CLEAR_SIGHAND does, for the way without it.
void ResetHandlers() {
  for (int signo = 1; signo < NSIG; ++signo) {
    struct sigaction action = {};
    (void)sigaction(signo, nullptr, &action);
    if (action.sa_handler == SIG_IGN || action.sa_handler == SIG_DFL) continue;
    action = {};
    action.sa_handler = SIG_DFL;
    (void)sigaction(signo, &action, nullptr);
  }
}

// `keep` is sorted. The kernel walks the table once however many gaps there
// are.
void CloseAllBut(absl::Span<const int> keep) {
  int first = kFirstFdAfterStdio;
  for (int fd : keep) {
    if (fd < first) continue;
    if (fd > first) (void)close_range(first, fd - 1, 0);
    first = fd + 1;
  }
  (void)close_range(first, ~0U, 0);
}

// The child ends as it would have, had the signal been armed a moment earlier.
[[noreturn]] void DieOf(int signo) {
  (void)raise(signo);
  _exit(128 + signo);  // It is one that does not kill, such as SIGCHLD.
}

// noexcept: an exception must not unwind into the parent's frames, copied here.
[[noreturn]] void RunChild(const ForkOptions& options,
                           absl::Span<const int> keep_fds, pid_t parent,
                           absl::FunctionRef<int()> body) noexcept {
  if (options.new_process_group) (void)setpgid(0, 0);
  if (options.keep_fds.has_value()) CloseAllBut(keep_fds);
  if (options.parent_death_signal.has_value()) {
    (void)prctl(PR_SET_PDEATHSIG, *options.parent_death_signal);
  }
  sigset_t none;
  sigemptyset(&none);
  (void)sigprocmask(SIG_SETMASK, &none, nullptr);
  // The kernel does not look back: a parent that died before the prctl sends
  // nothing. So look, after arming, whether it is still the one that forked.
  if (options.parent_death_signal.has_value() && getppid() != parent) {
    DieOf(*options.parent_death_signal);
  }
  _exit(body());
}

// What the kernel and glibc keep for each thread and a bare clone3 would not
// carry over: glibc's fork does the same two things.
struct ThreadState {
  // Where glibc keeps the thread's id; without it, mutexes that record their
  // owner would record the parent. nullptr where the kernel does not tell
  // (CONFIG_CHECKPOINT_RESTORE).
  void* tid_address = nullptr;
  // The list by which the kernel releases robust mutexes when the thread dies.
  void* robust_list = nullptr;
  size_t robust_list_size = 0;

  static ThreadState OfCaller() {
    ThreadState state;
    (void)prctl(PR_GET_TID_ADDRESS, &state.tid_address);
    (void)syscall(SYS_get_robust_list, 0, &state.robust_list,
                  &state.robust_list_size);
    return state;
  }
};

// fork(2), but the pidfd comes with the child or there is no child: to open it
// afterwards could fail, when the child may already have done half of its work.
// -1 with errno ENOSYS if this kernel, or a filter before it, will not.
pid_t CloneWithPidfd(UniqueFd& pidfd) {
  const ThreadState thread = ThreadState::OfCaller();
  if (thread.tid_address == nullptr) {
    errno = ENOSYS;
    return -1;
  }
  int fd = -1;
  clone_args args = {};
  args.flags = CLONE_PIDFD | CLONE_CLEAR_SIGHAND | CLONE_CHILD_SETTID |
               CLONE_CHILD_CLEARTID;
  args.pidfd = reinterpret_cast<uintptr_t>(&fd);
  args.child_tid = reinterpret_cast<uintptr_t>(thread.tid_address);
  args.exit_signal = SIGCHLD;
  const pid_t pid =
      static_cast<pid_t>(syscall(SYS_clone3, &args, sizeof(args)));
  if (pid == 0) {
    (void)syscall(SYS_set_robust_list, thread.robust_list,
                  thread.robust_list_size);
  } else if (pid > 0) {
    pidfd = UniqueFd(fd);
  } else if (errno == EPERM || errno == EINVAL) {
    errno = ENOSYS;
  }
  return pid;
}

}  // namespace

absl::StatusOr<Child> Fork(const ForkOptions& options,
                           absl::FunctionRef<int()> body) {
  if (!HasOneThread()) {
    return absl::FailedPreconditionError(
        "fork: the process has more than one thread, and the child would have "
        "their locks without the threads that could release them");
  }
  // Everything that allocates comes before the fork.
  std::vector<int> keep_fds;
  if (options.keep_fds.has_value()) {
    keep_fds.assign(options.keep_fds->begin(), options.keep_fds->end());
    std::sort(keep_fds.begin(), keep_fds.end());
  }
  const pid_t parent = getpid();

  // A handler of the parent's must not run in the child before the dispositions
  // are reset: it would act on the parent's descriptors.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  (void)sigprocmask(SIG_SETMASK, &all, &before);
  UniqueFd pidfd;
  pid_t pid = CloneWithPidfd(pidfd);
  if (pid == -1 && errno == ENOSYS) {
    pid = fork();
    if (pid == 0) ResetHandlers();
  }
  if (pid == 0) RunChild(options, keep_fds, parent, body);
  const int fork_errno = errno;
  (void)sigprocmask(SIG_SETMASK, &before, nullptr);
  if (pid == -1) return ErrnoStatus(fork_errno, "fork");
  if (pidfd.valid()) return Child(pid, std::move(pidfd));

  absl::StatusOr<Child> child = Child::Adopt(pid);
  if (!child.ok()) {
    // Nobody has waited for it, so the number is still its own.
    (void)kill(pid, SIGKILL);
    (void)RetryOnEintr([&] { return waitpid(pid, nullptr, 0); });
  }
  return child;
}

}  // namespace brood
