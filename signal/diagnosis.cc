// SPDX-License-Identifier: Apache-2.0
#include "brood/signal/diagnosis.h"

#include <dirent.h>
#include <sys/types.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "brood/proc/posix.h"
#include "brood/signal/action.h"
#include "brood/signal/signal_set.h"

namespace brood {
namespace {

constexpr char kTasks[] = "/proc/self/task";

struct ThreadMask {
  pid_t tid = 0;
  SignalSet blocked = {};
};

SignalSet FromBits(uint64_t bits) {
  // The C library's set is the kernel's, and room for more.
  sigset_t native;
  sigemptyset(&native);
  std::memcpy(&native, &bits, sizeof(bits));
  return SignalSet::FromNative(native);
}

// nullopt if the thread is gone, or dead: a main thread that has left by
// pthread_exit stays as a zombie that blocks nothing and takes nothing.
std::optional<SignalSet> MaskOf(std::string_view tid) {
  std::ifstream status(absl::StrCat(kTasks, "/", tid, "/status"));
  std::string line;
  while (std::getline(status, line)) {
    std::string_view value = line;
    if (absl::ConsumePrefix(&value, "State:\t")) {
      if (value.front() == 'Z' || value.front() == 'X') return std::nullopt;
    } else if (absl::ConsumePrefix(&value, "SigBlk:\t")) {
      uint64_t bits = 0;
      if (!absl::SimpleHexAtoi(value, &bits)) return std::nullopt;
      return FromBits(bits);
    }
  }
  return std::nullopt;
}

absl::StatusOr<std::vector<ThreadMask>> MasksOfThreads() {
  const std::unique_ptr<DIR, int (*)(DIR*)> tasks(opendir(kTasks), closedir);
  if (tasks == nullptr) return ErrnoStatus(errno, kTasks);
  std::vector<ThreadMask> threads;
  while (const dirent* entry = readdir(tasks.get())) {
    pid_t tid = 0;
    if (!absl::SimpleAtoi(entry->d_name, &tid)) continue;
    const std::optional<SignalSet> blocked = MaskOf(entry->d_name);
    if (blocked.has_value()) threads.push_back({tid, *blocked});
  }
  // The thread that asks is alive, so this is a /proc that hides.
  if (threads.empty()) {
    return absl::UnavailableError(
        absl::StrCat(kTasks, " tells of no thread's signal mask"));
  }
  absl::c_sort(threads, [](const ThreadMask& a, const ThreadMask& b) {
    return a.tid < b.tid;
  });
  return threads;
}

std::vector<pid_t> TakersAmong(const std::vector<ThreadMask>& threads,
                               int signo) {
  std::vector<pid_t> takers;
  for (const ThreadMask& thread : threads) {
    if (!thread.blocked.Contains(signo)) takers.push_back(thread.tid);
  }
  return takers;
}

}  // namespace

absl::StatusOr<SignalOutlook> WhoWouldTake(int signo) {
  const absl::StatusOr<Disposition> disposition = DispositionOf(signo);
  if (!disposition.ok()) return disposition.status();
  const absl::StatusOr<std::vector<ThreadMask>> threads = MasksOfThreads();
  if (!threads.ok()) return threads.status();
  return SignalOutlook{.disposition = *disposition,
                       .takers = TakersAmong(*threads, signo)};
}

absl::StatusOr<SignalSet> BlockedEverywhere() {
  const absl::StatusOr<std::vector<ThreadMask>> threads = MasksOfThreads();
  if (!threads.ok()) return threads.status();
  SignalSet somewhere_open;
  for (const ThreadMask& thread : *threads) {
    somewhere_open = somewhere_open | (SignalSet::All() - thread.blocked);
  }
  return SignalSet::All() - somewhere_open;
}

absl::Status CheckSomeThreadTakes(const SignalSet& signals) {
  const absl::StatusOr<SignalSet> blocked = BlockedEverywhere();
  if (!blocked.ok()) return blocked.status();
  const SignalSet stuck = signals - (signals - *blocked);
  if (stuck.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "blocked in every thread, so that no handler would run for: ",
      stuck.ToString()));
}

absl::Status CheckNoThreadTakes(const SignalSet& signals) {
  const absl::StatusOr<std::vector<ThreadMask>> threads = MasksOfThreads();
  if (!threads.ok()) return threads.status();
  std::vector<std::string> leaks;
  for (const int signo : signals.ToVector()) {
    const std::vector<pid_t> takers = TakersAmong(*threads, signo);
    if (takers.empty()) continue;
    leaks.push_back(absl::StrCat(NameOfSignal(signo), " (thread ",
                                 absl::StrJoin(takers, ", "), ")"));
  }
  if (leaks.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("not blocked in every thread, so that a SignalFd may miss: ",
                   absl::StrJoin(leaks, "; ")));
}

}  // namespace brood
