// SPDX-License-Identifier: Apache-2.0
//
// An EchoPattern is what a client says and expects to hear again: of each
// connection another endless text, and in none a byte that could as well be
// elsewhere.
//
//   bool IsEchoOf(const EchoPattern& pattern, uint64_t connection,
//                 std::string_view heard) {
//     for (uint64_t place = 0; !heard.empty();) {
//       const std::string_view same =
//           pattern.At(connection, place, heard.size());
//       if (!heard.starts_with(same)) return false;
//       heard.remove_prefix(same.size());
//       place += same.size();
//     }
//     return true;
//   }
//
// What it is not: random. A byte is a function of its connection and its place,
// so whoever checks it need not have kept what was sent, and an answer that was
// swapped with another connection's, or shifted, is seen. The text of one
// connection repeats itself after kPeriod bytes, a prime number, so that the
// size of no buffer can hide a shift; and of kPeriod connections in a row, no
// two say the same.
//
// With lines it ends each so many bytes with a line feed, for servers that
// answer line by line; then kPeriod and the rest of this hold for whole lines.
//
// Threads: safe once it is made. Signals, fork: a value.
#ifndef BROOD_TOOLS_LOAD_ECHO_PATTERN_H_
#define BROOD_TOOLS_LOAD_ECHO_PATTERN_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace brood {

class EchoPattern {
 public:
  static constexpr size_t kPeriod = 65'521;
  // What At() yields at once, and what is worth one call of the kernel.
  static constexpr size_t kMaxPiece = 1 << 18;

  // Lines of `line` bytes, 0 for none.
  explicit EchoPattern(size_t line = 0);

  // The text of `connection` from `place` on, `size` bytes of it or kMaxPiece
  // if that is less. Borrowed.
  std::string_view At(uint64_t connection, uint64_t place, size_t size) const;

 private:
  size_t line_;    // 1 without lines.
  size_t period_;  // A multiple of it.
  std::string text_;
};

}  // namespace brood

#endif  // BROOD_TOOLS_LOAD_ECHO_PATTERN_H_
