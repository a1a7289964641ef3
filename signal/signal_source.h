// SPDX-License-Identifier: Apache-2.0
//
// A SignalSource turns signals into events that are read, without a mask: a
// handler records each, exactly.
//
//   absl::StatusOr<uint64_t> CountReloads(absl::FunctionRef<void()> work) {
//     absl::StatusOr<SignalSource> signals = SignalSource::Create({SIGHUP});
//     if (!signals.ok()) return signals.status();  // Perhaps AlreadyExists.
//     work();
//     uint64_t reloads = 0;
//     while (true) {
//       const absl::StatusOr<std::optional<SignalSource::Event>> event =
//           signals->Next();
//       if (!event.ok()) return event.status();
//       if (!event->has_value()) return reloads;  // Till fd() is readable.
//       reloads += (*event)->count;
//     }
//   }
//
// What it is not: a SignalFd. That one leaves the signals' actions alone and
// wants them blocked in every thread; this one registers a handler and wants
// them open in some thread. Take it in a program whose threads are not yours,
// and where signals are to be counted: every run of the handler counts. What
// the kernel merges before it calls the handler, because a standard signal was
// pending already, is one to everybody.
//
// The counts of the events add up to the signals that arrived. Their details
// wait in a ring of a fixed size; when it is full, the events that follow those
// in it say for each signal how many arrived and that their details are lost,
// and then details come again. No signal is lost altogether.
//
// Order is that of arrival. Realtime signals of one number arrive as they were
// sent as long as one thread takes them.
//
// Several sources may have the same signal, up to kMaxSourcesOfASignal, and
// each is told. The first registers and decides what becomes of the handler or
// the ignoring that it finds; the last puts back the old action, if ours still
// stands.
//
// Readiness: fd() is readable from an arrival until Next() has said nullopt.
//
// Ownership: the destructor forgets what nobody read. It waits, for
// microseconds, until no handler is running that might still see this source.
//
// Errors: Create and Add: InvalidArgument for what is no signal, for SIGKILL
// and SIGSTOP, for faults, and for a capacity that is not 1 to 65536;
// AlreadyExists if somebody else's handler stands and if_handled is kRefuse, or
// if this source has the signal already; FailedPrecondition, naming it, for a
// signal that every thread blocks; ResourceExhausted for a source too many;
// else what eventfd(2) or mmap(2) say. Next: what read(2) says, and
// FailedPrecondition in a forked child.
//
// Threads: the handler runs in any, at once; the calls on one source are for
// one at a time, those on different sources are not.
//
// Signals: the handler is async-signal-safe, waits for nothing, keeps errno,
// blocks all signals while it runs, uses the sigaltstack(2) if there is one,
// and restarts system calls unless told otherwise. No call here is.
//
// Fork: the source stays the parent's. Whatever the child receives is recorded
// nowhere and wakes nobody, whether it was made by fork(2), by vfork(2) or by a
// bare clone(2). Destroying the copy puts the old actions back in the child; to
// receive signals there, make a new source. The dispositions are one to a
// process, and so is the table in signal_source.cc that the handler reads.
//
// Rests on: sigaction(2), eventfd(2), MADV_WIPEONFORK in madvise(2) (Linux
// 4.14).
#ifndef BROOD_SIGNAL_SIGNAL_SOURCE_H_
#define BROOD_SIGNAL_SIGNAL_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brood/signal/action.h"
#include "brood/signal/signal_event.h"
#include "brood/signal/signal_set.h"

namespace brood {

class SignalFeed;

struct SignalSourceOptions {
  // Of how many arrivals the details can wait at once; rounded up to a power of
  // two, and to 2 at least.
  size_t capacity = 64;
  // As in SignalActionOptions.
  bool restart = true;
  bool no_child_stop = false;
  IfHandled if_handled = IfHandled::kRefuse;
  IfIgnored if_ignored = IfIgnored::kReplace;
};

class SignalSource {
 public:
  static constexpr int kMaxSourcesOfASignal = 16;

  struct Event {
    // Only `signo` means anything if the details are lost.
    SignalEvent signal = {};
    // How many arrivals this stands for: one, unless their details are lost.
    uint64_t count = 1;
    bool details_lost = false;
  };

  static absl::StatusOr<SignalSource> Create(
      const SignalSet& signals, const SignalSourceOptions& options = {});

  SignalSource(SignalSource&& other) noexcept;
  SignalSource& operator=(SignalSource&& other) noexcept;
  ~SignalSource();

  // Borrowed; -1 after the source was moved from.
  int fd() const;
  absl::StatusOr<std::optional<Event>> Next();

  // How often `signo` has arrived since it was first added: exactly, whether
  // read or not, and for ever. 0 for what was never added.
  uint64_t CountOf(int signo) const;

  absl::Status Add(int signo);
  // What has arrived and nobody has read is forgotten. Removing what is not
  // there is no error.
  void Remove(int signo);
  // What this source has, without what stays ignored.
  SignalSet signals() const;
  // What was added, but was ignored and stays so, for if_ignored is kKeep.
  SignalSet left_ignored() const;

  // Whether signals still come here: FailedPrecondition, naming them, if
  // somebody registered over ours (who may call it in turn, or may not), or if
  // every thread blocks them.
  absl::Status Check() const;

 private:
  explicit SignalSource(std::unique_ptr<SignalFeed> feed);

  std::unique_ptr<SignalFeed> feed_;  // Null after it was moved from.
};

}  // namespace brood

#endif  // BROOD_SIGNAL_SIGNAL_SOURCE_H_
