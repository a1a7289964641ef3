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
// In the child, before `body`: every signal disposition is the default, no
// signal is blocked, the parent-death signal is armed, and only the descriptors
// asked for are open. A signal sent to the child meanwhile waits until all that
// is done.
//
// Ownership: the Child returned owns the process; see child.h.
//
// Errors: FailedPrecondition if the process has more than one thread, since the
// copy would hold their locks for ever; ResourceExhausted when there is no room
// for a process (EAGAIN, ENOMEM come as the errno's own code) or no descriptor
// for its pidfd. After an error there is no child, no zombie, and the mask is
// as before.
//
// Threads: call it with one. Signals: all are blocked in the caller for the
// length of the call. Fork: yes. Rests on: fork(2), pidfd_open(2),
// close_range(2) (Linux 5.9), PR_SET_PDEATHSIG in prctl(2).
#ifndef BROOD_PROC_FORK_H_
#define BROOD_PROC_FORK_H_

#include <optional>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "brood/proc/child.h"

namespace brood {

struct ForkOptions {
  // What the child receives when the thread that called Fork ends, most often
  // because its process does; SIGKILL lets no child survive its parent.
  // Default: nothing. A later change of the child's credentials clears it.
  std::optional<int> parent_death_signal;

  // The descriptors the child keeps beside 0, 1 and 2; every other one is
  // closed in it. Default: it keeps all. A server's child keeps its connection:
  // if it kept the listener too, clients could still connect to a server that
  // has gone.
  std::optional<absl::Span<const int>> keep_fds;
};

// Runs `body` in a child process, which exits with what `body` returns.
absl::StatusOr<Child> Fork(const ForkOptions& options,
                           absl::FunctionRef<int()> body);

}  // namespace brood

#endif  // BROOD_PROC_FORK_H_
