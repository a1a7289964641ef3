// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/posix.h"

#include <csignal>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace brood {
namespace {

constexpr std::string_view kErrnoPayload = "brood/errno";

}  // namespace

absl::Status ErrnoStatus(int error, std::string_view what) {
  // strerrordesc_np, unlike strerror, is thread-safe and not translated, so a
  // message found in a log can be searched for.
  const char* name = strerrorname_np(error);
  const char* description = strerrordesc_np(error);
  absl::Status status(
      absl::ErrnoToStatusCode(error),
      name == nullptr ? absl::StrCat(what, ": errno ", error)
                      : absl::StrCat(what, ": ", description, " (", name, ")"));
  status.SetPayload(kErrnoPayload, absl::Cord(absl::StrCat(error)));
  return status;
}

int ErrnoOf(const absl::Status& status) {
  const std::optional<absl::Cord> payload = status.GetPayload(kErrnoPayload);
  int error = 0;
  if (payload.has_value() && !absl::SimpleAtoi(std::string(*payload), &error)) {
    return 0;
  }
  return error;
}

std::string NameOfSignal(int signo) {
  if (const char* abbreviation = sigabbrev_np(signo)) {
    return absl::StrCat("SIG", abbreviation);
  }
  // SIGRTMIN is not a constant: glibc keeps the first realtime signals.
  if (signo == SIGRTMIN) return "SIGRTMIN";
  if (signo == SIGRTMAX) return "SIGRTMAX";
  if (signo > SIGRTMIN && signo < SIGRTMAX) {
    return absl::StrCat("SIGRTMIN+", signo - SIGRTMIN);
  }
  return absl::StrCat("signal ", signo);
}

}  // namespace brood
