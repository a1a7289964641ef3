// SPDX-License-Identifier: Apache-2.0
//
// A PreforkBoard is what a prefork server and its workers know of each other:
// a piece of memory that they share.
//
//   size_t ClientsTaken(const PreforkBoard& board, size_t slots) {
//     size_t taken = 0;
//     for (size_t i = 0; i < slots; ++i) taken += board.slot(i).begun;
//     return taken;
//   }
//
// What it is not: a lock, or a queue. Each field has one writer, but for two
// counters; see the fields.
//
// Connections are counted so that a worker may be killed between any two
// instructions: begun - reported - unreported is 1 while it has a client, and
// 0 else, where `reported` is the number of its PreforkMessages of kind kEnded.
// A client counts from just before its handler is called.
//
// Workers that serve one client only have no copy of it: to leave one takes
// longer than to accept a client. The parent writes for them what they tell it.
//
// Ownership: the memory lasts until its last mapping goes, here or in a forked
// child. Errors: what mmap(2) says.
//
// Threads: any. Signals: all of it is async-signal-safe. Fork: shared, that is
// what it is for. Rests on: mmap(2) with MAP_SHARED, pipe(7) for messages.
#ifndef BROOD_SERVER_PREFORK_BOARD_H_
#define BROOD_SERVER_PREFORK_BOARD_H_

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "brood/net/address.h"
#include "brood/proc/exit_status.h"

namespace brood {

// Who is at the ends of a connection, and a word on it.
struct PreforkParties {
  // Of what is in `bytes`, in this order and without gaps.
  uint16_t peer_length = 0;
  uint16_t client_length = 0;
  uint16_t local_length = 0;
  uint16_t text_length = 0;
  std::array<char, 3 * sizeof(sockaddr_un) + 6> bytes = {};

  // Of a text that is too long the end is kept, which says why.
  void Set(const Address& peer, const std::optional<Address>& client = {},
           const std::optional<Address>& local = {},
           std::string_view text = {});
  Address Peer() const;
  // Whom the peer speaks for, and where it came in; if that was said.
  std::optional<Address> Client() const;
  std::optional<Address> Local() const;
  std::string Text() const;

 private:
  std::string_view Part(size_t begin, size_t length) const;
};

struct PreforkMessage;

class PreforkBoard {
 public:
  enum class Doing : uint32_t { kStarting, kIdle, kBusy };

  // Of one worker: what the parent reads of a crowd of them is in the first
  // cache line of each. A worker that has no copy of the board has one of these
  // on its stack, so neither this nor Shared asks for an alignment of its own.
  struct Slot {
    // Written by the worker.
    std::atomic<Doing> doing;
    std::atomic<uint32_t> listener;    // By which its client came in.
    std::atomic<uint64_t> begun;       // Clients taken, by all workers so far.
    std::atomic<uint64_t> unreported;  // Of those, ended without a message.
    std::atomic<int64_t> since;        // When the last one began, monotonic.
    std::atomic<int32_t> trouble;      // The errno of its accept; 0 for none.
    std::atomic<uint32_t> trouble_at;  // By which listener.
    std::atomic<bool> broken;          // The trouble will not pass.
    std::atomic<bool> spent;
    std::atomic<bool> saw_nobody;  // While draining: no client is left.
    // Clients turned away, by all workers so far.
    std::atomic<uint64_t> turned_away;
    // Written by the parent.
    std::atomic<bool> retire;
    // Its connection is being ended, and it with it: it takes no other.
    std::atomic<bool> ending;
    // The last kState that was noted.
    std::atomic<int64_t> state;
    // By the worker again.
    std::atomic<int32_t> program;  // The pid of its program; 0 for none.
    // Who its client is. To be read once the worker is dead.
    PreforkParties parties;
  };

  struct Shared {
    // Written by the parent.
    std::atomic<bool> draining;
    std::atomic<bool> stop;  // Take no client any more.
    // Whoever was forked with other rules than these is to go.
    std::atomic<uint64_t> rules;
    std::atomic<int64_t> handshakes_until;
    std::atomic<int32_t> low_water;
    // There are so many workers that who serves is not to watch the doors.
    std::atomic<bool> many;
    // So that what follows is in another cache line.
    std::array<char, 64> apart;
    // Written by all. How many workers are idle, where spares are wanted; a
    // worker that is killed may leave it one off.
    std::atomic<int32_t> idle;
    // The parent has been told that there are too few.
    std::atomic<bool> told;
    // A message could not be sent: the parent is to look at every slot.
    std::atomic<bool> look_at_all;
  };

  static absl::StatusOr<PreforkBoard> Create(size_t slots);

  // Of the program that the worker in `slot` has when it has begun so many: its
  // number for Families. One comes again after 33 million clients of a slot.
  static uint64_t FamilyOf(size_t slot, uint64_t begun) {
    constexpr int kBits = 25;
    return (uint64_t{slot} << kBits) | (begun & ((uint64_t{1} << kBits) - 1));
  }

  PreforkBoard(PreforkBoard&& other) noexcept
      : memory_(std::exchange(other.memory_, nullptr)), size_(other.size_) {}
  PreforkBoard& operator=(PreforkBoard&&) = delete;
  ~PreforkBoard();

  Shared& shared() const { return *static_cast<Shared*>(memory_); }
  Slot& slot(size_t i) const;

  // From now on a forked child has no copy: its memory is none of theirs.
  void KeepFromChildren() const;
  // What a worker that has no copy has to say of its slot; and how many it has
  // turned away, which does not become fewer if it is heard late.
  void Note(const PreforkMessage& message) const;
  void NoteTurnedAway(size_t slot, uint64_t count) const;

 private:
  PreforkBoard(void* memory, size_t size) : memory_(memory), size_(size) {}

  void* memory_;
  size_t size_;
};

// What a worker tells its parent, through a pipe that they share.
struct PreforkMessage {
  enum class Kind : uint32_t {
    kLook,        // At its slot.
    kState,       // What is new there, of a worker that has no board.
    kTooFew,      // Are idle: look at all slots, or at the news.
    kEnded,       // A connection. The other fields tell of it.
    kNotStarted,  // No program was, for this connection: the text says why.
    kTurnedAway,  // A client; `refusal` says why.
    kFlood,       // So many of the peer's source that it is to be shut out.
  };
  enum class Refusal : int32_t {
    kRules,       // Deny it.
    kProxy,       // Did not say for whom it speaks.
    kNotWatched,  // The parent could not be given a copy.
    kSourceFull,
    kSourceTooFast,
    kNetworkTooFast,  // That of its source, of which there are too many.
  };

  // Of kState.
  static constexpr uint32_t kBusy = 1;
  static constexpr uint32_t kBroken = 2;
  static constexpr uint32_t kSawNobody = 4;

  Kind kind = Kind::kLook;
  uint32_t slot = 0;
  uint32_t listener = 0;
  // Its end as wait(2) has it, -1 if that is lost; of kTurnedAway how many its
  // source has, of kState the trouble.
  int32_t result = 0;
  Refusal refusal = Refusal::kRules;
  int32_t pid = 0;    // Of the program; 0 if the worker has done it.
  uint32_t told = 0;  // It was asked to end.
  uint32_t flags = 0;
  // Of kProxy, the text says what was wrong.
  PreforkParties parties = {};
  // Durations in nanoseconds. Of kTurnedAway how long until it may again, of
  // kState since when.
  int64_t duration = 0;
  // Of kState how many of them the worker has sent: they come by two pipes.
  int64_t state = 0;
  int64_t user_time = 0;
  int64_t system_time = 0;
  int64_t max_resident_bytes = 0;
  // How many of this slot have been turned away, this one included.
  uint64_t turned_away = 0;
  // TcpTotals; all -1 if unknown.
  int64_t bytes_in = -1;
  int64_t bytes_out = -1;
  int64_t retransmits = -1;

  static int32_t ResultOf(const ExitStatus& status);
  ExitStatus Status() const;
  Address Peer() const { return parties.Peer(); }
};

// What a worker says beside a copy of the connection that it is about to serve,
// and without one when it has closed it; through a unix stream that all share.
struct PreforkCopy {
  uint32_t slot = 0;
  uint32_t closed = 0;
  uint64_t number = 0;  // What `begun` is while the connection is served.
};

}  // namespace brood

#endif  // BROOD_SERVER_PREFORK_BOARD_H_
