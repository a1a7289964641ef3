// SPDX-License-Identifier: Apache-2.0
#include "brood/signal/signal_event.h"

#include <csignal>

namespace brood {
namespace {

// Which members of siginfo_t's union are filled in follows from the code, and
// for the kernel's own codes (above SI_USER and below SI_KERNEL) from the
// signal: CLD_EXITED and POLL_IN are both 1.
bool TellsSender(const siginfo_t& info) {
  switch (info.si_code) {
    case SI_USER:
    case SI_QUEUE:
    case SI_TKILL:
    case SI_MESGQ:
    case SI_ASYNCIO:
      return true;
    default:
      return info.si_signo == SIGCHLD && info.si_code > SI_USER &&
             info.si_code < SI_KERNEL;
  }
}

bool TellsValue(const siginfo_t& info) {
  switch (info.si_code) {
    case SI_QUEUE:
    case SI_TIMER:
    case SI_MESGQ:
    case SI_ASYNCIO:
      return true;
    default:
      return false;
  }
}

}  // namespace

SignalEvent SignalEvent::FromSiginfo(const siginfo_t& info) {
  const bool sender = TellsSender(info);
  return {.signo = info.si_signo,
          .code = info.si_code,
          .sender_pid = sender ? info.si_pid : 0,
          .sender_uid = sender ? info.si_uid : 0,
          .value = TellsValue(info) ? info.si_value.sival_int : 0};
}

}  // namespace brood
