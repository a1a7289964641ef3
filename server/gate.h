// SPDX-License-Identifier: Apache-2.0
//
// A Gate decides about each client that has connected: come in, wait, or go.
//
//   void LetInTwo(Acceptor& acceptor, Gate& gate, PollLoop& loop) {
//     gate.Start(loop, [](Entrant entrant) {
//       (void)entrant.stream.WriteAll("welcome\n");
//     });
//     acceptor.Start(loop, [&gate](Accepted&& client, const Address& local) {
//       return gate.Arrive(std::move(client), local);
//     });
//   }
//
// What it is not: the one who accepts (acceptor.h) or who serves. Its parts are
// pure, and each has a page of its own: rules.h says who may come at all,
// admission.h how many and how fast, waiting_room.h who is next.
//
// A client passes in this order. A trusted proxy first says for whom it speaks,
// within a time limit; from there on that is the client. The first rule that
// names it decides whether it may come. Then it takes a token of its source's
// rate, and a slot. Who finds no slot waits, if there is a waiting room, and is
// called when it is his turn; who comes too fast, or finds the room full and
// has no better claim than others, has to go. Without a waiting room the
// clients that find the server full wait in the kernel's queue, and those
// behind them too; for one whose proxy has yet to speak a slot is kept, so that
// it need not go when it could have stayed there.
//
// Who has to go is told by a line, if there is one to be said, and by an end;
// with kReset by a reset, which a unix socket does not have. A source of whom
// hundreds have to go within a second is shut out for a while, see
// flood_guard.h; but never a trusted proxy.
//
// Ownership: clients are the Gate's until they are let in. A Slot in an Entrant
// is given back when the Entrant is destroyed.
//
// Errors: none; what goes wrong with a client turns it away, and is told to
// whoever observes, as turned_away.h says.
//
// Threads: one. Signals: none. Fork: a child must not use a copy.
// Rests on: acceptor.h, admission.h, rules.h, net/proxy_protocol.h.
#ifndef BROOD_SERVER_GATE_H_
#define BROOD_SERVER_GATE_H_

#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/address_range_set.h"
#include "brood/net/listener.h"
#include "brood/net/proxy_protocol.h"
#include "brood/net/source_key.h"
#include "brood/net/stream.h"
#include "brood/server/admission.h"
#include "brood/server/connection_log.h"
#include "brood/server/flood_guard.h"
#include "brood/server/flood_shield.h"
#include "brood/server/poll_loop.h"
#include "brood/server/rules.h"
#include "brood/server/turned_away.h"
#include "brood/server/waiting_room.h"

namespace brood {

// A client that may come in.
struct Entrant {
  Stream stream;
  // Of the listener, or what the proxy says.
  Address local;
  // The client, and the proxy that speaks for it.
  Address peer;
  std::optional<Address> proxy = std::nullopt;
  Admission::Slot slot = {};
  // How many live connections its source has now, if they are counted.
  std::optional<uint64_t> connections_of_source = std::nullopt;
};

class Gate {
 public:
  struct Options {
    ConnectionLimits limits = {};
    // How much of an address is its source.
    SourceKey::Lengths source_lengths = {};
    AtLimit at_limit = AtLimit::kQueue;
    // How many may wait here. 0: in the kernel's queue instead.
    size_t max_waiting = 0;
    // What is said to who has to go because of a limit, without its newline;
    // nothing if empty. Whom a rule denies is told nothing.
    std::string message = {};
    Rules rules = {};
    // Who is believed to speak for others, which version it speaks, and how
    // long it may take. Others come for themselves.
    AddressRangeSet trusted_proxies = {};
    ProxyHeaderOptions proxy_header = {};
    absl::Duration proxy_timeout = absl::Seconds(3);
    // See FloodGuard.
    uint32_t flood_threshold = FloodGuard::kDefaultThreshold;
  };

  explicit Gate(Options options);
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  // Calls `enter` for each client that may come in, when `loop` runs or in
  // Arrive().
  void Start(PollLoop& loop, absl::AnyInvocable<void(Entrant&&)> enter);
  // Has those dropped, before they come here, who are shut out. Without this
  // nobody is. REQUIRES: started.
  void ShieldBy(FloodShield::Doors doors);
  void StopShield() { shield_.Stop(); }
  // See FloodShield. Who comes by a proxy cannot be held.
  void HoldBack(const Entrant& entrant);
  void LetGo(const SourceKey& source) { shield_.LetGo(source); }
  bool holds_back() const { return shield_.holds(); }
  // Calls `observer` for who was turned away, and who is shut out.
  void OnEvent(absl::AnyInvocable<void(const LogEvent&)> observer) {
    observer_ = std::move(observer);
  }

  // Calls `observer` when a client is wanted, maybe again, because one whose
  // proxy had yet to speak does not need the place that was kept for it.
  void OnRoom(absl::AnyInvocable<void()> observer) {
    room_observer_ = std::move(observer);
  }

  // A client has connected at `local`. Says whether another one is wanted.
  bool Arrive(Accepted&& client, const Address& local);
  // A connection has ended. Says whether a client is wanted.
  bool CallNext();

  // From now on.
  void set_rules(Rules rules) { options_.rules = std::move(rules); }
  void set_max_connections(size_t max_connections);

  // What would become of a client from `peer` whom the rules allow, in lines.
  std::string Explain(const Address& peer) const;
  // The rate of its source begins anew, and it is shut out no longer. Says in a
  // line how that was before; FailedPrecondition if there is no such limit and
  // it was not shut out.
  absl::StatusOr<std::string> Forget(const Address& peer);

  // How a client goes: after Options::message, which is about limits, without
  // it, or by a reset.
  enum class Farewell { kMessage, kSilence, kReset };
  // Who was let in has to go after all. It is told and logged, and is not held
  // against its source.
  void SendOff(Entrant&& entrant, std::string_view why, Farewell farewell);
  // The same, and it counts as one of a flood.
  void TurnAway(Entrant&& entrant, std::string_view why, Farewell farewell);
  // Turns away all who wait.
  void TurnAwayAll(std::string_view why);

  // Clients that are neither in nor gone: they wait, or their proxy is still to
  // speak.
  size_t waiting() const { return room_.size() + lobby_.size(); }
  const Admission& admission() const { return admission_; }
  uint64_t turned_away() const { return turned_away_.count(); }

 private:
  // A connection whose proxy has not said yet for whom it speaks.
  struct Visitor {
    Entrant entrant;
    ProxyHeaderParser parser;
    absl::Duration until;  // Monotonic.
  };
  using Lobby = std::list<Visitor>;

  bool HasRoom() const;
  // Whether a SYN of its source would be its own.
  bool CameItself(const Entrant& entrant) const;
  // Until its proxy has said for whom it speaks.
  void AskForWhom(Entrant&& entrant);
  void Judge(Entrant&& entrant);
  // In the waiting room, for which somebody else may have to go.
  void Wait(Entrant&& entrant, const SourceKey& source);
  void Admit(Entrant&& entrant, Admission::Slot slot, const SourceKey& source);
  absl::Status Listen(Lobby::iterator visitor);
  absl::Status LookAtTheClock();

  Options options_;
  Admission admission_;
  WaitingRoom<Entrant> room_;
  Lobby lobby_;  // In the order in which they came.
  bool looking_at_the_clock_ = false;
  PollLoop* loop_ = nullptr;
  absl::AnyInvocable<void(Entrant&&)> enter_;
  absl::AnyInvocable<void()> room_observer_;
  absl::AnyInvocable<void(const LogEvent&)> observer_;
  TurnedAway turned_away_;
  FloodShield shield_;
};

}  // namespace brood

#endif  // BROOD_SERVER_GATE_H_
