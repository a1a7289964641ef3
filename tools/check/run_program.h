// SPDX-License-Identifier: Apache-2.0
//
// RunProgram runs a program to its end, and keeps what it said.
//
//   const absl::StatusOr<ProgramRun> run =
//       RunProgram({"sh", "-c", "pwd; echo sorry >&2; exit 3"}, "/usr");
//   ASSERT_THAT(run, IsOk());
//   EXPECT_EQ(run->out, "/usr\n");
//   EXPECT_EQ(run->err, "sorry\n");
//
// What it is not: for programs that ask. Standard input is empty.
//
// Errors: Spawn's; NotFound (ENOENT) if there is no such program.
//
// Threads, signals, fork: as proc/spawn.h. The program is told to end (SIGTERM)
// when the one that called does.
#ifndef BROOD_TOOLS_CHECK_RUN_PROGRAM_H_
#define BROOD_TOOLS_CHECK_RUN_PROGRAM_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "brood/proc/exit_status.h"

namespace brood {

struct ProgramRun {
  ExitStatus status;
  std::string out;  // Standard output.
  std::string err;  // Standard error.
};

// In the directory `cwd`. Blocks until the program has ended.
absl::StatusOr<ProgramRun> RunProgram(const std::vector<std::string>& argv,
                                      const std::string& cwd);

}  // namespace brood

#endif  // BROOD_TOOLS_CHECK_RUN_PROGRAM_H_
