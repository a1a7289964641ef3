// SPDX-License-Identifier: Apache-2.0
//
// A pattern of bytes, sent and echoed, of which not one may be lost, changed or
// in another's place.
//
//   absl::Status TalkToMyself(Stream& here, Stream& there) {
//     const absl::Time soon = absl::Now() + absl::Minutes(1);
//     const absl::StatusOr<Child> echo =
//         Fork({}, [&] { return EchoPattern(there, soon).ok() ? 0 : 1; });
//     if (!echo.ok()) return echo.status();
//     return SendPattern(here, 1 << 20, soon);
//   }
//
// What it is not: random. A byte is a function of its place, so whoever checks
// it need not have kept what was sent.
//
// Errors: DataLoss, which says at which byte; and those of the stream.
#ifndef BROOD_TESTS_PATTERN_H_
#define BROOD_TESTS_PATTERN_H_

#include <cstddef>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "brood/net/stream.h"

namespace brood {

enum class SayEnd {
  kWhenAllIsSent,
  // For a peer that takes the end for its leave.
  kWhenAllIsEchoed,
};

// Sends the first `size` bytes of the pattern, and the end, and takes meanwhile
// what comes back: the same bytes, and then the end.
absl::Status SendPattern(Stream& stream, size_t size, absl::Time deadline,
                         SayEnd say_end = SayEnd::kWhenAllIsSent);

// Sends back what comes, until its end, and then the end.
absl::Status EchoPattern(Stream& stream, absl::Time deadline);

}  // namespace brood

#endif  // BROOD_TESTS_PATTERN_H_
