// SPDX-License-Identifier: Apache-2.0
//
// An Acceptor lets clients in by all the doors of a server, as fast as they are
// wanted and no faster.
//
//   void CountClients(Acceptor& acceptor, PollLoop& loop, int& count) {
//     acceptor.Start(loop, [&count](Accepted, const Address&) {
//       ++count;
//       return true;
//     });
//   }
//
// What it is not: the one who decides who may come in, nor what is done with
// them.
//
// Clients who are not wanted wait in the kernel's queue, and cost nothing. So
// do those who are, while descriptors or memory run short: a pause, which grows
// to a second, and then another try; those who have waited too long are turned
// away (see Listener::AcceptBatch).
//
// Ownership: owns the listeners. Errors: a listener that is none any more ends
// the loop. Shortages are told as trouble and pass.
//
// Threads: one. Signals: none. Fork: a child must not use a copy.
// Rests on: listener.h, poll_loop.h.
#ifndef BROOD_SERVER_ACCEPTOR_H_
#define BROOD_SERVER_ACCEPTOR_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/address_range.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/proc/unforked.h"
#include "brood/server/poll_loop.h"

namespace brood {

// `local` is the address of the door by which the client came in; where that is
// every address, it becomes the one that the client connected to.
void LearnLocal(const Stream& client, Address& local);

class Acceptor {
 public:
  // Takes one client, who came in at the address given, and says whether
  // another is wanted.
  using Take = absl::AnyInvocable<bool(Accepted&&, const Address&)>;

  // REQUIRES: at least one listener.
  explicit Acceptor(std::vector<Listener> listeners);
  // Implicit: most servers have one door.
  Acceptor(Listener listener);  // NOLINT(google-explicit-constructor)

  // REQUIRES: not started.
  Acceptor(Acceptor&&) = default;

  // Where clients connect, with the ports the kernel chose.
  const std::vector<Address>& addresses() const { return addresses_; }

  // Calls `observer` when clients cannot be let in, with the reason, and with
  // OK when they can again.
  void OnTrouble(absl::AnyInvocable<void(const absl::Status&)> observer) {
    trouble_observer_ = std::move(observer);
  }

  // Lets clients in whenever `loop` runs, until `take` says that no more are
  // wanted, and again after Want().
  void Start(PollLoop& loop, Take take);
  void Want();
  // Ends a pause: what was short may be to be had again.
  void TryAgain();
  // At every door of TCP; see net/syn_filter.h. The first error, if any, is
  // returned after all have been tried.
  absl::Status DropSynsFrom(absl::Span<const AddressRange> sources);
  // How many there were so far, modulo 2^32; see there, too.
  uint32_t PacketsDropped() const;

  // From now on nobody new can connect; who has connected is let in as before.
  // Calls `done` once nobody is left and the doors are closed.
  void Drain(absl::AnyInvocable<void()> done);
  // Closes the doors now, on whoever waits before them. Calls nothing.
  void Close();
  bool closed() const { return open_ == 0; }

 private:
  absl::Status LetIn(Listener& listener);
  void Shut(Listener& listener);
  // Watches the doors if, and only if, a client could be let in now.
  void UpdateWatch();
  void PauseFor(absl::Duration time);
  void Tell(const absl::Status& status);
  // Closes the doors before which nobody is left, and looks again soon at the
  // others.
  absl::Status CloseDrained();
  bool IsDrained(const Listener& listener) const;

  // What they note of each client is nothing for its process.
  std::vector<Listener, UnforkedAllocator<Listener>> listeners_;
  size_t open_;  // How many of them.
  std::vector<Address> addresses_;
  Take take_;
  absl::AnyInvocable<void(const absl::Status&)> trouble_observer_;
  absl::AnyInvocable<void()> done_;
  PollLoop* loop_ = nullptr;
  bool wanted_ = true;
  bool paused_ = false;
  bool watching_ = false;
  bool in_trouble_ = false;
  uint64_t pauses_ = 0;
  absl::Duration handshakes_until_;  // Monotonic.
};

}  // namespace brood

#endif  // BROOD_SERVER_ACCEPTOR_H_
