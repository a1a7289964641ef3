// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/process_memory.h"

#include <sys/types.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "brood/proc/child.h"
#include "brood/proc/process_table.h"
#include "brood/proc/spawn.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

constexpr std::string_view kRollup =
    "559818e64000-7ffc4a0f6000 ---p 00000000 00:00 0    [rollup]\n"
    "Rss:                1608 kB\n"
    "Pss_Dirty:           500 kB\n"
    "Pss_Anon:            112 kB\n"
    "Pss_File:            100 kB\n";
constexpr std::string_view kStatus =
    "Name:\tPss_Anon: 7\n"
    "State:\tS (sleeping)\n"
    "VmPTE:\t      48 kB\n"
    "Threads:\t2\n";

absl::StatusOr<int64_t> OfMine() { return MemoryOf({getpid()}); }

TEST(ProcessMemoryTest, IsItsOwnPagesItsTablesAndAStackForEachThread) {
  EXPECT_THAT(MemoryIn(kRollup, kStatus),
              IsOkAndHolds((112 + 48 + 2 * 16) * 1024));
}

TEST(ProcessMemoryTest, AKernelThatSaysLessIsAnError) {
  EXPECT_THAT(MemoryIn("Pss: 12 kB\n", kStatus),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("Pss_Anon")));
  EXPECT_THAT(MemoryIn(kRollup, "Threads:\t1\n"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("VmPTE")));
  EXPECT_THAT(MemoryIn(kRollup, "VmPTE:\t 4 kB\n"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("Threads")));
}

TEST(ProcessMemoryTest, GrowsByWhatAProcessWritesTo) {
  constexpr size_t kMore = 64 << 20;
  const absl::StatusOr<int64_t> before = OfMine();
  ASSERT_THAT(before, IsOk());
  const std::vector<char> written(kMore, 'x');
  const absl::StatusOr<int64_t> after = OfMine();
  ASSERT_THAT(after, IsOk());
  EXPECT_EQ(written.back(), 'x');
  EXPECT_GT(*after - *before, int64_t{kMore} / 8 * 7);
  EXPECT_LT(*after - *before, int64_t{kMore} * 2);
}

TEST(ProcessMemoryTest, WhoHasEndedHasNone) {
  absl::StatusOr<Child> child = Spawn({"/bin/cat", "/dev/null"}, {});
  ASSERT_THAT(child, IsOk());
  const pid_t pid = child->pid();
  while (!child->HasEnded().value_or(true)) {
  }
  EXPECT_THAT(MemoryOf({pid}), IsOkAndHolds(0));
  ASSERT_THAT(child->Wait(), IsOk());
  EXPECT_THAT(MemoryOf({pid}), IsOkAndHolds(0));
  EXPECT_THAT(MemoryOf({}), IsOkAndHolds(0));
}

TEST(ProcessMemoryTest, DescendantsAreChildrenAndTheirs) {
  const std::vector<Process> processes = {{.pid = 1, .parent_pid = 0},
                                          {.pid = 5, .parent_pid = 9},
                                          {.pid = 7, .parent_pid = 1},
                                          {.pid = 8, .parent_pid = 7},
                                          {.pid = 9, .parent_pid = 7}};
  EXPECT_THAT(DescendantsOf(7, processes), UnorderedElementsAre(5, 8, 9));
  EXPECT_THAT(DescendantsOf(8, processes), IsEmpty());
}

}  // namespace
}  // namespace brood
