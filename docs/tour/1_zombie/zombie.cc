// SPDX-License-Identifier: Apache-2.0
// A zombie, seen in the process table: what the kernel keeps of a child that
// has ended, until its parent waits for it.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <initializer_list>
#include <string_view>

namespace {

// Prints what the kernel tells of `pid`; ps(1) has it from here too.
void PrintProcess(pid_t pid) {
  char path[64];
  (void)snprintf(path, sizeof(path), "/proc/%d/status", pid);
  FILE* file = fopen(path, "r");
  if (file == nullptr) {
    printf("  there is no pid %d\n", pid);
    return;
  }
  char line[256];
  while (fgets(line, sizeof(line), file) != nullptr) {
    char name[16];
    char value[64];
    if (sscanf(line, "%15[^:]: %63[^\n]", name, value) != 2) continue;
    for (std::string_view wanted : {"Name", "State", "Pid", "PPid", "VmRSS"}) {
      if (name == wanted) printf("  %-6s %s\n", name, value);
    }
  }
  (void)fclose(file);
}

}  // namespace

int main(int argc, char**) {
  // Each line leaves at once. What waited in a buffer would be copied by fork()
  // and printed by both processes.
  (void)setvbuf(stdout, nullptr, _IOLBF, 0);

  printf("the parent is pid %d\n", getpid());
  const pid_t child = fork();
  if (child == -1) {
    perror("fork");
    return 1;
  }
  if (child == 0) {
    printf("the child, while it runs:\n");
    PrintProcess(getpid());
    _exit(7);
  }

  // Returns when the child has ended. WNOWAIT only looks: nothing is collected.
  siginfo_t info = {};
  (void)waitid(P_PID, child, &info, WEXITED | WNOWAIT);
  printf("the child has ended, and nobody has waited for it:\n");
  PrintProcess(child);

  (void)kill(child, SIGKILL);
  printf("after SIGKILL, which cannot kill what is dead:\n");
  PrintProcess(child);

  if (argc > 1) {
    printf("look at it from another terminal, then press Enter\n");
    (void)getchar();
  }

  int status = 0;
  (void)waitpid(child, &status, 0);
  printf("after waitpid(), which collected the %d that it had sent:\n",
         WEXITSTATUS(status));
  PrintProcess(child);
  return 0;
}
