// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/load/descriptor_limit.h"

#include <sys/resource.h>

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "brood/tests/in_child.h"
#include "brood/tools/load/load_plan.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

absl::Status MakeRoomFor(const LoadPlan& plan) {
  return RaiseDescriptorLimit(plan.concurrency);
}

// 0 if MakeRoomFor() does as a child of these limits expects.
int Try(rlim_t soft, rlim_t hard, size_t connections, absl::StatusCode code) {
  return InChild([&] {
    rlimit limit = {.rlim_cur = soft, .rlim_max = hard};
    if (setrlimit(RLIMIT_NOFILE, &limit) == -1) return 1;
    const absl::Status status = MakeRoomFor({.concurrency = connections});
    if (status.code() != code) return 2;
    if (getrlimit(RLIMIT_NOFILE, &limit) == -1) return 3;
    if (limit.rlim_cur != hard) return 4;
    const std::string both = absl::StrCat(
        connections, " connections at once: this process may have ", hard,
        " descriptors");
    return status.ok() || absl::StrContains(status.message(), both) ? 0 : 5;
  });
}

TEST(DescriptorLimitTest, TheSoftLimitBecomesTheHardOne) {
  EXPECT_EQ(Try(64, 200, 100, absl::StatusCode::kOk), 0);
  EXPECT_EQ(Try(64, 200, 168, absl::StatusCode::kOk), 0);
}

TEST(DescriptorLimitTest, WhereThatIsNotEnoughBothNumbersAreNamed) {
  EXPECT_EQ(Try(64, 200, 169, absl::StatusCode::kResourceExhausted), 0);
}

}  // namespace
}  // namespace brood
