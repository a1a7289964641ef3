// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/measures.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/stream.h"
#include "brood/proc/pidfd.h"
#include "brood/proc/posix.h"
#include "brood/proc/process_table.h"
#include "brood/proc/unique_fd.h"
#include "brood/tools/bench/contender.h"
#include "brood/tools/bench/started_server.h"
#include "brood/tools/load/idle_crowd.h"
#include "brood/tools/load/load_plan.h"
#include "brood/tools/load/load_report.h"
#include "brood/tools/load/load_result.h"
#include "brood/tools/load/load_run.h"

namespace brood {
namespace {

constexpr int kSources = 64;
constexpr size_t kChunk = 100;
constexpr size_t kCrowdForMemory = 1000;
// A server that looks at all its children for each new one would take minutes.
constexpr absl::Duration kLongestGathering = absl::Seconds(15);
constexpr absl::Duration kLongestLeaving = absl::Seconds(15);
constexpr int kStillLooks = 8;
constexpr absl::Duration kLongestReap = absl::Seconds(1);

absl::Status Cancelled() { return absl::CancelledError("stopped"); }

Figure FigureOf(double value, const LoadResult& result) {
  return {.value = value, .generator_was_busy = GeneratorWasBottleneck(result)};
}

// Nobody's fault but that of what is measured: it has no figure, and says why.
// To be stopped is everybody's end.
absl::Status Keep(absl::StatusOr<Figure> figure, Figure& into) {
  if (figure.ok()) {
    into = *std::move(figure);
    return absl::OkStatus();
  }
  if (absl::IsCancelled(figure.status())) return figure.status();
  into = {.failure = std::string(figure.status().message())};
  return absl::OkStatus();
}

// In bytes.
absl::StatusOr<int64_t> MemAvailable() {
  std::ifstream file("/proc/meminfo");
  std::string name;
  std::string unit;
  int64_t kibibytes = 0;
  while (file >> name >> kibibytes) {
    std::getline(file, unit);
    if (name == "MemAvailable:") return kibibytes * 1024;
  }
  return absl::NotFoundError("/proc/meminfo has no MemAvailable");
}

// What the server's processes have for themselves, once those that were about
// to end have, and those that have just begun have written to what they do.
absl::StatusOr<int64_t> SettledMemory(const StartedServer& server) {
  constexpr int64_t kStill = 256 << 10;
  constexpr int kLooks = 80;
  constexpr int kPause = 25;  // Milliseconds.
  absl::StatusOr<int64_t> last = server.MemoryOfAll();
  for (int i = 0; i < kLooks && last.ok(); ++i) {
    (void)poll(nullptr, 0, kPause);
    const absl::StatusOr<int64_t> now = server.MemoryOfAll();
    if (!now.ok() || std::abs(*now - *last) < kStill) return now;
    last = now;
  }
  return last;
}

// What each client takes. A server that had processes to spare has no more.
Figure MemoryOfEach(const absl::StatusOr<int64_t>& before,
                    const absl::StatusOr<int64_t>& with, size_t clients) {
  for (const absl::StatusOr<int64_t>* side : {&before, &with}) {
    if (!side->ok()) {
      return {.failure =
                  absl::StrCat("not measured: ", side->status().message())};
    }
  }
  if (*with <= *before) {
    return {.failure = absl::StrCat("not measured: with ", clients,
                                    " clients its processes have no more "
                                    "memory than before")};
  }
  return {.value = static_cast<double>(*with - *before) /
                   static_cast<double>(clients)};
}

// Why a crowd of `size` is not gathered any further, if the rest of it would
// take most of the memory that is left; else nothing.
absl::StatusOr<std::string> TooMuch(int64_t before, size_t held, size_t size) {
  const absl::StatusOr<int64_t> left = MemAvailable();
  if (!left.ok()) return left.status();
  const int64_t each = (before - *left) / static_cast<int64_t>(held);
  const int64_t needed = each * static_cast<int64_t>(size - held);
  if (needed <= *left / 4 * 3) return "";
  return absl::StrCat("left out: ", size - held, " clients more would take ",
                      needed >> 20, " MiB of ", *left >> 20,
                      " that are available");
}

double Median(std::vector<double> values) {
  const auto middle =
      values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

absl::Status Greet(Stream& client, absl::Time deadline) {
  constexpr std::string_view kLine = "hello\n";
  if (absl::Status s = client.WriteAll(kLine, deadline); !s.ok()) return s;
  size_t heard = 0;
  std::array<char, 64> buffer;
  while (heard < kLine.size()) {
    const absl::StatusOr<IoResult> got =
        client.Read(absl::MakeSpan(buffer), deadline);
    if (!got.ok()) return got.status();
    if (got->end()) return absl::UnavailableError("closed before it answered");
    heard += *got->bytes();
  }
  return absl::OkStatus();
}

// Its children, but for those that have ended already.
absl::StatusOr<std::vector<UniqueFd>> LivingChildren(pid_t parent) {
  const absl::StatusOr<std::vector<pid_t>> pids =
      ProcessTable().ChildrenOf(parent);
  if (!pids.ok()) return pids.status();
  std::vector<UniqueFd> children;
  for (const pid_t pid : *pids) {
    UniqueFd child(PidfdOpen(pid));
    if (!child.valid()) continue;
    pollfd ended = {.fd = child.get(), .events = POLLIN, .revents = 0};
    if (poll(&ended, 1, 0) == 0) children.push_back(std::move(child));
  }
  return children;
}

// From the first end among `children` until that one is reaped; the descriptor
// keeps meaning it when its number means another.
absl::StatusOr<absl::Duration> WaitForReap(
    const std::vector<UniqueFd>& children) {
  std::vector<pollfd> ends;
  ends.reserve(children.size());
  for (const UniqueFd& child : children) {
    ends.push_back({.fd = child.get(), .events = POLLIN, .revents = 0});
  }
  const int ready = RetryOnEintr([&] {
    return poll(ends.data(), ends.size(),
                static_cast<int>(absl::ToInt64Milliseconds(kLongestReap)));
  });
  const absl::Duration began = MonotonicNow();
  if (ready == -1) return ErrnoStatus(errno, "poll");
  if (ready == 0) return absl::UnavailableError("no child ends with a client");
  const auto ended = std::find_if(
      ends.begin(), ends.end(), [](const pollfd& p) { return p.revents != 0; });
  while (PidfdSendSignal(ended->fd, 0) == 0) {
    if (MonotonicNow() - began > kLongestReap) {
      return absl::DeadlineExceededError("a child is not reaped within 1 s");
    }
  }
  return MonotonicNow() - began;
}

}  // namespace

LoadPlan Measurer::PlanFor(const StartedServer& server) const {
  LoadPlan plan = {.to = {server.address()}};
  // As many ports as there are addresses times those of one: each is taken for
  // a minute after its connection (TIME_WAIT).
  for (int i = 1; i <= kSources; ++i) {
    const absl::StatusOr<Address> from =
        Address::Parse(absl::StrCat("127.0.1.", i, ":0"));
    if (from.ok()) plan.from.push_back(*from);
  }
  plan.lines = true;
  return plan;
}

absl::StatusOr<LoadResult> Measurer::Run(const LoadPlan& plan) const {
  absl::StatusOr<LoadResult> result =
      RunLoad(plan, [this](const LoadProgress&) { return effort_.go_on(); });
  if (!result.ok()) return result;
  if (result->stopped) return Cancelled();
  if (!result->failures.empty()) {
    const auto& [kind, failure] = *result->failures.begin();
    return absl::UnavailableError(
        absl::StrCat(result->failed(), " of ", result->failed() + result->whole,
                     " connections failed: ", failure.first));
  }
  return result;
}

absl::Status Measurer::Connections(const StartedServer& server,
                                   Figures& figures) const {
  LoadPlan plan = PlanFor(server);
  plan.duration = effort_.quick ? absl::Milliseconds(300) : absl::Seconds(2);
  const absl::StatusOr<LoadResult> result = Run(plan);
  if (!result.ok()) {
    if (absl::IsCancelled(result.status())) return result.status();
    for (const char* id :
         {"connections", "latency_p50", "latency_p99", "latency_p999"}) {
      figures[id] = {.failure = std::string(result.status().message())};
    }
    return absl::OkStatus();
  }
  const auto quantile = [&](double q) {
    return FigureOf(absl::ToDoubleSeconds(result->connection.Quantile(q)),
                    *result);
  };
  figures["connections"] = FigureOf(static_cast<double>(result->whole) /
                                        absl::ToDoubleSeconds(result->elapsed),
                                    *result);
  figures["latency_p50"] = quantile(0.5);
  figures["latency_p99"] = quantile(0.99);
  figures["latency_p999"] = quantile(0.999);
  return absl::OkStatus();
}

absl::StatusOr<Figure> Measurer::PingPong(const StartedServer& server,
                                          size_t size, bool bytes) const {
  LoadPlan plan = PlanFor(server);
  plan.concurrency = 1;
  plan.connections = 1;
  plan.messages = std::nullopt;
  plan.duration = effort_.quick ? absl::Milliseconds(100) : absl::Seconds(1);
  plan.message_size = size;
  const absl::StatusOr<LoadResult> result = Run(plan);
  if (!result.ok()) return result.status();
  return FigureOf(
      static_cast<double>(bytes ? result->bytes_received : result->messages) /
          absl::ToDoubleSeconds(result->elapsed),
      *result);
}

absl::StatusOr<Figure> Measurer::ReapLatency(
    const StartedServer& server) const {
  const Deadline end = absl::Now() + (effort_.quick ? absl::Milliseconds(150)
                                                    : absl::Seconds(1));
  std::vector<double> latencies;
  while (latencies.empty() || end.Left() > absl::ZeroDuration()) {
    if (!effort_.go_on()) return Cancelled();
    const absl::Time deadline = absl::Now() + absl::Seconds(2);
    absl::StatusOr<Stream> client = Stream::Connect(server.address(), deadline);
    if (!client.ok()) return client.status();
    if (absl::Status s = Greet(*client, deadline); !s.ok()) return s;
    const absl::StatusOr<std::vector<UniqueFd>> children =
        LivingChildren(server.pid());
    if (!children.ok()) return children.status();
    client = absl::CancelledError("closed");
    const absl::StatusOr<absl::Duration> latency = WaitForReap(*children);
    if (!latency.ok() && !absl::IsDeadlineExceeded(latency.status())) {
      return latency.status();
    }
    latencies.push_back(absl::ToDoubleSeconds(latency.value_or(kLongestReap)));
  }
  return Figure{.value = Median(std::move(latencies))};
}

// Who is about to leave has time to do so, as long as some do: a server may keep
// more processes than it began with. Who is about to be reaped has half a second
// more.
absl::StatusOr<Figure> Measurer::Zombies(const StartedServer& server,
                                         size_t before) const {
  const Deadline left = absl::Now() + kLongestLeaving;
  size_t last = std::numeric_limits<size_t>::max();
  for (int same = 0; same < kStillLooks && left.Left() > absl::ZeroDuration();
       ++same) {
    if (!effort_.go_on()) return Cancelled();
    const absl::StatusOr<std::vector<UniqueFd>> living =
        LivingChildren(server.pid());
    if (!living.ok()) return living.status();
    if (living->size() <= before) break;
    if (living->size() < last) same = 0;
    last = living->size();
    (void)poll(nullptr, 0, 50);
  }
  const Deadline end = absl::Now() + absl::Milliseconds(500);
  while (true) {
    if (!effort_.go_on()) return Cancelled();
    const absl::StatusOr<int> zombies = server.Zombies();
    if (!zombies.ok()) return zombies.status();
    if (*zombies == 0 || end.Left() == absl::ZeroDuration()) {
      return Figure{.value = *zombies};
    }
    (void)poll(nullptr, 0, 20);
  }
}

absl::Status Measurer::Crowds(const StartedServer& server,
                              const std::set<std::string>& ids,
                              Figures& figures) const {
  const absl::StatusOr<int64_t> available = MemAvailable();
  if (!available.ok()) return available.status();
  absl::StatusOr<int64_t> before = 0;
  if (ids.contains("idle_memory")) before = SettledMemory(server);
  std::vector<IdleCrowd> crowd;
  size_t held = 0;
  std::string failure;
  for (const size_t size : {size_t{10}, size_t{1000}, size_t{10'000}}) {
    const std::string id = absl::StrCat("with_", size, "_idle");
    const bool for_memory =
        size == kCrowdForMemory && ids.contains("idle_memory");
    if (!ids.contains(id) && !for_memory) continue;
    if (size > kCrowdForMemory && effort_.quick) {
      figures[id] = {.failure = "left out with --quick"};
      continue;
    }
    const Deadline end = absl::Now() + kLongestGathering;
    while (failure.empty() && held < size) {
      if (!effort_.go_on()) return Cancelled();
      LoadPlan plan = PlanFor(server);
      plan.connections = std::min(kChunk, size - held);
      plan.duration = end.Left();
      absl::StatusOr<IdleCrowd> chunk = IdleCrowd::Gather(plan, effort_.go_on);
      if (!chunk.ok()) {
        if (!effort_.go_on()) return Cancelled();
        failure = end.Left() == absl::ZeroDuration()
                      ? absl::StrCat("left out: after ",
                                     absl::FormatDuration(kLongestGathering),
                                     " about ", held, " of ", size,
                                     " clients are inside")
                      : absl::StrCat("with ", held,
                                     " held: ", chunk.status().message());
        break;
      }
      held += chunk->size();
      crowd.push_back(*std::move(chunk));
      absl::StatusOr<std::string> too_much = TooMuch(*available, held, size);
      if (!too_much.ok()) return too_much.status();
      failure = *std::move(too_much);
    }
    if (for_memory) {
      figures["idle_memory"] =
          failure.empty() ? MemoryOfEach(before, SettledMemory(server), held)
                          : Figure{.failure = failure};
    }
    if (!ids.contains(id)) continue;
    if (!failure.empty()) {
      figures[id] = {.failure = failure};
      continue;
    }
    LoadPlan plan = PlanFor(server);
    plan.concurrency = 1;
    plan.duration =
        effort_.quick ? absl::Milliseconds(100) : absl::Milliseconds(500);
    const absl::StatusOr<LoadResult> result = Run(plan);
    const absl::StatusOr<Figure> figure =
        result.ok()
            ? FigureOf(absl::ToDoubleSeconds(result->connection.Quantile(0.5)),
                       *result)
            : absl::StatusOr<Figure>(result.status());
    if (absl::Status s = Keep(figure, figures[id]); !s.ok()) {
      return s;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Figures> Measurer::Measure(
    const StartedServer& server, const Contender& contender,
    const std::set<std::string>& ids) const {
  Figures figures;
  const absl::StatusOr<std::vector<UniqueFd>> living =
      LivingChildren(server.pid());
  if (!living.ok()) return living.status();
  const auto keep = [&](const std::string& id, absl::StatusOr<Figure> figure) {
    return Keep(std::move(figure), figures[id]);
  };
  if (ids.contains("connections") || ids.contains("latency_p50") ||
      ids.contains("latency_p99") || ids.contains("latency_p999")) {
    if (absl::Status s = Connections(server, figures); !s.ok()) return s;
  }
  if (ids.contains("messages_64")) {
    if (absl::Status s =
            keep("messages_64", PingPong(server, 64, /*bytes=*/false));
        !s.ok()) {
      return s;
    }
  }
  if (ids.contains("bytes_64k")) {
    if (absl::Status s =
            keep("bytes_64k", PingPong(server, 65'536, /*bytes=*/true));
        !s.ok()) {
      return s;
    }
  }
  const bool child_each =
      contender.design == Design::kFork || contender.design == Design::kProgram;
  if (ids.contains("reap_latency") && !child_each) {
    figures["reap_latency"] = {.failure = "no child ends with a connection"};
  } else if (ids.contains("reap_latency")) {
    if (absl::Status s = keep("reap_latency", ReapLatency(server)); !s.ok()) {
      return s;
    }
  }
  if (!contender.at_once.has_value()) {
    if (absl::Status s = Crowds(server, ids, figures); !s.ok()) return s;
  } else {
    for (const char* id :
         {"with_10_idle", "with_1000_idle", "with_10000_idle", "idle_memory"}) {
      if (!ids.contains(id)) continue;
      figures[id] = {.failure = absl::StrCat("serves ", *contender.at_once,
                                             " at once: no crowd gets in")};
    }
  }
  if (ids.contains("zombies")) {
    if (absl::Status s = keep("zombies", Zombies(server, living->size()));
        !s.ok()) {
      return s;
    }
  }
  return figures;
}

absl::Status Measurer::LoadForProcessCpu(const StartedServer& server) const {
  LoadPlan plan = PlanFor(server);
  plan.concurrency = 5;
  plan.connections = effort_.quick ? 500 : 2500;
  plan.message_size = 4000;
  return Run(plan).status();
}

}  // namespace brood
