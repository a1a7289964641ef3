// SPDX-License-Identifier: Apache-2.0
// wait() blocks until a child has ended, and then tells how it ended.
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <string_view>

namespace {

// The child speaks three times before it ends. The parent is in wait(), so it
// cannot listen: it reads everything afterwards.
void ShowThatWaitBlocks() {
  int pipe_ends[2];
  if (pipe(pipe_ends) == -1) perror("pipe");
  const pid_t child = fork();
  if (child == 0) {
    for (std::string_view word : {"one ", "two ", "three"}) {
      (void)!write(pipe_ends[1], word.data(), word.size());
    }
    _exit(0);
  }
  printf("pid %d starts to speak; its parent calls wait()\n", child);
  printf("wait() returned pid %d\n", wait(nullptr));
  char words[64];
  const ssize_t length = read(pipe_ends[0], words, sizeof(words));
  printf("only now can the parent read what it said: %.*s\n",
         static_cast<int>(length), words);
  (void)close(pipe_ends[0]);
  (void)close(pipe_ends[1]);
}

// Starts a child that ends by calling `end`, and prints what wait() tells.
void ShowStatusOf(const char* how, void (*end)()) {
  const pid_t child = fork();
  if (child == 0) {
    end();
    _exit(1);  // Not reached.
  }
  int status = 0;
  (void)wait(&status);
  printf("%-15s status 0x%04x: ", how, static_cast<unsigned>(status));
  if (WIFEXITED(status)) {
    printf("exited, and sent %d\n", WEXITSTATUS(status));
  } else if (WIFSIGNALED(status)) {
    printf("killed by signal %d, SIG%s\n", WTERMSIG(status),
           sigabbrev_np(WTERMSIG(status)));
  }
}

}  // namespace

int main() {
  // Each line leaves at once, so that no child has a copy of it.
  (void)setvbuf(stdout, nullptr, _IOLBF, 0);

  ShowThatWaitBlocks();

  printf("\n");
  ShowStatusOf("_exit(0)", [] { _exit(0); });
  ShowStatusOf("_exit(7)", [] { _exit(7); });
  ShowStatusOf("_exit(300)", [] { _exit(300); });  // Only the low eight bits.
  ShowStatusOf("raise(SIGTERM)", [] { (void)raise(SIGTERM); });
  ShowStatusOf("raise(SIGKILL)", [] { (void)raise(SIGKILL); });

  printf("\n");
  const pid_t none = wait(nullptr);
  printf("without children, wait() returned %d: %s\n", none,
         strerrorname_np(errno));
  return 0;
}
