// SPDX-License-Identifier: Apache-2.0
#include "brood/signal/mask.h"

#include <unistd.h>

#include <array>
#include <csignal>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/signal/action.h"
#include "brood/signal/signal_set.h"
#include "brood/tests/in_child.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;

SignalSet Blocked() {
  const absl::StatusOr<SignalSet> current = SignalMask::Current();
  EXPECT_THAT(current, IsOk());
  return current.value_or(SignalSet());
}

volatile std::sig_atomic_t hangups = 0;

absl::Status InPeace(absl::FunctionRef<void()> reload) {
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGHUP});
  if (!mask.ok()) return mask.status();
  reload();
  return absl::OkStatus();
}

TEST(SignalMaskTest, HeaderExample) {
  const absl::StatusOr<SignalAction> count =
      SignalAction::Handle(SIGHUP, [](int) { hangups = hangups + 1; });
  ASSERT_THAT(count, IsOk());
  const absl::StatusOr<SignalMask> open = SignalMask::Unblock({SIGHUP});
  ASSERT_THAT(open, IsOk());
  hangups = 0;
  int hangups_inside = -1;
  EXPECT_THAT(InPeace([&] {
                EXPECT_EQ(raise(SIGHUP), 0);
                hangups_inside = hangups;
              }),
              IsOk());
  EXPECT_EQ(hangups_inside, 0);
  EXPECT_EQ(hangups, 1);  // It struck before InPeace returned.
}

TEST(SignalMaskTest, BlocksForItsScopeOnly) {
  const SignalSet before = Blocked();
  {
    const absl::StatusOr<SignalMask> mask =
        SignalMask::Block({SIGUSR1, SIGUSR2});
    ASSERT_THAT(mask, IsOk());
    EXPECT_EQ(Blocked(), (before | SignalSet{SIGUSR1, SIGUSR2}));
    EXPECT_EQ(mask->previous(), before);
  }
  EXPECT_EQ(Blocked(), before);
}

TEST(SignalMaskTest, UnblocksForItsScopeOnly) {
  const absl::StatusOr<SignalMask> outer =
      SignalMask::Block({SIGUSR1, SIGUSR2});
  ASSERT_THAT(outer, IsOk());
  const SignalSet before = Blocked();
  {
    const absl::StatusOr<SignalMask> mask = SignalMask::Unblock({SIGUSR1});
    ASSERT_THAT(mask, IsOk());
    EXPECT_EQ(Blocked(), before - SignalSet{SIGUSR1});
  }
  EXPECT_EQ(Blocked(), before);
}

TEST(SignalMaskTest, ReplacesForItsScopeOnly) {
  const absl::StatusOr<SignalMask> outer = SignalMask::Block({SIGUSR1});
  ASSERT_THAT(outer, IsOk());
  const SignalSet before = Blocked();
  {
    const absl::StatusOr<SignalMask> mask = SignalMask::Replace({SIGUSR2});
    ASSERT_THAT(mask, IsOk());
    EXPECT_EQ(Blocked(), SignalSet{SIGUSR2});
  }
  EXPECT_EQ(Blocked(), before);
}

TEST(SignalMaskTest, LeavesBlockedWhatWasBlockedBefore) {
  const absl::StatusOr<SignalMask> outer = SignalMask::Block({SIGUSR1});
  ASSERT_THAT(outer, IsOk());
  {
    const absl::StatusOr<SignalMask> inner =
        SignalMask::Block({SIGUSR1, SIGUSR2});
    ASSERT_THAT(inner, IsOk());
  }
  EXPECT_TRUE(Blocked().Contains(SIGUSR1));
  EXPECT_FALSE(Blocked().Contains(SIGUSR2));
}

TEST(SignalMaskTest, BlocksRealtimeSignals) {
  const absl::StatusOr<SignalSet> realtime =
      SignalSet::Of({SIGRTMIN, SIGRTMAX});
  ASSERT_THAT(realtime, IsOk());
  const absl::StatusOr<SignalMask> mask = SignalMask::Replace(*realtime);
  ASSERT_THAT(mask, IsOk());
  EXPECT_EQ(Blocked(), *realtime);
}

TEST(SignalMaskTest, CannotBlockKillAndStop) {
  const absl::StatusOr<SignalMask> mask = SignalMask::Block(SignalSet::All());
  ASSERT_THAT(mask, IsOk());
  EXPECT_EQ(Blocked(), (SignalSet::All() - SignalSet{SIGKILL, SIGSTOP}));
}

TEST(SignalMaskTest, RestoresNothingAfterItWasMovedFrom) {
  const SignalSet before = Blocked();
  absl::StatusOr<SignalMask> made = SignalMask::Block({SIGUSR1});
  ASSERT_THAT(made, IsOk());
  std::optional<SignalMask> from(*std::move(made));
  {
    const SignalMask to(*std::move(from));
    from.reset();
    EXPECT_TRUE(Blocked().Contains(SIGUSR1));
  }
  EXPECT_EQ(Blocked(), before);
}

TEST(SignalMaskTest, ChangesNoMaskWhenItGoesInAnotherThread) {
  std::optional<SignalMask> mask;
  SignalSet before;
  SignalSet after;
  const SignalSet ours = Blocked();
  std::thread maker([&] {
    absl::StatusOr<SignalMask> made = SignalMask::Block({SIGUSR1});
    ASSERT_THAT(made, IsOk());
    mask.emplace(*std::move(made));
    std::thread([&] {
      const absl::StatusOr<SignalMask> own = SignalMask::Replace({SIGUSR2});
      ASSERT_THAT(own, IsOk());
      before = Blocked();
      mask.reset();
      after = Blocked();
    }).join();
    EXPECT_TRUE(Blocked().Contains(SIGUSR1));
  });
  maker.join();
  EXPECT_EQ(before, SignalSet{SIGUSR2});
  EXPECT_EQ(after, before);
  EXPECT_EQ(Blocked(), ours);
}

TEST(SignalMaskTest, IsInheritedByAForkedChildWhichMayPutItsOwnBack) {
  const SignalSet before = Blocked();
  absl::StatusOr<SignalMask> made = SignalMask::Block({SIGUSR1});
  ASSERT_THAT(made, IsOk());
  std::optional<SignalMask> mask(*std::move(made));
  EXPECT_EQ(InChild([&] {
              if (!Blocked().Contains(SIGUSR1)) return 1;
              mask.reset();
              return Blocked() == before ? 0 : 2;
            }),
            0);
  EXPECT_TRUE(Blocked().Contains(SIGUSR1));
}

// The mask of a program that was started under `mask`, as the kernel tells it.
absl::StatusOr<std::string> BlockedAfterExec() {
  std::array<int, 2> ends;
  if (pipe(ends.data()) == -1) return ErrnoStatus(errno, "pipe");
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const pid_t child = StartInChild([&] {
    dup2(writer.get(), STDOUT_FILENO);
    execl("/bin/cat", "cat", "/proc/self/status", nullptr);
    return 127;
  });
  writer = UniqueFd();
  std::string output;
  std::array<char, 4096> buffer;
  ssize_t n;
  while ((n = RetryOnEintr([&] {
            return read(reader.get(), buffer.data(), buffer.size());
          })) > 0) {
    output.append(buffer.data(), static_cast<size_t>(n));
  }
  EXPECT_EQ(WaitForChild(child), 0);
  for (const absl::string_view line : absl::StrSplit(output, '\n')) {
    const std::pair<std::string, std::string> field =
        absl::StrSplit(line, absl::MaxSplits(":\t", 1));
    if (field.first == "SigBlk") return field.second;
  }
  return absl::NotFoundError("SigBlk");
}

TEST(SignalMaskTest, SurvivesExec) {
  const absl::StatusOr<SignalMask> mask = SignalMask::Replace({SIGUSR1});
  ASSERT_THAT(mask, IsOk());
  EXPECT_THAT(BlockedAfterExec(), IsOkAndHolds("0000000000000200"));
}

}  // namespace
}  // namespace brood
