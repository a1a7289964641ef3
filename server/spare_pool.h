// SPDX-License-Identifier: Apache-2.0
//
// A SparePool has processes ready for those who come while there is a crowd,
// when to fork one for each would let everybody wait.
//
//   // Has `client` served by a spare, if there is one for it. Its end is the
//   // reaper's to report, with `tag`.
//   bool Serve(SparePool& pool, const Stream& client, uint64_t tag) {
//     const ConnectionInfo info = {.local = {}, .peer = client.peer()};
//     return pool.Give(SourceKey::Of(client.peer()), client, info, nullptr, tag)
//         .has_value();
//   }
//
// What it is not: for a server that is not crowded. There a fork takes less
// than to hand a connection over, and there is no zygote; it begins with so
// many connections as its owner says, and ends with fewer than half of that.
//
// Ownership: owns the zygote and the spares, as long as they have no
// connection; their processes are the reaper's, which is borrowed, as are the
// loop and the handler. Errors: none. Where there can be no zygote, or it does
// not answer, everybody is to fork; after kRetry it is tried again.
//
// Threads: one. Signals: none. Fork: a child must not use a copy.
// Rests on: zygote.h, reaper.h.
#ifndef BROOD_SERVER_SPARE_POOL_H_
#define BROOD_SERVER_SPARE_POOL_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <list>
#include <optional>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "brood/net/source_key.h"
#include "brood/net/stream.h"
#include "brood/proc/limits.h"
#include "brood/proc/reaper.h"
#include "brood/server/connection_handler.h"
#include "brood/server/poll_loop.h"
#include "brood/server/spare_policy.h"
#include "brood/server/zygote.h"

namespace brood {

class SparePool {
 public:
  // What the reaper says of whom has no connection.
  static constexpr uint64_t kTag = ~uint64_t{0};
  // How many connections are a crowd, for who has not measured it himself.
  static constexpr size_t kCrowd = 256;
  static constexpr absl::Duration kRetry = absl::Seconds(1);

  SparePool(Reaper& reaper, ConnectionHandler& handler)
      : reaper_(reaper), handler_(handler) {}
  SparePool(const SparePool&) = delete;
  SparePool& operator=(const SparePool&) = delete;
  // Does not touch the loop. Whoever is left is the reaper's then.
  ~SparePool();

  // From here on there can be spares, each of which has these limits once it
  // has a connection; from so many connections on. Calls `on_more` when who had
  // to wait may not have to any more.
  void Start(PollLoop& loop, const Limits& limits, size_t from,
             absl::AnyInvocable<void()> on_more);
  // There are so many connections now.
  void NoteConnections(size_t count) {
    if (count >= from_ || is_on()) Decide(count);
  }
  // A child of kTag has ended.
  void NoteEnd(pid_t pid);
  // Memory that is shared since is to be known to spares.
  void Renew();
  // Without spares from now on, for good.
  void Stop();

  bool is_on() const { return zygote_.has_value(); }
  size_t ready() const { return spares_.size(); }

  // By which way a client of this source comes to its process: by a fork, if no
  // spare is to be hoped for.
  enum class Way { kFork, kSpare, kWait };
  Way WayFor(const SourceKey& source) const;
  // Which process serves it from now on; nullopt if the way is another one, or
  // there is none after all.
  std::optional<pid_t> Give(const SourceKey& source, const Stream& connection,
                            const ConnectionInfo& info, TcpTotals* totals,
                            uint64_t tag);

 private:
  void Decide(size_t connections);
  void StartZygote();
  // Until there is a new one.
  void LetGo();
  void Kill();
  // How many have been asked for and are yet to come.
  size_t coming() const { return is_on() ? zygote_->owed() : 0; }
  void AskForMore();
  void ExpectAnswer();
  absl::Status TakeIn();
  // Sees to it that somebody waits for it.
  bool TakeCharge(pid_t pid);
  void Pause();
  // Takes charge of all whom it has forked. Says whether that was the last.
  bool SeeOff(Zygote& leaving);

  Reaper& reaper_;
  ConnectionHandler& handler_;
  PollLoop* loop_ = nullptr;
  Limits limits_;
  size_t from_ = std::numeric_limits<size_t>::max();
  absl::AnyInvocable<void()> on_more_;
  SparePolicy policy_;
  std::optional<Zygote> zygote_;
  pid_t zygote_pid_ = -1;
  // Those that have been killed, and may have forked others first.
  std::list<Zygote> leaving_;
  std::deque<Zygote::Spare> spares_;  // Who came first goes first.
  // Since when it owes an answer, or the next; monotonic.
  absl::Duration owes_since_ = -absl::InfiniteDuration();
  bool expecting_ = false;
  // One could not be had, or did not live. No more are asked for, and nobody
  // waits for one.
  bool pausing_ = false;
  absl::Duration not_before_ = -absl::InfiniteDuration();  // Monotonic.
};

}  // namespace brood

#endif  // BROOD_SERVER_SPARE_POOL_H_
