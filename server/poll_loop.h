// SPDX-License-Identifier: Apache-2.0
//
// A PollLoop is the one place where the server waits. It calls whoever watches
// a descriptor that has become readable, and whoever asked to be called later.
//
//   absl::Status PrintSignalsFor(absl::Duration time, SignalFd& signals) {
//     PollLoop loop;
//     loop.Watch(signals.fd(), [&] {
//       absl::StatusOr<std::optional<SignalEvent>> event = signals.Next();
//       if (event.ok() && event->has_value()) {
//         std::cout << NameOfSignal((*event)->signo) << "\n";
//       }
//       return event.status();
//     });
//     loop.CallAfter(time, [&] {
//       loop.Stop();
//       return absl::OkStatus();
//     });
//     return loop.Run();
//   }
//
// What it is not: a framework. Nothing in //net, //signal or //proc knows it;
// each of them has a descriptor and a drain, and any loop will do.
//
// Readiness: level-triggered. A watcher that does not drain is called again. An
// error or hang-up on a descriptor counts as readable, so that the drain
// reports it. It costs the same however many descriptors are watched.
//
// Ownership: descriptors are borrowed; Unwatch before closing one. Holds a
// descriptor of its own from the first Watch on.
//
// Errors: the first Status a callback returns that is not OK ends Run() with
// it; so does a descriptor that cannot be watched, such as a regular file's
// (EPERM).
//
// Threads: one. Signals: EINTR is not seen. Fork: a child must not use a copy,
// which would change what its parent watches.
// Rests on: epoll(7), clock_gettime(2) with CLOCK_MONOTONIC.
#ifndef BROOD_SERVER_POLL_LOOP_H_
#define BROOD_SERVER_POLL_LOOP_H_

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "brood/proc/unique_fd.h"

namespace brood {

class PollLoop {
 public:
  using Callback = absl::AnyInvocable<absl::Status()>;

  PollLoop() = default;
  PollLoop(const PollLoop&) = delete;
  PollLoop& operator=(const PollLoop&) = delete;

  // Calls `on_readable` whenever `fd` is readable, instead of any earlier
  // watcher.
  void Watch(int fd, Callback on_readable);
  // Calls `on_gone` when nothing more can come from `fd`, nor go to it: both
  // directions have ended, or an error has ended the connection. What can be
  // read is not looked at, nor the end of one direction alone.
  void WatchGone(int fd, Callback on_gone);
  // Calls `on_end` when the peer has said that it sends no more, or is gone,
  // and again until somebody else watches `fd`. What can be read is not looked
  // at.
  void WatchEnd(int fd, Callback on_end);
  // Does nothing if nobody watches `fd`. A callback may unwatch itself or
  // another.
  void Unwatch(int fd);
  // Calls `action` once, when at least `delay` has passed, and not before all
  // who can be called now have been.
  void CallAfter(absl::Duration delay, Callback action);

  // When it began to call those who are called now; monotonic.
  absl::Duration woken_at() const { return woken_at_; }

  // Blocks until Stop(), or until a callback fails.
  absl::Status Run();
  // Makes Run() return when the callback that calls this has returned.
  void Stop() { stopped_ = true; }

 private:
  void WatchFor(uint32_t events, int fd, Callback callback);
  // Destroys it, if need be after it has returned.
  void Drop(std::unique_ptr<Callback> callback);
  absl::Status RunOnThisPage();
  absl::Status RunDueTimers();
  absl::Status WaitAndDispatch();

  UniqueFd epoll_;
  absl::Status watching_ = absl::OkStatus();  // The first that went wrong.
  // By descriptor.
  std::vector<std::unique_ptr<Callback>> watchers_;
  // The one that is being called. It may unwatch itself and still return.
  const Callback* called_ = nullptr;
  std::unique_ptr<Callback> unwatched_;             // That one, if it has.
  std::multimap<absl::Duration, Callback> timers_;  // By monotonic time.
  absl::Duration woken_at_ = -absl::InfiniteDuration();
  bool stopped_ = false;
};

}  // namespace brood

#endif  // BROOD_SERVER_POLL_LOOP_H_
