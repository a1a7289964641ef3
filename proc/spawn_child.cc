// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/spawn_child.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <ctime>

namespace brood {
namespace {

constexpr int kSignals = 64;  // The kernel's; NSIG is one more.
constexpr unsigned kNoLast = ~0U;
constexpr int kBusyMilliseconds = 100;
constexpr int kExitCode = 127;  // Nobody is told; see SpawnFailure.

bool Fail(SpawnPlan& plan, SpawnStage stage, int error, size_t index = 0) {
  plan.failure = {.stage = stage, .error = error, .index = index};
  return false;
}

bool FailWithErrno(SpawnPlan& plan, SpawnStage stage, size_t index = 0) {
  return Fail(plan, stage, errno, index);
}

bool IsKept(const SpawnPlan& plan, int fd) {
  for (size_t i = 0; i < plan.kept_fd_count; ++i) {
    if (plan.kept_fds[i] == fd) return true;
  }
  return false;
}

bool CloseRangesBetween(const SpawnPlan& plan) {
  int first = 0;
  for (size_t i = 0; i < plan.kept_fd_count; ++i) {
    const int kept = plan.kept_fds[i];
    if (kept > first && syscall(SYS_close_range, first, kept - 1, 0) == -1) {
      return false;
    }
    first = kept + 1;
  }
  return plan.shares_fds || syscall(SYS_close_range, first, kNoLast, 0) == 0;
}

int ParseFd(const char* name) {
  int fd = 0;
  for (; *name != '\0'; ++name) {
    if (*name < '0' || *name > '9') return -1;  // "." and "..".
    fd = fd * 10 + (*name - '0');
  }
  return fd;
}

// For kernels before 5.9 and filters that know no close_range. It closes what
// there is; to try every number up to the limit can take minutes.
bool CloseOneByOne(const SpawnPlan& plan) {
  const int directory =
      static_cast<int>(syscall(SYS_openat, AT_FDCWD, "/proc/self/fd",
                               O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0));
  if (directory == -1) return false;
  alignas(dirent64) char buffer[kSpawnBufferBytes];
  // The offset in this directory is the descriptor's number, so what is closed
  // on the way makes nothing be skipped.
  while (true) {
    const long size =
        syscall(SYS_getdents64, directory, buffer, sizeof(buffer));
    if (size == -1) return false;
    if (size == 0) break;
    for (long at = 0; at < size;) {
      const auto* entry = reinterpret_cast<const dirent64*>(buffer + at);
      const int fd = ParseFd(entry->d_name);
      if (fd != -1 && fd != directory && !IsKept(plan, fd)) {
        (void)syscall(SYS_close, fd);
      }
      at += entry->d_reclen;
    }
  }
  (void)syscall(SYS_close, directory);
  return true;
}

// The very first thing. As long as the table is the parent's, nothing in it may
// be touched; as soon as it is not, it must hold nothing that another thread
// of the parent's opened without close-on-exec, or opened for writing and is
// about to execute: that would be ETXTBSY. What lies beyond the kept ones, and
// the first 64, is never copied at all, so its number does not matter either.
bool LeaveParentsFds(SpawnPlan& plan) {
  if (plan.shares_fds && syscall(SYS_close_range, plan.first_unkept_fd, kNoLast,
                                 CLOSE_RANGE_UNSHARE) == -1) {
    return FailWithErrno(plan, SpawnStage::kUnshareFds);
  }
  if (!CloseRangesBetween(plan) && !CloseOneByOne(plan)) {
    return FailWithErrno(plan, SpawnStage::kCloseFds);
  }
  return true;
}

bool IsTarget(const SpawnPlan& plan, int fd) {
  for (size_t i = 0; i < plan.fd_move_count; ++i) {
    if (plan.fd_moves[i].to == fd) return true;
  }
  return false;
}

// Out of each other's way, so that 1 and 2 can change places: to the lowest
// numbers where nothing is and nothing is to go. Now, and not when they are
// moved, because by then a limit of the child's may leave no room.
bool ParkFds(SpawnPlan& plan) {
  for (size_t i = 0; i < plan.fd_move_count; ++i) {
    SpawnFdMove& move = plan.fd_moves[i];
    if (!move.park) continue;
    int copy = -1;
    do {
      const long lowest = copy + 1;
      if (copy != -1) (void)syscall(SYS_close, copy);
      copy = static_cast<int>(
          syscall(SYS_fcntl, move.from, F_DUPFD_CLOEXEC, lowest));
      if (copy == -1) return FailWithErrno(plan, SpawnStage::kParkFd, i);
    } while (IsTarget(plan, copy));
    move.from = copy;
  }
  return true;
}

bool JoinGroups(SpawnPlan& plan) {
  // The parent is suspended, so by the time that it can signal the group, the
  // group exists.
  if (plan.new_session && syscall(SYS_setsid) == -1) {
    return FailWithErrno(plan, SpawnStage::kSession);
  }
  if (plan.process_group != -1 &&
      syscall(SYS_setpgid, 0, plan.process_group) == -1) {
    return FailWithErrno(plan, SpawnStage::kProcessGroup);
  }
  // "0" is whoever writes. Before all that the cgroup is to account for, and
  // with the parent's right to write there.
  if (plan.cgroup_procs_fd != -1) {
    if (syscall(SYS_write, plan.cgroup_procs_fd, "0", size_t{1}) == -1) {
      return FailWithErrno(plan, SpawnStage::kCgroup);
    }
    (void)syscall(SYS_close, plan.cgroup_procs_fd);
  }
  return true;
}

// While it still has the parent's privileges, which less nice, higher limits
// and a closed directory may need.
bool SetLimits(SpawnPlan& plan) {
  if (plan.umask != -1) (void)syscall(SYS_umask, plan.umask);
  if (plan.set_nice &&
      syscall(SYS_setpriority, PRIO_PROCESS, 0, plan.nice) == -1) {
    return FailWithErrno(plan, SpawnStage::kNice);
  }
  for (size_t i = 0; i < plan.limit_count; ++i) {
    const SpawnLimit& limit = plan.limits[i];
    const uint64_t value[2] = {limit.soft, limit.hard};
    if (syscall(SYS_prlimit64, 0, limit.resource, value, nullptr) == -1) {
      return FailWithErrno(plan, SpawnStage::kLimit, i);
    }
  }
  if (plan.directory != nullptr && syscall(SYS_chdir, plan.directory) == -1) {
    return FailWithErrno(plan, SpawnStage::kDirectory);
  }
  return true;
}

// By number: glibc's functions of these names change every thread of the
// process, and in this memory lies the list of the parent's. The user is last,
// since with it goes the privilege to change the groups.
bool SetIds(SpawnPlan& plan) {
  if (!plan.set_ids) return true;
  if (syscall(SYS_setgroups, plan.group_count, plan.groups) == -1) {
    return FailWithErrno(plan, SpawnStage::kGroups);
  }
  if (syscall(SYS_setresgid, plan.gid, plan.gid, plan.gid) == -1) {
    return FailWithErrno(plan, SpawnStage::kGroup);
  }
  if (syscall(SYS_setresuid, plan.uid, plan.uid, plan.uid) == -1) {
    return FailWithErrno(plan, SpawnStage::kUser);
  }
  return true;
}

bool SetNoNewPrivileges(SpawnPlan& plan) {
  if (plan.no_new_privileges &&
      syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL) == -1) {
    return FailWithErrno(plan, SpawnStage::kNoNewPrivileges);
  }
  return true;
}

// After the ids: their change clears the signal. And the kernel does not look
// back, a parent that died before sends nothing, so look after arming.
bool TieToParent(SpawnPlan& plan) {
  if (plan.parent_death_signal == 0) return true;
  if (syscall(SYS_prctl, PR_SET_PDEATHSIG, plan.parent_death_signal, 0UL, 0UL,
              0UL) == -1) {
    return FailWithErrno(plan, SpawnStage::kParentDeathSignal);
  }
  // 0 is a parent outside of the child's pid namespace, of which one cannot
  // tell.
  const long parent = syscall(SYS_getppid);
  if (parent != plan.parent && parent != 0) {
    return Fail(plan, SpawnStage::kParentDeathSignal, ESRCH);
  }
  return true;
}

// Last of all that can fail, when no number is needed any more for what it was
// in the parent. Nothing is moved over a `from` that is still to come: those
// are parked.
bool MapFds(SpawnPlan& plan) {
  for (size_t i = 0; i < plan.fd_move_count; ++i) {
    const SpawnFdMove& move = plan.fd_moves[i];
    // dup3 onto itself is an error, and would not clear close-on-exec.
    const long result = move.from == move.to
                            ? syscall(SYS_fcntl, move.to, F_SETFD, 0L)
                            : syscall(SYS_dup3, move.from, move.to, 0);
    if (result == -1) return FailWithErrno(plan, SpawnStage::kMapFd, i);
  }
  for (size_t i = 0; i < plan.fd_move_count; ++i) {
    const SpawnFdMove& move = plan.fd_moves[i];
    if (move.from != move.to) (void)syscall(SYS_close, move.from);
  }
  return true;
}

// All to default, also what was ignored: execve resets handlers only. And
// before any is unblocked, since a handler would run in the parent's memory.
void ResetSignals(const SpawnPlan& plan) {
  // SIG_DFL, no flags, an empty mask, as large as any architecture has it.
  static constexpr unsigned long kDefault[8] = {};
  for (int signo = 1; signo <= kSignals; ++signo) {
    (void)syscall(SYS_rt_sigaction, signo, kDefault, nullptr, kSignals / 8);
  }
  (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &plan.blocked_signals, nullptr,
                kSignals / 8);
}

// Returns why not. What another thread has just written can be busy for a
// moment: in close_range the kernel copies the first 64 descriptors, whatever
// is kept of them, before it closes the rest, and a sibling can lose the
// processor in between with a copy of the one that was written by. So a busy
// program is one that stays so.
int ExecuteOne(const SpawnPlan& plan, const char* program) {
  for (int attempt = 0;; ++attempt) {
    (void)syscall(SYS_execve, program, plan.argv, plan.envp);
    if (errno != ETXTBSY || attempt == kBusyMilliseconds) return errno;
    const timespec millisecond = {.tv_sec = 0, .tv_nsec = 1'000'000};
    (void)syscall(SYS_nanosleep, &millisecond, nullptr);
  }
}

// Goes through the candidates as execvp(3) does through PATH: a directory that
// is not there or that it may not enter is no reason to stop, but that there
// was a file which may not be executed is remembered.
void Execute(SpawnPlan& plan) {
  int error = ENOENT;
  size_t index = 0;
  for (size_t i = 0; plan.candidates[i] != nullptr; ++i) {
    switch (ExecuteOne(plan, plan.candidates[i])) {
      case EACCES:
        error = EACCES;
        index = i;
        break;
      case ENOENT:
      case ENOTDIR:
      case ENODEV:
      case ESTALE:
      case ETIMEDOUT:
        if (plan.candidates[1] == nullptr) error = errno;  // No search.
        break;
      default:
        Fail(plan, SpawnStage::kExecute, errno, i);
        return;
    }
  }
  Fail(plan, SpawnStage::kExecute, error, index);
}

}  // namespace

int RunSpawnPlan(void* argument) {
  SpawnPlan& plan = *static_cast<SpawnPlan*>(argument);
  if (LeaveParentsFds(plan) && ParkFds(plan) && JoinGroups(plan) &&
      SetLimits(plan) && SetIds(plan) && SetNoNewPrivileges(plan) &&
      TieToParent(plan) && MapFds(plan)) {
    ResetSignals(plan);
    Execute(plan);
  }
  return kExitCode;
}

}  // namespace brood
