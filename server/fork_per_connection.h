// SPDX-License-Identifier: Apache-2.0
//
// ForkPerConnection gives each client a process of its own.
//
//   absl::Status ServeEcho(const Address& address) {
//     absl::StatusOr<Listener> listener = Listener::Open(address, {});
//     if (!listener.ok()) return listener.status();
//     EchoHandler echo;
//     absl::StatusOr<std::unique_ptr<ForkPerConnection>> model =
//         ForkPerConnection::Create(*std::move(listener), echo, {});
//     if (!model.ok()) return model.status();
//     return Supervise(**model, {});
//   }
//
// What it is not: fast for clients that come and go by the thousand, each of
// which costs a fork; what it buys is that a handler may block, leak or crash,
// and only its own client notices.
//
// The child holds its connection and nothing else of the server's: not the
// listener, not the other clients. It dies with the server, even when that dies
// by SIGKILL. With an ExecHandler it is a program that was spawned.
//
// Where many come at once, their processes are started a few at a time, each
// source one after the other: whoever comes alone does not wait for a crowd
// that came before him. Between two turns the door is looked at, up to eight
// thousand are taken in, and who has given up meanwhile needs no process. While
// others come too, a source of whom 512 wait already is held back: its SYNs are
// dropped (net/syn_filter.h) until 64 are left, so that those who knock again
// do not fill the kernel's queue, in which all wait. If it has been held back
// in the last ten seconds, it is 32, and 4.
//
// From Options::spares_from connections on there are processes ready that have
// been forked ahead, and each client is handed to one of them, for beside many
// a fork takes milliseconds; see spare_pool.h. Such a process has been forked
// by a child of this one, and is otherwise the same.
//
// A client that has been let in is not dropped for want of a process: it waits,
// and the fork is tried again when a child has ended or after a tenth of a
// second. Until it has succeeded, the others wait in the kernel's queue. Only a
// program that cannot be executed any more costs a client its connection; and
// where there is no place left to wait in, and one source has most of it,
// whoever else comes of that source is reset, for the sake of those behind.
//
// A connection that runs into one of the limits of its Patience ends: its
// process group receives SIGTERM, two seconds later SIGKILL, and whoever is
// left of it when its leader ends, too. So it is with whoever else a program
// has started, sessions of their own and lost parents notwithstanding
// (families.h); but whom a program leaves behind that ends by itself, lives on.
// For this the process is a subreaper, from Start() on, if the handler is a
// program.
//
// A program needs a descriptor for its process here, and its connection is kept
// open here too, to see when the client is gone. Where RLIMIT_NOFILE has no
// room for both, each client has its process, and those who come last are not
// watched; an event says so, once.
//
// Ownership: owns the acceptor and the children; the handler is borrowed.
// Errors: see process_model.h. Threads: one. Signals: none.
// Fork: yes; nothing of this is there in a handler's process, see unforked.h.
// Rests on: fork.h, reaper.h, families.h, listener.h, spare_pool.h.
#ifndef BROOD_SERVER_FORK_PER_CONNECTION_H_
#define BROOD_SERVER_FORK_PER_CONNECTION_H_

#include <sys/types.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/families.h"
#include "brood/proc/limits.h"
#include "brood/proc/reaper.h"
#include "brood/proc/unforked.h"
#include "brood/server/acceptor.h"
#include "brood/server/admission.h"
#include "brood/server/connection_handler.h"
#include "brood/server/connection_log.h"
#include "brood/server/crowd_policy.h"
#include "brood/server/fair_queue.h"
#include "brood/server/gate.h"
#include "brood/server/patience.h"
#include "brood/server/poll_loop.h"
#include "brood/server/process_model.h"
#include "brood/server/program_families.h"
#include "brood/server/rules.h"
#include "brood/server/spare_pool.h"

namespace brood {

// Memory that a fork does not copy.
struct Unmap {
  void operator()(TcpTotals* totals) const;
};
using SharedTotals = std::unique_ptr<TcpTotals[], Unmap>;

class ForkPerConnection : public ProcessModel, public Unforked {
 public:
  struct Options {
    // The name of the model, for logs.
    std::string_view name = "fork";
    // Who comes in. limits.max_connections is how many processes with a client
    // there are at once; at least 1.
    Gate::Options gate = {};
    // The number of processes is the model's own: ChangeCapacity() keeps it.
    bool fixed_capacity = false;
    Limits limits = {};
    // From how many connections on processes are forked ahead, by one that is a
    // copy of this as it was then: what has changed in memory since, the
    // handler does not see. Programs never are.
    size_t spares_from = std::numeric_limits<size_t>::max();
    Patience patience = {};
    // Which of those whom programs leave behind are reaped here: nobody where
    // Orphans does it.
    Families::Reaps reaps =
        getpid() == 1 ? Families::Reaps::kNobody : Families::Reaps::kMarked;
  };

  static absl::StatusOr<std::unique_ptr<ForkPerConnection>> Create(
      Acceptor acceptor, ConnectionHandler& handler, const Options& options);

  std::string_view name() const override { return options_.name; }
  std::string_view service() const override { return handler_.name(); }
  const std::vector<Address>& addresses() const override {
    return acceptor_.addresses();
  }
  void OnConnectionEnd(
      absl::AnyInvocable<void(const ConnectionRecord&)> observer) override;
  void OnTrouble(
      absl::AnyInvocable<void(const absl::Status&)> observer) override;
  void OnEvent(absl::AnyInvocable<void(const LogEvent&)> observer) override;
  absl::Status Start(PollLoop& loop) override;
  void Drain(absl::AnyInvocable<void()> done) override;
  size_t active() const override { return live_ + starting_.size(); }
  bool Owns(pid_t pid) const override { return reaper_.Contains(pid); }
  void SignalHandlers(int signo, EndCause cause) override;
  void SetRules(Rules rules) override { gate_.set_rules(std::move(rules)); }
  size_t ChangeCapacity(int by) override;
  std::vector<LogField> State() const override;
  std::string Explain(const Address& peer) const override {
    return gate_.Explain(peer);
  }
  absl::StatusOr<std::string> Forget(const Address& peer) override {
    return gate_.Forget(peer);
  }

  const Admission& admission() const { return gate_.admission(); }

 private:
  // One connection that has a process. The reaper's tag is its place among the
  // others.
  struct Connection {
    uint64_t id = 0;  // 0: nobody is here.
    pid_t pid = -1;
    Address local;
    Address peer;
    std::optional<Address> proxy;
    Progress progress;
    Admission::Slot slot;
    // Open here too if something about it is to be known.
    std::optional<Stream> stream;
    std::optional<Ended> ended;
    absl::Duration kill_at = absl::InfiniteDuration();  // Monotonic.
  };

  ForkPerConnection(Acceptor acceptor, ConnectionHandler& handler,
                    const Options& options, Reaper reaper);

  // Gives the client a process, or lets it wait for one.
  void Enter(Entrant&& entrant);
  absl::Status StartOne(Entrant& entrant);
  // It has no process yet; if it could not be started, because of `status`.
  void PutOff(Entrant&& entrant, const absl::Status& status);
  // Whether it need not wait for a spare.
  bool MayStart(const Entrant& entrant) const;
  bool HasNext();
  // Whether others should get their turn before the next process.
  bool IsTurnOver() const;
  bool WantsMore() const;
  SourceKey SourceOf(const Entrant& entrant) const;
  CrowdPolicy::Waiting WaitingOf(const SourceKey& source) const;
  // One that has waited leaves: its source may come again, if it was held back.
  void LetGo(const SourceKey& source);
  void Keep(Entrant& entrant, Connection& connection);
  // Nobody would hear of its end.
  void EndAtOnce(Child& child, uint64_t place);
  // Gives it to a process that is there already, if there is one.
  bool GiveToSpare(Entrant& entrant, uint64_t place, TcpTotals* totals,
                   absl::Duration begin);
  void Seat(Entrant& entrant, uint64_t place, pid_t pid, absl::Duration begin);
  void TellNotStarted(const Entrant& entrant, const absl::Status& why);
  // Gives those that wait a process each, while these are to be had and others
  // need not wait.
  void StartWaiting();
  void StartWaitingSoon();
  void TryAgainLater();
  // Drains the reaper.
  absl::Status ReportEnds();
  ConnectionRecord RecordOf(const Connection& connection,
                            const ExitStatus& status, uint64_t place);
  // The place is free again, and it is said for the log.
  void ReportEnd(uint64_t place, const ExitStatus& status);
  void Observe(uint64_t place, const ExitStatus& status);
  void Vacate(uint64_t place);
  TcpTotals* TotalsOf(uint64_t place);

  void End(Connection& connection, const Ended& ended);
  void WatchClient(uint64_t place);
  void TellNotWatched();
  // Looks after the limits of time and rate.
  void Tick();
  void TickAt(absl::Duration when);

  void Tell(const absl::Status& status);
  void CallDone();
  // Some leave without a process, and so without an end that is reported.
  void CallDoneSoon();

  Acceptor acceptor_;
  ConnectionHandler& handler_;
  const Options options_;
  Gate gate_;
  Reaper reaper_;
  SparePool spares_;
  ProgramFamilies families_;  // Of programs, by connection.
  absl::AnyInvocable<void(const ConnectionRecord&)> observer_;
  absl::AnyInvocable<void(const absl::Status&)> trouble_observer_;
  absl::AnyInvocable<void(const LogEvent&)> event_observer_;
  absl::AnyInvocable<void()> done_;
  bool in_trouble_ = false;
  PollLoop* loop_ = nullptr;
  FairQueue<Entrant> starting_;  // Let in, without a process yet.
  // Who may wait there.
  CrowdPolicy crowd_policy_ = CrowdPolicy(CrowdPolicy::kMostPlaces);
  bool starting_soon_ = false;
  bool short_ = false;  // The last try found that there are no processes.
  bool trying_later_ = false;
  absl::Duration tick_at_ = absl::InfiniteDuration();  // Monotonic.
  bool keeps_streams_ = false;
  bool told_not_watched_ = false;
  // How many are open here too, and how many there may be.
  size_t kept_ = 0;
  size_t most_kept_ = 0;
  // A place is used again by the next connection, so that those who come and go
  // write to one page. No child has a use for any of them.
  std::vector<Connection, UnforkedAllocator<Connection>> connections_;
  std::vector<uint64_t, UnforkedAllocator<uint64_t>> free_;  // Of those places.
  // Shared with the forked children: what TCP counted, by place.
  std::vector<SharedTotals> totals_;
  size_t live_ = 0;
  uint64_t last_id_ = 0;
};

}  // namespace brood

#endif  // BROOD_SERVER_FORK_PER_CONNECTION_H_
