// SPDX-License-Identifier: Apache-2.0
#include "brood/server/flood_shield.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/net/source_key.h"
#include "brood/proc/posix.h"
#include "brood/server/connection_log.h"
#include "brood/server/poll_loop.h"

namespace brood {

void FloodShield::Start(PollLoop& loop, Drop drop) {
  loop_ = &loop;
  if (guard_.threshold() > 0) drop_ = std::move(drop);
}

void FloodShield::Stop() {
  if (!on()) return;
  if (!guard_.Shut(MonotonicNow()).empty()) (void)drop_({});
  drop_ = nullptr;
}

void FloodShield::Count(const SourceKey& source) {
  if (!on()) return;
  const absl::Duration now = MonotonicNow();
  if (guard_.Count(source, now)) ShutOut(source, now);
}

void FloodShield::CountAll(const SourceKey& source) {
  if (!on()) return;
  const absl::Duration now = MonotonicNow();
  if (guard_.CountAll(source, now)) ShutOut(source, now);
}

void FloodShield::ShutOut(const SourceKey& source, absl::Duration now) {
  Update(now);
  if (!on() || observer_ == nullptr) return;
  const std::string who = source.ToString();
  const std::string time =
      absl::FormatDuration(guard_.ShutUntil(source, now).value_or(now) - now);
  observer_({.name = "shut_out",
             .sentence = absl::StrCat("shut out ", who, " for ", time, ": ",
                                      Why(source)),
             .fields = {{"source", who}, {"time", time}}});
}

void FloodShield::Update(absl::Duration now) {
  const absl::Status status = drop_(guard_.Shut(now));
  if (status.ok()) {
    OpenLater(now);
    return;
  }
  drop_ = nullptr;
  if (observer_ == nullptr) return;
  const std::string why(status.message());
  observer_({.name = "no_shield",
             .sentence = absl::StrCat("floods cannot be shut out: ", why),
             .fields = {{"why", why}}});
}

void FloodShield::OpenLater(absl::Duration now) {
  const std::optional<absl::Duration> next = guard_.NextOpening(now);
  // One that was set for a later time is left to find nothing to do.
  if (!next.has_value() || *next >= timer_at_) return;
  timer_at_ = *next;
  loop_->CallAfter(*next - now, [this] {
    timer_at_ = absl::InfiniteDuration();
    if (on()) Update(MonotonicNow());
    return absl::OkStatus();
  });
}

std::string FloodShield::Explain(const SourceKey& source) const {
  if (!on()) return "";
  const absl::Duration now = MonotonicNow();
  const std::optional<absl::Duration> until = guard_.ShutUntil(source, now);
  if (!until.has_value()) return "";
  return absl::StrCat("shut out: for ", absl::FormatDuration(*until - now),
                      " more: ", Why(source), "\n");
}

std::string FloodShield::Why(const SourceKey& source) const {
  return guard_.WentOn(source)
             ? "it went on after it had been shut out"
             : absl::StrCat(guard_.threshold(), " turned away within a second");
}

bool FloodShield::Forget(const SourceKey& source) {
  if (!on()) return false;
  const absl::Duration now = MonotonicNow();
  const bool was_shut_out = guard_.ShutUntil(source, now).has_value();
  guard_.Forget(source);
  if (was_shut_out) Update(now);
  return was_shut_out;
}

}  // namespace brood
