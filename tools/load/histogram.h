// SPDX-License-Identifier: Apache-2.0
//
// A Histogram counts durations, and says below which of them any share lies.
//
//   std::string Tail(absl::Span<const absl::Duration> latencies) {
//     Histogram histogram;
//     for (const absl::Duration latency : latencies) histogram.Add(latency);
//     return absl::StrCat("99 % within ",
//                         absl::FormatDuration(histogram.Quantile(0.99)),
//                         ", all within ",
//                         absl::FormatDuration(histogram.max()));
//   }
//
// What it is not: a list. It keeps no duration but the least and the greatest;
// of the others it knows to one part in 1,024 how long they were.
//
// Up to 2,047 ns each nanosecond is counted for itself; from there on each
// power of two is cut into 1,024 steps. So it takes a few hundred kilobytes
// whatever is counted, and two can be added to each other exactly.
//
// Threads, signals, fork: a value.
#ifndef BROOD_TOOLS_LOAD_HISTOGRAM_H_
#define BROOD_TOOLS_LOAD_HISTOGRAM_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"

namespace brood {

class Histogram {
 public:
  // A negative one counts as zero, and nothing is longer than 292 years.
  void Add(absl::Duration duration);
  // As if all that was added to `other` had been added here.
  void Merge(const Histogram& other);

  uint64_t count() const { return count_; }
  // Exact; zero if there is none.
  absl::Duration min() const;
  absl::Duration max() const;
  // Exact but for the sum's own overflow, after 292 years in all.
  absl::Duration mean() const;
  // The least duration that a share `q` of all, from 0 to 1, does not exceed;
  // or up to one part in 1,024 more, but never more than max(). Zero if there
  // is none.
  absl::Duration Quantile(double q) const;

  // One line without a newline, for Decode() in another process.
  std::string Encode() const;
  // Nothing if that is no such line.
  static std::optional<Histogram> Decode(std::string_view text);

  friend bool operator==(const Histogram&, const Histogram&) = default;

 private:
  uint64_t count_ = 0;
  int64_t min_ = 0;
  int64_t max_ = 0;
  uint64_t sum_ = 0;
  // How many are in each step; as many steps as were needed so far.
  std::vector<uint64_t> steps_;
};

}  // namespace brood

#endif  // BROOD_TOOLS_LOAD_HISTOGRAM_H_
