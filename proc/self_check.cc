// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/self_check.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <new>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "brood/proc/pidfd.h"
#include "brood/proc/posix.h"

namespace brood {
namespace {

// ---- Probing ----
// Each probe runs in a child that may be killed for it. It returns 0 or the
// errno that says why not. A child of a process with threads may do next to
// nothing, so there are system calls here and no library.

// Nobody has this descriptor, so a call that is there says EBADF.
constexpr int kNoFd = INT_MAX;

int ErrnoUnless(int expected) { return errno == expected ? 0 : errno; }

int ProbePidfdOpen() { return PidfdOpen(getpid()) == -1 ? errno : 0; }

int ProbePidfdSendSignal() {
  (void)PidfdSendSignal(kNoFd, 0);
  return ErrnoUnless(EBADF);
}

int ProbeWaitidPidfd() {
  siginfo_t info;
  (void)syscall(SYS_waitid, P_PIDFD, kNoFd, &info, WEXITED | WNOHANG, nullptr);
  return ErrnoUnless(EBADF);  // EINVAL: it knows no such kind of id.
}

// To ask with bad arguments would not do: some filters look at none.
int ProbeClone(uint64_t flags) {
  int pidfd = -1;
  clone_args args = {};
  args.flags = flags;
  args.pidfd = reinterpret_cast<uintptr_t>(&pidfd);
  args.exit_signal = SIGCHLD;
  const long pid = syscall(SYS_clone3, &args, sizeof args);
  if (pid == -1) return errno;
  if (pid == 0) (void)syscall(SYS_exit_group, 0);
  (void)syscall(SYS_wait4, pid, nullptr, __WALL, nullptr);
  return 0;
}

int ProbeClone3() { return ProbeClone(0); }

int ProbeClonePidfd() { return ProbeClone(CLONE_PIDFD | CLONE_CLEAR_SIGHAND); }

int ProbeCloseRange() {
  return syscall(SYS_close_range, kNoFd, kNoFd, 0) == -1 ? errno : 0;
}

int ProbePidfdExitInfo() {
  // First on itself: were it killed for that later, it would leave an orphan.
  if (PidfdOpen(getpid()) == -1) return errno;
  const pid_t pid = fork();
  if (pid == -1) return errno;
  if (pid == 0) _exit(0);
  const int pidfd = PidfdOpen(pid);
  const int open_errno = errno;
  // Only what has been reaped has it.
  (void)syscall(SYS_wait4, pid, nullptr, __WALL, nullptr);
  if (pidfd == -1) return open_errno;
  PidfdInfo info = {.mask = kPidfdInfoExit};
  if (PidfdGetInfo(pidfd, info) == -1) {
    return errno == ENOTTY || errno == ESRCH ? ENOSYS : errno;
  }
  return (info.mask & kPidfdInfoExit) != 0 ? 0 : ENOSYS;
}

int ProbeTidAddress() {
  void* address = nullptr;
  return prctl(PR_GET_TID_ADDRESS, &address, 0, 0, 0) == -1 ? errno : 0;
}

struct Feature {
  std::string_view what;
  Support KernelFeatures::*support;
  int (*probe)();
  Severity if_not;
  std::string_view then;  // What happens without.
};

constexpr std::array<Feature, 8> kFeatures = {{
    {"pidfd_open", &KernelFeatures::pidfd_open, &ProbePidfdOpen,
     Severity::kError,
     "no child can be adopted; allow it, or use Linux 5.3 or newer"},
    {"pidfd_send_signal", &KernelFeatures::pidfd_send_signal,
     &ProbePidfdSendSignal, Severity::kError,
     "no child can be signalled; allow it, or use Linux 5.1 or newer"},
    {"waitid P_PIDFD", &KernelFeatures::waitid_pidfd, &ProbeWaitidPidfd,
     Severity::kError,
     "no child can be waited for; allow it, or use Linux 5.4 or newer"},
    {"clone3", &KernelFeatures::clone3, &ProbeClone3, Severity::kNotice,
     "children are made by fork(2) and get their pidfd afterwards, which may "
     "fail; allow it, or use Linux 5.3 or newer"},
    {"CLONE_PIDFD", &KernelFeatures::clone_pidfd, &ProbeClonePidfd,
     Severity::kNotice,
     "children are made by fork(2) and get their pidfd afterwards, which may "
     "fail; allow clone3, or use Linux 5.5 or newer"},
    {"close_range", &KernelFeatures::close_range, &ProbeCloseRange,
     Severity::kWarning,
     "a child may keep descriptors that it should not; allow it, or use Linux "
     "5.9 or newer"},
    {"PIDFD_INFO_EXIT", &KernelFeatures::pidfd_exit_info, &ProbePidfdExitInfo,
     Severity::kNotice,
     "how a child ended is lost if somebody else reaps it; reap nobody else's "
     "children, or use Linux 6.15 or newer"},
    {"PR_GET_TID_ADDRESS", &KernelFeatures::tid_address, &ProbeTidAddress,
     Severity::kNotice,
     "children are made by fork(2) and get their pidfd afterwards, which may "
     "fail; use a kernel with CONFIG_CHECKPOINT_RESTORE"},
}};

Support SupportOf(int error) {
  switch (error) {
    case 0:
      return Support::kOk;
    case ENOSYS:
    case EINVAL:
      return Support::kMissing;
    case EPERM:
    case EACCES:
      return Support::kForbidden;
    default:
      return Support::kUnknown;
  }
}

// What the children tell. In memory, because a pipe would need descriptors, and
// an exit status can get lost: SIGCHLD may be ignored.
struct Board {
  std::atomic<size_t> current;  // The probe that is running, or was as it died.
  std::array<std::atomic<int>, kFeatures.size()> errors;
};
static_assert(std::atomic<int>::is_always_lock_free);
static_assert(std::atomic<size_t>::is_always_lock_free);

[[noreturn]] void RunProbes(Board& board) {
  (void)std::signal(SIGCHLD, SIG_DFL);  // The probes have children to wait for.
  while (board.current < kFeatures.size()) {
    const size_t i = board.current;
    board.errors[i] = kFeatures[i].probe();
    ++board.current;
  }
  _exit(0);
}

// ---- Looking around ----

class Report {
 public:
  void Add(std::string_view what, Severity severity, std::string advice) {
    findings_.push_back({std::string(what), severity, std::move(advice)});
  }
  std::vector<Finding> Take() && { return std::move(findings_); }

 private:
  std::vector<Finding> findings_;
};

void CheckKernel(const KernelFeatures& kernel, Report& report) {
  for (const Feature& feature : kFeatures) {
    const Support support = kernel.*feature.support;
    switch (support) {
      case Support::kOk:
        break;
      case Support::kMissing:
      case Support::kForbidden:
        report.Add(
            feature.what, feature.if_not,
            absl::StrCat("It is ", NameOf(support), ": ", feature.then, "."));
        break;
      case Support::kFatal:
        report.Add(feature.what, Severity::kError,
                   "Who tries it is killed by SIGSYS: let the sandbox answer "
                   "ENOSYS instead, or allow it.");
        break;
      case Support::kUnknown:
        report.Add(feature.what, Severity::kNotice,
                   "It could not be tried: whether it works shows when it is "
                   "needed; look for limits on processes and descriptors.");
        break;
    }
  }
}

void CheckDispositions(Report& report) {
  struct sigaction chld = {};
  (void)sigaction(SIGCHLD, nullptr, &chld);
  if (chld.sa_handler == SIG_IGN || (chld.sa_flags & SA_NOCLDWAIT) != 0) {
    report.Add("SIGCHLD", Severity::kWarning,
               absl::StrCat(chld.sa_handler == SIG_IGN
                                ? "It is ignored, perhaps since before exec"
                                : "It is set with SA_NOCLDWAIT",
                            ": children leave no status, and a wait blocks "
                            "until the last has ended and then fails; set it "
                            "to SIG_DFL without that flag before the first "
                            "fork."));
  } else if (chld.sa_handler != SIG_DFL) {
    report.Add("SIGCHLD", Severity::kNotice,
               "It has a handler: if that waits for any child, it takes those "
               "that have another owner; let it wait for its own by pid.");
  }
  struct sigaction pipe = {};
  (void)sigaction(SIGPIPE, nullptr, &pipe);
  if (pipe.sa_handler == SIG_DFL) {
    report.Add("SIGPIPE", Severity::kNotice,
               "It has its default action: to write to a pipe or socket whose "
               "reader has gone ends this process; ignore it, or send with "
               "MSG_NOSIGNAL.");
  } else if (pipe.sa_handler == SIG_IGN) {
    report.Add("SIGPIPE", Severity::kNotice,
               "It is ignored: programs started from here inherit that, and "
               "those that rely on it to end run on; set it to SIG_DFL in the "
               "child before exec.");
  }
}

void CheckMask(Report& report) {
  sigset_t mask;
  sigemptyset(&mask);
  (void)pthread_sigmask(SIG_BLOCK, nullptr, &mask);
  std::vector<std::string> names;
  for (int signo = 1; signo < NSIG; ++signo) {
    if (sigismember(&mask, signo) == 1) names.push_back(NameOfSignal(signo));
  }
  if (names.empty()) return;
  const bool stops = sigismember(&mask, SIGTERM) == 1 ||
                     sigismember(&mask, SIGINT) == 1 ||
                     sigismember(&mask, SIGCHLD) == 1;
  report.Add("blocked signals", stops ? Severity::kWarning : Severity::kNotice,
             absl::StrCat(absl::StrJoin(names, " "),
                          ": they were blocked before this program ran, do "
                          "nothing to it, and are blocked in what it starts; "
                          "unblock those that nobody here reads."));
}

std::string Limit(rlim_t limit) {
  return limit == RLIM_INFINITY ? "unlimited" : absl::StrCat(limit);
}

void CheckLimit(std::string_view what, decltype(RLIMIT_NOFILE) resource,
                rlim_t needed, Severity severity, std::string_view then,
                Report& report) {
  rlimit limit = {};
  if (getrlimit(resource, &limit) == -1) return;
  if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= needed) return;
  report.Add(what, severity,
             absl::StrCat("It is ", limit.rlim_cur, " where ", needed,
                          " may be needed: ", then,
                          "; raise it, to at most the hard limit (",
                          Limit(limit.rlim_max), ")."));
}

void CheckLimits(const SelfCheckOptions& options, Report& report) {
  // Beside the children's: standard streams, listeners, logs, loops.
  constexpr rlim_t kOtherFds = 32;
  const rlim_t children = static_cast<rlim_t>(std::max(options.children, 0));
  CheckLimit("RLIMIT_NOFILE", RLIMIT_NOFILE, children + kOtherFds,
             Severity::kWarning,
             "with a pidfd for each child, accept and fork will fail by EMFILE",
             report);
  CheckLimit("RLIMIT_NPROC", RLIMIT_NPROC, children, Severity::kWarning,
             "fork will fail by EAGAIN, and all processes of this user count",
             report);
  CheckLimit("RLIMIT_SIGPENDING", RLIMIT_SIGPENDING, children,
             Severity::kNotice,
             "realtime signals beyond it are not queued, so ends that come "
             "together may be announced as one",
             report);
}

void CheckStandardStreams(Report& report) {
  for (int fd = 0; fd <= 2; ++fd) {
    if (fcntl(fd, F_GETFD) != -1) continue;
    report.Add(absl::StrCat("descriptor ", fd), Severity::kError,
               "It is closed: the next file or socket to be opened gets the "
               "number, and what is read from or printed to a standard stream "
               "goes there; open /dev/null as it.");
  }
}

void CheckProc(const SelfCheckOptions& options, Report& report) {
  std::array<char, 32> target;
  const ssize_t length =
      readlink(absl::StrCat(options.proc_root, "/self").c_str(), target.data(),
               target.size());
  if (length == -1) {
    report.Add("/proc", Severity::kWarning,
               "It is not mounted: neither threads nor orphans can be seen; "
               "mount it.");
    return;
  }
  if (std::string_view(target.data(), static_cast<size_t>(length)) !=
      absl::StrCat(getpid())) {
    report.Add("/proc", Severity::kWarning,
               "It is that of another pid namespace: the pids in it are not "
               "those that this process knows; mount one of this namespace.");
  }
  struct stat task = {};
  // A directory's links are its subdirectories and two more.
  if (stat(absl::StrCat(options.proc_root, "/self/task").c_str(), &task) == 0 &&
      task.st_nlink > 3) {
    report.Add("threads", Severity::kWarning,
               absl::StrCat("There are ", task.st_nlink - 2,
                            ": Fork refuses, because the copy would have their "
                            "locks without them; fork before the first is "
                            "started, or start programs instead."));
  }
}

void CheckOrphans(const SelfCheckOptions& options, Report& report) {
  if (options.reaps_orphans) return;
  int subreaper = 0;
  (void)prctl(PR_GET_CHILD_SUBREAPER, &subreaper, 0, 0, 0);
  if (getpid() != 1 && subreaper == 0) return;
  report.Add(
      "orphans", Severity::kWarning,
      absl::StrCat("This process is ", getpid() == 1 ? "PID 1" : "a subreaper",
                   ": processes that lose their parent become its "
                   "children and stay zombies if it does not reap them; "
                   "receive them (see orphans.h), or run it under an "
                   "init."));
}

std::optional<int64_t> ReadNumber(const std::string& path) {
  std::string word;
  int64_t number;
  if (!(std::ifstream(path) >> word) || !absl::SimpleAtoi(word, &number)) {
    return std::nullopt;  // Not there, or "max".
  }
  return number;
}

// How many more processes the nearest of the control groups of this process
// lets in; nullopt if none limits them, or none is to be seen.
std::optional<int64_t> RoomInCgroups(const SelfCheckOptions& options) {
  std::optional<int64_t> room;
  std::ifstream memberships(absl::StrCat(options.proc_root, "/self/cgroup"));
  // "0::/path" in version 2, "8:pids:/path" in version 1.
  for (std::string line; std::getline(memberships, line);) {
    const std::vector<std::string> fields =
        absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3) continue;
    const std::vector<std::string_view> controllers =
        absl::StrSplit(fields[1], ',');
    std::string mount = options.cgroup_root;
    if (std::find(controllers.begin(), controllers.end(), "pids") !=
        controllers.end()) {
      absl::StrAppend(&mount, "/pids");
    } else if (fields[0] != "0") {
      continue;
    }
    // A group's limit holds for the groups in it.
    std::string path = fields[2];
    while (true) {
      const std::string group = absl::StrCat(mount, path);
      const std::optional<int64_t> most =
          ReadNumber(absl::StrCat(group, "/pids.max"));
      if (most.has_value()) {
        const int64_t left =
            *most -
            ReadNumber(absl::StrCat(group, "/pids.current")).value_or(0);
        room = std::min(room.value_or(left), left);
      }
      const size_t slash = path.rfind('/');
      if (slash == path.npos) break;
      path.resize(slash);
    }
  }
  return room;
}

void CheckCgroups(const SelfCheckOptions& options, Report& report) {
  const std::optional<int64_t> room = RoomInCgroups(options);
  if (!room.has_value() || *room >= options.children) return;
  report.Add("pids.max", Severity::kWarning,
             absl::StrCat("The control group has room for ",
                          std::max<int64_t>(*room, 0),
                          " processes and not for ", options.children,
                          ": fork will fail by EAGAIN; raise its pids.max."));
}

}  // namespace

std::string_view NameOf(Support support) {
  switch (support) {
    case Support::kOk:
      return "ok";
    case Support::kMissing:
      return "missing";
    case Support::kForbidden:
      return "forbidden";
    case Support::kFatal:
      return "fatal";
    case Support::kUnknown:
      break;
  }
  return "unknown";
}

std::ostream& operator<<(std::ostream& os, Support support) {
  return os << NameOf(support);
}

std::string_view NameOf(Severity severity) {
  switch (severity) {
    case Severity::kNotice:
      return "notice";
    case Severity::kWarning:
      return "warning";
    case Severity::kError:
      break;
  }
  return "error";
}

std::ostream& operator<<(std::ostream& os, Severity severity) {
  return os << NameOf(severity);
}

KernelFeatures KernelFeatures::Probe() {
  KernelFeatures features;
  void* memory = mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return features;
  Board& board = *new (memory) Board();
  while (board.current < kFeatures.size()) {
    // A handler of the program's must not run in the child: it would act on
    // the program's descriptors.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    const pid_t pid = fork();
    if (pid == 0) RunProbes(board);
    (void)pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (pid == -1) break;
    int status = 0;
    const pid_t waited =
        RetryOnEintr([&] { return waitpid(pid, &status, __WALL); });
    if (board.current == kFeatures.size()) break;
    // Killed on the way. If nobody says by what, it was most likely the filter.
    const bool by_filter =
        waited == -1 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
    features.*kFeatures[board.current].support =
        by_filter ? Support::kFatal : Support::kUnknown;
    board.errors[board.current] = -1;
    ++board.current;
  }
  const size_t tried = board.current;
  for (size_t i = 0; i < tried; ++i) {
    if (board.errors[i] == -1) continue;
    features.*kFeatures[i].support = SupportOf(board.errors[i]);
  }
  (void)munmap(memory, sizeof(Board));
  return features;
}

SelfCheck SelfCheck::Run(const SelfCheckOptions& options,
                         const KernelFeatures& kernel) {
  Report report;
  CheckStandardStreams(report);
  CheckDispositions(report);
  CheckMask(report);
  CheckProc(options, report);
  CheckOrphans(options, report);
  CheckLimits(options, report);
  CheckCgroups(options, report);
  CheckKernel(kernel, report);
  SelfCheck check;
  check.findings = std::move(report).Take();
  std::stable_sort(check.findings.begin(), check.findings.end(),
                   [](const Finding& a, const Finding& b) {
                     return a.severity > b.severity;
                   });
  return check;
}

bool SelfCheck::Has(Severity severity) const {
  return !findings.empty() && findings.front().severity >= severity;
}

const Finding* SelfCheck::Find(std::string_view what) const {
  for (const Finding& finding : findings) {
    if (finding.what == what) return &finding;
  }
  return nullptr;
}

std::string SelfCheck::ToString() const {
  size_t width = 0;
  for (const Finding& finding : findings) {
    width = std::max(width, finding.what.size());
  }
  std::string table;
  for (const Finding& finding : findings) {
    absl::StrAppendFormat(&table, "%-7s  %-*s  %s\n", NameOf(finding.severity),
                          static_cast<int>(width), finding.what,
                          finding.advice);
  }
  return table;
}

}  // namespace brood
