// SPDX-License-Identifier: Apache-2.0
#include "brood/server/program_run.h"

#include <poll.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/posix.h"
#include "brood/server/connection_handler.h"
#include "brood/signal/mask.h"
#include "brood/signal/signal_event.h"
#include "brood/signal/signal_fd.h"

namespace brood {

absl::StatusOr<ProgramRun> ProgramRun::Create() {
  absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGTERM});
  if (!mask.ok()) return mask.status();
  absl::StatusOr<SignalFd> term = SignalFd::Create({SIGTERM});
  if (!term.ok()) return term.status();
  return ProgramRun(*std::move(mask), *std::move(term));
}

// Strikes when the mask goes.
ProgramRun::~ProgramRun() {
  if (told_) (void)raise(SIGTERM);
}

bool ProgramRun::WasTold() {
  const absl::StatusOr<std::optional<SignalEvent>> event = term_.Next();
  return event.ok() && event->has_value();
}

absl::StatusOr<ProgramRun::End> ProgramRun::Run(ConnectionHandler& handler,
                                                Stream& stream,
                                                const ConnectionInfo& info,
                                                Observers observers) {
  absl::StatusOr<Child> child = handler.Start(stream, info, {});
  while (IsShortage(child.status())) {
    if (observers.on_shortage != nullptr) observers.on_shortage(child.status());
    if (PollUntil(term_.fd(), POLLIN, absl::Now() + kShortagePause)
            .value_or(false)) {
      told_ = WasTold();
    }
    if (told_) return absl::CancelledError("the server ends");
    if (WasGivenUp(stream)) {
      return absl::AbortedError("it left before it had a process");
    }
    child = handler.Start(stream, info, {});
  }
  if (!child.ok()) return child.status();
  const pid_t pid = child->pid();
  if (observers.on_start != nullptr) observers.on_start(pid);
  PassOnTerm(*child);
  // While the leader is not reaped, the group's number is its own.
  if (told_) (void)child->SignalGroup(SIGKILL);
  const absl::StatusOr<ExitStatus> status = child->Wait();
  return End{.pid = pid, .status = status.value_or(ExitStatus::Lost())};
}

// Blocks until the program has ended.
void ProgramRun::PassOnTerm(Child& program) {
  // Sooner than whoever sent SIGTERM would lose patience with this process.
  constexpr absl::Duration kTermToKill = absl::Seconds(1);
  absl::Duration kill_at = absl::InfiniteDuration();
  while (true) {
    const absl::Duration now = MonotonicNow();
    if (now >= kill_at) {
      kill_at = absl::InfiniteDuration();
      (void)program.SignalGroup(SIGKILL);
    }
    const int timeout =
        kill_at == absl::InfiniteDuration()
            ? -1
            : static_cast<int>(absl::ToInt64Milliseconds(
                  absl::Ceil(kill_at - now, absl::Milliseconds(1))));
    std::array<pollfd, 2> fds = {
        {{.fd = program.fd(), .events = POLLIN, .revents = 0},
         {.fd = term_.fd(), .events = POLLIN, .revents = 0}}};
    if (poll(fds.data(), fds.size(), timeout) == -1 && errno != EINTR) return;
    if (fds[0].revents != 0) return;
    if (!WasTold() || told_) continue;
    told_ = true;
    kill_at = MonotonicNow() + kTermToKill;
    (void)program.SignalGroup(SIGTERM);
  }
}

}  // namespace brood
