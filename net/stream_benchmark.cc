// SPDX-License-Identifier: Apache-2.0
// What a Stream costs beside read(2) and write(2) in a bare loop, and a Relay
// beside both:
//
//   bazel run //net:stream_benchmark
//
// The ways that are compared take turns within one benchmark, in short blocks
// of which each has its partner right beside it; `ratio` is the median of the
// quotients of partners, so that what else the machine does falls on both. It
// is a ratio of speeds: more than 1 is faster than the bare loop.
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/log/check.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "benchmark/benchmark.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/relay.h"
#include "brood/net/stream.h"
#include "brood/proc/posix.h"

namespace brood {
namespace {

enum Family { kTcp, kUnix };

std::array<char, size_t{64} << 10> buffer;

struct Pair {
  Stream outer;
  Stream inner;
};

Pair Connected(int64_t family) {
  std::random_device random;
  const Address address =
      family == kTcp ? *Address::Parse("127.0.0.1:0")
                     : *Address::UnixAbstract(absl::StrCat(
                           "brood/stream_benchmark/", random(), random()));
  absl::StatusOr<Listener> listener = Listener::Open(address);
  CHECK_OK(listener);
  absl::StatusOr<Stream> outer = Stream::Connect(listener->address());
  CHECK_OK(outer);
  CHECK_OK(outer->SetNoDelay(true));
  absl::StatusOr<std::optional<Accepted>> inner = listener->Accept();
  CHECK_OK(inner);
  return {.outer = *std::move(outer), .inner = (**std::move(inner)).stream};
}

// ---- The bare loops ----

bool WriteAllBare(int fd, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t n = write(fd, data, size);
    if (n <= 0) return false;
    data += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

void CopyBare(int from, int to) {
  for (;;) {
    const ssize_t n = read(from, buffer.data(), buffer.size());
    if (n <= 0) return;
    if (!WriteAllBare(to, buffer.data(), static_cast<size_t>(n))) return;
  }
}

// The client of all: one question, and all of its answer.
void AskBare(int fd, const std::string& question, std::string& answer) {
  CHECK(WriteAllBare(fd, question.data(), question.size()));
  for (size_t got = 0; got < answer.size();) {
    const ssize_t n = read(fd, &answer[got], answer.size() - got);
    CHECK_GT(n, 0);
    got += static_cast<size_t>(n);
  }
}

// ---- The same with Streams ----

void CopyStream(Stream& from, Stream& to) {
  for (;;) {
    const absl::StatusOr<IoResult> got = from.Read(absl::MakeSpan(buffer));
    if (!got.ok() || got->end()) return;
    const std::string_view bytes(buffer.data(), *got->bytes());
    if (!to.WriteAll(bytes).ok()) return;
  }
}

// ----

// A child that runs `body`, and ends with it.
template <typename Body>
pid_t Start(Body body) {
  const pid_t child = fork();
  CHECK_NE(child, -1);
  if (child == 0) {
    body();
    _exit(0);
  }
  return child;
}

absl::Duration Cpu(const rusage& usage) {
  return absl::DurationFromTimeval(usage.ru_utime) +
         absl::DurationFromTimeval(usage.ru_stime);
}

// The time for which `child` was on a processor; and this process, so far.
absl::Duration AwaitEnd(pid_t child) {
  rusage usage = {};
  CHECK_EQ(RetryOnEintr([&] { return wait4(child, nullptr, 0, &usage); }),
           child);
  return Cpu(usage);
}

absl::Duration OwnCpu() {
  rusage usage = {};
  CHECK_EQ(getrusage(RUSAGE_SELF, &usage), 0);
  return Cpu(usage);
}

double Median(std::vector<double> values) {
  const auto middle = values.begin() + values.size() / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// How long each block of one way took, and the other way's beside it.
class Series {
 public:
  void Add(absl::Duration time) {
    values_.push_back(absl::ToDoubleMicroseconds(time));
  }
  double Median() const { return brood::Median(values_); }
  // How much faster this is than `other`, block by block.
  double RatioTo(const Series& other) const {
    std::vector<double> ratios;
    for (size_t i = 0; i < values_.size(); ++i) {
      ratios.push_back(other.values_[i] / values_[i]);
    }
    return brood::Median(ratios);
  }

 private:
  std::vector<double> values_;
};

// ---- Echo: a round trip of `size` bytes ----

// A server child with one client, who is this process.
class EchoServer {
 public:
  EchoServer(int64_t family, bool bare) : EchoServer(Connected(family), bare) {}
  ~EchoServer() {
    CHECK_OK(client_.Close());
    (void)AwaitEnd(child_);
  }
  EchoServer(const EchoServer&) = delete;
  EchoServer& operator=(const EchoServer&) = delete;

  absl::Duration TimeBlock(int trips, const std::string& question,
                           std::string& answer) const {
    const absl::Duration start = MonotonicNow();
    for (int i = 0; i < trips; ++i) AskBare(client_.fd(), question, answer);
    return (MonotonicNow() - start) / trips;
  }

 private:
  EchoServer(Pair pair, bool bare)
      : client_(std::move(pair.outer)), child_(Start([&] {
          CHECK_OK(client_.Close());
          CHECK_OK(pair.inner.SetNoDelay(true));
          if (bare) return CopyBare(pair.inner.fd(), pair.inner.fd());
          CopyStream(pair.inner, pair.inner);
        })) {}

  Stream client_;
  pid_t child_;
};

void BM_Echo(benchmark::State& state) {
  const std::string question(static_cast<size_t>(state.range(1)), 'q');
  std::string answer(question.size(), '\0');
  // About 20 ms.
  const int trips = question.size() < 1000 ? 1000 : 200;
  // Which child was forked first must not matter.
  const EchoServer stream(state.range(0), /*bare=*/false);
  const EchoServer bare(state.range(0), /*bare=*/true);
  for (const EchoServer* server : {&stream, &bare}) {
    (void)server->TimeBlock(trips, question, answer);
  }
  Series stream_times;
  Series bare_times;
  for (auto _ : state) {
    // The first and the last of four: what drifts falls on both alike.
    const absl::Duration first = stream.TimeBlock(trips, question, answer);
    const absl::Duration second = bare.TimeBlock(trips, question, answer);
    const absl::Duration third = bare.TimeBlock(trips, question, answer);
    const absl::Duration fourth = stream.TimeBlock(trips, question, answer);
    stream_times.Add((first + fourth) / 2);
    bare_times.Add((second + third) / 2);
  }
  state.counters["bare_us"] = bare_times.Median();
  state.counters["stream_us"] = stream_times.Median();
  state.counters["ratio"] = stream_times.RatioTo(bare_times);
}
BENCHMARK(BM_Echo)
    ->ArgNames({"unix", "bytes"})
    ->ArgsProduct({{kTcp, kUnix}, {64, 64 << 10}})
    ->Iterations(201)
    ->UseRealTime();

// ---- Relay: 256 MiB from a writer to a reader ----

constexpr size_t kMuch = size_t{256} << 20;

enum Way { kBare, kStream, kRelay };

struct Cost {
  absl::Duration time;  // Until the reader has all.
  absl::Duration cpu;   // Of the process between writer and reader.
  absl::Duration reader_cpu;
};

// The reader either copies what it gets, which is where the copying ends up
// that a relay does not do: out of memory that the writer has written long ago.
// Or it drops it, as if it were on another machine.
Cost Carry(int64_t family, bool drop, Way way) {
  Pair source = Connected(family);
  Pair sink = Connected(family);
  const absl::Duration start = MonotonicNow();
  const pid_t writer = Start([&] {
    CHECK_OK(source.inner.Close());
    CHECK_OK(sink.inner.Close());
    for (size_t sent = 0; sent < kMuch; sent += buffer.size()) {
      CHECK(WriteAllBare(source.outer.fd(), buffer.data(), buffer.size()));
    }
  });
  const pid_t carrier = Start([&] {
    CHECK_OK(source.outer.Close());
    CHECK_OK(sink.outer.Close());
    switch (way) {
      case kBare:
        return CopyBare(source.inner.fd(), sink.inner.fd());
      case kStream:
        return CopyStream(source.inner, sink.inner);
      case kRelay:
        CHECK_OK(Relay(source.inner, sink.inner).status);
    }
  });
  CHECK_OK(source.outer.Close());
  CHECK_OK(source.inner.Close());
  CHECK_OK(sink.inner.Close());
  // So that the relay's other way ends too.
  CHECK_OK(sink.outer.ShutdownWrite());
  const absl::Duration cpu_before = OwnCpu();
  size_t received = 0;
  for (;;) {
    const ssize_t n = recv(sink.outer.fd(), buffer.data(), buffer.size(),
                           drop ? MSG_TRUNC : 0);
    CHECK_GE(n, 0);
    if (n == 0) break;
    received += static_cast<size_t>(n);
  }
  CHECK_EQ(received, kMuch);
  const absl::Duration time = MonotonicNow() - start;
  const absl::Duration reader_cpu = OwnCpu() - cpu_before;
  (void)AwaitEnd(writer);
  return {.time = time, .cpu = AwaitEnd(carrier), .reader_cpu = reader_cpu};
}

void BM_Carry(benchmark::State& state) {
  struct Costs {
    Series time;
    Series cpu;
    Series reader_cpu;
  };
  std::array<Costs, 3> costs;
  // Each is first, second and third equally often.
  std::array<Way, 3> order = {kBare, kStream, kRelay};
  for (auto _ : state) {
    for (const Way way : order) {
      const Cost cost = Carry(state.range(0), state.range(1) != 0, way);
      costs[way].time.Add(cost.time);
      costs[way].cpu.Add(cost.cpu);
      costs[way].reader_cpu.Add(cost.reader_cpu);
    }
    std::rotate(order.begin(), order.begin() + 1, order.end());
  }
  constexpr std::array<std::string_view, 3> kNames = {"bare", "stream",
                                                      "relay"};
  for (const Way way : {kBare, kStream, kRelay}) {
    const std::string name(kNames[way]);
    state.counters[name + "_ms"] = costs[way].time.Median() / 1000;
    state.counters[name + "_cpu_ms"] = costs[way].cpu.Median() / 1000;
    state.counters[name + "_reader_cpu_ms"] =
        costs[way].reader_cpu.Median() / 1000;
    if (way == kBare) continue;
    state.counters[name + "_ratio"] =
        costs[way].time.RatioTo(costs[kBare].time);
    state.counters[name + "_cpu_ratio"] =
        costs[way].cpu.RatioTo(costs[kBare].cpu);
  }
}
BENCHMARK(BM_Carry)
    ->ArgNames({"unix", "drop"})
    ->Args({kTcp, 0})
    ->Args({kTcp, 1})
    ->Args({kUnix, 0})
    ->Iterations(33)
    ->UseRealTime();

}  // namespace
}  // namespace brood
