// SPDX-License-Identifier: Apache-2.0
//
// A Snapshot is what /proc says of all processes, and of what the parents of
// zombies do about SIGCHLD, read once.
//
//   absl::StatusOr<size_t> CountProcesses() {
//     const absl::StatusOr<Snapshot> snapshot = TakeSnapshot(ProcessTable());
//     if (!snapshot.ok()) return snapshot.status();
//     return snapshot->processes.size();
//   }
//
// What it is not: a moment. Processes come and go between `begun` and `ended`.
//
// Errors: what ProcessTable says. PermissionDenied where /proc is mounted with
// hidepid=1: then other users' processes are there, but may not be read.
//
// Threads, signals, fork: a value, and a function that reads files.
// Rests on: proc(5).
#ifndef BROOD_TOOLS_ZOMBIES_SNAPSHOT_H_
#define BROOD_TOOLS_ZOMBIES_SNAPSHOT_H_

#include <sys/types.h>

#include <map>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/proc/process_table.h"

namespace brood {

struct Snapshot {
  std::vector<Process> processes = {};  // By pid.
  // Of each parent of a zombie; not of one that may not be read, or has gone.
  std::map<pid_t, SignalState> signals = {};
  // Other users' processes are not listed (hidepid=2).
  bool some_hidden = false;
  // When it was read, since the machine booted, as Process::start.
  absl::Duration begun = {};
  absl::Duration ended = {};
  absl::Time time = absl::UnixEpoch();  // The same, for people.
};

absl::StatusOr<Snapshot> TakeSnapshot(const ProcessTable& table);

}  // namespace brood

#endif  // BROOD_TOOLS_ZOMBIES_SNAPSHOT_H_
