// SPDX-License-Identifier: Apache-2.0
//
// A SignalRegistry calls a function in ordinary context, between two turns of
// the caller's loop, for each signal that arrived.
//
//   absl::Status ServeUntilTerm(absl::FunctionRef<void()> reload) {
//     absl::StatusOr<SignalRegistry> signals = SignalRegistry::Create();
//     if (!signals.ok()) return signals.status();
//     bool stop = false;
//     absl::Status added = signals->Add(
//         SIGHUP, [&](const SignalSource::Event&) { reload(); });
//     added.Update(signals->Add(
//         SIGTERM, [&](const SignalSource::Event&) { stop = true; }));
//     while (added.ok() && !stop) {
//       added = PollUntil(signals->fd(), POLLIN, absl::InfiniteFuture())
//                   .status();
//       if (added.ok()) added = signals->Dispatch().status();
//     }
//     return added;
//   }
//
// What it is not: a handler. A callback runs where Dispatch() is called, in
// that thread, and may do whatever it likes: allocate, lock, log. Nor is it a
// mechanism of its own: it reads a SignalSource, so it needs no mask, counts
// exactly, shares signals with other registries and sources, and all that
// signal_source.h says of them is true here.
//
// A callback may add and remove, itself as well, and may call Dispatch(); it
// must not destroy or move the registry. One that is removed is not called
// again, not even for what had arrived before.
//
// Readiness: fd() is readable while Dispatch() has something to call for.
//
// Ownership: the callbacks are the registry's until they are removed or it
// goes.
//
// Errors: Create and Add: as SignalSource's; InvalidArgument for a callback
// that is null; AlreadyExists for a signal that has one. Dispatch: as
// SignalSource::Next().
//
// Threads: one at a time. Signals: no call is async-signal-safe. Fork: the
// child's copy dispatches nothing: FailedPrecondition; make a new one there.
// Rests on: signal_source.h.
#ifndef BROOD_SIGNAL_REGISTRY_H_
#define BROOD_SIGNAL_REGISTRY_H_

#include <map>
#include <memory>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brood/signal/signal_set.h"
#include "brood/signal/signal_source.h"

namespace brood {

class SignalRegistry {
 public:
  using Callback = absl::AnyInvocable<void(const SignalSource::Event&)>;
  // How many callbacks Dispatch() runs at most, so that a storm of signals does
  // not keep the loop from its other work.
  static constexpr int kBatch = 64;

  static absl::StatusOr<SignalRegistry> Create(
      const SignalSourceOptions& options = {});

  // Borrowed.
  int fd() const { return source_.fd(); }

  // Calls `callback` from Dispatch() when `signo` has arrived: once, with
  // `count` 1, for each arrival, or once for all whose details are lost.
  absl::Status Add(int signo, Callback callback);
  // Removing what is not there is no error.
  void Remove(int signo);

  // Runs the callbacks for what has arrived, in its order, and says how many
  // ran. Never blocks.
  absl::StatusOr<int> Dispatch();

  // What it listens to: left_ignored(), Check(), CountOf().
  const SignalSource& source() const { return source_; }

 private:
  explicit SignalRegistry(SignalSource source) : source_(std::move(source)) {}

  SignalSource source_;
  // Shared with the call that is running, which may remove its own.
  std::map<int, std::shared_ptr<Callback>> callbacks_;
};

}  // namespace brood

#endif  // BROOD_SIGNAL_REGISTRY_H_
