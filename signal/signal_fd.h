// SPDX-License-Identifier: Apache-2.0
//
// A SignalFd turns signals into events that are read.
//
//   absl::StatusOr<pid_t> WaitForStop() {
//     const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGTERM});
//     if (!mask.ok()) return mask.status();
//     absl::StatusOr<SignalFd> stop = SignalFd::Create({SIGTERM});
//     if (!stop.ok()) return stop.status();
//     while (true) {
//       const absl::StatusOr<std::optional<SignalEvent>> event = stop->Next();
//       if (!event.ok()) return event.status();
//       if (event->has_value()) return (*event)->sender_pid;
//       const absl::StatusOr<bool> ready =
//           PollUntil(stop->fd(), POLLIN, absl::InfiniteFuture());
//       if (!ready.ok()) return ready.status();
//     }
//   }
//
// What it is not: a registration. It touches neither mask nor actions. Its
// signals must be blocked, by a SignalMask that outlives it, or they do what
// they always do and never come here; where that cannot be had, take
// signal_source.h. Nor is it a counter: a standard signal that is pending
// already is not queued again, and fifty children that exit at once may be one
// SIGCHLD. One event means "at least one". Signals from SIGRTMIN up queue.
//
// What never comes: the exit of a child while SIGCHLD is ignored, for the
// kernel then sends none; and what was pending when its signal became ignored.
// What is sent while blocked comes, ignored or not.
//
// Readiness: fd() is readable while one of the signals is pending for the
// process, or for the thread that asks.
//
// Ownership: a SignalFd owns its descriptor, not the signals. Those that nobody
// read stay pending and strike when they are unblocked.
//
// Errors: Create: InvalidArgument for no signals, and for SIGKILL or SIGSTOP;
// FailedPrecondition, naming them, for signals that the calling thread does not
// block; else what signalfd(2) says. Next: what read(2) says.
//
// Threads: block the signals in every one, or one that does not takes them;
// CheckNoThreadTakes() of diagnosis.h names it.
//
// Signals: a blocked signal runs no handler; choose one or the other.
//
// Fork: the child's copy reads the child's own signals, of which none is
// pending at first, and takes none of the parent's. An epoll set from before
// the fork knows the parent's only, and a child that waits on it can lose the
// parent a wake-up: make a new one. Exec closes the descriptor and keeps the
// mask.
//
// Rests on: signalfd(2), signal(7), epoll(7).
#ifndef BROOD_SIGNAL_SIGNAL_FD_H_
#define BROOD_SIGNAL_SIGNAL_FD_H_

#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "brood/proc/unique_fd.h"
#include "brood/signal/signal_event.h"
#include "brood/signal/signal_set.h"

namespace brood {

class SignalFd {
 public:
  static absl::StatusOr<SignalFd> Create(const SignalSet& signals);

  // Readable when Next() would yield an event. Borrowed.
  int fd() const { return fd_.get(); }
  // Takes one pending signal, lowest number first; nullopt if there is none
  // now.
  absl::StatusOr<std::optional<SignalEvent>> Next();

 private:
  explicit SignalFd(UniqueFd fd) : fd_(std::move(fd)) {}

  UniqueFd fd_;
};

}  // namespace brood

#endif  // BROOD_SIGNAL_SIGNAL_FD_H_
