// SPDX-License-Identifier: Apache-2.0
#include "brood/server/json_string.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace brood {
namespace {

// One character at the front of `text`, as UTF-8 has it, or one byte that is
// none.
struct Character {
  std::string_view bytes;
  std::optional<uint32_t> code;
};

Character FirstCharacter(std::string_view text) {
  struct Form {
    unsigned char mask, lead;
    uint32_t least;  // A smaller one has a shorter form, and must take it.
  };
  constexpr std::array<Form, 4> kForms = {{{0x80, 0x00, 0},
                                           {0xe0, 0xc0, 0x80},
                                           {0xf0, 0xe0, 0x800},
                                           {0xf8, 0xf0, 0x10000}}};
  const auto byte = [&](size_t i) {
    return static_cast<unsigned char>(text[i]);
  };
  const Character none = {.bytes = text.substr(0, 1), .code = std::nullopt};
  for (size_t length = 1; length <= kForms.size(); ++length) {
    const Form& form = kForms[length - 1];
    if ((byte(0) & form.mask) != form.lead) continue;
    if (text.size() < length) return none;
    uint32_t code = byte(0) & static_cast<unsigned char>(~form.mask);
    for (size_t i = 1; i < length; ++i) {
      if ((byte(i) & 0xc0) != 0x80) return none;
      code = code << 6 | (byte(i) & 0x3f);
    }
    const bool surrogate = code >= 0xd800 && code <= 0xdfff;
    if (code < form.least || code > 0x10ffff || surrogate) return none;
    return {.bytes = text.substr(0, length), .code = code};
  }
  return none;
}

}  // namespace

void AppendJsonString(std::string_view text, std::string& out) {
  const auto plain = [](unsigned char c) {
    return absl::ascii_isprint(c) && c != '"' && c != '\\';
  };
  out.push_back('"');
  while (true) {
    // Most often all of it.
    const auto end = std::find_if_not(text.begin(), text.end(), plain);
    out.append(text.begin(), end);
    text.remove_prefix(static_cast<size_t>(end - text.begin()));
    if (text.empty()) break;
    const Character next = FirstCharacter(text);
    text.remove_prefix(next.bytes.size());
    if (!next.code.has_value()) {
      absl::StrAppend(&out, "\\ufffd");
    } else if (*next.code == '"' || *next.code == '\\') {
      absl::StrAppend(&out, "\\", next.bytes);
    } else if (*next.code < 0x20 || (*next.code >= 0x7f && *next.code < 0xa0)) {
      absl::StrAppendFormat(&out, "\\u%04x", *next.code);
    } else {
      absl::StrAppend(&out, next.bytes);
    }
  }
  out.push_back('"');
}

}  // namespace brood
