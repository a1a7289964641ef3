// SPDX-License-Identifier: Apache-2.0
#include "brood/net/quoted.h"

#include <string>
#include <string_view>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace brood {

std::string Quoted(std::string_view text) {
  // Cut first, then escape: an escape is never cut in two, and what a stranger
  // sends costs no more than what is shown of it.
  std::string quoted =
      absl::StrCat("\"", absl::CHexEscape(text.substr(0, kMaxQuoted)), "\"");
  if (text.size() > kMaxQuoted) {
    absl::StrAppend(&quoted, "... (", text.size(), " bytes)");
  }
  return quoted;
}

}  // namespace brood
