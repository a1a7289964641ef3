// SPDX-License-Identifier: Apache-2.0
//
// A signal that is sent to the process goes to any thread that does not block
// it. Who that could be, and why nobody comes, can be asked.
//
//   absl::Status Reachable(int signo) {
//     const absl::StatusOr<SignalOutlook> outlook = WhoWouldTake(signo);
//     if (!outlook.ok()) return outlook.status();
//     if (outlook->disposition == Disposition::kIgnored) {
//       return absl::FailedPreconditionError("ignored");
//     }
//     if (outlook->takers.empty()) {
//       return absl::FailedPreconditionError("blocked in every thread");
//     }
//     return absl::OkStatus();
//   }
//
// What it is not: a promise. A mask is its thread's, and may change as soon as
// it has been read; a thread that is just being made blocks everything.
//
// Errors: InvalidArgument for what is no signal; FailedPrecondition from a
// check, naming the signals and, where it matters, the threads; else what
// reading /proc/self/task says.
//
// Threads: from any. Signals: not async-signal-safe. Fork: no state.
// Rests on: SigBlk in /proc/self/task/*/status, proc(5).
#ifndef BROOD_SIGNAL_DIAGNOSIS_H_
#define BROOD_SIGNAL_DIAGNOSIS_H_

#include <sys/types.h>

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brood/signal/action.h"
#include "brood/signal/signal_set.h"

namespace brood {

struct SignalOutlook {
  Disposition disposition = Disposition::kDefault;
  // The living threads that do not block it, by thread id, in ascending order.
  std::vector<pid_t> takers = {};
};

absl::StatusOr<SignalOutlook> WhoWouldTake(int signo);

// The signals that every living thread blocks: nobody takes them but a SignalFd
// or sigwait(3).
absl::StatusOr<SignalSet> BlockedEverywhere();

// What a handler needs: FailedPrecondition, naming them, if some of `signals`
// are blocked in every thread.
absl::Status CheckSomeThreadTakes(const SignalSet& signals);

// What a SignalFd needs: FailedPrecondition, naming signals and threads, if
// some thread does not block some of `signals` and may take them away.
absl::Status CheckNoThreadTakes(const SignalSet& signals);

}  // namespace brood

#endif  // BROOD_SIGNAL_DIAGNOSIS_H_
