// SPDX-License-Identifier: Apache-2.0
// Who has zombies: parse, look, say, and tell by the exit code how it was.
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/proc/posix.h"
#include "brood/proc/process_table.h"
#include "brood/signal/mask.h"
#include "brood/signal/signal_event.h"
#include "brood/signal/signal_fd.h"
#include "brood/tools/zombies/report_text.h"
#include "brood/tools/zombies/snapshot.h"
#include "brood/tools/zombies/zombie_watch.h"
#include "brood/tools/zombies/zombies_options.h"

namespace brood {
namespace {

constexpr int kNone = 0;
constexpr int kSome = 1;
constexpr int kUsageError = 2;
constexpr int kCouldNotLook = 3;

int Fail(int exit_code, std::string_view message) {
  std::cerr << "zombies: " << message << std::endl;
  return exit_code;
}

absl::Status Print(std::string_view text) {
  std::cout << text << std::flush;
  return std::cout ? absl::OkStatus() : ErrnoStatus(errno, "standard output");
}

absl::StatusOr<ZombieReport> Look(ZombieWatch& watch) {
  const absl::StatusOr<Snapshot> snapshot = TakeSnapshot(ProcessTable());
  return snapshot.ok() ? watch.Look(*snapshot) : snapshot.status();
}

// The size of the terminal that standard output is, if it is one.
std::optional<winsize> Terminal() {
  winsize size = {};
  if (isatty(STDOUT_FILENO) == 0) return std::nullopt;
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == -1 || size.ws_row < 3 ||
      size.ws_col < 40) {
    size.ws_row = 24;
    size.ws_col = 80;
  }
  return size;
}

// Over what stands there, line by line: a screen that is cleared first would
// flicker. What does not fit would scroll the beginning away.
std::string Redrawn(std::string_view text, size_t rows) {
  const std::vector<std::string_view> lines =
      absl::StrSplit(absl::StripSuffix(text, "\n"), '\n');
  const size_t fit = lines.size() < rows ? lines.size() : rows - 2;
  std::string screen = "\x1b[H";
  for (size_t i = 0; i < fit; ++i) {
    absl::StrAppend(&screen, lines[i], "\x1b[K\n");
  }
  if (fit < lines.size()) {
    absl::StrAppend(&screen, "(", lines.size() - fit,
                    " more lines, for a larger window)\x1b[K\n");
  }
  return absl::StrCat(screen, "\x1b[J");
}

std::string Rendered(const ZombieReport& report,
                     const ZombiesOptions& options) {
  ReportStyle style = {.tree = options.tree, .endings_known = geteuid() == 0};
  if (options.json) return absl::StrCat(ReportJson(report, style), "\n");
  const std::optional<winsize> terminal = Terminal();
  if (terminal.has_value()) {
    style.width = std::min<size_t>(terminal->ws_col, 100);
  }
  if (!options.watch.has_value()) return ReportText(report, style);
  if (!terminal.has_value()) return absl::StrCat(ReportLine(report), "\n");
  return Redrawn(ReportText(report, style), terminal->ws_row);
}

// The second look, if the first saw some that are not old enough to tell.
absl::StatusOr<ZombieReport> LookTwice(ZombieWatch& watch,
                                       absl::Duration min_age) {
  absl::StatusOr<ZombieReport> report = Look(watch);
  if (!report.ok() || report->young == 0) return report;
  absl::SleepFor(min_age);
  return Look(watch);
}

int LookOnce(const ZombiesOptions& options) {
  ZombieWatch watch({.min_age = options.min_age, .below = options.pid});
  const absl::StatusOr<ZombieReport> report = LookTwice(watch, options.min_age);
  if (!report.ok()) return Fail(kCouldNotLook, report.status().message());
  if (absl::Status s = Print(Rendered(*report, options)); !s.ok()) {
    return Fail(kCouldNotLook, s.message());
  }
  return report->zombies > 0 ? kSome : kNone;
}

// Whether a signal came within `timeout`. Takes it: what stays pending strikes
// when the mask goes, and there would be no exit code.
bool Asked(SignalFd& signals, absl::Duration timeout) {
  pollfd readable = {.fd = signals.fd(), .events = POLLIN, .revents = 0};
  (void)RetryOnEintr([&] {
    return poll(&readable, 1,
                static_cast<int>(absl::ToInt64Milliseconds(timeout)));
  });
  bool asked = false;
  while (true) {
    const absl::StatusOr<std::optional<SignalEvent>> event = signals.Next();
    if (!event.ok() || !event->has_value()) return asked;
    asked = true;
  }
}

int LookAgain(const ZombiesOptions& options) {
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGINT, SIGTERM});
  if (!mask.ok()) return Fail(kCouldNotLook, mask.status().message());
  absl::StatusOr<SignalFd> signals = SignalFd::Create({SIGINT, SIGTERM});
  if (!signals.ok()) return Fail(kCouldNotLook, signals.status().message());
  ZombieWatch watch({.min_age = options.min_age, .below = options.pid});
  while (true) {
    const absl::StatusOr<ZombieReport> report = Look(watch);
    if (!report.ok()) return Fail(kCouldNotLook, report.status().message());
    if (absl::Status s = Print(Rendered(*report, options)); !s.ok()) {
      return Fail(kCouldNotLook, s.message());
    }
    if (Asked(*signals, *options.watch)) {
      return report->zombies > 0 ? kSome : kNone;
    }
  }
}

int Run(absl::Span<const std::string_view> args) {
  const absl::StatusOr<ZombiesOptions> options = ParseZombiesOptions(args);
  if (!options.ok()) return Fail(kUsageError, options.status().message());
  if (options->help) {
    const absl::Status status = Print(ZombiesUsage());
    return status.ok() ? kNone : Fail(kCouldNotLook, status.message());
  }
  return options->watch.has_value() ? LookAgain(*options) : LookOnce(*options);
}

}  // namespace
}  // namespace brood

int main(int argc, char** argv) {
  return brood::Run(std::vector<std::string_view>(argv + 1, argv + argc));
}
