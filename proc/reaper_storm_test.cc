// SPDX-License-Identifier: Apache-2.0
// The Reaper under more children, and more ends at once, than any program has.
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_queue.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/proc/process_table.h"
#include "brood/proc/reaper.h"
#include "brood/tests/gate.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::testing::IsEmpty;

// A sanitizer makes each fork some twenty times as dear.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kMany = 1000;
#else
constexpr int kMany = 20000;
#endif

class ReaperStormTest : public testing::Test {
 protected:
  ReaperStormTest() {
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &before_), 0);
    const rlimit now = {
        .rlim_cur = std::min<rlim_t>(kDescriptors, before_.rlim_max),
        .rlim_max = before_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &now), 0);
  }
  ~ReaperStormTest() override {
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &before_), 0);
  }

  static constexpr rlim_t kDescriptors = 20000;

  rlimit before_ = {};
  Reaper reaper_ = *Reaper::Create(*ExitQueue::Create());
};

// The status that a child is told to end with: an exit code, or by a signal.
ExitStatus Expected(int fate) {
  return fate < 256 ? ExitStatus::Exited(fate) : ExitStatus::Killed(fate - 256);
}

int Meet(int fate) {
  if (fate >= 256) (void)raise(fate - 256);
  return fate;
}

// Reports until there is no child left, each child once and by its fate.
void ExpectFates(Reaper& reaper, std::map<uint64_t, int>& fates) {
  while (!fates.empty()) {
    const absl::StatusOr<std::optional<Reaper::Exit>> exit = reaper.Next();
    ASSERT_THAT(exit, IsOk());
    if (!exit->has_value()) {
      ASSERT_THAT(PollUntil(reaper.fd(), POLLIN, absl::InfiniteFuture()),
                  IsOkAndHolds(true));
      continue;
    }
    const auto it = fates.find((*exit)->tag);
    ASSERT_NE(it, fates.end()) << (*exit)->tag << " was reported twice";
    EXPECT_EQ((*exit)->status, Expected(it->second));
    fates.erase(it);
  }
  EXPECT_EQ(reaper.size(), 0);
  EXPECT_THAT(reaper.Next(), IsOkAndHolds(std::nullopt));
  EXPECT_THAT(ProcessTable().ChildrenOf(getpid()), IsOkAndHolds(IsEmpty()));
}

TEST_F(ReaperStormTest, ReportsTwentyThousandChildrenThatEndTogether) {
  Gate gate;
  const int kept = gate.read_fd();
  std::map<uint64_t, int> fates;
  for (int i = 0; i < kMany; ++i) {
    absl::StatusOr<Child> child =
        Fork({.exit_signal = reaper_.exit_signal(),
              .keep_fds = absl::MakeConstSpan(&kept, 1)},
             [&, i] {
               gate.Wait();
               return i % 256;
             });
    if (ErrnoOf(child.status()) == EAGAIN ||
        ErrnoOf(child.status()) == ENOMEM) {
      gate.Open();
      ExpectFates(reaper_, fates);
      GTEST_SKIP() << "there is room for no more than " << i
                   << " children: " << child.status();
    }
    ASSERT_THAT(child, IsOk());
    ASSERT_THAT(reaper_.Add(*std::move(child), i), IsOk());
    fates[i] = i % 256;
  }
  EXPECT_EQ(reaper_.size(), kMany);
  gate.Open();
  ExpectFates(reaper_, fates);
}

// Run fifty times by --config=soak, which makes a million.
TEST_F(ReaperStormTest, ReportsTwentyThousandEndsInStormsOfAnySize) {
  constexpr int kLargestStorm = 2000;
  std::mt19937 random(std::random_device{}());
  for (int left = kMany; left > 0;) {
    std::uniform_int_distribution<int> storm(1, std::min(left, kLargestStorm));
    // One in four is killed; neither leaves a core.
    std::uniform_int_distribution<int> code(0, 340);
    const int size = storm(random);
    Gate gate;
    const int kept = gate.read_fd();
    // Some storms break loose at once, some as each child is made.
    const bool together = random() % 2 == 0;
    std::map<uint64_t, int> fates;
    for (int i = 0; i < size; ++i) {
      int fate = code(random);
      if (fate >= 256) fate = 256 + (fate % 2 == 0 ? SIGKILL : SIGTERM);
      absl::StatusOr<Child> child =
          Fork({.exit_signal = reaper_.exit_signal(),
                .keep_fds = absl::MakeConstSpan(&kept, 1)},
               [&] {
                 if (together) gate.Wait();
                 return Meet(fate);
               });
      ASSERT_THAT(child, IsOk());
      ASSERT_THAT(reaper_.Add(*std::move(child), i), IsOk());
      fates[i] = fate;
    }
    gate.Open();
    ExpectFates(reaper_, fates);
    left -= size;
  }
}

}  // namespace
}  // namespace brood
