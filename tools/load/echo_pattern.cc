// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/load/echo_pattern.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace brood {
namespace {

// How far one connection's text begins behind that of the one before: so far
// that those of neighbours share nothing for a long while.
constexpr uint64_t kStride = 40'503;

char ByteAt(size_t place) {
  uint64_t mixed = (place + 1) * 0x9e3779b97f4a7c15;
  mixed ^= mixed >> 29;
  return static_cast<char>(mixed * 0xbf58476d1ce4e5b9 >> 56);
}

}  // namespace

EchoPattern::EchoPattern(size_t line)
    : line_(std::max<size_t>(line, 1)),
      period_(std::max<size_t>(kPeriod / line_, 1) * line_),
      text_(period_ + kMaxPiece, '\0') {
  for (size_t i = 0; i < text_.size(); ++i) {
    const bool ends = line > 0 && i % period_ % line_ == line_ - 1;
    text_[i] = ends ? '\n' : ByteAt(i % period_);
  }
}

std::string_view EchoPattern::At(uint64_t connection, uint64_t place,
                                 size_t size) const {
  const uint64_t lines = period_ / line_;
  const uint64_t begin =
      (connection % lines * kStride % lines * line_ + place % period_) %
      period_;
  return std::string_view(text_).substr(begin, std::min(size, kMaxPiece));
}

}  // namespace brood
