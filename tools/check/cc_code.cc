// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/check/cc_code.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace brood {
namespace {

bool IsWordCharacter(char c) {
  return c == '_' || absl::ascii_isalnum(static_cast<unsigned char>(c));
}

bool IsSpace(char c) {
  return absl::ascii_isspace(static_cast<unsigned char>(c));
}

// The end of the string that `text` begins with, which opens with `quote`.
size_t EndOfQuoted(std::string_view text, char quote) {
  for (size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '\\') {
      ++i;
    } else if (text[i] == quote || text[i] == '\n') {
      return i + 1;
    }
  }
  return text.size();
}

// Likewise, where `text` begins with the quote of R"delimiter(...)delimiter".
size_t EndOfRaw(std::string_view text) {
  const size_t open = text.find('(');
  if (open == text.npos) return text.size();
  const std::string close = absl::StrCat(")", text.substr(1, open - 1), "\"");
  const size_t end = text.find(close, open);
  return end == text.npos ? text.size() : end + close.size();
}

// The prefixes of raw strings: R, u8R, LR and so on.
bool IsRaw(std::string_view before) {
  size_t word = before.size();
  while (word > 0 && IsWordCharacter(before[word - 1])) --word;
  const std::string_view prefix = before.substr(word);
  return prefix == "R" || prefix == "LR" || prefix == "uR" || prefix == "UR" ||
         prefix == "u8R";
}

// Past the bracket that closes the one at `open`.
size_t EndOfBrackets(std::string_view code, size_t open) {
  int depth = 0;
  for (size_t i = open; i < code.size(); ++i) {
    if (code[i] == '(') ++depth;
    if (code[i] == ')' && --depth == 0) return i + 1;
  }
  return code.size() + 1;
}

// What a name that begins at `name` is reached through.
std::string_view QualifierBefore(std::string_view code, size_t name) {
  size_t begin = name;
  if (name > 0 && code[name - 1] == '.') {
    begin = name - 1;
  } else if (name > 1 && (code.substr(name - 2, 2) == "->" ||
                          code.substr(name - 2, 2) == "::")) {
    begin = name - 2;
  }
  if (begin == name) return {};
  // "(void)std::f": the cast is not part of it.
  const std::string_view more = code[name - 1] == ':' ? ":" : ":)]";
  while (begin > 0 && (IsWordCharacter(code[begin - 1]) ||
                       absl::StrContains(more, code[begin - 1]))) {
    --begin;
  }
  return code.substr(begin, name - begin);
}

}  // namespace

std::string CodeOnly(std::string_view source) {
  std::string code(source);
  const auto blank = [&](size_t begin, size_t end) {
    for (size_t i = begin; i < std::min(end, code.size()); ++i) {
      if (code[i] != '\n') code[i] = ' ';
    }
  };
  size_t at = 0;
  while (at < source.size()) {
    const std::string_view rest = source.substr(at);
    size_t end = at + 1;
    if (absl::StartsWith(rest, "//")) {
      end = std::min(source.find('\n', at), source.size());
      blank(at, end);
    } else if (absl::StartsWith(rest, "/*")) {
      end = std::min(source.find("*/", at + 2), source.size() - 2) + 2;
      blank(at, end);
    } else if (rest.front() == '"' && IsRaw(source.substr(0, at))) {
      end = at + EndOfRaw(rest);
      blank(at + 1, end - 1);
    } else if (rest.front() == '"' ||
               // Else it groups the digits of a number.
               (rest.front() == '\'' &&
                (at == 0 || !IsWordCharacter(source[at - 1])))) {
      end = at + EndOfQuoted(rest, rest.front());
      blank(at + 1, end - 1);
    }
    at = end;
  }
  return code;
}

std::vector<Call> FindCalls(std::string_view code) {
  std::vector<Call> calls;
  size_t line = 1;
  size_t at = 0;
  while (at < code.size()) {
    if (!IsWordCharacter(code[at])) {
      if (code[at] == '\n') ++line;
      ++at;
      continue;
    }
    const size_t begin = at;
    while (at < code.size() && IsWordCharacter(code[at])) ++at;
    size_t open = at;
    while (open < code.size() && IsSpace(code[open])) ++open;
    if (open == code.size() || code[open] != '(') continue;
    const size_t end = EndOfBrackets(code, open);
    calls.push_back({.name = code.substr(begin, at - begin),
                     .qualifier = QualifierBefore(code, begin),
                     .arguments = code.substr(open + 1, end - open - 2),
                     .line = line});
  }
  return calls;
}

std::vector<size_t> FindWord(std::string_view text, std::string_view word) {
  std::vector<size_t> places;
  for (size_t at = text.find(word); at != text.npos;
       at = text.find(word, at + word.size())) {
    const size_t end = at + word.size();
    if ((at == 0 || !IsWordCharacter(text[at - 1])) &&
        (end == text.size() || !IsWordCharacter(text[end]))) {
      places.push_back(at);
    }
  }
  return places;
}

size_t LineOf(std::string_view text, size_t at) {
  const std::string_view before = text.substr(0, at);
  return 1 +
         static_cast<size_t>(std::count(before.begin(), before.end(), '\n'));
}

}  // namespace brood
