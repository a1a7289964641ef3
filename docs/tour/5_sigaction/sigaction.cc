// SPDX-License-Identifier: Apache-2.0
// The textbook's handler, registered with sigaction(): it is called when a
// child has ended. The page beside this file says what is wrong with it.
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

namespace {

// What is wrong, and shown here:
//  - It reads `status` even if waitpid() returned 0 or -1 and stored nothing.
//    (The textbook's is not initialised, and prints what lay in memory.)
//  - A child that was killed is removed without a word: WIFEXITED is false.
//  - waitpid() changes errno under the code that was interrupted.
// What is wrong, and not seen here:
//  - It waits once, although one SIGCHLD may stand for many children.
//  - -1 takes any child, also those that other code waits for.
//  - printf() is not async-signal-safe: if it was printf() that was
//    interrupted, its lock is taken and its buffer half written.
void read_childproc(int) {
  int status = 0;
  pid_t id = waitpid(-1, &status, WNOHANG);
  if (WIFEXITED(status)) {
    printf("Removed proc id: %d \n", id);
    printf("Child send: %d \n", WEXITSTATUS(status));
  }
}

sigset_t none;

// SIGCHLD is blocked everywhere but here, so that the handler runs here and
// nowhere else: never inside a printf(), and never before we wait for it.
void AwaitSignal() { (void)sigsuspend(&none); }

pid_t StartChild(void (*body)()) {
  const pid_t child = fork();
  if (child == 0) {
    body();
    _exit(0);
  }
  return child;
}

}  // namespace

int main() {
  (void)setvbuf(stdout, nullptr, _IOLBF, 0);
  sigemptyset(&none);
  sigset_t sigchld = none;
  sigaddset(&sigchld, SIGCHLD);
  (void)sigprocmask(SIG_BLOCK, &sigchld, nullptr);

  struct sigaction act = {};
  act.sa_handler = read_childproc;
  sigemptyset(&act.sa_mask);
  act.sa_flags = 0;
  (void)sigaction(SIGCHLD, &act, nullptr);

  printf("pid %d ends by _exit(12)\n", StartChild([] { _exit(12); }));
  AwaitSignal();
  printf("pid %d ends by _exit(24)\n", StartChild([] { _exit(24); }));
  AwaitSignal();

  const pid_t child = StartChild([] { (void)raise(SIGSTOP); });
  printf("pid %d stops, but lives: SIGCHLD tells that too\n", child);
  AwaitSignal();
  printf("pid %d is killed: removed, and not a word of it\n", child);
  (void)kill(child, SIGKILL);
  AwaitSignal();

  printf("SIGCHLD comes when no child is left\n");
  (void)sigprocmask(SIG_UNBLOCK, &sigchld, nullptr);
  errno = 0;
  (void)raise(SIGCHLD);  // Returns after the handler has run.
  const int after = errno;
  printf("errno was 0 before the handler and is %s after it\n",
         strerrorname_np(after));
  return 0;
}
