// SPDX-License-Identifier: Apache-2.0
#include "brood/signal/signal_source.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/posix.h"
#include "brood/signal/action.h"
#include "brood/signal/diagnosis.h"
#include "brood/signal/mask.h"
#include "brood/signal/names.h"
#include "brood/signal/signal_event.h"
#include "brood/signal/signal_set.h"
#include "brood/signal/wakeup_fd.h"

namespace brood {
namespace {

constexpr size_t kMaxCapacity = 65536;
constexpr size_t kSignals = 65;  // Indexed by signal number; 0 is unused.

// A handler may use only what takes no lock.
static_assert(std::atomic<uint64_t>::is_always_lock_free);
static_assert(std::atomic<void*>::is_always_lock_free);

// A bounded queue. Any number of handlers put in, in any threads and within
// each other; one thread takes out. Nobody waits for anybody: one that is full
// refuses, and one whose oldest event is still being written has nothing yet.
class Ring {
 public:
  // Two at least: of one cell, "holds an event" and "is free for the next
  // round" would be the same turn.
  explicit Ring(size_t capacity)
      : cells_(std::bit_ceil(std::max<size_t>(capacity, 2))),
        mask_(cells_.size() - 1) {
    for (size_t i = 0; i < cells_.size(); ++i) cells_[i].turn.store(i);
  }

  // Async-signal-safe.
  bool Put(const SignalEvent& event) {
    size_t place = next_put_.load(std::memory_order_relaxed);
    while (true) {
      Cell& cell = cells_[place & mask_];
      const size_t turn = cell.turn.load(std::memory_order_acquire);
      if (turn == place) {
        if (!next_put_.compare_exchange_weak(place, place + 1)) continue;
        cell.event = event;
        cell.turn.store(place + 1, std::memory_order_release);
        return true;
      }
      // Behind: it still holds what was put in a round ago. Ahead: another
      // handler was faster.
      if (turn < place) return false;
      place = next_put_.load(std::memory_order_relaxed);
    }
  }

  std::optional<SignalEvent> Take() {
    Cell& cell = cells_[next_take_ & mask_];
    if (cell.turn.load(std::memory_order_acquire) != next_take_ + 1) {
      return std::nullopt;
    }
    const SignalEvent event = cell.event;
    cell.turn.store(next_take_ + cells_.size(), std::memory_order_release);
    ++next_take_;
    return event;
  }

 private:
  struct Cell {
    // Whose turn it is: the putter of place `turn`, or the taker of place
    // `turn` - 1.
    std::atomic<size_t> turn = 0;
    SignalEvent event = {};
  };

  std::vector<Cell> cells_;
  size_t mask_;
  std::atomic<size_t> next_put_ = 0;
  size_t next_take_ = 0;
};

}  // namespace

// What the handler feeds: the part of a SignalSource that must not move.
class SignalFeed {
 public:
  using Event = SignalSource::Event;

  SignalFeed(uint64_t generation, WakeupFd wakeup,
             const SignalSourceOptions& options)
      : generation_(generation),
        options_(options),
        wakeup_(std::move(wakeup)),
        ring_(options.capacity) {}
  ~SignalFeed();

  // Called by the handler.
  void Arrived(const SignalEvent& event) {
    const size_t signo = static_cast<size_t>(event.signo);
    counts_[signo].fetch_add(1, std::memory_order_relaxed);
    // Once the ring was full nothing goes in until it has been emptied, so that
    // what is lost is told in its place.
    if (overflowed_.load() || !ring_.Put(event)) {
      dropped_[signo].fetch_add(1);
      overflowed_.store(true);
    }
    WakeReader();
  }

  absl::Status Add(int signo);
  void Remove(int signo);
  absl::StatusOr<std::optional<Event>> Next();
  absl::Status Check() const;

  int fd() const { return wakeup_.fd(); }
  uint64_t CountOf(int signo) const {
    return counts_[static_cast<size_t>(signo)].load();
  }
  const SignalSet& signals() const { return signals_; }
  const SignalSet& left_ignored() const { return left_ignored_; }

 private:
  absl::Status Register(int signo);
  std::optional<Event> Take();
  // Async-signal-safe. One write for as many arrivals as the reader has not
  // looked at.
  void WakeReader() {
    if (!awake_.exchange(true)) wakeup_.Wake();
  }

  const uint64_t generation_;  // The table's, in the process that made it.
  const SignalSourceOptions options_;
  WakeupFd wakeup_;
  SignalSet signals_;
  SignalSet left_ignored_;
  std::deque<Event> backlog_;  // Older than what is in the ring.

  // Shared with handlers.
  Ring ring_;
  std::atomic<bool> awake_ = false;
  std::atomic<bool> overflowed_ = false;
  std::array<std::atomic<uint64_t>, kSignals> counts_ = {};
  std::array<std::atomic<uint64_t>, kSignals> dropped_ = {};
};

namespace {

// Who is to be told of one signal.
struct Route {
  std::array<std::atomic<SignalFeed*>, SignalSource::kMaxSourcesOfASignal>
      feeds;
  // How many handlers are running for it: while there are any, a feed that was
  // taken out may still be seen by one that had looked before.
  std::atomic<uint32_t> running;

  bool unused() const {
    for (const auto& feed : feeds) {
      if (feed.load() != nullptr) return false;
    }
    return true;
  }
};

// What the handler reads: one for the process, as the dispositions are. It lies
// in memory that the kernel wipes in a forked child, before the child runs and
// whatever made it; so a child starts with nobody to tell, no handler running
// and the lock open. A vfork child, which has the parent's memory itself, is
// told by its pid. All zeros is a table that is nobody's.
struct Table {
  std::atomic<pid_t> owner;
  // Tells the feeds of this process from copies of its parent's.
  std::atomic<uint64_t> generation;
  // For Add and Remove, never for the handler.
  std::atomic<bool> locked;
  std::array<Route, kSignals> routes;
};

std::atomic<Table*> table = nullptr;
std::atomic<uint64_t> generations = 0;

// The registrations that the sources share. In a forked child they are the
// child's, as the dispositions are.
std::array<std::optional<SignalAction>, kSignals>& Actions() {
  static auto& actions = *new std::array<std::optional<SignalAction>, kSignals>;
  return actions;
}

void Record(int signo, siginfo_t* info, void*) {
  const int saved_errno = errno;
  Table& now = *table.load();
  // The C library remembers no pid (glibc 2.25), so this is right in a child of
  // a bare clone too.
  if (now.owner.load() == getpid()) {
    Route& route = now.routes[static_cast<size_t>(signo)];
    const SignalEvent event = SignalEvent::FromSiginfo(*info);
    route.running.fetch_add(1);
    for (const auto& feed : route.feeds) {
      SignalFeed* const told = feed.load();
      if (told != nullptr) told->Arrived(event);
    }
    route.running.fetch_sub(1);
  }
  errno = saved_errno;
}

absl::Status MakeTable() {
  if (table.load() != nullptr) return absl::OkStatus();
  void* const memory = mmap(nullptr, sizeof(Table), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return ErrnoStatus(errno, "mmap");
  if (madvise(memory, sizeof(Table), MADV_WIPEONFORK) == -1) {
    const int error = errno;
    munmap(memory, sizeof(Table));
    return ErrnoStatus(error, "madvise MADV_WIPEONFORK");
  }
  Table* none = nullptr;
  if (!table.compare_exchange_strong(none, new (memory) Table())) {
    munmap(memory, sizeof(Table));  // Another thread was faster.
  }
  return absl::OkStatus();
}

// Holds the table for a scope, and makes it this process's if it is not. The
// lock is one that may be wiped at any time, hence no mutex.
class LockedTable {
 public:
  LockedTable() : table_(*table.load()) {
    while (table_.locked.exchange(true, std::memory_order_acquire)) {
      sched_yield();
    }
    if (table_.owner.load() != getpid()) {
      table_.generation.store(generations.fetch_add(1) + 1);
      table_.owner.store(getpid());
    }
  }
  LockedTable(const LockedTable&) = delete;
  LockedTable& operator=(const LockedTable&) = delete;
  ~LockedTable() { table_.locked.store(false, std::memory_order_release); }

  Table* operator->() { return &table_; }

 private:
  Table& table_;
};

bool IsHere(uint64_t generation) {
  const Table& now = *table.load();
  return now.owner.load() == getpid() && now.generation.load() == generation;
}

absl::Status Elsewhere() {
  return absl::FailedPreconditionError(
      "this SignalSource was made by another process; make one after the fork");
}

}  // namespace

absl::Status SignalFeed::Register(int signo) {
  std::optional<SignalAction>& action = Actions()[static_cast<size_t>(signo)];
  if (action.has_value() && action->stands()) return absl::OkStatus();
  // Somebody registered over it, and may put it back; so it stays until the new
  // one stands, and then goes without a word, for it could not tell that one
  // from itself.
  absl::StatusOr<SignalAction> ours =
      SignalAction::Handle(signo, Record,
                           {.mask = SignalSet::All(),
                            .restart = options_.restart,
                            .on_stack = true,
                            .no_child_stop = options_.no_child_stop,
                            .if_handled = options_.if_handled,
                            .if_ignored = options_.if_ignored});
  if (!ours.ok()) return ours.status();
  if (action.has_value()) (*std::move(action)).Release();
  action.reset();
  if (ours->installed()) {
    action.emplace(*std::move(ours));
  } else {
    left_ignored_ = left_ignored_ | *SignalSet::Of({signo});
  }
  return absl::OkStatus();
}

absl::Status SignalFeed::Add(int signo) {
  const absl::StatusOr<SignalSet> one = SignalSet::Of({signo});
  if (!one.ok()) return one.status();
  if (signals_.Contains(signo)) {
    return absl::AlreadyExistsError(
        absl::StrCat("this SignalSource has ", NameOfSignal(signo)));
  }
  const absl::StatusOr<SignalSet> blocked = SignalMask::Current();
  if (!blocked.ok()) return blocked.status();
  if (blocked->Contains(signo)) {
    const absl::Status taken = CheckSomeThreadTakes(*one);
    if (!taken.ok()) return taken;
  }

  LockedTable locked;
  if (generation_ != locked->generation.load()) return Elsewhere();
  Route& route = locked->routes[static_cast<size_t>(signo)];
  for (auto& seat : route.feeds) {
    if (seat.load() != nullptr) continue;
    // The seat first: no signal is to find the handler and nobody to tell.
    seat.store(this);
    left_ignored_ = left_ignored_ - *one;
    const absl::Status registered = Register(signo);
    if (registered.ok() && !left_ignored_.Contains(signo)) {
      signals_ = signals_ | *one;
    } else {
      seat.store(nullptr);
    }
    return registered;
  }
  return absl::ResourceExhaustedError(absl::StrCat(
      NameOfSignal(signo), " has ", SignalSource::kMaxSourcesOfASignal,
      " SignalSources already"));
}

void SignalFeed::Remove(int signo) {
  if (!signals_.Contains(signo)) return;
  signals_.Remove(signo);
  const size_t index = static_cast<size_t>(signo);
  {
    LockedTable locked;
    Route& route = locked->routes[index];
    std::atomic<SignalFeed*>* mine = nullptr;
    bool others = false;
    for (auto& seat : route.feeds) {
      SignalFeed* const feed = seat.load();
      if (feed == this) {
        mine = &seat;
      } else if (feed != nullptr) {
        others = true;
      }
    }
    // The action first: what arrives in between is ours once more, instead of
    // nobody's.
    if (!others) Actions()[index].reset();
    if (mine != nullptr) mine->store(nullptr);
    while (route.running.load() != 0) sched_yield();
  }
  std::erase_if(backlog_, [signo](const Event& event) {
    return event.signal.signo == signo;
  });
  while (const std::optional<SignalEvent> event = ring_.Take()) {
    if (event->signo != signo) backlog_.push_back({.signal = *event});
  }
  dropped_[index].store(0);
}

SignalFeed::~SignalFeed() {
  for (const int signo : signals_.ToVector()) Remove(signo);
}

std::optional<SignalSource::Event> SignalFeed::Take() {
  if (backlog_.empty()) {
    if (const std::optional<SignalEvent> event = ring_.Take()) {
      return Event{.signal = *event};
    }
    if (overflowed_.exchange(false)) {
      for (const int signo : signals_.ToVector()) {
        const uint64_t count = dropped_[static_cast<size_t>(signo)].exchange(0);
        if (count == 0) continue;
        backlog_.push_back(
            {.signal = {.signo = signo}, .count = count, .details_lost = true});
      }
    }
  }
  if (backlog_.empty()) return std::nullopt;
  const Event event = backlog_.front();
  backlog_.pop_front();
  return event;
}

absl::StatusOr<std::optional<SignalSource::Event>> SignalFeed::Next() {
  if (!IsHere(generation_)) return Elsewhere();
  std::optional<Event> event = Take();
  if (event.has_value()) return event;
  // First make the descriptor unreadable, then look again: what arrives in
  // between is seen, and what arrives later makes it readable.
  const absl::StatusOr<std::optional<uint64_t>> wakes = wakeup_.Next();
  if (!wakes.ok()) return wakes.status();
  (void)awake_.exchange(false);
  event = Take();
  if (event.has_value()) WakeReader();  // There may be more.
  return event;
}

absl::Status SignalFeed::Check() const {
  if (!IsHere(generation_)) return Elsewhere();
  SignalSet replaced;
  {
    LockedTable locked;
    for (const int signo : signals_.ToVector()) {
      const std::optional<SignalAction>& action =
          Actions()[static_cast<size_t>(signo)];
      if (!action.has_value() || !action->stands()) {
        replaced = replaced | *SignalSet::Of({signo});
      }
    }
  }
  if (!replaced.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "somebody else has registered since, for: ", replaced.ToString()));
  }
  return CheckSomeThreadTakes(signals_);
}

absl::StatusOr<SignalSource> SignalSource::Create(
    const SignalSet& signals, const SignalSourceOptions& options) {
  if (options.capacity < 1 || options.capacity > kMaxCapacity) {
    return absl::InvalidArgumentError(
        absl::StrCat("the capacity of a SignalSource must be 1 to ",
                     kMaxCapacity, "; it is ", options.capacity));
  }
  const absl::Status receivable = CheckReceivable(signals);
  if (!receivable.ok()) return receivable;
  const absl::Status made = MakeTable();
  if (!made.ok()) return made;
  absl::StatusOr<WakeupFd> wakeup = WakeupFd::Create();
  if (!wakeup.ok()) return wakeup.status();
  const uint64_t generation = LockedTable()->generation.load();
  auto feed =
      std::make_unique<SignalFeed>(generation, *std::move(wakeup), options);
  for (const int signo : signals.ToVector()) {
    const absl::Status added = feed->Add(signo);
    if (!added.ok()) return added;
  }
  return SignalSource(std::move(feed));
}

SignalSource::SignalSource(std::unique_ptr<SignalFeed> feed)
    : feed_(std::move(feed)) {}
SignalSource::SignalSource(SignalSource&& other) noexcept = default;
SignalSource& SignalSource::operator=(SignalSource&& other) noexcept = default;
SignalSource::~SignalSource() = default;

int SignalSource::fd() const { return feed_ == nullptr ? -1 : feed_->fd(); }

absl::StatusOr<std::optional<SignalSource::Event>> SignalSource::Next() {
  return feed_->Next();
}

uint64_t SignalSource::CountOf(int signo) const {
  return IsSignal(signo) ? feed_->CountOf(signo) : 0;
}

absl::Status SignalSource::Add(int signo) { return feed_->Add(signo); }

void SignalSource::Remove(int signo) { feed_->Remove(signo); }

SignalSet SignalSource::signals() const { return feed_->signals(); }

SignalSet SignalSource::left_ignored() const { return feed_->left_ignored(); }

absl::Status SignalSource::Check() const { return feed_->Check(); }

}  // namespace brood
