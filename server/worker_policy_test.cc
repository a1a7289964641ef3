// SPDX-License-Identifier: Apache-2.0
#include "brood/server/worker_policy.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/proc/posix.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Options = WorkerPolicy::Options;
using State = WorkerPolicy::State;

std::vector<size_t> FirstWorkers(const WorkerPolicy::Options& options) {
  absl::StatusOr<WorkerPolicy> policy = WorkerPolicy::Create(options);
  if (!policy.ok()) return {};
  std::vector<size_t> slots;
  for (const auto& start : policy->Decide(MonotonicNow()).start) {
    slots.push_back(start.slot);
  }
  return slots;
}

// A policy, what it has decided so far, and a clock.
class Stage {
 public:
  explicit Stage(const Options& options)
      : policy(*WorkerPolicy::Create(options)) {}

  // Decides, and makes those ready that it starts.
  WorkerPolicy::Actions Go() {
    const WorkerPolicy::Actions actions = policy.Decide(now);
    for (const auto& start : actions.start) policy.Ready(start.slot);
    return actions;
  }
  WorkerPolicy::Actions GoAfter(absl::Duration time) {
    now += time;
    return Go();
  }
  size_t count(State state) const { return policy.count(state); }

  WorkerPolicy policy;
  absl::Duration now = absl::Seconds(1000);
};

TEST(WorkerPolicyTest, HeaderExample) {
  EXPECT_THAT(FirstWorkers(Options::Static(3)), ElementsAre(0, 1, 2));
  EXPECT_THAT(FirstWorkers(Options::Dynamic(2, 5, 9)), ElementsAre(0, 1));
  EXPECT_THAT(FirstWorkers(Options::Static(0)), IsEmpty());
}

TEST(WorkerPolicyTest, NamesTheNumberThatCannotBe) {
  const std::vector<std::pair<Options, const char*>> bad = {
      {Options::Static(0), "max_workers is 0: allowed is from 1 to 32768"},
      {Options::Static(32769), "max_workers is 32769"},
      {Options::Dynamic(5, 4, 9), "min_spare is 5: allowed is up to max_spare"},
      {Options::Dynamic(5, 6, 4), "min_workers is 5: allowed is up to"},
      {Options::Dynamic(0, 6, 9), "min_spare is 0"},
  };
  for (const auto& [options, message] : bad) {
    EXPECT_THAT(
        WorkerPolicy::Create(options),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
  }
}

// One row: from this state, by this event, to that state.
TEST(WorkerPolicyTest, GoesFromStateToStateAsTheTableSays) {
  struct Row {
    State from;
    const char* event;
    State to;
  };
  const std::vector<Row> table = {
      {State::kStarting, "ready", State::kIdle},
      {State::kStarting, "busy", State::kBusy},
      {State::kStarting, "well", State::kBackingOff},
      {State::kStarting, "crash", State::kBackingOff},
      {State::kIdle, "ready", State::kIdle},
      {State::kIdle, "busy", State::kBusy},
      {State::kIdle, "idle", State::kIdle},
      {State::kIdle, "well", State::kEmpty},
      {State::kIdle, "crash", State::kBackingOff},
      {State::kBusy, "ready", State::kBusy},
      {State::kBusy, "busy", State::kBusy},
      {State::kBusy, "idle", State::kIdle},
      {State::kBusy, "well", State::kEmpty},
      {State::kBusy, "crash", State::kBackingOff},
      {State::kRetiring, "ready", State::kRetiring},
      {State::kRetiring, "busy", State::kRetiring},
      {State::kRetiring, "idle", State::kRetiring},
      {State::kRetiring, "spent", State::kRetiring},
      {State::kRetiring, "well", State::kEmpty},
      {State::kRetiring, "crash", State::kEmpty},
  };
  for (const Row& row : table) {
    WorkerPolicy policy = *WorkerPolicy::Create(Options::Static(2));
    const absl::Duration now = absl::Seconds(1);
    (void)policy.Decide(now);
    if (row.from != State::kStarting) policy.Ready(1);
    if (row.from == State::kBusy) policy.Busy(1);
    if (row.from == State::kRetiring) {
      policy.ChangeCapacity(-1);
      EXPECT_THAT(policy.Decide(now).retire, ElementsAre(1));
    }
    ASSERT_EQ(policy.state(1), row.from);
    const std::string_view event = row.event;
    if (event == "ready") policy.Ready(1);
    if (event == "busy") policy.Busy(1);
    if (event == "idle") policy.Idle(1);
    if (event == "spent") policy.Spent(1);
    if (event == "well" || event == "crash") {
      policy.Ended(1, event == "well", now);
    }
    EXPECT_EQ(policy.state(1), row.to)
        << event << " from " << static_cast<int>(row.from);
  }
}

TEST(WorkerPolicyTest, ReplacesInItsSlotWhoCrashesAndNotAtOnce) {
  Stage stage(Options::Static(4));
  stage.Go();
  absl::Duration expected = absl::Milliseconds(100);
  for (int i = 0; i < 12; ++i) {
    stage.policy.Busy(2);
    EXPECT_EQ(stage.policy.Ended(2, false, stage.now), expected);
    WorkerPolicy::Actions actions = stage.Go();
    EXPECT_THAT(actions.start, IsEmpty());
    EXPECT_EQ(actions.wake, stage.now + expected);
    actions = stage.GoAfter(expected - absl::Nanoseconds(1));
    EXPECT_THAT(actions.start, IsEmpty());
    actions = stage.GoAfter(absl::Nanoseconds(1));
    ASSERT_THAT(actions.start, SizeIs(1));
    EXPECT_EQ(actions.start[0].slot, 2);
    expected = std::min(2 * expected, absl::Seconds(30));
  }
  EXPECT_EQ(expected, absl::Seconds(30));
  // Whoever has lived for a while has shown that it can be done.
  stage.now += absl::Seconds(10);
  EXPECT_EQ(stage.policy.Ended(2, false, stage.now), absl::Milliseconds(100));
}

TEST(WorkerPolicyTest, DoesNotStallTheOthersWhenOneSlotBacksOff) {
  Stage stage(Options::Static(4));
  stage.Go();
  stage.policy.Ended(0, false, stage.now);
  stage.policy.Ended(1, true, stage.now);
  EXPECT_THAT(stage.Go().start, ElementsAre(WorkerPolicy::Start{1, 0}));
}

TEST(WorkerPolicyTest, TriesAgainAfterATenthOfASecondWhenNobodyCanBeStarted) {
  Stage stage(Options::Static(2));
  const WorkerPolicy::Actions first = stage.policy.Decide(stage.now);
  for (const auto& start : first.start) {
    stage.policy.StartFailed(start.slot, stage.now);
  }
  const WorkerPolicy::Actions then = stage.Go();
  EXPECT_THAT(then.start, IsEmpty());
  EXPECT_EQ(then.wake, stage.now + absl::Milliseconds(100));
  EXPECT_FALSE(stage.policy.satisfied());
  EXPECT_THAT(stage.GoAfter(absl::Milliseconds(100)).start, SizeIs(2));
  EXPECT_TRUE(stage.policy.satisfied());
}

TEST(WorkerPolicyTest, HasAReplacementReadyBeforeAnyoneRetires) {
  Options options = Options::Static(20);
  options.connections_per_worker = 100;
  Stage stage(options);
  const WorkerPolicy::Actions first = stage.Go();
  std::set<uint64_t> quotas;
  for (const auto& start : first.start) {
    EXPECT_GE(start.connections, 90);
    EXPECT_LE(start.connections, 110);
    quotas.insert(start.connections);
  }
  EXPECT_GT(quotas.size(), 5);
  for (size_t slot = 0; slot < 20; ++slot) stage.policy.Spent(slot);
  // Two at a time: a tenth of twenty.
  const WorkerPolicy::Actions actions = stage.policy.Decide(stage.now);
  EXPECT_THAT(actions.retire, IsEmpty());
  ASSERT_THAT(actions.start, SizeIs(2));
  stage.policy.Ready(actions.start[0].slot);
  EXPECT_THAT(stage.policy.Decide(stage.now).retire, ElementsAre(0));
  stage.policy.Ready(actions.start[1].slot);
  EXPECT_THAT(stage.policy.Decide(stage.now).retire, ElementsAre(1));
  // Nobody else until one of them has gone.
  const WorkerPolicy::Actions full = stage.policy.Decide(stage.now);
  EXPECT_THAT(full.retire, IsEmpty());
  EXPECT_THAT(full.start, IsEmpty());
  stage.policy.Ended(0, true, stage.now);
  EXPECT_THAT(stage.policy.Decide(stage.now).start, SizeIs(1));
}

TEST(WorkerPolicyTest, GrowsTwiceAsFastForAsLongAsAShortageLasts) {
  Stage stage(Options::Dynamic(2, 40, 200));
  EXPECT_THAT(stage.Go().start, SizeIs(2));
  std::vector<size_t> growth;
  for (int i = 0; i < 8; ++i) {
    // Whoever is there is busy at once.
    for (size_t slot = 0; slot < stage.policy.slots(); ++slot) {
      stage.policy.Busy(slot);
    }
    const WorkerPolicy::Actions actions = stage.Go();
    growth.push_back(actions.start.size());
    EXPECT_EQ(actions.wake, stage.now + absl::Milliseconds(50));
    EXPECT_THAT(stage.Go().start, IsEmpty());
  }
  EXPECT_THAT(growth, ElementsAre(1, 2, 4, 8, 16, 32, 40, 40));
}

TEST(WorkerPolicyTest, IsInNoHurryWhileSomebodyIsLeft) {
  Stage stage(Options::Dynamic(100, 200, 1000));
  EXPECT_THAT(stage.Go().start, SizeIs(100));
  std::vector<size_t> growth;
  for (int i = 0; i < 8; ++i) {
    // One stays.
    for (size_t slot = 1; slot < stage.policy.slots(); ++slot) {
      stage.policy.Busy(slot);
    }
    growth.push_back(stage.Go().start.size());
    EXPECT_THAT(stage.GoAfter(absl::Milliseconds(49)).start, IsEmpty());
    stage.now += absl::Milliseconds(1);
  }
  EXPECT_THAT(growth, ElementsAre(1, 2, 4, 8, 16, 32, 32, 32));
}

TEST(WorkerPolicyTest, WaitsForThoseWhoAreOnTheirWay) {
  Stage stage(Options::Dynamic(2, 10, 100));
  stage.Go();
  stage.policy.Busy(0);
  stage.policy.Busy(1);
  const WorkerPolicy::Actions first = stage.policy.Decide(stage.now);
  ASSERT_THAT(first.start, SizeIs(1));
  EXPECT_THAT(stage.policy.Decide(stage.now).start, IsEmpty());
  stage.policy.Ready(first.start[0].slot);
  EXPECT_THAT(stage.policy.Decide(stage.now).start, IsEmpty());
  stage.policy.Busy(first.start[0].slot);
  EXPECT_THAT(stage.policy.Decide(stage.now).start, SizeIs(2));
}

TEST(WorkerPolicyTest, NeverHasMoreSparesThanAllowedNorMoreWorkers) {
  Stage stage(Options::Dynamic(2, 3, 6));
  stage.Go();
  for (int i = 0; i < 10; ++i) {
    for (size_t slot = 0; slot < stage.policy.slots(); ++slot) {
      stage.policy.Busy(slot);
    }
    stage.GoAfter(absl::Milliseconds(50));
    EXPECT_LE(stage.count(State::kIdle), 3);
    EXPECT_LE(stage.policy.live(), 6);
  }
  EXPECT_EQ(stage.policy.live(), 6);
  EXPECT_EQ(stage.policy.low_water(), 0);
}

TEST(WorkerPolicyTest, ShrinksOnceASurplusHasLasted) {
  Stage stage(Options::Dynamic(1, 2, 40));
  stage.Go();
  for (int i = 0; i < 12; ++i) {
    for (size_t slot = 0; slot < stage.policy.slots(); ++slot) {
      stage.policy.Busy(slot);
    }
    stage.GoAfter(absl::Milliseconds(50));
  }
  for (size_t slot = 0; slot < stage.policy.slots(); ++slot) {
    stage.policy.Idle(slot);
  }
  const size_t before = stage.count(State::kIdle);
  ASSERT_GT(before, 8);
  const WorkerPolicy::Actions actions = stage.Go();
  EXPECT_THAT(actions.retire, IsEmpty());
  EXPECT_EQ(actions.wake, stage.now + absl::Seconds(1));
  // A tenth of forty.
  EXPECT_THAT(stage.GoAfter(absl::Seconds(1)).retire, SizeIs(4));
  // A little work, and it is as if nothing had been: the second starts anew.
  for (size_t slot = 0; slot < stage.policy.slots(); ++slot) {
    stage.policy.Busy(slot);
  }
  EXPECT_THAT(stage.GoAfter(absl::Seconds(1)).retire, IsEmpty());
}

TEST(WorkerPolicyTest, StartsASpareWhenOneTakesItsOnlyClient) {
  Stage stage(Options::ForkAhead(3, 5));
  EXPECT_THAT(stage.Go().start,
              ElementsAre(WorkerPolicy::Start{0, 1}, WorkerPolicy::Start{1, 1},
                          WorkerPolicy::Start{2, 1}));
  stage.policy.Busy(0);
  const WorkerPolicy::Actions no_hurry = stage.Go();
  EXPECT_THAT(no_hurry.start, IsEmpty());
  EXPECT_EQ(no_hurry.wake, stage.now + absl::Milliseconds(1));
  stage.policy.Busy(1);
  EXPECT_THAT(stage.Go().start, SizeIs(2));
  stage.policy.Busy(2);  // Five are there.
  EXPECT_THAT(stage.Go().start, IsEmpty());
  // How it ends is its client's affair.
  EXPECT_EQ(stage.policy.Ended(0, false, stage.now), absl::ZeroDuration());
  EXPECT_THAT(stage.Go().start, IsEmpty());
  EXPECT_THAT(stage.GoAfter(absl::Milliseconds(1)).start,
              ElementsAre(WorkerPolicy::Start{0, 1}));
  // Who dies before it had a client is another matter.
  EXPECT_GT(stage.policy.Ended(0, false, stage.now), absl::ZeroDuration());
  EXPECT_THAT(stage.Go().start, IsEmpty());
}

TEST(WorkerPolicyTest, SendsNobodyAwayWhenTheCapacityBecomesLess) {
  Stage stage(Options::Static(3));
  stage.Go();
  stage.policy.Busy(0);
  stage.policy.Busy(2);
  EXPECT_EQ(stage.policy.ChangeCapacity(-1), 2);
  EXPECT_THAT(stage.Go().retire, ElementsAre(1));  // The idle one.
  EXPECT_EQ(stage.policy.ChangeCapacity(-1), 1);
  EXPECT_EQ(stage.policy.ChangeCapacity(-1), 1);
  EXPECT_THAT(stage.Go().retire, IsEmpty());  // One at a time.
  stage.policy.Ended(1, true, stage.now);
  EXPECT_THAT(stage.Go().retire, ElementsAre(2));
  EXPECT_EQ(stage.policy.ChangeCapacity(1), 2);
  EXPECT_THAT(stage.Go().start, SizeIs(1));
}

TEST(WorkerPolicyTest, ReplacesWhoCrashesUntilNoClientIsLeft) {
  Stage stage(Options::Static(2));
  stage.Go();
  stage.policy.Drain();
  stage.policy.Ended(0, false, stage.now);
  EXPECT_THAT(stage.GoAfter(absl::Milliseconds(100)).start, SizeIs(1));
  stage.policy.Drained();
  stage.policy.Ended(0, true, stage.now);
  EXPECT_FALSE(stage.policy.done());
  stage.policy.Ended(1, false, stage.now);
  EXPECT_TRUE(stage.policy.done());
  const WorkerPolicy::Actions actions = stage.GoAfter(absl::Seconds(60));
  EXPECT_THAT(actions.start, IsEmpty());
  EXPECT_EQ(actions.wake, std::nullopt);
}

TEST(WorkerPolicyTest, IsFullWhileAllWhoMayBeThereHaveAClient) {
  Stage stage(Options::Dynamic(1, 1, 2));
  stage.Go();
  stage.policy.Busy(0);
  EXPECT_FALSE(stage.policy.full());  // There may be another.
  const WorkerPolicy::Actions actions = stage.policy.Decide(stage.now);
  ASSERT_THAT(actions.start, SizeIs(1));
  EXPECT_FALSE(stage.policy.full());  // He is on his way.
  stage.policy.Busy(1);
  EXPECT_TRUE(stage.policy.full());
  stage.policy.Idle(0);
  EXPECT_FALSE(stage.policy.full());
  stage.policy.Busy(0);
  stage.policy.Ended(1, false, stage.now);
  EXPECT_FALSE(stage.policy.full());  // He comes again.
  stage.GoAfter(absl::Milliseconds(100));
  stage.policy.Busy(1);
  EXPECT_TRUE(stage.policy.full());
  // There are more than there should be, and no less full is it for that.
  EXPECT_EQ(stage.policy.ChangeCapacity(-1), 1);
  stage.Go();
  EXPECT_TRUE(stage.policy.full());
}

// Whatever happens in whatever order.
class RandomStage {
 public:
  RandomStage(const Options& options, uint32_t seed)
      : options_(options), stage_(options), dice_(seed) {}

  void Step() {
    stage_.now += absl::Milliseconds(Throw(0, 40));
    if (Throw(0, 3) == 0) Happen();
    const WorkerPolicy::Actions actions = stage_.policy.Decide(stage_.now);
    bool failed = false;
    for (const auto& start : actions.start) {
      ASSERT_FALSE(live_.contains(start.slot));
      const auto until = backs_off_until_.find(start.slot);
      ASSERT_TRUE(until == backs_off_until_.end() ||
                  until->second <= stage_.now);
      if (Throw(0, 30) == 0) {
        stage_.policy.StartFailed(start.slot, stage_.now);
        failed = true;
      } else {
        live_[start.slot] = false;
      }
    }
    for (const size_t slot : actions.retire) {
      ASSERT_TRUE(live_.contains(slot));
      live_[slot] = true;
    }
    Check();
    // Nobody is forgotten.
    if (!failed &&
        (!stage_.policy.satisfied() || stage_.count(State::kBackingOff) > 0)) {
      ASSERT_TRUE(actions.wake.has_value());
    }
  }

  // Nothing happens any more but what was asked for.
  void Settle() {
    for (int i = 0; i < 4000; ++i) {
      for (size_t slot = 0; slot < stage_.policy.slots(); ++slot) {
        stage_.policy.Ready(slot);
      }
      End([](bool retiring) { return retiring; }, /*well=*/true);
      stage_.now += absl::Milliseconds(100);
      for (const auto& start : stage_.policy.Decide(stage_.now).start) {
        live_[start.slot] = false;
      }
      for (const auto& [slot, retiring] : live_) {
        live_[slot] = stage_.policy.state(slot) == State::kRetiring;
      }
    }
    const size_t busy = stage_.count(State::kBusy);
    const size_t serving = stage_.policy.live();
    EXPECT_EQ(stage_.count(State::kBackingOff), 0);
    EXPECT_EQ(stage_.count(State::kRetiring), 0);
    EXPECT_EQ(serving, live_.size());
    EXPECT_LE(serving, stage_.policy.max_workers());
    const size_t least =
        std::clamp(busy + options_.min_spare,
                   std::min(options_.min_workers, stage_.policy.max_workers()),
                   stage_.policy.max_workers());
    EXPECT_GE(serving, std::min(least, stage_.policy.max_workers()));
  }

 private:
  int Throw(int least, int most) {
    return std::uniform_int_distribution<int>(least, most)(dice_);
  }

  template <typename Chosen>
  void End(Chosen chosen, bool well) {
    for (auto it = live_.begin(); it != live_.end();) {
      if (!chosen(it->second)) {
        ++it;
        continue;
      }
      const absl::Duration back_off =
          stage_.policy.Ended(it->first, well, stage_.now);
      backs_off_until_[it->first] = stage_.now + back_off;
      it = live_.erase(it);
    }
  }

  void Happen() {
    WorkerPolicy& policy = stage_.policy;
    for (size_t slot = 0; slot < policy.slots(); ++slot) {
      if (!live_.contains(slot)) continue;
      switch (Throw(0, 5)) {
        case 0:
          policy.Ready(slot);
          break;
        case 1:
        case 2:
          policy.Busy(slot);
          break;
        case 3:
          policy.Idle(slot);
          break;
        case 4:
          if (Throw(0, 3) == 0) policy.Spent(slot);
          break;
      }
    }
    if (Throw(0, 9) == 0) policy.ChangeCapacity(Throw(0, 1) == 0 ? 1 : -1);
    End([&](bool retiring) { return Throw(0, retiring ? 3 : 12) == 0; },
        Throw(0, 1) == 0);
  }

  void Check() {
    const WorkerPolicy& policy = stage_.policy;
    most_ = std::max(most_, policy.max_workers());
    size_t all = 0;
    for (const State state :
         {State::kEmpty, State::kStarting, State::kIdle, State::kBusy,
          State::kRetiring, State::kBackingOff}) {
      size_t counted = 0;
      for (size_t slot = 0; slot < policy.slots(); ++slot) {
        counted += policy.state(slot) == state ? 1 : 0;
      }
      ASSERT_EQ(policy.count(state), counted);
      all += counted;
    }
    ASSERT_EQ(all, policy.slots());
    ASSERT_EQ(policy.live(), live_.size());
    ASSERT_LE(policy.live(), most_ + std::max<size_t>(1, most_ / 10));
    ASSERT_LE(policy.slots(), 3 * (most_ + 1));
  }

  const Options options_;
  Stage stage_;
  std::mt19937 dice_;
  std::map<size_t, bool> live_;  // By slot: whether it was asked to go.
  std::map<size_t, absl::Duration> backs_off_until_;
  size_t most_ = 0;
};

TEST(WorkerPolicyTest, KeepsItsPromisesWhateverHappens) {
  Options recycling = Options::Static(12);
  recycling.connections_per_worker = 7;
  const std::vector<Options> all = {Options::Static(1),
                                    Options::Static(12),
                                    recycling,
                                    Options::Dynamic(1, 1, 10),
                                    Options::Dynamic(3, 6, 30),
                                    Options::ForkAhead(4, 25)};
  for (const Options& options : all) {
    for (uint32_t seed = 0; seed < 20; ++seed) {
      RandomStage stage(options, seed);
      for (int i = 0; i < 500; ++i) {
        stage.Step();
        if (testing::Test::HasFatalFailure()) {
          FAIL() << "seed " << seed << ", step " << i << ", max_workers "
                 << options.max_workers;
        }
      }
      stage.Settle();
    }
  }
}

}  // namespace
}  // namespace brood
