// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/load/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"

namespace brood {
namespace {

constexpr int kStepBits = 10;
constexpr size_t kStepsOfAPower = size_t{1} << kStepBits;

// A number keeps its first eleven bits: the first of them says only where they
// begin, so each further power of two has 1,024 steps.
size_t StepOf(int64_t value) {
  const auto number = static_cast<uint64_t>(value);
  const int width = static_cast<int>(std::bit_width(number));
  const int dropped = std::max(width - (kStepBits + 1), 0);
  return static_cast<size_t>(dropped) * kStepsOfAPower +
         static_cast<size_t>(number >> dropped);
}

// The greatest number of a step.
int64_t EndOf(size_t step) {
  const size_t dropped =
      step < 2 * kStepsOfAPower ? 0 : step / kStepsOfAPower - 1;
  const uint64_t first = step - dropped * kStepsOfAPower;
  return static_cast<int64_t>(((first + 1) << dropped) - 1);
}

constexpr size_t kMaxSteps = (63 - kStepBits + 1) * kStepsOfAPower;

}  // namespace

void Histogram::Add(absl::Duration duration) {
  const int64_t value =
      std::max<int64_t>(absl::ToInt64Nanoseconds(duration), 0);
  const size_t step = StepOf(value);
  if (step >= steps_.size()) steps_.resize(step + 1);
  ++steps_[step];
  min_ = count_ == 0 ? value : std::min(min_, value);
  max_ = std::max(max_, value);
  sum_ += static_cast<uint64_t>(value);
  ++count_;
}

void Histogram::Merge(const Histogram& other) {
  if (other.count_ == 0) return;
  if (steps_.size() < other.steps_.size()) steps_.resize(other.steps_.size());
  for (size_t i = 0; i < other.steps_.size(); ++i) steps_[i] += other.steps_[i];
  min_ = count_ == 0 ? other.min_ : std::min(min_, other.min_);
  max_ = std::max(max_, other.max_);
  sum_ += other.sum_;
  count_ += other.count_;
}

absl::Duration Histogram::min() const { return absl::Nanoseconds(min_); }
absl::Duration Histogram::max() const { return absl::Nanoseconds(max_); }

absl::Duration Histogram::mean() const {
  if (count_ == 0) return absl::ZeroDuration();
  return absl::Nanoseconds(static_cast<double>(sum_) /
                           static_cast<double>(count_));
}

absl::Duration Histogram::Quantile(double q) const {
  if (count_ == 0) return absl::ZeroDuration();
  const double share =
      std::ceil(std::clamp(q, 0.0, 1.0) * static_cast<double>(count_));
  const uint64_t wanted = std::max<uint64_t>(static_cast<uint64_t>(share), 1);
  uint64_t seen = 0;
  for (size_t i = 0; i < steps_.size(); ++i) {
    seen += steps_[i];
    if (seen >= wanted) return absl::Nanoseconds(std::min(EndOf(i), max_));
  }
  return max();
}

std::string Histogram::Encode() const {
  std::string text = absl::StrCat(count_, " ", min_, " ", max_, " ", sum_);
  for (size_t i = 0; i < steps_.size(); ++i) {
    if (steps_[i] != 0) absl::StrAppend(&text, " ", i, ":", steps_[i]);
  }
  return text;
}

std::optional<Histogram> Histogram::Decode(std::string_view text) {
  const std::vector<std::string_view> words = absl::StrSplit(text, ' ');
  Histogram histogram;
  if (words.size() < 4 || !absl::SimpleAtoi(words[0], &histogram.count_) ||
      !absl::SimpleAtoi(words[1], &histogram.min_) ||
      !absl::SimpleAtoi(words[2], &histogram.max_) ||
      !absl::SimpleAtoi(words[3], &histogram.sum_)) {
    return std::nullopt;
  }
  uint64_t counted = 0;
  for (size_t i = 4; i < words.size(); ++i) {
    const std::pair<std::string_view, std::string_view> entry =
        absl::StrSplit(words[i], absl::MaxSplits(':', 1));
    size_t step = 0;
    uint64_t number = 0;
    if (!absl::SimpleAtoi(entry.first, &step) || step >= kMaxSteps ||
        !absl::SimpleAtoi(entry.second, &number)) {
      return std::nullopt;
    }
    if (step >= histogram.steps_.size()) histogram.steps_.resize(step + 1);
    histogram.steps_[step] = number;
    counted += number;
  }
  if (counted != histogram.count_) return std::nullopt;
  return histogram;
}

}  // namespace brood
