// SPDX-License-Identifier: Apache-2.0
#include "brood/server/poll_loop.h"

#include <alloca.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

// The frames of whoever calls this go on with a page of the stack, as long as
// that one has not returned. After each fork the parent copies every page that
// it writes to; what a callback needs fits into one, unless it straddles two.
[[gnu::always_inline]] inline void BeginStackPage() {
  constexpr uintptr_t kPage = 4096;
  void* const rest =
      alloca(reinterpret_cast<uintptr_t>(__builtin_frame_address(0)) % kPage);
  asm volatile("" : : "r"(rest));  // It is not left out for being unused.
}

}  // namespace

void PollLoop::Watch(int fd, Callback on_readable) {
  WatchFor(EPOLLIN, fd, std::move(on_readable));
}

void PollLoop::WatchGone(int fd, Callback on_gone) {
  WatchFor(0, fd, std::move(on_gone));  // EPOLLERR and EPOLLHUP come always.
}

void PollLoop::WatchEnd(int fd, Callback on_end) {
  WatchFor(EPOLLRDHUP, fd, std::move(on_end));
}

void PollLoop::WatchFor(uint32_t events, int fd, Callback callback) {
  if (!epoll_.valid()) epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  const auto index = static_cast<size_t>(fd);
  if (watchers_.size() <= index) watchers_.resize(index + 1);
  epoll_event event = {.events = events, .data = {.fd = fd}};
  const int operation =
      watchers_[index] == nullptr ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
  if (epoll_ctl(epoll_.get(), operation, fd, &event) == -1) {
    watching_.Update(ErrnoStatus(errno, absl::StrCat("watch descriptor ", fd)));
    return;
  }
  Drop(std::exchange(watchers_[index],
                     std::make_unique<Callback>(std::move(callback))));
}

void PollLoop::Drop(std::unique_ptr<Callback> callback) {
  if (callback.get() == called_) unwatched_ = std::move(callback);
}

void PollLoop::Unwatch(int fd) {
  const auto index = static_cast<size_t>(fd);
  if (index >= watchers_.size() || watchers_[index] == nullptr) return;
  Drop(std::move(watchers_[index]));
  (void)epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

void PollLoop::CallAfter(absl::Duration delay, Callback action) {
  timers_.emplace(MonotonicNow() + delay, std::move(action));
}

absl::Status PollLoop::Run() {
  BeginStackPage();
  return RunOnThisPage();
}

// Not a part of Run(), whose own frame, and with it what each round returns, is
// above that page.
ABSL_ATTRIBUTE_NOINLINE absl::Status PollLoop::RunOnThisPage() {
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
  // What an action asks for waits for the next round, so that others get theirs
  // however often it asks for "at once".
  const absl::Duration now = MonotonicNow();
  while (!stopped_ && !timers_.empty() && timers_.begin()->first <= now) {
    Callback action = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    if (absl::Status status = action(); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status PollLoop::WaitAndDispatch() {
  if (!watching_.ok()) return watching_;
  int timeout = -1;
  if (!timers_.empty()) {
    const absl::Duration left = timers_.begin()->first - MonotonicNow();
    // Rounded up, so as not to spin through the last millisecond.
    timeout = static_cast<int>(std::clamp<int64_t>(
        absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1))), 0,
        std::numeric_limits<int>::max()));
  }
  std::array<epoll_event, 16> events;
  if (!epoll_.valid()) epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  const int ready =
      epoll_wait(epoll_.get(), events.data(), events.size(), timeout);
  if (ready == -1) {
    if (errno == EINTR) return absl::OkStatus();
    return ErrnoStatus(errno, "epoll_wait");
  }
  woken_at_ = MonotonicNow();
  for (int i = 0; i < ready; ++i) {
    // An earlier callback of this round may have unwatched this one. If its
    // number has gone to another descriptor that is watched, that one is called
    // for nothing, which a drain does not mind.
    Callback* const callback =
        watchers_[static_cast<size_t>(events[i].data.fd)].get();
    if (callback == nullptr) continue;
    called_ = callback;
    const absl::Status status = (*callback)();
    called_ = nullptr;
    unwatched_ = nullptr;
    if (!status.ok()) return status;
    if (stopped_) break;
  }
  return absl::OkStatus();
}

}  // namespace brood
