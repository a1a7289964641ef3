// SPDX-License-Identifier: Apache-2.0
//
// A FairQueue holds what waits for its turn, and gives each source one turn
// after the other.
//
//   // Starts one of each source, whoever has most.
//   void StartOneOfEach(FairQueue<Stream>& queue,
//                       absl::FunctionRef<void(Stream)> start) {
//     for (size_t n = queue.sources(); n > 0; --n) start(queue.Pop());
//   }
//
// What it is not: a waiting room. Who is in here has been admitted already, and
// waits for no slot; see waiting_room.h. Nor is it bounded: whoever pushes
// looks at size() first.
//
// Of the sources that have something here, the next is the one that has waited
// longest since it came or had a turn; of one source, what came first. So
// behind a thousand of one source, the only one of another comes second.
//
// Ownership: what was pushed is the queue's until it is popped.
// Errors: none. Threads: one at a time. Signals: nothing here is safe in a
// handler. Fork: it is the parent's alone, see unforked.h.
// Rests on: J. Nagle, RFC 970, "On Packet Switches With Infinite Storage", for
// the turns.
#ifndef BROOD_SERVER_FAIR_QUEUE_H_
#define BROOD_SERVER_FAIR_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "brood/net/source_key.h"
#include "brood/proc/unforked.h"

namespace brood {

template <typename T>
class FairQueue {
 public:
  void Push(const SourceKey& source, T item) {
    const uint32_t one = items_.Put({.value = std::move(item)});
    const auto [found, is_new] = places_.try_emplace(source);
    if (is_new) {
      found->second = sources_.Put({.key = source});
      turns_.Append(found->second, sources_);
    }
    Source& its = sources_[found->second];
    its.items.Append(one, items_);
    ++its.size;
    ++size_;
  }

  // Whose turn it is. Valid until something is pushed or popped. REQUIRES: not
  // empty.
  T& Front() { return items_[sources_[turns_.first].items.first].value; }
  // The same, which leaves, and its source has had its turn.
  T Pop() {
    const uint32_t place = turns_.RemoveFirst(sources_);
    Source& source = sources_[place];
    T item = items_.Take(source.items.RemoveFirst(items_)).value;
    --source.size;
    if (source.items.first == kNone) {
      places_.erase(source.key);
      (void)sources_.Take(place);
    } else {
      turns_.Append(place, sources_);
    }
    --size_;
    return item;
  }

  // Whose turn it is lets all others go first. REQUIRES: not empty.
  void PassTurn() { turns_.Append(turns_.RemoveFirst(sources_), sources_); }

  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }
  // Of how many sources, and how many of this one.
  size_t sources() const { return places_.size(); }
  size_t size_of(const SourceKey& source) const {
    const auto found = places_.find(source);
    return found == places_.end() ? 0 : sources_[found->second].size;
  }

 private:
  static constexpr uint32_t kNone = ~uint32_t{0};

  // Whoever forks copies each page that he writes to afterwards. So things lie
  // side by side, and the place that was left last is the next to be used.
  template <typename Thing>
  class Places {
   public:
    Thing& operator[](uint32_t place) { return *things_[place]; }
    const Thing& operator[](uint32_t place) const { return *things_[place]; }
    uint32_t Put(Thing thing) {
      if (free_.empty()) {
        free_.push_back(static_cast<uint32_t>(things_.size()));
        things_.emplace_back();
      }
      const uint32_t place = free_.back();
      free_.pop_back();
      things_[place] = std::move(thing);
      return place;
    }
    Thing Take(uint32_t place) {
      Thing thing = *std::move(things_[place]);
      things_[place].reset();
      free_.push_back(place);
      return thing;
    }

   private:
    using MaybeThing = std::optional<Thing>;
    std::vector<MaybeThing, UnforkedAllocator<MaybeThing>> things_;
    std::vector<uint32_t, UnforkedAllocator<uint32_t>> free_;
  };

  // Of things in their places, each of which knows the next.
  struct List {
    template <typename Thing>
    void Append(uint32_t place, Places<Thing>& places) {
      (first == kNone ? first : places[last].next) = place;
      last = place;
    }
    template <typename Thing>
    uint32_t RemoveFirst(Places<Thing>& places) {
      return std::exchange(first, std::exchange(places[first].next, kNone));
    }

    uint32_t first = kNone;
    uint32_t last = kNone;
  };

  struct Item {
    T value;
    uint32_t next = kNone;
  };
  struct Source {
    SourceKey key;
    List items = {};  // In the order in which they came.
    uint32_t size = 0;
    uint32_t next = kNone;
  };

  Places<Item> items_;
  Places<Source> sources_;
  List turns_;  // Of sources.
  absl::flat_hash_map<SourceKey, uint32_t,
                      typename absl::flat_hash_map<SourceKey, int>::hasher,
                      typename absl::flat_hash_map<SourceKey, int>::key_equal,
                      UnforkedAllocator<std::pair<const SourceKey, uint32_t>>>
      places_;  // Of sources.
  size_t size_ = 0;
};

}  // namespace brood

#endif  // BROOD_SERVER_FAIR_QUEUE_H_
