// SPDX-License-Identifier: Apache-2.0
//
// A LoadEngine makes the connections of a LoadPlan, in one loop.
//
//   absl::StatusOr<std::vector<UniqueFd>> Connected(const LoadPlan& plan) {
//     absl::StatusOr<LoadEngine> engine = LoadEngine::Create(plan);
//     if (!engine.ok()) return engine.status();
//     std::vector<UniqueFd> kept;
//     engine->KeepIn(kept);
//     const absl::StatusOr<LoadResult> result =
//         engine->Run([](const LoadProgress&) { return true; });
//     if (!result.ok()) return result.status();
//     return kept;
//   }
//
// What it is not: what others link; see load_run.h and idle_crowd.h.
//
// Ownership: it owns every connection until it closes it, or hands it over.
//
// Errors: Create: InvalidArgument from CheckPlan(); FailedPrecondition if a
// source is no address of this machine; ResourceExhausted without descriptors
// for itself. Run: what epoll_wait(2) says. What befalls a connection is no
// error but part of the result.
//
// Threads: one. Signals: SIGPIPE is never raised. Fork: make it in the process
// that runs it.
// Rests on: epoll(7), timerfd_create(2), ip(7) IP_BIND_ADDRESS_NO_PORT,
// getrusage(2) RUSAGE_THREAD, proc(5) schedstat.
#ifndef BROOD_TOOLS_LOAD_LOAD_ENGINE_H_
#define BROOD_TOOLS_LOAD_LOAD_ENGINE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/proc/unique_fd.h"
#include "brood/signal/timer_fd.h"
#include "brood/tools/load/echo_pattern.h"
#include "brood/tools/load/load_plan.h"
#include "brood/tools/load/load_result.h"

namespace brood {

class LoadEngine {
 public:
  static absl::StatusOr<LoadEngine> Create(const LoadPlan& plan);

  // Instead of being closed, whole connections go to `kept`, which must outlive
  // Run(), and count no longer as open.
  void KeepIn(std::vector<UniqueFd>& kept) { kept_ = &kept; }

  // To be called once. Blocks until every connection is over. Calls `watch` about every tenth of a
  // second; once that returns false, those that are open are abandoned.
  absl::StatusOr<LoadResult> Run(
      absl::FunctionRef<bool(const LoadProgress&)> watch);

 private:
  using Slot = uint32_t;
  static constexpr Slot kNobody = UINT32_MAX;

  enum class State {
    kFree,
    kRetrying,  // To ask again to be connected: a unix backlog was full.
    kConnecting,
    kTalking,
    kThinking,
    kEnding,  // All is said, and the server is to say its end.
  };

  struct Connection {
    UniqueFd fd;
    State state = State::kFree;
    uint32_t generation = 0;  // Tells its events from those of an earlier one.
    uint64_t number = 0;
    absl::Duration due = {};
    absl::Duration begun = {};
    absl::Duration message_begun = {};
    uint64_t messages = 0;  // Whole ones.
    uint64_t place = 0;     // In the pattern, of the message's first byte.
    size_t sent = 0;
    size_t received = 0;
    std::string header = {};  // What is still to be sent of it.
    // What the kernel has said and no call has disproved.
    bool readable = false;
    bool writable = false;
    bool hung_up = false;
    bool asked_for_room = false;  // The kernel will say when it is writable.
    bool again = false;           // It has a turn without an event.
    // Its place in a Line.
    absl::Duration until = {};
    Slot before = kNobody;
    Slot behind = kNobody;
  };

  // Connections in the order in which their time is up. In one line all wait
  // equally long, so who comes last is the last.
  struct Line {
    Slot first = kNobody;
    Slot last = kNobody;
  };

  LoadEngine(const LoadPlan& plan, UniqueFd epoll, TimerFd timer);

  absl::Status CheckSources() const;
  size_t TargetOf(uint64_t number) const { return number % plan_.to.size(); }
  const Address& PeerOf(Slot slot) const;
  const Address* SourceOf(uint64_t number) const;
  std::string HeaderOf(uint64_t number) const;

  // Into the line of `state`, for `wait` from `now`.
  void MoveTo(State state, Slot slot, absl::Duration now, absl::Duration wait);
  void LeaveLine(Slot slot);
  Line* LineOf(State state);
  // The first whose time is up, or kNobody.
  Slot FirstExpired(const Line& line, absl::Duration now) const;
  absl::Duration FirstUntil(const Line& line) const;

  size_t open() const { return connections_.size() - free_.size(); }
  bool HasRoom() const;
  uint64_t NextNumber() const;
  // When that is to begin, if the plan has a rate.
  absl::Duration NextDue() const;
  bool MoreToBegin(absl::Duration now) const;
  void BeginSome();
  void CountNotBegun();

  void Begin(uint64_t number, absl::Duration due);
  bool Prepare(Slot slot);  // Its socket; false if that failed.
  void Connect(Slot slot);
  void BeConnected(Slot slot, absl::Duration now);
  void BeginMessage(Slot slot, absl::Duration now);
  void EndMessage(Slot slot, absl::Duration now);
  void SayEnd(Slot slot, absl::Duration now);
  void Handle(Slot slot, uint32_t events);
  // Sends and receives until neither is possible, or others should have a turn.
  void Talk(Slot slot);
  // False if that was its end.
  bool Send(Slot slot, bool& moved);
  bool Receive(Slot slot, bool& moved);
  bool Verify(Slot slot, std::string_view bytes);
  bool MessageIsOver(const Connection& connection) const;
  void AskForRoom(Slot slot);
  void BeWhole(Slot slot);
  void Fail(Slot slot, LoadFailure kind, absl::FunctionRef<std::string()> what);
  void FailWith(Slot slot, int error, std::string_view call);
  void Free(Slot slot);

  void LookAtTheClock(absl::Duration now);
  absl::Status Wait();
  LoadProgress Progress(absl::Duration now) const;

  LoadPlan plan_;
  UniqueFd epoll_;
  TimerFd timer_;
  absl::Duration armed_for_ = absl::InfiniteDuration();
  EchoPattern pattern_;
  std::vector<char> buffer_;
  // Of each server, who may come to it.
  std::vector<std::vector<Address>> sources_;
  bool no_delay_;
  std::vector<UniqueFd>* kept_ = nullptr;

  std::vector<Connection> connections_;
  std::vector<Slot> free_;
  std::vector<Slot> again_;
  Line waiting_;
  Line thinking_;
  Line retrying_;

  absl::Duration start_ = {};
  absl::Duration end_ = absl::InfiniteDuration();
  absl::Duration next_watch_ = {};
  std::optional<uint64_t> to_begin_;
  uint64_t begun_ = 0;
  LoadResult result_;
};

}  // namespace brood

#endif  // BROOD_TOOLS_LOAD_LOAD_ENGINE_H_
