// SPDX-License-Identifier: Apache-2.0
//
// A CrowdPolicy says what becomes of those who come faster than they can be
// given processes, so that who comes seldom need not wait for who comes often.
//
//   // Lets `client` wait for its process, if it may.
//   bool MayWait(CrowdPolicy& policy, FairQueue<Stream>& queue, Stream client,
//                const SourceKey& source, absl::Duration now) {
//     policy.NoteArrival(source, now);
//     const CrowdPolicy::Verdict verdict = policy.PutOff(
//         source, {.all = queue.size(), .of_source = queue.size_of(source)},
//         now);
//     if (verdict == CrowdPolicy::Verdict::kTurnAway) return false;
//     queue.Push(source, std::move(client));
//     return true;
//   }
//
// What it is not: a limit. Whom it judges has been admitted, see admission.h;
// where nobody but one source comes, that one may have every place. Nor does it
// do anything: it has no queue, no socket and no clock.
//
// There are `places` to wait in, and the kernel's queue before them, which
// knows no sources: whoever stands in it waits for all who came before him. So
// that queue is emptied into these places as long as there are any. While more
// than one source comes,
// - one that has kMostOfOne waiting (or a quarter of the places) is held back:
//   its further clients are not to be heard until an eighth of that is left;
//   whoever was held back in the last kKnown with a sixteenth of that;
// - one that has more than half of the places while all are taken is turned
//   away, and the kernel's queue is emptied all the same, for the sake of those
//   who stand behind. That is for where nobody can be held back.
// A source counts as coming for kExpected after it came.
//
// Ownership: none. Errors: none. Threads: one. Signals: none. Fork: a value; a
// copy judges for itself. All times are monotonic.
// Rests on: listen(2) for the kernel's queue.
#ifndef BROOD_SERVER_CROWD_POLICY_H_
#define BROOD_SERVER_CROWD_POLICY_H_

#include <cstddef>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "brood/net/source_key.h"

namespace brood {

class CrowdPolicy {
 public:
  // Twice what the kernel's queue holds.
  static constexpr size_t kMostPlaces = 8192;
  static constexpr size_t kMostOfOne = 512;
  // Of what it may else have, for who was held back lately. One burst is
  // nobody's fault, but a flood is to leave the processors to others.
  static constexpr size_t kPartOfKnown = 16;
  static constexpr absl::Duration kKnown = absl::Seconds(10);
  static constexpr size_t kMostKnown = 64;
  static constexpr absl::Duration kExpected = absl::Seconds(10);

  // How many wait, and how many of the source in question.
  struct Waiting {
    size_t all = 0;
    size_t of_source = 0;
  };

  enum class Verdict {
    kWait,
    kHoldBack,  // It waits, and no other of its source is to come for now.
    kTurnAway,
  };

  // No more than kMostPlaces, and at least one.
  explicit CrowdPolicy(size_t places);

  // A client of this source has come.
  void NoteArrival(const SourceKey& source, absl::Duration now) {
    if (newest_ != source) NoteOther(source, now);
  }
  // What becomes of a client that has to wait, beside those who do already.
  Verdict PutOff(const SourceKey& source, Waiting waiting, absl::Duration now);
  // Whether a source that is held back may come again.
  bool IsOver(const SourceKey& source, Waiting waiting,
              absl::Duration now) const;
  // Whether the kernel's queue is to be emptied further. The source in question
  // is crowd().
  bool WantsMore(Waiting waiting, absl::Duration now) const;
  // Whether so many wait that others who come should get the processor between
  // two turns of theirs.
  bool IsCrowded(size_t waiting, absl::Duration now) const;

  // Who has, or had, more than half of the places.
  const std::optional<SourceKey>& crowd() const { return crowd_; }
  size_t places() const { return places_; }

 private:
  struct Known {
    SourceKey source;
    absl::Duration until;
  };

  void NoteOther(const SourceKey& source, absl::Duration now);
  void NoteHeld(const SourceKey& source, absl::Duration now);
  bool HasOthers(absl::Duration now) const { return now < others_until_; }
  bool IsMost(size_t of_source) const { return of_source > places_ / 2; }
  size_t MostOf(const SourceKey& source, absl::Duration now) const;

  size_t places_;
  size_t most_of_one_;
  // Of whom somebody came last, and until when others count that came before.
  std::optional<SourceKey> newest_;
  absl::Duration others_until_ = -absl::InfiniteDuration();
  std::optional<SourceKey> crowd_;
  std::vector<Known> known_;
};

}  // namespace brood

#endif  // BROOD_SERVER_CROWD_POLICY_H_
