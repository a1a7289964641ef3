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
// stays so. It never reports a stopped or a continued child. A child that was
// forked with an exit signal (fork.h) has no descriptor, and fd() is -1.
//
// Ownership: whoever holds the Child owes the kernel one wait, and nobody else
// may wait for that pid. There are three ways to let go of it before its end:
//   kill       std::move(child).Drop(deadline), or let the Child be destroyed.
//              It is killed with SIGKILL and reaped, so that neither a process
//              nor a zombie outlives its owner by accident;
//   hand over  give it to a Reaper, which reports its end;
//   leak       std::move(child).Release(): it lives on, and the wait is yours.
// To die takes a moment, and longer when a tracer or a disk holds the process.
// The destructor gives it 100 ms; then it is put aside, and the next child that
// is made or dropped, the next Reaper::Next(), or ReapDropped() reaps it. No
// way blocks for longer.
//
// Errors: signalling a process that has been reaped is NotFound; before that,
// to have ended is no error, and the signal does nothing. PermissionDenied
// (EPERM) for a child that has become another user's: such a one the destructor
// cannot kill either, and it is put aside until it ends. Any call on a child
// that has been given away, or in a forked copy of the owner, is
// FailedPrecondition: a process can wait for its own children only.
//
// If somebody else has reaped the child, a waitpid(-1) of the host or a kernel
// that was told to ignore SIGCHLD, its status is still the true one where the
// kernel tells it afterwards (Linux 6.15), only without what it had used;
// elsewhere it is the value ExitStatus::Lost().
//
// Threads: one at a time. Signals: none is used, none needs to be blocked, and
// SIGCHLD may do what it likes. Fork: a copy in the child process neither kills
// nor reaps; it only closes. Rests on: pidfd_open(2), pidfd_send_signal(2),
// waitid(2) with P_PIDFD and __WALL (Linux 5.4), PIDFD_GET_INFO (Linux 6.13).
#ifndef BROOD_PROC_CHILD_H_
#define BROOD_PROC_CHILD_H_

#include <sys/resource.h>
#include <sys/types.h>

#include <csignal>
#include <cstddef>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/posix.h"
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

  // Takes charge of a child without a descriptor: one that ends by sending
  // `exit_signal` (clone(2)). If that is not SIGCHLD no wait for "any child"
  // can take it, and its pid stays its own, until it calls execve(2): then it
  // is given a descriptor, when that is noticed. REQUIRES: as Adopt(), and that
  // it was made just now.
  Child(pid_t pid, int exit_signal);

  Child(Child&& other) noexcept;
  Child& operator=(Child&& other) noexcept;
  ~Child();

  pid_t pid() const { return pid_; }
  // Borrowed; -1 after Release() and for a child with an exit signal, unless it
  // was found to have called execve(2).
  int fd() const { return pidfd_.get(); }
  // The signal it ends by sending, 0 if it has a descriptor instead.
  int exit_signal() const { return exit_signal_; }
  // When it was given its number here, since boot; of one with an exit signal.
  absl::Duration made() const { return made_; }

  // Says how the process ended, or nullopt while it has not. Never blocks: this
  // is waitpid(pid, &status, WNOHANG). Asked again, it answers the same.
  absl::StatusOr<std::optional<ExitStatus>> TryWait();
  // Blocks until the process has ended.
  absl::StatusOr<ExitStatus> Wait();
  // Blocks until the process has ended, but not beyond `deadline`: then
  // nullopt.
  absl::StatusOr<std::optional<ExitStatus>> WaitUntil(absl::Time deadline);

  // Whether the process has ended, without reaping it: its pid and its process
  // group stay its own.
  absl::StatusOr<bool> HasEnded();
  // Whether this process is its parent and has yet to wait for it, as far as is
  // known here; the kernel is not asked whether somebody else has.
  bool OwesWait() const;

  // Sends `signo` to this process and no other.
  absl::Status Signal(int signo);
  // Sends `signo` to everyone in the process group that this process leads, or
  // led, for a group outlives its leader. Like Signal() until it is reaped.
  absl::Status SignalGroup(int signo);

  // Kills the process and waits for its death, but not beyond `deadline`, and
  // not at all if that is past. It is reaped whenever it dies.
  void Drop(absl::Time deadline) &&;

  // Gives up both the right and the duty. The caller must wait for the pid, and
  // add __WALL to the options if Fork() made it.
  [[nodiscard]] pid_t Release() &&;

 private:
  // What is owed has been neither paid nor given away, and is ours to pay.
  // waitid(2), for this kind of child.
  int Waitid(siginfo_t* info, int options, struct rusage* usage);
  bool RecognizeAfterExec();
  absl::StatusOr<std::optional<ExitStatus>> WaitWithOptions(int options);
  // WaitUntil() where there is no descriptor to be had.
  absl::StatusOr<std::optional<ExitStatus>> LookUntil(const Deadline& deadline);
  void KillAndReap(absl::Time deadline) noexcept;
  void KillAndReapSoon() noexcept;

  pid_t pid_;
  pid_t owner_;  // 0: Release() has given it away.
  UniqueFd pidfd_;
  int exit_signal_ = 0;
  absl::Duration made_ = {};
  std::optional<ExitStatus> status_;
};

// Reaps those children that were dropped while something held them back and
// that have died meanwhile; says how many are still held.
size_t ReapDropped();

}  // namespace brood

#endif  // BROOD_PROC_CHILD_H_
