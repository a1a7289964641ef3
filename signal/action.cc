// SPDX-License-Identifier: Apache-2.0
#include "brood/signal/action.h"

#include <pthread.h>

#include <cerrno>
#include <csignal>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/posix.h"
#include "brood/signal/chain_link.h"
#include "brood/signal/names.h"
#include "brood/signal/signal_set.h"

namespace brood {
namespace {

// The macro is unsigned, sa_flags is not.
constexpr int kResetHand = static_cast<int>(SA_RESETHAND);

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
  const absl::StatusOr<SignalSet> signal = SignalSet::Of({signo});
  if (!signal.ok()) return signal.status();
  struct sigaction standing = {};
  if (sigaction(signo, nullptr, &standing) == -1) {
    return ErrnoStatus(errno, absl::StrCat("sigaction ", NameOfSignal(signo)));
  }
  return standing;
}

// Whether `standing` is `ours`, perhaps after SA_RESETHAND, upon which the
// kernel puts in the default handler and leaves the flags alone. They tell it
// from a default that somebody set.
bool IsStill(const struct sigaction& ours, const struct sigaction& standing) {
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

// What `action` may change without taking from the handler that stands.
struct sigaction Chained(struct sigaction action,
                         const struct sigaction& standing,
                         ChainLink::Entry entry) {
  if ((standing.sa_flags & SA_RESTART) == 0) action.sa_flags &= ~SA_RESTART;
  if ((standing.sa_flags & SA_NOCLDSTOP) == 0) action.sa_flags &= ~SA_NOCLDSTOP;
  action.sa_flags |= standing.sa_flags & (SA_ONSTACK | SA_NOCLDWAIT);
  action.sa_flags |= SA_SIGINFO;
  action.sa_sigaction = entry;
  return action;
}

absl::Status CheckChainable(int signo, const struct sigaction& action,
                            const SignalActionOptions& options) {
  if (DispositionIn(action) != Disposition::kHandled) {
    return absl::InvalidArgumentError(absl::StrCat(
        "only a handler can be chained, for ", NameOfSignal(signo),
        "; with Ignore() or Default() if_handled must be kRefuse or kReplace"));
  }
  if (options.reset_hand || options.no_child_wait) {
    return absl::InvalidArgumentError(
        absl::StrCat("a chained handler, for ", NameOfSignal(signo),
                     ", must have neither reset_hand nor no_child_wait"));
  }
  return absl::OkStatus();
}

absl::Status TooManyLinks(int signo) {
  return absl::ResourceExhaustedError(
      absl::StrCat(NameOfSignal(signo), " cannot be chained: the process has ",
                   ChainLink::kLinks, " different pairs of handlers already"));
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
  absl::StatusOr<struct sigaction> standing = StandingAction(signo);
  if (!standing.ok()) return standing.status();
  const absl::Status receivable = CheckReceivable(*SignalSet::Of({signo}));
  if (!receivable.ok()) return receivable;
  if (kFaults.Contains(signo) &&
      DispositionIn(action) != Disposition::kDefault) {
    return absl::InvalidArgumentError(absl::StrCat(
        NameOfSignal(signo), " is a fault; only Default() is allowed for it"));
  }
  if (options.if_handled == IfHandled::kChain) {
    const absl::Status chainable = CheckChainable(signo, action, options);
    if (!chainable.ok()) return chainable;
  }
  // The kernel would drop these two itself, and the mask that we read back
  // would not be ours.
  action.sa_mask = (options.mask - kKillAndStop).native();
  action.sa_flags |= FlagsOf(options);

  while (true) {
    const Disposition found = DispositionIn(*standing);
    if (found == Disposition::kHandled &&
        options.if_handled == IfHandled::kRefuse) {
      return absl::AlreadyExistsError(
          absl::StrCat(NameOfSignal(signo), " has a handler already"));
    }
    if (found == Disposition::kIgnored &&
        options.if_ignored == IfIgnored::kKeep) {
      return SignalAction();
    }
    struct sigaction ours = action;
    ChainLink* link = nullptr;
    if (found == Disposition::kHandled &&
        options.if_handled == IfHandled::kChain) {
      link = ChainLink::Take(signo, action, *standing);
      if (link == nullptr) return TooManyLinks(signo);
      ours = Chained(action, *standing, link->entry());
    }
    struct sigaction previous = {};
    if (sigaction(signo, &ours, &previous) == -1) {
      const int error = errno;
      if (link != nullptr) link->Release();
      return ErrnoStatus(error,
                         absl::StrCat("sigaction ", NameOfSignal(signo)));
    }
    if (previous.sa_handler == standing->sa_handler &&
        IsStill(*standing, previous)) {
      return SignalAction(signo, ours, previous, link);
    }
    // Another thread registered between the look and the swap. Put theirs back
    // and look again, as if they had come first.
    sigaction(signo, &previous, nullptr);
    if (link != nullptr) link->Release();
    *standing = previous;
  }
}

bool SignalAction::stands() const {
  struct sigaction standing = {};
  return signo_ != 0 && sigaction(signo_, nullptr, &standing) == 0 &&
         IsStill(ours_, standing);
}

void SignalAction::Release() && {
  if (link_ != nullptr) std::exchange(link_, nullptr)->Release();
  signo_ = 0;
}

SignalAction::~SignalAction() {
  if (signo_ == 0) return;
  if (stands()) {
    const struct sigaction previous =
        link_ == nullptr ? previous_ : link_->previous();
    sigaction(signo_, &previous, nullptr);
  }
  if (link_ != nullptr) link_->Release();
}

void ReRaiseDefault(int signo) {
  if (!IsSignal(signo)) return;
  const int saved_errno = errno;
  struct sigaction by_default = {};
  by_default.sa_handler = SIG_DFL;
  struct sigaction previous = {};
  const bool reset = sigaction(signo, &by_default, &previous) == 0;
  sigset_t unblocked;
  sigemptyset(&unblocked);
  sigaddset(&unblocked, signo);
  sigset_t mask;
  pthread_sigmask(SIG_UNBLOCK, &unblocked, &mask);
  raise(signo);  // Strikes before it returns, being let in.
  pthread_sigmask(SIG_SETMASK, &mask, nullptr);
  if (reset) sigaction(signo, &previous, nullptr);
  errno = saved_errno;
}

}  // namespace brood
