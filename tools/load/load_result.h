// SPDX-License-Identifier: Apache-2.0
//
// A LoadResult is what became of the connections of a LoadPlan.
//
//   std::string Verdict(const LoadResult& result) {
//     if (result.failures.empty()) {
//       return absl::StrCat("all ", result.whole, " whole");
//     }
//     const auto& [kind, failure] = *result.failures.begin();
//     return absl::StrCat("at worst ", NameOf(kind), ": ", failure.first);
//   }
//
// What it is not: words for a person; see load_report.h.
//
// Threads, signals, fork: a value.
#ifndef BROOD_TOOLS_LOAD_LOAD_RESULT_H_
#define BROOD_TOOLS_LOAD_LOAD_RESULT_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "brood/tools/load/histogram.h"

namespace brood {

// How a connection can fail, the worst first.
enum class LoadFailure {
  kWrongBytes,  // Other bytes came back, or more, than were sent.
  kReset,       // The server, or a router, cut it in the middle.
  kClosed,      // The server ended it before its answer was whole.
  kTimeout,     // For LoadPlan::timeout nothing happened.
  kRefused,     // Nothing listens there.
  kNoRoom,      // No port or no descriptor was left on this machine.
  kNotBegun,    // It was due, and the duration was over before its turn came.
  kUnanswered,  // Closed or reset, and never a byte of an answer came.
  kOther,
};
inline constexpr int kLoadFailures = 9;

// "wrong_bytes".
std::string_view NameOf(LoadFailure kind);

// How far a run has come.
struct LoadProgress {
  absl::Duration elapsed = absl::ZeroDuration();
  uint64_t whole = 0;
  uint64_t failed = 0;
  uint64_t messages = 0;
  uint64_t open = 0;
};

struct LoadResult {
  struct Failure {
    uint64_t count = 0;
    // What happened the first time, in words.
    std::string first = {};

    friend bool operator==(const Failure&, const Failure&) = default;
  };

  // Connections on which everything was as it should be, from beginning to end.
  uint64_t whole = 0;
  // Of those that were not. Nothing for what did not happen.
  std::map<LoadFailure, Failure> failures = {};
  // Connections that were dropped unfinished because the run was stopped.
  uint64_t abandoned = 0;
  // The run was stopped, or gave up because not one connection was whole.
  bool stopped = false;
  bool gave_up = false;

  // Whole messages, and bytes of messages, also of connections that failed.
  uint64_t messages = 0;
  uint64_t bytes_sent = 0;
  uint64_t bytes_received = 0;

  // Of whole connections that had the time to say all: from when each was due
  // until it was closed.
  Histogram connection = {};
  // From when each began until the server could be written to.
  Histogram connect = {};
  // Of whole messages that are answered: from the first byte sent to the last
  // one received.
  Histogram round_trip = {};
  // Of a plan with a rate: how long after it was due each connection began.
  Histogram lateness = {};

  absl::Duration elapsed = absl::ZeroDuration();
  // What generating the load has cost: processor time, and how long the
  // generator was ready to run and other processes had the processors.
  absl::Duration cpu = absl::ZeroDuration();
  absl::Duration waited_for_cpu = absl::ZeroDuration();
  // How many processes generated it, each of which can use one processor.
  int processes = 1;

  uint64_t failed() const;
  void Fail(LoadFailure kind, std::string_view what);
  // As if both had run at once, in one more process.
  void Merge(const LoadResult& other);

  // For Decode() in another process.
  std::string Encode() const;
  // Nothing if that is no result.
  static std::optional<LoadResult> Decode(std::string_view text);

  friend bool operator==(const LoadResult&, const LoadResult&) = default;
};

}  // namespace brood

#endif  // BROOD_TOOLS_LOAD_LOAD_RESULT_H_
