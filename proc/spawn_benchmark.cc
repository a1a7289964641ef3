// SPDX-License-Identifier: Apache-2.0
// What it costs to run a program and to wait for it, beside the ways that the C
// library has, by how much memory and how many descriptors the parent has:
//
//   bazel run //proc:spawn_benchmark -- --benchmark_repetitions=5
//     --benchmark_report_aggregates_only=true
//     --benchmark_enable_random_interleaving=true
//
// Only the medians' ratios mean anything. The program is static and ends at
// once, and the wait is the same for all. On a machine that has other work the
// time tells of that work; `cpu` is what parent and child used together.
#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/log/check.h"
#include "absl/status/statusor.h"
#include "benchmark/benchmark.h"
#include "brood/proc/child.h"
#include "brood/proc/limits.h"
#include "brood/proc/spawn.h"
#include "brood/proc/spawn_slots.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

constexpr int64_t kMebibyte = int64_t{1} << 20;

std::string Program() {
  const char* path = getenv("TRUE");
  return path == nullptr ? "/bin/true" : path;
}

// Before anything else has been opened, as in a program that needs it.
const SpawnSlots& Slots() {
  static const SpawnSlots* const slots = [] {
    absl::StatusOr<SpawnSlots> reserved = SpawnSlots::Reserve();
    CHECK_OK(reserved);
    return new SpawnSlots(*std::move(reserved));
  }();
  return *slots;
}

// A parent with this much memory and that many descriptors.
class Parent {
 public:
  Parent(int64_t bytes, int64_t descriptors)
      : bytes_(static_cast<size_t>(bytes)) {
    (void)Slots();
    memory_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory_ != MAP_FAILED);
    // Huge pages would hide what fork has to copy.
    (void)madvise(memory_, bytes_, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < bytes_; i += 4096) {
      static_cast<volatile char*>(memory_)[i] = 1;
    }
    for (int64_t i = 0; i < descriptors; ++i) {
      descriptors_.emplace_back(open("/dev/null", O_RDWR | O_CLOEXEC));
      CHECK(descriptors_.back().valid()) << "RLIMIT_NOFILE is too low";
    }
    last_ = UniqueFd(open("/dev/null", O_RDWR | O_CLOEXEC));
  }
  ~Parent() { munmap(memory_, bytes_); }
  Parent(const Parent&) = delete;
  Parent& operator=(const Parent&) = delete;

  // The one that was opened last.
  int last() const { return last_.get(); }

 private:
  size_t bytes_;
  void* memory_;
  std::vector<UniqueFd> descriptors_;
  UniqueFd last_;
};

void WaitFor(pid_t pid) {
  int status = -1;
  CHECK_EQ(waitpid(pid, &status, 0), pid);
  CHECK_EQ(status, 0);
}

double CpuSeconds() {
  double seconds = 0;
  for (const auto who : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
    struct rusage usage = {};
    getrusage(who, &usage);
    for (const timeval& time : {usage.ru_utime, usage.ru_stime}) {
      seconds += static_cast<double>(time.tv_sec) +
                 static_cast<double>(time.tv_usec) * 1e-6;
    }
  }
  return seconds;
}

// How much of the processor an iteration took, parent and child together.
class CpuCounter {
 public:
  explicit CpuCounter(benchmark::State& state) : state_(state) {}
  ~CpuCounter() {
    state_.counters["cpu"] = benchmark::Counter(
        CpuSeconds() - before_, benchmark::Counter::kAvgIterations);
  }
  CpuCounter(const CpuCounter&) = delete;
  CpuCounter& operator=(const CpuCounter&) = delete;

 private:
  benchmark::State& state_;
  double before_ = CpuSeconds();
};

char** Argv() {
  static std::string program = Program();
  static char* argv[] = {program.data(), nullptr};
  return argv;
}

pid_t BySpawn() {
  absl::StatusOr<Child> child = Spawn({Argv()[0]});
  CHECK_OK(child);
  return std::move(*child).Release();
}

pid_t ByPosixSpawn() {
  pid_t pid = -1;
  CHECK_EQ(posix_spawn(&pid, Argv()[0], nullptr, nullptr, Argv(), environ), 0);
  return pid;
}

pid_t ByFork() {
  const pid_t pid = fork();
  if (pid == 0) {
    execve(Argv()[0], Argv(), environ);
    _exit(127);
  }
  return pid;
}

pid_t ByVfork() {
  char** const argv = Argv();
  const pid_t pid = vfork();
  if (pid == 0) {
    execve(argv[0], argv, environ);
    _exit(127);
  }
  return pid;
}

template <pid_t (*start)()>
void Run(benchmark::State& state) {
  const Parent parent(kMebibyte * state.range(0), state.range(1));
  const CpuCounter counter(state);
  for (auto _ : state) WaitFor(start());
}

void Arguments(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"MiB", "fds"})
      ->Args({1, 0})
      ->Args({1024, 0})
      ->Args({1, 19000})
      ->UseRealTime();
}

BENCHMARK(Run<BySpawn>)->Name("Spawn")->Apply(Arguments);
BENCHMARK(Run<ByPosixSpawn>)->Name("posix_spawn")->Apply(Arguments);
BENCHMARK(Run<ByVfork>)->Name("vfork_execve")->Apply(Arguments);
BENCHMARK(Run<ByFork>)->Name("fork_execve")->Apply(Arguments);

// The descriptor that the child is given is the one that was opened last.
void WithDescriptor(benchmark::State& state, const SpawnSlots* slots) {
  const Parent parent(kMebibyte, state.range(0));
  const CpuCounter counter(state);
  for (auto _ : state) {
    absl::StatusOr<Child> child =
        Spawn({Argv()[0]},
              {.fds = {{.child = 1, .parent = parent.last()}}, .slots = slots});
    CHECK_OK(child);
    WaitFor(std::move(*child).Release());
  }
}

void SpawnGivingLast(benchmark::State& state) {
  WithDescriptor(state, nullptr);
}
void SpawnGivingLastBySlot(benchmark::State& state) {
  WithDescriptor(state, &Slots());
}

BENCHMARK(SpawnGivingLast)->ArgName("fds")->Arg(0)->Arg(19000)->UseRealTime();
BENCHMARK(SpawnGivingLastBySlot)
    ->ArgName("fds")
    ->Arg(0)
    ->Arg(19000)
    ->UseRealTime();

}  // namespace
}  // namespace brood
