// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/fork.h"

#include <sys/prctl.h>
#include <sys/single_threaded.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "brood/proc/child.h"
#include "brood/proc/posix.h"

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

void ResetDispositions() {
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  for (int signo = 1; signo < NSIG; ++signo) {
    (void)sigaction(signo, &action, nullptr);  // KILL, STOP, 32, 33: EINVAL.
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
  ResetDispositions();
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

}  // namespace

absl::StatusOr<Child> Fork(const ForkOptions& options,
                           absl::FunctionRef<int()> body) {
  if (!HasOneThread()) {
    return absl::FailedPreconditionError(
        "fork: the process has more than one thread, and the child would "
        "inherit "
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
  const pid_t pid = fork();
  if (pid == 0) RunChild(options, keep_fds, parent, body);
  const int fork_errno = errno;
  (void)sigprocmask(SIG_SETMASK, &before, nullptr);
  if (pid == -1) return ErrnoStatus(fork_errno, "fork");

  absl::StatusOr<Child> child = Child::Adopt(pid);
  if (!child.ok()) {
    // Nobody has waited for it, so the number is still its own.
    (void)kill(pid, SIGKILL);
    (void)RetryOnEintr([&] { return waitpid(pid, nullptr, 0); });
  }
  return child;
}

}  // namespace brood
