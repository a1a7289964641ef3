// SPDX-License-Identifier: Apache-2.0
#include "brood/server/spare_pool.h"

#include <poll.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <optional>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "brood/net/source_key.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/limits.h"
#include "brood/proc/posix.h"
#include "brood/server/connection_handler.h"
#include "brood/server/poll_loop.h"
#include "brood/server/spare_policy.h"
#include "brood/server/zygote.h"

namespace brood {
namespace {

// Whether a spare that was to be given a connection is there no more.
bool IsGone(const absl::Status& status) {
  return ErrnoOf(status) == EPIPE || ErrnoOf(status) == ECONNRESET;
}

}  // namespace

void SparePool::Start(PollLoop& loop, const Limits& limits, size_t from,
                      absl::AnyInvocable<void()> on_more) {
  loop_ = &loop;
  limits_ = limits;
  from_ = from;
  on_more_ = std::move(on_more);
}

void SparePool::Decide(size_t connections) {
  if (is_on()) {
    if (connections < (from_ + 1) / 2) {
      LetGo();
    } else {
      AskForMore();
    }
  } else if (MonotonicNow() >= not_before_) {
    StartZygote();
  }
}

SparePool::~SparePool() {
  constexpr absl::Duration kTimeToDie = absl::Milliseconds(100);
  if (is_on()) Kill();
  const absl::Time deadline = absl::Now() + kTimeToDie;
  for (Zygote& zygote : leaving_) {
    while (PollUntil(zygote.fd(), POLLIN, deadline).value_or(false)) {
      if (SeeOff(zygote)) break;
    }
  }
}

void SparePool::StartZygote() {
  not_before_ = MonotonicNow() + kRetry;
  // Without such a signal a child of somebody else's fork cannot be waited for.
  const std::optional<int> exit_signal = reaper_.exit_signal();
  if (!exit_signal.has_value()) return;
  absl::StatusOr<Zygote> zygote =
      Zygote::Start(handler_, limits_, *exit_signal);
  if (!zygote.ok()) return;
  Child process = zygote->TakeProcess();
  zygote_pid_ = process.pid();
  if (!reaper_.Add(std::move(process), kTag).ok()) return;
  zygote_.emplace(*std::move(zygote));
  loop_->Watch(zygote_->fd(), [this] { return TakeIn(); });
  AskForMore();
}

void SparePool::Stop() {
  from_ = std::numeric_limits<size_t>::max();
  LetGo();
}

void SparePool::LetGo() {
  if (!is_on()) return;
  Kill();
  const auto last = std::prev(leaving_.end());
  loop_->Watch(last->fd(), [this, last] {
    if (SeeOff(*last)) {
      loop_->Unwatch(last->fd());
      leaving_.erase(last);
    }
    return absl::OkStatus();
  });
}

void SparePool::Kill() {
  if (zygote_pid_ != -1) (void)reaper_.SignalGroup(zygote_pid_, SIGKILL);
  leaving_.push_back(*std::move(zygote_));
  zygote_.reset();
  spares_.clear();
  not_before_ = MonotonicNow() + kRetry;
}

bool SparePool::SeeOff(Zygote& leaving) {
  while (true) {
    const absl::StatusOr<std::optional<Zygote::Spare>> spare = leaving.Next();
    if (absl::IsOutOfRange(spare.status())) return true;
    if (!spare.ok()) continue;  // One could not be forked.
    if (!spare->has_value()) return false;
    (void)TakeCharge((*spare)->pid);
  }
}

void SparePool::Renew() {
  if (!is_on()) return;
  LetGo();
  StartZygote();
}

void SparePool::AskForMore() {
  if (!is_on() || pausing_) return;
  const size_t missing = SparePolicy::Missing(spares_.size() + coming());
  if (missing == 0) return;
  // If it does not listen it is gone, and TakeIn() will hear of it.
  if (coming() == 0) owes_since_ = MonotonicNow();
  if (!zygote_->Ask(static_cast<uint32_t>(missing)).ok()) return;
  if (!std::exchange(expecting_, true)) ExpectAnswer();
}

// One that somebody has stopped would let everybody wait.
void SparePool::ExpectAnswer() {
  const absl::Duration now = MonotonicNow();
  if (coming() > 0 && now - owes_since_ >= kRetry) {
    LetGo();
    on_more_();
  }
  expecting_ = coming() > 0;
  if (!expecting_) return;
  loop_->CallAfter(owes_since_ + kRetry - now, [this] {
    ExpectAnswer();
    return absl::OkStatus();
  });
}

absl::Status SparePool::TakeIn() {
  while (is_on()) {
    absl::StatusOr<std::optional<Zygote::Spare>> spare = zygote_->Next();
    if (spare.ok() && !spare->has_value()) break;
    if (IsShortage(spare.status())) {
      Pause();
    } else if (!spare.ok()) {
      LetGo();
    } else {
      owes_since_ = MonotonicNow();
      const bool is_mine = TakeCharge((*spare)->pid);
      if ((*spare)->channel.fd() == -1) {
        Pause();
      } else if (is_mine) {
        spares_.push_back(**std::move(spare));
      }
    }
  }
  on_more_();
  return absl::OkStatus();
}

bool SparePool::TakeCharge(pid_t pid) {
  // It does so itself, but may have its client and be signalled before that.
  (void)setpgid(pid, pid);
  Child child(pid, *reaper_.exit_signal());
  // It may have ended before it had a name, and been announced to nobody.
  (void)child.TryWait();
  return reaper_.Add(std::move(child), kTag).ok();
}

void SparePool::Pause() {
  if (std::exchange(pausing_, true)) return;
  loop_->CallAfter(kShortagePause, [this] {
    pausing_ = false;
    AskForMore();
    return absl::OkStatus();
  });
}

void SparePool::NoteEnd(pid_t pid) {
  if (pid == zygote_pid_) {
    zygote_pid_ = -1;  // From here on it may be somebody else's.
    LetGo();
    return;
  }
  const auto spare = std::ranges::find(spares_, pid, &Zygote::Spare::pid);
  if (spare == spares_.end()) return;
  spares_.erase(spare);
  // Whatever it is that kills them, it is not to have one after the other.
  Pause();
}

SparePool::Way SparePool::WayFor(const SourceKey& source) const {
  if (!is_on()) return Way::kFork;
  if (!spares_.empty() && policy_.MayTake(source, spares_.size())) {
    return Way::kSpare;
  }
  return coming() > 0 && !pausing_ ? Way::kWait : Way::kFork;
}

std::optional<pid_t> SparePool::Give(const SourceKey& source,
                                     const Stream& connection,
                                     const ConnectionInfo& info,
                                     TcpTotals* totals, uint64_t tag) {
  std::optional<pid_t> taken;
  if (WayFor(source) != Way::kSpare) return taken;  // They are for others.
  while (!taken.has_value() && !spares_.empty()) {
    const absl::Status given = spares_.front().Give(connection, info, totals);
    if (!given.ok()) Pause();
    if (!given.ok() && !IsGone(given)) break;
    if (given.ok()) taken = spares_.front().pid;
    spares_.pop_front();
  }
  if (taken.has_value()) {
    reaper_.SetTag(*taken, tag);
    policy_.NoteTaken(source);
  }
  AskForMore();
  return taken;
}

}  // namespace brood
