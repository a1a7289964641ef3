// SPDX-License-Identifier: Apache-2.0
//
// A SignalAction is one sigaction(2) registration: what a signal does, until it
// goes.
//
//   volatile std::sig_atomic_t reload = 0;
//
//   absl::Status Serve(absl::FunctionRef<void()> work) {
//     const absl::StatusOr<SignalAction> hangup =
//         SignalAction::Handle(SIGHUP, [](int) { reload = 1; });
//     if (!hangup.ok()) return hangup.status();  // Perhaps AlreadyExists.
//     const absl::StatusOr<SignalAction> pipe = SignalAction::Ignore(SIGPIPE);
//     if (!pipe.ok()) return pipe.status();
//     work();  // Looks at `reload` now and then.
//     return absl::OkStatus();
//   }
//
// What it is not: a callback in ordinary context. The handler interrupts the
// program between any two instructions, perhaps inside malloc. It may call only
// what signal-safety(7) lists (write, waitpid, _exit; not printf, malloc, a
// lock, a Status), touch only lock-free atomics and `volatile sig_atomic_t`,
// must not throw, and must leave errno as it found it. For anything more take
// signal_fd.h.
//
// Nor is it signal(2), which means two things. On System V the action was reset
// and the signal not blocked while its handler ran, so a second one could kill:
// {.restart = false, .reset_hand = true, .no_defer = true}. BSD and glibc do
// neither and restart system calls, which are the defaults here.
//
// A handler that stands already is somebody's: refused, replaced or chained, as
// if_handled says. Chained, ours runs first, since theirs need not return, and
// then theirs with the same siginfo, once only if it was SA_RESETHAND. Each
// runs under the mask and SA_NODEFER that it asked for. Of the other flags,
// which belong to the signal and not to a handler, both get what either needs:
// system calls restart only if both allow it, SA_ONSTACK if either has it,
// SA_NOCLDSTOP if both do, SA_NOCLDWAIT as it was. A signal that is ignored or
// default has no handler to chain: ours is then alone.
//
// Ownership: the destructor puts the old action back only if ours still stands;
// if somebody registered another since, theirs stays. The kernel keeps no
// owner: an action equal to ours in handler, flags and mask is ours. So is the
// default that reset_hand left behind. If somebody who registered over us calls
// us in turn, they go on calling a function that by then does nothing but pass
// the signal on, if we were chained; without a chain they call our handler.
//
// Errors: InvalidArgument for what is no signal, for SIGKILL and SIGSTOP, for a
// null handler, and for handling or ignoring SIGSEGV, SIGBUS, SIGILL or SIGFPE:
// who returns from a fault runs into it again, and a fault that is ignored
// kills all the same. InvalidArgument too for chaining what is no handler, and
// for a chain with reset_hand or no_child_wait, which would take away what the
// other counts on. AlreadyExists if a handler stands and if_handled is kRefuse.
// ResourceExhausted if the process has chained 64 different pairs of handlers.
//
// Threads: the action is the process's, and the handler runs in any thread that
// does not block the signal. Who registers meanwhile in another thread is
// noticed and treated as if they had come first, but for the moment between
// sigaction(2) and sigaction(2).
//
// Signals: of the calls here only ReRaiseDefault() is async-signal-safe. A
// signal that arrives during registration meets the old action or ours, never
// neither, so there is no need to block it.
//
// Fork: the child has the same actions, and a copy of this object that puts
// back its own. Exec makes handled signals default and leaves ignored ones
// ignored.
//
// Rests on: sigaction(2), signal(7), signal-safety(7).
#ifndef BROOD_SIGNAL_ACTION_H_
#define BROOD_SIGNAL_ACTION_H_

#include <csignal>
#include <utility>

#include "absl/status/statusor.h"
#include "brood/signal/signal_set.h"

namespace brood {

class ChainLink;

// What a signal does in this process.
enum class Disposition { kDefault, kIgnored, kHandled };
absl::StatusOr<Disposition> DispositionOf(int signo);

// What to do if the signal has a handler already, whoever's it is.
enum class IfHandled { kRefuse, kReplace, kChain };

// What to do if the signal is ignored. Whoever starts a program under nohup(1),
// or in the background of a shell without job control, ignores SIGHUP, or
// SIGINT and SIGQUIT, for it: kKeep respects that.
enum class IfIgnored { kReplace, kKeep };

struct SignalActionOptions {
  // Blocked while the handler runs, besides the signal itself.
  SignalSet mask = {};
  // SA_RESTART: system calls that were interrupted go on where they can;
  // poll(2), select(2) and sleeps return EINTR all the same (signal(7)).
  bool restart = true;
  // SA_RESETHAND: back to default as the handler is called.
  bool reset_hand = false;
  // SA_NODEFER: the signal may interrupt its own handler.
  bool no_defer = false;
  // SA_ONSTACK: run on the sigaltstack(2) if the thread has one.
  bool on_stack = false;
  // SA_NOCLDSTOP, for SIGCHLD: not when a child stops or continues.
  bool no_child_stop = false;
  // SA_NOCLDWAIT, for SIGCHLD: children leave no zombie and no exit status; a
  // wait blocks until the last is gone and then says ECHILD.
  bool no_child_wait = false;
  IfHandled if_handled = IfHandled::kRefuse;
  IfIgnored if_ignored = IfIgnored::kReplace;
};

class SignalAction {
 public:
  using Handler = void (*)(int signo);
  using InfoHandler = void (*)(int signo, siginfo_t* info, void* context);

  // Calls `handler` when `signo` arrives.
  static absl::StatusOr<SignalAction> Handle(
      int signo, Handler handler, const SignalActionOptions& options = {});
  static absl::StatusOr<SignalAction> Handle(
      int signo, InfoHandler handler, const SignalActionOptions& options = {});
  // Discards `signo`. Ignoring SIGCHLD has the effect of no_child_wait.
  static absl::StatusOr<SignalAction> Ignore(
      int signo, const SignalActionOptions& options = {});
  // What the kernel does by itself: end the process, for most.
  static absl::StatusOr<SignalAction> Default(
      int signo, const SignalActionOptions& options = {});

  SignalAction(SignalAction&& other) noexcept
      : signo_(std::exchange(other.signo_, 0)),
        ours_(other.ours_),
        previous_(other.previous_),
        link_(other.link_) {}
  // Assigning would put the old action back after the new one was registered.
  SignalAction& operator=(SignalAction&&) = delete;
  ~SignalAction();

  // False if the signal is ignored and if_ignored left it so: this object then
  // changed nothing.
  bool installed() const { return signo_ != 0; }
  // Gives up putting the old action back: what stands stays.
  void Release() &&;
  // Whether the action is still ours. Somebody may have registered over it, who
  // may or may not call it in turn: nobody but they can tell.
  bool stands() const;

 private:
  static absl::StatusOr<SignalAction> Register(
      int signo, struct sigaction action, const SignalActionOptions& options);
  SignalAction() = default;
  SignalAction(int signo, const struct sigaction& ours,
               const struct sigaction& previous, ChainLink* link)
      : signo_(signo), ours_(ours), previous_(previous), link_(link) {}

  int signo_ = 0;  // 0: moved from, or never installed; puts nothing back.
  struct sigaction ours_ = {};
  struct sigaction previous_ = {};
  ChainLink* link_ = nullptr;  // If chained.
};

// Does to the calling process what `signo` does by default: for a handler that
// has cleaned up and now lets the signal end the process, so that its parent
// sees which one it was. Resets, unblocks and raises it; async-signal-safe.
// Returns, with action and mask as they were, if that does not end the process:
// the default is to ignore it, or to stop and somebody continued it, or this is
// PID 1 of a namespace, which no default ends.
void ReRaiseDefault(int signo);

}  // namespace brood

#endif  // BROOD_SIGNAL_ACTION_H_
