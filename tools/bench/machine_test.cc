// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/machine.h"

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "brood/tools/bench/bench_report.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::testing::MatchesRegex;
using ::testing::StartsWith;

void SayWhere(BenchReport& report) {
  report.machine = ThisMachine("/src/brood", "bench --quick");
}

void Write(const std::string& path, const std::string& text) {
  std::filesystem::create_directories(
      std::filesystem::path(path).parent_path());
  std::ofstream(path) << text << "\n";
}

TEST(MachineTest, SaysWhereAndWhen) {
  BenchReport report;
  SayWhere(report);
  EXPECT_THAT(report.machine.kernel, StartsWith("Linux "));
  EXPECT_GT(report.machine.processors, 0);
  EXPECT_GT(report.machine.memory_bytes, 1 << 20);
  EXPECT_THAT(report.machine.date, MatchesRegex("[0-9-]{10} [0-9:]{5} UTC"));
  EXPECT_EQ(report.machine.command, "bench --quick");
  EXPECT_EQ(report.machine.commit, "");  // There is no such folder.
}

TEST(MachineTest, SaysWhatItIsBusyWith) {
  const BenchReport::Machine::Load load =
      LoadIn("1.52 146.97 146.15 10/373 30004",
             "some avg10=29.80 avg60=54.49 avg300=61.58 total=3415640120");
  EXPECT_EQ(load.average, 1.52);
  EXPECT_EQ(load.pressure, 29.8);
  // Where the kernel was built without pressure.
  EXPECT_EQ(LoadIn("0.10 0.20 0.30 1/2 3", "").pressure, std::nullopt);
  EXPECT_EQ(LoadIn("", "full avg10=1").average, std::nullopt);
  EXPECT_TRUE(LoadOfThisMachine().average.has_value());
}

TEST(MachineTest, FindsTheCommitOfABranchOfNoneAndOfALinkedWorktree) {
  const std::string root = absl::StrCat(testing::TempDir(), "/commits");
  Write(root + "/branch/.git/HEAD", "ref: refs/heads/main");
  Write(root + "/branch/.git/refs/heads/main", "aaaa");
  EXPECT_EQ(ThisMachine(root + "/branch", "").commit, "aaaa");
  Write(root + "/packed/.git/HEAD", "ref: refs/heads/main");
  Write(root + "/packed/.git/packed-refs",
        "# pack-refs with: peeled\ndddd refs/heads/main");
  EXPECT_EQ(ThisMachine(root + "/packed", "").commit, "dddd");
  Write(root + "/none/.git/HEAD", "bbbb");
  EXPECT_EQ(ThisMachine(root + "/none", "").commit, "bbbb");
  Write(root + "/branch/.git/worktrees/x/HEAD", "ref: refs/heads/x");
  Write(root + "/branch/.git/worktrees/x/commondir", "../..");
  Write(root + "/branch/.git/refs/heads/x", "cccc");
  Write(root + "/linked/.git",
        absl::StrCat("gitdir: ", root, "/branch/.git/worktrees/x"));
  EXPECT_EQ(ThisMachine(root + "/linked", "").commit, "cccc");
}

}  // namespace
}  // namespace brood
