// SPDX-License-Identifier: Apache-2.0
//
// TurnTimes says how long the turns of a comparison will take, from how long
// those before them took.
//
//   absl::Duration Left(const TurnTimes& times,
//                       const std::vector<size_t>& who_is_to_come) {
//     absl::Duration left = absl::ZeroDuration();
//     for (const size_t who : who_is_to_come) {
//       left += times.Of(who, TurnKind::kPlain);
//     }
//     return left;
//   }
//
// What it is not: a clock. It is told what each turn took.
//
// The same contender's turns of the same kind are the best witness, then those
// of others of that kind; of a kind that nobody has had yet a guess is taken,
// as much off as the guesses of the others were.
//
// Threads, signals, fork: a value.
#ifndef BROOD_TOOLS_BENCH_TURN_TIMES_H_
#define BROOD_TOOLS_BENCH_TURN_TIMES_H_

#include <array>
#include <cstddef>
#include <map>

#include "absl/time/time.h"

namespace brood {

// Without crowds, with them, and for processor time.
enum class TurnKind : size_t { kPlain, kCrowd, kCost };

class TurnTimes {
 public:
  explicit TurnTimes(bool quick) : quick_(quick) {}

  void Add(size_t who, TurnKind kind, absl::Duration took);
  absl::Duration Of(size_t who, TurnKind kind) const;

 private:
  struct Sum {
    absl::Duration took = absl::ZeroDuration();
    int turns = 0;
  };

  absl::Duration GuessOf(TurnKind kind) const;

  bool quick_;
  std::array<Sum, 3> all_ = {};
  std::array<std::map<size_t, Sum>, 3> by_who_ = {};
};

}  // namespace brood

#endif  // BROOD_TOOLS_BENCH_TURN_TIMES_H_
