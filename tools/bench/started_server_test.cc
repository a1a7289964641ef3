// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/started_server.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/net/stream.h"
#include "brood/proc/process_table.h"
#include "brood/tests/find_program.h"
#include "brood/tools/bench/contender.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string Folder() {
  std::string folder = absl::StrCat(getenv("TEST_TMPDIR"), "/server.XXXXXX");
  EXPECT_NE(mkdtemp(folder.data()), nullptr);
  return folder;
}

std::optional<std::string> Locate(const Contender& contender) {
  if (contender.package.empty()) return contender.program;
  return FindProgram(contender.program);
}

Contender Find(std::string_view name) {
  for (Contender& contender : AllContenders()) {
    if (contender.name == name) return std::move(contender);
  }
  ADD_FAILURE() << name;
  return {};
}

absl::StatusOr<absl::Duration> CpuOfServing(const Contender& contender,
                                            const std::string& program) {
  absl::StatusOr<StartedServer> server =
      StartedServer::Start(contender, program, Folder());
  if (!server.ok()) return server.status();
  absl::StatusOr<Stream> client = Stream::Connect(server->address());
  if (!client.ok()) return client.status();
  return std::move(*server).Stop();
}

std::vector<pid_t> Children() { return *ProcessTable().ChildrenOf(getpid()); }

TEST(StartedServerTest, EveryContenderThatIsHereAnswersAndLeavesNobody) {
  for (const Contender& contender : AllContenders()) {
    const std::optional<std::string> program = Locate(contender);
    if (!program.has_value()) {
      std::cout << NoProgram(contender.program) << "\n";
      continue;
    }
    absl::StatusOr<StartedServer> server =
        StartedServer::Start(contender, *program, Folder());
    // Another's program may have been built without what it is asked for.
    if (!server.ok() && contender.origin == Origin::kPeer) {
      std::cout << server.status().message() << "\n";
      continue;
    }
    EXPECT_TRUE(server.ok()) << server.status();
    if (!server.ok()) continue;
    EXPECT_THAT(std::move(*server).Stop(), IsOk()) << contender.name;
    EXPECT_THAT(Children(), IsEmpty()) << contender.name;
  }
}

TEST(StartedServerTest, SaysWhatItUsedOfTheProcessors) {
  const Contender floor = Find("floor-fork");
  const absl::StatusOr<absl::Duration> used =
      CpuOfServing(floor, floor.program);
  ASSERT_THAT(used, IsOk());
  EXPECT_GT(*used, absl::ZeroDuration());
}

TEST(StartedServerTest, WhoIsNotStoppedIsKilledWithItsFamily) {
  const Contender prefork = Find("brood-prefork");
  {
    const absl::StatusOr<StartedServer> server =
        StartedServer::Start(prefork, prefork.program, Folder());
    ASSERT_THAT(server, IsOk());
    EXPECT_THAT(ProcessTable().ChildrenOf(server->pid()),
                IsOkAndHolds(testing::SizeIs(8)));
    EXPECT_THAT(server->Zombies(), IsOkAndHolds(0));
    EXPECT_THAT(Stream::Connect(server->address()), IsOk());
  }
  EXPECT_THAT(Children(), IsEmpty());
}

TEST(StartedServerTest, WhoCannotStartSaysWhyOnOneLine) {
  Contender contender = Find("brood-fork");
  contender.command.push_back("--no_such_flag");
  EXPECT_THAT(
      StartedServer::Start(contender, contender.program, Folder()).status(),
      StatusIs(absl::StatusCode::kUnavailable,
               HasSubstr("brood-fork ended: ")));
  EXPECT_THAT(
      StartedServer::Start(contender, "/no/such/program", Folder()).status(),
      StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(Children(), IsEmpty());
}

}  // namespace
}  // namespace brood
