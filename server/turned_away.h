// SPDX-License-Identifier: Apache-2.0
//
// A TurnedAway tells of the clients who had to go, and never of so many that
// the log is the flood's next victim.
//
//   void SendAway(TurnedAway& turned_away, Accepted client) {
//     turned_away.Tell(client.peer, "we are closed");
//     SayGoodbye(client.stream, "come back tomorrow", AtLimit::kRefuse);
//   }
//
// What it is not: the one who decides; see gate.h and prefork_worker.h.
//
// At most twenty a second are told singly; of the others their number is, with
// the first one who is told in a later second.
//
// Ownership: none. Errors: none. Threads: one. Signals: none. Fork: a child
// must not use a copy. Rests on: connection_log.h.
#ifndef BROOD_SERVER_TURNED_AWAY_H_
#define BROOD_SERVER_TURNED_AWAY_H_

#include <cstdint>
#include <string_view>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/stream.h"
#include "brood/server/admission.h"
#include "brood/server/connection_log.h"

namespace brood {

class TurnedAway {
 public:
  static constexpr int kToldPerSecond = 20;

  // Calls `observer` for who was turned away, instead of any earlier one; null
  // is nobody.
  void OnEvent(absl::AnyInvocable<void(const LogEvent&)> observer) {
    observer_ = std::move(observer);
  }

  void Tell(const Address& peer, std::string_view why);
  // So many more were, of whom nothing is known.
  void Count(uint64_t more) {
    count_ += more;
    not_told_ += more;
  }
  // All there have been.
  uint64_t count() const { return count_; }

 private:
  absl::AnyInvocable<void(const LogEvent&)> observer_;
  uint64_t count_ = 0;
  // Of the second that began last.
  absl::Duration since_ = -absl::InfiniteDuration();
  int told_ = 0;
  uint64_t not_told_ = 0;
};

// Sees a client off who has to go: with kReset by a reset, else by `message`,
// if it is not empty, and an end. Never blocks. The stream is to be closed.
void SayGoodbye(Stream& stream, std::string_view message, AtLimit how);

}  // namespace brood

#endif  // BROOD_SERVER_TURNED_AWAY_H_
