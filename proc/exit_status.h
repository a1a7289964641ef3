// SPDX-License-Identifier: Apache-2.0
//
// An ExitStatus says how one process ended, and what it had used by then.
//
//   std::string Verdict(int wait_status) {
//     const ExitStatus status = ExitStatus::FromWaitStatus(wait_status);
//     if (status.success()) return "fine";
//     if (status.term_signal() == SIGSEGV) return "a bug";
//     return status.ToString();  // "exited 7", "killed by SIGKILL"
//   }
//
// What it is not: the raw status word of wait(2), in which exit code 1 is 256.
// Neither is a stopped or continued child an ExitStatus: it has not ended.
//
// There are three ways to have ended. *Exited* with a code of 0 to 255;
// *killed* by a signal, perhaps leaving a core; and *lost*: the process is
// gone, but somebody else was told how. Lost is said, never guessed.
//
// Threads, signals, fork: a value; compare and copy it anywhere.
// Rests on: wait(2), waitid(2), getrusage(2).
#ifndef BROOD_PROC_EXIT_STATUS_H_
#define BROOD_PROC_EXIT_STATUS_H_

#include <sys/resource.h>
#include <sys/wait.h>

#include <cstdint>
#include <optional>
#include <ostream>
#include <string>

#include "absl/time/time.h"

namespace brood {

// What a process and its waited-for descendants had used when it ended.
struct ResourceUsage {
  static ResourceUsage FromRusage(const struct rusage& usage);

  absl::Duration user_time;
  absl::Duration system_time;
  int64_t max_resident_bytes = 0;  // Of the largest process, not their sum.
};

class ExitStatus {
 public:
  // `code` is what exit(3) would be given; only its low eight bits survive.
  static ExitStatus Exited(int code);
  static ExitStatus Killed(int signo, bool core_dumped = false);
  static ExitStatus Lost();
  // From the status word of wait(2) and waitpid(2). REQUIRES: WIFEXITED or
  // WIFSIGNALED, that is, WUNTRACED and WCONTINUED were not asked for.
  static ExitStatus FromWaitStatus(int wait_status);
  // From what waitid(2) stored. REQUIRES: CLD_EXITED, CLD_KILLED or CLD_DUMPED,
  // that is, only WEXITED was asked for.
  static ExitStatus FromSiginfo(const siginfo_t& info);

  // Exited with code 0.
  bool success() const { return exit_code() == 0; }
  // The code, if the process exited by itself.
  std::optional<int> exit_code() const;
  // The signal, if one ended the process.
  std::optional<int> term_signal() const;
  bool core_dumped() const { return kind_ == Kind::kDumped; }
  bool lost() const { return kind_ == Kind::kLost; }

  // What the process had used, if whoever reaped it asked.
  const std::optional<ResourceUsage>& usage() const { return usage_; }
  void set_usage(const ResourceUsage& usage) { usage_ = usage; }

  // "exited 0", "killed by SIGSEGV", "killed by SIGABRT (core dumped)", "lost".
  std::string ToString() const;

  // Equal if the process ended in the same way, whatever it had used.
  friend bool operator==(const ExitStatus& a, const ExitStatus& b) {
    return a.kind_ == b.kind_ && a.value_ == b.value_;
  }
  friend std::ostream& operator<<(std::ostream& os, const ExitStatus& status) {
    return os << status.ToString();
  }

 private:
  enum class Kind { kExited, kKilled, kDumped, kLost };
  ExitStatus(Kind kind, int value) : kind_(kind), value_(value) {}

  Kind kind_;
  int value_;  // Exit code or signal number; 0 if lost.
  std::optional<ResourceUsage> usage_;
};

}  // namespace brood

#endif  // BROOD_PROC_EXIT_STATUS_H_
