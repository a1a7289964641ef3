// SPDX-License-Identifier: Apache-2.0
#include "brood/tests/in_child.h"

#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "absl/functional/function_ref.h"
#include "absl/log/check.h"
#include "brood/proc/posix.h"

namespace brood {

pid_t StartInChild(absl::FunctionRef<int()> body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  CHECK_NE(child, -1) << ErrnoStatus(errno, "fork");
  return child;
}

int WaitForChild(pid_t child) {
  int status = 0;
  CHECK_EQ(RetryOnEintr([&] { return waitpid(child, &status, 0); }), child)
      << ErrnoStatus(errno, "waitpid");
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int InChild(absl::FunctionRef<int()> body) {
  return WaitForChild(StartInChild(body));
}

}  // namespace brood
