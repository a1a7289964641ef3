// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/read_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"

namespace brood {

absl::StatusOr<std::string> ReadFile(int directory, const std::string& path) {
  const UniqueFd file(RetryOnEintr(
      [&] { return openat(directory, path.c_str(), O_RDONLY | O_CLOEXEC); }));
  if (!file.valid()) return ErrnoStatus(errno, absl::StrCat("open ", path));
  std::string text;
  std::array<char, 4096> buffer;
  while (true) {
    const ssize_t n = RetryOnEintr(
        [&] { return read(file.get(), buffer.data(), buffer.size()); });
    if (n == -1) return ErrnoStatus(errno, absl::StrCat("read ", path));
    if (n == 0) return text;
    text.append(buffer.data(), static_cast<size_t>(n));
  }
}

}  // namespace brood
