// SPDX-License-Identifier: Apache-2.0
//
// The least a connection can cost that finds its process waiting: eight
// workers, all of them blocked in accept(2) on one socket, of which the kernel
// wakes one.
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include "brood/tools/bench/floors/bare.h"

namespace {

constexpr int kWorkers = 8;

[[noreturn]] void Work(int listener) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (;;) {
    const int client = accept(listener, nullptr, nullptr);
    if (client == -1) continue;
    brood::bare::Echo(client);
    close(client);
  }
}

}  // namespace

int main() {
  const int listener = brood::bare::Listen();
  for (int i = 0; i < kWorkers; ++i) {
    if (fork() == 0) Work(listener);
  }
  for (;;) pause();
}
