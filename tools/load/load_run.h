// SPDX-License-Identifier: Apache-2.0
//
// RunLoad makes the connections of a LoadPlan and says what became of them.
//
//   absl::StatusOr<absl::Duration> WaitOfTheUnluckiest(const LoadPlan& plan) {
//     const absl::StatusOr<LoadResult> result =
//         RunLoad(plan, [](const LoadProgress& progress) {
//           return progress.failed == 0;  // Or stop.
//         });
//     if (!result.ok()) return result.status();
//     return result->connection.max();
//   }
//
// What it is not: a client library. It speaks to servers that echo, discard or
// only accept, and it wants to know how they do under load.
//
// With a rate the moment at which each connection is due is fixed beforehand:
// number i is due i/rate seconds after the start, whatever becomes of those
// before it. Its latency counts from then: also if the generator was late, and
// also if all that may be open at once were open and it had to wait for one of
// them to be over. So a server that stands still for a second is seen by all
// who would have come in that second, and not by one (no coordinated omission).
// Who was due and did not even begin within the plan's duration is a failure of
// its own, LoadFailure::kNotBegun. Without a rate a connection is due when
// there is room for it, which measures how fast a server is and not how long
// clients wait that come by themselves.
//
// Every byte of an answer is compared with what was sent. The client closes
// first, so the port of each connection is taken for a while (TIME_WAIT):
// LoadFailure::kNoRoom says that there was none left, and more addresses in
// LoadPlan::from help.
//
// Once the duration is over, who is connected finishes the message underway,
// which the timeout bounds.
//
// After a thousand failures and not one whole connection a run gives up.
//
// Errors: InvalidArgument from CheckPlan(); FailedPrecondition if a source is
// no address of this machine; what epoll(7), timerfd_create(2) and, for more
// than one process, fork(2) and pipe(2) say. What befalls a connection is no
// error but part of the result.
//
// Threads: one. Signals: SIGPIPE is never raised. Fork: RunLoadInProcesses()
// forks (proc/fork.h), and all its children have ended when it is back.
// Rests on: load_engine.h.
#ifndef BROOD_TOOLS_LOAD_LOAD_RUN_H_
#define BROOD_TOOLS_LOAD_LOAD_RUN_H_

#include <cstddef>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "brood/tools/load/load_plan.h"
#include "brood/tools/load/load_result.h"

namespace brood {

// Blocks until every connection is over. Calls `watch` about every tenth of a
// second; once that returns false, those that are open are abandoned.
absl::StatusOr<LoadResult> RunLoad(
    const LoadPlan& plan, absl::FunctionRef<bool(const LoadProgress&)> watch);

// The same in so many processes, each with its share of the plan, so that one
// processor is not the limit; what they measured is merged. No more processes
// than may be open at once.
absl::StatusOr<LoadResult> RunLoadInProcesses(
    const LoadPlan& plan, size_t processes,
    absl::FunctionRef<bool(const LoadProgress&)> watch);

}  // namespace brood

#endif  // BROOD_TOOLS_LOAD_LOAD_RUN_H_
