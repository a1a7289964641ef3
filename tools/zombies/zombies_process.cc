// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/zombies/zombies_process.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "absl/log/check.h"
#include "absl/status/statusor.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/posix.h"
#include "brood/proc/spawn.h"
#include "brood/proc/unique_fd.h"

namespace brood {

std::pair<UniqueFd, UniqueFd> ZombiesProcess::MakePipe() {
  std::array<int, 2> ends;
  CHECK_EQ(pipe2(ends.data(), O_CLOEXEC), 0) << ErrnoStatus(errno, "pipe2");
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

std::string ZombiesProcess::ReadSome(const UniqueFd& fd) {
  std::array<char, 4096> buffer;
  const ssize_t n = RetryOnEintr(
      [&] { return read(fd.get(), buffer.data(), buffer.size()); });
  return n <= 0 ? "" : std::string(buffer.data(), static_cast<size_t>(n));
}

ZombiesProcess::ZombiesProcess(std::vector<std::string> args) {
  const char* const program = getenv("ZOMBIES");
  CHECK(program != nullptr);
  args.insert(args.begin(), program);
  auto [output, its_output] = MakePipe();
  auto [errors, its_errors] = MakePipe();
  absl::StatusOr<Child> child =
      Spawn(args, {.fds = {{.child = 1, .parent = its_output.get()},
                           {.child = 2, .parent = its_errors.get()}}});
  CHECK_OK(child);
  child_.emplace(*std::move(child));
  output_ = std::move(output);
  errors_ = std::move(errors);
}

std::string ZombiesProcess::ReadLine() {
  size_t end;
  while ((end = unread_.find('\n')) == unread_.npos) {
    const std::string more = ReadSome(output_);
    if (more.empty()) return std::exchange(unread_, "");
    unread_ += more;
  }
  const std::string line = unread_.substr(0, end);
  unread_.erase(0, end + 1);
  return line;
}

ZombiesProcess::Outcome ZombiesProcess::Wait() {
  Outcome outcome;
  outcome.output = std::exchange(unread_, "");
  for (std::string more; !(more = ReadSome(output_)).empty();) {
    outcome.output += more;
  }
  for (std::string more; !(more = ReadSome(errors_)).empty();) {
    outcome.errors += more;
  }
  const absl::StatusOr<ExitStatus> status = child_->Wait();
  if (status.ok()) outcome.status = *status;
  return outcome;
}

ZombiesProcess::Outcome RunZombies(std::vector<std::string> args) {
  return ZombiesProcess(std::move(args)).Wait();
}

}  // namespace brood
