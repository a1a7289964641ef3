// SPDX-License-Identifier: Apache-2.0
#include "brood/server/supervisor.h"

#include <poll.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "brood/proc/posix.h"
#include "brood/server/connection_log.h"
#include "brood/server/poll_loop.h"
#include "brood/server/process_model.h"
#include "brood/signal/action.h"
#include "brood/signal/mask.h"
#include "brood/signal/signal_fd.h"
#include "brood/signal/signal_set.h"

namespace brood {
namespace {

constexpr absl::Duration kTermToKill = absl::Seconds(2);

// Lines for whoever reads them, or for nobody: a reader that has stopped
// reading costs lines, which are counted, and never makes the server wait.
class LineWriter {
 public:
  explicit LineWriter(int fd) : fd_(fd) {}

  void Write(std::string_view line) {
    pollfd room = {.fd = fd_, .events = POLLOUT, .revents = 0};
    if (RetryOnEintr([&] { return poll(&room, 1, 0); }) != 1) {
      ++lost_;
      return;
    }
    const std::string text =
        lost_ == 0 ? absl::StrCat(line, "\n")
                   : absl::StrCat(lost_, " lines lost\n", line, "\n");
    lost_ = 0;
    // One write, so that a line never mixes with one of another process.
    (void)!RetryOnEintr([&] { return write(fd_, text.data(), text.size()); });
  }

 private:
  const int fd_;
  int64_t lost_ = 0;
};

class Supervisor {
 public:
  Supervisor(ProcessModel& model, const SuperviseOptions& options,
             SignalFd signals)
      : model_(model),
        drain_timeout_(options.drain_timeout),
        ready_(options.ready_fd),
        log_(options.log_fd),
        signals_(std::move(signals)) {}

  absl::Status Run() {
    model_.OnConnectionEnd([this](const ConnectionRecord& record) {
      log_.Write(ConnectionLine(record, LogFormat::kText));
    });
    model_.OnTrouble([this](const absl::Status& status) {
      log_.Write(status.ok() ? "clients come in again"
                             : absl::StrCat("clients have to wait: ",
                                            status.message()));
    });
    loop_.Watch(signals_.fd(), [this] { return OnSignal(); });
    if (absl::Status status = model_.Start(loop_); !status.ok()) return status;
    ready_.Write(absl::StrCat(
        "listening on ", absl::StrJoin(model_.addresses(), ", "), " (model ",
        model_.name(), ", service ", model_.service(), ")"));
    absl::Status status = loop_.Run();
    // A further request to stop, sent while this one was being obeyed, would
    // end the process by the signal as soon as the mask is put back.
    while (true) {
      absl::StatusOr<std::optional<SignalEvent>> event = signals_.Next();
      if (!event.ok() || !event->has_value()) return status;
    }
  }

 private:
  enum class Phase { kServing, kDraining, kKilling };

  absl::Status OnSignal() {
    absl::StatusOr<std::optional<SignalEvent>> event = signals_.Next();
    if (!event.ok()) return event.status();
    if (!event->has_value() || (*event)->signo == SIGPIPE) {
      return absl::OkStatus();
    }
    if (phase_ == Phase::kServing) {
      Drain((*event)->signo);
    } else {
      Kill(absl::StrCat("a second ", NameOfSignal((*event)->signo)));
    }
    return absl::OkStatus();
  }

  void Drain(int signo) {
    phase_ = Phase::kDraining;
    model_.Drain([this] { loop_.Stop(); });
    log_.Write(absl::StrCat("draining on ", NameOfSignal(signo), ": ",
                            model_.active(), " inside, at most ",
                            absl::FormatDuration(drain_timeout_)));
    loop_.CallAfter(drain_timeout_, [this] {
      if (phase_ == Phase::kDraining) {
        Signal("time is up", SIGTERM);
        loop_.CallAfter(kTermToKill, [this] {
          Kill("ignored SIGTERM");
          return absl::OkStatus();
        });
      }
      return absl::OkStatus();
    });
  }

  void Kill(std::string_view why) {
    if (phase_ == Phase::kKilling) return;
    phase_ = Phase::kKilling;
    Signal(why, SIGKILL);
  }

  void Signal(std::string_view why, int signo) {
    const size_t inside = model_.active();
    model_.SignalHandlers(signo, EndCause::kStop);
    const size_t signalled = model_.active();
    std::string line =
        absl::StrCat(why, ": ", NameOfSignal(signo), " to ", signalled);
    if (inside > signalled) {
      absl::StrAppend(&line, ", ", inside - signalled,
                      " who waited turned away");
    }
    log_.Write(line);
  }

  ProcessModel& model_;
  const absl::Duration drain_timeout_;
  LineWriter ready_;
  LineWriter log_;
  SignalFd signals_;
  PollLoop loop_;
  Phase phase_ = Phase::kServing;
};

}  // namespace

absl::Status Supervise(ProcessModel& model, const SuperviseOptions& options) {
  // SIGPIPE: whoever reads the log may leave, and the server must not follow.
  // It is blocked and read, not ignored, because children would inherit that.
  constexpr SignalSet kSignals = {SIGTERM, SIGINT, SIGPIPE};
  const absl::StatusOr<SignalMask> mask = SignalMask::Block(kSignals);
  if (!mask.ok()) return mask.status();
  // A program is born with signals ignored if its parent ignored them. With
  // SIGCHLD, the kernel would reap its children and tell nobody how they ended;
  // the others would stay ignored in the children, whom SIGTERM has to reach.
  std::vector<SignalAction> defaults;
  for (const int signo : {SIGCHLD, SIGTERM, SIGINT, SIGPIPE}) {
    const absl::StatusOr<Disposition> inherited = DispositionOf(signo);
    if (!inherited.ok()) return inherited.status();
    if (*inherited != Disposition::kIgnored) continue;
    absl::StatusOr<SignalAction> action = SignalAction::Default(signo);
    if (!action.ok()) return action.status();
    defaults.push_back(*std::move(action));
  }
  absl::StatusOr<SignalFd> signals = SignalFd::Create(kSignals);
  if (!signals.ok()) return signals.status();
  return Supervisor(model, options, *std::move(signals)).Run();
}

}  // namespace brood
