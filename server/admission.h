// SPDX-License-Identifier: Apache-2.0
//
// An Admission gives out slots, one for each live connection, and never more
// than its limits allow: for all together, and for each source.
//
//   absl::StatusOr<Admission::Slot> LetIn(Admission& admission,
//                                         const Address& peer) {
//     Admission::Arrival arrival =
//         admission.Arrive(Admission::Client::Of(peer), MonotonicNow());
//     if (arrival.slot.held()) return std::move(arrival.slot);
//     // "192.0.2.7: 8 of 8 connections of this source"
//     return absl::ResourceExhaustedError(arrival.answer.ToString());
//   }
//
// What it is not: a door. It has no socket, no clock and no log; it answers,
// and who asked does as it says. Nor is it a list of who may come at all, which
// is rules.h, nor the place where clients wait for a slot: waiting_room.h.
//
// The rate is a bucket of `burst` tokens for each source, which fills at so
// many a period. Whoever comes takes one, also if there is no slot for it; who
// finds none is refused, takes none, and is told when there will be one.
//
// Sources are counted if a limit asks for it, else there is one number and
// nothing more. A source is forgotten when it has no connection and its bucket
// is full. At most max_sources are remembered: once three quarters are, a
// source that is not among them counts as its network (/24 of IPv4, /48 of
// IPv6) until there is room again, and where even the networks are too many it
// is not counted at all and only max_connections holds. So a spray of addresses
// costs a bounded amount of memory, limits itself where it comes from one
// network, and shuts the door on nobody else.
//
// Ownership: a Slot gives itself back when it is destroyed or assigned to, once
// whatever happens; one that was moved from holds nothing. Slots may outlive
// the Admission.
//
// Errors: InvalidArgument from ConnectionRate::Parse, and no others. A `now`
// before the latest counts as the latest: a clock that goes back credits
// nobody.
//
// Threads: one at a time, slots included. Signals: nothing here is safe in a
// handler. Fork: it is the parent's alone, see unforked.h; a child touches
// neither it nor a slot, not even to destroy them.
// Rests on: the generic cell rate algorithm, ITU-T I.371, for the bucket.
#ifndef BROOD_SERVER_ADMISSION_H_
#define BROOD_SERVER_ADMISSION_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/source_key.h"

namespace brood {

// How often connections may begin.
struct ConnectionRate {
  static constexpr uint32_t kMax = 1'000'000;

  // So many in each period, on average; 0 is no limit.
  uint32_t connections = 0;
  absl::Duration period = absl::Seconds(1);
  // So many at once after a quiet time; 0 counts as 1.
  uint32_t burst = 1;

  // "5/s,10", "30/m,5", "100/h"; without a burst, it is the first number. Both
  // numbers are from 1 to kMax.
  static absl::StatusOr<ConnectionRate> Parse(std::string_view text);

  bool limited() const { return Interval() > absl::ZeroDuration(); }
  // How long a token takes to come; zero without a limit.
  absl::Duration Interval() const;
  // "5/s,10"; "no limit".
  std::string ToString() const;

  friend bool operator==(const ConnectionRate&,
                         const ConnectionRate&) = default;
  friend std::ostream& operator<<(std::ostream& os,
                                  const ConnectionRate& rate) {
    return os << rate.ToString();
  }
};

struct ConnectionLimits {
  static constexpr size_t kNone = std::numeric_limits<size_t>::max();

  // 0 lets nobody in.
  size_t max_connections = kNone;
  size_t max_connections_per_source = kNone;
  ConnectionRate rate_per_source = {};
  // Count each source's connections even if no limit asks for it, as a waiting
  // room does.
  bool count_sources = false;

  friend bool operator==(const ConnectionLimits&,
                         const ConnectionLimits&) = default;
};

// What becomes of a client for whom there is no slot: it waits for one, is told
// so and hears an end, or is reset.
enum class AtLimit { kQueue, kRefuse, kReset };

class Admission {
 private:
  struct State;

 public:
  static constexpr size_t kDefaultMaxSources = 65536;

  // Whom a client counts against: its source, or the network that this is a
  // part of when there are too many sources.
  struct Client {
    SourceKey source;
    SourceKey network;

    // A network is never smaller than the source.
    static Client Of(const Address& peer,
                     const SourceKey::Lengths& lengths = SourceKey::Lengths());
    // Of a unix client that runs as `user`.
    static Client OfUser(uid_t user);
  };

  // The right to be one live connection.
  class Slot {
   public:
    // Holds nothing.
    Slot() = default;
    Slot(Slot&& other) noexcept
        : state_(std::exchange(other.state_, nullptr)),
          source_(other.source_) {}
    Slot& operator=(Slot&& other) noexcept;
    ~Slot() { GiveBack(); }

    bool held() const { return state_ != nullptr; }

   private:
    friend class Admission;
    Slot(State* state, uint32_t source) : state_(state), source_(source) {}
    void GiveBack();

    State* state_ = nullptr;
    uint32_t source_ = 0;
  };

  enum class Verdict { kAdmitted, kServerFull, kSourceFull, kSourceTooFast };

  // What is said to a client, for the log. A value.
  struct Answer {
    Verdict verdict;
    // Whom it counted against.
    SourceKey source;
    // Of the server or of the source, whichever is full; else zero and zero.
    size_t connections;
    size_t limit;
    // If it came too fast: what is allowed, and how long until it may again.
    ConnectionRate rate;
    absl::Duration retry_after;

    // One line.
    std::string ToString() const;
    friend std::ostream& operator<<(std::ostream& os, const Answer& answer) {
      return os << answer.ToString();
    }
  };

  struct Arrival {
    Answer answer;
    // Held if, and only if, the verdict is kAdmitted.
    Slot slot;
  };

  explicit Admission(const ConnectionLimits& limits,
                     size_t max_sources = kDefaultMaxSources);
  Admission(Admission&&) noexcept = default;
  Admission& operator=(Admission&&) noexcept = default;

  // A connection has come in. `now` is MonotonicNow().
  Arrival Arrive(const Client& client, absl::Duration now);
  // A slot for one that came earlier, paid its token then, and was answered
  // that it counts against `source`; nullopt if there still is none.
  std::optional<Slot> Admit(const SourceKey& source);
  // What Arrive would say now.
  Answer Preview(const Client& client, absl::Duration now) const;

  // How many tokens of the rate its source has now; nullopt without a rate.
  std::optional<uint32_t> TokensOf(const Client& client,
                                   absl::Duration now) const;
  // Gives its source all of them back.
  void Refill(const Client& client);

  // From now on. Nobody is sent away: who is inside stays, and counts. Those
  // who came while sources were not counted count for the whole only.
  void set_limits(const ConnectionLimits& limits);
  const ConnectionLimits& limits() const;

  // Whether sources are counted, as some limit asks; else each seems to have
  // none.
  bool counts_sources() const;
  // How many live, in all and of one source.
  size_t connections() const;
  size_t connections_of(const SourceKey& source) const;
  // How many sources and networks are remembered.
  size_t sources() const;

  // Calls `observer` whenever the number of a source's connections has changed,
  // instead of any earlier one; it must not call back. Null is nobody.
  void OnSourceChange(
      absl::AnyInvocable<void(const SourceKey& source, size_t connections)>
          observer);

 private:
  struct Abandon {
    void operator()(State* state) const;
  };

  std::unique_ptr<State, Abandon> state_;
};

}  // namespace brood

#endif  // BROOD_SERVER_ADMISSION_H_
