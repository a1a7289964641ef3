// SPDX-License-Identifier: Apache-2.0
//
// A hostile crowd from three sources, and somebody of a fourth who does not
// notice.
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/log/check.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/tests/server_clients.h"
#include "brood/tests/server_process.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

constexpr int kHeld = 2000;
constexpr int kStuck = 10;
constexpr int kRounds = 500;
// Who waits so long for a server that has nothing else to do waits for a
// processor. Each then has its turn, and whoever was attacked has more to do.
constexpr absl::Duration kBusy = absl::Milliseconds(6);
constexpr uint64_t kBegun = 1000;
constexpr uint64_t kMostOfAFlood = 2'000'000;

void TakeAllDescriptors() {
  rlimit limit;
  (void)getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &limit);
}

// Processes that do harm until they are told to stop, or the test ends.
class Crowd {
 public:
  Crowd() : reports_(MakePipe()), stop_(MakePipe()) {}

  // `harm` says when it has begun, by Report(), and goes on until Stopped().
  void Add(absl::FunctionRef<void()> harm) {
    absl::StatusOr<Child> child = Fork({.parent_death_signal = SIGKILL}, [&] {
      stop_.second = UniqueFd();
      TakeAllDescriptors();
      harm();
      return 0;
    });
    CHECK_OK(child);
    members_.push_back(*std::move(child));
  }
  void Report(uint64_t number) const {
    CHECK_EQ(write(reports_.second.get(), &number, sizeof(number)),
             ssize_t{sizeof(number)});
  }
  bool Stopped(absl::Time until = absl::InfinitePast()) const {
    return PollUntil(stop_.first.get(), POLLIN, until).value_or(true);
  }

  uint64_t NextReport() const {
    uint64_t number = 0;
    CHECK_EQ(RetryOnEintr([&] {
               return read(reports_.first.get(), &number, sizeof(number));
             }),
             ssize_t{sizeof(number)});
    return number;
  }
  void Stop() { stop_.second = UniqueFd(); }

 private:
  using Pipe = std::pair<UniqueFd, UniqueFd>;
  static Pipe MakePipe() {
    std::array<int, 2> ends;
    CHECK_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
    return {UniqueFd(ends[0]), UniqueFd(ends[1])};
  }

  Pipe reports_;
  Pipe stop_;
  std::vector<Child> members_;
};

// Opens connections as fast as it can, and then says how many they were.
void Flood(const Crowd& crowd, const Address& address) {
  uint64_t count = 0;
  bool begun = false;
  while (count < kMostOfAFlood && !crowd.Stopped()) {
    for (int i = 0; i < 16; ++i) {
      absl::StatusOr<Stream> stream =
          Stream::Connect(address, absl::Now() + absl::Seconds(1),
                          {.source = *Address::Parse("127.0.0.2:0")});
      if (!stream.ok()) continue;
      ++count;
      (void)stream->Reset();  // Whose port can be used again at once.
    }
    if (count >= kBegun && !std::exchange(begun, true)) crowd.Report(count);
  }
  crowd.Report(count);
}

// Holds many connections and says hardly a byte.
void Hold(const Crowd& crowd, const ServerProcess& server) {
  std::vector<Stream> held;
  for (int i = 0; i < kHeld; ++i) {
    held.push_back(Come(server, 3));
    CHECK(Echoes(held.back())) << "number " << i << " was not let in";
  }
  crowd.Report(held.size());
  (void)crowd.Stopped(absl::InfiniteFuture());
}

// Never reads what is echoed, and sends until nobody can go on.
void Stick(const Crowd& crowd, const ServerProcess& server) {
  const std::string much(1 << 16, 'x');
  std::vector<Stream> stuck;
  for (int i = 0; i < kStuck; ++i) {
    stuck.push_back(Come(server, 4));
    while (PollUntil(stuck.back().fd(), POLLOUT,
                     absl::Now() + absl::Milliseconds(50))
               .value_or(false)) {
      (void)stuck.back().TryWrite(much);
    }
  }
  crowd.Report(stuck.size());
  (void)crowd.Stopped(absl::InfiniteFuture());
}

// Connects, echoes and closes.
absl::Duration Visit(const ServerProcess& server) {
  const absl::Duration began = MonotonicNow();
  Stream client = Come(server, 5);
  EXPECT_TRUE(Echoes(client));
  (void)client.Close();
  return MonotonicNow() - began;
}

absl::Duration NinetyNinthOfAHundred(std::vector<absl::Duration> took) {
  std::sort(took.begin(), took.end());
  return took[took.size() * 99 / 100];
}

TEST(ServerCrowdTest, IsNotNoticedByAWellBehavedClient) {
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  if (limit.rlim_max < 2 * kHeld) {
    GTEST_SKIP() << "a process may have no more than " << limit.rlim_max
                 << " descriptors here";
  }
  // Nobody reads the log either.
  ServerProcess server(
      {"--listen=127.0.0.1:0", "--max_connections=4000",
       absl::StrCat("--max_connections_per_source=", kHeld),
       absl::StrCat("--connection_rate_per_source=100/s,", kHeld),
       "--at_limit=reset"},
      TakeAllDescriptors);
  // One that the crowd leaves alone, on the same machine at the same time: what
  // it takes longer than that is not for want of a processor.
  const ServerProcess other({"--listen=127.0.0.1:0"});
  Crowd crowd;
  crowd.Add([&] { Hold(crowd, server); });
  ASSERT_EQ(crowd.NextReport(), kHeld);
  crowd.Add([&] { Stick(crowd, server); });
  ASSERT_EQ(crowd.NextReport(), kStuck);
  crowd.Add([&] { Flood(crowd, server.address()); });
  ASSERT_GE(crowd.NextReport(), kBegun);
  std::vector<absl::Duration> here;
  std::vector<absl::Duration> there;
  for (int i = 0; i < kRounds; ++i) {
    here.push_back(Visit(server));
    there.push_back(Visit(other));
  }
  const absl::Duration crowded = NinetyNinthOfAHundred(here);
  const absl::Duration quiet = NinetyNinthOfAHundred(there);
  EXPECT_GE(ChildrenOf(server.pid()).size(), kHeld + kStuck);
  crowd.Stop();
  const uint64_t flood = crowd.NextReport();
  RecordProperty("p99_quiet", absl::FormatDuration(quiet));
  RecordProperty("p99_crowded", absl::FormatDuration(crowded));
  RecordProperty("flood", absl::StrCat(flood));
  if (quiet < kBusy) {
    EXPECT_LE(crowded, std::max(3 * quiet, absl::Milliseconds(20)))
        << "quiet " << quiet << ", flood of " << flood;
  }
  server.CloseItsOutput();
  server.Signal(SIGQUIT);
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
  if (quiet >= kBusy) {
    GTEST_SKIP() << "this machine is too busy for a measurement: a server that "
                    "nobody attacks answers within "
                 << quiet << "; the other one, within " << crowded;
  }
}

}  // namespace
}  // namespace brood
