// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/turn_times.h"

#include <array>
#include <cstddef>

#include "absl/time/time.h"

namespace brood {
namespace {

// As on a machine with two processors.
constexpr std::array<absl::Duration, 3> kGuesses = {
    absl::Seconds(6), absl::Seconds(20), absl::Seconds(2)};
constexpr std::array<absl::Duration, 3> kGuessesOfQuick = {
    absl::Milliseconds(1300), absl::Seconds(3), absl::Milliseconds(500)};

size_t IndexOf(TurnKind kind) { return static_cast<size_t>(kind); }

}  // namespace

void TurnTimes::Add(size_t who, TurnKind kind, absl::Duration took) {
  for (Sum* sum : {&all_[IndexOf(kind)], &by_who_[IndexOf(kind)][who]}) {
    sum->took += took;
    ++sum->turns;
  }
}

absl::Duration TurnTimes::GuessOf(TurnKind kind) const {
  return (quick_ ? kGuessesOfQuick : kGuesses)[IndexOf(kind)];
}

absl::Duration TurnTimes::Of(size_t who, TurnKind kind) const {
  const auto& of_kind = by_who_[IndexOf(kind)];
  if (const auto own = of_kind.find(who); own != of_kind.end()) {
    return own->second.took / own->second.turns;
  }
  const Sum& all = all_[IndexOf(kind)];
  if (all.turns > 0) return all.took / all.turns;
  absl::Duration took = absl::ZeroDuration();
  absl::Duration guessed = absl::ZeroDuration();
  for (const TurnKind other :
       {TurnKind::kPlain, TurnKind::kCrowd, TurnKind::kCost}) {
    took += all_[IndexOf(other)].took;
    guessed += GuessOf(other) * all_[IndexOf(other)].turns;
  }
  if (guessed == absl::ZeroDuration()) return GuessOf(kind);
  return GuessOf(kind) * absl::FDivDuration(took, guessed);
}

}  // namespace brood
