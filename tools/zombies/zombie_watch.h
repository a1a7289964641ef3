// SPDX-License-Identifier: Apache-2.0
//
// A ZombieWatch finds the zombies in snapshots of all processes, and knows of
// each since when it has been seen.
//
//   ZombieReport SecondLook(const Snapshot& first, const Snapshot& second) {
//     ZombieWatch watch({.min_age = absl::Seconds(1)});
//     (void)watch.Look(first);
//     return *watch.Look(second);  // Those that were zombies for a second.
//   }
//
// Since when a zombie has been one nobody knows: the kernel keeps only when it
// started. What is known is since when it was seen to be one, and that is how
// old it is at least. So an age above zero takes two looks.
//
// What it is not: a look itself (see snapshot.h).
//
// A process whose first thread has ended while others run on has the state of a
// zombie, and is none: it is reported apart.
//
// Errors: NotFound if the process below which zombies are sought is not there.
//
// Threads, signals, fork: a value.
#ifndef BROOD_TOOLS_ZOMBIES_ZOMBIE_WATCH_H_
#define BROOD_TOOLS_ZOMBIES_ZOMBIE_WATCH_H_

#include <sys/types.h>

#include <cstddef>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/proc/process_table.h"
#include "brood/tools/zombies/snapshot.h"

namespace brood {

struct FoundZombie {
  Process process = {};
  // It has been a zombie at least for so long.
  absl::Duration age = {};
};

struct ZombieParent {
  pid_t pid = 0;  // 0: outside of this pid namespace.
  // Not of one that is hidden, or that has ended meanwhile.
  std::optional<Process> process = std::nullopt;
  std::optional<SignalState> signals = std::nullopt;
  std::vector<FoundZombie> zombies = {};  // By pid; never empty.
};

struct ZombieReport {
  std::vector<ZombieParent> parents = {};  // By pid.
  size_t zombies = 0;                      // Of all parents together.
  size_t young = 0;                        // Not old enough, and not reported.
  // Their first thread has ended and others have not.
  std::vector<Process> headless = {};
  // Parents of the parents, and theirs.
  std::vector<Process> ancestors = {};
  size_t processes = 0;  // Among how many they were sought.
  bool some_hidden = false;
  absl::Duration now = {};  // For the ages of others.
  absl::Time time = absl::UnixEpoch();
};

class ZombieWatch {
 public:
  struct Options {
    absl::Duration min_age = absl::ZeroDuration();
    // Only its descendants.
    std::optional<pid_t> below = std::nullopt;
  };

  explicit ZombieWatch(const Options& options) : options_(options) {}

  absl::StatusOr<ZombieReport> Look(const Snapshot& snapshot);

 private:
  // A pid is used again; with the start it means one process.
  using Identity = std::pair<pid_t, absl::Duration>;

  Options options_;
  std::map<Identity, absl::Duration> first_seen_;
};

}  // namespace brood

#endif  // BROOD_TOOLS_ZOMBIES_ZOMBIE_WATCH_H_
