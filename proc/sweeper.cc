// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/sweeper.h"

#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"

namespace brood {

absl::StatusOr<Sweeper> Sweeper::Create(size_t capacity) {
  // What has a lock inside must not be touched by a handler.
  static_assert(std::atomic<State>::is_always_lock_free);
  static_assert(std::atomic<Index>::is_always_lock_free);
  static_assert(std::atomic<size_t>::is_always_lock_free);
  constexpr size_t kMost = std::numeric_limits<Index>::max();
  if (capacity == 0 || capacity > kMost) {
    return absl::InvalidArgumentError(absl::StrCat(
        "sweep ", capacity, " children: from 1 to ", kMost, " are allowed"));
  }
  UniqueFd event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event.valid()) return ErrnoStatus(errno, "eventfd");
  return Sweeper(std::make_unique<Table>(capacity), std::move(event));
}

Sweeper::Sweeper(std::unique_ptr<Table> table, UniqueFd event)
    : table_(std::move(table)), event_(std::move(event)), owner_(getpid()) {
  free_.reserve(table_->slots.size());
}

absl::Status Sweeper::Add(pid_t pid, uint64_t tag) {
  if (pid <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("sweep pid ", pid, ": a pid is positive"));
  }
  const size_t used = table_->used.load(std::memory_order_relaxed);
  if (free_.empty() && used == table_->slots.size()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("sweep pid ", pid, ": there are ", used,
                     " children already, which is the capacity"));
  }
  siginfo_t info = {};
  if (RetryOnEintr([&] {
        return waitid(P_PID, static_cast<id_t>(pid), &info,
                      WEXITED | WNOHANG | WNOWAIT | __WALL);
      }) == -1) {
    return ErrnoStatus(errno, absl::StrCat("sweep pid ", pid));
  }
  Index index = static_cast<Index>(used);
  if (!free_.empty()) {
    index = free_.back();
    free_.pop_back();
  }
  Slot& slot = table_->slots[static_cast<size_t>(index)];
  slot.pid = pid;
  slot.tag = tag;
  slot.lost = false;
  slot.state.store(State::kLiving, std::memory_order_release);
  if (static_cast<size_t>(index) == used) {
    table_->used.store(used + 1, std::memory_order_release);
  }
  ++size_;
  // It may have ended before the handler could know of it.
  if (Ask(*table_, index)) Announce();
  return absl::OkStatus();
}

bool Sweeper::Ask(Table& table, Index index) noexcept {
  Slot& slot = table.slots[static_cast<size_t>(index)];
  // Only one may be in waitpid for a child: a second would get ECHILD, or by
  // then another child of that number.
  State state = slot.state.load(std::memory_order_acquire);
  while (true) {
    if (state == State::kLiving) {
      if (slot.state.compare_exchange_weak(state, State::kAsking,
                                           std::memory_order_acq_rel)) {
        break;
      }
    } else if (state == State::kAsking) {
      // Whoever is in there may have been told "not yet" just before the child
      // ended, and be unable to go on before this handler returns.
      if (slot.state.compare_exchange_weak(state, State::kAskingAgain,
                                           std::memory_order_acq_rel)) {
        return false;
      }
    } else {
      return false;
    }
  }
  while (true) {
    const long result = syscall(SYS_wait4, slot.pid, &slot.wait_status,
                                WNOHANG | __WALL, &slot.usage);
    if (result != 0) {
      slot.lost = result == -1;
      break;
    }
    state = State::kAsking;
    if (slot.state.compare_exchange_strong(state, State::kLiving,
                                           std::memory_order_acq_rel)) {
      return false;
    }
    slot.state.store(State::kAsking, std::memory_order_release);
  }
  slot.state.store(State::kEnded, std::memory_order_release);
  slot.next = table.ended.load(std::memory_order_relaxed);
  while (!table.ended.compare_exchange_weak(
      slot.next, index, std::memory_order_release, std::memory_order_relaxed)) {
  }
  return true;
}

void Sweeper::Announce() noexcept {
  const uint64_t one = 1;
  // EAGAIN: it counts to the utmost, and is readable.
  (void)!write(event_.get(), &one, sizeof one);
}

void Sweeper::Sweep() noexcept {
  const int saved = errno;
  // A copy in a child process would wait for its siblings, and wake up its
  // parent through the descriptor that both have.
  if (owner_ == getpid()) {
    bool any = false;
    const size_t used = table_->used.load(std::memory_order_acquire);
    for (size_t i = 0; i < used; ++i) {
      any |= Ask(*table_, static_cast<Index>(i));
    }
    if (any) Announce();
  }
  errno = saved;
}

std::optional<Sweeper::Exit> Sweeper::Next() {
  const auto take = [&] {
    taken_ = table_->ended.exchange(kNone, std::memory_order_acquire);
  };
  if (taken_ == kNone) take();
  if (taken_ == kNone) {
    uint64_t count;
    (void)!read(event_.get(), &count, sizeof count);
    // What came before the reading has been announced by what was read.
    take();
    if (taken_ == kNone) return std::nullopt;
    Announce();
  }
  const Index index = taken_;
  Slot& slot = table_->slots[static_cast<size_t>(index)];
  taken_ = slot.next;
  Exit exit = {slot.pid, slot.tag,
               slot.lost ? ExitStatus::Lost()
                         : ExitStatus::FromWaitStatus(slot.wait_status)};
  if (!slot.lost) {
    exit.status.set_usage(ResourceUsage::FromRusage(slot.usage));
  }
  slot.state.store(State::kFree, std::memory_order_release);
  free_.push_back(index);
  --size_;
  return exit;
}

}  // namespace brood
