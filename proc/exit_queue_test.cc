// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/exit_queue.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/proc/reaper.h"
#include "brood/tests/gate.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::HasSubstr;

absl::StatusOr<Reaper> MakeReaper() {
  absl::StatusOr<ExitQueue> queue = ExitQueue::Create();
  if (!queue.ok()) return Reaper::Create();  // By pidfds alone.
  return Reaper::Create(*std::move(queue));
}

absl::Status Start(Reaper& reaper, absl::FunctionRef<int()> body) {
  absl::StatusOr<Child> child =
      Fork({.exit_signal = reaper.exit_signal()}, body);
  if (!child.ok()) return child.status();
  return reaper.Add(*std::move(child), /*tag=*/0);
}

ExitQueue MakeQueue() {
  absl::StatusOr<ExitQueue> queue = ExitQueue::Create();
  EXPECT_THAT(queue, IsOk());
  return *std::move(queue);
}

Child MustFork(const ExitQueue& queue, absl::FunctionRef<int()> body) {
  absl::StatusOr<Child> child = Fork({.exit_signal = queue.signo()}, body);
  EXPECT_THAT(child, IsOk());
  return *std::move(child);
}

bool Readable(const ExitQueue& queue) {
  return *PollUntil(queue.fd(), POLLIN, absl::InfinitePast());
}

bool Blocked(int signo) {
  sigset_t mask;
  sigprocmask(SIG_BLOCK, nullptr, &mask);
  return sigismember(&mask, signo) == 1;
}

TEST(ExitQueueTest, HeaderExample) {
  absl::StatusOr<Reaper> reaper = MakeReaper();
  ASSERT_THAT(reaper, IsOk());
  ASSERT_THAT(Start(*reaper, [] { return 3; }), IsOk());
  ASSERT_THAT(PollUntil(reaper->fd(), POLLIN, absl::InfiniteFuture()),
              IsOkAndHolds(true));
  const absl::StatusOr<std::optional<Reaper::Exit>> exit = reaper->Next();
  ASSERT_THAT(exit, IsOk());
  EXPECT_EQ((*exit)->status, ExitStatus::Exited(3));
}

TEST(ExitQueueTest, HasOneEntryForEachEndHoweverManyComeTogether) {
  ExitQueue queue = MakeQueue();
  Gate gate;
  std::vector<Child> children;
  std::set<pid_t> expected;
  for (int i = 0; i < 100; ++i) {
    children.push_back(MustFork(queue, [&] {
      gate.Wait();
      return 0;
    }));
    expected.insert(children.back().pid());
  }
  EXPECT_FALSE(Readable(queue));
  EXPECT_EQ(queue.Next(), std::nullopt);
  gate.Open();
  for (Child& child : children) EXPECT_THAT(child.Wait(), IsOk());
  std::set<pid_t> announced;
  while (Readable(queue)) announced.insert(*queue.Next());
  EXPECT_EQ(announced, expected);
  EXPECT_EQ(queue.Next(), std::nullopt);
  EXPECT_FALSE(queue.MayHaveLost());
}

TEST(ExitQueueTest, IsNotTakenInByASignalThatSomebodySends) {
  ExitQueue queue = MakeQueue();
  ASSERT_EQ(sigqueue(getpid(), queue.signo(), {.sival_int = 1}), 0);
  ASSERT_EQ(kill(getpid(), queue.signo()), 0);
  EXPECT_EQ(queue.Next(), std::nullopt);
}

TEST(ExitQueueTest, TakesAnotherSignalThanOneThatIsInUse) {
  const ExitQueue first = MakeQueue();
  const ExitQueue second = MakeQueue();
  EXPECT_NE(first.signo(), second.signo());
  EXPECT_TRUE(Blocked(first.signo()));
  EXPECT_TRUE(Blocked(second.signo()));
}

TEST(ExitQueueTest, PutsMaskAndDispositionBackWithNothingPending) {
  int signo;
  {
    const ExitQueue queue = MakeQueue();
    signo = queue.signo();
    EXPECT_THAT(MustFork(queue, [] { return 0; }).Wait(), IsOk());
    EXPECT_TRUE(Readable(queue));
  }
  EXPECT_FALSE(Blocked(signo));
  struct sigaction action = {};
  ASSERT_EQ(sigaction(signo, nullptr, &action), 0);
  EXPECT_EQ(action.sa_handler, SIG_DFL);
}

TEST(ExitQueueTest, IsInertInAForkedCopy) {
  std::optional<ExitQueue> queue = MakeQueue();
  Child copy = MustFork(*queue, [&] {
    queue.reset();
    return Blocked(SIGRTMAX) ? 1 : 0;
  });
  EXPECT_THAT(copy.Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
  EXPECT_EQ(queue->Next(), copy.pid());
}

TEST(ExitQueueTest, GoesOnAfterBeingMoved) {
  ExitQueue first = MakeQueue();
  ExitQueue second = std::move(first);
  Child child = MustFork(second, [] { return 0; });
  EXPECT_THAT(child.Wait(), IsOk());
  EXPECT_EQ(second.Next(), child.pid());
}

TEST(ExitQueueTest, SaysWhenEverySignalIsInUse) {
  sigset_t realtime;
  sigset_t before;
  sigemptyset(&realtime);
  for (int signo = SIGRTMIN; signo <= SIGRTMAX; ++signo) {
    sigaddset(&realtime, signo);
  }
  sigprocmask(SIG_BLOCK, &realtime, &before);
  EXPECT_THAT(ExitQueue::Create().status(),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("SIGRTMIN to SIGRTMAX")));
  sigprocmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace
}  // namespace brood
