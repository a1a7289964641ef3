// SPDX-License-Identifier: Apache-2.0
//
// A ProcessTable reads from /proc which processes there are, whose they are,
// and which are zombies that their parent has not reaped.
//
//   absl::StatusOr<std::string> WhoLeavesZombies() {
//     absl::StatusOr<std::vector<ZombieFamily>> families =
//         ProcessTable().Zombies();
//     if (!families.ok()) return families.status();
//     std::string report;
//     for (const ZombieFamily& family : *families) {
//       absl::StrAppend(&report, family.parent_pid, " owes ",
//                       family.zombies.size(), " waits");
//       if (family.signals.has_value() && family.signals->blocks(SIGCHLD)) {
//         absl::StrAppend(&report, " and blocks SIGCHLD");
//       }
//     }
//     return report;
//   }
//
// What it is not: a right to do anything to a process. A pid read here may be
// another process's by the time it is used; what is to be signalled or waited
// for is a Child (see child.h). Nor is it a moment: processes come and go while
// the list is read, and one that was listed may be gone. What was gone when its
// turn came is left out and is no error.
//
// What /proc does not tell: since when a zombie has been one, for only the
// start is kept; and whether its parent has set SA_NOCLDWAIT, which is a flag
// and not a disposition. A parent that ignores SIGCHLD leaves no zombies of
// those that ended since. Where /proc is mounted with hidepid= other users'
// processes are not there at all.
//
// Ownership: values; nothing is kept open.
//
// Errors: NotFound for a process that is not there, or no longer; DataLoss for
// text that no kernel writes; else what open(2) says of /proc.
//
// Cost: one open, read and close for each process listed; nothing is quadratic.
//
// Threads: safe. Signals: none used. Fork: no state.
// Rests on: proc(5): /proc/PID/stat, /proc/PID/status and, where the kernel has
// CONFIG_PROC_CHILDREN, /proc/PID/task/TID/children.
#ifndef BROOD_PROC_PROCESS_TABLE_H_
#define BROOD_PROC_PROCESS_TABLE_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace brood {

// As proc(5) has them; a letter that it adds is kept as it came.
enum class ProcessState : char {
  kRunning = 'R',
  kSleeping = 'S',
  kDiskSleep = 'D',
  kStopped = 'T',
  kTraced = 't',
  kZombie = 'Z',
  kDead = 'X',
  kIdle = 'I',
  kParked = 'P',
};

// How long the machine has been up, by the clock in which /proc tells when a
// process has started.
absl::Duration SinceBoot();

struct Process {
  // From the one line of /proc/PID/stat.
  static absl::StatusOr<Process> Parse(std::string_view stat);

  // Has ended and waits to be reaped. A process whose first thread has ended
  // while others run has that state too, and cannot be reaped: it is none.
  bool zombie() const {
    return state == ProcessState::kZombie && thread_count <= 1;
  }
  // How long ago it started.
  absl::Duration Age() const;
  // A pid is used again; with the start it means one process.
  bool SameAs(const Process& other) const {
    return pid == other.pid && start == other.start;
  }

  pid_t pid = 0;
  pid_t parent_pid = 0;  // 0: outside of this /proc's pid namespace, or none.
  pid_t process_group = 0;
  pid_t session = 0;
  ProcessState state = ProcessState::kSleeping;
  // What prctl(PR_SET_NAME) or execve left, cut to 15 bytes; any byte but NUL
  // may be in it, a parenthesis and a newline too.
  std::string name = {};
  absl::Duration start = {};  // Since the machine booted.
  absl::Duration user_time = {};
  absl::Duration system_time = {};
  int64_t resident_bytes = 0;
  int64_t thread_count = 0;
  // What its parent will be sent: SIGCHLD, but for a child made by clone(2)
  // with another signal or none.
  int exit_signal = 0;
  // How a zombie ended, for ExitStatus::FromWaitStatus(). 0 also where the
  // kernel does not let the caller know.
  int wait_status = 0;
};

// What a process does about signals.
struct SignalState {
  // From the lines of /proc/PID/status.
  static absl::StatusOr<SignalState> Parse(std::string_view status);

  bool ignores(int signo) const { return Has(ignored, signo); }
  bool handles(int signo) const { return Has(handled, signo); }
  // Of the first thread; others have masks of their own.
  bool blocks(int signo) const { return Has(blocked, signo); }
  // Was sent, to the process or its first thread, and not taken.
  bool awaits(int signo) const { return Has(pending, signo); }

  // Bit signo - 1, as in the kernel.
  uint64_t ignored = 0;
  uint64_t handled = 0;
  uint64_t blocked = 0;
  uint64_t pending = 0;

 private:
  static bool Has(uint64_t set, int signo) {
    return signo >= 1 && signo <= 64 && ((set >> (signo - 1)) & 1) != 0;
  }
};

// A parent and the children it has not reaped.
struct ZombieFamily {
  pid_t parent_pid = 0;
  // Neither is known of a parent that is hidden, or outside of the namespace.
  std::optional<Process> parent = std::nullopt;
  std::optional<SignalState> signals = std::nullopt;
  std::vector<Process> zombies = {};  // By pid; never empty.
};

class ProcessTable {
 public:
  // `root` is where the proc file system is mounted.
  explicit ProcessTable(std::string root = "/proc") : root_(std::move(root)) {}

  absl::StatusOr<Process> Read(pid_t pid) const;
  absl::StatusOr<SignalState> Signals(pid_t pid) const;
  // All of them, by pid.
  absl::StatusOr<std::vector<Process>> List() const;
  // The children of `pid`, zombies too, in ascending order. One that starts, or
  // is handed down by a parent that ends, while this reads may be missing.
  absl::StatusOr<std::vector<pid_t>> ChildrenOf(pid_t pid) const;
  // All zombies, by parent.
  absl::StatusOr<std::vector<ZombieFamily>> Zombies() const;

 private:
  std::string root_;
};

}  // namespace brood

#endif  // BROOD_PROC_PROCESS_TABLE_H_
