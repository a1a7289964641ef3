// SPDX-License-Identifier: Apache-2.0
#include "brood/server/wrapped_text.h"

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/strings/str_split.h"

namespace brood {

void AppendWrapped(std::string_view words, const Wrapping& wrapping,
                   std::string& text) {
  size_t column = 0;
  for (const std::string_view word :
       absl::StrSplit(words, ' ', absl::SkipEmpty())) {
    if (column > 0 && column + 1 + word.size() <= wrapping.width) {
      text.append(" ").append(word);
      column += 1 + word.size();
      continue;
    }
    if (column > 0) text.append("\n");
    text.append(wrapping.indent, ' ').append(word);
    column = wrapping.indent + word.size();
  }
  text.append("\n");
}

}  // namespace brood
