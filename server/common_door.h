// SPDX-License-Identifier: Apache-2.0
//
// A CommonDoor is where many processes wait for the clients of some listeners,
// and for each client one of them wakes up.
//
//   // In a forked child: the first client that it gets.
//   std::optional<Accepted> Next(CommonDoor& door,
//                                std::vector<Listener>& listeners) {
//     while (const auto at = door.Wait(absl::InfiniteDuration())) {
//       absl::StatusOr<std::optional<Accepted>> client =
//           listeners[*at].Accept();
//       door.LookAgain(*at);
//       if (client.ok() && client->has_value()) return *std::move(client);
//     }
//     return std::nullopt;  // A signal has come.
//   }
//
// What it is not: a queue. Whoever wakes up has to accept for himself, and may
// find that somebody else was faster. Nor is it for who comes back often: each
// process could then as well have an epoll(7) of its own. It is for those who
// wait once, for to leave it costs a close(2), and no memory is given back.
//
// Two clients may come before the first who was woken has looked. So whoever
// has accepted says LookAgain(), and wakes the next if one is left; and if
// somebody has ended who may have been woken, the owner says
// LookEverywhereAgain() for him.
//
// Readiness: none of its own; Wait() is the way to wait.
//
// Ownership: owns one descriptor, which all copies of the process share.
// Listeners are borrowed; each is watched until its last copy is closed.
// Errors: Create: what epoll_create1(2) and epoll_ctl(2) say.
//
// Threads: any. Signals: Wait() lets in what its caller blocks, if asked, and
// ends with it. Fork: that is what it is for; a child that has its client says
// Leave(). Rests on: epoll(7) with EPOLLET, epoll_pwait(2).
#ifndef BROOD_SERVER_COMMON_DOOR_H_
#define BROOD_SERVER_COMMON_DOOR_H_

#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/listener.h"
#include "brood/proc/unique_fd.h"
#include "brood/signal/signal_set.h"

namespace brood {

// For epoll_wait(2): in milliseconds, rounded up, and -1 for ever.
int EpollTimeout(absl::Duration timeout);

class CommonDoor {
 public:
  static absl::StatusOr<CommonDoor> Create(
      absl::Span<const Listener> listeners);

  // What Wait() says to everybody after Close().
  static constexpr size_t kClosing = ~size_t{0};

  // Blocks until somebody may be at a listener, and says which; nullopt if a
  // signal or the end of `timeout` came first. While it waits the caller blocks
  // `blocked` and nothing else; by default what it blocks anyway.
  std::optional<size_t> Wait(
      absl::Duration timeout,
      const std::optional<SignalSet>& blocked = std::nullopt);

  // Wakes one who waits if there is a client at this listener.
  void LookAgain(size_t listener);
  void LookEverywhereAgain();

  // Whoever waits, or will, is told kClosing from now on, beside what else
  // there is. `readable` is a descriptor that remains so.
  absl::Status Close(int readable);

  // Borrowed.
  int fd() const { return epoll_.get(); }
  // For a child that has its client.
  void Leave() { (void)epoll_.Close(); }

 private:
  CommonDoor(UniqueFd epoll, std::vector<int> listeners)
      : epoll_(std::move(epoll)), listeners_(std::move(listeners)) {}

  UniqueFd epoll_;
  std::vector<int> listeners_;  // Their descriptors.
};

}  // namespace brood

#endif  // BROOD_SERVER_COMMON_DOOR_H_
