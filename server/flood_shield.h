// SPDX-License-Identifier: Apache-2.0
//
// A FloodShield has the kernel drop the SYNs of those whom a FloodGuard shuts
// out, and has them heard again when their time is over.
//
//   void Protect(const std::vector<Listener>& doors, FloodShield& shield,
//                PollLoop& loop) {
//     shield.Start(loop, {.drop = [&](absl::Span<const AddressRange> sources) {
//                           return DropSynsFrom(doors, sources);
//                         },
//                         .dropped = [&] { return PacketsDroppedAt(doors); }});
//   }
//
// What it is not: the one who turns clients away; who does, says so by Count().
// What counts as a flood, and for how long it is shut out, stands in
// flood_guard.h. Who is no flood, but comes faster than he can be served, can
// be held back meanwhile.
//
// Whoever is shut out is told as an event, at most every 0.9 s, and once, if it
// goes on; who is held back, at most every ten seconds; so is a kernel
// that will not drop for us, once, and then the shield does nothing any more.
//
// Ownership: none. Errors: none. Threads: one. Signals: none. Fork: a child
// must not use a copy. Rests on: flood_guard.h, net/syn_filter.h.
#ifndef BROOD_SERVER_FLOOD_SHIELD_H_
#define BROOD_SERVER_FLOOD_SHIELD_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address_range.h"
#include "brood/net/source_key.h"
#include "brood/server/connection_log.h"
#include "brood/server/flood_guard.h"
#include "brood/server/poll_loop.h"

namespace brood {

class FloodShield {
 public:
  // What the shield does it does by these.
  struct Doors {
    // Drops the SYNs of these and of nobody else from now on.
    absl::AnyInvocable<absl::Status(absl::Span<const AddressRange>)> drop;
    // How many have been dropped so far, modulo 2^32.
    absl::AnyInvocable<uint32_t()> dropped;
  };

  // See FloodGuard.
  explicit FloodShield(uint32_t threshold) : guard_(threshold) {}
  FloodShield(const FloodShield&) = delete;
  FloodShield& operator=(const FloodShield&) = delete;

  // Before this nobody is shut out.
  void Start(PollLoop& loop, Doors doors);
  // Hears everybody again, and shuts nobody out any more: the filter is the
  // socket's, which may outlive the server.
  void Stop();
  void OnEvent(absl::AnyInvocable<void(const LogEvent&)> observer) {
    observer_ = std::move(observer);
  }

  // One of this source has been turned away; or threshold() have.
  void Count(const SourceKey& source);
  void CountAll(const SourceKey& source);
  // 0 if nobody is ever shut out.
  uint32_t threshold() const { return on() ? guard_.threshold() : 0; }

  // Nor hears those of this source until LetGo(): as many of it wait as may,
  // and whoever knocked meanwhile asks again. It is no punishment, and does
  // nothing if it cannot be done, or if kMostHeld others are held.
  static constexpr size_t kMostHeld = 16;
  void Hold(const SourceKey& source);
  void LetGo(const SourceKey& source);
  bool holds() const { return !held_.empty(); }

  // "shut out: for 0.8s more: ..." or "held back: ..." as a line, or nothing.
  std::string Explain(const SourceKey& source) const;
  // Hears the source again, and forgets what it did. Says whether it was shut
  // out.
  bool Forget(const SourceKey& source);

 private:
  bool on() const { return doors_.drop != nullptr; }
  void ShutOut(const SourceKey& source, absl::Duration now);
  bool Holds(const SourceKey& source) const;
  // Whom nobody is to hear now.
  std::vector<AddressRange> Unheard(absl::Duration now) const;
  void Update(absl::Duration now);
  void OpenLater(absl::Duration now);
  void OpenUnlessItGoesOn(absl::Duration now);
  std::string Why(const SourceKey& source) const;

  FloodGuard guard_;
  PollLoop* loop_ = nullptr;
  Doors doors_;
  uint32_t dropped_ = 0;  // As of the last change, or look.
  bool goes_on_ = false;
  std::vector<AddressRange> held_;
  // Of what was dropped since then, some were those who are held.
  bool held_some_ = false;
  absl::Duration told_held_until_ = -absl::InfiniteDuration();
  absl::AnyInvocable<void(const LogEvent&)> observer_;
  absl::Duration timer_at_ = absl::InfiniteDuration();  // Monotonic.
};

}  // namespace brood

#endif  // BROOD_SERVER_FLOOD_SHIELD_H_
