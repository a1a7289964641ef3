// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/process_memory.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "brood/proc/posix.h"
#include "brood/proc/process_table.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

constexpr int64_t kKernelStack = 16 << 10;

// The number on the line "name:   number"; a unit after it is not looked at.
absl::StatusOr<int64_t> NumberAt(std::string_view name, std::string_view text) {
  for (std::string_view line : absl::StrSplit(text, '\n')) {
    if (!absl::ConsumePrefix(&line, name) || !absl::ConsumePrefix(&line, ":")) {
      continue;
    }
    line = absl::StripLeadingAsciiWhitespace(line);
    int64_t number = 0;
    if (absl::SimpleAtoi(line.substr(0, line.find(' ')), &number)) {
      return number;
    }
  }
  return absl::NotFoundError(absl::StrCat("the kernel says no ", name));
}

// Empty if the process is gone, or has no memory any more.
absl::StatusOr<std::string> TextOf(pid_t pid, std::string_view name) {
  const std::string path = absl::StrCat("/proc/", pid, "/", name);
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  int error = file.valid() ? 0 : errno;
  while (error == 0) {
    std::array<char, 4096> buffer;
    const ssize_t n = RetryOnEintr(
        [&] { return read(file.get(), buffer.data(), buffer.size()); });
    if (n == 0) return text;
    if (n > 0) {
      text.append(buffer.data(), static_cast<size_t>(n));
    } else {
      error = errno;
    }
  }
  if (error == ENOENT || error == ESRCH) return "";
  return ErrnoStatus(error, absl::StrCat("read ", path));
}

}  // namespace

absl::StatusOr<int64_t> MemoryIn(std::string_view smaps_rollup,
                                 std::string_view status) {
  const absl::StatusOr<int64_t> anonymous = NumberAt("Pss_Anon", smaps_rollup);
  if (!anonymous.ok()) return anonymous.status();
  const absl::StatusOr<int64_t> tables = NumberAt("VmPTE", status);
  if (!tables.ok()) return tables.status();
  const absl::StatusOr<int64_t> threads = NumberAt("Threads", status);
  if (!threads.ok()) return threads.status();
  return (*anonymous + *tables) * 1024 + *threads * kKernelStack;
}

absl::StatusOr<int64_t> MemoryOf(const std::vector<pid_t>& pids) {
  int64_t sum = 0;
  for (const pid_t pid : pids) {
    const absl::StatusOr<std::string> rollup = TextOf(pid, "smaps_rollup");
    if (!rollup.ok()) return rollup.status();
    const absl::StatusOr<std::string> status = TextOf(pid, "status");
    if (!status.ok()) return status.status();
    // It may have ended between the two.
    if (rollup->empty() || !NumberAt("VmPTE", *status).ok()) continue;
    const absl::StatusOr<int64_t> own = MemoryIn(*rollup, *status);
    if (!own.ok()) return own.status();
    sum += *own;
  }
  return sum;
}

std::vector<pid_t> DescendantsOf(pid_t ancestor,
                                 const std::vector<Process>& processes) {
  std::multimap<pid_t, pid_t> children;
  for (const Process& process : processes) {
    children.emplace(process.parent_pid, process.pid);
  }
  std::vector<pid_t> descendants;
  std::vector<pid_t> parents = {ancestor};
  while (!parents.empty()) {
    const auto [first, last] = children.equal_range(parents.back());
    parents.pop_back();
    for (auto child = first; child != last; ++child) {
      descendants.push_back(child->second);
      parents.push_back(child->second);
    }
  }
  return descendants;
}

}  // namespace brood
