// SPDX-License-Identifier: Apache-2.0
#include "brood/server/worker_doors.h"

#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
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
#include "brood/server/common_door.h"
#include "brood/signal/action.h"
#include "brood/signal/mask.h"
#include "brood/signal/signal_set.h"
#include "brood/signal/wakeup_fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr absl::Duration kLong = absl::Seconds(30);
constexpr absl::Duration kNow = absl::ZeroDuration();

// Serves until it is called off; `serve` says whether at a listener somebody
// was.
void ServeUntilCalledOff(WorkerDoors& doors,
                         absl::FunctionRef<bool(size_t listener)> serve) {
  while (!doors.called_off()) {
    const absl::InlinedVector<size_t, 8> woken =
        doors.Wait(absl::InfiniteDuration());
    for (const size_t listener : woken) serve(listener);
  }
}

class WorkerDoorsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 2; ++i) {
      absl::StatusOr<Listener> listener =
          Listener::Open(*Address::Parse("127.0.0.1:0"));
      ASSERT_THAT(listener, IsOk());
      listeners_.push_back(*std::move(listener));
    }
    absl::StatusOr<WakeupFd> bell = WakeupFd::Create();
    ASSERT_THAT(bell, IsOk());
    bell_.emplace(*std::move(bell));
  }

  OwnDoors Own() { return OwnDoors(listeners_, *bell_); }
  SharedDoors Shared() {
    absl::StatusOr<CommonDoor> door = CommonDoor::Create(listeners_);
    EXPECT_THAT(door, IsOk());
    return SharedDoors(*std::move(door));
  }
  Stream Come(size_t listener) {
    absl::StatusOr<Stream> client =
        Stream::Connect(listeners_[listener].address());
    EXPECT_THAT(client, IsOk());
    return *std::move(client);
  }

  std::vector<Listener> listeners_;
  std::optional<WakeupFd> bell_;
};

TEST_F(WorkerDoorsTest, SayWhereAClientIs) {
  OwnDoors own = Own();
  SharedDoors shared = Shared();
  for (WorkerDoors* const doors :
       {static_cast<WorkerDoors*>(&own), static_cast<WorkerDoors*>(&shared)}) {
    ASSERT_THAT(doors->Open(), IsOk());
    EXPECT_THAT(doors->Wait(kNow), IsEmpty());
    const Stream client = Come(1);
    EXPECT_THAT(doors->Wait(kLong), ElementsAre(1));
    EXPECT_THAT(listeners_[1].Accept(), IsOk());
    doors->Accepted(1);
    EXPECT_THAT(doors->Wait(kNow), IsEmpty());
    doors->Leave();
  }
}

TEST_F(WorkerDoorsTest, AreQuietWhileTheirWorkerPauses) {
  OwnDoors own = Own();
  SharedDoors shared = Shared();
  for (WorkerDoors* const doors :
       {static_cast<WorkerDoors*>(&own), static_cast<WorkerDoors*>(&shared)}) {
    ASSERT_THAT(doors->Open(), IsOk());
    const Stream client = Come(0);
    const absl::Time begin = absl::Now();
    EXPECT_THAT(doors->Pause(absl::Milliseconds(3)), IsOk());
    EXPECT_GE(absl::Now() - begin, absl::Milliseconds(2));
    EXPECT_THAT(doors->Wait(kLong), ElementsAre(0));
    EXPECT_THAT(listeners_[0].Accept(), IsOk());
    doors->Leave();
  }
}

TEST_F(WorkerDoorsTest, OfItsOwnHearTheBell) {
  OwnDoors doors = Own();
  ASSERT_THAT(doors.Open(), IsOk());
  bell_->Wake();
  EXPECT_THAT(doors.Wait(kLong), IsEmpty());
  bell_->Wake();  // It is an edge: nobody has taken the last one.
  EXPECT_THAT(doors.Wait(kLong), IsEmpty());
  bell_->Wake();
  EXPECT_THAT(doors.Pause(kLong), IsOk());
  EXPECT_FALSE(doors.called_off());
}

TEST_F(WorkerDoorsTest, OfItsOwnLeaveClientsToOthersWhileItStepsAside) {
  OwnDoors doors = Own();
  ASSERT_THAT(doors.Open(), IsOk());
  const Stream client = Come(0);
  doors.StepAside();
  EXPECT_THAT(doors.Wait(kNow), IsEmpty());
  ASSERT_THAT(doors.StepBack(), IsOk());
  EXPECT_THAT(doors.Wait(kLong), ElementsAre(0));
  doors.Unwatch(0);
  EXPECT_THAT(doors.Wait(kNow), IsEmpty());
}

TEST_F(WorkerDoorsTest, OfItsOwnForgetAListenerThatIsClosed) {
  OwnDoors doors = Own();
  ASSERT_THAT(doors.Open(), IsOk());
  doors.Unwatch(0);
  ASSERT_THAT(listeners_[0].Close(), IsOk());
  doors.StepAside();
  ASSERT_THAT(doors.StepBack(), IsOk());
  const Stream client = Come(1);
  EXPECT_THAT(doors.Wait(kLong), ElementsAre(1));
}

TEST_F(WorkerDoorsTest, SharedAreCalledOffBeforeOrWhileTheyWait) {
  for (const bool before : {true, false}) {
    SharedDoors doors = Shared();
    absl::StatusOr<Child> child = Fork({.parent_death_signal = SIGKILL}, [&] {
      if (!doors.Open().ok()) return 2;
      if (before) (void)kill(getpid(), SIGURG);
      if (doors.called_off()) return 3;  // Not while it does something else.
      ServeUntilCalledOff(doors, [](size_t) { return true; });
      return 0;
    });
    ASSERT_THAT(child, IsOk());
    std::optional<ExitStatus> ended;
    while (!ended.has_value()) {
      // One that comes before it is ready does nothing.
      if (!before) {
        EXPECT_THAT(child->Signal(SIGURG), IsOk());
      }
      const auto status = child->WaitUntil(absl::Now() + absl::Milliseconds(5));
      ASSERT_THAT(status, IsOk());
      ended = *status;
    }
    EXPECT_TRUE(ended->success()) << ended->ToString();
  }
}

TEST_F(WorkerDoorsTest, SharedAreCalledOffWhileTheyPause) {
  SharedDoors doors = Shared();
  ASSERT_THAT(doors.Open(), IsOk());
  ASSERT_EQ(kill(getpid(), SIGURG), 0);
  EXPECT_THAT(doors.Pause(kLong), IsOk());
  EXPECT_TRUE(doors.called_off());
  doors.Leave();
}

TEST_F(WorkerDoorsTest, SharedAreCalledOffHoweverManyClientsThereAre) {
  SharedDoors doors = Shared();
  ASSERT_THAT(doors.Open(), IsOk());
  const Stream client = Come(0);
  ASSERT_EQ(kill(getpid(), SIGURG), 0);
  EXPECT_THAT(doors.Wait(kLong), IsEmpty());
  EXPECT_TRUE(doors.called_off());
  doors.Leave();
}

TEST_F(WorkerDoorsTest, SharedSayThatTheyAreClosing) {
  absl::StatusOr<CommonDoor> door = CommonDoor::Create(listeners_);
  ASSERT_THAT(door, IsOk());
  bell_->Wake();
  ASSERT_THAT(door->Close(bell_->fd()), IsOk());
  SharedDoors doors(*std::move(door));
  ASSERT_THAT(doors.Open(), IsOk());
  EXPECT_FALSE(doors.closing());
  EXPECT_THAT(doors.Wait(kLong), IsEmpty());
  EXPECT_TRUE(doors.closing());
  EXPECT_FALSE(doors.called_off());
  doors.Leave();
}

TEST_F(WorkerDoorsTest, SharedLeaveTheSignalAsTheyFoundIt) {
  SharedDoors doors = Shared();
  ASSERT_THAT(doors.Open(), IsOk());
  EXPECT_THAT(DispositionOf(SIGURG), IsOkAndHolds(Disposition::kHandled));
  ASSERT_EQ(kill(getpid(), SIGURG), 0);  // Pending, and lost.
  doors.Leave();
  EXPECT_THAT(DispositionOf(SIGURG), IsOkAndHolds(Disposition::kDefault));
  const absl::StatusOr<SignalSet> blocked = SignalMask::Current();
  ASSERT_THAT(blocked, IsOk());
  EXPECT_FALSE(blocked->Contains(SIGURG));
}

}  // namespace
}  // namespace brood
