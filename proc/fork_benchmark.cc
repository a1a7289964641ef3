// SPDX-License-Identifier: Apache-2.0
// What a fork costs, from the call to the reaped end, with few and with many
// descriptors in the parent; beside it what glibc's fork(2) costs in the same
// run.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "benchmark/benchmark.h"
#include "brood/proc/child.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

std::vector<UniqueFd> OpenDescriptors(benchmark::State& state) {
  const rlimit plenty = {.rlim_cur = 20000, .rlim_max = 20000};
  (void)setrlimit(RLIMIT_NOFILE, &plenty);
  std::vector<UniqueFd> open_fds;
  for (int i = 0; i < state.range(0); ++i) {
    open_fds.emplace_back(open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!open_fds.back().valid()) state.SkipWithError("no descriptor is left");
  }
  // Nobody's table is without gaps.
  for (size_t i = 0; i < open_fds.size(); i += 100) (void)open_fds[i].Close();
  return open_fds;
}

void BM_GlibcFork(benchmark::State& state) {
  const std::vector<UniqueFd> open_fds = OpenDescriptors(state);
  for (auto _ : state) {
    const pid_t pid = fork();
    if (pid == 0) _exit(0);
    (void)RetryOnEintr([&] { return waitpid(pid, nullptr, 0); });
  }
}

void Run(benchmark::State& state, const ForkOptions& options) {
  const std::vector<UniqueFd> open_fds = OpenDescriptors(state);
  for (auto _ : state) {
    absl::StatusOr<Child> child = Fork(options, [] { return 0; });
    if (!child.ok() || !child->Wait().ok()) state.SkipWithError("fork");
  }
}

void BM_Fork(benchmark::State& state) { Run(state, {}); }

// As a server forks: the child keeps its connection, and ends in the queue.
void BM_ForkKeepingOneDescriptor(benchmark::State& state) {
  const UniqueFd kept(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int fd = kept.get();
  Run(state, {.keep_fds = absl::MakeConstSpan(&fd, 1)});
}

void BM_ForkWithExitSignal(benchmark::State& state) {
  sigset_t exit_signal;
  sigset_t before;
  sigemptyset(&exit_signal);
  sigaddset(&exit_signal, SIGRTMIN);
  (void)sigprocmask(SIG_BLOCK, &exit_signal, &before);
  const UniqueFd kept(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int fd = kept.get();
  Run(state,
      {.exit_signal = SIGRTMIN, .keep_fds = absl::MakeConstSpan(&fd, 1)});
  const timespec now = {};
  while (sigtimedwait(&exit_signal, nullptr, &now) > 0) {
  }
  (void)sigprocmask(SIG_SETMASK, &before, nullptr);
}

BENCHMARK(BM_GlibcFork)->Arg(0)->Arg(19000)->UseRealTime();
BENCHMARK(BM_Fork)->Arg(0)->Arg(19000)->UseRealTime();
BENCHMARK(BM_ForkKeepingOneDescriptor)->Arg(0)->Arg(19000)->UseRealTime();
BENCHMARK(BM_ForkWithExitSignal)->Arg(0)->Arg(19000)->UseRealTime();

}  // namespace
}  // namespace brood
