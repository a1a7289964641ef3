// SPDX-License-Identifier: Apache-2.0
#include "brood/server/program_families.h"

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/child.h"
#include "brood/proc/families.h"
#include "brood/proc/spawn.h"
#include "brood/server/connection_log.h"
#include "brood/server/poll_loop.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

void EndAll(ProgramFamilies& families, uint64_t connection) {
  families.End(connection);  // Does nothing, if nobody's.
}

TEST(ProgramFamiliesTest, AreNobodysUntilTheyStart) {
  ProgramFamilies families;
  EndAll(families, 1);
  families.Ask(1, 2);
  EXPECT_EQ(families.get(), nullptr);
  EXPECT_FALSE(families.is_ending());
}

TEST(ProgramFamiliesTest, EndWhomAProgramHasLeftAndSaySo) {
  PollLoop loop;
  ProgramFamilies families;
  families.Start(
      loop, [](pid_t) { return false; }, Families::Reaps::kMarked,
      [&] {
        if (!families.is_ending()) loop.Stop();
      },
      [](const LogEvent&) { FAIL() << "families are known here"; });
  ASSERT_NE(families.get(), nullptr);
  SpawnOptions options;
  ASSERT_THAT(options.limits.Set(families.get()->MarkOf(7)), IsOk());
  absl::StatusOr<Child> program =
      Spawn({"/bin/sh", "-c", "sleep 1000 & exit 0"}, options);
  ASSERT_THAT(program, IsOk());
  EXPECT_THAT(program->Wait(), IsOk());
  families.End(7);
  EXPECT_TRUE(families.is_ending());
  EXPECT_THAT(loop.Run(), IsOk());
}

TEST(ProgramFamiliesTest, SayWhyTheyAreNobodys) {
  PollLoop loop;
  std::vector<std::string> said;
  ProgramFamilies families;
  families.Start(
      loop, nullptr, Families::Reaps::kMarked, [] {},
      [&](const LogEvent& event) {
        said.push_back(
            absl::StrCat(event.name, ": ", EventLine(event, LogFormat::kText)));
      });
  EXPECT_THAT(said, ElementsAre(HasSubstr(
                        "only_groups_end: of a program only its process group "
                        "is ended: ")));
  EXPECT_EQ(families.get(), nullptr);
}

}  // namespace
}  // namespace brood
