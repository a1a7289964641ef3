// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/spawn.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/limits.h"
#include "brood/proc/posix.h"
#include "brood/proc/privileges.h"
#include "brood/proc/spawn_child.h"
#include "brood/proc/spawn_slots.h"
#include "brood/proc/unique_fd.h"

// clone(2) by the other name that glibc and musl give it. ThreadSanitizer takes
// `clone` for a fork, and makes ready in the child what is still the parent's.
extern "C" int __clone(int (*function)(void*), void* stack, int flags,
                       void* argument, ...);

namespace brood {
namespace {

constexpr int kSignals = 64;
constexpr int kStdioFds = 3;
constexpr mode_t kAllPermissions = 0777;
constexpr int kLeastNice = 19;
constexpr int kMostNice = -20;
// What execvp(3) takes where there is no PATH.
constexpr std::string_view kDefaultPath = "/bin:/usr/bin";

// ---- What no kernel would take ----

absl::Status Invalid(std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("spawn: ", what));
}

absl::Status CheckText(std::string_view name, std::string_view text) {
  if (!absl::StrContains(text, '\0')) return absl::OkStatus();
  return Invalid(absl::StrCat(name, ": there is a NUL in it"));
}

absl::Status CheckTexts(std::string_view name,
                        const std::vector<std::string>& texts) {
  for (size_t i = 0; i < texts.size(); ++i) {
    absl::Status s = CheckText(absl::StrCat(name, "[", i, "]"), texts[i]);
    if (!s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status CheckPath(std::string_view name,
                       const std::optional<std::string>& path) {
  if (!path.has_value()) return absl::OkStatus();
  if (path->empty()) return Invalid(absl::StrCat(name, ": is empty"));
  return CheckText(name, *path);
}

absl::Status CheckSignal(std::string_view name, int signo) {
  if (signo >= 1 && signo <= kSignals) return absl::OkStatus();
  return Invalid(absl::StrCat(name, ": ", signo,
                              " is no signal; they are 1 to ", kSignals));
}

absl::Status CheckProgram(const std::vector<std::string>& argv,
                          const SpawnOptions& options) {
  if (argv.empty()) {
    return Invalid("argv: is empty; the first is the program's name");
  }
  if (absl::Status s = CheckTexts("argv", argv); !s.ok()) return s;
  if (absl::Status s = CheckPath("program", options.program); !s.ok()) return s;
  const std::string& program = options.program.value_or(argv.front());
  if (program.empty()) return Invalid("argv[0]: is empty");
  if (options.cwd.has_value() && absl::StrContains(program, '/') &&
      program.front() != '/') {
    return Invalid(absl::StrCat("the program \"", program,
                                "\" is relative, and there is a cwd \"",
                                *options.cwd, "\": give its absolute path"));
  }
  return absl::OkStatus();
}

absl::Status CheckEnvironment(const SpawnOptions& options) {
  if (!options.env.has_value()) return absl::OkStatus();
  if (absl::Status s = CheckTexts("env", *options.env); !s.ok()) return s;
  for (size_t i = 0; i < options.env->size(); ++i) {
    const size_t equals = (*options.env)[i].find('=');
    if (equals == std::string::npos || equals == 0) {
      return Invalid(absl::StrCat("env[", i, "]: \"", (*options.env)[i],
                                  "\" is not NAME=value"));
    }
  }
  return absl::OkStatus();
}

// How many descriptors the child will be able to have.
absl::StatusOr<rlim_t> MostFds(const Limits& limits) {
  for (const Limit& limit : limits.entries()) {
    if (limit.resource == RLIMIT_NOFILE) return limit.soft;
  }
  const absl::StatusOr<Limit> now = CurrentLimit(RLIMIT_NOFILE);
  if (!now.ok()) return now.status();
  return now->soft;
}

absl::Status CheckFds(const SpawnOptions& options) {
  const absl::StatusOr<rlim_t> most = MostFds(options.limits);
  if (!most.ok()) return most.status();
  for (size_t i = 0; i < options.fds.size(); ++i) {
    const SpawnFd& fd = options.fds[i];
    const std::string name = absl::StrCat("fds[", i, "]");
    if (fd.child < 0) {
      return Invalid(absl::StrCat(name, ": the child's descriptor ", fd.child,
                                  " is negative"));
    }
    if (static_cast<rlim_t>(fd.child) >= *most) {
      return Invalid(absl::StrCat(name, ": the child's descriptor ", fd.child,
                                  " is not below its limit, NOFILE=", *most));
    }
    for (size_t j = 0; j < i; ++j) {
      if (options.fds[j].child == fd.child) {
        return Invalid(absl::StrCat(name, ": the child's descriptor ", fd.child,
                                    " is also that of fds[", j, "]"));
      }
    }
    if (fd.parent < 0) {
      return Invalid(absl::StrCat(name, ": the parent's descriptor ", fd.parent,
                                  " is negative"));
    }
    if (fcntl(fd.parent, F_GETFD) == -1) {
      return ErrnoStatus(
          errno, absl::StrCat("spawn: ", name, ": the parent's descriptor ",
                              fd.parent));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckNumbers(const SpawnOptions& options) {
  if (options.process_group.has_value()) {
    if (*options.process_group < 0) {
      return Invalid(absl::StrCat("process_group: ", *options.process_group,
                                  " is negative"));
    }
    if (options.new_session) {
      return Invalid(
          "process_group and new_session: a session begins with a group of its "
          "own");
    }
  }
  if (options.umask.has_value() && (*options.umask & ~kAllPermissions) != 0) {
    return Invalid(
        absl::StrFormat("umask: 0%o is not within 0777", *options.umask));
  }
  if (options.nice.has_value() &&
      (*options.nice < kMostNice || *options.nice > kLeastNice)) {
    return Invalid(
        absl::StrCat("nice: ", *options.nice, " is not within -20 and 19"));
  }
  if (options.parent_death_signal.has_value()) {
    absl::Status s =
        CheckSignal("parent_death_signal", *options.parent_death_signal);
    if (!s.ok()) return s;
  }
  for (size_t i = 0; i < options.blocked_signals.size(); ++i) {
    absl::Status s = CheckSignal(absl::StrCat("blocked_signals[", i, "]"),
                                 options.blocked_signals[i]);
    if (!s.ok()) return s;
  }
  if (!options.run_as.has_value()) return absl::OkStatus();
  const absl::Status credentials = CheckCredentials(*options.run_as);
  return credentials.ok() ? credentials : Invalid(credentials.message());
}

absl::Status Check(const std::vector<std::string>& argv,
                   const SpawnOptions& options) {
  if (absl::Status s = CheckProgram(argv, options); !s.ok()) return s;
  if (absl::Status s = CheckEnvironment(options); !s.ok()) return s;
  if (absl::Status s = CheckPath("cwd", options.cwd); !s.ok()) return s;
  if (absl::Status s = CheckPath("cgroup", options.cgroup); !s.ok()) return s;
  if (absl::Status s = CheckNumbers(options); !s.ok()) return s;
  return CheckFds(options);
}

// ---- What the child is to do ----

std::vector<char*> Pointers(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  // execve(2) takes them as char* for the sake of old programs, and writes to
  // none.
  for (const std::string& text : texts) {
    pointers.push_back(const_cast<char*>(text.c_str()));
  }
  pointers.push_back(nullptr);
  return pointers;
}

// Everything that the plan points to. It is not moved, and the plan is for one
// process.
class Preparation {
 public:
  Preparation(const std::vector<std::string>& argv, const SpawnOptions& options)
      : options_(options),
        program_(options.program.value_or(argv.front())),
        loan_(options.slots),
        argv_(Pointers(argv)) {
    if (options.env.has_value()) env_ = Pointers(*options.env);
  }
  Preparation(const Preparation&) = delete;
  Preparation& operator=(const Preparation&) = delete;

  absl::Status Prepare() {
    PrepareProgram();
    PrepareProcess();
    if (absl::Status s = OpenCgroup(); !s.ok()) return s;
    PrepareFds();
    return absl::OkStatus();
  }

  // A plan to carry out once, for the child changes it.
  SpawnPlan MakePlan(bool shares_fds) {
    moves_ = prepared_moves_;
    SpawnPlan plan = plan_;
    plan.shares_fds = shares_fds;
    return plan;
  }

  // What went wrong, for the one who asked for it.
  absl::Status Explain(const SpawnFailure& failure) const;

 private:
  void PrepareProgram();
  void PrepareProcess();
  absl::Status OpenCgroup();
  void PrepareFds();

  const SpawnOptions& options_;
  const std::string program_;
  SpawnSlots::Loan loan_;
  std::vector<std::string> candidates_;
  std::vector<char*> candidate_pointers_;
  std::vector<char*> argv_;
  std::vector<char*> env_;
  UniqueFd cgroup_procs_;
  std::vector<SpawnFdMove> prepared_moves_;
  std::vector<SpawnFdMove> moves_;
  std::vector<int> kept_fds_;
  std::vector<SpawnLimit> limits_;
  SpawnPlan plan_;
};

void Preparation::PrepareProgram() {
  if (absl::StrContains(program_, '/')) {
    candidates_.push_back(program_);
  } else {
    const char* path = getenv("PATH");
    for (const std::string_view directory :
         absl::StrSplit(path == nullptr ? kDefaultPath : path, ':')) {
      if (absl::StartsWith(directory, "/")) {
        candidates_.push_back(absl::StrCat(directory, "/", program_));
      }
    }
  }
  candidate_pointers_ = Pointers(candidates_);
  plan_.candidates = candidate_pointers_.data();
  plan_.argv = argv_.data();
  plan_.envp = options_.env.has_value() ? env_.data() : environ;
}

void Preparation::PrepareProcess() {
  plan_.parent = getpid();
  plan_.new_session = options_.new_session;
  plan_.process_group = options_.process_group.value_or(-1);
  if (options_.umask.has_value()) {
    plan_.umask = static_cast<int>(*options_.umask);
  }
  plan_.set_nice = options_.nice.has_value();
  plan_.nice = options_.nice.value_or(0);
  for (const Limit& limit : options_.limits.entries()) {
    limits_.push_back({limit.soft, limit.hard, limit.resource});
  }
  plan_.limits = limits_.data();
  plan_.limit_count = limits_.size();
  if (options_.cwd.has_value()) plan_.directory = options_.cwd->c_str();
  if (options_.run_as.has_value()) {
    plan_.set_ids = true;
    plan_.uid = options_.run_as->uid;
    plan_.gid = options_.run_as->gid;
    plan_.groups = options_.run_as->groups.data();
    plan_.group_count = options_.run_as->groups.size();
  }
  plan_.no_new_privileges = options_.no_new_privileges;
  plan_.parent_death_signal = options_.parent_death_signal.value_or(0);
  for (const int signo : options_.blocked_signals) {
    plan_.blocked_signals |= uint64_t{1} << (signo - 1);
  }
}

absl::Status Preparation::OpenCgroup() {
  if (!options_.cgroup.has_value()) return absl::OkStatus();
  const std::string path = absl::StrCat(*options_.cgroup, "/cgroup.procs");
  cgroup_procs_ = UniqueFd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!cgroup_procs_.valid()) {
    return ErrnoStatus(errno,
                       absl::StrCat("spawn ", program_, ": open ", path));
  }
  return absl::OkStatus();
}

void Preparation::PrepareFds() {
  std::vector<SpawnFd> fds = options_.fds;
  const auto goes_to = [&fds](int child) {
    return std::ranges::count(fds, child, &SpawnFd::child) != 0;
  };
  for (int fd = 0; options_.inherit_stdio && fd < kStdioFds; ++fd) {
    // Close-on-exec, it was not opened to be standard: somebody had closed the
    // stream, and a file, or a slot, was given the number.
    const int flags = fcntl(fd, F_GETFD);
    if (!goes_to(fd) && flags != -1 && (flags & FD_CLOEXEC) == 0) {
      fds.push_back({fd, fd});
    }
  }
  for (const SpawnFd& fd : fds) {
    const int from = loan_.Lower(fd.parent);
    prepared_moves_.push_back(
        {from, fd.child, from != fd.child && goes_to(from)});
    kept_fds_.push_back(from);
  }
  if (cgroup_procs_.valid()) {
    plan_.cgroup_procs_fd = loan_.Lower(cgroup_procs_.get());
    kept_fds_.push_back(plan_.cgroup_procs_fd);
  }
  std::ranges::sort(kept_fds_);
  const auto twice = std::ranges::unique(kept_fds_);
  kept_fds_.erase(twice.begin(), twice.end());
  plan_.kept_fds = kept_fds_.data();
  plan_.kept_fd_count = kept_fds_.size();
  plan_.first_unkept_fd = kept_fds_.empty() ? 0 : kept_fds_.back() + 1;
  moves_ = prepared_moves_;
  plan_.fd_moves = moves_.data();
  plan_.fd_move_count = moves_.size();
}

absl::Status Preparation::Explain(const SpawnFailure& failure) const {
  const auto fail = [&](const auto&... what) {
    return ErrnoStatus(failure.error,
                       absl::StrCat("spawn ", program_, ": ", what...));
  };
  // The standard three come after those that were asked for.
  const auto mapping = [&] {
    return failure.index < options_.fds.size()
               ? absl::StrCat(options_.fds[failure.index].parent, " to ",
                              options_.fds[failure.index].child)
               : absl::StrCat(prepared_moves_[failure.index].to);
  };
  switch (failure.stage) {
    case SpawnStage::kUnshareFds:
      return fail("leave the parent's descriptor table");
    case SpawnStage::kCloseFds:
      return fail("close the parent's descriptors");
    case SpawnStage::kParkFd:
    case SpawnStage::kMapFd:
      return fail("move descriptor ", mapping());
    case SpawnStage::kSession:
      return fail("setsid");
    case SpawnStage::kProcessGroup:
      return fail("setpgid ", *options_.process_group);
    case SpawnStage::kCgroup:
      return fail("join cgroup ", *options_.cgroup);
    case SpawnStage::kNice:
      return fail("setpriority ", *options_.nice);
    case SpawnStage::kLimit:
      return fail("set limit ",
                  options_.limits.entries()[failure.index].ToString());
    case SpawnStage::kDirectory:
      return fail("chdir ", *options_.cwd);
    case SpawnStage::kGroups:
      return fail("setgroups");
    case SpawnStage::kGroup:
      return fail("setresgid ", options_.run_as->gid);
    case SpawnStage::kUser:
      return fail("setresuid ", options_.run_as->uid);
    case SpawnStage::kNoNewPrivileges:
      return fail("no_new_privs");
    case SpawnStage::kParentDeathSignal:
      return fail("arm ", NameOfSignal(*options_.parent_death_signal));
    case SpawnStage::kExecute:
      break;
  }
  if (!absl::StrContains(program_, '/') && failure.error == ENOENT) {
    const char* path = getenv("PATH");
    return fail("find it in PATH ", path == nullptr ? kDefaultPath : path);
  }
  return fail("execve ", candidates_[failure.index]);
}

// ---- The process ----

// Every signal there is, glibc's own two among them, which pthread_sigmask
// leaves out: a handler that ran in the child would run in the parent's memory.
class AllSignalsBlocked {
 public:
  AllSignalsBlocked() {
    const uint64_t all = ~uint64_t{0};
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before_,
                  sizeof(before_));
  }
  AllSignalsBlocked(const AllSignalsBlocked&) = delete;
  AllSignalsBlocked& operator=(const AllSignalsBlocked&) = delete;
  ~AllSignalsBlocked() {
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before_, nullptr,
                  sizeof(before_));
  }

 private:
  uint64_t before_ = 0;
};

// Not the caller's stack, on which the caller will go on from where it stands.
class ChildStack {
 public:
  ChildStack()
      : guard_bytes_(static_cast<size_t>(sysconf(_SC_PAGESIZE))),
        bytes_(guard_bytes_ + kSpawnStackBytes),
        memory_(mmap(nullptr, bytes_, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0)) {
    // It grows down, towards the page that stays forbidden.
    if (valid() && mprotect(static_cast<char*>(memory_) + guard_bytes_,
                            kSpawnStackBytes, PROT_READ | PROT_WRITE) == -1) {
      (void)munmap(memory_, bytes_);
      memory_ = MAP_FAILED;
    }
  }
  ChildStack(const ChildStack&) = delete;
  ChildStack& operator=(const ChildStack&) = delete;
  ~ChildStack() {
    if (valid()) (void)munmap(memory_, bytes_);
  }

  bool valid() const { return memory_ != MAP_FAILED; }
  void* top() const { return static_cast<char*>(memory_) + bytes_; }

 private:
  size_t guard_bytes_;
  size_t bytes_;
  void* memory_;
};

// Undoes what the child's change of user does to the memory that it shares:
// commit_creds() in the kernel makes it undumpable, hence the parent without
// core dumps and its /proc/self root's. Nothing else of the parent's is shared
// that the child changes.
// One at a time, or the second would find what the first one's child has done
// and take it for how it was before.
std::mutex one_child_changes_user;

class DumpableAsBefore {
 public:
  explicit DumpableAsBefore(bool at_risk)
      : turn_(one_child_changes_user, std::defer_lock) {
    if (!at_risk) return;
    turn_.lock();
    restore_ = prctl(PR_GET_DUMPABLE) == 1;
  }
  DumpableAsBefore(const DumpableAsBefore&) = delete;
  DumpableAsBefore& operator=(const DumpableAsBefore&) = delete;
  ~DumpableAsBefore() {
    if (restore_) (void)prctl(PR_SET_DUMPABLE, 1);
  }

 private:
  std::unique_lock<std::mutex> turn_;
  bool restore_ = false;
};

struct Started {
  pid_t pid = -1;
  int error = 0;  // If there is no pid.
  UniqueFd pidfd;
};

// Returns when the child has executed or ended.
//
// The exit signal is none, so that a child which fails is nobody's to see but
// ours: no SIGCHLD, and no wait(2) elsewhere in the process gets it. execve(2)
// makes it SIGCHLD.
Started Start(SpawnPlan& plan) {
  Started started;
  const ChildStack stack;
  if (!stack.valid()) {
    started.error = errno;
    return started;
  }
  const int flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD |
                    (plan.shares_fds ? CLONE_FILES : 0);
  int pidfd = -1;
  const AllSignalsBlocked blocked;
  const DumpableAsBefore dumpable(plan.set_ids);
  started.pid = __clone(RunSpawnPlan, stack.top(), flags, &plan, &pidfd);
  started.error = errno;
  // Where the clone failed the kernel may have written a number all the same,
  // which by now can be somebody else's.
  if (started.pid != -1) started.pidfd = UniqueFd(pidfd);
  return started;
}

// Whether the process became the program. One that has not is still a "clone
// child" (wait(2), __WCLONE), dead or dying; execve(2) turned one that has into
// an ordinary one, of which such a wait knows nothing.
bool HasExecuted(const UniqueFd& pidfd) {
  siginfo_t info = {};
  return syscall(SYS_waitid, P_PIDFD, pidfd.get(), &info,
                 WEXITED | WNOHANG | WNOWAIT | __WCLONE, nullptr) == -1;
}

// How a process ended that has not executed. Not by Child: this kind of wait
// sees it, and whether SIGCHLD is ignored does not concern it.
ExitStatus Reap(const UniqueFd& pidfd) {
  siginfo_t info = {};
  (void)RetryOnEintr([&] {
    return syscall(SYS_waitid, P_PIDFD, pidfd.get(), &info, WEXITED | __WALL,
                   nullptr);
  });
  return info.si_pid == 0 ? ExitStatus::Lost() : ExitStatus::FromSiginfo(info);
}

}  // namespace

absl::StatusOr<Child> Spawn(const std::vector<std::string>& argv,
                            const SpawnOptions& options) {
  if (absl::Status s = Check(argv, options); !s.ok()) return s;
  (void)ReapDropped();
  Preparation preparation(argv, options);
  if (absl::Status s = preparation.Prepare(); !s.ok()) return s;
  const std::string_view program = options.program.has_value()
                                       ? std::string_view(*options.program)
                                       : std::string_view(argv.front());
  SpawnPlan plan = preparation.MakePlan(/*shares_fds=*/true);
  Started started = Start(plan);
  if (plan.failure.error != 0 &&
      plan.failure.stage == SpawnStage::kUnshareFds) {
    (void)Reap(started.pidfd);
    plan = preparation.MakePlan(/*shares_fds=*/false);
    started = Start(plan);
  }
  if (started.pid == -1) {
    return ErrnoStatus(started.error,
                       absl::StrCat("spawn ", program, ": clone"));
  }
  if (plan.failure.error == 0 && HasExecuted(started.pidfd)) {
    return Child(started.pid, std::move(started.pidfd));
  }
  const ExitStatus end = Reap(started.pidfd);
  if (plan.failure.error != 0) return preparation.Explain(plan.failure);
  return absl::AbortedError(absl::StrCat(
      "spawn ", program, ": ", end.ToString(), " before it executed"));
}

}  // namespace brood
