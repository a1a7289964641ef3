// SPDX-License-Identifier: Apache-2.0
// The C++ that README.md shows, compiled and run.
#include <poll.h>

#include <iostream>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "brood/proc/child.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/proc/reaper.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::testing::HasSubstr;

void ReapFiveChildren() {
  // clang-format off
Reaper reaper = *Reaper::Create();
for (int i = 0; i < 5; ++i) {
  Child child = *Fork({}, [i] { return i; });          // Runs in a process of its own.
  (void)reaper.Add(std::move(child), /*tag=*/i);
}
while (reaper.size() > 0) {
  (void)PollUntil(reaper.fd(), POLLIN, absl::InfiniteFuture());  // Or any event loop.
  while (auto exit = *reaper.Next()) {                 // Each end, exactly once.
    std::cout << "child " << exit->tag << " " << exit->status << "\n";
  }
}
  // clang-format on
}

TEST(ReadmeTest, ReapsFiveChildren) {
  testing::internal::CaptureStdout();
  ReapFiveChildren();
  const std::string said = testing::internal::GetCapturedStdout();
  for (const char* line : {"child 0 exited 0\n", "child 4 exited 4\n"}) {
    EXPECT_THAT(said, HasSubstr(line));
  }
}

}  // namespace
}  // namespace brood
