// SPDX-License-Identifier: Apache-2.0
//
// Spawn runs a program in a child process. OK means that the program runs.
//
//   absl::StatusOr<ExitStatus> Sort(int in, int out) {
//     absl::StatusOr<Child> sort =
//         Spawn({"sort", "-n"}, {.fds = {{.child = 0, .parent = in},
//                                        {.child = 1, .parent = out}}});
//     if (!sort.ok()) return sort.status();  // It has not run, and why.
//     return sort->Wait();
//   }
//
// What it is not: a shell. Nothing is expanded, and a script without "#!" is
// not executed (ENOEXEC). Nor is it fork(2): nothing is copied, so it costs the
// same in a parent of 10 GB as in one of 1 MB, it may be called with threads,
// and no code of the caller's runs in the child; for that see fork.h.
//
// The program starts with every signal at its default, also those the parent
// ignores, none blocked, and only the descriptors it is given: nothing leaks
// into it, whatever other threads open meanwhile, close-on-exec or not.
//
// Which program: argv[0], or `program`. With a slash it is a path. Without, it
// is looked for in the directories of this process's PATH, by the child and
// with its rights, as execvp(3) does, but for relative directories, which are
// skipped: what a name means must not depend on where one stands. For the same
// reason a relative path and `cwd` do not go together.
//
// Ownership: the Child returned owns the process; see child.h. Descriptors are
// borrowed, and must stay open for the length of the call.
//
// Errors: InvalidArgument for what no kernel would take, naming the argument.
// Else what failed in the child, with its errno, for ErrnoOf(): "spawn sort:
// execve /opt/sort: Permission denied (EACCES)" (PermissionDenied; NotFound for
// ENOENT, and so on). ETXTBSY is a program that somebody has held open for
// writing for a tenth of a second, so one that has just been written can be run
// at once. Aborted if a signal ended the child before it executed.
// After an error there is no child, no zombie, and the parent is as before.
//
// Threads: safe, at any time and in any number, if none changes the environment
// meanwhile, setenv(3). Signals: all are blocked in the calling thread for the
// length of the call, which ends when the program runs; SIGCHLD may do what it
// likes. Fork: no state, but for a lock around a child that changes its user.
//
// Rests on: clone(2) with CLONE_VM, CLONE_VFORK, CLONE_FILES and CLONE_PIDFD
// (Linux 5.4), close_range(2) with CLOSE_RANGE_UNSHARE (Linux 5.9). Where the
// latter is missing or forbidden the kernel copies the descriptor table, and
// the child closes what is not its own, by the list in /proc: the same, at the
// price of open descriptors.
#ifndef BROOD_PROC_SPAWN_H_
#define BROOD_PROC_SPAWN_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "brood/proc/child.h"
#include "brood/proc/limits.h"
#include "brood/proc/privileges.h"
#include "brood/proc/spawn_slots.h"

namespace brood {

// What is `parent` here is `child` there.
struct SpawnFd {
  int child = -1;
  int parent = -1;
};

struct SpawnOptions {
  // What to execute if it is not argv[0]: a login shell is called "-sh".
  std::optional<std::string> program = std::nullopt;
  // "NAME=value", each. Default: the environment of this process.
  std::optional<std::vector<std::string>> env = std::nullopt;
  // Default: that of this process. Entered with this process's rights.
  std::optional<std::string> cwd = std::nullopt;

  // The child's descriptors, besides those of `inherit_stdio`. Numbers may
  // change places: {{1, 2}, {2, 1}}. They are never close-on-exec there.
  std::vector<SpawnFd> fds = {};
  // 0, 1 and 2 are the child's as well, those of them that are open, are not
  // close-on-exec, and that `fds` do not replace.
  bool inherit_stdio = true;

  // The child leads a session of its own, and so a process group, without a
  // terminal.
  bool new_session = false;
  // The process group that the child joins; 0 for one that it leads, whose id
  // is its pid. The group is there when Spawn returns.
  std::optional<pid_t> process_group = std::nullopt;
  // The directory of a control group that the child joins before it costs
  // anything, as in "/sys/fs/cgroup/workers". Opened by this process.
  std::optional<std::string> cgroup = std::nullopt;

  std::optional<mode_t> umask = std::nullopt;
  // -20, the most, to 19, the least; not added to anything (setpriority(2)).
  std::optional<int> nice = std::nullopt;
  Limits limits = {};
  std::optional<Credentials> run_as = std::nullopt;
  bool no_new_privileges = false;
  // What the child receives when the *thread* that called Spawn ends, so call
  // from one that lasts. A set-user-ID program is freed of it. Default:
  // nothing.
  std::optional<int> parent_death_signal = std::nullopt;
  // What the program starts with blocked.
  std::vector<int> blocked_signals = {};

  // Keeps the cost the same however many descriptors there are; see
  // spawn_slots.h. Borrowed.
  const SpawnSlots* slots = nullptr;
};

// Runs a program with the arguments `argv`, of which the first is its name.
// Blocks until it runs or cannot.
absl::StatusOr<Child> Spawn(const std::vector<std::string>& argv,
                            const SpawnOptions& options = {});

}  // namespace brood

#endif  // BROOD_PROC_SPAWN_H_
