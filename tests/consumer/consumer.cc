// A listener, a signal descriptor and a reaper, each taken alone.
#include <csignal>
#include <iostream>

#include "brood/net/listener.h"
#include "brood/proc/reaper.h"
#include "brood/signal/signal_fd.h"
#include "net/address.h"  // Not brood's.
#include "proc/child.h"   // Not brood's.

int main() {
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  sigprocmask(SIG_BLOCK, &term, nullptr);
  auto signals = brood::SignalFd::Create({SIGTERM});
  auto reaper = brood::Reaper::Create();
  auto listener =
      brood::Listener::Open(*brood::Address::Parse(consumer::kAddress));
  if (!signals.ok() || !reaper.ok() || !listener.ok()) return 1;
  std::cout << consumer::kChild << " may connect to " << listener->address()
            << "\n";
}
