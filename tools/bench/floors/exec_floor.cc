// SPDX-License-Identifier: Apache-2.0
//
// The least a program for each connection can cost: accept, vfork, execve of
// cat, and a handler of SIGCHLD that waits until there is nobody left to wait
// for.
#include <sys/socket.h>
#include <unistd.h>

#include "brood/tools/bench/floors/bare.h"

namespace {

char program[] = "/bin/cat";

}  // namespace

int main() {
  brood::bare::HandleSigchld(brood::bare::ReapAll);
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
