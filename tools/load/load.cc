// SPDX-License-Identifier: Apache-2.0
// The load generator: parse, run, report.
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <iostream>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "brood/proc/posix.h"
#include "brood/signal/mask.h"
#include "brood/signal/signal_event.h"
#include "brood/signal/signal_fd.h"
#include "brood/tools/load/descriptor_limit.h"
#include "brood/tools/load/load_options.h"
#include "brood/tools/load/load_report.h"
#include "brood/tools/load/load_result.h"
#include "brood/tools/load/load_run.h"
#include "brood/tools/load/progress_line.h"

namespace brood {
namespace {

constexpr int kWorldRefuses = 1;
constexpr int kUsageError = 2;

int Fail(int exit_code, std::string_view message) {
  std::cerr << "load: " << message << std::endl;
  return exit_code;
}

int Print(std::string_view text, int exit_code) {
  std::cout << text << std::flush;
  if (std::cout) return exit_code;
  return Fail(kWorldRefuses, ErrnoStatus(errno, "standard output").message());
}

absl::StatusOr<LoadResult> RunWithProgress(const LoadOptions& options) {
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGINT, SIGTERM});
  if (!mask.ok()) return mask.status();
  absl::StatusOr<SignalFd> stop = SignalFd::Create({SIGINT, SIGTERM});
  if (!stop.ok()) return stop.status();
  ProgressLine line(STDERR_FILENO);
  return RunLoadInProcesses(
      options.plan, options.processes, [&](const LoadProgress& progress) {
        line.Show(ProgressReport(options.plan, progress));
        const absl::StatusOr<std::optional<SignalEvent>> asked = stop->Next();
        return asked.ok() && !asked->has_value();
      });
}

int Run(absl::Span<const std::string_view> args) {
  const absl::StatusOr<LoadOptions> options = ParseLoadOptions(args);
  if (!options.ok()) return Fail(kUsageError, options.status().message());
  if (options->help) return Print(LoadUsage(), 0);
  if (const absl::Status room = RaiseDescriptorLimit(options->plan.concurrency);
      !room.ok()) {
    return Fail(kWorldRefuses, room.message());
  }
  const absl::StatusOr<LoadResult> result = RunWithProgress(*options);
  if (!result.ok()) return Fail(kWorldRefuses, result.status().message());
  return Print(options->output == LoadOptions::Output::kJson
                   ? JsonReport(options->plan, *result)
                   : TextReport(options->plan, *result),
               ExitCodeOf(*result));
}

}  // namespace
}  // namespace brood

int main(int argc, char** argv) {
  return brood::Run(std::vector<std::string_view>(argv + 1, argv + argc));
}
