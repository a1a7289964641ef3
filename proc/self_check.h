// SPDX-License-Identifier: Apache-2.0
//
// A SelfCheck says what of this process's surroundings would bite a program
// that forks, before it does.
//
//   int Preflight(int max_children) {
//     const SelfCheck check =
//         SelfCheck::Run({.children = max_children}, KernelFeatures::Probe());
//     std::cerr << check.ToString();  // "warning  SIGCHLD  It is ignored: ..."
//     return check.Has(Severity::kError) ? EX_OSERR : EX_OK;
//   }
//
// What it is not: a repair. What it finds may be meant so, and is the program's
// to change. Nor is it a promise: a sandbox may forbid a call for some of its
// arguments only, and somebody else may use up what was left. Run it first
// thing in main(), before the program itself blocks signals or starts threads.
//
// Ownership: values, passed along by whoever probed. A test that wants an older
// kernel passes a KernelFeatures of its own making.
//
// Errors: none. What could not be found out is a finding too.
//
// Threads: safe. Signals: all are blocked in the caller for as long as Probe()
// forks. Fork: Probe() forks, for a call that a sandbox answers by SIGSYS ends
// whoever makes it; once, and once more for each such call. A waitpid(-1) of
// the program's that runs meanwhile may take those children and harms nothing.
// Rests on: sigaction(2), sigprocmask(2), getrlimit(2), prctl(2), proc(5),
// cgroups(7); and, for Probe(), on nothing that it does not try.
#ifndef BROOD_PROC_SELF_CHECK_H_
#define BROOD_PROC_SELF_CHECK_H_

#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace brood {

// What comes of a system call.
enum class Support {
  kOk,
  kMissing,    // The kernel is older, or built without it (ENOSYS, EINVAL).
  kForbidden,  // A sandbox says no (EPERM, EACCES).
  kFatal,      // A sandbox kills who tries (SIGSYS).
  kUnknown,    // It could not be tried.
};

std::string_view NameOf(Support support);
std::ostream& operator<<(std::ostream& os, Support support);

// What this kernel, and the sandbox before it, lets a process do.
struct KernelFeatures {
  // Tries each, in a child process.
  static KernelFeatures Probe();

  Support pidfd_open = Support::kUnknown;         // Linux 5.3.
  Support pidfd_send_signal = Support::kUnknown;  // Linux 5.1.
  Support waitid_pidfd = Support::kUnknown;       // P_PIDFD, Linux 5.4.
  Support clone3 = Support::kUnknown;             // Linux 5.3.
  // clone3 with CLONE_PIDFD and CLONE_CLEAR_SIGHAND, Linux 5.5.
  Support clone_pidfd = Support::kUnknown;
  Support close_range = Support::kUnknown;  // Linux 5.9.
  // PIDFD_GET_INFO with PIDFD_INFO_EXIT, Linux 6.15.
  Support pidfd_exit_info = Support::kUnknown;
  // PR_GET_TID_ADDRESS, Linux 3.5 with CONFIG_CHECKPOINT_RESTORE.
  Support tid_address = Support::kUnknown;

  friend bool operator==(const KernelFeatures&,
                         const KernelFeatures&) = default;
};

enum class Severity {
  kNotice,   // It works, but not as one may think.
  kWarning,  // It fails under load, or children get lost.
  kError,    // It does not work.
};

std::string_view NameOf(Severity severity);
std::ostream& operator<<(std::ostream& os, Severity severity);

struct Finding {
  // A word to look for: "SIGCHLD", "RLIMIT_NOFILE", "pidfd_open".
  std::string what;
  Severity severity = Severity::kNotice;
  // What would happen, and what to do about it. One sentence.
  std::string advice;
};

struct SelfCheckOptions {
  // How many children the program means to have at once.
  int children = 100;
  // The program reaps what is not its own, see orphans.h.
  bool reaps_orphans = false;
  // Where these file systems are mounted.
  std::string proc_root = "/proc";
  std::string cgroup_root = "/sys/fs/cgroup";
};

struct SelfCheck {
  static SelfCheck Run(const SelfCheckOptions& options,
                       const KernelFeatures& kernel);

  // Whether there is a finding as severe as that, or more.
  bool Has(Severity severity) const;
  // The finding about `what`; nullptr if there is none.
  const Finding* Find(std::string_view what) const;
  // A line for each finding; "" if there is none.
  std::string ToString() const;

  std::vector<Finding> findings;  // The most severe first.
};

}  // namespace brood

#endif  // BROOD_PROC_SELF_CHECK_H_
