// SPDX-License-Identifier: Apache-2.0
//
// A Limits says how much of some resources a process may use.
//
//   absl::StatusOr<Limits> LimitsOfAWorker(std::string_view flag) {
//     absl::StatusOr<Limits> limits = Limits::Parse(flag);  // "CPU=10:20"
//     if (!limits.ok()) return limits.status();  // Names what is no limit.
//     const absl::Status no_core = limits->Set({RLIMIT_CORE, 0, 0});
//     if (!no_core.ok()) return no_core;
//     return limits;  // For SpawnOptions, or limits->Apply() in a child.
//   }
//
// What it is not: all limits there are. A resource that is not named keeps the
// limit that it has. Nor is it a limit on a group of processes: each process
// may use as much, but for RLIMIT_NPROC, which counts all processes of a user.
// For a group take a cgroup.
//
// Errors: InvalidArgument for an unknown resource, for a soft limit above the
// hard one, and for text that is no limit. Apply: PermissionDenied (EPERM) for
// raising a hard limit without CAP_SYS_RESOURCE; those before it in the list
// are then in force.
//
// Threads: a value; what Apply() changes is the process's. Signals: none.
// Fork: the child has the limits of its parent, and exec keeps them.
// Rests on: getrlimit(2), prlimit(1) for the text.
#ifndef BROOD_PROC_LIMITS_H_
#define BROOD_PROC_LIMITS_H_

#include <sys/resource.h>

#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace brood {

struct Limit {
  int resource = -1;            // RLIMIT_NOFILE, ...
  rlim_t soft = RLIM_INFINITY;  // What is enforced.
  rlim_t hard = RLIM_INFINITY;  // How far the process itself may raise it.

  // "NOFILE=1024:4096"; one number if both are equal; "unlimited".
  std::string ToString() const;

  friend bool operator==(const Limit&, const Limit&) = default;
};

// "NOFILE" for RLIMIT_NOFILE; "resource 99" for a number that is none.
std::string NameOfResource(int resource);
// Understands, in any case, "NOFILE" and "RLIMIT_NOFILE".
absl::StatusOr<int> ParseResource(std::string_view name);

// What the calling process may use of `resource`.
absl::StatusOr<Limit> CurrentLimit(int resource);

class Limits {
 public:
  Limits() = default;
  // "NOFILE=1024:4096,CORE=0,AS=unlimited": soft and hard, or one for both.
  // Nothing is no limit.
  static absl::StatusOr<Limits> Parse(std::string_view text);

  // Replaces what was said of the same resource.
  absl::Status Set(const Limit& limit);

  const std::vector<Limit>& entries() const { return entries_; }
  std::string ToString() const;

  // Puts them in force for the calling process, in the order they were set.
  absl::Status Apply() const;

  friend bool operator==(const Limits&, const Limits&) = default;
  friend std::ostream& operator<<(std::ostream& os, const Limits& limits) {
    return os << limits.ToString();
  }

 private:
  std::vector<Limit> entries_;
};

}  // namespace brood

#endif  // BROOD_PROC_LIMITS_H_
