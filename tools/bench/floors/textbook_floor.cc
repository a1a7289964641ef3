// SPDX-License-Identifier: Apache-2.0
//
// The server of the textbooks: as fork_floor, but for one thing. Its handler of
// SIGCHLD waits once, for one child, and children that end while a SIGCHLD is
// pending are never waited for. They stay behind as zombies.
#include <signal.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "brood/tools/bench/floors/bare.h"

namespace {

// The books print here too, which a handler must not; the one wait is enough to
// show.
void ReapOne(int /*signo*/) { waitpid(-1, nullptr, WNOHANG); }

}  // namespace

int main() {
  struct sigaction action = {};
  action.sa_handler = ReapOne;
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
