// SPDX-License-Identifier: Apache-2.0
#include "brood/signal/timer_fd.h"

#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <ctime>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

// The kernel's unit. A timespec of zero means "disarm" to it and not "now", so
// what is shorter counts as one.
constexpr absl::Duration kShortest = absl::Nanoseconds(1);

}  // namespace

absl::StatusOr<TimerFd> TimerFd::Create() {
  UniqueFd fd(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!fd.valid()) return ErrnoStatus(errno, "timerfd_create");
  return TimerFd(std::move(fd));
}

absl::Status TimerFd::ExpireAfter(absl::Duration delay) {
  if (delay == absl::InfiniteDuration()) return Disarm();
  return Set(std::max(delay, kShortest), absl::ZeroDuration());
}

absl::Status TimerFd::ExpireAt(const Deadline& deadline) {
  return ExpireAfter(deadline.Left());
}

absl::Status TimerFd::ExpireEvery(absl::Duration period) {
  if (period <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the period of a timer must be positive; it is ",
                     absl::FormatDuration(period)));
  }
  if (period == absl::InfiniteDuration()) return Disarm();
  period = std::max(period, kShortest);
  return Set(period, period);
}

absl::Status TimerFd::Disarm() {
  return Set(absl::ZeroDuration(), absl::ZeroDuration());
}

absl::Status TimerFd::Set(absl::Duration first, absl::Duration period) {
  const itimerspec setting = {.it_interval = absl::ToTimespec(period),
                              .it_value = absl::ToTimespec(first)};
  if (timerfd_settime(fd_.get(), 0, &setting, nullptr) == -1) {
    return ErrnoStatus(errno, "timerfd_settime");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<uint64_t>> TimerFd::Next() {
  uint64_t expirations = 0;
  const ssize_t n = RetryOnEintr(
      [&] { return read(fd_.get(), &expirations, sizeof(expirations)); });
  if (n == -1) {
    if (errno == EAGAIN) return std::nullopt;
    return ErrnoStatus(errno, "read timerfd");
  }
  return expirations;
}

absl::StatusOr<absl::Duration> TimerFd::Left() const {
  itimerspec setting = {};
  if (timerfd_gettime(fd_.get(), &setting) == -1) {
    return ErrnoStatus(errno, "timerfd_gettime");
  }
  const absl::Duration left = absl::DurationFromTimespec(setting.it_value);
  return left == absl::ZeroDuration() ? absl::InfiniteDuration() : left;
}

}  // namespace brood
