// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/load/load_run.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/tools/load/load_engine.h"
#include "brood/tools/load/load_plan.h"
#include "brood/tools/load/load_result.h"

namespace brood {
namespace {

// What a child says is a series of these, each with as many bytes as it has:
// how far it has come, many times, and then what it has measured, or why it
// could not.
enum class Word : uint8_t { kProgress, kResult, kError };

struct Prefix {
  Word word = Word::kProgress;
  size_t size = 0;
};

bool WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n =
        RetryOnEintr([&] { return write(fd, bytes.data(), bytes.size()); });
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

bool Say(int fd, Word word, std::string_view bytes) {
  const Prefix prefix = {.word = word, .size = bytes.size()};
  std::string text(sizeof(prefix), '\0');
  std::memcpy(text.data(), &prefix, sizeof(prefix));
  return WriteAll(fd, text.append(bytes));
}

// In a child. `stop` ends when the parent wants it to.
int RunShare(const LoadPlan& plan, int out, int stop) {
  const absl::StatusOr<LoadResult> result =
      RunLoad(plan, [&](const LoadProgress& progress) {
        std::string bytes(sizeof(progress), '\0');
        std::memcpy(bytes.data(), &progress, sizeof(progress));
        const absl::StatusOr<bool> stopped =
            PollUntil(stop, POLLIN, absl::InfinitePast());
        return Say(out, Word::kProgress, bytes) && stopped.ok() && !*stopped;
      });
  const bool said = result.ok()
                        ? Say(out, Word::kResult, result->Encode())
                        : Say(out, Word::kError, result.status().message());
  return said ? 0 : 1;
}

absl::StatusOr<std::pair<UniqueFd, UniqueFd>> MakePipe() {
  std::array<int, 2> ends;
  if (pipe2(ends.data(), O_CLOEXEC) == -1) return ErrnoStatus(errno, "pipe2");
  return std::pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

// A child and what it has said so far.
struct Worker {
  Child child;
  UniqueFd out;
  std::string heard = {};
  LoadProgress progress = {};
  std::optional<LoadResult> result = std::nullopt;
  absl::Status error = {};

  void Understand() {
    Prefix prefix;
    while (heard.size() >= sizeof(prefix)) {
      std::memcpy(&prefix, heard.data(), sizeof(prefix));
      if (heard.size() < sizeof(prefix) + prefix.size) return;
      const std::string_view bytes =
          std::string_view(heard).substr(sizeof(prefix), prefix.size);
      switch (prefix.word) {
        case Word::kProgress:
          if (bytes.size() == sizeof(progress)) {
            std::memcpy(&progress, bytes.data(), sizeof(progress));
          }
          break;
        case Word::kResult:
          result = LoadResult::Decode(bytes);
          break;
        case Word::kError:
          error = absl::UnavailableError(bytes);
          break;
      }
      heard.erase(0, sizeof(prefix) + prefix.size);
    }
  }

  // Reads what there is; closes `out` once there will be no more.
  absl::Status Listen() {
    std::array<char, 65536> buffer;
    const ssize_t n = RetryOnEintr(
        [&] { return read(out.get(), buffer.data(), buffer.size()); });
    if (n == -1) return ErrnoStatus(errno, "read from a process");
    if (n == 0) return out.Close();
    heard.append(buffer.data(), static_cast<size_t>(n));
    Understand();
    return absl::OkStatus();
  }
};

absl::StatusOr<Worker> StartWorker(const LoadPlan& plan, int stop) {
  absl::StatusOr<std::pair<UniqueFd, UniqueFd>> out = MakePipe();
  if (!out.ok()) return out.status();
  auto& [reader, writer] = *out;
  const std::array<int, 2> kept = {writer.get(), stop};
  absl::StatusOr<Child> child =
      Fork({.parent_death_signal = SIGKILL,
            .new_process_group = true,  // Ctrl-C is for the parent to pass on.
            .keep_fds = absl::MakeSpan(kept)},
           [&] { return RunShare(plan, writer.get(), stop); });
  if (!child.ok()) return child.status();
  return Worker{.child = *std::move(child), .out = std::move(reader)};
}

LoadProgress Sum(const std::vector<Worker>& workers) {
  LoadProgress sum;
  for (const Worker& worker : workers) {
    sum.elapsed = std::max(sum.elapsed, worker.progress.elapsed);
    sum.whole += worker.progress.whole;
    sum.failed += worker.progress.failed;
    sum.messages += worker.progress.messages;
    sum.open += worker.progress.open;
  }
  return sum;
}

// Waits until one of them has something to say, or for a while.
absl::Status ListenTo(std::vector<Worker>& workers) {
  std::vector<pollfd> items;
  items.reserve(workers.size());
  for (const Worker& worker : workers) {
    items.push_back({.fd = worker.out.get(), .events = POLLIN, .revents = 0});
  }
  constexpr int kMilliseconds = 100;
  if (poll(items.data(), items.size(), kMilliseconds) == -1) {
    return errno == EINTR ? absl::OkStatus() : ErrnoStatus(errno, "poll");
  }
  for (size_t i = 0; i < items.size(); ++i) {
    if (items[i].revents == 0) continue;
    if (absl::Status s = workers[i].Listen(); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::StatusOr<LoadResult> Merged(std::vector<Worker>& workers) {
  LoadResult merged;
  merged.processes = 0;
  for (Worker& worker : workers) {
    const absl::StatusOr<ExitStatus> status = worker.child.Wait();
    if (!status.ok()) return status.status();
    if (!worker.error.ok()) return worker.error;
    if (!worker.result.has_value()) {
      return absl::UnavailableError(absl::StrCat(
          "a process that was to generate load ", status->ToString()));
    }
    merged.Merge(*worker.result);
  }
  return merged;
}

}  // namespace

absl::StatusOr<LoadResult> RunLoad(
    const LoadPlan& plan, absl::FunctionRef<bool(const LoadProgress&)> watch) {
  absl::StatusOr<LoadEngine> engine = LoadEngine::Create(plan);
  if (!engine.ok()) return engine.status();
  return engine->Run(watch);
}

absl::StatusOr<LoadResult> RunLoadInProcesses(
    const LoadPlan& plan, size_t processes,
    absl::FunctionRef<bool(const LoadProgress&)> watch) {
  if (processes == 1) return RunLoad(plan, watch);
  absl::StatusOr<std::pair<UniqueFd, UniqueFd>> stop = MakePipe();
  if (!stop.ok()) return stop.status();
  auto& [stop_reader, stop_writer] = *stop;
  std::vector<Worker> workers;
  for (size_t i = 0; i < processes; ++i) {
    LoadPlan share = plan;
    share.share = {.index = i, .of = processes};
    if (absl::Status s = CheckPlan(share); !s.ok()) return s;
    absl::StatusOr<Worker> worker = StartWorker(share, stop_reader.get());
    if (!worker.ok()) return worker.status();
    workers.push_back(*std::move(worker));
  }
  const auto speaks = [](const Worker& worker) { return worker.out.valid(); };
  while (std::any_of(workers.begin(), workers.end(), speaks)) {
    if (absl::Status s = ListenTo(workers); !s.ok()) return s;
    if (stop_writer.valid() && !watch(Sum(workers))) stop_writer = UniqueFd();
  }
  return Merged(workers);
}

}  // namespace brood
