// SPDX-License-Identifier: Apache-2.0
#include "brood/signal/signal_set.h"

#include <csignal>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Property;

constexpr SignalSet kStop = {SIGINT, SIGTERM};

absl::StatusOr<SignalSet> Watched(int reload) {
  SignalSet watched = kStop | SignalSet{SIGCHLD};
  const absl::Status added = watched.Add(reload);
  if (!added.ok()) return added;
  watched.Remove(SIGINT);
  return watched;
}

TEST(SignalSetTest, HeaderExample) {
  EXPECT_THAT(
      Watched(SIGUSR2),
      IsOkAndHolds(Property(&SignalSet::ToString, "SIGUSR2 SIGTERM SIGCHLD")));
  EXPECT_THAT(Watched(99),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("99")));
}

TEST(SignalSetTest, IsEmptyUnlessToldOtherwise) {
  EXPECT_TRUE(SignalSet().empty());
  EXPECT_EQ(SignalSet().ToString(), "");
  EXPECT_EQ(SignalSet(), SignalSet{});
}

TEST(SignalSetTest, ContainsWhatWasAddedUntilItIsRemoved) {
  SignalSet set;
  ASSERT_THAT(set.Add(SIGRTMIN + 3), IsOk());
  ASSERT_THAT(set.Add(SIGHUP), IsOk());
  ASSERT_THAT(set.Add(SIGHUP), IsOk());
  EXPECT_TRUE(set.Contains(SIGHUP));
  EXPECT_TRUE(set.Contains(SIGRTMIN + 3));
  EXPECT_FALSE(set.Contains(SIGINT));
  EXPECT_THAT(set.ToVector(), ElementsAre(SIGHUP, SIGRTMIN + 3));
  set.Remove(SIGHUP);
  set.Remove(SIGHUP);
  EXPECT_EQ(set.ToString(), "SIGRTMIN+3");
}

TEST(SignalSetTest, HoldsNoNumberThatIsNoSignal) {
  SignalSet set = {SIGHUP};
  for (const int signo : {-1, 0, 32, 33, 65, 1000}) {
    SCOPED_TRACE(signo);
    EXPECT_THAT(set.Add(signo), StatusIs(absl::StatusCode::kInvalidArgument));
    set.Remove(signo);
    EXPECT_FALSE(set.Contains(signo));
    EXPECT_THAT(SignalSet::Of({SIGINT, signo}),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
  EXPECT_EQ(set, SignalSet{SIGHUP});
}

TEST(SignalSetTest, IsMadeOfNumbersKnownAtRunTime) {
  const int first_realtime = SIGRTMIN;
  EXPECT_THAT(SignalSet::Of({SIGHUP, first_realtime}),
              IsOkAndHolds(Property(&SignalSet::ToVector,
                                    ElementsAre(SIGHUP, first_realtime))));
}

TEST(SignalSetTest, UnitesAndSubtracts) {
  EXPECT_EQ((SignalSet{SIGINT, SIGHUP} | SignalSet{SIGINT, SIGTERM}),
            (SignalSet{SIGHUP, SIGINT, SIGTERM}));
  EXPECT_EQ((SignalSet{SIGINT, SIGHUP} - SignalSet{SIGINT, SIGTERM}),
            SignalSet{SIGHUP});
}

TEST(SignalSetTest, AllIsWhatTheCLibraryFillsASetWith) {
  sigset_t full;
  sigfillset(&full);
  EXPECT_EQ(SignalSet::FromNative(full), SignalSet::All());
  const sigset_t all = SignalSet::All().native();
  for (int signo = 1; signo <= 64; ++signo) {
    EXPECT_EQ(sigismember(&all, signo), sigismember(&full, signo)) << signo;
  }
  EXPECT_TRUE(SignalSet::All().Contains(SIGKILL));
}

TEST(SignalSetTest, SurvivesTheWayToTheNativeSetAndBack) {
  for (const int signo : SignalSet::All().ToVector()) {
    const absl::StatusOr<SignalSet> set = SignalSet::Of({signo});
    ASSERT_THAT(set, IsOk());
    const sigset_t native = set->native();
    EXPECT_EQ(sigismember(&native, signo), 1);
    EXPECT_EQ(SignalSet::FromNative(native), *set);
  }
}

TEST(SignalSetTest, SaysInOneSentenceWhatNobodyReceives) {
  EXPECT_THAT(CheckReceivable({}), IsOk());
  EXPECT_THAT(CheckReceivable(SignalSet::All() - kKillAndStop), IsOk());
  EXPECT_THAT(CheckReceivable({SIGKILL, SIGTERM}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "no program can handle, ignore, block or read SIGKILL "
                       "and SIGSTOP; asked for: SIGKILL SIGTERM"));
  EXPECT_THAT(CheckReceivable({SIGSTOP}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace brood
