// SPDX-License-Identifier: Apache-2.0
//
// A Patience says how long one connection may go on, and a Progress which of
// its limits a connection has run into.
//
//   std::optional<Ended> WhyItIsToEnd(const Stream& stream,
//                                     Progress& progress) {
//     const Patience patience = {.handler_timeout = absl::Minutes(5),
//                                .idle_timeout = absl::Seconds(30)};
//     return progress.LimitOf(patience, stream.fd(), MonotonicNow());
//   }
//
// What it is not: the one who ends a connection, which is the model's business:
// its process group, and whoever else a program has started, receives SIGTERM
// and, kTermToKill later, SIGKILL.
//
// Silence and slowness are TCP's to tell: to look at a connection from outside
// a copy of its descriptor is enough, whatever its handler does. A unix socket
// tells neither, and is never silent or slow.
//
// Ownership: descriptors and the loop are borrowed. Errors: of what TCP does
// not tell no limit speaks. Threads, signals, fork: values.
// Rests on: tcp_info.h, poll_loop.h.
#ifndef BROOD_SERVER_PATIENCE_H_
#define BROOD_SERVER_PATIENCE_H_

#include <cstdint>
#include <optional>

#include "absl/time/time.h"
#include "brood/server/connection_log.h"
#include "brood/server/poll_loop.h"

namespace brood {

struct Patience {
  // Less than so many bytes, in and out together, in a whole period.
  struct MinRate {
    uint64_t bytes = 0;
    absl::Duration period = absl::Seconds(1);
  };

  // How long whoever is to end has between SIGTERM and SIGKILL.
  static constexpr absl::Duration kTermToKill = absl::Seconds(2);

  // How long a connection may take; how long both sides may be silent; what
  // has to go through it. The last two do not hold for unix clients.
  absl::Duration handler_timeout = absl::InfiniteDuration();
  absl::Duration idle_timeout = absl::InfiniteDuration();
  std::optional<MinRate> min_rate = std::nullopt;
  // How long a program may go on when its client is gone: both directions
  // have ended, or the connection was reset. A forked handler finds out by
  // itself.
  absl::Duration client_gone_grace = absl::Seconds(10);

  // Whether TCP has to be asked.
  bool asks_tcp() const {
    return idle_timeout != absl::InfiniteDuration() || min_rate.has_value();
  }
  // How often at most to look at the connections, and at those who are to be
  // killed.
  absl::Duration tick() const;
  // No connection runs into a limit sooner than this after its begin.
  absl::Duration shortest() const;
};

// How one connection has gone so far.
class Progress {
 public:
  // All times are monotonic.
  explicit Progress(absl::Duration begin = absl::ZeroDuration())
      : begin_(begin), period_begin_(begin) {}

  absl::Duration begin() const { return begin_; }
  // The first limit that the connection on `fd` has run into. Without a
  // descriptor, -1, TCP is not asked. Before look_at() the answer is none, and
  // nobody is asked.
  std::optional<Ended> LimitOf(const Patience& patience, int fd,
                               absl::Duration now);
  // When it is to be looked at next; never, if that is infinite.
  absl::Duration look_at() const { return look_at_; }

 private:
  absl::Duration begin_;
  absl::Duration look_at_ = -absl::InfiniteDuration();
  // For the least rate.
  absl::Duration period_begin_;
  uint64_t period_bytes_ = 0;
};

// Calls `then` once, when the client of `fd` has been gone for `grace`; never
// if `fd` is not watched any more by the time that it goes. Somebody else may
// have the descriptor when it is called.
//
// A TCP client that closes says nothing but that it sends no more, as one does
// that waits for an answer. From then on its kernel is asked by keep-alive,
// unless the connection has that already: it answers for the one who waits, and
// about a minute after a close it knows nothing of the other any more.
void CallWhenClientIsGone(PollLoop& loop, int fd, absl::Duration grace,
                          PollLoop::Callback then);

}  // namespace brood

#endif  // BROOD_SERVER_PATIENCE_H_
