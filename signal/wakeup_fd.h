// SPDX-License-Identifier: Apache-2.0
//
// A WakeupFd wakes whoever waits for its descriptor, from anywhere.
//
//   absl::StatusOr<uint64_t> WaitForTheThread(WakeupFd& done) {
//     std::thread thread([&] { done.Wake(); });
//     thread.join();
//     const absl::StatusOr<bool> woken =
//         PollUntil(done.fd(), POLLIN, absl::InfiniteFuture());
//     if (!woken.ok()) return woken.status();
//     const absl::StatusOr<std::optional<uint64_t>> wakes = done.Next();
//     if (!wakes.ok()) return wakes.status();
//     return wakes->value_or(0);  // 1
//   }
//
// What it is not: a message. Wake-ups that nobody has taken are one, with their
// number; what to do is for whoever is woken to know.
//
// Readiness: fd() is readable from a Wake() until Next().
//
// Ownership: the destructor closes the descriptor. Whoever may still call
// Wake(), a handler or a thread, must be gone by then.
//
// Errors: Create: what eventfd(2) says. Wake() cannot fail: a counter that is
// full, after 2^64 - 2, is readable as it is. Next: what read(2) says.
//
// Threads: Wake() and Next() from any, at once. Signals: Wake() is
// async-signal-safe and keeps errno. Fork: the counter is shared. Wake() in a
// child wakes the parent, which may be just what is wanted; Next() in a child
// takes the parent's wake-ups, which is not.
// Rests on: eventfd(2).
#ifndef BROOD_SIGNAL_WAKEUP_FD_H_
#define BROOD_SIGNAL_WAKEUP_FD_H_

#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "brood/proc/unique_fd.h"

namespace brood {

class WakeupFd {
 public:
  static absl::StatusOr<WakeupFd> Create();

  // Borrowed.
  int fd() const { return fd_.get(); }
  void Wake() const;
  // How often Wake() was called since the last time; nullopt if it was not.
  absl::StatusOr<std::optional<uint64_t>> Next();

 private:
  explicit WakeupFd(UniqueFd fd) : fd_(std::move(fd)) {}

  UniqueFd fd_;
};

}  // namespace brood

#endif  // BROOD_SIGNAL_WAKEUP_FD_H_
