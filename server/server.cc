// SPDX-License-Identifier: Apache-2.0
// The server: parse, build, run, and say in the exit code how it went.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/proc/posix.h"
#include "brood/server/admission.h"
#include "brood/server/assembly.h"
#include "brood/server/control.h"
#include "brood/server/explain.h"
#include "brood/server/options.h"
#include "brood/server/rules.h"
#include "brood/server/rules_file.h"
#include "brood/server/supervisor.h"
#include "brood/signal/mask.h"

namespace brood {
namespace {

constexpr int kWorldRefuses = 1;
constexpr int kUsageError = 2;

// A server that is busy answers a little later, one that is stuck never.
constexpr absl::Duration kAnswerTimeout = absl::Seconds(5);

int Fail(int exit_code, std::string_view message) {
  std::cerr << "server: " << message << std::endl;
  return exit_code;
}

int Print(std::string_view text) {
  std::cout << text << std::flush;
  if (std::cout) return 0;
  return Fail(kWorldRefuses, ErrnoStatus(errno, "standard output").message());
}

// Whoever starts us may have closed some of the first three. The next
// descriptors opened would take their numbers, and a line for the log would go
// to a client.
void FillStandardDescriptors() {
  int fd;
  do {
    fd = open("/dev/null", O_RDWR);
  } while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd > STDERR_FILENO) close(fd);
}

// The soft limit of most shells, 1024, exists for the sake of select(2), which
// is not used here.
void RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == -1) return;
  limit.rlim_cur = limit.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &limit);
}

// What we have inherited beyond the first three is not ours, and may be of use
// by being open, as a lock is. It stays so; but where there is much of it, some
// is given a higher number, for a process is started faster if low numbers are
// free (proc/spawn_slots.h). A regular file keeps its own, since to close one
// takes away record locks on it (fcntl(2)), and so does what we were given: a
// socket, perhaps, and `given`.
void FreeLowDescriptors(std::optional<int> given) {
  constexpr int kLow = 64;
  int wanted = 24;
  for (int fd = STDERR_FILENO + 1; fd < kLow; ++fd) {
    if (fcntl(fd, F_GETFD) == -1) --wanted;
  }
  for (int fd = STDERR_FILENO + 1; fd < kLow && wanted > 0; ++fd) {
    struct stat about;
    if (fd == given || fstat(fd, &about) == -1 || S_ISREG(about.st_mode) ||
        S_ISSOCK(about.st_mode) || fcntl(fd, F_DUPFD_CLOEXEC, kLow) == -1) {
      continue;
    }
    close(fd);
    --wanted;
  }
}

int ExplainTo(const ServerOptions& options) {
  absl::StatusOr<Rules> rules = options.access.rules;
  if (options.access.rules_file.has_value()) {
    absl::StatusOr<RulesFile> file =
        RulesFile::Open(*options.access.rules_file);
    rules = file.ok() ? file->Load() : file.status();
    if (!rules.ok()) {
      return Fail(kWorldRefuses,
                  absl::StrCat("--rules=", *options.access.rules_file, ": ",
                               rules.status().message()));
    }
  }
  const absl::StatusOr<std::string> lines =
      Explain(*options.access.explain, *rules, Admission(options.admit.limits),
              MonotonicNow(), options.admit.source_lengths);
  if (!lines.ok()) return Fail(kUsageError, lines.status().message());
  return Print(*lines);
}

int Ask(const ServerOptions::ControlSocket& control) {
  const absl::StatusOr<std::string> answer =
      AskControl(*control.address, *control.ask, absl::Now() + kAnswerTimeout);
  if (answer.ok()) return Print(*answer);
  // It was asked, and did not like the question.
  const std::string flag = absl::IsFailedPrecondition(answer.status())
                               ? "--ask"
                               : absl::StrCat("--control=", *control.address);
  return Fail(kWorldRefuses,
              absl::StrCat(flag, ": ", answer.status().message()));
}

int Run(absl::Span<const std::string_view> args) {
  absl::StatusOr<ServerOptions> options = ParseOptions(args);
  if (!options.ok()) return Fail(kUsageError, options.status().message());
  if (options->help) return Print(Usage());
  if (options->access.explain.has_value()) return ExplainTo(*options);
  if (options->control.ask.has_value()) return Ask(options->control);
  RaiseDescriptorLimit();
  FreeLowDescriptors(options->ready_fd);
  const absl::StatusOr<std::unique_ptr<Assembly>> server =
      Assembly::Create(*std::move(options));
  if (!server.ok()) return Fail(kWorldRefuses, server.status().message());
  const absl::Status status = (*server)->Run();
  return status.ok() ? 0 : Fail(kWorldRefuses, status.message());
}

}  // namespace
}  // namespace brood

int main(int argc, char** argv) {
  brood::FillStandardDescriptors();
  // From the first moment to the last, so that a request to stop finds either a
  // server that can be stopped or one that has ended, with its exit code.
  // Children have none of these blocked.
  [[maybe_unused]] const absl::StatusOr<brood::SignalMask> mask =
      brood::SignalMask::Block(brood::SupervisedSignals());
  const int exit_code =
      brood::Run(std::vector<std::string_view>(argv + 1, argv + argc));
  _exit(exit_code);  // Would put the mask back otherwise.
}
