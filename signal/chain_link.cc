// SPDX-License-Identifier: Apache-2.0
#include "brood/signal/chain_link.h"

#include <pthread.h>
#include <ucontext.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <utility>

#include "brood/signal/signal_set.h"

namespace brood {
namespace {

// One for the process, as the dispositions are.
constinit std::array<ChainLink, ChainLink::kLinks> links;

template <size_t kIndex>
void EntryOf(int signo, siginfo_t* info, void* context) {
  links[kIndex].Run(signo, info, context);
}

template <size_t... kIndices>
constexpr std::array<ChainLink::Entry, sizeof...(kIndices)> EntriesOf(
    std::index_sequence<kIndices...>) {
  return {EntryOf<kIndices>...};
}

constexpr std::array<ChainLink::Entry, ChainLink::kLinks> kEntries =
    EntriesOf(std::make_index_sequence<ChainLink::kLinks>());

bool Same(const struct sigaction& a, const struct sigaction& b) {
  return a.sa_handler == b.sa_handler && a.sa_flags == b.sa_flags &&
         SignalSet::FromNative(a.sa_mask) == SignalSet::FromNative(b.sa_mask);
}

bool IsOneShot(const struct sigaction& action) {
  return (action.sa_flags & static_cast<int>(SA_RESETHAND)) != 0;
}

void Call(const struct sigaction& action, int signo, siginfo_t* info,
          void* context) {
  if ((action.sa_flags & SA_SIGINFO) != 0) {
    action.sa_sigaction(signo, info, context);
  } else {
    action.sa_handler(signo);
  }
}

// Blocks what the kernel would have blocked for `action`: its mask and its
// signal, on top of what the interrupted code blocked. Returning from the
// handler undoes it.
void TakeItsMask(const struct sigaction& action, int signo,
                 const void* context) {
  constexpr size_t kKernelMaskSize = 8;  // sigset_t is larger, the frame's not.
  sigset_t mask;
  sigemptyset(&mask);
  std::memcpy(&mask, &static_cast<const ucontext_t*>(context)->uc_sigmask,
              kKernelMaskSize);
  sigorset(&mask, &mask, &action.sa_mask);
  if ((action.sa_flags & SA_NODEFER) == 0) sigaddset(&mask, signo);
  (void)pthread_sigmask(SIG_SETMASK, &mask, nullptr);
}

}  // namespace

ChainLink* ChainLink::Take(int signo, const struct sigaction& ours,
                           const struct sigaction& previous) {
  for (ChainLink& link : links) {
    State state = State::kFree;
    if (link.state_.compare_exchange_strong(state, State::kTaken)) {
      link.signo_ = signo;
      link.ours_ = ours;
      link.previous_ = previous;
      link.users_.store(1);
      link.state_.store(State::kReady);
      return &link;
    }
    // One that another thread is just taking is passed over.
    if (state == State::kReady && link.signo_ == signo &&
        Same(link.ours_, ours) && Same(link.previous_, previous)) {
      link.spent_.store(false);
      link.users_.fetch_add(1);
      return &link;
    }
  }
  return nullptr;
}

ChainLink::Entry ChainLink::entry() const {
  return kEntries[static_cast<size_t>(this - links.data())];
}

struct sigaction ChainLink::previous() const {
  struct sigaction previous = previous_;
  if (spent_.load()) previous.sa_handler = SIG_DFL;
  return previous;
}

void ChainLink::Run(int signo, siginfo_t* info, void* context) {
  // Ours goes first: theirs need not return.
  if (users_.load(std::memory_order_acquire) > 0) {
    Call(ours_, signo, info, context);
  }
  if (IsOneShot(previous_) && spent_.exchange(true)) return;
  TakeItsMask(previous_, signo, context);
  Call(previous_, signo, info, context);
}

}  // namespace brood
