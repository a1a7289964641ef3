// SPDX-License-Identifier: Apache-2.0
#include "brood/server/poll_loop.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "brood/proc/posix.h"

namespace brood {

void PollLoop::Watch(int fd, Callback on_readable) {
  watchers_[fd] = std::make_shared<Callback>(std::move(on_readable));
}

void PollLoop::Unwatch(int fd) { watchers_.erase(fd); }

void PollLoop::CallAfter(absl::Duration delay, Callback action) {
  timers_.emplace(MonotonicNow() + delay, std::move(action));
}

absl::Status PollLoop::Run() {
  stopped_ = false;
  while (!stopped_) {
    // Descriptors first: on a machine that was held up, what has happened comes
    // before the time-out that waited for it.
    if (absl::Status status = WaitAndDispatch(); !status.ok()) return status;
    if (absl::Status status = RunDueTimers(); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status PollLoop::RunDueTimers() {
  while (!stopped_ && !timers_.empty() &&
         timers_.begin()->first <= MonotonicNow()) {
    Callback action = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    if (absl::Status status = action(); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status PollLoop::WaitAndDispatch() {
  std::vector<pollfd> items;
  items.reserve(watchers_.size());
  for (const auto& [fd, callback] : watchers_) {
    items.push_back({.fd = fd, .events = POLLIN, .revents = 0});
  }
  timespec left = {};
  if (!timers_.empty()) {
    left = absl::ToTimespec(std::max(timers_.begin()->first - MonotonicNow(),
                                     absl::ZeroDuration()));
  }
  const int ready = ppoll(items.data(), items.size(),
                          timers_.empty() ? nullptr : &left, nullptr);
  if (ready == -1) {
    if (errno == EINTR) return absl::OkStatus();
    return ErrnoStatus(errno, "poll");
  }
  for (const pollfd& item : items) {
    if (item.revents == 0) continue;
    // An earlier callback of this round may have unwatched this one.
    const auto it = watchers_.find(item.fd);
    if (it == watchers_.end()) continue;
    const std::shared_ptr<Callback> callback = it->second;
    if (absl::Status status = (*callback)(); !status.ok()) return status;
    if (stopped_) break;
  }
  return absl::OkStatus();
}

}  // namespace brood
