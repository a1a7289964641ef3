// SPDX-License-Identifier: Apache-2.0
//
// A SignalEvent is one signal that arrived, and what the kernel tells of it.
//
//   void RememberWho(int, siginfo_t* info, void*) {
//     const SignalEvent event = SignalEvent::FromSiginfo(*info);
//     last_sender.store(event.sender_pid);
//   }
//
// What it is not: siginfo_t, where one place has many meanings. Here a field
// says what its name says, or is 0.
//
// How a child ended is not here, though the kernel tells it: since SIGCHLD is
// not queued, it would be the status of one child of several. Ask its owner.
//
// Threads, fork: a value. Signals: FromSiginfo() is async-signal-safe.
// Rests on: sigaction(2), "The siginfo_t argument to a SA_SIGINFO handler".
#ifndef BROOD_SIGNAL_SIGNAL_EVENT_H_
#define BROOD_SIGNAL_SIGNAL_EVENT_H_

#include <sys/types.h>

#include <csignal>

namespace brood {

struct SignalEvent {
  static SignalEvent FromSiginfo(const siginfo_t& info);

  int signo = 0;
  // Why it was sent: SI_USER, SI_QUEUE, SI_KERNEL, CLD_EXITED, ...
  // (sigaction(2)).
  int code = 0;
  // Who sent it; of a SIGCHLD, the child. 0 if the kernel does not say: it sent
  // the signal itself, the sender is in a pid namespace that we cannot see, or
  // the signal is a realtime signal that a clone(2) child sends as it exits.
  pid_t sender_pid = 0;
  uid_t sender_uid = 0;
  // What sigqueue(3), or a timer, was given; 0 if it was sent otherwise.
  int value = 0;

  friend bool operator==(const SignalEvent&, const SignalEvent&) = default;
};

}  // namespace brood

#endif  // BROOD_SIGNAL_SIGNAL_EVENT_H_
