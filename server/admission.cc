// SPDX-License-Identifier: Apache-2.0
#include "brood/server/admission.h"

#include <sys/types.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/hash/hash.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/source_key.h"
#include "brood/proc/unforked.h"
#include "brood/server/token_bucket.h"

namespace brood {
namespace {

// What a source counts as when there are too many of them.
constexpr int kNetworkIPv4 = 24;
constexpr int kNetworkIPv6 = 48;

// The place of a source that is not remembered.
constexpr uint32_t kUncounted = ~uint32_t{0};

// How many sources are looked at, for one to forget, before a newcomer is
// called one too many. Each arrival looks at the next ones, so that all have
// been looked at after an eighth as many have come.
constexpr uint32_t kGlances = 8;

// The number that `text` is, digits only, from 1 to kMax.
std::optional<uint32_t> Number(std::string_view text) {
  uint32_t number = 0;
  const bool digits =
      std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
  if (!digits || !absl::SimpleAtoi(text, &number)) return std::nullopt;
  if (number < 1 || number > ConnectionRate::kMax) return std::nullopt;
  return number;
}

std::optional<absl::Duration> Period(std::string_view unit) {
  if (unit == "s") return absl::Seconds(1);
  if (unit == "m") return absl::Minutes(1);
  if (unit == "h") return absl::Hours(1);
  return std::nullopt;
}

std::string PeriodName(absl::Duration period) {
  if (period == absl::Seconds(1)) return "s";
  if (period == absl::Minutes(1)) return "m";
  if (period == absl::Hours(1)) return "h";
  return absl::FormatDuration(period);
}

Pace PaceOf(const ConnectionRate& rate) {
  return {rate.Interval(), rate.burst};
}

}  // namespace

absl::StatusOr<ConnectionRate> ConnectionRate::Parse(std::string_view text) {
  const std::string_view average = text.substr(0, text.find(','));
  const size_t slash = average.find('/');
  const std::optional<uint32_t> connections = Number(average.substr(0, slash));
  const std::optional<absl::Duration> period =
      slash == average.npos ? std::nullopt : Period(average.substr(slash + 1));
  const std::optional<uint32_t> burst =
      average.size() == text.size() ? connections
                                    : Number(text.substr(average.size() + 1));
  if (!connections.has_value() || !period.has_value() || !burst.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "connection rate \"", absl::CHexEscape(text),
        "\": expected N/s, N/m or N/h, and a burst or none, as in 5/s,10; "
        "each number from 1 to ",
        kMax));
  }
  return ConnectionRate{
      .connections = *connections, .period = *period, .burst = *burst};
}

absl::Duration ConnectionRate::Interval() const {
  if (connections == 0 || period <= absl::ZeroDuration()) {
    return absl::ZeroDuration();
  }
  return period / connections;
}

std::string ConnectionRate::ToString() const {
  if (!limited()) return "no limit";
  return absl::StrCat(connections, "/", PeriodName(period), ",", burst);
}

// Lives as long as the Admission or any slot.
//
// After a fork each page that the parent writes is copied first, so what one
// arrival or end writes is close together: the few numbers here, and one
// Source.
struct Admission::State : public Unforked {
  struct Source {
    SourceKey key;
    bool remembered = false;  // Else its place is free.
    uint32_t connections = 0;
    TokenBucket bucket;
  };

  // By key, in a set of places. Strangers choose the keys, so where the state
  // lies in memory is part of the hash: what collides in one process does not
  // in another.
  struct Hash {
    using is_transparent = void;
    const State* state;
    size_t operator()(const SourceKey& key) const {
      return absl::HashOf(state, key);
    }
    size_t operator()(uint32_t place) const {
      return (*this)(state->sources[place].key);
    }
  };
  struct Equal {
    using is_transparent = void;
    const State* state;
    bool operator()(uint32_t a, uint32_t b) const { return a == b; }
    bool operator()(uint32_t place, const SourceKey& key) const {
      return state->sources[place].key == key;
    }
    bool operator()(const SourceKey& key, uint32_t place) const {
      return state->sources[place].key == key;
    }
  };

  // Whom a client counts against, and where that is remembered.
  struct Account {
    SourceKey key;
    uint32_t place;
  };

  State(const ConnectionLimits& the_limits, size_t the_max_sources)
      : limits(the_limits),
        pace(PaceOf(the_limits.rate_per_source)),
        max_sources(std::min<size_t>(the_max_sources, kUncounted)) {}

  bool CountsSources() const {
    return limits.count_sources || pace.limited() ||
           limits.max_connections_per_source != ConnectionLimits::kNone;
  }

  // The last quarter is kept for networks.
  bool IsFullForSources() const {
    return index.size() >= max_sources - max_sources / 4;
  }
  bool IsFull() const { return index.size() >= max_sources; }

  uint32_t PlaceOf(const SourceKey& key) const {
    const auto found = index.find(key);
    return found == index.end() ? kUncounted : *found;
  }

  Account AccountOf(const Client& client) const {
    const uint32_t place = PlaceOf(client.source);
    if (place != kUncounted || !IsFullForSources()) {
      return {.key = client.source, .place = place};
    }
    return {.key = client.network, .place = PlaceOf(client.network)};
  }

  uint32_t Remember(const SourceKey& key) {
    if (IsFull()) return kUncounted;
    uint32_t place = static_cast<uint32_t>(sources.size());
    if (free.empty()) {
      sources.push_back({.key = key, .remembered = true, .bucket = {}});
    } else {
      place = free.back();
      free.pop_back();
      sources[place] = {.key = key, .remembered = true, .bucket = {}};
    }
    index.insert(place);
    return place;
  }

  void Forget(uint32_t place) {
    index.erase(place);
    sources[place].remembered = false;
    free.push_back(place);
  }

  // Looks at a few, each time at others.
  void ForgetSome(absl::Duration now) {
    for (uint32_t i = 0; i < kGlances && !sources.empty(); ++i) {
      hand = (hand + 1) % static_cast<uint32_t>(sources.size());
      const Source& source = sources[hand];
      if (source.remembered && source.connections == 0 &&
          source.bucket.IsFull(pace, now)) {
        Forget(hand);
      }
    }
  }

  Answer Judge(const Account& account, absl::Duration now) const {
    const Source* source =
        account.place == kUncounted ? nullptr : &sources[account.place];
    if (source != nullptr) {
      const absl::Duration wait = source->bucket.Wait(pace, now);
      if (wait > absl::ZeroDuration()) {
        return {.verdict = Verdict::kSourceTooFast,
                .source = account.key,
                .connections = 0,
                .limit = 0,
                .rate = limits.rate_per_source,
                .retry_after = wait};
      }
    }
    return JudgeSlot(account.key, source == nullptr ? 0 : source->connections);
  }

  Answer JudgeSlot(const SourceKey& key, size_t of_source) const {
    const auto answer = [&](Verdict verdict, size_t of,
                            size_t limit) -> Answer {
      return {.verdict = verdict,
              .source = key,
              .connections = of,
              .limit = limit,
              .rate = {},
              .retry_after = absl::ZeroDuration()};
    };
    if (CountsSources() && of_source >= limits.max_connections_per_source) {
      return answer(Verdict::kSourceFull, of_source,
                    limits.max_connections_per_source);
    }
    if (connections >= limits.max_connections) {
      return answer(Verdict::kServerFull, connections, limits.max_connections);
    }
    return answer(Verdict::kAdmitted, 0, 0);
  }

  void TakeOne(uint32_t place) {
    ++connections;
    if (place == kUncounted) return;
    ++sources[place].connections;
    Tell(place);
  }

  void GiveBackOne(uint32_t place) {
    --connections;
    if (place != kUncounted) {
      --sources[place].connections;
      Tell(place);
      ForgetIfNothingIsKnown(place);
    }
    if (abandoned && connections == 0) delete this;
  }

  // With a rate, the bucket says more than that there is no connection; what
  // the time is, only an arrival knows.
  void ForgetIfNothingIsKnown(uint32_t place) {
    if (sources[place].connections == 0 && !pace.limited()) {
      Forget(place);
    }
  }

  void Tell(uint32_t place) {
    if (observer == nullptr) return;
    observer(sources[place].key, sources[place].connections);
  }

  size_t connections = 0;
  bool abandoned = false;                             // By the Admission.
  absl::Duration latest = -absl::InfiniteDuration();  // Moment of an arrival.
  ConnectionLimits limits;
  Pace pace;  // Of the limits.
  const size_t max_sources;
  uint32_t hand = 0;  // The place that was looked at last.
  std::vector<Source, UnforkedAllocator<Source>> sources;
  std::vector<uint32_t, UnforkedAllocator<uint32_t>> free;  // Places.
  absl::flat_hash_set<uint32_t, Hash, Equal, UnforkedAllocator<uint32_t>> index{
      0, Hash{this}, Equal{this}};
  absl::AnyInvocable<void(const SourceKey&, size_t)> observer;
};

Admission::Client Admission::Client::Of(const Address& peer,
                                        const SourceKey::Lengths& lengths) {
  // Cannot fail: neither is longer than a length that was checked.
  const SourceKey::Lengths wider =
      *SourceKey::Lengths::Create(std::min(lengths.ipv4(), kNetworkIPv4),
                                  std::min(lengths.ipv6(), kNetworkIPv6));
  return {.source = SourceKey::Of(peer, lengths),
          .network = SourceKey::Of(peer, wider)};
}

Admission::Client Admission::Client::OfUser(uid_t user) {
  return {.source = SourceKey::OfUser(user),
          .network = SourceKey::Of(Address())};
}

Admission::Slot& Admission::Slot::operator=(Slot&& other) noexcept {
  if (this == &other) return *this;
  GiveBack();
  state_ = std::exchange(other.state_, nullptr);
  source_ = other.source_;
  return *this;
}

void Admission::Slot::GiveBack() {
  if (State* state = std::exchange(state_, nullptr)) {
    state->GiveBackOne(source_);
  }
}

std::string Admission::Answer::ToString() const {
  switch (verdict) {
    case Verdict::kAdmitted:
      return absl::StrCat(source, ": let in");
    case Verdict::kServerFull:
      return absl::StrCat(source, ": ", connections, " of ", limit,
                          " connections");
    case Verdict::kSourceFull:
      return absl::StrCat(source, ": ", connections, " of ", limit,
                          " connections of this source");
    case Verdict::kSourceTooFast:
      break;
  }
  return absl::StrCat(source, ": more than ", rate.ToString(),
                      " from this source; again in ",
                      absl::FormatDuration(retry_after));
}

void Admission::Abandon::operator()(State* state) const {
  if (state->connections == 0) {
    delete state;
    return;
  }
  state->abandoned = true;
  state->observer = nullptr;
}

Admission::Admission(const ConnectionLimits& limits, size_t max_sources)
    : state_(new State(limits, max_sources)) {}

Admission::Arrival Admission::Arrive(const Client& client, absl::Duration now) {
  State& state = *state_;
  if (!state.CountsSources()) {
    Arrival arrival = {.answer = state.JudgeSlot(client.source, 0), .slot = {}};
    if (arrival.answer.verdict == Verdict::kAdmitted) {
      state.TakeOne(kUncounted);
      arrival.slot = Slot(&state, kUncounted);
    }
    return arrival;
  }
  now = state.latest = std::max(now, state.latest);
  if (state.IsFullForSources()) state.ForgetSome(now);
  State::Account account = state.AccountOf(client);
  if (account.place != kUncounted) {
    state.sources[account.place].bucket.Settle(state.pace, now);
  }
  Arrival arrival = {.answer = state.Judge(account, now), .slot = {}};
  const bool admitted = arrival.answer.verdict == Verdict::kAdmitted;
  const bool pays =
      state.pace.limited() && arrival.answer.verdict != Verdict::kSourceTooFast;
  if (account.place == kUncounted && (admitted || pays)) {
    account.place = state.Remember(account.key);
  }
  if (pays && account.place != kUncounted) {
    state.sources[account.place].bucket.Take(state.pace, now);
  }
  if (admitted) {
    state.TakeOne(account.place);
    arrival.slot = Slot(&state, account.place);
  }
  return arrival;
}

std::optional<Admission::Slot> Admission::Admit(const SourceKey& source) {
  State& state = *state_;
  if (state.JudgeSlot(source, connections_of(source)).verdict !=
      Verdict::kAdmitted) {
    return std::nullopt;
  }
  uint32_t place = kUncounted;
  if (state.CountsSources()) {
    place = state.PlaceOf(source);
    if (place == kUncounted) place = state.Remember(source);
  }
  state.TakeOne(place);
  return Slot(&state, place);
}

Admission::Answer Admission::Preview(const Client& client,
                                     absl::Duration now) const {
  if (!state_->CountsSources()) return state_->JudgeSlot(client.source, 0);
  return state_->Judge(state_->AccountOf(client),
                       std::max(now, state_->latest));
}

std::optional<uint32_t> Admission::TokensOf(const Client& client,
                                            absl::Duration now) const {
  if (!state_->pace.limited()) return std::nullopt;
  const uint32_t place = state_->AccountOf(client).place;
  const TokenBucket bucket =
      place == kUncounted ? TokenBucket() : state_->sources[place].bucket;
  return bucket.Tokens(state_->pace, std::max(now, state_->latest));
}

void Admission::Refill(const Client& client) {
  const uint32_t place = state_->AccountOf(client).place;
  if (place == kUncounted) return;
  State::Source& source = state_->sources[place];
  source.bucket = TokenBucket();
  if (source.connections == 0) state_->Forget(place);
}

void Admission::set_limits(const ConnectionLimits& limits) {
  state_->limits = limits;
  state_->pace = PaceOf(limits.rate_per_source);
}

const ConnectionLimits& Admission::limits() const { return state_->limits; }

bool Admission::counts_sources() const { return state_->CountsSources(); }

size_t Admission::connections() const { return state_->connections; }

size_t Admission::connections_of(const SourceKey& source) const {
  const uint32_t place = state_->PlaceOf(source);
  return place == kUncounted ? 0 : state_->sources[place].connections;
}

size_t Admission::sources() const { return state_->index.size(); }

void Admission::OnSourceChange(
    absl::AnyInvocable<void(const SourceKey& source, size_t connections)>
        observer) {
  state_->observer = std::move(observer);
}

}  // namespace brood
