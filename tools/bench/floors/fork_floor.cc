// SPDX-License-Identifier: Apache-2.0
//
// The least a process for each connection can cost: accept, fork, _exit, and a
// handler of SIGCHLD that waits until there is nobody left to wait for.
#include <signal.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "brood/tools/bench/floors/bare.h"

namespace {

// Many that end at once are one SIGCHLD.
void Reap(int /*signo*/) {
  while (waitpid(-1, nullptr, WNOHANG) > 0) continue;
}

}  // namespace

int main() {
  struct sigaction action = {};
  action.sa_handler = Reap;
  action.sa_flags = SA_RESTART;
  sigaction(SIGCHLD, &action, nullptr);
  const int listener = brood::bare::Listen();
  for (;;) {
    const int client = accept(listener, nullptr, nullptr);
    if (client == -1) continue;
    if (fork() == 0) {
      close(listener);
      brood::bare::Echo(client);
      _exit(0);
    }
    close(client);
  }
}
