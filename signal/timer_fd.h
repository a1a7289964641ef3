// SPDX-License-Identifier: Apache-2.0
//
// A TimerFd is readable once its time has come.
//
//   absl::StatusOr<uint64_t> CountTicks(absl::Duration period, int rounds) {
//     absl::StatusOr<TimerFd> timer = TimerFd::Create();
//     if (!timer.ok()) return timer.status();
//     const absl::Status armed = timer->ExpireEvery(period);
//     if (!armed.ok()) return armed;
//     uint64_t ticks = 0;
//     for (int i = 0; i < rounds; ++i) {
//       const absl::StatusOr<bool> ready =
//           PollUntil(timer->fd(), POLLIN, absl::InfiniteFuture());
//       if (!ready.ok()) return ready.status();
//       const absl::StatusOr<std::optional<uint64_t>> expired = timer->Next();
//       if (!expired.ok()) return expired.status();
//       ticks += expired->value_or(0);  // More than 1 if we were late.
//     }
//     return ticks;
//   }
//
// What it is not: an alarm on the wall clock, nor one that wakes a machine. It
// counts on the monotonic clock: no step of the time of day moves it, and while
// the machine is suspended it stands still.
//
// Each Expire...() and Disarm() replaces what was set before; expirations that
// nobody has taken are forgotten with it. What is due already, for its delay is
// zero or negative or its deadline past, expires at once. What is infinitely
// far away never expires, which is to be disarmed.
//
// Readiness: fd() is readable from an expiration until Next() has taken it.
//
// Errors: ExpireEvery: InvalidArgument for a period that is not positive. Else
// what timerfd_create(2) and read(2) say.
//
// Threads: one at a time. Signals: none used; no call is async-signal-safe.
// Fork: the timer is shared. A child that arms, disarms or takes does it to the
// parent's, so it should make its own and only destroy this one, which harms
// nobody.
// Rests on: timerfd_create(2) with CLOCK_MONOTONIC.
#ifndef BROOD_SIGNAL_TIMER_FD_H_
#define BROOD_SIGNAL_TIMER_FD_H_

#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"

namespace brood {

class TimerFd {
 public:
  // Disarmed at first.
  static absl::StatusOr<TimerFd> Create();

  // Borrowed.
  int fd() const { return fd_.get(); }

  absl::Status ExpireAfter(absl::Duration delay);
  absl::Status ExpireAt(const Deadline& deadline);
  // First after one period. Late takers shift nothing: the expirations stay a
  // whole number of periods apart.
  absl::Status ExpireEvery(absl::Duration period);
  absl::Status Disarm();

  // How often it expired since the last time; nullopt if it did not.
  absl::StatusOr<std::optional<uint64_t>> Next();

  // How long it is until the next expiration; infinite if there will be none.
  absl::StatusOr<absl::Duration> Left() const;

 private:
  explicit TimerFd(UniqueFd fd) : fd_(std::move(fd)) {}
  absl::Status Set(absl::Duration first, absl::Duration period);

  UniqueFd fd_;
};

}  // namespace brood

#endif  // BROOD_SIGNAL_TIMER_FD_H_
