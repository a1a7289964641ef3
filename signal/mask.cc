// SPDX-License-Identifier: Apache-2.0
#include "brood/signal/mask.h"

#include <pthread.h>

#include <csignal>

#include "absl/status/statusor.h"
#include "brood/proc/posix.h"
#include "brood/signal/signal_set.h"

namespace brood {

absl::StatusOr<SignalMask> SignalMask::Change(int how,
                                              const SignalSet& signals) {
  const sigset_t wanted = signals.native();
  sigset_t previous = {};
  const int error = pthread_sigmask(how, &wanted, &previous);
  if (error != 0) return ErrnoStatus(error, "pthread_sigmask");
  return SignalMask(previous);
}

absl::StatusOr<SignalMask> SignalMask::Block(const SignalSet& signals) {
  return Change(SIG_BLOCK, signals);
}

absl::StatusOr<SignalMask> SignalMask::Unblock(const SignalSet& signals) {
  return Change(SIG_UNBLOCK, signals);
}

absl::StatusOr<SignalMask> SignalMask::Replace(const SignalSet& signals) {
  return Change(SIG_SETMASK, signals);
}

absl::StatusOr<SignalSet> SignalMask::Current() {
  sigset_t current = {};
  const int error = pthread_sigmask(SIG_BLOCK, nullptr, &current);
  if (error != 0) return ErrnoStatus(error, "pthread_sigmask");
  return SignalSet::FromNative(current);
}

SignalMask::~SignalMask() {
  // The pthread_t, not the thread id: a forked child has another id, but is the
  // same thread and has inherited the mask that is to be undone.
  if (armed_ && pthread_equal(thread_, pthread_self()) != 0) {
    pthread_sigmask(SIG_SETMASK, &previous_, nullptr);
  }
}

}  // namespace brood
