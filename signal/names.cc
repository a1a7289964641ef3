// SPDX-License-Identifier: Apache-2.0
#include "brood/signal/names.h"

#include <csignal>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace brood {
namespace {

constexpr int kLastStandard = 31;

// signal(7) knows these beside the names that sigabbrev_np gives.
struct Synonym {
  std::string_view name;
  int signo;
};
constexpr Synonym kSynonyms[] = {
    {"CLD", SIGCHLD}, {"IO", SIGIO}, {"IOT", SIGIOT}};

// Digits only: SimpleAtoi by itself takes a sign and spaces as well.
std::optional<int> ParseDigits(std::string_view text) {
  int number = 0;
  if (!absl::c_all_of(text, absl::ascii_isdigit) ||
      !absl::SimpleAtoi(text, &number)) {
    return std::nullopt;
  }
  return number;
}

// "" is 0, and with sign '+' "+3" is 3; no further than the realtime signals
// go.
std::optional<int> ParseRealtimeOffset(std::string_view text, char sign) {
  if (text.empty()) return 0;
  if (text.front() != sign) return std::nullopt;
  const std::optional<int> offset = ParseDigits(text.substr(1));
  if (!offset.has_value() || *offset > SIGRTMAX - SIGRTMIN) {
    return std::nullopt;
  }
  return offset;
}

std::optional<int> NumberOfName(std::string_view upper) {
  absl::ConsumePrefix(&upper, "SIG");
  if (absl::ConsumePrefix(&upper, "RTMIN")) {
    const std::optional<int> offset = ParseRealtimeOffset(upper, '+');
    if (!offset.has_value()) return std::nullopt;
    return SIGRTMIN + *offset;
  }
  if (absl::ConsumePrefix(&upper, "RTMAX")) {
    const std::optional<int> offset = ParseRealtimeOffset(upper, '-');
    if (!offset.has_value()) return std::nullopt;
    return SIGRTMAX - *offset;
  }
  for (int signo = 1; signo <= kLastStandard; ++signo) {
    const char* abbreviation = sigabbrev_np(signo);
    if (abbreviation != nullptr && upper == abbreviation) return signo;
  }
  for (const Synonym& synonym : kSynonyms) {
    if (upper == synonym.name) return synonym.signo;
  }
  return std::nullopt;
}

}  // namespace

bool IsSignal(int signo) {
  return (signo >= 1 && signo <= kLastStandard) ||
         (signo >= SIGRTMIN && signo <= SIGRTMAX);
}

absl::StatusOr<int> ParseSignal(std::string_view text) {
  std::optional<int> signo = ParseDigits(text);
  if (!signo.has_value()) signo = NumberOfName(absl::AsciiStrToUpper(text));
  if (!signo.has_value() || !IsSignal(*signo)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", absl::CHexEscape(text),
        "\" is no signal; allowed are names as in ",
        "TERM, SIGTERM, SIGRTMIN+3 or SIGRTMAX-1, and the numbers 1 to ",
        kLastStandard, " and ", SIGRTMIN, " to ", SIGRTMAX));
  }
  return *signo;
}

}  // namespace brood
