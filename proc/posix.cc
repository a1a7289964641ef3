// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/posix.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

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

absl::Duration MonotonicNow() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);  // Cannot fail on Linux.
  return absl::DurationFromTimespec(now);
}

absl::Duration Deadline::Monotonic(absl::Time when) {
  return MonotonicNow() + (when - absl::Now());
}

absl::Duration Deadline::Left() const {
  if (never()) return end_;
  return std::max(end_ - MonotonicNow(), absl::ZeroDuration());
}

absl::StatusOr<bool> PollUntil(int fd, short events, const Deadline& deadline) {
  pollfd item = {.fd = fd, .events = events, .revents = 0};
  while (true) {
    const timespec left = absl::ToTimespec(deadline.Left());
    const int ready =
        ppoll(&item, 1, deadline.never() ? nullptr : &left, nullptr);
    if (ready == -1) {
      if (errno == EINTR) continue;
      return ErrnoStatus(errno, absl::StrCat("poll descriptor ", fd));
    }
    if (ready == 1 && (item.revents & POLLNVAL) != 0) {
      return ErrnoStatus(EBADF, absl::StrCat("poll descriptor ", fd));
    }
    return ready == 1;
  }
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
