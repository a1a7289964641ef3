// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/limits.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

absl::StatusOr<Limits> LimitsOfAWorker(std::string_view flag) {
  absl::StatusOr<Limits> limits = Limits::Parse(flag);  // "CPU=10:20"
  if (!limits.ok()) return limits.status();  // Names what is no limit.
  const absl::Status no_core = limits->Set({RLIMIT_CORE, 0, 0});
  if (!no_core.ok()) return no_core;
  return limits;  // For SpawnOptions, or limits->Apply() in a child.
}

TEST(LimitsTest, HeaderExample) {
  const absl::StatusOr<Limits> limits = LimitsOfAWorker("CPU=10:20");
  ASSERT_THAT(limits, IsOk());
  EXPECT_THAT(limits->entries(),
              ElementsAre(Limit{RLIMIT_CPU, 10, 20}, Limit{RLIMIT_CORE, 0, 0}));
}

TEST(LimitsTest, ReadsBackEveryNameItGives) {
  for (int resource = 0; resource < RLIM_NLIMITS; ++resource) {
    EXPECT_THAT(ParseResource(NameOfResource(resource)),
                IsOkAndHolds(resource));
  }
}

TEST(LimitsTest, UnderstandsANameInAnyCaseAndWithItsPrefix) {
  for (const char* name :
       {"nofile", "NoFile", "RLIMIT_NOFILE", "rlimit_nofile"}) {
    EXPECT_THAT(ParseResource(name), IsOkAndHolds(RLIMIT_NOFILE)) << name;
  }
}

TEST(LimitsTest, ReadsBackWhatItPrints) {
  for (const char* text : {"", "NOFILE=1024:4096", "CORE=0", "AS=unlimited",
                           "CPU=1:unlimited,STACK=8388608"}) {
    const absl::StatusOr<Limits> limits = Limits::Parse(text);
    ASSERT_THAT(limits, IsOk());
    EXPECT_EQ(limits->ToString(), text);
  }
}

TEST(LimitsTest, RefusesTextThatIsNoLimitAndQuotesIt) {
  for (const char* text :
       {"NOFILE", "NOFILE=", "NOFILE=x", "NOFILE=-1", "NOFILE=+1", "NOFILE= 1",
        "NOFILE=1:2:3", "NOFILE=1:", "NOFILE=:1", "NOFILE=1.5", "=1", ",",
        "NOFILE=18446744073709551615", "NOFILE=99999999999999999999",
        "FILES=1"}) {
    EXPECT_THAT(Limits::Parse(text),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"")))
        << text;
  }
  EXPECT_THAT(Limits::Parse("FILES=1"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("\"FILES\""), HasSubstr("NOFILE"))));
}

TEST(LimitsTest, RefusesASoftLimitAboveTheHardOne) {
  EXPECT_THAT(
      Limits::Parse("NOFILE=2:1"),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("NOFILE=2:1")));
  EXPECT_THAT(Limits::Parse("NOFILE=unlimited:1"),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(LimitsTest, RefusesANumberThatIsNoResource) {
  for (const int resource : {-1, static_cast<int>(RLIM_NLIMITS), 1000}) {
    EXPECT_THAT(
        Limits().Set({resource, 1, 1}),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"resource ")));
    EXPECT_THAT(CurrentLimit(resource),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
}

TEST(LimitsTest, KeepsTheLastWordOnAResource) {
  const absl::StatusOr<Limits> limits = Limits::Parse("CORE=1,CPU=2,CORE=3");
  ASSERT_THAT(limits, IsOk());
  EXPECT_EQ(limits->ToString(), "CORE=3,CPU=2");
  EXPECT_THAT(Limits().entries(), IsEmpty());
}

TEST(LimitsTest, IsInForceOnceApplied) {
  absl::StatusOr<Child> child = Fork({}, [] {
    const absl::StatusOr<Limits> limits = Limits::Parse("NOFILE=3:5");
    if (!limits.ok() || !limits->Apply().ok()) return 1;
    if (open("/dev/null", O_RDONLY | O_CLOEXEC) != -1) return 2;
    if (errno != EMFILE) return 3;
    const absl::StatusOr<Limit> now = CurrentLimit(RLIMIT_NOFILE);
    return now.ok() && *now == Limit{RLIMIT_NOFILE, 3, 5} ? 0 : 4;
  });
  ASSERT_THAT(child, IsOk());
  EXPECT_THAT(child->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(LimitsTest, SaysWhichLimitAnUnprivilegedProcessMayNotRaise) {
  absl::StatusOr<Child> child = Fork({}, [] {
    const absl::StatusOr<Limits> low = Limits::Parse("CORE=0");
    const absl::StatusOr<Limits> high = Limits::Parse("CORE=1");
    if (!low.ok() || !high.ok() || !low->Apply().ok()) return 1;
    // Fails where root has nobody else to become, in the user namespace of a
    // sandbox; there it is not privileged either.
    if (geteuid() == 0) (void)!seteuid(1);
    const absl::Status raised = high->Apply();
    if (ErrnoOf(raised) != EPERM) return 2;
    return raised.message().starts_with("set limit CORE=1: ") ? 0 : 3;
  });
  ASSERT_THAT(child, IsOk());
  EXPECT_THAT(child->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

}  // namespace
}  // namespace brood
