// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/check/run_program.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/posix.h"
#include "brood/proc/spawn.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

// Memory that is written like a file. A pipe would have to be read meanwhile,
// and would not end as long as a grandchild, as Bazel's server is one, has it.
absl::StatusOr<UniqueFd> OpenMemory() {
  UniqueFd memory(memfd_create("output", MFD_CLOEXEC));
  if (!memory.valid()) return ErrnoStatus(errno, "memfd_create");
  return memory;
}

absl::StatusOr<std::string> ReadAll(const UniqueFd& memory) {
  std::string text;
  std::array<char, 65536> bytes;
  while (true) {
    const ssize_t n = RetryOnEintr([&] {
      return pread(memory.get(), bytes.data(), bytes.size(),
                   static_cast<off_t>(text.size()));
    });
    if (n == -1) return ErrnoStatus(errno, "read a program's output");
    if (n == 0) return text;
    text.append(bytes.data(), static_cast<size_t>(n));
  }
}

}  // namespace

absl::StatusOr<ProgramRun> RunProgram(const std::vector<std::string>& argv,
                                      const std::string& cwd) {
  const UniqueFd nothing(open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!nothing.valid()) return ErrnoStatus(errno, "open /dev/null");
  const absl::StatusOr<UniqueFd> out = OpenMemory();
  if (!out.ok()) return out.status();
  const absl::StatusOr<UniqueFd> err = OpenMemory();
  if (!err.ok()) return err.status();
  absl::StatusOr<Child> child =
      Spawn(argv, {.cwd = cwd,
                   .fds = {{.child = 0, .parent = nothing.get()},
                           {.child = 1, .parent = out->get()},
                           {.child = 2, .parent = err->get()}},
                   .parent_death_signal = SIGTERM});
  if (!child.ok()) return child.status();
  const absl::StatusOr<ExitStatus> status = child->Wait();
  if (!status.ok()) return status.status();
  absl::StatusOr<std::string> said = ReadAll(*out);
  if (!said.ok()) return said.status();
  absl::StatusOr<std::string> complained = ReadAll(*err);
  if (!complained.ok()) return complained.status();
  return ProgramRun{*status, *std::move(said), *std::move(complained)};
}

}  // namespace brood
