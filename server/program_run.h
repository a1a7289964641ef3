// SPDX-License-Identifier: Apache-2.0
//
// A ProgramRun has a handler's program serve a client, and waits for its end:
// what a process does that has nothing else to do.
//
//   absl::StatusOr<ExitStatus> RunFor(Stream& client, ConnectionHandler& cat) {
//     absl::StatusOr<ProgramRun> run = ProgramRun::Create();
//     if (!run.ok()) return run.status();
//     absl::StatusOr<ProgramRun::End> end = run->Run(cat, client, {}, {});
//     if (!end.ok()) return end.status();  // It has not run, and why.
//     return end->status;
//   }
//
// What it is not: a process model; nobody else is served meanwhile.
//
// As long as there is a shortage (connection_handler.h) the start is tried
// again, ten times a second, while its client is there.
//
// Ownership: all is borrowed. Errors: Create: as mask.h and signal_fd.h. Run:
// as ConnectionHandler::Start(); Cancelled if it would still be tried again but
// for SIGTERM, Aborted but for its client, who has left.
//
// Threads: one. Fork: a child must not use a copy. Signals: SIGTERM is blocked
// until a ProgramRun is destroyed. One that comes while it runs is passed on to
// the program's group, a second later SIGKILL; when the program has ended,
// whoever is left of the group is killed, and once the ProgramRun is destroyed
// the signal strikes this process. Rests on: signalfd(2).
#ifndef BROOD_SERVER_PROGRAM_RUN_H_
#define BROOD_SERVER_PROGRAM_RUN_H_

#include <sys/types.h>

#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/server/connection_handler.h"
#include "brood/signal/mask.h"
#include "brood/signal/signal_fd.h"

namespace brood {

class ProgramRun {
 public:
  struct End {
    pid_t pid;
    // With what it had used.
    ExitStatus status;
  };
  // Called if they are not null.
  struct Observers {
    absl::AnyInvocable<void(pid_t)> on_start = nullptr;
    // Each time that it cannot be started for want of something.
    absl::AnyInvocable<void(const absl::Status&)> on_shortage = nullptr;
  };

  static absl::StatusOr<ProgramRun> Create();
  ProgramRun(ProgramRun&& other) noexcept
      : mask_(std::move(other.mask_)),
        term_(std::move(other.term_)),
        told_(std::exchange(other.told_, false)) {}
  ProgramRun& operator=(ProgramRun&&) = delete;
  ~ProgramRun();

  // Blocks until the program has ended.
  absl::StatusOr<End> Run(ConnectionHandler& handler, Stream& stream,
                          const ConnectionInfo& info, Observers observers);
  // Whether SIGTERM has come.
  bool told() const { return told_; }

 private:
  ProgramRun(SignalMask mask, SignalFd term)
      : mask_(std::move(mask)), term_(std::move(term)) {}

  void PassOnTerm(Child& program);
  bool WasTold();

  SignalMask mask_;
  SignalFd term_;
  bool told_ = false;
};

}  // namespace brood

#endif  // BROOD_SERVER_PROGRAM_RUN_H_
