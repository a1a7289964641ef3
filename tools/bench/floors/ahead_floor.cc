// SPDX-License-Identifier: Apache-2.0
//
// The least a process for each connection can cost that is forked before its
// client comes: sixteen children blocked in accept(2), each of which says so
// when it has a client, and serves it with nothing but its connection open; and
// a parent that forks another for each that has one.
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include "brood/tools/bench/floors/bare.h"

namespace {

constexpr int kSpares = 16;

void ServeOne(int listener, const int taken[2]) {
  if (fork() != 0) return;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  close(taken[0]);
  int client;
  do {
    client = accept(listener, nullptr, nullptr);
  } while (client == -1);
  if (write(taken[1], "", 1) != 1) _exit(1);
  close(taken[1]);
  close(listener);
  brood::bare::Echo(client);
  _exit(0);
}

}  // namespace

int main() {
  brood::bare::HandleSigchld(brood::bare::ReapAll);
  const int listener = brood::bare::Listen();
  int taken[2];
  if (pipe(taken) == -1) return 1;
  for (int i = 0; i < kSpares; ++i) ServeOne(listener, taken);
  for (;;) {
    char some[kSpares];
    for (ssize_t n = read(taken[0], some, sizeof(some)); n > 0; --n) {
      ServeOne(listener, taken);
    }
  }
}
