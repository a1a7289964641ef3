// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/zombies/snapshot.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <filesystem>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "brood/proc/child.h"
#include "brood/proc/fork.h"
#include "brood/proc/process_table.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;

absl::StatusOr<size_t> CountProcesses() {
  const absl::StatusOr<Snapshot> snapshot = TakeSnapshot(ProcessTable());
  if (!snapshot.ok()) return snapshot.status();
  return snapshot->processes.size();
}

TEST(SnapshotTest, HeaderExample) {
  const absl::StatusOr<size_t> count = CountProcesses();
  ASSERT_THAT(count, IsOk());
  EXPECT_GT(*count, 0);
}

TEST(SnapshotTest, HasAZombieAndWhatItsParentDoesAboutSigchld) {
  absl::StatusOr<Child> child = Fork({}, [] { return 7; });
  ASSERT_THAT(child, IsOk());
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child->pid()), &info,
                   WEXITED | WNOWAIT | __WALL),
            0);
  const absl::StatusOr<Snapshot> snapshot = TakeSnapshot(ProcessTable());
  ASSERT_THAT(snapshot, IsOk());
  const auto zombie = absl::c_find_if(
      snapshot->processes,
      [&](const Process& process) { return process.pid == child->pid(); });
  ASSERT_NE(zombie, snapshot->processes.end());
  EXPECT_TRUE(zombie->zombie());
  EXPECT_EQ(zombie->wait_status, 7 << 8);
  ASSERT_TRUE(snapshot->signals.contains(getpid()));
  EXPECT_FALSE(snapshot->signals.at(getpid()).handles(SIGCHLD));
  EXPECT_LE(snapshot->begun, snapshot->ended);
  EXPECT_LE(zombie->start, snapshot->ended);
  EXPECT_FALSE(snapshot->some_hidden);
}

TEST(SnapshotTest, SaysSoWhereProcessesAreHidden) {
  // A /proc in which there is not even a PID 1.
  const std::filesystem::path root =
      std::filesystem::path(testing::TempDir()) / "hiding_proc";
  std::filesystem::create_directory(root);
  const absl::StatusOr<Snapshot> snapshot =
      TakeSnapshot(ProcessTable(root.string()));
  std::filesystem::remove(root);
  ASSERT_THAT(snapshot, IsOk());
  EXPECT_TRUE(snapshot->some_hidden);
  EXPECT_THAT(TakeSnapshot(ProcessTable(root.string())),
              StatusIs(absl::StatusCode::kNotFound));
}

}  // namespace
}  // namespace brood
