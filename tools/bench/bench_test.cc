// SPDX-License-Identifier: Apache-2.0
//
// The real program, as a person sees it: one short comparison, and one that is
// stopped.

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/process_table.h"
#include "brood/proc/spawn.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

std::string NewFolder() {
  std::string folder = absl::StrCat(getenv("TEST_TMPDIR"), "/bench.XXXXXX");
  EXPECT_NE(mkdtemp(folder.data()), nullptr);
  return folder;
}

std::string Text(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// It puts its own folder into TMPDIR, which is `folder`.
absl::StatusOr<Child> Bench(const std::string& folder,
                            const std::vector<std::string>& flags) {
  std::vector<std::string> command = {
      "/usr/bin/env", absl::StrCat("TMPDIR=", folder),
      absl::StrCat("BUILD_WORKING_DIRECTORY=", folder), getenv("BENCH"),
      "--only=floor-fork,brood-fork"};
  command.insert(command.end(), flags.begin(), flags.end());
  return Spawn(command, {.parent_death_signal = SIGKILL});
}

std::vector<std::string> FilesIn(const std::string& folder) {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    files.push_back(entry.path().filename().string());
  }
  return files;
}

TEST(BenchTest, AShortComparisonLeavesAReportAndNothingElse) {
  const std::string folder = NewFolder();
  absl::StatusOr<Child> bench =
      Bench(folder, {"--measures=connections,messages_64,reap_latency,zombies",
                     "--rounds=1", "--quick"});
  ASSERT_THAT(bench, IsOk());
  const absl::StatusOr<ExitStatus> end = bench->Wait();
  ASSERT_THAT(end, IsOk());
  EXPECT_EQ(end->exit_code(), 0);
  EXPECT_THAT(FilesIn(folder), testing::ElementsAre("bench-report"));
  const std::string report = folder + "/bench-report";
  EXPECT_THAT(FilesIn(report), testing::UnorderedElementsAre(
                                   "index.html", "report.md", "report.json"));
  EXPECT_THAT(Text(report + "/index.html"), StartsWith("<!DOCTYPE html>"));
  EXPECT_THAT(Text(report + "/index.html"), EndsWith("</html>\n"));
  EXPECT_THAT(Text(report + "/report.md"), HasSubstr("| floor-fork |"));
  EXPECT_THAT(Text(report + "/report.json"), StartsWith("{"));
  EXPECT_THAT(Text(report + "/report.json"), EndsWith("}\n"));
}

// What a stranger's shell finds where Bazel has put it.
TEST(BenchTest, RunByItselfItFindsItsServersBesideIt) {
  const std::string folder = NewFolder();
  const std::string copy = folder + "/bin/bench";
  std::filesystem::create_directories(copy + ".runfiles");
  std::filesystem::copy_file(getenv("BENCH"), copy);
  std::filesystem::create_directory_symlink(std::filesystem::current_path(),
                                            copy + ".runfiles/brood");
  absl::StatusOr<Child> bench = Spawn(
      {"/usr/bin/env", "--chdir=" + folder, "TMPDIR=" + folder, copy,
       "--only=floor-fork", "--measures=messages_64", "--rounds=1", "--quick"},
      {.parent_death_signal = SIGKILL});
  ASSERT_THAT(bench, IsOk());
  EXPECT_THAT(bench->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
  EXPECT_THAT(FilesIn(folder),
              testing::UnorderedElementsAre("bin", "bench-report"));
  EXPECT_THAT(Text(folder + "/bench-report/report.md"),
              HasSubstr("| floor-fork |"));
}

TEST(BenchTest, WithoutItsServersItMeasuresNobody) {
  const std::string folder = NewFolder();
  const std::string copy = folder + "/bench";
  std::filesystem::copy_file(getenv("BENCH"), copy);
  absl::StatusOr<Child> bench = Spawn(
      {"/usr/bin/env", "--chdir=" + folder, copy, "--rounds=1", "--quick"},
      {.parent_death_signal = SIGKILL});
  ASSERT_THAT(bench, IsOk());
  EXPECT_THAT(bench->Wait(), IsOkAndHolds(ExitStatus::Exited(2)));
  EXPECT_THAT(FilesIn(folder), testing::ElementsAre("bench"));
}

class BenchStopTest : public testing::TestWithParam<int> {};

TEST_P(BenchStopTest, WhoIsStoppedWritesNothingAndLeavesNobody) {
  const std::string folder = NewFolder();
  absl::StatusOr<Child> bench = Bench(folder, {"--rounds=1000"});
  ASSERT_THAT(bench, IsOk());
  // Once it has children it measures, and listens to signals.
  while (ProcessTable().ChildrenOf(bench->pid())->empty()) {
    ASSERT_FALSE(bench->HasEnded().value_or(true));
  }
  ASSERT_THAT(bench->Signal(GetParam()), IsOk());
  const absl::StatusOr<ExitStatus> end = bench->Wait();
  ASSERT_THAT(end, IsOk());
  EXPECT_EQ(end->exit_code(), 130);
  EXPECT_THAT(FilesIn(folder), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Signals, BenchStopTest,
                         testing::Values(SIGHUP, SIGINT, SIGTERM));

}  // namespace
}  // namespace brood
