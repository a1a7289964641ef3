// SPDX-License-Identifier: Apache-2.0
//
// What the bare floors have in common: a socket that listens, an echo, and the
// loop of a server that forks. Each floor is the shortest program that serves
// in its own way, to measure others by.
//
//   int main() {
//     const int listener = brood::bare::Listen();
//     for (;;) {
//       const int client = accept(listener, nullptr, nullptr);
//       if (client == -1) continue;
//       brood::bare::Echo(client);
//       close(client);
//     }
//   }
//
// What it is not: an example to follow. A floor has no limits, no log and no
// way to end but a signal; what it saves by that is what it is there to show.
//
// Readiness: once it listens it says so on its standard output, in one line, as
// //server does: "listening on 127.0.0.1:40123".
//
// Errors: _exit(1), for there is nothing else to do.
// Threads: one. Signals: HandleSigchld() sets the handler of the program.
// ReapAll() may be it, or be called by it. Fork: Echo() allocates nothing and locks
// nothing. Rests on: the C library alone, so that a floor is as small as a
// program in C: no exception, no object with a constructor, no C++ library.
#ifndef BROOD_TOOLS_BENCH_FLOORS_BARE_H_
#define BROOD_TOOLS_BENCH_FLOORS_BARE_H_

namespace brood::bare {

// A socket on a free port of 127.0.0.1 that listens, close-on-exec, with the
// backlog that everyone has who is measured.
int Listen();

// Sends back what comes, until the end of it.
void Echo(int client);

// Has `handler` called for every SIGCHLD; accept(2) is begun again after it.
void HandleSigchld(void (*handler)(int));

// A handler that waits until there is nobody left to wait for: many that end at
// once are one SIGCHLD.
void ReapAll(int signo);

// A process that echoes for each who comes.
[[noreturn]] void ServeByFork();

}  // namespace brood::bare

#endif  // BROOD_TOOLS_BENCH_FLOORS_BARE_H_
