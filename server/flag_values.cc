// SPDX-License-Identifier: Apache-2.0
#include "brood/server/flag_values.h"

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace brood {

absl::Status AllowedIf(bool allowed) {
  return allowed ? absl::OkStatus() : absl::InvalidArgumentError("");
}

std::string QuotedArgument(std::string_view text) {
  constexpr size_t kLongest = 64;
  const bool cut = text.size() > kLongest;
  return absl::StrCat("\"", absl::CHexEscape(text.substr(0, kLongest)),
                      cut ? "...\"" : "\"");
}

bool IsPlain(std::string_view text) {
  return absl::c_none_of(text, absl::ascii_iscntrl);
}

bool ReadText(std::string_view text, std::string& value) {
  value = std::string(text);
  return IsPlain(text);
}

bool ReadText(std::string_view text, std::optional<std::string>& value) {
  return ReadText(text, value.emplace());
}

bool ReadBool(std::string_view text, bool& value) {
  value = text == "true";
  return value || text == "false";
}

bool ReadDuration(std::string_view text, absl::Duration min, absl::Duration max,
                  absl::Duration unit, absl::Duration& value) {
  absl::Duration time;
  if (!absl::ParseDuration(text, &time) || time < min || time > max ||
      time != absl::Trunc(time, unit)) {
    return false;
  }
  value = time;
  return true;
}

bool ReadDuration(std::string_view text, absl::Duration min, absl::Duration max,
                  absl::Duration& value) {
  return ReadDuration(text, min, max, absl::Nanoseconds(1), value);
}

bool ReadDuration(std::string_view text, absl::Duration min, absl::Duration max,
                  std::optional<absl::Duration>& value) {
  return ReadDuration(text, min, max, value.emplace());
}

}  // namespace brood
