// SPDX-License-Identifier: Apache-2.0
//
// A SourceTable holds processes that let clients in by themselves to the limits
// of each source, in a piece of memory that they share.
//
//   // In a worker. Whether the client may be served; then it counts.
//   bool MayBeServed(const SourceTable& table, size_t slot,
//                    const Address& peer) {
//     const SourceTable::Entry entry =
//         table.Enter(slot, Admission::Client::Of(peer), MonotonicNow());
//     return entry.answer.verdict == Admission::Verdict::kAdmitted;
//   }
//
// What it is not: an Admission, which one process has for itself and which can
// let clients wait. It answers in the same words.
//
// A worker has a slot, and one client at most. That it has one, and of which
// source, is all that is written down: how many a source has is counted anew
// whenever one of it comes. So there is no number that could be wrong after a
// worker was killed in the middle of anything; Leave(), by the worker or, once
// that is dead, by its parent, as often as they like, gives back what was held,
// and nothing else does. A source never has more than its limit. Of those that
// come at the same moment for the last place one has it, unless one of them is
// stopped or killed just then, who counts until its parent has said Leave(). To
// count is to look at each slot in use, 16 bytes of memory.
//
// The rate is a bucket of tokens for each source, as in admission.h: who comes
// takes one, also if he is then one too many. It is found by hash in a table of
// max_sources places, of which each source may have one of eight. A source with
// a full bucket is forgotten when another needs the place. If there is none the
// source counts as its network (/24 of IPv4, /48 of IPv6), for which a quarter
// of the table is kept; if there is none either, its rate is not limited. Who
// comes in the moment in which his place goes to another may find one token
// more, or the other one less.
//
// A source is known by a keyed hash of 64 bits (SipHash-2-4), with a key that
// Create() draws at random. Two that collide share their limits; nobody can
// choose such two, and of 65536 there are any by chance once in 2^33 times.
//
// Ownership: the memory lasts until its last mapping goes, here or in a forked
// child. Errors: Create: what mmap(2) and getrandom(2) say.
//
// Threads: one for each slot. Signals: not for handlers. Fork: shared, that is
// what it is for. Rests on: mmap(2) with MAP_SHARED; Lamport's bakery for who
// came first; token_bucket.h.
#ifndef BROOD_SERVER_SOURCE_TABLE_H_
#define BROOD_SERVER_SOURCE_TABLE_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/net/source_key.h"
#include "brood/server/admission.h"
#include "brood/server/token_bucket.h"

namespace brood {

class SourceTable {
 public:
  struct Entry {
    Admission::Answer answer;
    // Of the source, this one included if it was let in.
    size_t connections = 0;
  };

  // For slots from 0 up to `slots`. Of the limits those of sources count.
  static absl::StatusOr<SourceTable> Create(
      size_t slots, const ConnectionLimits& limits,
      size_t max_sources = Admission::kDefaultMaxSources);

  SourceTable(SourceTable&& other) noexcept
      : memory_(std::exchange(other.memory_, nullptr)),
        slots_(other.slots_),
        sources_(other.sources_),
        size_(other.size_),
        limits_(other.limits_),
        pace_(other.pace_),
        key_(other.key_) {}
  SourceTable& operator=(SourceTable&&) = delete;
  ~SourceTable() { Unmap(); }

  // By the parent, before there is a process in the slot.
  void Use(size_t slot) const;
  // By the process in `slot`, which has no client: one has come. If it is
  // admitted the slot has it until Leave(). `now` is MonotonicNow().
  Entry Enter(size_t slot, const Admission::Client& client,
              absl::Duration now) const;
  // By the process in the slot, or by its parent once that is dead. Does
  // nothing if the slot has no client.
  void Leave(size_t slot) const;

  size_t connections_of(const SourceKey& source) const;
  // What is left of the client's rate; nullopt if none is limited. And all of
  // it is left again.
  std::optional<uint32_t> TokensOf(const Admission::Client& client,
                                   absl::Duration now) const;
  void Refill(const Admission::Client& client) const;
  const ConnectionLimits& limits() const { return limits_; }

  // In a child that has nothing more to say.
  void Unmap();

 private:
  // What a slot has. In the last two bits of `word` how far it is with it, in
  // the others the number that says who came first.
  struct Place {
    std::atomic<uint64_t> word;
    std::atomic<uint64_t> source;
  };
  struct Bucket {
    std::atomic<uint64_t> source;  // 0: of nobody yet.
    std::atomic<int64_t> paid_until;
  };
  struct Shared {
    alignas(64) std::atomic<uint64_t> next;
    std::atomic<size_t> used;  // Slots from here on were never used.
  };
  struct Counted {
    size_t inside = 0;     // Have come before, and are in.
    size_t undecided = 0;  // May have come before, and are on their way.
  };

  SourceTable(void* memory, size_t slots, size_t sources, size_t size,
              const ConnectionLimits& limits,
              const std::array<uint64_t, 2>& key)
      : memory_(memory),
        slots_(slots),
        sources_(sources),
        size_(size),
        limits_(limits),
        pace_(limits.rate_per_source.Interval(), limits.rate_per_source.burst),
        key_(key) {}

  Shared& shared() const { return *static_cast<Shared*>(memory_); }
  Place& place(size_t i) const;
  Bucket& bucket(size_t i) const;

  uint64_t HashOf(const SourceKey& source) const;
  Counted Count(uint64_t source, uint64_t number, size_t but) const;
  // How long until there is a token; zero if one was taken. Nullopt if there is
  // no place for the source from `begin` to `end`.
  std::optional<absl::Duration> TakeToken(uint64_t source, size_t begin,
                                          size_t end, absl::Duration now) const;
  // Where those of sources end, and those of networks begin.
  size_t for_sources() const { return sources_ - sources_ / 4; }
  Bucket* FindBucket(uint64_t source, size_t begin, size_t end,
                     absl::Duration now) const;
  // The one it has, or nullptr.
  Bucket* BucketOf(uint64_t source, size_t begin, size_t end) const;
  Bucket* BucketOf(const Admission::Client& client) const;

  void* memory_;
  size_t slots_;
  size_t sources_;
  size_t size_;
  ConnectionLimits limits_;
  Pace pace_;
  std::array<uint64_t, 2> key_;
};

}  // namespace brood

#endif  // BROOD_SERVER_SOURCE_TABLE_H_
