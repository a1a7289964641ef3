// SPDX-License-Identifier: Apache-2.0
//
// The least a process for each connection can cost: accept, fork, _exit, and a
// handler of SIGCHLD that waits until there is nobody left to wait for.
#include "brood/tools/bench/floors/bare.h"

int main() {
  brood::bare::HandleSigchld(brood::bare::ReapAll);
  brood::bare::ServeByFork();
}
