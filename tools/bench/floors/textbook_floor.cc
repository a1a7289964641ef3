// SPDX-License-Identifier: Apache-2.0
//
// The server of the textbooks: as fork_floor, but for one thing. Its handler of
// SIGCHLD waits once, for one child, and children that end while a SIGCHLD is
// pending are never waited for. They stay behind as zombies.
#include <sys/types.h>
#include <sys/wait.h>

#include "brood/tools/bench/floors/bare.h"

namespace {

// The books print here too, which a handler must not; the one wait is enough to
// show.
void ReapOne(int /*signo*/) { waitpid(-1, nullptr, WNOHANG); }

}  // namespace

int main() {
  brood::bare::HandleSigchld(ReapOne);
  brood::bare::ServeByFork();
}
