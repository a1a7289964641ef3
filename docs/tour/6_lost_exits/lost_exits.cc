// SPDX-License-Identifier: Apache-2.0
// A hundred children end at once, and their SIGCHLDs become fewer: a pending
// signal is a mark, not a count. A handler that waits once leaves zombies.
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

namespace {

constexpr int kChildren = 100;

volatile sig_atomic_t runs;
volatile sig_atomic_t removed;

// The textbook's handler, which counts instead of printing.
void WaitOnce(int) {
  runs = runs + 1;
  if (waitpid(-1, nullptr, WNOHANG) > 0) removed = removed + 1;
}

// The usual cure: wait until nobody is left to wait for.
void WaitForAll(int) {
  const int saved_errno = errno;
  runs = runs + 1;
  while (waitpid(-1, nullptr, WNOHANG) > 0) removed = removed + 1;
  errno = saved_errno;
}

// Returns when the child has ended, whether it is a zombie or has been removed
// by the handler, which may interrupt us meanwhile. Collects nothing.
void AwaitEnd(pid_t child) {
  siginfo_t info;
  while (waitid(P_PID, child, &info, WEXITED | WNOWAIT) == -1 &&
         errno == EINTR) {
  }
}

void Storm(const char* name, void (*handler)(int), bool blocked) {
  runs = 0;
  removed = 0;
  struct sigaction act = {};
  act.sa_handler = handler;
  (void)sigaction(SIGCHLD, &act, nullptr);
  sigset_t sigchld;
  sigemptyset(&sigchld);
  sigaddset(&sigchld, SIGCHLD);
  if (blocked) (void)sigprocmask(SIG_BLOCK, &sigchld, nullptr);

  // All children wait for the end of one pipe, so that all end at once.
  int go[2];
  if (pipe(go) == -1) perror("pipe");
  std::array<pid_t, kChildren> children;
  for (pid_t& child : children) {
    child = fork();
    if (child == 0) {
      (void)close(go[1]);
      char nothing;
      (void)!read(go[0], &nothing, 1);
      _exit(0);
    }
  }
  (void)close(go[1]);
  (void)close(go[0]);
  for (pid_t child : children) AwaitEnd(child);
  if (blocked) (void)sigprocmask(SIG_UNBLOCK, &sigchld, nullptr);

  // Every child has ended, and every signal has come.
  int zombies = 0;
  while (waitpid(-1, nullptr, WNOHANG) > 0) ++zombies;  // And clears up.
  printf("%s\n", name);
  printf("  ended: %d, handler runs: %d, removed: %d, zombies left: %d\n",
         kChildren, static_cast<int>(runs), static_cast<int>(removed), zombies);
}

// What -1 does to other code of the program, which has a child of its own and
// waits for that one alone.
// The handler that loops still stands, and it does not ask whose a child is.
void StealFromOthers() {
  const pid_t child = fork();
  if (child == 0) _exit(42);
  AwaitEnd(child);
  const pid_t waited = waitpid(child, nullptr, 0);
  printf("other code waits for its own child, and waitpid() returns %d: %s\n",
         waited, waited == -1 ? strerrorname_np(errno) : "it has ended");
}

}  // namespace

int main() {
  (void)setvbuf(stdout, nullptr, _IOLBF, 0);
  Storm("wait once, SIGCHLD blocked until all have ended", WaitOnce, true);
  Storm("wait once, SIGCHLD never blocked", WaitOnce, false);
  Storm("wait for all, SIGCHLD blocked until all have ended", WaitForAll, true);
  StealFromOthers();
  return 0;
}
