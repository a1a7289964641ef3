// SPDX-License-Identifier: Apache-2.0
//
// What the value of a flag is read as: a number, a duration, a word of some, a
// text. Each reader says whether the value is allowed, and nothing else: what
// is allowed stands with the flag (see flag_table.h).
//
//   absl::Status ParsePort(std::string_view text, int& port) {
//     return AllowedIf(ReadNumber(text, 1, 65'535, port));
//   }
//
// What it is not: lenient. There is no sign, no space, no unit that is not
// written; a duration has one, as in 300ms or 1m30s.
//
// Errors: AllowedIf(false) is an InvalidArgument without words, to which a
// FlagTable adds the flag, its value, and what is allowed. A value that was not
// allowed may have been stored: whoever reads it fails anyway.
//
// Threads, signals, fork: functions of their arguments.
#ifndef BROOD_SERVER_FLAG_VALUES_H_
#define BROOD_SERVER_FLAG_VALUES_H_

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/time/time.h"

namespace brood {

absl::Status AllowedIf(bool allowed);

// In quotes, escaped, and of what is long only the beginning.
std::string QuotedArgument(std::string_view text);

// Without control characters.
bool IsPlain(std::string_view text);

// Plain, and no matter what.
bool ReadText(std::string_view text, std::string& value);
bool ReadText(std::string_view text, std::optional<std::string>& value);

// "true" or "false".
bool ReadBool(std::string_view text, bool& value);

// Digits and nothing else, from `min` to `max`.
template <typename Integer>
bool ReadNumber(std::string_view text, uint64_t min, uint64_t max,
                Integer& value) {
  uint64_t number = 0;
  if (!absl::c_all_of(text, absl::ascii_isdigit) ||
      !absl::SimpleAtoi(text, &number) || number < min || number > max) {
    return false;
  }
  value = static_cast<Integer>(number);
  return true;
}

template <typename Integer>
bool ReadNumber(std::string_view text, uint64_t min, uint64_t max,
                std::optional<Integer>& value) {
  return ReadNumber(text, min, max, value.emplace());
}

// From `min` to `max`, a multiple of `unit`.
bool ReadDuration(std::string_view text, absl::Duration min, absl::Duration max,
                  absl::Duration unit, absl::Duration& value);
// Of any fraction.
bool ReadDuration(std::string_view text, absl::Duration min, absl::Duration max,
                  absl::Duration& value);
bool ReadDuration(std::string_view text, absl::Duration min, absl::Duration max,
                  std::optional<absl::Duration>& value);

// One of the words, each with its meaning.
template <typename Meaning>
bool ReadWord(std::string_view text,
              std::initializer_list<std::pair<std::string_view, Meaning>> words,
              Meaning& value) {
  for (const auto& [word, meaning] : words) {
    if (text != word) continue;
    value = meaning;
    return true;
  }
  return false;
}

}  // namespace brood

#endif  // BROOD_SERVER_FLAG_VALUES_H_
