// SPDX-License-Identifier: Apache-2.0
#include "brood/server/worker_doors.h"

#include <poll.h>
#include <sys/epoll.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <optional>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/net/listener.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/server/common_door.h"
#include "brood/signal/action.h"
#include "brood/signal/mask.h"
#include "brood/signal/signal_set.h"

namespace brood {
namespace {

constexpr uint64_t kBell = ~uint64_t{0};  // What epoll says of it.

// What a handler can say. It is the process's, as its signals are.
volatile std::sig_atomic_t called_off_by_signal = 0;

}  // namespace

// Every worker asks for EPOLLEXCLUSIVE: for a client that comes, the kernel
// goes through those who watch the listener and stops at the first whose owner
// waits in epoll_wait(2). To wait in accept(2) would do the same with one call
// less, for one listener; but then only a signal could wake the worker to go.
absl::Status OwnDoors::Open() {
  epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  epoll_event bell = {.events = EPOLLIN | EPOLLET, .data = {.u64 = kBell}};
  if (!epoll_.valid() ||
      epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, bell_.fd(), &bell) == -1) {
    return ErrnoStatus(errno, "watch the bell");
  }
  return StepBack();
}

absl::InlinedVector<size_t, 8> OwnDoors::Wait(absl::Duration timeout) {
  std::array<epoll_event, 8> events;
  const int count = RetryOnEintr([&] {
    return epoll_wait(epoll_.get(), events.data(), events.size(),
                      EpollTimeout(timeout));
  });
  absl::InlinedVector<size_t, 8> woken;
  for (int i = 0; i < count; ++i) {
    const size_t from{events[i].data.u64};
    if (from != kBell) woken.push_back(from);
  }
  return woken;
}

absl::Status OwnDoors::Pause(absl::Duration time) {
  StepAside();
  epoll_event bell;
  (void)epoll_wait(epoll_.get(), &bell, 1, EpollTimeout(time));
  return StepBack();
}

void OwnDoors::StepAside() {
  for (size_t i = 0; i < listeners_.size(); ++i) Unwatch(i);
}

absl::Status OwnDoors::StepBack() {
  for (size_t i = 0; i < listeners_.size(); ++i) {
    if (listeners_[i].fd() == -1) continue;
    epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE,
                         .data = {.u64 = i}};
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, listeners_[i].fd(), &event) ==
        -1) {
      return ErrnoStatus(errno, "watch a listener");
    }
  }
  return absl::OkStatus();
}

// Epoll forgets a descriptor only when its last copy is gone, and the other
// workers have copies.
void OwnDoors::Unwatch(size_t listener) {
  (void)epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, listeners_[listener].fd(),
                  nullptr);
}

// Blocked but for the wait, which lets it in at once if it has come before: so
// none is missed between a look at called_off() and the wait.
absl::Status SharedDoors::Open() {
  absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGURG});
  if (!mask.ok()) return mask.status();
  mask_.emplace(*std::move(mask));
  called_off_by_signal = 0;
  absl::StatusOr<SignalAction> action = SignalAction::Handle(
      SIGURG, [](int) { called_off_by_signal = 1; }, {.restart = false});
  if (!action.ok()) return action.status();
  action_.emplace(*std::move(action));
  return absl::OkStatus();
}

// What is pending is let in only by a wait that finds nobody, which in a flood
// may take long.
absl::InlinedVector<size_t, 8> SharedDoors::Wait(absl::Duration timeout) {
  constexpr timespec kNow = {};
  const SignalSet urgent = {SIGURG};
  const sigset_t native = urgent.native();
  absl::InlinedVector<size_t, 8> woken;
  if (sigtimedwait(&native, nullptr, &kNow) == SIGURG) called_off_by_signal = 1;
  if (called_off()) return woken;
  if (closing_) {  // Which the door would say again, at once.
    (void)Pause(timeout);
    return woken;
  }
  const std::optional<size_t> at = door_.Wait(timeout, mask_->previous());
  if (at == CommonDoor::kClosing) {
    closing_ = true;
  } else if (at.has_value()) {
    woken.push_back(*at);
  }
  return woken;
}

bool SharedDoors::called_off() const { return called_off_by_signal != 0; }

absl::Status SharedDoors::Pause(absl::Duration time) {
  const timespec timeout = absl::ToTimespec(time);
  const sigset_t mask = mask_->previous().native();
  (void)ppoll(nullptr, 0, time == absl::InfiniteDuration() ? nullptr : &timeout,
              &mask);
  return absl::OkStatus();
}

// The action goes first: what is pending then strikes nobody.
void SharedDoors::Leave() {
  door_.Leave();
  action_.reset();
  mask_.reset();
}

}  // namespace brood
