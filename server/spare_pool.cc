// SPDX-License-Identifier: Apache-2.0
#include "brood/server/spare_pool.h"

#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
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

void SparePool::Start(PollLoop& loop, ConnectionHandler& handler,
                      const Limits& limits,
                      absl::AnyInvocable<void()> on_more) {
  loop_ = &loop;
  handler_ = &handler;
  limits_ = limits;
  on_more_ = std::move(on_more);
}

void SparePool::Decide(size_t connections) {
  if (loop_ == nullptr) return;
  if (is_on()) {
    if (connections < kCrowd / 2) Stop();
  } else if (MonotonicNow() >= not_before_) {
    StartZygote();
  }
}

void SparePool::StartZygote() {
  not_before_ = MonotonicNow() + kRetry;
  // Without such a signal a child of somebody else's fork cannot be waited for.
  const std::optional<int> exit_signal = reaper_.exit_signal();
  if (!exit_signal.has_value()) return;
  absl::StatusOr<Zygote> zygote =
      Zygote::Start(*handler_, limits_, *exit_signal);
  if (!zygote.ok()) return;
  if (!reaper_.Add(zygote->TakeProcess(), kTag).ok()) return;
  zygote_.emplace(*std::move(zygote));
  loop_->Watch(zygote_->fd(), [this] { return TakeIn(); });
  AskForMore();
}

void SparePool::Stop() {
  if (!is_on()) return;
  loop_->Unwatch(zygote_->fd());
  spares_.clear();
  zygote_.reset();
  coming_ = 0;
}

void SparePool::Renew() {
  if (!is_on()) return;
  Stop();
  StartZygote();
}

void SparePool::AskForMore() {
  if (!is_on() || pausing_) return;
  const size_t missing = SparePolicy::Missing(spares_.size() + coming_);
  if (missing == 0) return;
  // If it does not listen, it is as good as gone, and TakeIn() will hear of it.
  if (zygote_->Ask(static_cast<uint32_t>(missing)).ok()) coming_ += missing;
}

absl::Status SparePool::TakeIn() {
  while (is_on()) {
    absl::StatusOr<std::optional<Zygote::Spare>> spare = zygote_->Next();
    if (spare.ok() && !spare->has_value()) break;
    if (spare.ok()) {
      TakeIn(**std::move(spare));
    } else if (IsShortage(spare.status())) {
      coming_ = 0;
      if (!std::exchange(pausing_, true)) {
        loop_->CallAfter(kShortagePause, [this] {
          pausing_ = false;
          AskForMore();
          return absl::OkStatus();
        });
      }
    } else {
      Stop();
    }
  }
  on_more_();
  return absl::OkStatus();
}

void SparePool::TakeIn(Zygote::Spare spare) {
  if (coming_ > 0) --coming_;
  // It does so itself, but may have its client and be signalled before that.
  (void)setpgid(spare.pid, spare.pid);
  const bool added =
      reaper_.Add(Child(spare.pid, *reaper_.exit_signal()), kTag).ok();
  if (added && spare.channel.fd() != -1) spares_.push_back(std::move(spare));
}

void SparePool::NoteEnd(pid_t pid) {
  const auto spare = std::ranges::find(spares_, pid, &Zygote::Spare::pid);
  if (spare == spares_.end()) return;
  spares_.erase(spare);
  AskForMore();
}

SparePool::Way SparePool::WayFor(const SourceKey& source) const {
  if (!is_on()) return Way::kFork;
  if (!spares_.empty() && policy_.MayTake(source, spares_.size())) {
    return Way::kSpare;
  }
  return coming_ > 0 ? Way::kWait : Way::kFork;
}

std::optional<pid_t> SparePool::Give(const SourceKey& source,
                                     const Stream& connection,
                                     const ConnectionInfo& info,
                                     TcpTotals* totals, uint64_t tag) {
  std::optional<pid_t> taken;
  while (!taken.has_value() && !spares_.empty()) {
    // One that has been killed is not there any more, and the next is tried.
    Zygote::Spare spare = std::move(spares_.front());
    spares_.pop_front();
    if (spare.Give(connection, info, totals).ok()) taken = spare.pid;
  }
  if (taken.has_value()) {
    reaper_.SetTag(*taken, tag);
    policy_.NoteTaken(source);
  }
  AskForMore();
  return taken;
}

}  // namespace brood
