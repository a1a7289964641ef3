// SPDX-License-Identifier: Apache-2.0
//
// An IdleCrowd is many connections that a server holds and that say nothing.
//
//   absl::StatusOr<size_t> HowManyItHolds(const LoadPlan& plan) {
//     const absl::StatusOr<IdleCrowd> crowd = IdleCrowd::Gather(plan);
//     if (!crowd.ok()) return crowd.status();
//     // ... measure the server ...
//     return crowd->StillConnected();
//   }
//
// What it is not: a queue before the door. Each has said its messages, and has
// had its answers, before it fell silent, so that the server has let it in.
//
// Ownership: it owns the connections; the destructor closes them.
//
// Errors: Gather: as RunLoad() of load_run.h, and Unavailable if not all
// connections were whole: it says how many, and what happened to the first.
//
// Threads: one at a time. Signals: none. Fork: a copy keeps all connections
// open.
#ifndef BROOD_TOOLS_LOAD_IDLE_CROWD_H_
#define BROOD_TOOLS_LOAD_IDLE_CROWD_H_

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "brood/proc/unique_fd.h"
#include "brood/tools/load/load_plan.h"

namespace brood {

class IdleCrowd {
 public:
  // Blocks until all of plan.connections are connected; plan.concurrency is how
  // many come in at once, and its duration, if any, is the most this may take.
  // Once `go_on` is false it is Unavailable, too.
  static absl::StatusOr<IdleCrowd> Gather(
      const LoadPlan& plan,
      absl::FunctionRef<bool()> go_on = [] { return true; });

  // How many have come.
  size_t size() const { return connections_.size(); }
  // How many the server has not sent away since, and not said a word to.
  absl::StatusOr<size_t> StillConnected() const;

 private:
  explicit IdleCrowd(std::vector<UniqueFd> connections)
      : connections_(std::move(connections)) {}

  std::vector<UniqueFd> connections_;
};

}  // namespace brood

#endif  // BROOD_TOOLS_LOAD_IDLE_CROWD_H_
