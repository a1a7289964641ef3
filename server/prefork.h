// SPDX-License-Identifier: Apache-2.0
//
// Prefork has its processes before their clients come, and each of them accepts
// for itself.
//
//   absl::Status ServeByEight(std::vector<Listener> listeners,
//                             ConnectionHandler& handler) {
//     absl::StatusOr<std::unique_ptr<Prefork>> model =
//         Prefork::Create(std::move(listeners), handler,
//                         {.workers = WorkerPolicy::Options::Static(8)});
//     if (!model.ok()) return model.status();
//     return Supervise(**model, {});
//   }
//
// What it is not: as isolated as fork_per_connection.h. What a handler leaves
// in memory the next client of that worker finds, and the worker has the
// listeners and a pipe to its parent open beside the connection, close-on-exec,
// and a socket if the parent watches connections.
// With connections_per_worker = 1 ("fork ahead") it is as isolated: then each
// worker serves one client, with nothing but its connection open (and pipes, if
// it has a program do it, which has none), and nobody waits for a fork as long
// as there are spares. Such a worker shares no memory with its parent (but the
// table of sources until it has its client, if these are counted): what it says
// about itself is on its way while the client is served. It may be sent SIGURG
// when it is thought to be idle, which does nothing to who does not handle it.
//
// How many workers there are, and when they are replaced: worker_policy.h. For
// each client one worker is woken. A worker that dies while it was on its way
// to a client leaves that client to the next who looks, and all others are made
// to look.
//
// Connections beyond the number of workers wait in the kernel's queue, and the
// parent never accepts; but with another AtLimit than kQueue it does, once all
// the workers that may be there have a client, to send off who comes then.
// Nobody is sent off because a worker has crashed or could not be forked, or
// while the server drains.
//
// A connection whose worker survives ends with what Handle() returned, and with
// what the worker used for it; one whose worker dies has the worker's status.
// A program's connection ends as with fork_per_connection.h: with the pid and
// status of the program, and what that has used; also if it could not be
// started, which is tried again while there is a shortage.
// If so many end at once that the parent does not keep up, records are lost and
// counted ("records_lost" in State()); a worker never waits. What is counted of
// connections is exact, whoever is killed.
//
// SignalHandlers() also ends the workers that have no client, and resets who
// waits, once the last worker is gone.
//
// Ownership: owns the listeners and the workers; the handler is borrowed.
// Errors: Create: InvalidArgument for numbers that cannot be (worker_policy.h)
// or no listener, else what mmap(2) and pipe2(2) say. A listener that is none
// any more ends the loop. For others see process_model.h. Threads: one.
// Signals: none; in a worker as in a child of fork.h. Fork: yes. Rests on:
// fork.h, reaper.h, families.h, prefork_worker.h.
#ifndef BROOD_SERVER_PREFORK_H_
#define BROOD_SERVER_PREFORK_H_

#include <sys/types.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/source_key.h"
#include "brood/net/stream.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/families.h"
#include "brood/proc/reaper.h"
#include "brood/proc/unique_fd.h"
#include "brood/server/admission.h"
#include "brood/server/common_door.h"
#include "brood/server/connection_handler.h"
#include "brood/server/connection_log.h"
#include "brood/server/flood_shield.h"
#include "brood/server/patience.h"
#include "brood/server/poll_loop.h"
#include "brood/server/prefork_board.h"
#include "brood/server/prefork_worker.h"
#include "brood/server/process_model.h"
#include "brood/server/program_families.h"
#include "brood/server/rules.h"
#include "brood/server/source_table.h"
#include "brood/server/turned_away.h"
#include "brood/server/worker_policy.h"
#include "brood/signal/wakeup_fd.h"

namespace brood {

class Prefork : public ProcessModel {
 public:
  struct Options {
    // The name of the model, for logs.
    std::string_view name = "prefork";
    WorkerPolicy::Options workers = WorkerPolicy::Options::Static(8);
    // Who may come: whom the rules and the limits of its source let in; who is
    // believed to speak for others is as in gate.h, and a worker waits for what
    // its proxy says. Who is one too many of its source has to go, for the
    // kernel's queue knows no sources. And the limits of each worker.
    PreforkWorker::Terms terms = {};
    // A connection that runs into one of its limits ends with its worker, whose
    // process group receives SIGTERM, two seconds later SIGKILL, and whoever is
    // left of it when the worker ends, too; another takes its place at once.
    // For all but handler_timeout the parent holds a copy of each connection.
    // Whom a program has started is ended as in fork_per_connection.h: it is
    // the parent that is the subreaper.
    Patience patience = {};
    // As there.
    Families::Reaps reaps =
        getpid() == 1 ? Families::Reaps::kNobody : Families::Reaps::kMarked;
  };

  static absl::StatusOr<std::unique_ptr<Prefork>> Create(
      std::vector<Listener> listeners, ConnectionHandler& handler,
      const Options& options);

  std::string_view name() const override { return options_.name; }
  std::string_view service() const override { return handler_.name(); }
  const std::vector<Address>& addresses() const override { return addresses_; }
  void OnConnectionEnd(
      absl::AnyInvocable<void(const ConnectionRecord&)> observer) override;
  void OnTrouble(
      absl::AnyInvocable<void(const absl::Status&)> observer) override;
  void OnEvent(absl::AnyInvocable<void(const LogEvent&)> observer) override;
  absl::Status Start(PollLoop& loop) override;
  void Drain(absl::AnyInvocable<void()> done) override;
  // Looks at every slot.
  size_t active() const override;
  bool Owns(pid_t pid) const override { return reaper_.Contains(pid); }
  void SignalHandlers(int signo, EndCause cause) override;
  // Workers without a client are replaced at once, the others after theirs.
  void SetRules(Rules rules) override;
  size_t ChangeCapacity(int by) override;
  std::vector<LogField> State() const override;
  std::string Explain(const Address& peer) const override;
  absl::StatusOr<std::string> Forget(const Address& peer) override;

 private:
  // What the parent knows of the worker in a slot.
  struct Worker {
    pid_t pid = 0;
    uint64_t reported = 0;     // Connections of this slot that were observed.
    uint64_t turned_away = 0;  // Of this slot, as last told.
    bool in_trouble = false;
    // What its connections have used so far.
    absl::Duration user_time = absl::ZeroDuration();
    absl::Duration system_time = absl::ZeroDuration();
    // Why its connection was ended, and when what is left of it is killed.
    std::optional<Ended> ended = std::nullopt;
    bool told = false;  // To end, and its program has.
    // Told to go if it has no client, and may have missed it.
    bool called_off = false;
    absl::Duration kill_at = absl::InfiniteDuration();
    // How the connection `number` of this slot goes, and a copy of one of them.
    uint64_t number = 0;
    Progress progress = Progress();
    UniqueFd copy = {};
    uint64_t number_of_copy = 0;
  };

  // Where workers that serve one client only wait for it, and what they tell
  // without waking anybody: nobody polls `news`.
  struct OneEach {
    CommonDoor door;
    UniqueFd news_in;
    UniqueFd news_out;

    static absl::StatusOr<OneEach> Create(
        const std::vector<Listener>& listeners);
  };
  // Through which the workers send what they serve.
  struct Copies {
    Stream in;
    Stream out;
    int most = 1;  // As many as can be on their way.

    static absl::StatusOr<Copies> Create();
  };

  Prefork(std::vector<Listener> listeners, ConnectionHandler& handler,
          const Options& options, WorkerPolicy policy, Reaper reaper,
          PreforkBoard board, UniqueFd messages_in, UniqueFd messages_out,
          std::optional<OneEach> one_each, std::optional<Copies> copies,
          std::optional<SourceTable> sources, WakeupFd bell);

  bool turns_away() const { return terms_.at_limit != AtLimit::kQueue; }
  bool counts_idle() const {
    return options_.workers.max_spare > 0 || turns_away();
  }
  bool has_limits() const {
    return options_.patience.handler_timeout != absl::InfiniteDuration() ||
           options_.patience.asks_tcp();
  }
  uint64_t InProgress(size_t slot) const;

  // Does what the policy wants done now.
  void Decide();
  int32_t LowWater() const;
  void WakeAt(absl::Duration when);
  absl::Status StartWorker(const WorkerPolicy::Start& start);
  PreforkWorker::Task TaskOf(const WorkerPolicy::Start& start) const;
  std::vector<int> DescriptorsOfWorkers() const;
  // Has everyone look at the board; who has no copy of it goes, and the next
  // knows what is on it.
  void CallAll();
  // Has somebody look for a client for whom another was woken.
  void LookAtDoorsAgain();
  // These are to go, if they have no client.
  void Retire(const std::vector<size_t>& slots);
  // The same, for one that has no copy of the board.
  void CallOff(size_t slot);
  void CallOffAgainSoon();
  // Puts on the board what has been told without waking anybody; and tells the
  // policy, at once or, for who only asks, soon.
  void ReadNews() const;
  absl::Status LookAtNews();
  void CatchUp() const;
  absl::Status ReadMessages();
  absl::Status Obey(const PreforkMessage& message);
  void TellTurnedAway(const PreforkMessage& message);
  Admission::Answer AnswerIn(const PreforkMessage& message) const;
  std::string WhyTurnedAway(const PreforkMessage& message) const;
  void TellNotStarted(const PreforkMessage& message);
  void Record(const PreforkMessage& message);
  // Looks after who is one too many, while there is no worker for anybody.
  void WatchDoors();
  void UnwatchDoors();
  absl::Status TurnAwayFrom(Listener& listener);
  void TurnAway(Accepted client);
  Admission::Answer WhenFull(const Address& peer) const;
  std::string WhatWorkersWouldDo(const SourceKey& source) const;
  // Tells the policy what a worker is doing, and the observer of its trouble.
  absl::Status LookAt(size_t slot);
  absl::Status LookAtAll();
  absl::Status ReportEnds();
  // Accounts for a worker that has ended, and whose messages have been read.
  void Bury(size_t slot, pid_t pid, const ExitStatus& status);
  void RecordCrash(size_t slot, pid_t pid, const ExitStatus& status);
  void SetTrouble(size_t slot, const absl::Status& status);
  // `status` is the newest trouble, or OK.
  void TellTrouble(const absl::Status& status);
  void Observe(ConnectionRecord record);
  // Takes in the copies of connections that workers send.
  absl::Status ReadCopies();
  void Watch(const PreforkCopy& copy, UniqueFd fd);
  void TellNotWatched(const absl::Status& why);
  void LetGo(Worker& worker);
  // Ends this connection of a slot, if it has not ended by itself.
  void End(size_t slot, uint64_t number, const Ended& ended);
  // Looks after the limits of all connections.
  void Tick();
  void TickSoon();
  void CloseListeners();
  void CallDone();

  void AskFamily(size_t slot);
  void EndFamily(size_t slot);

  std::vector<Listener> listeners_;
  const std::vector<Address> addresses_;
  ConnectionHandler& handler_;
  const Options options_;
  PreforkWorker::Terms terms_;
  WorkerPolicy policy_;
  Reaper reaper_;
  ProgramFamilies families_;  // Of programs, by slot and connection.
  PreforkBoard board_;
  UniqueFd messages_in_;
  UniqueFd messages_out_;
  std::optional<OneEach> one_each_;     // If each worker serves one client.
  std::optional<Copies> copies_;        // If connections are watched.
  std::optional<SourceTable> sources_;  // If sources are counted.
  WakeupFd bell_;
  absl::AnyInvocable<void(const ConnectionRecord&)> observer_;
  absl::AnyInvocable<void(const absl::Status&)> trouble_observer_;
  absl::AnyInvocable<void(const LogEvent&)> event_observer_;
  absl::AnyInvocable<void()> done_;
  PollLoop* loop_ = nullptr;
  std::vector<Worker> workers_;  // By slot.
  std::vector<PreforkMessage> buffer_;
  std::vector<Reaper::Exit> ended_;
  std::optional<EndCause> cause_;  // Once the handlers have been signalled.
  bool ticking_ = false;
  size_t to_kill_ = 0;  // How many workers have a kill_at.
  absl::Duration wake_at_ = absl::InfiniteDuration();
  bool start_fails_ = false;
  bool calling_off_ = false;
  // Slots of which there is news that the policy has not been told.
  mutable std::vector<size_t> news_of_;
  size_t in_trouble_ = 0;  // How many workers are.
  bool told_trouble_ = false;
  uint64_t last_id_ = 0;
  bool draining_ = false;
  bool watching_doors_ = false;
  absl::Duration doors_paused_until_ = -absl::InfiniteDuration();
  uint64_t turned_away_here_ = 0;  // By this process itself.
  TurnedAway turned_away_;
  FloodShield shield_;
};

}  // namespace brood

#endif  // BROOD_SERVER_PREFORK_H_
