// SPDX-License-Identifier: Apache-2.0
#include "brood/signal/wakeup_fd.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"

namespace brood {

absl::StatusOr<WakeupFd> WakeupFd::Create() {
  UniqueFd fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd.valid()) return ErrnoStatus(errno, "eventfd");
  return WakeupFd(std::move(fd));
}

void WakeupFd::Wake() const {
  const int saved_errno = errno;
  const uint64_t one = 1;
  // An eventfd that does not block is never interrupted, and takes all or none.
  (void)!write(fd_.get(), &one, sizeof(one));
  errno = saved_errno;
}

absl::StatusOr<std::optional<uint64_t>> WakeupFd::Next() {
  uint64_t wakes = 0;
  const ssize_t n =
      RetryOnEintr([&] { return read(fd_.get(), &wakes, sizeof(wakes)); });
  if (n == -1) {
    if (errno == EAGAIN) return std::nullopt;
    return ErrnoStatus(errno, "read eventfd");
  }
  return wakes;
}

}  // namespace brood
