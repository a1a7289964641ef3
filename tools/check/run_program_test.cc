// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/check/run_program.h"

#include <string>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;
using ::testing::HasSubstr;

TEST(RunProgramTest, KeepsWhatWasSaidAndHowItEnded) {
  const absl::StatusOr<ProgramRun> run =
      RunProgram({"sh", "-c", "pwd; echo sorry >&2; exit 3"}, "/usr");
  ASSERT_THAT(run, IsOk());
  EXPECT_EQ(run->out, "/usr\n");
  EXPECT_EQ(run->err, "sorry\n");
  EXPECT_EQ(run->status.exit_code(), 3);
  EXPECT_FALSE(run->status.success());
}

TEST(RunProgramTest, GivesNothingToRead) {
  const absl::StatusOr<ProgramRun> run = RunProgram({"cat"}, "/");
  ASSERT_THAT(run, IsOk());
  EXPECT_EQ(run->out, "");
  EXPECT_TRUE(run->status.success());
}

TEST(RunProgramTest, KeepsMoreThanAPipeHolds) {
  const absl::StatusOr<ProgramRun> run =
      RunProgram({"head", "-c", "1000000", "/dev/zero"}, "/");
  ASSERT_THAT(run, IsOk());
  EXPECT_EQ(run->out, std::string(1'000'000, '\0'));
}

TEST(RunProgramTest, NamesAProgramThatIsNotThere) {
  EXPECT_THAT(
      RunProgram({"no-such-program"}, "/"),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("no-such-program")));
}

}  // namespace
}  // namespace brood
