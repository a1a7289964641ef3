// SPDX-License-Identifier: Apache-2.0
//
// AppendWrapped() fills lines with words, and begins none of them before the
// column it is told.
//
//   std::string Indented(std::string_view sentence) {
//     std::string text;
//     AppendWrapped(sentence, {.indent = 4, .width = 20}, text);
//     return text;
//   }
//
// What it is not: a hyphenator. A word that is longer than a line has a line
// of its own, and that one is too long.
//
// Threads, signals, fork: a function of its arguments.
#ifndef BROOD_SERVER_WRAPPED_TEXT_H_
#define BROOD_SERVER_WRAPPED_TEXT_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace brood {

struct Wrapping {
  size_t indent = 0;
  size_t width = 80;  // A byte is a column.
};

// Ends with a newline.
void AppendWrapped(std::string_view words, const Wrapping& wrapping,
                   std::string& text);

}  // namespace brood

#endif  // BROOD_SERVER_WRAPPED_TEXT_H_
