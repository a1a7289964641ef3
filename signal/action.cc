// SPDX-License-Identifier: Apache-2.0
#include "brood/signal/action.h"

#include <cerrno>
#include <csignal>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/posix.h"
#include "brood/signal/names.h"
#include "brood/signal/signal_set.h"

namespace brood {
namespace {

// The macro is unsigned, sa_flags is not.
constexpr int kResetHand = static_cast<int>(SA_RESETHAND);

constexpr SignalSet kUnchangeable = {SIGKILL, SIGSTOP};
constexpr SignalSet kFaults = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};

int FlagsOf(const SignalActionOptions& options) {
  return (options.restart ? SA_RESTART : 0) |
         (options.reset_hand ? kResetHand : 0) |
         (options.no_defer ? SA_NODEFER : 0) |
         (options.on_stack ? SA_ONSTACK : 0) |
         (options.no_child_stop ? SA_NOCLDSTOP : 0) |
         (options.no_child_wait ? SA_NOCLDWAIT : 0);
}

Disposition DispositionIn(const struct sigaction& action) {
  // sa_handler and sa_sigaction share their place, so SA_SIGINFO plays no part.
  if (action.sa_handler == SIG_DFL) return Disposition::kDefault;
  if (action.sa_handler == SIG_IGN) return Disposition::kIgnored;
  return Disposition::kHandled;
}

absl::StatusOr<struct sigaction> StandingAction(int signo) {
  if (!IsSignal(signo)) {
    return absl::InvalidArgumentError(absl::StrCat("no such signal: ", signo));
  }
  struct sigaction standing = {};
  if (sigaction(signo, nullptr, &standing) == -1) {
    return ErrnoStatus(errno, absl::StrCat("sigaction ", NameOfSignal(signo)));
  }
  return standing;
}

// Whether `standing` is `ours`, perhaps after SA_RESETHAND, upon which the
// kernel puts in the default handler and leaves the flags alone. They tell it
// from a default that somebody set.
bool Stands(const struct sigaction& ours, const struct sigaction& standing) {
  // Only flags that we gave: the C library and ThreadSanitizer add their own.
  constexpr int kFlags = SA_RESTART | kResetHand | SA_NODEFER | SA_ONSTACK |
                         SA_NOCLDSTOP | SA_NOCLDWAIT;
  if ((standing.sa_flags & kFlags) != (ours.sa_flags & kFlags)) return false;
  if (standing.sa_handler == ours.sa_handler) {
    // Without a handler a mask means nothing, and need not read back as given.
    return DispositionIn(ours) != Disposition::kHandled ||
           SignalSet::FromNative(standing.sa_mask) ==
               SignalSet::FromNative(ours.sa_mask);
  }
  return (ours.sa_flags & kResetHand) != 0 &&
         DispositionIn(standing) == Disposition::kDefault;
}

absl::Status NotAFunction(int signo) {
  return absl::InvalidArgumentError(
      absl::StrCat("the handler for ", NameOfSignal(signo),
                   " must be a function; else call Default() or Ignore()"));
}

}  // namespace

absl::StatusOr<Disposition> DispositionOf(int signo) {
  const absl::StatusOr<struct sigaction> standing = StandingAction(signo);
  if (!standing.ok()) return standing.status();
  return DispositionIn(*standing);
}

absl::StatusOr<SignalAction> SignalAction::Handle(
    int signo, Handler handler, const SignalActionOptions& options) {
  struct sigaction action = {};
  action.sa_handler = handler;
  if (DispositionIn(action) != Disposition::kHandled)
    return NotAFunction(signo);
  return Register(signo, action, options);
}

absl::StatusOr<SignalAction> SignalAction::Handle(
    int signo, InfoHandler handler, const SignalActionOptions& options) {
  struct sigaction action = {};
  action.sa_sigaction = handler;
  if (DispositionIn(action) != Disposition::kHandled)
    return NotAFunction(signo);
  action.sa_flags = SA_SIGINFO;
  return Register(signo, action, options);
}

absl::StatusOr<SignalAction> SignalAction::Ignore(
    int signo, const SignalActionOptions& options) {
  struct sigaction action = {};
  action.sa_handler = SIG_IGN;
  return Register(signo, action, options);
}

absl::StatusOr<SignalAction> SignalAction::Default(
    int signo, const SignalActionOptions& options) {
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  return Register(signo, action, options);
}

absl::StatusOr<SignalAction> SignalAction::Register(
    int signo, struct sigaction action, const SignalActionOptions& options) {
  const absl::StatusOr<struct sigaction> standing = StandingAction(signo);
  if (!standing.ok()) return standing.status();
  if (kUnchangeable.Contains(signo)) {
    return absl::InvalidArgumentError(absl::StrCat(
        NameOfSignal(signo), " cannot be handled, ignored or reset"));
  }
  if (kFaults.Contains(signo) &&
      DispositionIn(action) != Disposition::kDefault) {
    return absl::InvalidArgumentError(absl::StrCat(
        NameOfSignal(signo), " is a fault; only Default() is allowed for it"));
  }
  if (options.if_handled == IfHandled::kRefuse &&
      DispositionIn(*standing) == Disposition::kHandled) {
    return absl::AlreadyExistsError(
        absl::StrCat(NameOfSignal(signo), " has a handler already"));
  }
  // The kernel would drop the unchangeable ones itself, and the mask that we
  // read back would not be ours.
  action.sa_mask = (options.mask - kUnchangeable).native();
  action.sa_flags |= FlagsOf(options);
  struct sigaction previous = {};
  if (sigaction(signo, &action, &previous) == -1) {
    return ErrnoStatus(errno, absl::StrCat("sigaction ", NameOfSignal(signo)));
  }
  return SignalAction(signo, action, previous);
}

SignalAction::~SignalAction() {
  if (signo_ == 0) return;
  struct sigaction standing = {};
  if (sigaction(signo_, nullptr, &standing) == 0 && Stands(ours_, standing)) {
    sigaction(signo_, &previous_, nullptr);
  }
}

}  // namespace brood
