// SPDX-License-Identifier: Apache-2.0
//
// A Child is the right to signal and the duty to reap exactly one process.
//
//   absl::StatusOr<ExitStatus> RunFor(absl::Duration limit, Child child) {
//     absl::StatusOr<std::optional<ExitStatus>> status =
//         child.WaitUntil(absl::Now() + limit);
//     if (!status.ok()) return status.status();
//     if (status->has_value()) return **status;
//     if (absl::Status s = child.Signal(SIGKILL); !s.ok()) return s;
//     return child.Wait();
//   }
//
// What it is not: a pid. A pid is a number that the kernel hands to the next
// process once this one has been reaped; a Child goes on meaning the same
// process. Nor is it for many children at once: see reaper.h.
//
// Readiness: fd() is a pidfd; it polls readable once the process has ended, and
// stays so. It never reports a stopped or a continued child.
//
// Ownership: whoever holds the Child owes the kernel one wait, and nobody else
// may wait for that pid. Destroying a Child that has not been reaped kills it
// with SIGKILL and reaps it, so that neither a process nor a zombie outlives
// its owner by accident. To let go without killing, say so:
// std::move(child).Release().
//
// Errors: a process that somebody else has reaped is ExitStatus::Lost(), a
// value, because it has ended all the same. Signalling one that has ended is
// NotFound. Any call in a forked copy of the owner is FailedPrecondition: a
// process can wait for its own children only.
//
// Threads: one at a time. Signals: none is used, none needs to be blocked, and
// SIGCHLD may do what it likes, but if it is ignored statuses come out as
// Lost(). Fork: a copy in the child process neither kills nor reaps; it only
// closes. Rests on: pidfd_open(2), pidfd_send_signal(2), waitid(2) with P_PIDFD
// (Linux 5.4).
#ifndef BROOD_PROC_CHILD_H_
#define BROOD_PROC_CHILD_H_

#include <sys/types.h>

#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/unique_fd.h"

namespace brood {

class Child {
 public:
  // Takes charge of `pid`, a child of this process that nobody has waited for
  // and nobody else will. On error the child is still the caller's.
  static absl::StatusOr<Child> Adopt(pid_t pid);

  // Takes charge of a child whose pidfd there is already, as clone3(2) returns
  // it. REQUIRES: `pidfd` refers to `pid`, which is as Adopt() wants it.
  Child(pid_t pid, UniqueFd pidfd);

  Child(Child&&) noexcept = default;
  Child& operator=(Child&& other) noexcept;
  ~Child();

  pid_t pid() const { return pid_; }
  // Borrowed; -1 after Release().
  int fd() const { return pidfd_.get(); }

  // Says how the process ended, or nullopt while it has not. Never blocks: this
  // is waitpid(pid, &status, WNOHANG). Asked again, it answers the same.
  absl::StatusOr<std::optional<ExitStatus>> TryWait();
  // Blocks until the process has ended.
  absl::StatusOr<ExitStatus> Wait();
  // Blocks until the process has ended, but not beyond `deadline`: then
  // nullopt.
  absl::StatusOr<std::optional<ExitStatus>> WaitUntil(absl::Time deadline);

  // Sends `signo` to this process and no other.
  absl::Status Signal(int signo);

  // Gives up both the right and the duty. The caller must wait for the pid.
  [[nodiscard]] pid_t Release() &&;

 private:
  // What is owed has been neither paid nor given away, and is ours to pay.
  bool OwesWait() const;
  absl::StatusOr<std::optional<ExitStatus>> WaitWithOptions(int options);
  void KillAndReap();

  pid_t pid_;
  pid_t owner_;
  UniqueFd pidfd_;
  std::optional<ExitStatus> status_;
};

}  // namespace brood

#endif  // BROOD_PROC_CHILD_H_
