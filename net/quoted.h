// SPDX-License-Identifier: Apache-2.0
//
// Quoted(text) is the text of somebody else as a message may carry it: in
// quotes, printable, and never longer than a few lines.
//
//   absl::Status NotAWeekday(std::string_view text) {
//     return absl::InvalidArgumentError(absl::StrCat(
//         "weekday ", Quoted(text), ": expected one from \"Mon\" to \"Sun\""));
//   }
//
// What it is not: public, or a way back to the text. It is how the classes of
// this package quote what they refuse; of what is too long it has the beginning
// and says how long all of it is: "aaa"... (70000 bytes).
//
// Threads, signals, fork: a function of its argument.
#ifndef BROOD_NET_QUOTED_H_
#define BROOD_NET_QUOTED_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace brood {

// How many bytes are quoted: more than "unix:" and the longest path there is,
// and more than the longest line of a PROXY header.
inline constexpr size_t kMaxQuoted = 128;

std::string Quoted(std::string_view text);

}  // namespace brood

#endif  // BROOD_NET_QUOTED_H_
