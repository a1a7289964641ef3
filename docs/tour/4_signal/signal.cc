// SPDX-License-Identifier: Apache-2.0
// signal() means two things, System V's and BSD's; sigaction() means what its
// flags say.
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>

namespace {

constexpr int kChildren = 3;

int tally[2];  // A pipe: the handler writes a byte each time it runs.

void Handler(int) { (void)!write(tally[1], "x", 1); }

// How often the handler has run, here or in a child, since this was last asked.
int CountRuns() {
  (void)!write(tally[1], ".", 1);  // Whatever there is, there is one byte more.
  char bytes[64];
  return static_cast<int>(read(tally[0], bytes, sizeof(bytes))) - 1;
}

// Waits for `child`. SIGCHLD interrupts that, unless SA_RESTART is set.
int StatusOf(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) == -1 && errno == EINTR) {
  }
  return status;
}

using Register = sighandler_t (*)(int signo, sighandler_t handler);

sighandler_t RegisterWithSigaction(int signo, sighandler_t handler) {
  struct sigaction act = {};
  act.sa_handler = handler;
  act.sa_flags = SA_RESTART | SA_NOCLDSTOP;
  (void)sigaction(signo, &act, nullptr);
  return SIG_DFL;
}

void Show(const char* name, Register register_handler) {
  printf("%s\n", name);

  register_handler(SIGCHLD, Handler);
  struct sigaction made = {};
  (void)sigaction(SIGCHLD, nullptr, &made);
  const auto flag = [&made](int bit, const char* spelled) {
    return (static_cast<unsigned>(made.sa_flags) & static_cast<unsigned>(bit))
               ? spelled
               : "";
  };
  printf("  flags:%s%s%s%s\n", flag(SA_RESETHAND, " SA_RESETHAND"),
         flag(SA_NODEFER, " SA_NODEFER"), flag(SA_RESTART, " SA_RESTART"),
         flag(SA_NOCLDSTOP, " SA_NOCLDSTOP"));

  for (int i = 0; i < kChildren; ++i) {  // One after another.
    const pid_t child = fork();
    if (child == 0) _exit(0);
    (void)StatusOf(child);
  }
  printf("  children that ended: %d, handler runs: %d\n", kChildren,
         CountRuns());
  (void)signal(SIGCHLD, SIG_DFL);

  const pid_t child = fork();
  if (child == 0) {
    register_handler(SIGUSR1, Handler);
    (void)raise(SIGUSR1);
    (void)raise(SIGUSR1);
    _exit(0);
  }
  const int status = StatusOf(child);
  printf("  SIGUSR1s sent: 2, handler runs: %d, and the process %s\n",
         CountRuns(), WIFSIGNALED(status) ? "was killed" : "lived on");
}

}  // namespace

int main() {
  (void)setvbuf(stdout, nullptr, _IOLBF, 0);
  if (pipe(tally) == -1) {
    perror("pipe");
    return 1;
  }
  Show("signal() as System V has it", sysv_signal);
  Show("signal() as BSD has it, and glibc unless told otherwise", signal);
  Show("sigaction()", RegisterWithSigaction);
  return 0;
}
