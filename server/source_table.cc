// SPDX-License-Identifier: Apache-2.0
#include "brood/server/source_table.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/net/source_key.h"
#include "brood/proc/posix.h"
#include "brood/server/admission.h"
#include "brood/server/token_bucket.h"

namespace brood {
namespace {

using Verdict = Admission::Verdict;

// Two processes share them.
static_assert(std::atomic<uint64_t>::is_always_lock_free);
static_assert(std::atomic<int64_t>::is_always_lock_free);

// In how many places a source may be.
constexpr size_t kWindow = 8;

// How often to look at those who have not decided yet. One who runs has long
// decided by then.
constexpr int kPatience = 100;

// How far a slot is with what it has: it is about to draw its number; it has
// one; it is let in. The word of a slot that has nothing is 0.
enum class Stage : uint64_t { kDrawing = 1, kDrawn = 2, kInside = 3 };

uint64_t WordOf(uint64_t number, Stage stage) {
  return number << 2 | static_cast<uint64_t>(stage);
}
Stage StageOf(uint64_t word) { return static_cast<Stage>(word & 3); }
uint64_t NumberOf(uint64_t word) { return word >> 2; }

// SipHash-2-4, of Aumasson and Bernstein: short, and made for keys that
// strangers choose.
class SipHash {
 public:
  explicit SipHash(const std::array<uint64_t, 2>& key)
      : v0_(key[0] ^ 0x736f6d6570736575),
        v1_(key[1] ^ 0x646f72616e646f6d),
        v2_(key[0] ^ 0x6c7967656e657261),
        v3_(key[1] ^ 0x7465646279746573) {}

  uint64_t Of(std::string_view text) {
    const uint64_t length = text.size();
    for (; text.size() >= 8; text.remove_prefix(8)) Mix(Word(text, 8));
    Mix(Word(text, text.size()) | length << 56);
    v2_ ^= 0xff;
    for (int i = 0; i < 4; ++i) Round();
    return v0_ ^ v1_ ^ v2_ ^ v3_;
  }

 private:
  // The first bytes, the first of them the lowest.
  static uint64_t Word(std::string_view text, size_t size) {
    uint64_t word = 0;
    for (size_t i = 0; i < size; ++i) {
      word |= uint64_t{static_cast<unsigned char>(text[i])} << (8 * i);
    }
    return word;
  }

  void Mix(uint64_t word) {
    v3_ ^= word;
    Round();
    Round();
    v0_ ^= word;
  }

  void Round() {
    v0_ += v1_;
    v2_ += v3_;
    v1_ = std::rotl(v1_, 13) ^ v0_;
    v3_ = std::rotl(v3_, 16) ^ v2_;
    v0_ = std::rotl(v0_, 32);
    v2_ += v1_;
    v0_ += v3_;
    v1_ = std::rotl(v1_, 17) ^ v2_;
    v3_ = std::rotl(v3_, 21) ^ v0_;
    v2_ = std::rotl(v2_, 32);
  }

  uint64_t v0_, v1_, v2_, v3_;
};

}  // namespace

// Zeroes are the state in which all begins, and pages that nobody has come to
// cost nothing.
absl::StatusOr<SourceTable> SourceTable::Create(size_t slots,
                                                const ConnectionLimits& limits,
                                                size_t max_sources) {
  std::array<uint64_t, 2> key;
  if (getrandom(key.data(), sizeof(key), 0) != sizeof(key)) {
    return ErrnoStatus(errno, "getrandom");
  }
  const size_t sources =
      limits.rate_per_source.limited() ? std::max<size_t>(max_sources, 4) : 0;
  const size_t size =
      sizeof(Shared) + slots * sizeof(Place) + sources * sizeof(Bucket);
  void* const memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    return ErrnoStatus(errno, absl::StrCat("mmap of ", size, " bytes"));
  }
  return SourceTable(memory, slots, sources, size, limits, key);
}

void SourceTable::Unmap() {
  if (memory_ != nullptr) (void)munmap(memory_, size_);
  memory_ = nullptr;
}

SourceTable::Place& SourceTable::place(size_t i) const {
  return reinterpret_cast<Place*>(static_cast<char*>(memory_) +
                                  sizeof(Shared))[i];
}

SourceTable::Bucket& SourceTable::bucket(size_t i) const {
  return reinterpret_cast<Bucket*>(static_cast<char*>(memory_) +
                                   sizeof(Shared) + slots_ * sizeof(Place))[i];
}

// Never 0, which is nobody.
uint64_t SourceTable::HashOf(const SourceKey& source) const {
  return std::max<uint64_t>(SipHash(key_).Of(source.ToString()), 1);
}

void SourceTable::Use(size_t slot) const {
  if (shared().used.load() <= slot) shared().used.store(slot + 1);
}

void SourceTable::Leave(size_t slot) const { place(slot).word = 0; }

// What a slot has is read between two looks at its word, which is never the
// same for two clients.
SourceTable::Counted SourceTable::Count(uint64_t source, uint64_t number,
                                        size_t but) const {
  Counted counted;
  const size_t used = shared().used;
  for (size_t i = 0; i < used; ++i) {
    if (i == but) continue;
    const Place& other = place(i);
    uint64_t word = other.word;
    if (word == 0) continue;
    uint64_t has = other.source;
    for (uint64_t now = other.word; now != word; now = other.word) {
      word = now;
      has = other.source;
    }
    if (word == 0 || has != source) continue;
    if (StageOf(word) == Stage::kDrawing) {
      ++counted.undecided;
    } else if (NumberOf(word) < number) {
      ++(StageOf(word) == Stage::kInside ? counted.inside : counted.undecided);
    }
  }
  return counted;
}

// The bakery: who comes says that he draws a number, draws it, says which, and
// only then looks at the others. Whoever has a lower number drew it before, and
// said before that that he would; so he is seen, and counts. Therefore of those
// who are inside the one with the highest number has counted all the others,
// and there are never more than the limit.
//
// Who draws just now may get a lower number, and who has one may be let in or
// not. While that matters this waits for them to decide: they wait only for
// those before them. But who is stopped or dead does not decide, and there has
// to be an end.
SourceTable::Entry SourceTable::Enter(size_t slot,
                                      const Admission::Client& client,
                                      absl::Duration now) const {
  const auto answer = [&](Verdict verdict, const SourceKey& source,
                          size_t connections, size_t limit) {
    return Admission::Answer{.verdict = verdict,
                             .source = source,
                             .connections = connections,
                             .limit = limit,
                             .rate = {},
                             .retry_after = absl::ZeroDuration()};
  };
  const uint64_t source = HashOf(client.source);
  if (pace_.limited()) {
    SourceKey key = client.source;
    std::optional<absl::Duration> wait =
        TakeToken(source, 0, for_sources(), now);
    if (!wait.has_value()) {
      key = client.network;
      wait = TakeToken(HashOf(key), for_sources(), sources_, now);
    }
    if (wait.value_or(absl::ZeroDuration()) > absl::ZeroDuration()) {
      Entry entry = {.answer = answer(Verdict::kSourceTooFast, key, 0, 0)};
      entry.answer.rate = limits_.rate_per_source;
      entry.answer.retry_after = *wait;
      return entry;
    }
  }
  Place& mine = place(slot);
  mine.source = source;
  mine.word = WordOf(shared().next, Stage::kDrawing);
  const uint64_t number = shared().next++;
  mine.word = WordOf(number, Stage::kDrawn);
  const size_t limit = limits_.max_connections_per_source;
  Counted others = Count(source, number, slot);
  for (int i = 0; i < kPatience && others.inside < limit &&
                  others.inside + others.undecided >= limit;
       ++i) {
    (void)sched_yield();
    others = Count(source, number, slot);
  }
  const size_t before = others.inside + others.undecided;
  if (before >= limit) {
    mine.word = 0;
    return {
        .answer = answer(Verdict::kSourceFull, client.source, before, limit),
        .connections = before};
  }
  mine.word = WordOf(number, Stage::kInside);
  return {.answer = answer(Verdict::kAdmitted, client.source, 0, 0),
          .connections = before + 1};
}

size_t SourceTable::connections_of(const SourceKey& source) const {
  return Count(HashOf(source), ~uint64_t{0}, slots_).inside;
}

std::optional<uint32_t> SourceTable::TokensOf(const Admission::Client& client,
                                              absl::Duration now) const {
  if (!pace_.limited()) return std::nullopt;
  const Bucket* const it = BucketOf(client);
  const TokenBucket tokens =
      it == nullptr ? TokenBucket()
                    : TokenBucket(absl::Nanoseconds(it->paid_until.load()));
  return tokens.Tokens(pace_, now);
}

void SourceTable::Refill(const Admission::Client& client) const {
  if (Bucket* const it = BucketOf(client)) it->paid_until = 0;
}

SourceTable::Bucket* SourceTable::BucketOf(
    const Admission::Client& client) const {
  if (!pace_.limited()) return nullptr;
  Bucket* const it = BucketOf(HashOf(client.source), 0, for_sources());
  if (it != nullptr) return it;
  return BucketOf(HashOf(client.network), for_sources(), sources_);
}

SourceTable::Bucket* SourceTable::BucketOf(uint64_t source, size_t begin,
                                           size_t end) const {
  for (size_t i = 0; i < std::min(kWindow, end - begin); ++i) {
    Bucket& it = bucket(begin + (source + i) % (end - begin));
    if (it.source == source) return &it;
  }
  return nullptr;
}

SourceTable::Bucket* SourceTable::FindBucket(uint64_t source, size_t begin,
                                             size_t end,
                                             absl::Duration now) const {
  if (Bucket* const it = BucketOf(source, begin, end)) return it;
  const auto nth = [&](size_t i) -> Bucket& {
    return bucket(begin + (source + i) % (end - begin));
  };
  const size_t window = std::min(kWindow, end - begin);
  for (size_t i = 0; i < window; ++i) {
    Bucket& it = nth(i);
    uint64_t owner = it.source;
    const TokenBucket tokens(absl::Nanoseconds(it.paid_until.load()));
    if (owner != source && !tokens.IsFull(pace_, now)) continue;
    if (owner == source || it.source.compare_exchange_strong(owner, source) ||
        owner == source) {
      return &it;
    }
  }
  return nullptr;
}

std::optional<absl::Duration> SourceTable::TakeToken(uint64_t source,
                                                     size_t begin, size_t end,
                                                     absl::Duration now) const {
  while (Bucket* const it = FindBucket(source, begin, end, now)) {
    int64_t before = it->paid_until;
    TokenBucket tokens;
    do {
      tokens = TokenBucket(absl::Nanoseconds(before));
      const absl::Duration wait = tokens.Wait(pace_, now);
      if (wait > absl::ZeroDuration()) return wait;
      tokens.Take(pace_, now);
    } while (!it->paid_until.compare_exchange_weak(
        before, absl::ToInt64Nanoseconds(tokens.paid_until())));
    // Else it was a token of whoever has the place by now.
    if (it->source == source) return absl::ZeroDuration();
  }
  return std::nullopt;
}

}  // namespace brood
