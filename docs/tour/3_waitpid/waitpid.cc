// SPDX-License-Identifier: Apache-2.0
// waitpid() with WNOHANG does not block: it tells whether the child has ended,
// and the parent goes on with its work.
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <initializer_list>

namespace {

// Asks once, and prints each of the three answers there are.
void AskFor(pid_t child) {
  int status = 0;
  const pid_t answer = waitpid(child, &status, WNOHANG);
  if (answer == 0) {
    printf("waitpid() returned 0: the child lives\n");
  } else if (answer == -1) {
    printf("waitpid() returned -1: %s\n", strerrorname_np(errno));
  } else {
    printf("waitpid() returned pid %d, which had sent %d\n", answer,
           WEXITSTATUS(status));
  }
}

void Work(int n) {
  int sum = 0;
  for (int i = 1; i <= n; ++i) sum += i;
  printf("the parent works: the sum of 1 to %d is %d\n", n, sum);
}

}  // namespace

int main() {
  (void)setvbuf(stdout, nullptr, _IOLBF, 0);

  // The child ends when it is told to: when the last writing end of this pipe
  // is closed, its read() returns. So it gives up its own writing end first.
  int go[2];
  if (pipe(go) == -1) {
    perror("pipe");
    return 1;
  }
  const pid_t child = fork();
  if (child == -1) {
    perror("fork");
    return 1;
  }
  if (child == 0) {
    (void)close(go[1]);
    char nothing;
    (void)!read(go[0], &nothing, 1);
    _exit(7);
  }

  printf("the child is pid %d\n", child);
  for (int n : {10, 100, 1000}) {
    Work(n);
    AskFor(child);
  }

  printf("the child is told to end\n");
  (void)close(go[1]);

  // A pidfd is a descriptor that becomes readable when the process has ended.
  // poll() could wait for clients and for their children alike.
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, child, 0));
  pollfd ended = {.fd = pidfd, .events = POLLIN, .revents = 0};
  (void)poll(&ended, 1, -1);
  AskFor(child);
  AskFor(child);

  (void)close(pidfd);
  (void)close(go[0]);
  return 0;
}
