// SPDX-License-Identifier: Apache-2.0
#include "brood/server/flood_shield.h"

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/address_range.h"
#include "brood/net/listener.h"
#include "brood/net/source_key.h"
#include "brood/net/syn_filter.h"
#include "brood/proc/posix.h"
#include "brood/server/connection_log.h"
#include "brood/server/flood_guard.h"
#include "brood/server/poll_loop.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

using Ranges = std::vector<AddressRange>;

class FloodShieldTest : public testing::Test {
 protected:
  FloodShieldTest() {
    shield_.OnEvent(
        [this](const LogEvent& event) { told_.push_back(event.sentence); });
  }
  void Start() {
    shield_.Start(loop_, {.drop =
                              [this](absl::Span<const AddressRange> sources) {
                                if (!answer_.ok()) return answer_;
                                dropped_.emplace_back(sources.begin(),
                                                      sources.end());
                                if (sources.size() == stop_at_) loop_.Stop();
                                return absl::OkStatus();
                              },
                          .dropped = [this] { return Knocks(); }});
  }
  void Flood() {
    for (int i = 0; i < 3; ++i) shield_.Count(flooder_);
  }

  // All there have been, when asked again.
  uint32_t Knocks() {
    if (knocks_.empty()) return seen_;
    seen_ += knocks_.front();
    knocks_.pop_front();
    return seen_;
  }

  const SourceKey flooder_ = SourceKey::Of(*Address::Parse("192.0.2.7:1"));
  const AddressRange range_ = *AddressRange::Parse("192.0.2.7");
  PollLoop loop_;
  FloodShield shield_{3};
  absl::Status answer_;
  size_t stop_at_ = 0;  // Once so many are dropped.
  std::deque<uint32_t> knocks_;
  uint32_t seen_ = ~uint32_t{0};  // The next turns over.
  std::vector<Ranges> dropped_;
  std::vector<std::string> told_;
};

void Protect(const std::vector<Listener>& doors, FloodShield& shield,
             PollLoop& loop) {
  shield.Start(loop, {.drop =
                          [&](absl::Span<const AddressRange> sources) {
                            return DropSynsFrom(doors, sources);
                          },
                      .dropped = [&] { return PacketsDroppedAt(doors); }});
}

TEST_F(FloodShieldTest, ProtectsAllDoors) {
  std::vector<Listener> doors;
  doors.push_back(*Listener::Open(*Address::Parse("127.0.0.1:0")));
  Protect(doors, shield_, loop_);
  Flood();
  // By the filter, or by what is said of a kernel that will not have it.
  EXPECT_THAT(told_, ElementsAre(HasSubstr("shut out")));
}

TEST_F(FloodShieldTest, DropsAFloodAndHearsItsSourceAgainInTime) {
  Start();
  EXPECT_EQ(shield_.threshold(), 3U);
  shield_.Count(flooder_);
  EXPECT_THAT(dropped_, IsEmpty());
  EXPECT_EQ(shield_.Explain(flooder_), "");
  Flood();
  EXPECT_THAT(dropped_, ElementsAre(ElementsAre(range_)));
  EXPECT_THAT(told_, ElementsAre("shut out 192.0.2.7 for 900ms: 3 turned away "
                                 "within a second"));
  EXPECT_THAT(shield_.Explain(flooder_), StartsWith("shut out: for "));
  const absl::Duration began = MonotonicNow();
  ASSERT_THAT(loop_.Run(), IsOk());  // Until nobody is dropped any more.
  EXPECT_LE(MonotonicNow() - began, absl::Seconds(5));
  EXPECT_THAT(dropped_, ElementsAre(ElementsAre(range_), IsEmpty()));
  EXPECT_EQ(shield_.Explain(flooder_), "");
}

TEST_F(FloodShieldTest, DoesNotHearAFloodThatGoesOn) {
  Start();
  knocks_ = {7, 2000, 3, 0};  // The first before anybody was shut out.
  Flood();
  const absl::Duration began = MonotonicNow();
  ASSERT_THAT(loop_.Run(), IsOk());
  EXPECT_GE(MonotonicNow() - began, 3 * FloodGuard::kFirst);
  EXPECT_THAT(dropped_, ElementsAre(ElementsAre(range_), IsEmpty()));
  EXPECT_THAT(told_,
              ElementsAre("shut out 192.0.2.7 for 900ms: 3 turned away within "
                          "a second",
                          "shut out 192.0.2.7 as long as it goes on: 2000 "
                          "dropped since"));
}

TEST_F(FloodShieldTest, SaysOfWhoWentOnThatHeDid) {
  Start();
  Flood();
  ASSERT_THAT(loop_.Run(), IsOk());
  Flood();
  ASSERT_THAT(told_, SizeIs(2));
  EXPECT_EQ(told_.back(),
            "shut out 192.0.2.7 for 1.8s: it went on after it had been shut "
            "out");
  EXPECT_THAT(shield_.Explain(flooder_), HasSubstr(": it went on"));
  EXPECT_TRUE(shield_.Forget(flooder_));
}

TEST_F(FloodShieldTest, HearsEachSourceInItsOwnTime) {
  Start();
  Flood();
  ASSERT_THAT(loop_.Run(), IsOk());
  Flood();  // For 1.8 s.
  const SourceKey other = SourceKey::Of(*Address::Parse("192.0.2.8:1"));
  for (int i = 0; i < 3; ++i) shield_.Count(other);  // For 0.9 s.
  const absl::Duration began = MonotonicNow();
  ASSERT_THAT(loop_.Run(), IsOk());
  EXPECT_LE(MonotonicNow() - began, absl::Seconds(8));
  const AddressRange both = *AddressRange::Parse("192.0.2.8");
  EXPECT_THAT(
      dropped_,
      ElementsAre(ElementsAre(range_), IsEmpty(), ElementsAre(range_),
                  ElementsAre(range_, both), ElementsAre(range_), IsEmpty()));
}

TEST_F(FloodShieldTest, HoldsBackUntilToldOtherwise) {
  Start();
  EXPECT_FALSE(shield_.holds());
  shield_.Hold(flooder_);
  shield_.Hold(flooder_);
  EXPECT_TRUE(shield_.holds());
  shield_.LetGo(SourceKey::Of(*Address::Parse("192.0.2.8:1")));
  shield_.LetGo(flooder_);
  EXPECT_FALSE(shield_.holds());
  shield_.Hold(flooder_);
  EXPECT_THAT(dropped_,
              ElementsAre(ElementsAre(range_), IsEmpty(), ElementsAre(range_)));
  // Once in ten seconds.
  EXPECT_THAT(told_, ElementsAre("held back 192.0.2.7: as many of it wait as "
                                 "may"));
  EXPECT_EQ(shield_.Explain(flooder_),
            "held back: as many of it wait as may\n");
  shield_.Stop();
  EXPECT_FALSE(shield_.holds());
  EXPECT_THAT(dropped_.back(), IsEmpty());
}

TEST_F(FloodShieldTest, HoldsBackBesideThoseWhoAreShutOut) {
  Start();
  const SourceKey held = SourceKey::Of(*Address::Parse("192.0.2.8:1"));
  const AddressRange held_range = *AddressRange::Parse("192.0.2.8");
  shield_.Hold(held);
  // Whoever has knocked since may have been either of them.
  knocks_ = {0, 2000};
  Flood();
  ASSERT_THAT(dropped_, ElementsAre(ElementsAre(held_range),
                                    ElementsAre(range_, held_range)));
  stop_at_ = 1;
  ASSERT_THAT(loop_.Run(), IsOk());
  EXPECT_THAT(dropped_.back(), ElementsAre(held_range));
}

TEST_F(FloodShieldTest, HoldsBackNoMoreThanItMay) {
  Start();
  for (size_t i = 0; i <= FloodShield::kMostHeld; ++i) {
    shield_.Hold(
        SourceKey::Of(*Address::Parse(absl::StrCat("192.0.2.", i, ":1"))));
  }
  EXPECT_THAT(dropped_.back(), SizeIs(FloodShield::kMostHeld));
  EXPECT_LE(FloodShield::kMostHeld + FloodGuard::kMostShut,
            kMaxFilteredSources);
}

TEST_F(FloodShieldTest, HearsEverybodyOnceItIsStopped) {
  Start();
  Flood();
  shield_.Stop();
  EXPECT_THAT(dropped_, ElementsAre(ElementsAre(range_), IsEmpty()));
  Flood();
  EXPECT_EQ(shield_.Explain(flooder_), "");
  EXPECT_THAT(dropped_, SizeIs(2));
}

TEST_F(FloodShieldTest, HearsASourceAtOnceThatIsToBeForgotten) {
  Start();
  EXPECT_FALSE(shield_.Forget(flooder_));
  Flood();
  EXPECT_TRUE(shield_.Forget(flooder_));
  EXPECT_THAT(dropped_, ElementsAre(ElementsAre(range_), IsEmpty()));
  EXPECT_FALSE(shield_.Forget(flooder_));
}

TEST_F(FloodShieldTest, SaysOnceThatTheKernelWillNot) {
  Start();
  answer_ = ErrnoStatus(EPERM, "setsockopt(SO_ATTACH_FILTER)");
  shield_.CountAll(flooder_);
  shield_.CountAll(flooder_);
  Flood();
  EXPECT_THAT(told_,
              ElementsAre(HasSubstr("floods cannot be shut out: setsockopt(")));
  EXPECT_EQ(shield_.threshold(), 0U);
  EXPECT_EQ(shield_.Explain(flooder_), "");
  EXPECT_FALSE(shield_.Forget(flooder_));
}

TEST_F(FloodShieldTest, DoesNothingBeforeItIsStarted) {
  Flood();
  shield_.CountAll(flooder_);
  EXPECT_EQ(shield_.threshold(), 0U);
  EXPECT_THAT(told_, IsEmpty());
}

}  // namespace
}  // namespace brood
