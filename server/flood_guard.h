// SPDX-License-Identifier: Apache-2.0
//
// A FloodGuard says which sources to shut out for a while: those of whom so
// many are turned away that turning away is what the server does.
//
//   // Who is to be shut out, once `peer` has been turned away too.
//   std::vector<AddressRange> AndOneMore(FloodGuard& guard, const Address& peer,
//                                        absl::Duration now) {
//     (void)guard.Count(SourceKey::Of(peer), now);
//     return guard.Shut(now);
//   }
//
// What it is not: a limit. Whoever is within his limits, and stays until he has
// his turn, is never counted here, however fast he comes. Nor does it shut
// anybody out: it has no socket and no clock; see net/syn_filter.h for one who
// does.
//
// A source of whom `threshold` are turned away within a second is shut out for
// 0.9 s: for less than a second, so that a client that knocks meanwhile and
// asks again a second later, as TCP does, is heard. If its knocking has not
// ceased by then, it stays shut out, and is looked after every 0.9 s, up to a
// minute; so a flood that goes on need not be let in to be seen, and what it
// was is over soon after it ends. That is so while it is the only one: of
// several it is not known who knocks.
//
// Who is heard again and goes on needs but a sixteenth of the threshold, and is
// shut out for twice as long, and so on to 7.2 s; a quiet time of 15 s makes
// that forgotten. So a flood costs the server `threshold` times the cost of
// turning one away, and a sixteenth of that now and then.
//
// It remembers kRemembered sources, those who were turned away most, and shuts
// out no more than kMostShut of them at a time. A source that is not an address
// (a unix client) is not counted.
//
// Ownership: none. Errors: none. Threads: one. Signals: none. Fork: a value; a
// copy counts for itself.
// Rests on: Metwally, Agrawal, El Abbadi: "Efficient Computation of Frequent
// and Top-k Elements in Data Streams" (space saving), for whom to remember.
#ifndef BROOD_SERVER_FLOOD_GUARD_H_
#define BROOD_SERVER_FLOOD_GUARD_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "brood/net/address_range.h"
#include "brood/net/source_key.h"

namespace brood {

class FloodGuard {
 public:
  static constexpr uint32_t kDefaultThreshold = 500;
  static constexpr size_t kRemembered = 64;
  static constexpr size_t kMostShut = 16;
  static constexpr absl::Duration kWindow = absl::Seconds(1);
  static constexpr absl::Duration kFirst = absl::Milliseconds(900);
  static constexpr absl::Duration kLongest = absl::Milliseconds(7200);
  static constexpr absl::Duration kMostAtATime = absl::Minutes(1);
  static constexpr absl::Duration kForgotten = absl::Seconds(15);
  // Of the threshold, for who has been shut out and is not forgotten.
  static constexpr uint32_t kPartOfKnown = 16;

  // 0: nobody is ever shut out.
  explicit FloodGuard(uint32_t threshold)
      : threshold_(threshold), entries_(kRemembered) {}

  // One of this source has been turned away. Says whether the source is to be
  // shut out from now on. All times are monotonic.
  bool Count(const SourceKey& source, absl::Duration now);
  // The same, if it is known that so many were.
  bool CountAll(const SourceKey& source, absl::Duration now);

  // Who is to be shut out now.
  std::vector<AddressRange> Shut(absl::Duration now) const;
  // Until when, if it is.
  std::optional<absl::Duration> ShutUntil(const SourceKey& source,
                                          absl::Duration now) const;
  // Whether it went on after it had been shut out before.
  bool WentOn(const SourceKey& source) const;
  // When the first of them is to be heard again.
  std::optional<absl::Duration> NextOpening(absl::Duration now) const;
  // To be called then, with how many knocks were not heard since somebody was
  // shut out, or since the last call: who is not to be heard yet.
  std::optional<AddressRange> GoesOn(absl::Duration now, uint32_t knocks);
  // Forgets what the source did.
  void Forget(const SourceKey& source);

  uint32_t threshold() const { return threshold_; }

 private:
  struct Entry {
    std::optional<AddressRange> network;  // None: nobody.
    uint32_t count = 0;
    absl::Duration since = -absl::InfiniteDuration();
    bool shut = false;  // Until GoesOn() says otherwise.
    absl::Duration shut_since = -absl::InfiniteDuration();
    absl::Duration shut_until = -absl::InfiniteDuration();
    absl::Duration penalty = absl::ZeroDuration();  // Of the last time.
  };

  uint32_t ThresholdOf(const Entry& entry, absl::Duration now) const;
  const Entry* Find(const SourceKey& source) const;
  Entry& FindOrReplace(const AddressRange& network, absl::Duration now);
  bool ShutOut(Entry& entry, absl::Duration now);

  uint32_t threshold_;
  // Apart from the object, which lies beside what changes with every client.
  std::vector<Entry> entries_;
};

}  // namespace brood

#endif  // BROOD_SERVER_FLOOD_GUARD_H_
