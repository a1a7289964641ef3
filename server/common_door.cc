// SPDX-License-Identifier: Apache-2.0
#include "brood/server/common_door.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/listener.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/signal/signal_set.h"

namespace brood {
namespace {

// Level-triggered, whoever wakes up would wake the next, who finds nobody:
// epoll puts what is still ready back before the first has accepted.
epoll_event EventOf(size_t listener) {
  return {.events = EPOLLIN | EPOLLET, .data = {.u64 = listener}};
}

}  // namespace

int EpollTimeout(absl::Duration timeout) {
  if (timeout == absl::InfiniteDuration()) return -1;
  return static_cast<int>(std::min<int64_t>(
      absl::ToInt64Milliseconds(absl::Ceil(timeout, absl::Milliseconds(1))),
      std::numeric_limits<int>::max()));
}

absl::StatusOr<CommonDoor> CommonDoor::Create(
    absl::Span<const Listener> listeners) {
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return ErrnoStatus(errno, "epoll_create1");
  std::vector<int> fds;
  for (const Listener& listener : listeners) {
    epoll_event event = EventOf(fds.size());
    if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, listener.fd(), &event) == -1) {
      return ErrnoStatus(errno, absl::StrCat("watch ", listener.address()));
    }
    fds.push_back(listener.fd());
  }
  return CommonDoor(std::move(epoll), std::move(fds));
}

// Waiters are woken one for each event, the last one to have come first. One
// event at a time, for who takes two keeps the other from those who wait.
std::optional<size_t> CommonDoor::Wait(
    absl::Duration timeout, const std::optional<SignalSet>& blocked) {
  epoll_event event;
  const sigset_t mask = blocked.value_or(SignalSet()).native();
  const int count = epoll_pwait(epoll_.get(), &event, 1, EpollTimeout(timeout),
                                blocked.has_value() ? &mask : nullptr);
  if (count != 1) return std::nullopt;
  return size_t{event.data.u64};
}

// A change of what is watched makes epoll look whether it is there already.
void CommonDoor::LookAgain(size_t listener) {
  epoll_event event = EventOf(listener);
  (void)epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, listeners_[listener], &event);
}

// Of what is on the list of those that are ready, nobody is told by that. It
// stays there if who was woken for it was killed before he looked.
void CommonDoor::LookEverywhereAgain() {
  for (size_t i = 0; i < listeners_.size(); ++i) {
    if (!Wait(absl::ZeroDuration()).has_value()) break;
  }
  for (size_t i = 0; i < listeners_.size(); ++i) LookAgain(i);
}

// Level-triggered: whoever is woken wakes the next.
absl::Status CommonDoor::Close(int readable) {
  epoll_event event = {.events = EPOLLIN, .data = {.u64 = kClosing}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, readable, &event) == -1) {
    return ErrnoStatus(errno, "close a common door");
  }
  return absl::OkStatus();
}

}  // namespace brood
