// SPDX-License-Identifier: Apache-2.0
#include "brood/server/flood_shield.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/net/address_range.h"
#include "brood/net/source_key.h"
#include "brood/proc/posix.h"
#include "brood/server/connection_log.h"
#include "brood/server/poll_loop.h"

namespace brood {
namespace {

// Whoever is held back is let go within moments, and held back again.
constexpr absl::Duration kToldHeld = absl::Seconds(10);

constexpr std::string_view kWhyHeld = "as many of it wait as may";

}  // namespace

void FloodShield::Start(PollLoop& loop, Doors doors) {
  loop_ = &loop;
  if (guard_.threshold() > 0) doors_ = std::move(doors);
}

void FloodShield::Stop() {
  if (!on()) return;
  if (!Unheard(MonotonicNow()).empty()) (void)doors_.drop({});
  doors_ = {};
  held_.clear();
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

void FloodShield::Hold(const SourceKey& source) {
  if (!on() || !source.network().has_value() || held_.size() >= kMostHeld ||
      Holds(source)) {
    return;
  }
  const absl::Duration now = MonotonicNow();
  held_.push_back(*source.network());
  held_some_ = true;
  Update(now);
  if (!on() || observer_ == nullptr || now < told_held_until_) return;
  told_held_until_ = now + kToldHeld;
  const std::string who = source.ToString();
  observer_({.name = "held_back",
             .sentence =
                 absl::StrCat("held back ", who, ": as many of it wait as may"),
             .fields = {{"source", who}}});
}

bool FloodShield::Holds(const SourceKey& source) const {
  return source.network().has_value() &&
         absl::c_linear_search(held_, *source.network());
}

void FloodShield::LetGo(const SourceKey& source) {
  if (source.network().has_value() &&
      std::erase(held_, *source.network()) > 0) {
    Update(MonotonicNow());
  }
}

void FloodShield::ShutOut(const SourceKey& source, absl::Duration now) {
  dropped_ = doors_.dropped();
  held_some_ = !held_.empty();
  goes_on_ = false;
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

std::vector<AddressRange> FloodShield::Unheard(absl::Duration now) const {
  std::vector<AddressRange> sources = guard_.Shut(now);
  sources.insert(sources.end(), held_.begin(), held_.end());
  return sources;
}

void FloodShield::Update(absl::Duration now) {
  const absl::Status status = doors_.drop(Unheard(now));
  if (status.ok()) {
    OpenLater(now);
    return;
  }
  doors_ = {};
  held_.clear();
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
    if (on()) OpenUnlessItGoesOn(MonotonicNow());
    return absl::OkStatus();
  });
}

void FloodShield::OpenUnlessItGoesOn(absl::Duration now) {
  const uint32_t dropped = doors_.dropped();
  const uint32_t knocks = dropped - std::exchange(dropped_, dropped);
  // Who is held knocks as well, and it is not known who did.
  const bool known = !std::exchange(held_some_, !held_.empty());
  const std::optional<AddressRange> source =
      guard_.GoesOn(now, known ? knocks : 0);
  if (!source.has_value()) {
    Update(now);
    return;
  }
  OpenLater(now);
  if (std::exchange(goes_on_, true) || observer_ == nullptr) return;
  const std::string who = source->ToString();
  observer_({.name = "flood_goes_on",
             .sentence = absl::StrCat("shut out ", who,
                                      " as long as it goes on: ", knocks,
                                      " dropped since"),
             .fields = {{"source", who}, {"dropped", uint64_t{knocks}}}});
}

std::string FloodShield::Explain(const SourceKey& source) const {
  if (!on()) return "";
  if (Holds(source)) return absl::StrCat("held back: ", kWhyHeld, "\n");
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
