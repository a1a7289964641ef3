// SPDX-License-Identifier: Apache-2.0
//
// A SignalMask is one change of the calling thread's signal mask, undone when
// it goes.
//
//   absl::Status InPeace(absl::FunctionRef<void()> reload) {
//     const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGHUP});
//     if (!mask.ok()) return mask.status();
//     reload();  // A SIGHUP that arrives meanwhile waits ...
//     return absl::OkStatus();
//   }  // ... and takes effect here, before the next line of the caller runs.
//
// What it is not: a way to drop signals. What arrives while blocked is pending
// and strikes when it is unblocked, inside the destructor. If nobody took it
// (see signal_fd.h) and nobody handles it, a pending SIGTERM ends the process
// there.
//
// Ownership: the destructor puts back the mask that the factory found, whatever
// happened to it since, so the SignalMasks of a thread must go in the reverse
// order of their making, as scopes do by themselves. One that was moved from
// puts back nothing.
//
// Errors: none in practice. SIGKILL and SIGSTOP cannot be blocked: the kernel
// leaves them out and says nothing.
//
// Threads: the mask is the thread's. New threads inherit it, other threads keep
// theirs: a signal sent to the process goes to any thread that does not block
// it, so block before the first thread starts. A SignalMask that is destroyed
// in another thread than its maker's changes no mask at all.
//
// Signals: async-signal-safe, but for Current() and a failure's Status.
//
// Fork: the child has the same mask, and a copy of this object that may put
// back its own. Exec keeps the mask too: a program that is started from here
// begins with these signals blocked, and hardly any looks. Put the mask back in
// the child first.
//
// Rests on: pthread_sigmask(3), sigprocmask(2), signal(7).
#ifndef BROOD_SIGNAL_MASK_H_
#define BROOD_SIGNAL_MASK_H_

#include <pthread.h>

#include <csignal>
#include <utility>

#include "absl/status/statusor.h"
#include "brood/signal/signal_set.h"

namespace brood {

class SignalMask {
 public:
  // Blocks `signals` in addition to what is blocked already.
  static absl::StatusOr<SignalMask> Block(const SignalSet& signals);
  // Lets `signals` through; those pending strike before this returns.
  static absl::StatusOr<SignalMask> Unblock(const SignalSet& signals);
  // Blocks `signals` and no others.
  static absl::StatusOr<SignalMask> Replace(const SignalSet& signals);
  // What the calling thread blocks now.
  static absl::StatusOr<SignalSet> Current();

  SignalMask(SignalMask&& other) noexcept
      : previous_(other.previous_),
        thread_(other.thread_),
        armed_(std::exchange(other.armed_, false)) {}
  // Assigning would put the old mask back after the new change was made.
  SignalMask& operator=(SignalMask&&) = delete;
  ~SignalMask();

  // What was blocked before: for sigsuspend(2) and ppoll(2), which let signals
  // in while they wait, and for a child that is about to exec.
  SignalSet previous() const { return SignalSet::FromNative(previous_); }

 private:
  static absl::StatusOr<SignalMask> Change(int how, const SignalSet& signals);
  explicit SignalMask(const sigset_t& previous)
      : previous_(previous), thread_(pthread_self()), armed_(true) {}

  sigset_t previous_;
  pthread_t thread_;
  bool armed_;
};

}  // namespace brood

#endif  // BROOD_SIGNAL_MASK_H_
