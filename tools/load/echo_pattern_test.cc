// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/load/echo_pattern.h"

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "gtest/gtest.h"

namespace brood {
namespace {

bool IsEchoOf(const EchoPattern& pattern, uint64_t connection,
              std::string_view heard) {
  for (uint64_t place = 0; !heard.empty();) {
    const std::string_view same = pattern.At(connection, place, heard.size());
    if (!heard.starts_with(same)) return false;
    heard.remove_prefix(same.size());
    place += same.size();
  }
  return true;
}

std::string Text(const EchoPattern& pattern, uint64_t connection, size_t size) {
  std::string text;
  while (text.size() < size) {
    text += pattern.At(connection, text.size(), size - text.size());
  }
  return text;
}

TEST(EchoPatternTest, ATextIsTheSameInWhateverPiecesItIsTaken) {
  const EchoPattern pattern;
  const std::string text = Text(pattern, 5, 1'000'000);
  EXPECT_TRUE(IsEchoOf(pattern, 5, text));
  for (size_t place = 0; place + 64 <= text.size(); place += 997) {
    const std::string_view piece = pattern.At(5, place, 64);
    EXPECT_EQ(piece, std::string_view(text).substr(place, 64));
  }
}

TEST(EchoPatternTest, NoTextIsThatOfAnotherConnection) {
  const EchoPattern pattern;
  std::set<std::string_view> texts;
  for (uint64_t i = 0; i < EchoPattern::kPeriod; ++i) {
    EXPECT_TRUE(texts.insert(pattern.At(i, 0, 8)).second) << i;
  }
  EXPECT_FALSE(IsEchoOf(pattern, 5, Text(pattern, 6, 64)));
}

TEST(EchoPatternTest, NoShiftByTheSizeOfABufferGoesUnseen) {
  const EchoPattern pattern;
  const std::string_view text = pattern.At(0, 0, 64);
  for (uint64_t shift = 1; shift < EchoPattern::kPeriod; ++shift) {
    EXPECT_NE(pattern.At(0, shift, 64), text) << shift;
  }
  for (uint64_t shift = 1; shift <= uint64_t{1} << 30; shift *= 2) {
    EXPECT_NE(pattern.At(0, shift, 64), text) << shift;
  }
}

TEST(EchoPatternTest, EachLineOfATextEndsWithALineFeed) {
  for (const size_t line : {size_t{1}, size_t{64}, size_t{4000}, size_t{65536},
                            size_t{1'000'000}}) {
    const EchoPattern pattern(line);
    const std::string text = Text(pattern, 7, 3 * line);
    EXPECT_TRUE(IsEchoOf(pattern, 7, text)) << line;
    for (size_t end = line; end <= text.size(); end += line) {
      EXPECT_EQ(text[end - 1], '\n') << line;
    }
    // Neighbours begin with lines of their own, as far as there are several.
    if (line > 1 && line < EchoPattern::kPeriod / 2) {
      EXPECT_NE(Text(pattern, 8, line), Text(pattern, 7, line)) << line;
    }
  }
}

}  // namespace
}  // namespace brood
