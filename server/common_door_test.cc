// SPDX-License-Identifier: Apache-2.0
#include "brood/server/common_door.h"

#include <sys/types.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/signal/action.h"
#include "brood/signal/mask.h"
#include "brood/signal/wakeup_fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::testing::Eq;
using ::testing::Optional;

constexpr absl::Duration kLong = absl::Seconds(30);
constexpr absl::Duration kNow = absl::ZeroDuration();

// In a forked child: the first client that it gets.
std::optional<Accepted> Next(CommonDoor& door,
                             std::vector<Listener>& listeners) {
  while (const auto at = door.Wait(absl::InfiniteDuration())) {
    absl::StatusOr<std::optional<Accepted>> client = listeners[*at].Accept();
    door.LookAgain(*at);
    if (client.ok() && client->has_value()) return *std::move(client);
  }
  return std::nullopt;  // A signal has come.
}

class CommonDoorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 2; ++i) {
      absl::StatusOr<Listener> listener =
          Listener::Open(*Address::Parse("127.0.0.1:0"));
      ASSERT_THAT(listener, IsOk());
      listeners_.push_back(*std::move(listener));
    }
    absl::StatusOr<CommonDoor> door = CommonDoor::Create(listeners_);
    ASSERT_THAT(door, IsOk());
    door_.emplace(*std::move(door));
  }

  Stream Come(size_t listener) {
    absl::StatusOr<Stream> client =
        Stream::Connect(listeners_[listener].address());
    EXPECT_THAT(client, IsOk());
    return *std::move(client);
  }

  std::vector<Listener> listeners_;
  std::optional<CommonDoor> door_;
};

TEST_F(CommonDoorTest, SaysAtWhichListenerAClientIs) {
  EXPECT_EQ(door_->Wait(kNow), std::nullopt);
  const Stream second = Come(1);
  EXPECT_THAT(door_->Wait(kLong), Optional(Eq(1)));
  const Stream first = Come(0);
  EXPECT_THAT(door_->Wait(kLong), Optional(Eq(0)));
}

TEST_F(CommonDoorTest, SaysItOnceToAllWhoWait) {
  const Stream client = Come(0);
  EXPECT_THAT(door_->Wait(kLong), Optional(Eq(0)));
  EXPECT_EQ(door_->Wait(kNow), std::nullopt);
}

TEST_F(CommonDoorTest, SaysItAgainIfOneIsLeftWhenAskedToLookAgain) {
  const Stream one = Come(0);
  const Stream other = Come(0);
  EXPECT_THAT(door_->Wait(kLong), Optional(Eq(0)));
  EXPECT_THAT(listeners_[0].Accept(), IsOk());
  door_->LookAgain(0);
  EXPECT_THAT(door_->Wait(kLong), Optional(Eq(0)));
  EXPECT_THAT(listeners_[0].Accept(), IsOk());
  door_->LookAgain(0);
  EXPECT_EQ(door_->Wait(kNow), std::nullopt);
}

TEST_F(CommonDoorTest, GivesEachOfManyClientsToOneOfManyWhoWait) {
  constexpr int kMany = 20;
  std::vector<Child> waiting;
  for (int i = 0; i < kMany; ++i) {
    absl::StatusOr<Child> child =
        Fork({.parent_death_signal = SIGKILL}, [this] {
          const std::optional<Accepted> client = Next(*door_, listeners_);
          return client.has_value() && client->stream.fd() != -1 ? 0 : 1;
        });
    ASSERT_THAT(child, IsOk());
    waiting.push_back(*std::move(child));
  }
  std::vector<Stream> clients;
  for (int i = 0; i < kMany; ++i) clients.push_back(Come(i % 2));
  for (Child& child : waiting) {
    const absl::StatusOr<ExitStatus> status = child.Wait();
    ASSERT_THAT(status, IsOk());
    EXPECT_TRUE(status->success()) << status->ToString();
  }
  for (Listener& listener : listeners_) {
    const absl::StatusOr<std::optional<Accepted>> left = listener.Accept();
    ASSERT_THAT(left, IsOk());
    EXPECT_FALSE(left->has_value());
  }
}

TEST_F(CommonDoorTest, WakesAnotherForAClientWhoseWaiterHasEnded) {
  const Stream client = Come(0);
  absl::StatusOr<Child> child = Fork({.parent_death_signal = SIGKILL}, [this] {
    return door_->Wait(absl::InfiniteDuration()).has_value() ? 0 : 1;
  });
  ASSERT_THAT(child, IsOk());
  const absl::StatusOr<ExitStatus> status = child->Wait();
  ASSERT_THAT(status, IsOk());
  ASSERT_TRUE(status->success());
  EXPECT_EQ(door_->Wait(kNow), std::nullopt);
  door_->LookEverywhereAgain();
  EXPECT_THAT(door_->Wait(kNow), Optional(Eq(0)));
  EXPECT_EQ(door_->Wait(kNow), std::nullopt);
}

TEST_F(CommonDoorTest, LooksEverywhereAgainWhetherOrNotSomebodyHasLooked) {
  const Stream first = Come(0);
  const Stream second = Come(1);
  door_->LookEverywhereAgain();
  EXPECT_TRUE(door_->Wait(kNow).has_value());
  EXPECT_TRUE(door_->Wait(kNow).has_value());
  EXPECT_EQ(door_->Wait(kNow), std::nullopt);
}

TEST_F(CommonDoorTest, TellsEverybodyThatItCloses) {
  absl::StatusOr<WakeupFd> bell = WakeupFd::Create();
  ASSERT_THAT(bell, IsOk());
  std::vector<Child> waiting;
  for (int i = 0; i < 5; ++i) {
    absl::StatusOr<Child> child =
        Fork({.parent_death_signal = SIGKILL}, [this] {
          return door_->Wait(absl::InfiniteDuration()) == CommonDoor::kClosing
                     ? 0
                     : 1;
        });
    ASSERT_THAT(child, IsOk());
    waiting.push_back(*std::move(child));
  }
  bell->Wake();
  ASSERT_THAT(door_->Close(bell->fd()), IsOk());
  for (Child& child : waiting) {
    const absl::StatusOr<ExitStatus> status = child.Wait();
    ASSERT_THAT(status, IsOk());
    EXPECT_TRUE(status->success()) << status->ToString();
  }
  EXPECT_THAT(door_->Wait(kNow), Optional(Eq(CommonDoor::kClosing)));
}

volatile std::sig_atomic_t told = 0;

TEST_F(CommonDoorTest, LetsInASignalThatIsBlockedOnlyWhileItWaits) {
  told = 0;
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGURG});
  ASSERT_THAT(mask, IsOk());
  const absl::StatusOr<SignalAction> action =
      SignalAction::Handle(SIGURG, [](int) { told = 1; }, {.restart = false});
  ASSERT_THAT(action, IsOk());
  ASSERT_EQ(kill(getpid(), SIGURG), 0);
  EXPECT_EQ(door_->Wait(kNow), std::nullopt);
  EXPECT_EQ(told, 0);
  EXPECT_EQ(door_->Wait(kLong, mask->previous()), std::nullopt);
  EXPECT_EQ(told, 1);
}

TEST_F(CommonDoorTest, WaitsNoLongerThanAsked) {
  const absl::Time begin = absl::Now();
  EXPECT_EQ(door_->Wait(absl::Milliseconds(2)), std::nullopt);
  EXPECT_GE(absl::Now() - begin, absl::Milliseconds(1));
}

TEST_F(CommonDoorTest, CannotBeMadeOfAListenerThatIsClosed) {
  ASSERT_THAT(listeners_[1].Close(), IsOk());
  EXPECT_FALSE(CommonDoor::Create(listeners_).ok());
}

}  // namespace
}  // namespace brood
