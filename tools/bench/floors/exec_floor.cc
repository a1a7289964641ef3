// SPDX-License-Identifier: Apache-2.0
//
// The least a program for each connection can cost: accept, vfork, execve of
// cat, and a handler of SIGCHLD that waits until there is nobody left to wait
// for.
#include <signal.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "brood/tools/bench/floors/bare.h"

namespace {

char program[] = "/bin/cat";

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
  char* const argv[] = {program, nullptr};
  for (;;) {
    const int client = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (client == -1) continue;
    // What fits between vfork and execve, and the least that can be done there.
    // NOLINTBEGIN(clang-analyzer-unix.Vfork,clang-analyzer-security.insecureAPI.vfork)
    if (vfork() == 0) {
      dup2(client, STDIN_FILENO);
      dup2(client, STDOUT_FILENO);
      execve(program, argv, environ);
      _exit(1);
    }
    // NOLINTEND(clang-analyzer-unix.Vfork,clang-analyzer-security.insecureAPI.vfork)
    close(client);
  }
}
