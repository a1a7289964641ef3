// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/load/progress_line.h"

#include <sys/ioctl.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstddef>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/proc/posix.h"

namespace brood {
namespace {

constexpr absl::Duration kPeriod = absl::Milliseconds(200);

size_t WidthOf(int fd) {
  winsize size = {};
  if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

}  // namespace

ProgressLine::ProgressLine(int fd) : fd_(fd), live_(isatty(fd) == 1) {}

void ProgressLine::Show(std::string_view text) {
  if (!live_) return;
  const absl::Duration now = MonotonicNow();
  if (last_.has_value() && now - *last_ < kPeriod) return;
  last_ = now;
  drawn_ = true;
  // In the last column some terminals begin another line.
  Write(absl::StrCat("\r", text.substr(0, WidthOf(fd_) - 1), "\x1b[K"));
}

void ProgressLine::Clear() {
  if (!drawn_) return;
  drawn_ = false;
  Write("\r\x1b[K");
}

void ProgressLine::Write(std::string_view text) {
  while (live_ && !text.empty()) {
    const ssize_t n =
        RetryOnEintr([&] { return write(fd_, text.data(), text.size()); });
    live_ = n > 0;
    if (live_) text.remove_prefix(static_cast<size_t>(n));
  }
}

}  // namespace brood
