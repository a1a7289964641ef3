// SPDX-License-Identifier: Apache-2.0
//
// A WaitingRoom holds the clients for whom there is no slot yet, and calls next
// whoever has the fewest connections already.
//
//   // Starts whoever may start by now.
//   void StartWaiting(WaitingRoom<Stream>& room,
//                     absl::FunctionRef<void(Stream, Admission::Slot)> start) {
//     while (auto next = room.TryNext()) {
//       start(std::move(next->client), std::move(next->slot));
//     }
//   }
//
// What it is not: a queue. Of the sources that wait, the one with the fewest
// live connections comes next, and among equals the client that came first. So
// behind ten thousand clients of one source, the one of another is the next.
//
// The room is bounded. When one too many comes, the source goes short that asks
// for most, live connections and waiting clients together: the last of its
// clients is shed. Among equals it is the one that came last of all.
//
// Call TryNext() until it says nullopt after each end of a connection, before
// anybody new is let in. Then nobody overtakes: a newcomer gets a slot only if
// there is nobody in here for whom it would do.
//
// Ownership: the clients are the room's until they are called, shed or taken.
// The Admission is borrowed, stays where it is, has no other observer of its
// sources, and counts sources: ConnectionLimits::count_sources. Else all
// sources look alike, and the room is a queue.
//
// Errors: none. Threads: one at a time. Signals: nothing here is safe in a
// handler. Fork: a child has copies; those it destroys are its own.
// Rests on: admission.h.
#ifndef BROOD_SERVER_WAITING_ROOM_H_
#define BROOD_SERVER_WAITING_ROOM_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/node_hash_map.h"
#include "brood/net/source_key.h"
#include "brood/server/admission.h"

namespace brood {

template <typename T>
class WaitingRoom {
 public:
  // Names one client for as long as it waits; never used twice.
  using Ticket = uint64_t;

  struct Entered {
    Ticket ticket;
    // Who has to go for it, which may be the newcomer itself.
    std::optional<T> shed;
  };
  struct Called {
    T client;
    SourceKey source;
    Admission::Slot slot;
  };

  WaitingRoom(Admission& admission, size_t capacity)
      : admission_(admission), capacity_(capacity) {
    admission_.OnSourceChange([this](const SourceKey& key, size_t connections) {
      const auto found = sources_.find(key);
      if (found == sources_.end()) return;
      const Rearranged source(*this, found->second);
      found->second.connections = connections;
    });
  }
  WaitingRoom(const WaitingRoom&) = delete;
  WaitingRoom& operator=(const WaitingRoom&) = delete;
  ~WaitingRoom() { admission_.OnSourceChange(nullptr); }

  // `source` is whom Arrive() answered that it counts against.
  Entered Enter(const SourceKey& source, T client) {
    const Ticket ticket = ++last_ticket_;
    const auto [found, is_new] = sources_.try_emplace(source, source);
    if (is_new) found->second.connections = admission_.connections_of(source);
    {
      const Rearranged rearranged(*this, found->second);
      found->second.clients.emplace(ticket, std::move(client));
    }
    tickets_.emplace(ticket, &found->second);
    if (tickets_.size() <= capacity_) return {.ticket = ticket, .shed = {}};
    return {.ticket = ticket, .shed = Take(by_claim_.rbegin()->newest)};
  }

  // The next client and its slot, or nullopt if nobody waits or nobody in here
  // may have one.
  std::optional<Called> TryNext() {
    if (by_turn_.empty()) return std::nullopt;
    // If this one is at its limit, so are the others, who have no fewer.
    const Turn turn = *by_turn_.begin();
    const SourceKey source = turn.source->key;
    std::optional<Admission::Slot> slot = admission_.Admit(source);
    if (!slot.has_value()) return std::nullopt;
    return Called{.client = *Take(turn.oldest),
                  .source = source,
                  .slot = *std::move(slot)};
  }

  // Takes out one that does not wait any more; nullopt if it has been called,
  // shed or taken already.
  std::optional<T> Take(Ticket ticket) {
    const auto found = tickets_.find(ticket);
    if (found == tickets_.end()) return std::nullopt;
    Source& source = *found->second;
    tickets_.erase(found);
    std::optional<T> client;
    {
      const Rearranged rearranged(*this, source);
      client = std::move(source.clients.extract(ticket).mapped());
    }
    if (source.clients.empty()) sources_.erase(SourceKey(source.key));
    return client;
  }

  // Takes out all, in no order.
  std::vector<T> TakeAll() {
    std::vector<T> clients;
    clients.reserve(tickets_.size());
    while (!tickets_.empty()) {
      clients.push_back(*Take(tickets_.begin()->first));
    }
    return clients;
  }

  // How many wait, in all and of one source, and of how many sources.
  size_t size() const { return tickets_.size(); }
  size_t size_of(const SourceKey& source) const {
    const auto found = sources_.find(source);
    return found == sources_.end() ? 0 : found->second.clients.size();
  }
  size_t sources() const { return sources_.size(); }
  size_t capacity() const { return capacity_; }

 private:
  struct Source {
    explicit Source(const SourceKey& the_key) : key(the_key) {}

    const SourceKey key;
    size_t connections = 0;
    std::map<Ticket, T> clients;  // In the order in which they came.
  };
  // Who is called first comes first.
  struct Turn {
    size_t connections;
    Ticket oldest;
    Source* source;

    friend bool operator<(const Turn& a, const Turn& b) {
      return std::pair(a.connections, a.oldest) <
             std::pair(b.connections, b.oldest);
    }
  };
  // Who is shed first comes last.
  struct Claim {
    size_t connections;  // Live or waiting.
    Ticket newest;

    friend bool operator<(const Claim& a, const Claim& b) {
      return std::pair(a.connections, a.newest) <
             std::pair(b.connections, b.newest);
    }
  };

  // Takes a source out of both orders and, changed, puts it back.
  class Rearranged {
   public:
    Rearranged(WaitingRoom& room, Source& source)
        : room_(room), source_(source) {
      if (source_.clients.empty()) return;
      room_.by_turn_.erase(TurnOf(source_));
      room_.by_claim_.erase(ClaimOf(source_));
    }
    Rearranged(const Rearranged&) = delete;
    Rearranged& operator=(const Rearranged&) = delete;
    ~Rearranged() {
      if (source_.clients.empty()) return;
      room_.by_turn_.insert(TurnOf(source_));
      room_.by_claim_.insert(ClaimOf(source_));
    }

   private:
    WaitingRoom& room_;
    Source& source_;
  };

  static Turn TurnOf(Source& source) {
    return {.connections = source.connections,
            .oldest = source.clients.begin()->first,
            .source = &source};
  }
  static Claim ClaimOf(const Source& source) {
    return {.connections = source.connections + source.clients.size(),
            .newest = source.clients.rbegin()->first};
  }

  Admission& admission_;
  const size_t capacity_;
  Ticket last_ticket_ = 0;
  absl::node_hash_map<SourceKey, Source> sources_;  // Of those who wait.
  absl::flat_hash_map<Ticket, Source*> tickets_;
  std::set<Turn> by_turn_;
  std::set<Claim> by_claim_;
};

}  // namespace brood

#endif  // BROOD_SERVER_WAITING_ROOM_H_
