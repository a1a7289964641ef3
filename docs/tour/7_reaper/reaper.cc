// SPDX-License-Identifier: Apache-2.0
// The same storm with brood's Reaper: no handler, no signal, no zombie, and
// each end told once, with whose it was and how.
#include "brood/proc/reaper.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <iostream>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/log/check.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"

namespace brood {
namespace {

constexpr int kChildren = 100;
constexpr int kCrashing = 13;

// Child number i sends i, but one crashes.
ExitStatus ExpectedOf(int i) {
  return i == kCrashing ? ExitStatus::Killed(SIGKILL) : ExitStatus::Exited(i);
}

// Returns when `child` has ended. WNOWAIT: it only looks.
void AwaitEnd(pid_t child) {
  siginfo_t info;
  (void)waitid(P_PID, child, &info, WEXITED | WNOWAIT | __WALL);
}

long CountZombies(const std::vector<pid_t>& pids) {
  return std::count_if(pids.begin(), pids.end(), [](pid_t pid) {
    siginfo_t info = {};
    (void)waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT | __WALL);
    return info.si_pid == pid;  // Nothing is stored if it has been reaped.
  });
}

void Storm() {
  Reaper reaper = Reaper::Create().value();
  int go[2];
  CHECK_OK(pipe(go) == 0 ? absl::OkStatus() : ErrnoStatus(errno, "pipe"));

  std::vector<pid_t> pids;
  for (int i = 0; i < kChildren; ++i) {
    const auto body = [&] {
      (void)close(go[1]);
      char nothing;
      (void)!read(go[0], &nothing, 1);
      if (i == kCrashing) (void)raise(SIGKILL);
      return i;
    };
    Child child = Fork({}, body).value();
    pids.push_back(child.pid());
    CHECK_OK(reaper.Add(std::move(child), /*tag=*/i));
  }
  // Other code of this program has a child too, which is none of the Reaper's.
  const pid_t stranger = fork();
  if (stranger == 0) _exit(42);

  (void)close(go[1]);
  (void)close(go[0]);
  // The worst case again: nobody looks before all have ended.
  for (pid_t pid : pids) AwaitEnd(pid);
  std::cout << kChildren
            << " children have ended; zombies: " << CountZombies(pids) << "\n";

  std::set<int> told;
  int ends = 0;
  int exact = 0;
  while (reaper.size() > 0) {
    CHECK_OK(PollUntil(reaper.fd(), POLLIN, absl::InfiniteFuture()));
    while (std::optional<Reaper::Exit> exit = reaper.Next().value()) {
      const int i = static_cast<int>(exit->tag);
      ++ends;
      told.insert(i);
      if (exit->status == ExpectedOf(i)) ++exact;
      if (i == kCrashing) {
        std::cout << "child number " << i << ": " << exit->status << "\n";
      }
    }
  }
  std::cout << "ends reported: " << ends << ", of " << told.size()
            << " children; statuses as they were sent: " << exact << "\n"
            << "zombies left: " << CountZombies(pids) << "\n";

  int status = 0;
  const pid_t waited = waitpid(stranger, &status, 0);
  std::cout << "other code waits for its own child, and waitpid() returns pid "
            << waited << ", which had sent " << WEXITSTATUS(status) << "\n";
}

}  // namespace
}  // namespace brood

int main() {
  brood::Storm();
  return 0;
}
