// SPDX-License-Identifier: Apache-2.0
//
// A ZombiesProcess is the real program, started by a test.
//
//   std::optional<int> ExitCodeBelow(pid_t pid) {
//     ZombiesProcess process({absl::StrCat("--pid=", pid)});
//     return process.Wait().status.exit_code();
//   }
//
// What it is not: for outputs larger than a pipe holds.
//
// Ownership: the destructor kills and reaps what still runs (see proc/child.h).
// Errors: what makes the test meaningless (no binary, no pipe) aborts it.
// Threads: one. Fork: see proc/spawn.h.
#ifndef BROOD_TOOLS_ZOMBIES_ZOMBIES_PROCESS_H_
#define BROOD_TOOLS_ZOMBIES_ZOMBIES_PROCESS_H_

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/unique_fd.h"

namespace brood {

class ZombiesProcess {
 public:
  struct Outcome {
    ExitStatus status = ExitStatus::Lost();
    std::string output = {};
    std::string errors = {};
  };

  // Starts the binary that the environment variable ZOMBIES names.
  explicit ZombiesProcess(std::vector<std::string> args);

  Child& child() { return *child_; }
  // Blocks for one line, without its end.
  std::string ReadLine();
  // Blocks until it ends; the output is what ReadLine() has not read.
  Outcome Wait();

  // The reading end, the writing end.
  static std::pair<UniqueFd, UniqueFd> MakePipe();
  // What there is, or nothing at the end; blocks.
  static std::string ReadSome(const UniqueFd& fd);

 private:
  UniqueFd output_;
  UniqueFd errors_;
  std::optional<Child> child_;
  std::string unread_;
};

// Starts it, and waits for it.
ZombiesProcess::Outcome RunZombies(std::vector<std::string> args);

}  // namespace brood

#endif  // BROOD_TOOLS_ZOMBIES_ZOMBIES_PROCESS_H_
