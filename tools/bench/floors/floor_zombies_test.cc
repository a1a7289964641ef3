// SPDX-License-Identifier: Apache-2.0
//
// How many zombies the floor that SERVER names is left with, when three of its
// children have ended while it could not look: ZOMBIES of them.
#include <poll.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/stream.h"
#include "brood/proc/process_table.h"
#include "brood/tests/server_process.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;

// Blocks until the floor has this many children that are zombies, and that many
// in all.
void AwaitChildren(const ServerProcess& floor, size_t zombies, size_t all) {
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (ChildrenOf(floor.pid()).size() != all ||
         ZombiesOf(floor.pid()) != static_cast<int>(zombies)) {
    ASSERT_LT(absl::Now(), deadline);
    (void)poll(nullptr, 0, 1);
  }
}

// Blocks until the floor stands still: a signal to stop is sent at once, but
// obeyed a little later, and another may be handled in between.
void AwaitStop(const ServerProcess& floor) {
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (true) {
    const absl::StatusOr<Process> process = ProcessTable().Read(floor.pid());
    ASSERT_THAT(process, IsOk());
    if (process->state == ProcessState::kStopped) return;
    ASSERT_LT(absl::Now(), deadline);
    (void)poll(nullptr, 0, 1);
  }
}

TEST(FloorZombiesTest, AreThoseThatItsHandlerDoesNotWaitFor) {
  const size_t expected = static_cast<size_t>(std::atoi(getenv("ZOMBIES")));
  ServerProcess floor({});
  std::vector<Stream> clients;
  for (int i = 0; i < 3; ++i) {
    absl::StatusOr<Stream> client = Stream::Connect(floor.address());
    ASSERT_THAT(client, IsOk());
    ASSERT_THAT(client->WriteAll("x"), IsOk());
    std::array<char, 1> byte;
    ASSERT_THAT(client->Read(absl::MakeSpan(byte)), IsOk());
    clients.push_back(*std::move(client));
  }
  floor.Signal(SIGSTOP);
  AwaitStop(floor);
  clients.clear();
  AwaitChildren(floor, 3, 3);
  floor.Signal(SIGCONT);  // One SIGCHLD for all three.
  AwaitChildren(floor, expected, expected);
}

}  // namespace
}  // namespace brood
