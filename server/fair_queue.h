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
// handler. Fork: a child has copies; those it destroys are its own.
// Rests on: J. Nagle, RFC 970, "On Packet Switches With Infinite Storage", for
// the turns.
#ifndef BROOD_SERVER_FAIR_QUEUE_H_
#define BROOD_SERVER_FAIR_QUEUE_H_

#include <cstddef>
#include <list>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "brood/net/source_key.h"

namespace brood {

template <typename T>
class FairQueue {
 public:
  void Push(const SourceKey& source, T item) {
    const auto [found, is_new] = places_.try_emplace(source);
    if (is_new) {
      found->second = turns_.insert(turns_.end(), {.key = source, .items = {}});
    }
    found->second->items.push_back(std::move(item));
    ++size_;
  }

  // Whose turn it is. REQUIRES: not empty.
  T& Front() { return turns_.front().items.front(); }
  // The same, which leaves, and its source has had its turn.
  T Pop() {
    Source& source = turns_.front();
    T item = std::move(source.items.front());
    source.items.pop_front();
    --size_;
    if (source.items.empty()) {
      places_.erase(source.key);
      turns_.pop_front();
    } else {
      turns_.splice(turns_.end(), turns_, turns_.begin());
    }
    return item;
  }

  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }
  // Of how many sources.
  size_t sources() const { return turns_.size(); }

 private:
  struct Source {
    SourceKey key;
    std::list<T> items;  // In the order in which they came.
  };

  std::list<Source> turns_;
  absl::flat_hash_map<SourceKey, typename std::list<Source>::iterator> places_;
  size_t size_ = 0;
};

}  // namespace brood

#endif  // BROOD_SERVER_FAIR_QUEUE_H_
