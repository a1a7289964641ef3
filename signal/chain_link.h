// SPDX-License-Identifier: Apache-2.0
//
// A ChainLink is a signal handler that calls two: ours, then the one that stood
// before.
//
//   link = ChainLink::Take(signo, action, *standing);
//   if (link == nullptr) return TooManyLinks(signo);
//   ours = Chained(action, *standing, link->entry());
//
// A handler is told the signal and nothing else, so what it is to call must
// follow from which function it is. There are kLinks functions, each with a
// link of its own, and each link belongs for good to the first pair of handlers
// that took it: nothing a handler reads is ever rewritten, so handlers need no
// lock, and somebody who registered over us and remembers entry() may call it
// for as long as the process lives. The same pair gets the same link again.
//
// What it is not: a registration. See action.h, its only user.
//
// Errors: none but that all links are taken. Threads: Take() and Release() from
// any, at once. Signals: entry() is async-signal-safe, nothing else is. Fork:
// the child has copies.
// Rests on: sigaction(2), signal-safety(7).
#ifndef BROOD_SIGNAL_CHAIN_LINK_H_
#define BROOD_SIGNAL_CHAIN_LINK_H_

#include <atomic>
#include <csignal>

namespace brood {

class ChainLink {
 public:
  using Entry = void (*)(int signo, siginfo_t* info, void* context);
  static constexpr int kLinks = 64;

  // nullptr if other pairs have all the links. `previous` must be a handler.
  static ChainLink* Take(int signo, const struct sigaction& ours,
                         const struct sigaction& previous);
  // From here on entry() calls the previous handler alone.
  void Release() { users_.fetch_sub(1, std::memory_order_release); }

  Entry entry() const;
  // The previous action as it would be now, had we never come.
  struct sigaction previous() const;

  // What entry() does.
  void Run(int signo, siginfo_t* info, void* context);

 private:
  enum class State { kFree, kTaken, kReady };

  std::atomic<State> state_ = State::kFree;
  std::atomic<int> users_ = 0;
  // The previous handler was for one signal only (SA_RESETHAND), and had it.
  std::atomic<bool> spent_ = false;
  int signo_ = 0;
  struct sigaction ours_ = {};
  struct sigaction previous_ = {};
};

}  // namespace brood

#endif  // BROOD_SIGNAL_CHAIN_LINK_H_
