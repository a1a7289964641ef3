// SPDX-License-Identifier: Apache-2.0
#include "brood/server/supervisor.h"

#include <sys/types.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/orphans.h"
#include "brood/proc/posix.h"
#include "brood/proc/unforked.h"
#include "brood/server/connection_log.h"
#include "brood/server/log_writer.h"
#include "brood/server/notify.h"
#include "brood/server/poll_loop.h"
#include "brood/server/process_model.h"
#include "brood/signal/action.h"
#include "brood/signal/mask.h"
#include "brood/signal/signal_event.h"
#include "brood/signal/signal_fd.h"
#include "brood/signal/signal_set.h"

namespace brood {
namespace {

constexpr absl::Duration kTermToKill = absl::Seconds(2);
// How often at most a manager hears how many are inside, and how soon the loss
// of lines is said if no other line comes.
constexpr absl::Duration kStatusPause = absl::Seconds(1);
constexpr absl::Duration kFlushPause = absl::Seconds(1);
// How long at least from one sign of life to the next: with less, a loop would
// do nothing else.
constexpr absl::Duration kWatchdogPause = absl::Milliseconds(1);

constexpr std::string_view kStopHelp =
    "drain: who is inside may finish, nobody else comes in; after "
    "--drain_timeout SIGTERM to what is left, two seconds later SIGKILL; a "
    "second one ends at once";

constexpr std::array<SupervisorSignal, 7> kSignals = {{
    {SIGTERM, SupervisorRequest::kStop, kStopHelp},
    {SIGINT, SupervisorRequest::kStop, kStopHelp},
    {SIGQUIT, SupervisorRequest::kStopNow, "end at once"},
    {SIGTTIN, SupervisorRequest::kMore, "one process more may handle clients"},
    {SIGTTOU, SupervisorRequest::kFewer, "one process fewer"},
    {SIGUSR1, SupervisorRequest::kReport, "log how things stand, in a line"},
    {SIGHUP, SupervisorRequest::kReload,
     "read the rules again; if they are wrong, the old ones stay"},
}};

enum class Phase {
  kServing,
  kDraining,     // Who is inside may finish,
  kTerminating,  // was asked to,
  kKilling,      // is killed.
  kLeaving,      // Nobody is inside; orphans may finish.
};

std::string_view NameOf(Phase phase) {
  switch (phase) {
    case Phase::kServing:
      return "serving";
    case Phase::kDraining:
      return "draining";
    case Phase::kTerminating:
      return "terminating";
    case Phase::kKilling:
      return "killing";
    case Phase::kLeaving:
      break;
  }
  return "leaving";
}

absl::StatusOr<std::optional<LogWriter>> OpenLog(
    int fd, std::optional<LogFormat> format) {
  if (!format.has_value()) return std::nullopt;
  return LogWriter::Create(fd, [format](uint64_t lines) {
    LogEvent lost = LinesLost(lines);
    if (*format == LogFormat::kJson) lost.time = absl::Now();
    return EventLine(lost, *format);
  });
}

// Its loop is written to after each fork.
class Supervisor : public Unforked {
 public:
  Supervisor(ProcessModel& model, SuperviseOptions options, SignalFd signals,
             std::optional<LogWriter> log, LogWriter announcement)
      : model_(model),
        options_(std::move(options)),
        signals_(std::move(signals)),
        log_(std::move(log)),
        announcement_(std::move(announcement)) {}

  absl::Status Run() {
    const absl::Status status = Serve();
    model_.OnConnectionEnd(nullptr);
    model_.OnTrouble(nullptr);
    model_.OnEvent(nullptr);
    if (log_.has_value()) log_->Flush();
    // A further request, sent while this one was being obeyed, would end the
    // process by its signal as soon as the mask is put back.
    while (true) {
      absl::StatusOr<std::optional<SignalEvent>> event = signals_.Next();
      if (!event.ok() || !event->has_value()) return status;
    }
  }

 private:
  // ---- Serving ----

  absl::Status Serve() {
    if (log_.has_value()) Observe();
    loop_.Watch(signals_.fd(), [this] { return OnSignal(); });
    if (options_.adopt_orphans) AdoptOrphans();
    if (options_.prepare != nullptr) {
      if (absl::Status status = options_.prepare(
              loop_, [this](const LogEvent& event) { Log(event); },
              [this] { return State(); });
          !status.ok()) {
        return status;
      }
    }
    if (absl::Status status = model_.Start(loop_); !status.ok()) return status;
    SayReady();
    return loop_.Run();
  }

  void Observe() {
    model_.OnConnectionEnd(
        [this](const ConnectionRecord& record) { LogEnd(record); });
    model_.OnTrouble([this](const absl::Status& status) {
      Log({.name = "trouble",
           .sentence = status.ok() ? "clients come in again"
                                   : absl::StrCat("clients have to wait: ",
                                                  status.message())});
    });
    model_.OnEvent([this](const LogEvent& event) { Log(event); });
  }

  void SayReady() {
    const std::string line =
        absl::StrCat("listening on ", Addresses(), " (model ", model_.name(),
                     ", service ", model_.service(), ")");
    if (options_.log_format == LogFormat::kJson) {
      Log({.name = "listening",
           .sentence = line,
           .fields = {{"addresses", Addresses()},
                      {"model", std::string(model_.name())},
                      {"service", std::string(model_.service())}}});
    }
    announcement_.Write(line);
    if (options_.ready_fd.valid()) {
      (void)Told(TellReady(std::move(options_.ready_fd), line));
    }
    if (!HasManager()) return;
    TellReadiness();
    TellStatusSoon();
    if (options_.watchdog.has_value()) TellAlive();
  }

  std::string Addresses() const {
    return absl::StrJoin(model_.addresses(), ", ");
  }

  // ---- What signals ask for ----

  absl::Status OnSignal() {
    absl::StatusOr<std::optional<SignalEvent>> event = signals_.Next();
    if (!event.ok()) return event.status();
    if (!event->has_value()) return absl::OkStatus();
    for (const SupervisorSignal& signal : kSignals) {
      if (signal.signo == (*event)->signo) {
        Obey(signal.request, NameOfSignal(signal.signo));
      }
    }
    return absl::OkStatus();
  }

  void Obey(SupervisorRequest request, std::string_view signal) {
    switch (request) {
      case SupervisorRequest::kStop:
        if (phase_ == Phase::kServing) {
          Drain(signal);
        } else {
          Kill(absl::StrCat("a second ", signal), EndCause::kStop);
        }
        return;
      case SupervisorRequest::kStopNow:
        if (phase_ == Phase::kServing) BeginDrain();
        Kill(signal, EndCause::kStop);
        return;
      case SupervisorRequest::kReload:
        return Reload(signal);
      case SupervisorRequest::kReport:
        return Log(State());
      case SupervisorRequest::kMore:
        return ChangeCapacity(signal, 1);
      case SupervisorRequest::kFewer:
        return ChangeCapacity(signal, -1);
    }
  }

  void Reload(std::string_view signal) {
    LogEvent event = {.name = "reload",
                      .sentence = "",
                      .fields = {{"signal", std::string(signal)}}};
    if (phase_ != Phase::kServing) {
      event.sentence = absl::StrCat(signal, ": nothing is read again while ",
                                    NameOf(phase_));
      return Log(event);
    }
    // Also if there is nothing to read: whoever asked waits for the answer.
    if (HasManager()) (void)Told(options_.notifier->Reloading("reading again"));
    if (options_.on_hangup == nullptr) {
      event.sentence = absl::StrCat(signal, ": there is nothing to read again");
    } else if (absl::Status status = options_.on_hangup(); status.ok()) {
      event.sentence = absl::StrCat("read again on ", signal);
    } else {
      event.sentence = absl::StrCat(signal, ": ", status.message(),
                                    "; what was read before stays");
      event.fields.push_back({"error", std::string(status.message())});
    }
    Log(event);
    if (HasManager()) TellReadiness();
  }

  LogEvent State() const {
    std::vector<LogField> fields = {{"uptime", MonotonicNow() - began_}};
    for (LogField& field : model_.State()) fields.push_back(std::move(field));
    if (orphans_.has_value()) {
      fields.push_back({"orphans", uint64_t{orphans_->size()}});
    }
    fields.push_back({"lost_lines", lost_lines_});
    std::string sentence =
        absl::StrCat(NameOf(phase_), ": ", FieldsText(fields));
    fields.insert(fields.begin(), {"phase", std::string(NameOf(phase_))});
    return {.name = "state",
            .sentence = std::move(sentence),
            .fields = std::move(fields)};
  }

  void ChangeCapacity(std::string_view signal, int by) {
    const size_t capacity = model_.ChangeCapacity(by);
    LogEvent event = {.name = "capacity",
                      .sentence = "",
                      .fields = {{"signal", std::string(signal)}}};
    if (capacity == std::numeric_limits<size_t>::max()) {
      event.sentence = absl::StrCat("no limit to capacity on ", signal);
    } else {
      event.sentence = absl::StrCat("capacity ", capacity, " on ", signal);
      event.fields.push_back({"capacity", uint64_t{capacity}});
    }
    Log(event);
  }

  // ---- Stopping ----

  void BeginDrain() {
    phase_ = Phase::kDraining;
    if (HasManager()) {
      std::string status = StatusLine();
      if (Told(options_.notifier->Stopping(status))) said_ = std::move(status);
    }
    model_.Drain([this] { Leave(); });
  }

  void Drain(std::string_view signal) {
    const size_t inside = model_.active();
    BeginDrain();
    Log({.name = "draining",
         .sentence = absl::StrCat("draining on ", signal, ": ", inside,
                                  " inside, at most ",
                                  absl::FormatDuration(options_.drain_timeout)),
         .fields = {{"signal", std::string(signal)},
                    {"inside", uint64_t{inside}},
                    {"at_most", options_.drain_timeout}}});
    loop_.CallAfter(options_.drain_timeout, [this] {
      if (phase_ == Phase::kDraining) Terminate();
      return absl::OkStatus();
    });
  }

  void Terminate() {
    phase_ = Phase::kTerminating;
    loop_.CallAfter(kTermToKill, [this] {
      if (phase_ == Phase::kTerminating) {
        Kill("ignored SIGTERM", EndCause::kDrain);
      }
      return absl::OkStatus();
    });
    SignalHandlers("time is up", SIGTERM, EndCause::kDrain);
  }

  void Kill(std::string_view why, EndCause cause) {
    if (phase_ == Phase::kKilling) return;
    if (std::exchange(phase_, Phase::kKilling) == Phase::kLeaving) {
      SignalOrphans(why, SIGKILL);
      loop_.Stop();
    } else {
      SignalHandlers(why, SIGKILL, cause);
    }
  }

  void SignalHandlers(std::string_view why, int signo, EndCause cause) {
    const size_t inside = model_.active();
    model_.SignalHandlers(signo, cause);
    const size_t signalled = model_.active();
    LogEvent event = Signalled(why, signo, signalled);
    if (inside > signalled) {
      const uint64_t turned_away = inside - signalled;
      absl::StrAppend(&event.sentence, ", ", turned_away,
                      " who waited turned away");
      event.fields.push_back({"turned_away", turned_away});
    }
    Log(event);
  }

  static LogEvent Signalled(std::string_view why, int signo, size_t count) {
    const std::string signal = NameOfSignal(signo);
    return {.name = "signalled",
            .sentence = absl::StrCat(why, ": ", signal, " to ", count),
            .fields = {{"signal", signal}, {"to", uint64_t{count}}}};
  }

  // Nobody is inside any more. A server that ends as PID 1 takes all others
  // with it, by SIGKILL, and nobody else could have told them to stop.
  void Leave() {
    if (orphans_.has_value() && phase_ != Phase::kKilling) {
      if (orphans_->Scan().ok() && orphans_->size() > 0) {
        phase_ = Phase::kLeaving;
        SignalOrphans("nobody is inside", SIGTERM);
        loop_.CallAfter(kTermToKill, [this] {
          Kill("ignored SIGTERM", EndCause::kStop);
          return absl::OkStatus();
        });
        return;
      }
      (void)ReapOrphans();
    }
    loop_.Stop();
  }

  // ---- Orphans ----

  void AdoptOrphans() {
    absl::StatusOr<Orphans> orphans =
        Orphans::Receive([this](pid_t pid) { return model_.Owns(pid); });
    if (!orphans.ok()) {
      return Log({.name = "trouble",
                  .sentence = absl::StrCat("orphans are not reaped: ",
                                           orphans.status().message())});
    }
    orphans_ = *std::move(orphans);
    loop_.Watch(orphans_->fd(), [this] { return ReapOrphans(); });
  }

  absl::Status ReapOrphans() {
    while (true) {
      absl::StatusOr<std::optional<Orphans::Exit>> exit = orphans_->Next();
      if (!exit.ok()) return exit.status();
      if (!exit->has_value()) break;
      const std::string status = (*exit)->status.ToString();
      Log({.name = "orphan",
           .sentence = absl::StrCat("orphan ", (*exit)->pid, " ", status),
           .fields = {{"pid", int64_t{(*exit)->pid}}, {"status", status}}});
    }
    if (phase_ == Phase::kLeaving && orphans_->size() == 0) loop_.Stop();
    return absl::OkStatus();
  }

  void SignalOrphans(std::string_view why, int signo) {
    LogEvent event = Signalled(why, signo, orphans_->size());
    event.name = "orphans_signalled";
    absl::StrAppend(&event.sentence, " orphans");
    Log(event);
    (void)orphans_->SignalAll(signo);
  }

  // ---- The log ----

  void LogEnd(const ConnectionRecord& record) {
    if (*options_.log_format == LogFormat::kText || record.time.has_value()) {
      return WriteLine(ConnectionLine(record, *options_.log_format));
    }
    ConnectionRecord timed = record;
    timed.time = absl::Now();
    WriteLine(ConnectionLine(timed, *options_.log_format));
  }

  void Log(LogEvent event) {
    if (!log_.has_value()) return;
    if (*options_.log_format == LogFormat::kJson && !event.time.has_value()) {
      event.time = absl::Now();
    }
    WriteLine(EventLine(event, *options_.log_format));
  }

  void WriteLine(std::string_view line) {
    log_->Write(line);
    // Had it been taken, so would the count of those before it.
    if (log_->lost() == 0) return;
    ++lost_lines_;
    FlushSoon();
  }

  void FlushSoon() {
    if (std::exchange(flushing_soon_, true)) return;
    loop_.CallAfter(kFlushPause, [this] {
      flushing_soon_ = false;
      log_->Flush();
      if (log_->lost() > 0) FlushSoon();
      return absl::OkStatus();
    });
  }

  // ---- The manager ----

  bool HasManager() const {
    return options_.notifier != nullptr && options_.notifier->listened_to();
  }

  std::string StatusLine() const {
    return absl::StrCat(
        NameOf(phase_),
        phase_ == Phase::kServing ? absl::StrCat(" on ", Addresses()) : "",
        ": ", model_.active(), " inside");
  }

  void TellReadiness() {
    std::string status = StatusLine();
    ready_told_ = Told(options_.notifier->Ready(status));
    if (ready_told_) said_ = std::move(status);
  }

  void TellStatusSoon() {
    loop_.CallAfter(kStatusPause, [this] {
      std::string status = StatusLine();
      if (phase_ == Phase::kServing && !ready_told_) {
        TellReadiness();
      } else if (status != said_ && Told(options_.notifier->Status(status))) {
        said_ = std::move(status);
      }
      TellStatusSoon();
      return absl::OkStatus();
    });
  }

  void TellAlive() {
    (void)Told(options_.notifier->Watchdog());
    loop_.CallAfter(std::max(*options_.watchdog, kWatchdogPause), [this] {
      TellAlive();
      return absl::OkStatus();
    });
  }

  // Whether it was. That it was not is logged once, until it goes well again: a
  // manager that has left is told every second.
  bool Told(const absl::Status& status) {
    const bool failed_before = std::exchange(telling_fails_, !status.ok());
    if (!status.ok() && !failed_before) {
      Log({.name = "trouble", .sentence = std::string(status.message())});
    }
    return status.ok();
  }

  ProcessModel& model_;
  SuperviseOptions options_;
  SignalFd signals_;
  std::optional<LogWriter> log_;
  LogWriter announcement_;
  const absl::Duration began_ = MonotonicNow();
  std::optional<Orphans> orphans_;
  PollLoop loop_;
  Phase phase_ = Phase::kServing;
  uint64_t lost_lines_ = 0;
  bool flushing_soon_ = false;
  bool telling_fails_ = false;
  bool ready_told_ = false;
  std::string said_;  // The status that a manager was told last.
};

}  // namespace

absl::Span<const SupervisorSignal> SupervisorSignals() { return kSignals; }

SignalSet SupervisedSignals() {
  // Blocked and read, not ignored, because children would inherit that.
  SignalSet signals = {SIGPIPE};
  for (const SupervisorSignal& signal : kSignals) {
    (void)signals.Add(signal.signo);  // All of them are signals.
  }
  return signals;
}

absl::Status Supervise(ProcessModel& model, SuperviseOptions options) {
  SignalSet signals = SupervisedSignals();
  // An ignored SIGHUP is what nohup(1) is for. Blocked, it would come all the
  // same.
  const absl::StatusOr<Disposition> hangup = DispositionOf(SIGHUP);
  if (!hangup.ok()) return hangup.status();
  if (*hangup == Disposition::kIgnored) signals.Remove(SIGHUP);
  const absl::StatusOr<SignalMask> mask = SignalMask::Block(signals);
  if (!mask.ok()) return mask.status();
  // A program is born with signals ignored if its parent ignored them. With
  // SIGCHLD, the kernel would reap its children and tell nobody how they ended;
  // the others would stay ignored in the children, whom SIGTERM has to reach.
  std::vector<SignalAction> defaults;
  for (const int signo : {SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGPIPE}) {
    const absl::StatusOr<Disposition> inherited = DispositionOf(signo);
    if (!inherited.ok()) return inherited.status();
    if (*inherited != Disposition::kIgnored) continue;
    absl::StatusOr<SignalAction> action = SignalAction::Default(signo);
    if (!action.ok()) return action.status();
    defaults.push_back(*std::move(action));
  }
  absl::StatusOr<SignalFd> signal_fd = SignalFd::Create(signals);
  if (!signal_fd.ok()) return signal_fd.status();
  absl::StatusOr<std::optional<LogWriter>> log =
      OpenLog(options.log_fd, options.log_format);
  if (!log.ok()) return log.status();
  absl::StatusOr<LogWriter> announcement =
      LogWriter::Create(options.announce_fd);
  if (!announcement.ok()) return announcement.status();
  return std::make_unique<Supervisor>(model, std::move(options),
                                      *std::move(signal_fd), *std::move(log),
                                      *std::move(announcement))
      ->Run();
}

}  // namespace brood
