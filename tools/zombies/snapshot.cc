// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/zombies/snapshot.h"

#include <ctime>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "brood/proc/process_table.h"

namespace brood {
absl::StatusOr<Snapshot> TakeSnapshot(const ProcessTable& table) {
  Snapshot snapshot;
  snapshot.begun = SinceBoot();
  snapshot.time = absl::Now();
  absl::StatusOr<std::vector<Process>> processes = table.List();
  if (!processes.ok()) return processes.status();
  snapshot.processes = *std::move(processes);
  for (const Process& process : snapshot.processes) {
    const pid_t parent = process.parent_pid;
    if (!process.zombie() || snapshot.signals.contains(parent)) continue;
    const absl::StatusOr<SignalState> signals = table.Signals(parent);
    if (signals.ok()) snapshot.signals.emplace(parent, *signals);
  }
  // There is no pid namespace without a PID 1, and it is the user's own only
  // where nothing of others is to be hidden.
  snapshot.some_hidden = absl::c_none_of(
      snapshot.processes, [](const Process& p) { return p.pid == 1; });
  snapshot.ended = SinceBoot();
  return snapshot;
}

}  // namespace brood
