// SPDX-License-Identifier: Apache-2.0
#include "brood/server/worker_policy.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace brood {
namespace {

constexpr size_t kMostAtOnce = 32;
constexpr absl::Duration kGrowthStep = absl::Milliseconds(50);
// A shortage that comes this long after the last one is another.
constexpr absl::Duration kGrowthForgotten = absl::Seconds(1);
constexpr absl::Duration kSurplusLasts = absl::Seconds(1);
constexpr absl::Duration kPause = absl::Milliseconds(100);
// A fork takes a processor, perhaps the one that a client is being served on.
constexpr absl::Duration kNoHurry = absl::Milliseconds(1);
constexpr absl::Duration kFirstBackOff = absl::Milliseconds(100);
constexpr absl::Duration kLongestBackOff = absl::Seconds(30);
constexpr int kMostDoublings = 9;  // 51.2 s: beyond the longest.
constexpr absl::Duration kLivedLong = absl::Seconds(10);

// splitmix64: dice that a test can throw again.
uint64_t Throw(uint64_t& state) {
  state += 0x9e3779b97f4a7c15;
  uint64_t mixed = state;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
  return mixed ^ (mixed >> 31);
}

void WakeAt(absl::Duration when, WorkerPolicy::Actions& actions) {
  actions.wake = std::min(when, actions.wake.value_or(when));
}

}  // namespace

absl::StatusOr<WorkerPolicy> WorkerPolicy::Create(const Options& options) {
  if (options.max_workers < 1 || options.max_workers > kMostWorkers) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_workers is ", options.max_workers,
                     ": allowed is from 1 to ", kMostWorkers));
  }
  if (options.min_workers > options.max_workers) {
    return absl::InvalidArgumentError(
        absl::StrCat("min_workers is ", options.min_workers,
                     ": allowed is up to max_workers, ", options.max_workers));
  }
  if (options.min_spare > options.max_spare) {
    return absl::InvalidArgumentError(
        absl::StrCat("min_spare is ", options.min_spare,
                     ": allowed is up to max_spare, ", options.max_spare));
  }
  if (options.min_workers == 0 && options.min_spare == 0) {
    return absl::InvalidArgumentError(
        "min_spare is 0: without min_workers, at least 1 is needed");
  }
  return WorkerPolicy(options);
}

size_t WorkerPolicy::budget() const {
  return std::max<size_t>(1, options_.max_workers / 10);
}

size_t WorkerPolicy::serving() const {
  return count(State::kStarting) + count(State::kIdle) + count(State::kBusy);
}

size_t WorkerPolicy::Lower() const {
  return std::clamp(count(State::kBusy) + options_.min_spare,
                    options_.min_workers, options_.max_workers);
}

size_t WorkerPolicy::Upper() const {
  return std::clamp(count(State::kBusy) + options_.max_spare,
                    options_.min_workers, options_.max_workers);
}

size_t WorkerPolicy::Overlap() const {
  if (draining_) return 0;
  const size_t retiring = count(State::kRetiring);
  return std::min(spent_.size(), budget() - std::min(budget(), retiring));
}

bool WorkerPolicy::satisfied() const {
  return drained_ || serving() + count(State::kBackingOff) >= Lower();
}

bool WorkerPolicy::full() const {
  return count(State::kBackingOff) == 0 &&
         count(State::kBusy) >= options_.max_workers &&
         count(State::kBusy) == serving();
}

size_t WorkerPolicy::low_water() const {
  const size_t taken = serving() + count(State::kBackingOff);
  if (taken >= options_.max_workers) return 0;
  return one_each() ? HalfOfSpares() : options_.min_spare;
}

void WorkerPolicy::Enter(size_t slot, State state) {
  --counts_[static_cast<size_t>(slots_[slot].state)];
  ++counts_[static_cast<size_t>(state)];
  slots_[slot].state = state;
}

void WorkerPolicy::Ready(size_t slot) {
  if (state(slot) == State::kStarting) Enter(slot, State::kIdle);
}

void WorkerPolicy::Busy(size_t slot) {
  Ready(slot);
  if (state(slot) == State::kIdle) Enter(slot, State::kBusy);
}

void WorkerPolicy::Idle(size_t slot) {
  Ready(slot);
  if (state(slot) == State::kBusy) Enter(slot, State::kIdle);
}

void WorkerPolicy::Spent(size_t slot) {
  Ready(slot);
  const bool serves =
      state(slot) == State::kIdle || state(slot) == State::kBusy;
  if (!serves || slots_[slot].spent) return;
  slots_[slot].spent = true;
  spent_.push_back(slot);
}

absl::Duration WorkerPolicy::Ended(size_t slot, bool well, absl::Duration now) {
  Slot& it = slots_[slot];
  if (it.spent) std::erase(spent_, slot);
  it.spent = false;
  if (now - it.started >= kLivedLong) it.crashes = 0;
  const bool due = it.state == State::kRetiring ||
                   (it.state == State::kBusy && (well || one_each())) ||
                   (it.state == State::kIdle && well);
  if (due) {
    Enter(slot, State::kEmpty);
    empty_.push_back(slot);
    return absl::ZeroDuration();
  }
  const absl::Duration back_off =
      std::min(kLongestBackOff, kFirstBackOff * (1 << it.crashes));
  it.crashes = std::min(it.crashes + 1, kMostDoublings);
  it.until = now + back_off;
  Enter(slot, State::kBackingOff);
  backing_off_.emplace(it.until, slot);
  return back_off;
}

void WorkerPolicy::StartFailed(size_t slot, absl::Duration now) {
  Enter(slot, State::kEmpty);
  empty_.push_back(slot);
  paused_until_ = now + kPause;
}

size_t WorkerPolicy::ChangeCapacity(int by) {
  size_t& most = options_.max_workers;
  if (by > 0 && most < kMostWorkers) ++most;
  if (by < 0 && most > 1) --most;
  options_.min_workers = static_ ? most : std::min(options_.min_workers, most);
  return most;
}

WorkerPolicy::Actions WorkerPolicy::Decide(absl::Duration now) {
  Actions actions;
  EndBackOffs(now);
  if (drained_) return actions;
  if (!draining_) {
    RetireSpent(actions);
    RetireSurplus(now, actions);
  }
  StartWanted(now, actions);
  began_ = true;
  if (!backing_off_.empty()) WakeAt(backing_off_.begin()->first, actions);
  return actions;
}

void WorkerPolicy::EndBackOffs(absl::Duration now) {
  while (!backing_off_.empty() && backing_off_.begin()->first <= now) {
    const size_t slot = backing_off_.begin()->second;
    backing_off_.erase(backing_off_.begin());
    Enter(slot, State::kEmpty);
    empty_.push_back(slot);
  }
}

void WorkerPolicy::RetireSpent(Actions& actions) {
  while (!spent_.empty() && count(State::kRetiring) < budget()) {
    const size_t slot = spent_.front();
    const size_t ready = count(State::kIdle) + count(State::kBusy);
    // Of those who are ready one goes, and if it is busy the others need not be
    // so many.
    const size_t left = ready - 1;
    const State before = state(slot);
    Enter(slot, State::kRetiring);
    if (left < Lower()) {
      Enter(slot, before);
      return;
    }
    spent_.erase(spent_.begin());
    actions.retire.push_back(slot);
  }
}

void WorkerPolicy::RetireSurplus(absl::Duration now, Actions& actions) {
  const size_t most = options_.max_workers + Overlap();
  if (serving() > most) {  // The capacity has become less.
    const size_t surplus = serving() - most;
    Retire(State::kIdle, surplus, actions);
    Retire(State::kBusy, serving() - std::min(serving(), most), actions);
    return;
  }
  if (static_) return;
  const size_t wanted = Upper() + Overlap();
  if (serving() <= wanted) {
    surplus_until_ = std::nullopt;
    return;
  }
  if (!surplus_until_.has_value()) surplus_until_ = now + kSurplusLasts;
  if (now >= *surplus_until_) {
    Retire(State::kIdle, serving() - wanted, actions);
    surplus_until_ = now + kSurplusLasts;
  }
  WakeAt(*surplus_until_, actions);
}

// From the last slot on, so that those in use stay close together.
void WorkerPolicy::Retire(State from, size_t most, Actions& actions) {
  for (size_t slot = slots_.size(); slot-- > 0 && most > 0;) {
    if (count(State::kRetiring) >= budget()) return;
    if (state(slot) != from) continue;
    if (slots_[slot].spent) std::erase(spent_, slot);
    Enter(slot, State::kRetiring);
    actions.retire.push_back(slot);
    --most;
  }
}

void WorkerPolicy::StartWanted(absl::Duration now, Actions& actions) {
  const size_t there = serving() + count(State::kBackingOff);
  const size_t lower = Lower();
  const size_t wanted = lower + Overlap();
  if (there >= wanted) return;
  if (now < paused_until_) {
    WakeAt(paused_until_, actions);
    return;
  }
  size_t starts = wanted - there;
  if (there < lower && began_ && !static_ && !one_each()) {
    const size_t growth = MayGrowBy(now);
    starts -= lower - there;
    starts += std::min(growth, std::max(Upper(), lower) - there);
    WakeAt(next_growth_, actions);
  }
  if (one_each() && began_ && MayWait(now)) {
    WakeAt(*no_hurry_until_, actions);
    return;
  }
  no_hurry_until_ = std::nullopt;
  for (; starts > 0; --starts) {
    const size_t slot = TakeEmpty();
    slots_[slot].started = now;
    Enter(slot, State::kStarting);
    actions.start.push_back({slot, Connections()});
  }
}

size_t WorkerPolicy::HalfOfSpares() const {
  return std::max<size_t>((options_.min_spare + 1) / 2, 1);
}

// Whether spares that took a client are not missed yet.
bool WorkerPolicy::MayWait(absl::Duration now) {
  const size_t spares = count(State::kStarting) + count(State::kIdle);
  if (spares < HalfOfSpares()) return false;
  if (!no_hurry_until_.has_value()) no_hurry_until_ = now + kNoHurry;
  return now < *no_hurry_until_;
}

// Twice as many as the last time, but not at once, unless those have found
// clients already: how long that took is how long to wait with the next.
size_t WorkerPolicy::MayGrowBy(absl::Duration now) {
  const bool none_left = count(State::kIdle) + count(State::kStarting) == 0;
  if (now < next_growth_ && !none_left) return 0;
  if (now - next_growth_ > kGrowthForgotten) growth_ = 1;
  next_growth_ = now + kGrowthStep;
  const size_t growth = none_left ? growth_ : std::min(growth_, kMostAtOnce);
  growth_ = std::min(2 * growth_, kMostWorkers);
  return growth;
}

size_t WorkerPolicy::TakeEmpty() {
  if (empty_.empty()) {
    empty_.push_back(slots_.size());
    slots_.emplace_back();
    ++counts_[static_cast<size_t>(State::kEmpty)];
  }
  const size_t slot = empty_.back();
  empty_.pop_back();
  return slot;
}

uint64_t WorkerPolicy::Connections() {
  const uint64_t mean = options_.connections_per_worker;
  if (mean <= 1) return mean;
  const uint64_t spread = std::max<uint64_t>(1, mean / 10);
  return mean - spread + Throw(dice_) % (2 * spread + 1);
}

}  // namespace brood
