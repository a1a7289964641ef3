// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/zombies/zombie_watch.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/proc/process_table.h"
#include "brood/tools/zombies/snapshot.h"

namespace brood {
namespace {

using ByPid = std::map<pid_t, const Process*>;

// Whether `pid` or one of its ancestors is `top`. What was read of processes
// that came and went meanwhile may name each other as parents: nobody is asked
// twice.
bool IsAtOrBelow(const ByPid& processes, pid_t pid, pid_t top) {
  std::set<pid_t> asked;
  while (pid != top) {
    const auto found = processes.find(pid);
    if (found == processes.end() || !asked.insert(pid).second) return false;
    pid = found->second->parent_pid;
  }
  return true;
}

void AddAncestors(const ByPid& processes, const ZombieParent& parent,
                  std::optional<pid_t> top,
                  std::map<pid_t, Process>& ancestors) {
  if (!parent.process.has_value()) return;
  std::optional<pid_t> pid = parent.process->pid;
  while (pid != top) {
    const auto found = processes.find(*pid);
    if (found == processes.end()) return;
    pid = found->second->parent_pid;
    const auto above = processes.find(*pid);
    if (above == processes.end() ||
        !ancestors.emplace(*pid, *above->second).second) {
      return;
    }
  }
}

}  // namespace

absl::StatusOr<ZombieReport> ZombieWatch::Look(const Snapshot& snapshot) {
  ByPid by_pid;
  for (const Process& process : snapshot.processes) {
    by_pid.emplace(process.pid, &process);
  }
  if (options_.below.has_value() && !by_pid.contains(*options_.below)) {
    return absl::NotFoundError(
        absl::StrCat("there is no process ", *options_.below,
                     snapshot.some_hidden ? ", or it is hidden" : ""));
  }
  ZombieReport report = {.some_hidden = snapshot.some_hidden,
                         .now = snapshot.ended,
                         .time = snapshot.time};
  std::map<pid_t, ZombieParent> parents;
  std::map<Identity, absl::Duration> seen;
  for (const Process& process : snapshot.processes) {
    if (options_.below.has_value() &&
        !IsAtOrBelow(by_pid, process.pid, *options_.below)) {
      continue;
    }
    ++report.processes;
    if (process.state == ProcessState::kZombie && !process.zombie()) {
      report.headless.push_back(process);
    }
    // It itself is nobody's below it.
    if (!process.zombie() || process.pid == options_.below) continue;
    const Identity identity(process.pid, process.start);
    const auto before = first_seen_.find(identity);
    // From the end of one look to the beginning of another, so that it is never
    // more than the truth.
    const absl::Duration first =
        before == first_seen_.end() ? snapshot.ended : before->second;
    seen.emplace(identity, first);
    const absl::Duration age =
        std::max(snapshot.begun - first, absl::ZeroDuration());
    if (age < options_.min_age) {
      ++report.young;
      continue;
    }
    ++report.zombies;
    parents[process.parent_pid].zombies.push_back({process, age});
  }
  first_seen_ = std::move(seen);
  std::map<pid_t, Process> ancestors;
  for (auto& [pid, parent] : parents) {
    parent.pid = pid;
    if (const auto found = by_pid.find(pid); found != by_pid.end()) {
      parent.process = *found->second;
    }
    if (const auto found = snapshot.signals.find(pid);
        found != snapshot.signals.end()) {
      parent.signals = found->second;
    }
    AddAncestors(by_pid, parent, options_.below, ancestors);
    report.parents.push_back(std::move(parent));
  }
  for (auto& [pid, process] : ancestors) {
    report.ancestors.push_back(std::move(process));
  }
  return report;
}

}  // namespace brood
