// SPDX-License-Identifier: Apache-2.0
//
// An AcceptRemedy is what to do about one errno of accept4(2).
//
//   bool IsPassing(const absl::Status& trouble) {
//     return RemedyFor(ErrnoOf(trouble)) != AcceptRemedy::kGiveUp;
//   }
//
// What it is not: done here. See Listener::AcceptBatch, which follows the
// table.
//
// The mistake to avoid is to take one errno for another's kind: a listener that
// is closed because one client had a broken network (EPROTO) or because the
// machine was short of files for a moment (ENFILE) never comes back, and one
// that is asked again at once when descriptors have run out (EMFILE) turns the
// loop into a spin, since it stays readable.
//
// An errno that is not in the table is one that no manual page knows, such as a
// sandbox makes up: kPause, for a listener that is no good any more says so
// with one of those that are.
//
// Threads, signals, fork: a pure function and a constant table.
// Rests on: accept4(2), "Error handling" and "ERRORS"; ip(7).
#ifndef BROOD_NET_ACCEPT_ERROR_H_
#define BROOD_NET_ACCEPT_ERROR_H_

#include <string_view>

#include "absl/types/span.h"

namespace brood {

enum class AcceptRemedy {
  // Nobody waits: wait until the listener is readable.
  kWait,
  // It was about one client, who has left or has a broken network: take the
  // next.
  kRetry,
  // The kernel is short of memory: not now, but soon.
  kPause,
  // There is no descriptor for one more: not now, and if it lasts, tell those
  // who wait by turning them away.
  kShedAndPause,
  // This is no listener, or no more: asking again will not help.
  kGiveUp,
};

struct AcceptErrorRow {
  int error;
  AcceptRemedy remedy;
  // What has happened, in a few words.
  std::string_view meaning;
};

// One row for each errno that accept4(2) is known to set.
absl::Span<const AcceptErrorRow> AcceptErrors();

AcceptRemedy RemedyFor(int error);

}  // namespace brood

#endif  // BROOD_NET_ACCEPT_ERROR_H_
