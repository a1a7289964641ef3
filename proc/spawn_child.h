// SPDX-License-Identifier: Apache-2.0
//
// What happens in the child between clone(2) and execve(2). Private to spawn.h.
//
//   plan.candidates = candidates.data();
//   plan.argv = argv.data();
//   plan.envp = environ;
//   char* const top = stack + kSpawnStackBytes;
//   const int flags = CLONE_VM | CLONE_VFORK;
//   const pid_t pid = __clone(RunSpawnPlan, top, flags, &plan);
//   // Here it has either executed, or failed as plan.failure says.
//
// What it is not: ordinary code. The child runs in the memory of a parent whose
// other threads go on, so it may take no lock, allocate nothing and call next
// to nothing: system calls by number, and the address of errno, which is that
// of the suspended thread. spawn_child_test.cc holds the object file to that.
//
// Errors: written to SpawnPlan::failure, which the parent reads: the memory is
// the same, so no pipe is needed.
//
// Rests on: clone(2) with CLONE_VM and CLONE_VFORK, vfork(2).
#ifndef BROOD_PROC_SPAWN_CHILD_H_
#define BROOD_PROC_SPAWN_CHILD_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

namespace brood {

// What the child was doing, in the order in which it does it.
enum class SpawnStage {
  kUnshareFds,
  kCloseFds,
  kParkFd,  // Index: of the mapping.
  kProcessGroup,
  kSession,
  kCgroup,
  kNice,
  kLimit,  // Index: of the limit.
  kDirectory,
  kGroups,
  kGroup,
  kUser,
  kNoNewPrivileges,
  kParentDeathSignal,
  kMapFd,    // Index: of the mapping.
  kExecute,  // Index: of the candidate.
};

struct SpawnFailure {
  SpawnStage stage = SpawnStage::kUnshareFds;
  int error = 0;  // 0: none so far.
  size_t index = 0;
};

struct SpawnFdMove {
  int from = -1;
  int to = -1;
  bool park = false;  // `from` is where another one goes.
};

// As prlimit64(2) wants it.
struct SpawnLimit {
  uint64_t soft = 0;
  uint64_t hard = 0;
  int resource = 0;
};

struct SpawnPlan {
  // Whether the descriptor table is the parent's, to be left (CLONE_FILES), or
  // a copy. Every descriptor that is kept is below `first_unkept_fd`.
  bool shares_fds = true;
  int first_unkept_fd = 0;
  const int* kept_fds = nullptr;  // Sorted, each once.
  size_t kept_fd_count = 0;
  SpawnFdMove* fd_moves = nullptr;
  size_t fd_move_count = 0;

  bool new_session = false;
  int process_group = -1;  // 0: its own; -1: the parent's.
  int cgroup_procs_fd = -1;
  int umask = -1;
  bool set_nice = false;
  int nice = 0;
  const SpawnLimit* limits = nullptr;
  size_t limit_count = 0;
  const char* directory = nullptr;
  bool set_ids = false;
  uid_t uid = 0;
  gid_t gid = 0;
  const gid_t* groups = nullptr;
  size_t group_count = 0;
  bool no_new_privileges = false;
  int parent_death_signal = 0;
  pid_t parent = 0;
  uint64_t blocked_signals = 0;  // Bit signo - 1, as in the kernel.

  const char* const* candidates = nullptr;  // Tried in turn; then a nullptr.
  char* const* argv = nullptr;
  char* const* envp = nullptr;

  SpawnFailure failure;
};

// What it needs of a stack is a few hundred bytes and a buffer of this size.
inline constexpr size_t kSpawnBufferBytes = 4096;
inline constexpr size_t kSpawnStackBytes = 8 * kSpawnBufferBytes;

// Returns only if it could not execute, with what the process should exit with.
// REQUIRES: all signals are blocked, and the caller's thread is suspended until
// the process executes or ends. `plan` is a SpawnPlan.
int RunSpawnPlan(void* plan);

}  // namespace brood

#endif  // BROOD_PROC_SPAWN_CHILD_H_
