// SPDX-License-Identifier: Apache-2.0
//
// Fork runs a function in a child process, and leaves the parent as it was.
//
//   absl::StatusOr<ExitStatus> SumInAChild(absl::Span<const int> numbers) {
//     absl::StatusOr<Child> child = Fork({}, [&] {
//       return std::accumulate(numbers.begin(), numbers.end(), 0);
//     });
//     if (!child.ok()) return child.status();
//     return child->Wait();  // "exited" with the sum, modulo 256.
//   }
//
// What it is not: fork(2), which returns twice. Here only the parent returns;
// the child runs `body` and leaves by _exit(2) with its result, so no
// destructor, no atexit handler and no stdio buffer of the parent's runs a
// second time. A body that writes through stdio therefore flushes before it
// returns, and one that lets an exception escape ends by SIGABRT. Nor is it for
// running programs: a copy of a large parent is dear, and exec throws it away.
//
// In the child, before `body`: signals are as execve(2) leaves them, that is,
// every handler is gone and what was ignored stays ignored; no signal is
// blocked, the parent-death signal is armed, and only the descriptors asked for
// are open. A signal sent to the child meanwhile waits until all that is done.
//
// Nor is the child like those of fork(2) to the rest of the program: as it ends
// it sends no SIGCHLD, and a wait(2) for any child does not see it. So a host
// that reaps in a handler of its own neither hears of it nor takes it, and one
// that ignores SIGCHLD does not lose its status. Only execve(2) makes it like
// all others.
//
// Ownership: the Child returned owns the process; see child.h. It has a pidfd,
// or none if the child was given an exit signal.
//
// Errors: FailedPrecondition if the process has more than one thread, since the
// copy would hold their locks for ever, if exit_signal is not blocked, or if
// what keep_fds names is not open (EBADF); InvalidArgument for an option that
// can be no signal or no descriptor; Unavailable (EAGAIN) or
// ResourceExhausted (ENOMEM) when there is no room for a process;
// ResourceExhausted (EMFILE, ENFILE) when there is no descriptor for its pidfd.
// After an error there is no child, no zombie, the mask is as before, and
// `body` has not run.
//
// Threads: call it with one. Signals: all are blocked in the caller for the
// length of the call. Fork: yes; handlers of pthread_atfork(3) do not run.
// Rests on: clone3(2) with CLONE_PIDFD, CLONE_PARENT, CLONE_PARENT_SETTID and
// CLONE_CLEAR_SIGHAND (Linux 5.5), close_range(2) (Linux 5.9), PR_SET_PDEATHSIG
// and PR_GET_TID_ADDRESS in prctl(2). Where clone3 is missing or forbidden it
// is clone(2). Where that will not do either, it is fork(2) and pidfd_open(2):
// then the child is like all others, and a `body` that has begun may be killed
// when the latter fails.
#ifndef BROOD_PROC_FORK_H_
#define BROOD_PROC_FORK_H_

#include <sys/types.h>

#include <optional>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "brood/proc/child.h"

namespace brood {

struct ForkOptions {
  // The child ends by sending this realtime signal, which waits in a queue for
  // whoever takes it, and costs no descriptor: Reaper::exit_signal(). It must
  // be blocked in the caller. For a `body` that does not call execve(2): after
  // that the kernel sends SIGCHLD instead, and a Reaper finds the end only by
  // looking, within a second among 500 children and later among more.
  std::optional<int> exit_signal = std::nullopt;

  // What the child receives when the thread that called Fork ends, most often
  // because its process does; SIGKILL lets no child survive its parent.
  // Default: nothing. A later change of the child's credentials clears it.
  std::optional<int> parent_death_signal = std::nullopt;

  // The child leads a process group of its own: what is sent to the parent's
  // group, as a terminal does on Ctrl-C, is not sent to the child.
  bool new_process_group = false;

  // The descriptors the child keeps beside 0, 1 and 2; every other one is
  // closed in it. Default: it keeps all. A server's child keeps its connection:
  // if it kept the listener too, clients could still connect to a server that
  // has gone. If all that is kept is below 1024, the fork costs the same with
  // thousands of descriptors as with few.
  std::optional<absl::Span<const int>> keep_fds = std::nullopt;
};

// Runs `body` in a child process, which exits with what `body` returns.
absl::StatusOr<Child> Fork(const ForkOptions& options,
                           absl::FunctionRef<int()> body);

// The same, but the process is a child of the caller's parent, which has to
// wait for it: for a process whose task it is to fork for another. It ends by
// the signal that the caller ends by, its exit_signal if Fork() made it, so
// `options` must have none; and it dies with that parent, not with the caller.
// Nobody else puts it into its process group, so it may not be there yet when
// this returns. The parent takes charge of it by Child(pid, exit_signal). The
// kernel writes its pid to `pid_too` before anybody runs: in memory that the
// parent shares, it is known even if the caller is killed before it can tell.
//
// Unimplemented (ENOSYS) where neither clone3(2) nor clone(2) will do, and for
// the first process of a pid namespace, which has no siblings.
absl::StatusOr<pid_t> ForkSibling(const ForkOptions& options, pid_t& pid_too,
                                  absl::FunctionRef<int()> body);

}  // namespace brood

#endif  // BROOD_PROC_FORK_H_
