// SPDX-License-Identifier: Apache-2.0
// What it costs to learn of one exit and to reap it while N other children
// live: one drain, which finds the one and then finds nothing more. Beside the
// Reaper in its two ways stands the usual loop over waitpid(-1).
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <optional>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "benchmark/benchmark.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_queue.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/proc/reaper.h"

namespace brood {
namespace {

void AllowDescriptors() {
  rlimit limit = {};
  (void)getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &limit);
}

// Returns when `pid` is dead, without reaping it.
void AwaitEnd(pid_t pid) {
  siginfo_t info = {};
  (void)RetryOnEintr(
      [&] { return waitid(P_PID, pid, &info, WEXITED | WNOWAIT | __WALL); });
}

// Lives until it is killed, and not without its parent.
int Idle() {
  (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
  return pause();
}

// Makes one child that waits for the starter's byte and then ends.
class Starter {
 public:
  Starter() { (void)!pipe2(ends_.data(), O_CLOEXEC); }
  ~Starter() {
    for (const int end : ends_) (void)close(end);
  }
  int Body() const {
    char byte;
    return RetryOnEintr([&] { return read(ends_[0], &byte, 1); }) == 1 ? 0 : 1;
  }
  int fd() const { return ends_[0]; }
  void Go() const { (void)!write(ends_[1], "x", 1); }

 private:
  std::array<int, 2> ends_ = {-1, -1};
};

void Measure(benchmark::State& state, const Starter& starter,
             absl::FunctionRef<pid_t()> start_one,
             absl::FunctionRef<void()> drain) {
  for (auto _ : state) {
    const pid_t pid = start_one();
    starter.Go();
    AwaitEnd(pid);
    const absl::Duration before = MonotonicNow();
    drain();
    state.SetIterationTime(absl::ToDoubleSeconds(MonotonicNow() - before));
  }
}

void BM_WaitpidAny(benchmark::State& state) {
  std::vector<pid_t> crowd;
  for (int i = 0; i < state.range(0); ++i) {
    crowd.push_back(fork());
    if (crowd.back() == 0) _exit(Idle());
  }
  const Starter starter;
  Measure(
      state, starter,
      [&] {
        const pid_t pid = fork();
        if (pid == 0) _exit(starter.Body());
        return pid;
      },
      [] {
        while (waitpid(-1, nullptr, WNOHANG) > 0) {
        }
      });
  for (const pid_t pid : crowd) (void)kill(pid, SIGKILL);
  for (const pid_t pid : crowd) (void)waitpid(pid, nullptr, 0);
}

void MeasureReaper(benchmark::State& state, Reaper reaper) {
  AllowDescriptors();
  const Starter starter;
  // If they kept each other's pidfds, their exits would be what is measured.
  const int kept = starter.fd();
  const auto start = [&](absl::FunctionRef<int()> body) -> pid_t {
    absl::StatusOr<Child> child =
        Fork({.exit_signal = reaper.exit_signal(),
              .keep_fds = absl::MakeConstSpan(&kept, 1)},
             body);
    if (!child.ok()) return -1;
    const pid_t pid = child->pid();
    return reaper.Add(*std::move(child), 0).ok() ? pid : -1;
  };
  for (int i = 0; i < state.range(0); ++i) {
    const pid_t pid = start(Idle);
    if (pid == -1) {
      state.SkipWithError("no more processes, or descriptors");
      return;
    }
  }
  Measure(
      state, starter, [&] { return start([&] { return starter.Body(); }); },
      [&] {
        while (reaper.Next().value_or(std::nullopt).has_value()) {
        }
      });
}

void BM_ReaperWithPidfds(benchmark::State& state) {
  MeasureReaper(state, *Reaper::Create());
}

void BM_ReaperWithExitQueue(benchmark::State& state) {
  MeasureReaper(state, *Reaper::Create(*ExitQueue::Create()));
}

// A fixed count, for each repetition has to make its crowd anew.
void Crowds(benchmark::internal::Benchmark* benchmark) {
  benchmark->Arg(10)->Arg(1000)->Iterations(2000)->UseManualTime();
}

BENCHMARK(BM_WaitpidAny)->Apply(Crowds)->Arg(20000);
// A descriptor each, and no more than 20,000 in many places.
BENCHMARK(BM_ReaperWithPidfds)->Apply(Crowds)->Arg(19000);
BENCHMARK(BM_ReaperWithExitQueue)->Apply(Crowds)->Arg(20000);

}  // namespace
}  // namespace brood
