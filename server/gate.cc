// SPDX-License-Identifier: Apache-2.0
#include "brood/server/gate.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/proxy_protocol.h"
#include "brood/net/source_key.h"
#include "brood/net/stream.h"
#include "brood/proc/posix.h"
#include "brood/server/admission.h"
#include "brood/server/connection_log.h"
#include "brood/server/explain.h"
#include "brood/server/flood_shield.h"
#include "brood/server/poll_loop.h"
#include "brood/server/rules.h"
#include "brood/server/turned_away.h"

namespace brood {
namespace {

// How many connections may wait for what their proxies have to say. Proxies are
// trusted, but a slow one must not take all descriptors.
constexpr size_t kMaxLobby = 1024;

constexpr absl::Duration kClockTick = absl::Milliseconds(100);

ConnectionLimits WithSources(ConnectionLimits limits, size_t max_waiting) {
  limits.count_sources = limits.count_sources || max_waiting > 0;
  return limits;
}

}  // namespace

Gate::Gate(Options options)
    : options_(std::move(options)),
      admission_(WithSources(options_.limits, options_.max_waiting)),
      room_(admission_, options_.max_waiting),
      room_observer_([] {}),
      shield_(options_.flood_threshold) {
  const auto tell = [this](const LogEvent& event) {
    if (observer_ != nullptr) observer_(event);
  };
  turned_away_.OnEvent(tell);
  shield_.OnEvent(tell);
}

void Gate::Start(PollLoop& loop, absl::AnyInvocable<void(Entrant&&)> enter) {
  loop_ = &loop;
  enter_ = std::move(enter);
}

void Gate::ShieldBy(FloodShield::Doors doors) {
  shield_.Start(*loop_, std::move(doors));
}

void Gate::set_max_connections(size_t max_connections) {
  ConnectionLimits limits = admission_.limits();
  limits.max_connections = max_connections;
  admission_.set_limits(limits);
}

// Whether the next client would find a place, here or inside, or is to be told
// that there is none. Otherwise it waits in the kernel's queue.
bool Gate::HasRoom() const {
  // Who has yet to say for whom it speaks has left the queue, and would have
  // nowhere to wait if another took its place meanwhile.
  return options_.at_limit != AtLimit::kQueue || options_.max_waiting > 0 ||
         admission_.connections() + lobby_.size() <
             admission_.limits().max_connections;
}

bool Gate::Arrive(Accepted&& client, const Address& local) {
  Entrant entrant = {
      .stream = std::move(client.stream), .local = local, .peer = client.peer};
  if (options_.trusted_proxies.Contains(entrant.peer)) {
    AskForWhom(std::move(entrant));
  } else {
    Judge(std::move(entrant));
  }
  return HasRoom();
}

// Not inlined, for what it keeps on the stack: see ForkPerConnection::Enter().
ABSL_ATTRIBUTE_NOINLINE void Gate::AskForWhom(Entrant&& entrant) {
  if (lobby_.size() >= kMaxLobby) {
    TurnAway(std::move(entrant), "too many proxies have yet to speak",
             Farewell::kReset);
    return;
  }
  lobby_.push_back({.entrant = std::move(entrant),
                    .parser = ProxyHeaderParser(options_.proxy_header),
                    .until = MonotonicNow() + options_.proxy_timeout});
  const Lobby::iterator visitor = std::prev(lobby_.end());
  loop_->Watch(visitor->entrant.stream.fd(),
               [this, visitor] { return Listen(visitor); });
  if (!std::exchange(looking_at_the_clock_, true)) {
    loop_->CallAfter(kClockTick, [this] { return LookAtTheClock(); });
  }
}

absl::Status Gate::Listen(Lobby::iterator visitor) {
  Entrant& entrant = visitor->entrant;
  const absl::StatusOr<bool> done =
      TryReadProxyHeader(entrant.stream.fd(), entrant.peer, visitor->parser);
  if (done.ok() && !*done) return absl::OkStatus();
  std::optional<ProxyEndpoints> endpoints;
  if (done.ok()) endpoints = visitor->parser.header().endpoints;
  loop_->Unwatch(entrant.stream.fd());
  Entrant gone = std::move(entrant);
  lobby_.erase(visitor);
  if (endpoints.has_value()) {
    gone.proxy = gone.peer;
    gone.peer = endpoints->source.Unmapped();
    gone.local = endpoints->destination.Unmapped();
  }
  if (done.ok()) {
    Judge(std::move(gone));
  } else {
    TurnAway(std::move(gone), done.status().message(), Farewell::kReset);
  }
  if (HasRoom()) room_observer_();
  return absl::OkStatus();
}

absl::Status Gate::LookAtTheClock() {
  const absl::Duration now = MonotonicNow();
  const size_t before = lobby_.size();
  while (!lobby_.empty() && lobby_.front().until <= now) {
    loop_->Unwatch(lobby_.front().entrant.stream.fd());
    Entrant gone = std::move(lobby_.front().entrant);
    lobby_.pop_front();
    TurnAway(std::move(gone),
             absl::StrCat("the proxy did not say for whom it speaks within ",
                          absl::FormatDuration(options_.proxy_timeout)),
             Farewell::kReset);
  }
  looking_at_the_clock_ = !lobby_.empty();
  if (looking_at_the_clock_) {
    loop_->CallAfter(kClockTick, [this] { return LookAtTheClock(); });
  }
  if (lobby_.size() < before && HasRoom()) room_observer_();
  return absl::OkStatus();
}

void Gate::Judge(Entrant&& entrant) {
  const Rules::Match match = options_.rules.Lookup(entrant.peer);
  if (!match.allowed) {
    TurnAway(
        std::move(entrant),
        match.rule == nullptr ? "no rule allows it" : match.rule->ToString(),
        options_.at_limit == AtLimit::kReset ? Farewell::kReset
                                             : Farewell::kSilence);
    return;
  }
  Admission::Arrival arrival = admission_.Arrive(
      Admission::Client::Of(entrant.peer, options_.source_lengths),
      MonotonicNow());
  const SourceKey source = arrival.answer.source;
  switch (arrival.answer.verdict) {
    case Admission::Verdict::kAdmitted:
      Admit(std::move(entrant), std::move(arrival.slot), source);
      return;
    case Admission::Verdict::kSourceTooFast:
      break;
    case Admission::Verdict::kServerFull:
    case Admission::Verdict::kSourceFull:
      if (options_.at_limit != AtLimit::kQueue || options_.max_waiting == 0) {
        break;
      }
      Wait(std::move(entrant), source);
      return;
  }
  TurnAway(std::move(entrant), arrival.answer.ToString(),
           options_.at_limit == AtLimit::kReset ? Farewell::kReset
                                                : Farewell::kMessage);
}

void Gate::Wait(Entrant&& entrant, const SourceKey& source) {
  std::optional<Entrant> shed = room_.Enter(source, std::move(entrant)).shed;
  if (!shed.has_value()) return;
  TurnAway(*std::move(shed), "the waiting room is full", Farewell::kMessage);
}

void Gate::Admit(Entrant&& entrant, Admission::Slot slot,
                 const SourceKey& source) {
  entrant.slot = std::move(slot);
  if (admission_.counts_sources()) {
    entrant.connections_of_source = admission_.connections_of(source);
  }
  enter_(std::move(entrant));
}

bool Gate::CallNext() {
  while (auto next = room_.TryNext()) {
    Admit(std::move(next->client), std::move(next->slot), next->source);
  }
  return HasRoom();
}

std::string Gate::Explain(const Address& peer) const {
  const Admission::Client client =
      Admission::Client::Of(peer, options_.source_lengths);
  const absl::Duration now = MonotonicNow();
  std::string lines = ExplainLimits(client, admission_, now);
  if (const std::optional<uint32_t> tokens = admission_.TokensOf(client, now)) {
    absl::StrAppend(
        &lines, "left of the rate: ", *tokens, " of ",
        std::max(admission_.limits().rate_per_source.burst, uint32_t{1}), "\n");
  }
  if (options_.at_limit != AtLimit::kQueue) {
    absl::StrAppend(&lines, "waiting: nobody; at the limit clients are ",
                    options_.at_limit == AtLimit::kReset ? "reset" : "refused",
                    "\n");
  } else if (options_.max_waiting == 0) {
    absl::StrAppend(&lines, "waiting: in the kernel's queue\n");
  } else {
    const SourceKey source = admission_.Preview(client, now).source;
    absl::StrAppend(&lines, "waiting: ", room_.size(), ", at most ",
                    room_.capacity(), "; of this source ",
                    room_.size_of(source), "\n");
  }
  absl::StrAppend(&lines, shield_.Explain(client.source));
  if (!lobby_.empty()) {
    absl::StrAppend(&lines, "yet to speak: ", lobby_.size(), " proxies\n");
  }
  return lines;
}

absl::StatusOr<std::string> Gate::Forget(const Address& peer) {
  const Admission::Client client =
      Admission::Client::Of(peer, options_.source_lengths);
  const bool was_shut_out = shield_.Forget(client.source);
  const absl::Duration now = MonotonicNow();
  const std::optional<uint32_t> before = admission_.TokensOf(client, now);
  const SourceKey source = before.has_value()
                               ? admission_.Preview(client, now).source
                               : client.source;
  if (before.has_value()) admission_.Refill(client);
  return ExplainForgotten({.source = source,
                           .before = before,
                           .now = admission_.TokensOf(client, now),
                           .heard_again = was_shut_out});
}

void Gate::TurnAwayAll(std::string_view why) {
  while (!lobby_.empty()) {
    loop_->Unwatch(lobby_.front().entrant.stream.fd());
    Entrant gone = std::move(lobby_.front().entrant);
    lobby_.pop_front();
    SendOff(std::move(gone), why, Farewell::kReset);
  }
  for (Entrant& gone : room_.TakeAll()) {
    SendOff(std::move(gone), why, Farewell::kReset);
  }
}

bool Gate::CameItself(const Entrant& entrant) const {
  return !entrant.proxy.has_value() &&
         !options_.trusted_proxies.Contains(entrant.peer);
}

void Gate::HoldBack(const Entrant& entrant) {
  if (!CameItself(entrant)) return;
  shield_.Hold(SourceKey::Of(entrant.peer, options_.source_lengths));
}

ABSL_ATTRIBUTE_NOINLINE void Gate::TurnAway(Entrant&& entrant,
                                            std::string_view why,
                                            Farewell farewell) {
  if (CameItself(entrant)) {
    shield_.Count(SourceKey::Of(entrant.peer, options_.source_lengths));
  }
  SendOff(std::move(entrant), why, farewell);
}

void Gate::SendOff(Entrant&& entrant, std::string_view why, Farewell farewell) {
  Entrant gone = std::move(entrant);
  turned_away_.Tell(gone.peer, why);
  SayGoodbye(gone.stream,
             farewell == Farewell::kMessage ? options_.message : "",
             farewell == Farewell::kReset ? AtLimit::kReset : AtLimit::kRefuse);
}

}  // namespace brood
