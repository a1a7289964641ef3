// SPDX-License-Identifier: Apache-2.0
//
// What a connection costs if no process is made for it: one client after the
// other. What others cost beyond this is what their processes cost.
#include <sys/socket.h>
#include <unistd.h>

#include "brood/tools/bench/floors/bare.h"

int main() {
  const int listener = brood::bare::Listen();
  for (;;) {
    const int client = accept(listener, nullptr, nullptr);
    if (client == -1) continue;
    brood::bare::Echo(client);
    close(client);
  }
}
