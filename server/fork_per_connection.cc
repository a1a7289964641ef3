// SPDX-License-Identifier: Apache-2.0
#include "brood/server/fork_per_connection.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/attributes.h"
#include "absl/functional/any_invocable.h"
#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/address_range.h"
#include "brood/net/listener.h"
#include "brood/net/source_key.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_queue.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/families.h"
#include "brood/proc/posix.h"
#include "brood/proc/reaper.h"
#include "brood/proc/unique_fd.h"
#include "brood/server/acceptor.h"
#include "brood/server/admission.h"
#include "brood/server/connection_handler.h"
#include "brood/server/connection_log.h"
#include "brood/server/crowd_policy.h"
#include "brood/server/gate.h"
#include "brood/server/patience.h"
#include "brood/server/poll_loop.h"
#include "brood/server/process_model.h"
#include "brood/server/program_families.h"
#include "brood/server/spare_pool.h"

namespace brood {
namespace {

// For how long processes are started before others get their turn: the door,
// at which somebody may stand who should be next, exits and signals. A fork
// takes about 0.1 ms, a program half a millisecond.
constexpr absl::Duration kTurn = absl::Microseconds(150);
// The same while nobody waits: what comes at once is no crowd yet, and who need
// not be queued costs less.
constexpr absl::Duration kTurnAtTheDoor = absl::Microseconds(1500);

// Who is taken in ahead of his process needs a descriptor. So many of those
// that there are may be used for that.
constexpr size_t kPartOfDescriptors = 8;

// Why a client that was let in has to go without a process.
constexpr std::string_view kItLeft = "it left before it had a process";
constexpr std::string_view kTheServerEnds = "the server ends";
constexpr std::string_view kTooManyOfIt =
    "so many of its source wait that others would have to go";

// A connection that is kept is kept under a number above this, so that those
// which are handed over have low ones: what a fork costs depends on the number
// of the descriptor that the child keeps, see ForkOptions::keep_fds.
constexpr int kKeptAbove = 1024;

// How many spares begin before that: it takes no time to start one, but each
// wants the processor.
constexpr size_t kTurnOfSpares = 4;

// How many of a chunk of shared memory.
constexpr size_t kTotalsPerChunk = 4096;

// How many descriptors there can be beside those there are.
size_t RoomForDescriptors() {
  constexpr size_t kOthers = 128;  // Logs, and what a fork takes for a moment.
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == -1) return 0;
  size_t taken = kOthers;
  if (DIR* const descriptors = opendir("/proc/self/fd")) {
    while (readdir(descriptors) != nullptr) ++taken;
    (void)closedir(descriptors);
  }
  return limit.rlim_cur - std::min<rlim_t>(limit.rlim_cur, taken);
}

// A program costs a descriptor for its process, and another if its connection
// is kept here too. That there is one for each process comes first; where
// nobody says how many there will be, a third is left for connections.
size_t MostKept(size_t room, size_t max_connections) {
  return max_connections < room ? room - max_connections : room / 3;
}

SharedTotals MapTotals() {
  void* const memory =
      mmap(nullptr, kTotalsPerChunk * sizeof(TcpTotals), PROT_READ | PROT_WRITE,
           MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  return SharedTotals(static_cast<TcpTotals*>(memory));
}

}  // namespace

void Unmap::operator()(TcpTotals* totals) const {
  (void)munmap(totals, kTotalsPerChunk * sizeof(TcpTotals));
}

absl::StatusOr<std::unique_ptr<ForkPerConnection>> ForkPerConnection::Create(
    Acceptor acceptor, ConnectionHandler& handler, const Options& options) {
  if (options.gate.limits.max_connections == 0) {
    return absl::InvalidArgumentError(
        "max_connections is 0: at least 1 is needed");
  }
  // A program that was started with every signal blocked has no queue to offer,
  // and can still do with a descriptor for each child.
  absl::StatusOr<ExitQueue> queue = ExitQueue::Create();
  absl::StatusOr<Reaper> reaper =
      queue.ok() ? Reaper::Create(*std::move(queue)) : Reaper::Create();
  if (!reaper.ok()) return reaper.status();
  return absl::WrapUnique(new ForkPerConnection(std::move(acceptor), handler,
                                                options, *std::move(reaper)));
}

ForkPerConnection::ForkPerConnection(Acceptor acceptor,
                                     ConnectionHandler& handler,
                                     const Options& options, Reaper reaper)
    : acceptor_(std::move(acceptor)),
      handler_(handler),
      options_(options),
      gate_(options.gate),
      reaper_(std::move(reaper)),
      spares_(reaper_, handler_) {}

void ForkPerConnection::OnConnectionEnd(
    absl::AnyInvocable<void(const ConnectionRecord&)> observer) {
  observer_ = std::move(observer);
}

void ForkPerConnection::OnTrouble(
    absl::AnyInvocable<void(const absl::Status&)> observer) {
  trouble_observer_ = std::move(observer);
}

void ForkPerConnection::OnEvent(
    absl::AnyInvocable<void(const LogEvent&)> observer) {
  event_observer_ = std::move(observer);
}

void ForkPerConnection::Tell(const absl::Status& status) {
  if (in_trouble_ == !status.ok()) return;
  in_trouble_ = !status.ok();
  if (trouble_observer_ != nullptr) trouble_observer_(status);
}

absl::Status ForkPerConnection::Start(PollLoop& loop) {
  loop_ = &loop;
  const bool program = handler_.program().has_value();
  keeps_streams_ = options_.patience.asks_tcp() ||
                   (program && (options_.patience.client_gone_grace !=
                                    absl::InfiniteDuration() ||
                                observer_ != nullptr));
  // Limits that ask TCP hold for everybody, or not everybody is let in.
  const size_t room = RoomForDescriptors();
  most_kept_ = program && !options_.patience.asks_tcp()
                   ? MostKept(room, options_.gate.limits.max_connections)
                   : std::numeric_limits<size_t>::max();
  crowd_policy_ = CrowdPolicy(room / kPartOfDescriptors);
  if (program) {
    families_.Start(
        loop, [this](pid_t pid) { return reaper_.Contains(pid); },
        options_.reaps, [this] { CallDone(); },
        [this](const LogEvent& event) {
          if (event_observer_ != nullptr) event_observer_(event);
        });
  }
  if (!program) {
    spares_.Start(loop, options_.limits, options_.spares_from, [this] {
      StartWaiting();
      CallDone();
    });
  }
  loop_->Watch(reaper_.fd(), [this] { return ReportEnds(); });
  gate_.OnEvent([this](const LogEvent& event) {
    if (event_observer_ != nullptr) event_observer_(event);
  });
  gate_.OnRoom([this] {
    if (WantsMore()) acceptor_.Want();
  });
  gate_.Start(loop, [this](Entrant&& entrant) { Enter(std::move(entrant)); });
  gate_.ShieldBy({.drop =
                      [this](absl::Span<const AddressRange> sources) {
                        return acceptor_.DropSynsFrom(sources);
                      },
                  .dropped = [this] { return acceptor_.PacketsDropped(); }});
  acceptor_.OnTrouble([this](const absl::Status& status) {
    // The door is open, but somebody stands in it.
    if (status.ok() && short_) return;
    Tell(status);
  });
  acceptor_.Start(loop, [this](Accepted&& client, const Address& local) {
    return gate_.Arrive(std::move(client), local) && WantsMore();
  });
  return absl::OkStatus();
}

// From the door to the fork a frame is small: after each fork the parent copies
// every page of its stack that it writes to. What is seldom done has functions
// of its own, which are not to be inlined.
void ForkPerConnection::Enter(Entrant&& entrant) {
  crowd_policy_.NoteArrival(SourceOf(entrant), loop_->woken_at());
  absl::Status status;
  if (starting_.empty() && !IsTurnOver() && MayStart(entrant)) {
    status = StartOne(entrant);
    if (status.ok()) return;
  }
  PutOff(std::move(entrant), status);
}

ABSL_ATTRIBUTE_NOINLINE void ForkPerConnection::PutOff(
    Entrant&& entrant, const absl::Status& status) {
  if (!status.ok() && !IsShortage(status)) {
    const Entrant gone = std::move(entrant);  // With its slot, at once.
    TellNotStarted(gone, status);
    return;
  }
  const auto source = SourceOf(entrant);
  switch (crowd_policy_.PutOff(source, WaitingOf(source), loop_->woken_at())) {
    case CrowdPolicy::Verdict::kWait:
      break;
    case CrowdPolicy::Verdict::kHoldBack:
      gate_.HoldBack(entrant);
      break;
    case CrowdPolicy::Verdict::kTurnAway:
      gate_.TurnAway(std::move(entrant), kTooManyOfIt, Gate::Farewell::kReset);
      return;
  }
  starting_.Push(source, std::move(entrant));
  if (!status.ok()) {
    Tell(status);
    TryAgainLater();
  } else if (!short_) {
    StartWaitingSoon();
  }
}

bool ForkPerConnection::MayStart(const Entrant& entrant) const {
  return !spares_.is_on() ||
         spares_.WayFor(SourceOf(entrant)) != SparePool::Way::kWait;
}

// Whether somebody waits who may have a process now. It is his turn then: those
// who have to wait for a spare let others go first.
bool ForkPerConnection::HasNext() {
  constexpr size_t kMostToAsk = 16;
  size_t left = std::min(starting_.sources(), kMostToAsk);
  while (left > 0 && !MayStart(starting_.Front())) {
    starting_.PassTurn();
    --left;
  }
  return left > 0;
}

bool ForkPerConnection::IsTurnOver() const {
  return MonotonicNow() - loop_->woken_at() >= kTurnAtTheDoor;
}

bool ForkPerConnection::WantsMore() const {
  if (short_) return false;
  const std::optional<SourceKey>& crowd = crowd_policy_.crowd();
  return crowd_policy_.WantsMore(
      {.all = starting_.size(),
       .of_source = crowd.has_value() ? starting_.size_of(*crowd) : 0},
      loop_->woken_at());
}

SourceKey ForkPerConnection::SourceOf(const Entrant& entrant) const {
  return SourceKey::Of(entrant.peer, options_.gate.source_lengths);
}

CrowdPolicy::Waiting ForkPerConnection::WaitingOf(
    const SourceKey& source) const {
  return {.all = starting_.size(), .of_source = starting_.size_of(source)};
}

ABSL_ATTRIBUTE_NOINLINE void ForkPerConnection::LetGo(const SourceKey& source) {
  if (crowd_policy_.IsOver(source, WaitingOf(source), loop_->woken_at())) {
    gate_.LetGo(source);
  }
}

void ForkPerConnection::TellNotStarted(const Entrant& entrant,
                                       const absl::Status& why) {
  if (event_observer_ == nullptr) return;
  const std::string peer = entrant.peer.ToString();
  event_observer_(
      {.name = "not_started",
       .sentence =
           absl::StrCat("peer ", peer, " has no process: ", why.message()),
       .fields = {{"peer", peer}, {"why", std::string(why.message())}}});
}

// On success nothing is left of the entrant.
absl::Status ForkPerConnection::StartOne(Entrant& entrant) {
  const absl::Duration begin = MonotonicNow();
  if (!entrant.proxy.has_value()) LearnLocal(entrant.stream, entrant.local);
  if (free_.empty()) {
    free_.push_back(connections_.size());
    connections_.emplace_back();
  }
  const uint64_t place = free_.back();
  TcpTotals* const totals =
      observer_ == nullptr || keeps_streams_ ? nullptr : TotalsOf(place);
  if (totals != nullptr) totals->known = false;
  if (spares_.is_on() && GiveToSpare(entrant, place, totals, begin)) {
    return absl::OkStatus();
  }
  HandlerProcess process = {.exit_signal = reaper_.exit_signal(),
                            .limits = options_.limits,
                            .totals = totals};
  if (const Families* families = families_.get(); families != nullptr) {
    (void)process.limits.Set(families->MarkOf(last_id_ + 1));
  }
  absl::StatusOr<Child> child =
      handler_.Start(entrant.stream,
                     {.local = entrant.local,
                      .peer = entrant.peer,
                      .id = last_id_ + 1,
                      .connections_of_source = entrant.connections_of_source},
                     process);
  if (!child.ok()) return child.status();
  Seat(entrant, place, child->pid(), begin);
  if (!reaper_.Add(*std::move(child), place).ok()) EndAtOnce(*child, place);
  return absl::OkStatus();
}

ABSL_ATTRIBUTE_NOINLINE bool ForkPerConnection::GiveToSpare(
    Entrant& entrant, uint64_t place, TcpTotals* totals, absl::Duration begin) {
  const std::optional<pid_t> pid =
      spares_.Give(SourceOf(entrant), entrant.stream,
                   {.local = entrant.local,
                    .peer = entrant.peer,
                    .id = last_id_ + 1,
                    .connections_of_source = entrant.connections_of_source},
                   totals, place);
  if (!pid.has_value()) return false;
  Seat(entrant, place, *pid, begin);
  return true;
}

// It has a process from here on; the entrant is not needed any more.
ABSL_ATTRIBUTE_NOINLINE void ForkPerConnection::Seat(Entrant& entrant,
                                                     uint64_t place, pid_t pid,
                                                     absl::Duration begin) {
  Connection& connection = connections_[place];
  connection.id = ++last_id_;
  connection.pid = pid;
  connection.local = entrant.local;
  connection.peer = entrant.peer;
  connection.proxy = entrant.proxy;
  connection.progress = Progress(begin);
  connection.slot = std::move(entrant.slot);
  const bool kept = keeps_streams_ && kept_ < most_kept_;
  if (kept) {
    Keep(entrant, connection);
  } else {
    (void)entrant.stream.Close();
  }
  free_.pop_back();
  ++live_;
  if (keeps_streams_ && handler_.program().has_value() &&
      options_.patience.client_gone_grace != absl::InfiniteDuration()) {
    if (kept) {
      WatchClient(place);
    } else {
      TellNotWatched();
    }
  }
  if (const absl::Duration shortest = options_.patience.shortest();
      shortest != absl::InfiniteDuration()) {
    TickAt(begin + shortest);
  }
  spares_.NoteConnections(live_);
}

ABSL_ATTRIBUTE_NOINLINE void ForkPerConnection::Keep(Entrant& entrant,
                                                     Connection& connection) {
  UniqueFd high(fcntl(entrant.stream.fd(), F_DUPFD_CLOEXEC, kKeptAbove));
  if (high.valid()) {
    (void)entrant.stream.Close();
    connection.stream.emplace(std::move(high), entrant.peer);
  } else {  // Where so many are not allowed, none is high.
    connection.stream = std::move(entrant.stream);
  }
  ++kept_;
}

// It may have begun, so its client cannot be given to another process: this one
// ends here, by SIGKILL, and is accounted for like any other.
ABSL_ATTRIBUTE_NOINLINE void ForkPerConnection::EndAtOnce(Child& child,
                                                          uint64_t place) {
  (void)child.SignalGroup(SIGKILL);
  const absl::StatusOr<ExitStatus> status = child.Wait();
  families_.End(connections_[place].id);
  ReportEnd(place, status.value_or(ExitStatus::Lost()));
}

ABSL_ATTRIBUTE_NOINLINE void ForkPerConnection::TellNotWatched() {
  if (std::exchange(told_not_watched_, true) || event_observer_ == nullptr) {
    return;
  }
  event_observer_(
      {.name = "not_watched",
       .sentence = absl::StrCat(
           "no more than ", most_kept_,
           " clients are watched: with RLIMIT_NOFILE there is no descriptor to "
           "see of others that they are gone"),
       .fields = {{"watched", uint64_t{most_kept_}}}});
}

TcpTotals* ForkPerConnection::TotalsOf(uint64_t place) {
  const size_t chunk = place / kTotalsPerChunk;
  if (totals_.size() <= chunk) {
    while (totals_.size() <= chunk) totals_.push_back(MapTotals());
    spares_.Renew();
  }
  if (totals_[chunk] == nullptr) return nullptr;
  return &totals_[chunk][place % kTotalsPerChunk];
}

ConnectionRecord ForkPerConnection::RecordOf(const Connection& connection,
                                             const ExitStatus& status,
                                             uint64_t place) {
  ConnectionRecord record = {
      .id = connection.id,
      .pid = connection.pid,
      .peer = connection.proxy.value_or(connection.peer),
      .local = connection.local,
      .model = std::string(options_.name),
      .status = status,
      .duration = MonotonicNow() - connection.progress.begin(),
      .ended = connection.ended};
  if (connection.proxy.has_value()) record.client = connection.peer;
  if (handler_.program().has_value()) {
    record.program = std::string(*handler_.program());
  } else {
    record.service = std::string(handler_.name());
  }
  TcpTotals totals;
  if (connection.stream.has_value()) {
    totals = TcpTotals::Of(connection.stream->fd());
  } else if (const TcpTotals* shared = TotalsOf(place); shared != nullptr) {
    totals = *shared;
  }
  if (totals.known) {
    record.bytes_in = totals.bytes_in;
    record.bytes_out = totals.bytes_out;
    record.retransmits = totals.retransmits;
  }
  return record;
}

void ForkPerConnection::ReportEnd(uint64_t place, const ExitStatus& status) {
  if (observer_ != nullptr) {
    Observe(place, status);
  } else {
    Vacate(place);
  }
}

ABSL_ATTRIBUTE_NOINLINE void ForkPerConnection::Observe(
    uint64_t place, const ExitStatus& status) {
  const ConnectionRecord record = RecordOf(connections_[place], status, place);
  Vacate(place);
  observer_(record);
}

void ForkPerConnection::Vacate(uint64_t place) {
  Connection& connection = connections_[place];
  if (connection.stream.has_value()) {
    loop_->Unwatch(connection.stream->fd());
    --kept_;
  }
  --live_;
  free_.push_back(place);
  connection.id = 0;
  connection.stream.reset();
  connection.proxy.reset();
  connection.ended.reset();
  connection.kill_at = absl::InfiniteDuration();
  connection.slot = Admission::Slot();
}

absl::Status ForkPerConnection::ReportEnds() {
  while (true) {
    absl::StatusOr<std::optional<Reaper::Exit>> exit = reaper_.Next();
    if (!exit.ok()) return exit.status();
    if (!exit->has_value()) break;
    const uint64_t place = (*exit)->tag;
    if (place == SparePool::kTag) {
      spares_.NoteEnd((*exit)->pid);
      continue;
    }
    const Connection& connection = connections_[place];
    if (connection.ended.has_value()) families_.End(connection.id);
    ReportEnd(place, (*exit)->status);
  }
  spares_.NoteConnections(live_);
  StartWaiting();
  CallDone();
  return absl::OkStatus();
}

void ForkPerConnection::StartWaiting() {
  short_ = false;
  const absl::Duration until = MonotonicNow() + kTurn;
  size_t left = spares_.is_on() ? kTurnOfSpares : starting_.size();
  while (left > 0 && HasNext() && MonotonicNow() < until) {
    --left;
    if (WasGivenUp(starting_.Front().stream)) {
      // Whoever comes in numbers only to leave would have to be let in as fast
      // as he comes, before anybody else is.
      Entrant gone = starting_.Pop();
      if (gate_.holds_back()) LetGo(SourceOf(gone));
      gate_.TurnAway(std::move(gone), kItLeft, Gate::Farewell::kReset);
      continue;
    }
    // A child finds its client here; the queue is not there for it.
    Entrant next = std::move(starting_.Front());
    const absl::Status status = StartOne(next);
    if (IsShortage(status)) {
      starting_.Front() = std::move(next);
      Tell(status);
      TryAgainLater();
      return;
    }
    if (!status.ok()) TellNotStarted(next, status);
    (void)starting_.Pop();
    if (gate_.holds_back()) LetGo(SourceOf(next));
    Tell(absl::OkStatus());
  }
  if (!starting_.empty()) {
    // So that the processes of those who come seldom need not wait until this
    // one has used up its slice with those of a crowd.
    if (crowd_policy_.IsCrowded(starting_.size(), loop_->woken_at())) {
      (void)sched_yield();
    }
    if (HasNext()) StartWaitingSoon();
  }
  acceptor_.TryAgain();
  if (gate_.CallNext() && WantsMore()) acceptor_.Want();
}

void ForkPerConnection::StartWaitingSoon() {
  if (std::exchange(starting_soon_, true)) return;
  loop_->CallAfter(absl::ZeroDuration(), [this] {
    starting_soon_ = false;
    StartWaiting();
    CallDone();
    return absl::OkStatus();
  });
}

void ForkPerConnection::TryAgainLater() {
  short_ = true;
  if (std::exchange(trying_later_, true)) return;
  loop_->CallAfter(kShortagePause, [this] {
    trying_later_ = false;
    StartWaiting();
    CallDone();
    return absl::OkStatus();
  });
}

// ---- limits of one connection ----

void ForkPerConnection::End(Connection& connection, const Ended& ended) {
  if (connection.ended.has_value()) return;
  connection.ended = ended;
  connection.kill_at = MonotonicNow() + Patience::kTermToKill;
  reaper_.KillGroupAtEnd(connection.pid);
  (void)reaper_.SignalGroup(connection.pid, SIGTERM);
  families_.Ask(connection.id, connection.pid);
  TickAt(connection.kill_at);
}

void ForkPerConnection::WatchClient(uint64_t place) {
  const absl::Duration grace = options_.patience.client_gone_grace;
  CallWhenClientIsGone(
      *loop_, connections_[place].stream->fd(), grace,
      [this, place, id = connections_[place].id, grace] {
        // Somebody else may be there by now.
        if (connections_[place].id == id) {
          End(connections_[place],
              {.cause = EndCause::kClientGone, .limit = grace});
        }
        return absl::OkStatus();
      });
}

void ForkPerConnection::Tick() {
  const absl::Duration now = MonotonicNow();
  absl::Duration next = absl::InfiniteDuration();
  for (Connection& connection : connections_) {
    if (connection.id == 0) continue;
    if (now >= connection.kill_at) {
      connection.kill_at = absl::InfiniteDuration();
      (void)reaper_.SignalGroup(connection.pid, SIGKILL);
    } else if (!connection.ended.has_value()) {
      const int fd =
          connection.stream.has_value() ? connection.stream->fd() : -1;
      const std::optional<Ended> ended =
          connection.progress.LimitOf(options_.patience, fd, now);
      if (ended.has_value()) {
        End(connection, *ended);
      } else {
        next = std::min(next, connection.progress.look_at());
      }
    }
    next = std::min(next, connection.kill_at);
  }
  // Who began after this look has no limit sooner than that.
  next = std::min(next, now + options_.patience.shortest());
  if (live_ > 0) TickAt(std::max(next, now + options_.patience.tick()));
}

void ForkPerConnection::TickAt(absl::Duration when) {
  if (when >= tick_at_) return;
  tick_at_ = when;
  loop_->CallAfter(when - MonotonicNow(), [this, when] {
    if (tick_at_ != when) return absl::OkStatus();  // An earlier one came.
    tick_at_ = absl::InfiniteDuration();
    Tick();
    return absl::OkStatus();
  });
}

// ---- the verbs ----

void ForkPerConnection::Drain(absl::AnyInvocable<void()> done) {
  done_ = std::move(done);
  gate_
      .StopShield();  // Before the door is shut, which may be by a filter, too.
  acceptor_.Drain([this] { CallDoneSoon(); });
}

void ForkPerConnection::CallDone() {
  if (done_ != nullptr && acceptor_.closed() && gate_.waiting() == 0 &&
      active() == 0 && !families_.is_ending()) {
    std::exchange(done_, nullptr)();
  }
}

void ForkPerConnection::CallDoneSoon() {
  constexpr absl::Duration kLookAgain = absl::Milliseconds(10);
  CallDone();
  if (done_ == nullptr) return;
  loop_->CallAfter(kLookAgain, [this] {
    CallDoneSoon();
    return absl::OkStatus();
  });
}

void ForkPerConnection::SignalHandlers(int signo, EndCause cause) {
  gate_.StopShield();
  acceptor_.Close();
  spares_.Stop();
  gate_.TurnAwayAll(kTheServerEnds);
  while (!starting_.empty()) {
    gate_.SendOff(starting_.Pop(), kTheServerEnds, Gate::Farewell::kReset);
  }
  for (Connection& connection : connections_) {
    if (connection.id == 0) continue;
    if (!connection.ended.has_value()) connection.ended = Ended{.cause = cause};
    reaper_.KillGroupAtEnd(connection.pid);
    (void)reaper_.SignalGroup(connection.pid, signo);
    if (signo == SIGTERM) families_.Ask(connection.id, connection.pid);
  }
  CallDone();
}

size_t ForkPerConnection::ChangeCapacity(int by) {
  size_t most = gate_.admission().limits().max_connections;
  if (options_.fixed_capacity) return most;
  // Without a limit there is nothing to add to; one fewer begins with those who
  // are inside.
  if (most == ConnectionLimits::kNone && by < 0) most = live_;
  if (by < 0 && most > 1) gate_.set_max_connections(most - 1);
  if (by > 0 && most != ConnectionLimits::kNone) {
    gate_.set_max_connections(most + 1);
    StartWaiting();
  }
  return gate_.admission().limits().max_connections;
}

std::vector<LogField> ForkPerConnection::State() const {
  std::vector<LogField> fields = {
      {"active", static_cast<uint64_t>(live_)},
      {"waiting", static_cast<uint64_t>(starting_.size() + gate_.waiting())},
      {"connections", last_id_},
      {"turned_away", gate_.turned_away()}};
  if (spares_.is_on()) {
    fields.push_back({"spares", static_cast<uint64_t>(spares_.ready())});
  }
  const size_t most = gate_.admission().limits().max_connections;
  if (most != ConnectionLimits::kNone) {
    fields.push_back({"max_connections", static_cast<uint64_t>(most)});
  }
  return fields;
}

}  // namespace brood
