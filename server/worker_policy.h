// SPDX-License-Identifier: Apache-2.0
//
// A WorkerPolicy decides how many workers there are, when each begins, and when
// each is to go.
//
//   std::vector<size_t> FirstWorkers(const WorkerPolicy::Options& options) {
//     absl::StatusOr<WorkerPolicy> policy = WorkerPolicy::Create(options);
//     if (!policy.ok()) return {};
//     std::vector<size_t> slots;
//     for (const auto& start : policy->Decide(MonotonicNow()).start) {
//       slots.push_back(start.slot);
//     }
//     return slots;
//   }
//
// What it is not: a process, a socket or a clock. It is told what has happened
// and what time it is, and says what to do: a table of states.
//
// A worker lives in a slot. Slots are empty, or one of these:
//
//   starting     was started, and has not said that it is ready
//   idle, busy   is ready; has a client or none
//   retiring     has been asked to go, after its client
//   backing off  its worker has crashed, and the next starts later
//
// Static: as many as asked for, always. Dynamic: at least min_spare idle, at
// most max_spare, within max_workers. A shortage is answered in the Decide()
// that sees it, with one worker; each 50 ms that it lasts with twice as many as
// before, up to 32, though never with more than max_spare would allow. When all
// who are there have a client, and nobody is on his way, others may be waiting:
// then it is answered at once, and 32 are not the most. A
// surplus goes once it has lasted a second, a tenth of max_workers each second,
// at least one.
//
// Whoever has served connections_per_worker (a tenth more or less, so that
// those who began together do not end together) goes on serving until another
// is ready, and then retires. A tenth of max_workers, at least one, may retire
// at once, and as many may be there beyond max_workers meanwhile.
//
// With connections_per_worker = 1 (ForkAhead) a worker takes one client; then
// spares that are known to have taken theirs are replaced without limit, at
// once if less than half of min_spare are left, else after a millisecond; and
// how a busy one ends is its client's affair.
//
// A worker that ends otherwise, unasked and not with exit code 0, or before it
// was ready, is replaced in its slot and nowhere else, after 100 ms; twice as
// long each time it comes to this, up to 30 s. A worker that has lived for ten
// seconds ends the count. If no worker can be started at all, the next try is
// after 100 ms.
//
// Ownership: none. Errors: Create: InvalidArgument, which names the number and
// what is allowed. REQUIRES everywhere: `now` does not go back; a slot is in a
// state in which the event can be.
//
// Threads, signals, fork: as any value that allocates. Rests on: nothing.
#ifndef BROOD_SERVER_WORKER_POLICY_H_
#define BROOD_SERVER_WORKER_POLICY_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace brood {

class WorkerPolicy {
 public:
  static constexpr size_t kMostWorkers = 32768;
  // No slot has a number from here on.
  static constexpr size_t kSlots = 2 * kMostWorkers;

  struct Options {
    static Options Static(size_t workers) {
      return {.min_workers = workers, .max_workers = workers};
    }
    static Options Dynamic(size_t min_spare, size_t max_spare,
                           size_t max_workers) {
      return {.min_workers = min_spare,
              .max_workers = max_workers,
              .min_spare = min_spare,
              .max_spare = max_spare};
    }
    // A process for each connection, forked before its client comes.
    static Options ForkAhead(size_t spares, size_t max_workers) {
      Options options = Dynamic(spares, spares, max_workers);
      options.connections_per_worker = 1;
      return options;
    }

    size_t min_workers = 1;
    size_t max_workers = 1;  // 1 to kMostWorkers.
    size_t min_spare = 0;
    size_t max_spare = 0;
    // 0: no end.
    uint64_t connections_per_worker = 0;
    // Of the dice that say who goes a little sooner, and who later.
    uint64_t seed = 0;
  };

  enum class State { kEmpty, kStarting, kIdle, kBusy, kRetiring, kBackingOff };

  struct Start {
    size_t slot;
    // After how many clients it says Spent(); 0 for never.
    uint64_t connections;

    friend bool operator==(const Start&, const Start&) = default;
  };
  struct Actions {
    std::vector<Start> start = {};
    // Slots whose workers are to go when they have no client.
    std::vector<size_t> retire = {};
    // When to call Decide() again, if nothing happens before.
    std::optional<absl::Duration> wake = std::nullopt;
  };

  static absl::StatusOr<WorkerPolicy> Create(const Options& options);

  // What has happened. Repeating Ready, Busy, Idle or Spent changes nothing.
  void Ready(size_t slot);
  void Busy(size_t slot);
  void Idle(size_t slot);
  // It has served as many as it was to.
  void Spent(size_t slot);
  // `well`: it exited with code 0. Returns how long the slot backs off, zero if
  // it does not.
  absl::Duration Ended(size_t slot, bool well, absl::Duration now);
  // The start that was decided did not come to be; nor will the others.
  void StartFailed(size_t slot, absl::Duration now);
  // One more or fewer, from one to kMostWorkers. What the number is now.
  size_t ChangeCapacity(int by);
  // Clients end: nobody goes any more because there are too many.
  void Drain() { draining_ = true; }
  // No client is left: nobody starts any more.
  void Drained() { drained_ = true; }

  // What to do. What it says is taken for done, until told otherwise.
  Actions Decide(absl::Duration now);

  State state(size_t slot) const { return slots_[slot].state; }
  size_t count(State state) const {
    return counts_[static_cast<size_t>(state)];
  }
  // All slots there have been: those from here on are empty.
  size_t slots() const { return slots_.size(); }
  // Slots that have a process.
  size_t live() const {
    return slots_.size() - count(State::kEmpty) - count(State::kBackingOff);
  }
  // No client is left, and no worker.
  bool done() const { return drained_ && live() == 0; }
  // There are as many workers as there should be, or will be when their slots
  // have backed off.
  bool satisfied() const;
  // All who may be there have a client, and nobody is on his way.
  bool full() const;
  size_t max_workers() const { return options_.max_workers; }
  // How many may retire at once.
  size_t budget() const;
  // With fewer idle workers than this, Decide() would start some at once: when
  // a worker should tell that it has become busy.
  size_t low_water() const;

 private:
  struct Slot {
    State state = State::kEmpty;
    bool spent = false;
    absl::Duration started = absl::ZeroDuration();
    absl::Duration until = absl::ZeroDuration();  // Of backing off.
    int crashes = 0;                              // In a row.
  };

  explicit WorkerPolicy(const Options& options)
      : options_(options),
        static_(options.min_workers == options.max_workers),
        dice_(options.seed) {}

  bool one_each() const { return options_.connections_per_worker == 1; }
  // Those who serve, or will: not those who are about to go.
  size_t serving() const;
  // How many of them there should be, at least and at most.
  size_t Lower() const;
  size_t Upper() const;
  // How many more there should be, to take over from those who are spent.
  size_t Overlap() const;

  void Enter(size_t slot, State state);
  void EndBackOffs(absl::Duration now);
  void RetireSpent(Actions& actions);
  void RetireSurplus(absl::Duration now, Actions& actions);
  void Retire(State from, size_t most, Actions& actions);
  void StartWanted(absl::Duration now, Actions& actions);
  size_t MayGrowBy(absl::Duration now);
  // With fewer spares than this there is no time to lose.
  size_t HalfOfSpares() const;
  bool MayWait(absl::Duration now);
  size_t TakeEmpty();
  uint64_t Connections();

  Options options_;
  bool static_;
  uint64_t dice_;
  std::vector<Slot> slots_;
  std::array<size_t, 6> counts_ = {};
  std::vector<size_t> empty_;  // Those to be used first come last.
  std::vector<size_t> spent_;  // Those who were spent first come first.
  std::set<std::pair<absl::Duration, size_t>> backing_off_;
  absl::Duration paused_until_ = -absl::InfiniteDuration();
  bool began_ = false;
  bool draining_ = false;
  bool drained_ = false;
  size_t growth_ = 1;
  absl::Duration next_growth_ = -absl::InfiniteDuration();
  std::optional<absl::Duration> surplus_until_;
  std::optional<absl::Duration> no_hurry_until_;
};

}  // namespace brood

#endif  // BROOD_SERVER_WORKER_POLICY_H_
