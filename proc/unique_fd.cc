// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/unique_fd.h"

#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/posix.h"

namespace brood {
namespace {

// errno survives: a guard must not overwrite the error that is being returned
// past it.
void CloseQuietly(int fd) {
  const int saved = errno;
  (void)close(fd);
  errno = saved;
}

}  // namespace

UniqueFd& UniqueFd::operator=(UniqueFd&& other) noexcept {
  if (this != &other) {
    if (valid()) CloseQuietly(fd_);
    fd_ = std::exchange(other.fd_, kNone);
  }
  return *this;
}

UniqueFd::~UniqueFd() {
  if (valid()) CloseQuietly(fd_);
}

absl::Status UniqueFd::Close() {
  if (!valid()) return absl::OkStatus();
  const int fd = std::exchange(fd_, kNone);
  if (close(fd) == 0 || errno == EINTR) return absl::OkStatus();
  return ErrnoStatus(errno, absl::StrCat("close descriptor ", fd));
}

}  // namespace brood
