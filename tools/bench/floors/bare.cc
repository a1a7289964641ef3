// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/floors/bare.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

namespace brood::bare {
namespace {

constexpr int kBacklog = 4096;

}  // namespace

int Listen() {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  void* const any = &address;
  sockaddr* const name = static_cast<sockaddr*>(any);
  if (listener == -1 || bind(listener, name, size) == -1 ||
      listen(listener, kBacklog) == -1 ||
      getsockname(listener, name, &size) == -1 ||
      dprintf(STDOUT_FILENO, "listening on 127.0.0.1:%d\n",
              ntohs(address.sin_port)) < 0) {
    _exit(1);
  }
  return listener;
}

void Echo(int client) {
  // Not zeroed: of pages that are not written to none is paid for.
  char buffer[65536];
  for (;;) {
    const ssize_t got = read(client, buffer, sizeof(buffer));
    if (got <= 0) return;
    for (ssize_t sent = 0; sent < got;) {
      const ssize_t n =
          write(client, buffer + sent, static_cast<size_t>(got - sent));
      if (n <= 0) return;
      sent += n;
    }
  }
}

void HandleSigchld(void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigaction(SIGCHLD, &action, nullptr);
}

void ReapAll(int /*signo*/) {
  while (waitpid(-1, nullptr, WNOHANG) > 0) continue;
}

void ServeByFork() {
  const int listener = Listen();
  for (;;) {
    const int client = accept(listener, nullptr, nullptr);
    if (client == -1) continue;
    if (fork() == 0) {
      close(listener);
      Echo(client);
      _exit(0);
    }
    close(client);
  }
}

}  // namespace brood::bare
