// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/load/load_result.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "brood/tools/load/histogram.h"

namespace brood {
namespace {

constexpr std::array<std::string_view, kLoadFailures> kNames = {
    "wrong_bytes", "reset",     "closed",     "timeout", "refused",
    "no_room",     "not_begun", "unanswered", "other"};

// Of the numbers, in their order in a line.
constexpr size_t kNumbers = 11;
constexpr size_t kHistograms = 4;
constexpr size_t kFixedLines = 1 + kHistograms;

}  // namespace

std::string_view NameOf(LoadFailure kind) {
  return kNames[static_cast<size_t>(kind)];
}

uint64_t LoadResult::failed() const {
  uint64_t failed = 0;
  for (const auto& [kind, failure] : failures) failed += failure.count;
  return failed;
}

void LoadResult::Fail(LoadFailure kind, std::string_view what) {
  Failure& failure = failures[kind];
  if (failure.count++ == 0) failure.first = std::string(what);
}

void LoadResult::Merge(const LoadResult& other) {
  whole += other.whole;
  for (const auto& [kind, theirs] : other.failures) {
    Failure& ours = failures[kind];
    if (ours.count == 0) ours.first = theirs.first;
    ours.count += theirs.count;
  }
  abandoned += other.abandoned;
  stopped = stopped || other.stopped;
  gave_up = gave_up || other.gave_up;
  messages += other.messages;
  bytes_sent += other.bytes_sent;
  bytes_received += other.bytes_received;
  connection.Merge(other.connection);
  connect.Merge(other.connect);
  round_trip.Merge(other.round_trip);
  lateness.Merge(other.lateness);
  elapsed = std::max(elapsed, other.elapsed);
  cpu += other.cpu;
  waited_for_cpu += other.waited_for_cpu;
  processes += other.processes;
}

std::string LoadResult::Encode() const {
  const std::array<int64_t, kNumbers> numbers = {
      static_cast<int64_t>(whole),
      static_cast<int64_t>(abandoned),
      stopped,
      gave_up,
      static_cast<int64_t>(messages),
      static_cast<int64_t>(bytes_sent),
      static_cast<int64_t>(bytes_received),
      absl::ToInt64Nanoseconds(elapsed),
      absl::ToInt64Nanoseconds(cpu),
      absl::ToInt64Nanoseconds(waited_for_cpu),
      processes};
  std::string text = absl::StrJoin(numbers, " ");
  for (const Histogram* histogram :
       {&connection, &connect, &round_trip, &lateness}) {
    absl::StrAppend(&text, "\n", histogram->Encode());
  }
  for (const auto& [kind, failure] : failures) {
    absl::StrAppend(&text, "\n", static_cast<int>(kind), " ", failure.count,
                    " ", absl::CEscape(failure.first));
  }
  return text;
}

std::optional<LoadResult> LoadResult::Decode(std::string_view text) {
  const std::vector<std::string_view> lines = absl::StrSplit(text, '\n');
  if (lines.size() < kFixedLines) return std::nullopt;
  const std::vector<std::string_view> words = absl::StrSplit(lines[0], ' ');
  std::array<int64_t, kNumbers> numbers = {};
  if (words.size() != numbers.size()) return std::nullopt;
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (!absl::SimpleAtoi(words[i], &numbers[i])) return std::nullopt;
  }
  LoadResult result;
  result.whole = static_cast<uint64_t>(numbers[0]);
  result.abandoned = static_cast<uint64_t>(numbers[1]);
  result.stopped = numbers[2] != 0;
  result.gave_up = numbers[3] != 0;
  result.messages = static_cast<uint64_t>(numbers[4]);
  result.bytes_sent = static_cast<uint64_t>(numbers[5]);
  result.bytes_received = static_cast<uint64_t>(numbers[6]);
  result.elapsed = absl::Nanoseconds(numbers[7]);
  result.cpu = absl::Nanoseconds(numbers[8]);
  result.waited_for_cpu = absl::Nanoseconds(numbers[9]);
  result.processes = static_cast<int>(numbers[10]);
  size_t line = 1;
  for (Histogram* histogram : {&result.connection, &result.connect,
                               &result.round_trip, &result.lateness}) {
    std::optional<Histogram> decoded = Histogram::Decode(lines[line++]);
    if (!decoded.has_value()) return std::nullopt;
    *histogram = *std::move(decoded);
  }
  for (; line < lines.size(); ++line) {
    const std::vector<std::string_view> parts =
        absl::StrSplit(lines[line], absl::MaxSplits(' ', 2));
    int kind = 0;
    Failure failure;
    if (parts.size() != 3 || !absl::SimpleAtoi(parts[0], &kind) || kind < 0 ||
        kind >= kLoadFailures || !absl::SimpleAtoi(parts[1], &failure.count) ||
        !absl::CUnescape(parts[2], &failure.first)) {
      return std::nullopt;
    }
    result.failures[static_cast<LoadFailure>(kind)] = failure;
  }
  return result;
}

}  // namespace brood
