// SPDX-License-Identifier: Apache-2.0
//
// A PreforkWorker serves one client after another until it is to go: the life
// of a process that prefork.h has forked.
//
//   absl::StatusOr<Child> StartWorker(PreforkWorker::Share share,
//                                     const PreforkWorker::Task& task) {
//     const std::array<int, 3> keep = {share.listeners[0].fd(),
//                                      share.messages.get(), share.bell.fd()};
//     return Fork({.parent_death_signal = SIGKILL, .keep_fds = keep},
//                 [&] { return PreforkWorker(share, task).Run(); });
//   }
//
// What it is not: for anything but a forked child, whose copies of all this are
// its own to close.
//
// A client costs one accept4(2), what the handler does, and one close(2) while
// others wait; before a worker waits it is one accept4 and one epoll_wait more.
// Of the workers that wait, the kernel wakes one for each client. If the parent
// watches connections, it is sent a copy of each, and told when it is closed.
//
// Where all workers serve one client only, each is made to be left:
// its client waits until it has nothing of the server's any more. So it has no
// copy of the board, which the parent keeps for it, and says by pipe what
// happens; see PreforkMessage::kState. It is called off by SIGURG.
//
// Ownership: borrows all it is given. Errors: what accept says is told to the
// parent; the exit code says only whether the worker went in order.
//
// Threads: one. Signals: none, but SIGURG until such a worker has its client.
// Fork: see above. Rests on: worker_doors.h, listener.h.
#ifndef BROOD_SERVER_PREFORK_WORKER_H_
#define BROOD_SERVER_PREFORK_WORKER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/address_range_set.h"
#include "brood/net/listener.h"
#include "brood/net/proxy_protocol.h"
#include "brood/net/source_key.h"
#include "brood/net/stream.h"
#include "brood/proc/families.h"
#include "brood/proc/limits.h"
#include "brood/proc/unique_fd.h"
#include "brood/server/admission.h"
#include "brood/server/common_door.h"
#include "brood/server/connection_handler.h"
#include "brood/server/flood_guard.h"
#include "brood/server/prefork_board.h"
#include "brood/server/rules.h"
#include "brood/server/source_table.h"
#include "brood/server/worker_doors.h"
#include "brood/signal/wakeup_fd.h"

namespace brood {

class PreforkWorker {
 public:
  // Who may come, and what a worker may use; see prefork.h.
  struct Terms {
    Rules rules = {};
    AddressRangeSet trusted_proxies = {};
    ProxyHeaderOptions proxy_header = {};
    absl::Duration proxy_timeout = absl::Seconds(3);
    Limits limits = {};
    // Of each source how many there may be, and how often they may come; how
    // much of an address that is. What becomes of who is one too many of all,
    // and what is said to who has to go. For one too many of his source kQueue
    // is kRefuse.
    ConnectionLimits sources = {};
    SourceKey::Lengths source_lengths = {};
    AtLimit at_limit = AtLimit::kQueue;
    std::string message = {};
    // See FloodGuard. Each worker counts those whom it turns away itself.
    uint32_t flood_threshold = FloodGuard::kDefaultThreshold;
  };
  // How long to wait, while draining, for those on their way: a second is when
  // a lost packet is sent again.
  static constexpr absl::Duration kHandshakes = absl::Seconds(3);

  // What all workers have in common.
  struct Share {
    std::vector<Listener>& listeners;
    ConnectionHandler& handler;
    PreforkBoard& board;
    // The writing end of a pipe of PreforkMessages, non-blocking.
    UniqueFd& messages;
    // Rung when there is something new on the board. Nobody takes the wake-ups:
    // each one is an edge, for everyone.
    WakeupFd& bell;
    // Where all workers serve one client only: where they wait instead, and a
    // pipe like `messages` of which nobody is woken by what is in it.
    CommonDoor* door = nullptr;
    UniqueFd* news = nullptr;
    const Terms& terms;
    // Where copies of the connections go, if somebody wants them.
    Stream* copies = nullptr;
    // Where sources are counted, if they are.
    SourceTable* sources = nullptr;
    // Whose marks programs carry, if the handler is one.
    const Families* families = nullptr;
    // Tell of each connection that has ended.
    bool records = true;
    // Count who is idle, and tell when there are too few.
    bool counts_idle = false;
  };
  // What this one is to do.
  struct Task {
    size_t slot = 0;
    // After so many it is spent; 0 for never. After 1 it ends.
    uint64_t connections = 0;
    // What the board says of rules when the worker is forked. Read in the
    // parent: by the time the child looks, they may be others than its own.
    uint64_t rules = 0;
    // The others are for a worker that has no copy of the board: what it says of
    // its slot, and whether the server drains.
    uint64_t begun = 0;
    uint64_t turned_away = 0;
    bool draining = false;
    int64_t handshakes_until = 0;
    // With so much news unread, the parent is to be woken.
    size_t most_unread = 1;
  };

  PreforkWorker(const Share& share, const Task& task);

  // Blocks until it is to go, or has served its only client: then the result is
  // the handler's.
  int Run();

 private:
  // A client, and the door it came in by.
  struct Guest {
    Accepted client;
    size_t listener;
    // Who speaks for it, and where it came in; or what that one says.
    std::optional<Address> proxy = std::nullopt;
    Address local = {};
  };

  // Whether it is to be left by who gets a client.
  bool one_shot() const { return share_.door != nullptr; }
  // Whether it is to look at something else than clients.
  bool IsInterrupted() const;
  // What becomes of the worker then: its exit code, if it ends.
  std::optional<int> Look();
  // Serves whoever waits at a listener. Whether there was anybody.
  bool LetIn(size_t listener);
  // Serves one client. Whether another is wanted.
  bool Take(Accepted client, size_t listener);
  // Learns from a trusted proxy for whom it speaks, and whether he may come; if
  // not, why.
  std::optional<PreforkMessage::Refusal> MayNotCome(Guest& guest);
  // Whether its source may have one more; if not, why.
  std::optional<PreforkMessage::Refusal> EnterTable(const Address& peer);
  std::optional<uint64_t> ConnectionsOfSource() const;
  void LeaveTable();
  void TurnAway(Accepted client, PreforkMessage::Refusal why);
  void CountFlood(const Address& peer, absl::Duration now);
  // Sends the parent what it wants to know of the next connection. Whether it
  // can be served: what nobody watches would know no limits.
  bool Show(const Accepted& client);
  void SayClosed();
  void Serve(Guest& guest);
  ConnectionInfo InfoOf(const Guest& guest) const;
  void Begin(Guest& guest);
  void Mark(uint64_t begun);
  // Has the program serve it, and tells of that. Whether the parent was told.
  bool RunProgram(Guest& guest);
  void NoteShortage(int error, size_t listener);
  void End(bool told);
  // Of an end: what it was, and who. Whether it could be said.
  bool TellEnd(const Guest& guest, PreforkMessage message);
  bool TellNotStarted(const Guest& guest, const absl::Status& why);
  // What this process has used since it was asked last.
  void TakeUsage(PreforkMessage& message);
  int ServeLast();
  int Retire();
  int Drain();
  bool IsDrained(const Listener& listener) const;
  void Tell(PreforkMessage::Kind kind);
  // That something in its slot is new: what, if there is no board. Where nobody
  // has to be woken for it, it is only news.
  void TellSlot();
  void TellNews();
  PreforkMessage State();
  // Waits for room, which the parent makes.
  void SaySurely(const UniqueFd& pipe, const PreforkMessage& message);
  void NoteTrouble(const Listener::Batch& batch, size_t listener);
  void SetDoing(PreforkBoard::Doing doing);

  Share share_;
  const Task task_;
  // Of a worker that has no board.
  PreforkBoard::Shared own_shared_ = {};
  PreforkBoard::Slot own_slot_ = {};
  PreforkBoard::Shared& shared_;
  PreforkBoard::Slot& slot_;
  std::optional<OwnDoors> own_doors_;
  std::optional<SharedDoors> shared_doors_;
  WorkerDoors& doors_;
  uint64_t served_ = 0;
  std::optional<Guest> last_;
  bool draining_ = false;
  bool broken_ = false;
  // What the table said of the last client.
  std::optional<SourceTable::Entry> entry_;
  // In the second that began last, of those turned away.
  absl::Duration telling_since_ = -absl::InfiniteDuration();
  int told_ = 0;
  // Once there is something to count.
  std::optional<FloodGuard> flood_;
  uint64_t told_turned_away_ = 0;
  int64_t states_told_ = 0;
  bool by_proxy_ = false;  // The last client, or one that was to say for whom.
  std::string why_;        // What was wrong with what its proxy said.
  // What the process had used when the last connection ended, in nanoseconds.
  int64_t user_time_ = 0;
  int64_t system_time_ = 0;
};

}  // namespace brood

#endif  // BROOD_SERVER_PREFORK_WORKER_H_
