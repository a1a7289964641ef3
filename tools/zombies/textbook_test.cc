// SPDX-License-Identifier: Apache-2.0
//
// The server of the textbooks, whose handler waits once: its zombies are found,
// and what the program says of their cure is so.
#include <poll.h>

#include <array>
#include <csignal>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/stream.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/process_table.h"
#include "brood/tests/server_process.h"
#include "brood/tools/zombies/zombies_process.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

void AwaitZombies(const ServerProcess& server, int zombies) {
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (ZombiesOf(server.pid()) != zombies) {
    ASSERT_LT(absl::Now(), deadline);
    (void)poll(nullptr, 0, 1);
  }
}

// SIGSTOP is sent before it is obeyed, and a SIGCHLD that comes meanwhile would
// be taken first: the lower number is.
void AwaitStop(const ServerProcess& server) {
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (ProcessTable().Read(server.pid())->state != ProcessState::kStopped) {
    ASSERT_LT(absl::Now(), deadline);
    (void)poll(nullptr, 0, 1);
  }
}

TEST(TextbookTest, ItsZombiesAreFoundAndTheirCureIsNamed) {
  ServerProcess server({});
  std::vector<Stream> clients;
  for (int i = 0; i < 3; ++i) {
    absl::StatusOr<Stream> client = Stream::Connect(server.address());
    ASSERT_THAT(client, IsOk());
    ASSERT_THAT(client->WriteAll("x"), IsOk());
    std::array<char, 1> byte;
    ASSERT_THAT(client->Read(absl::MakeSpan(byte)), IsOk());
    clients.push_back(*std::move(client));
  }
  const std::string below = absl::StrCat("--pid=", server.pid());
  EXPECT_EQ(RunZombies({below}).status, ExitStatus::Exited(0));

  server.Signal(SIGSTOP);
  AwaitStop(server);
  clients.clear();
  AwaitZombies(server, 3);
  server.Signal(SIGCONT);  // One SIGCHLD for all three.
  AwaitZombies(server, 2);
  const ZombiesProcess::Outcome found = RunZombies({below});
  EXPECT_EQ(found.status, ExitStatus::Exited(1));
  EXPECT_THAT(
      found.output,
      AllOf(StartsWith("2 zombies of 1 parent, among 3 processes\n"),
            HasSubstr("textbook_floor, pid "), HasSubstr("SIGCHLD: handled\n"),
            HasSubstr("waits once"), HasSubstr("wait in a loop"),
            HasSubstr(absl::StrCat("kill -CHLD ", server.pid()))));

  // As it is told there.
  server.Signal(SIGCHLD);
  AwaitZombies(server, 1);
  server.Signal(SIGCHLD);
  AwaitZombies(server, 0);
  EXPECT_EQ(RunZombies({below}).status, ExitStatus::Exited(0));
}

}  // namespace
}  // namespace brood
