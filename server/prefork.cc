// SPDX-License-Identifier: Apache-2.0
#include "brood/server/prefork.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/address_range.h"
#include "brood/net/fd_passing.h"
#include "brood/net/listener.h"
#include "brood/net/source_key.h"
#include "brood/net/stream.h"
#include "brood/net/syn_filter.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_queue.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/proc/process_table.h"
#include "brood/proc/reaper.h"
#include "brood/proc/unique_fd.h"
#include "brood/server/admission.h"
#include "brood/server/connection_handler.h"
#include "brood/server/connection_log.h"
#include "brood/server/explain.h"
#include "brood/server/patience.h"
#include "brood/server/poll_loop.h"
#include "brood/server/prefork_board.h"
#include "brood/server/prefork_worker.h"
#include "brood/server/program_families.h"
#include "brood/server/rules.h"
#include "brood/server/source_table.h"
#include "brood/server/turned_away.h"
#include "brood/server/worker_policy.h"
#include "brood/signal/wakeup_fd.h"

namespace brood {
namespace {

using Doing = PreforkBoard::Doing;
using Kind = PreforkMessage::Kind;

// What the pipe is to hold: about two thousand messages. Who may not have so
// much gets less.
constexpr int kPipeSize = 1 << 20;
constexpr size_t kMessagesAtATime = (1 << 16) / sizeof(PreforkMessage);

// How often to look at idle workers whom nobody has mentioned.
constexpr absl::Duration kLookAgain = absl::Seconds(1);

// With more workers than this, one that serves costs the others more by
// watching the doors than it costs itself to leave them and to come back.
constexpr size_t kFewWorkers = 64;

// How long until a worker that is to go and has not is told again: one that had
// only just been forked may have missed it.
constexpr absl::Duration kCallAgain = absl::Milliseconds(20);

// How many clients of one listener are sent off before exits are looked at.
constexpr int kBatch = 64;

// A pipe for messages, both ends non-blocking.
absl::StatusOr<std::array<UniqueFd, 2>> MessagePipe() {
  std::array<int, 2> pipe;
  if (pipe2(pipe.data(), O_CLOEXEC | O_NONBLOCK) == -1) {
    return ErrnoStatus(errno, "pipe2");
  }
  (void)fcntl(pipe[1], F_SETPIPE_SZ, kPipeSize);
  return std::array<UniqueFd, 2>{UniqueFd(pipe[0]), UniqueFd(pipe[1])};
}

std::vector<Address> AddressesOf(const std::vector<Listener>& listeners) {
  std::vector<Address> addresses;
  addresses.reserve(listeners.size());
  for (const Listener& listener : listeners) {
    addresses.push_back(listener.address());
  }
  return addresses;
}

bool CountsSources(const ConnectionLimits& limits) {
  return limits.count_sources || limits.rate_per_source.limited() ||
         limits.max_connections_per_source != ConnectionLimits::kNone;
}

// A forked handler finds out by itself that its client is gone.
bool WatchesClients(const ConnectionHandler& handler,
                    const Prefork::Options& options) {
  return handler.program().has_value() &&
         options.patience.client_gone_grace != absl::InfiniteDuration();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Prefork>> Prefork::Create(
    std::vector<Listener> listeners, ConnectionHandler& handler,
    const Options& options) {
  if (listeners.empty()) {
    return absl::InvalidArgumentError("0 listeners: at least 1 is needed");
  }
  absl::StatusOr<WorkerPolicy> policy = WorkerPolicy::Create(options.workers);
  if (!policy.ok()) return policy.status();
  absl::StatusOr<PreforkBoard> board =
      PreforkBoard::Create(WorkerPolicy::kSlots);
  if (!board.ok()) return board.status();
  absl::StatusOr<std::array<UniqueFd, 2>> messages = MessagePipe();
  if (!messages.ok()) return messages.status();
  std::optional<OneEach> one_each;
  if (options.workers.connections_per_worker == 1) {
    absl::StatusOr<OneEach> created = OneEach::Create(listeners);
    if (!created.ok()) return created.status();
    one_each = *std::move(created);
    board->KeepFromChildren();
  }
  absl::StatusOr<WakeupFd> bell = WakeupFd::Create();
  if (!bell.ok()) return bell.status();
  std::optional<Copies> copies;
  if (options.patience.asks_tcp() || WatchesClients(handler, options)) {
    absl::StatusOr<Copies> created = Copies::Create();
    if (!created.ok()) return created.status();
    copies = *std::move(created);
  }
  // As in fork_per_connection.cc.
  absl::StatusOr<ExitQueue> queue = ExitQueue::Create();
  absl::StatusOr<Reaper> reaper =
      queue.ok() ? Reaper::Create(*std::move(queue)) : Reaper::Create();
  if (!reaper.ok()) return reaper.status();
  std::optional<SourceTable> sources;
  if (CountsSources(options.terms.sources)) {
    absl::StatusOr<SourceTable> created =
        SourceTable::Create(WorkerPolicy::kSlots, options.terms.sources);
    if (!created.ok()) return created.status();
    sources.emplace(*std::move(created));
  }
  return absl::WrapUnique(new Prefork(
      std::move(listeners), handler, options, *std::move(policy),
      *std::move(reaper), *std::move(board), std::move((*messages)[0]),
      std::move((*messages)[1]), std::move(one_each), std::move(copies),
      std::move(sources), *std::move(bell)));
}

Prefork::Prefork(std::vector<Listener> listeners, ConnectionHandler& handler,
                 const Options& options, WorkerPolicy policy, Reaper reaper,
                 PreforkBoard board, UniqueFd messages_in,
                 UniqueFd messages_out, std::optional<OneEach> one_each,
                 std::optional<Copies> copies,
                 std::optional<SourceTable> sources, WakeupFd bell)
    : listeners_(std::move(listeners)),
      addresses_(AddressesOf(listeners_)),
      handler_(handler),
      options_(options),
      terms_(options.terms),
      policy_(std::move(policy)),
      reaper_(std::move(reaper)),
      board_(std::move(board)),
      messages_in_(std::move(messages_in)),
      messages_out_(std::move(messages_out)),
      one_each_(std::move(one_each)),
      copies_(std::move(copies)),
      sources_(std::move(sources)),
      bell_(std::move(bell)),
      buffer_(kMessagesAtATime),
      shield_(terms_.flood_threshold) {}

void Prefork::OnConnectionEnd(
    absl::AnyInvocable<void(const ConnectionRecord&)> observer) {
  observer_ = std::move(observer);
}

void Prefork::OnTrouble(
    absl::AnyInvocable<void(const absl::Status&)> observer) {
  trouble_observer_ = std::move(observer);
}

void Prefork::OnEvent(absl::AnyInvocable<void(const LogEvent&)> observer) {
  event_observer_ = std::move(observer);
  const auto tell = [this](const LogEvent& event) {
    if (event_observer_ != nullptr) event_observer_(event);
  };
  turned_away_.OnEvent(tell);
  shield_.OnEvent(tell);
}

absl::Status Prefork::Start(PollLoop& loop) {
  loop_ = &loop;
  if (handler_.program().has_value()) {
    families_.Start(
        loop, [this](pid_t pid) { return reaper_.Contains(pid); },
        options_.reaps, [this] { CallDone(); },
        [this](const LogEvent& event) {
          if (event_observer_ != nullptr) event_observer_(event);
        });
  }
  if (has_limits()) TickSoon();
  if (copies_.has_value()) {
    loop_->Watch(copies_->in.fd(), [this] { return ReadCopies(); });
  }
  loop_->Watch(messages_in_.get(), [this] {
    if (absl::Status s = ReadMessages(); !s.ok()) return s;
    Decide();
    return absl::OkStatus();
  });
  loop_->Watch(reaper_.fd(), [this] { return ReportEnds(); });
  shield_.Start(loop,
                {.drop =
                     [this](absl::Span<const AddressRange> sources) {
                       return DropSynsFrom(listeners_, sources);
                     },
                 .dropped = [this] { return PacketsDroppedAt(listeners_); }});
  // Before there is a worker that could become busy unheard.
  if (counts_idle()) board_.shared().low_water = LowWater();
  Decide();
  return absl::OkStatus();
}

// ---- Workers ----

void Prefork::Decide() {
  const absl::Duration now = MonotonicNow();
  bool failed = false;
  do {
    const WorkerPolicy::Actions actions = policy_.Decide(now);
    absl::Status status = absl::OkStatus();
    for (const WorkerPolicy::Start& start : actions.start) {
      // Nobody waits for it as long as there are spares, and one of these may
      // wait for this processor, and its client with it.
      if (one_each_.has_value() && board_.shared().idle > 0) {
        (void)sched_yield();
      }
      if (status.ok()) status = StartWorker(start);
      if (!status.ok()) policy_.StartFailed(start.slot, now);
    }
    failed = !status.ok();
    if (failed) {
      start_fails_ = true;
      TellTrouble(status);
    } else if (!actions.start.empty() || policy_.satisfied()) {
      start_fails_ = false;
      TellTrouble(absl::OkStatus());
    }
    if (!actions.retire.empty()) Retire(actions.retire);
    if (actions.wake.has_value()) WakeAt(*actions.wake);
  } while (failed);
  board_.shared().many = policy_.live() > kFewWorkers;
  if (counts_idle()) {
    board_.shared().low_water = LowWater();
    if (!policy_.done()) WakeAt(now + kLookAgain);
  }
  WatchDoors();
  CallDone();
}

// Where clients are sent off, whoever is the last to become busy says so.
int32_t Prefork::LowWater() const {
  return std::max(static_cast<int32_t>(policy_.low_water()),
                  turns_away() ? 1 : 0);
}

void Prefork::WakeAt(absl::Duration when) {
  if (when >= wake_at_) return;
  wake_at_ = when;
  loop_->CallAfter(when - MonotonicNow(), [this, when] {
    if (wake_at_ != when) return absl::OkStatus();  // An earlier one came.
    wake_at_ = absl::InfiniteDuration();
    if (counts_idle()) {
      if (absl::Status s = LookAtAll(); !s.ok()) return s;
    }
    Decide();
    return absl::OkStatus();
  });
}

absl::Status Prefork::StartWorker(const WorkerPolicy::Start& start) {
  const size_t slot = start.slot;
  if (workers_.size() <= slot) workers_.resize(slot + 1);
  PreforkBoard::Slot& on_board = board_.slot(slot);
  on_board.doing = Doing::kStarting;
  on_board.spent = false;
  on_board.saw_nobody = false;
  on_board.retire = false;
  on_board.ending = false;
  if (sources_.has_value()) sources_->Use(slot);
  on_board.trouble = 0;
  on_board.broken = false;
  const std::vector<int> keep = DescriptorsOfWorkers();
  const PreforkWorker::Share share = {
      .listeners = listeners_,
      .handler = handler_,
      .board = board_,
      .messages = messages_out_,
      .bell = bell_,
      .door = one_each_.has_value() ? &one_each_->door : nullptr,
      .news = one_each_.has_value() ? &one_each_->news_out : nullptr,
      .terms = terms_,
      .copies = copies_.has_value() ? &copies_->out : nullptr,
      .sources = sources_.has_value() ? &*sources_ : nullptr,
      .families = families_.get(),
      .records = observer_ != nullptr,
      .counts_idle = counts_idle()};
  const PreforkWorker::Task task = TaskOf(start);
  absl::StatusOr<Child> child =
      Fork({.exit_signal = reaper_.exit_signal(),
            .parent_death_signal = SIGKILL,
            .new_process_group = true,
            .keep_fds = keep},
           [&] { return PreforkWorker(share, task).Run(); });
  if (!child.ok()) return child.status();
  Worker& worker = workers_[slot];
  worker.pid = child->pid();
  worker.user_time = absl::ZeroDuration();
  worker.system_time = absl::ZeroDuration();
  worker.ended.reset();
  worker.told = false;
  worker.called_off = false;
  if (one_each_.has_value()) {
    on_board.program = 0;
    on_board.state = 0;
    on_board.doing = Doing::kIdle;
    ++board_.shared().idle;
  }
  if (absl::Status s = reaper_.Add(*std::move(child), slot); !s.ok()) {
    // It may have a client by now.
    (void)child->Signal(SIGKILL);
    const absl::StatusOr<ExitStatus> status = child->Wait();
    (void)ReadMessages();
    (void)ReadCopies();
    if (InProgress(slot) > 0) {
      EndFamily(slot);
      RecordCrash(slot, worker.pid, status.value_or(ExitStatus::Lost()));
    }
    LetGo(worker);
    if (sources_.has_value()) sources_->Leave(slot);
    if (one_each_.has_value()) {
      if (on_board.doing.exchange(Doing::kStarting) == Doing::kIdle) {
        --board_.shared().idle;
      }
      LookAtDoorsAgain();
    }
    return s;
  }
  return absl::OkStatus();
}

PreforkWorker::Task Prefork::TaskOf(const WorkerPolicy::Start& start) const {
  const PreforkBoard::Shared& shared = board_.shared();
  const PreforkBoard::Slot& on_board = board_.slot(start.slot);
  // Where clients are sent off, everyone may be the last to become busy.
  const size_t spares = options_.workers.min_spare;
  const size_t most_unread =
      turns_away() ? 1 : spares - std::min(spares, policy_.low_water());
  return {.slot = start.slot,
          .connections = start.connections,
          .rules = shared.rules,
          .begun = on_board.begun,
          .turned_away = on_board.turned_away,
          .draining = shared.draining,
          .handshakes_until = shared.handshakes_until,
          .most_unread = std::max<size_t>(most_unread, 1)};
}

std::vector<int> Prefork::DescriptorsOfWorkers() const {
  std::vector<int> all = {messages_out_.get()};
  if (one_each_.has_value()) {
    all.push_back(one_each_->door.fd());
    all.push_back(one_each_->news_out.get());
  } else {
    all.push_back(bell_.fd());
  }
  for (const Listener& listener : listeners_) all.push_back(listener.fd());
  if (copies_.has_value()) all.push_back(copies_->out.fd());
  return all;
}

absl::StatusOr<Prefork::OneEach> Prefork::OneEach::Create(
    const std::vector<Listener>& listeners) {
  absl::StatusOr<CommonDoor> door = CommonDoor::Create(listeners);
  if (!door.ok()) return door.status();
  absl::StatusOr<std::array<UniqueFd, 2>> pipe = MessagePipe();
  if (!pipe.ok()) return pipe.status();
  return OneEach{.door = *std::move(door),
                 .news_in = std::move((*pipe)[0]),
                 .news_out = std::move((*pipe)[1])};
}

void Prefork::Retire(const std::vector<size_t>& slots) {
  if (one_each_.has_value()) {
    CatchUp();
    for (const size_t slot : slots) CallOff(slot);
  } else {
    for (const size_t slot : slots) board_.slot(slot).retire = true;
    bell_.Wake();
  }
}

void Prefork::CallAll() {
  if (!one_each_.has_value()) {
    bell_.Wake();
    return;
  }
  CatchUp();
  for (size_t slot = 0; slot < workers_.size(); ++slot) CallOff(slot);
}

void Prefork::LookAtDoorsAgain() {
  if (one_each_.has_value()) {
    one_each_->door.LookEverywhereAgain();
  } else {
    bell_.Wake();
  }
}

void Prefork::CallOff(size_t slot) {
  if (board_.slot(slot).doing != Doing::kIdle) return;
  if (!reaper_.SignalGroup(workers_[slot].pid, SIGURG).ok()) return;
  workers_[slot].called_off = true;
  CallOffAgainSoon();
}

void Prefork::CallOffAgainSoon() {
  if (std::exchange(calling_off_, true)) return;
  loop_->CallAfter(kCallAgain, [this] {
    calling_off_ = false;
    CatchUp();
    for (size_t slot = 0; slot < workers_.size(); ++slot) {
      if (workers_[slot].called_off) CallOff(slot);
    }
    return absl::OkStatus();
  });
}

// Connections of this slot whose end has not been observed. Between two reads
// of the counters a connection may end unreported and another begin.
uint64_t Prefork::InProgress(size_t slot) const {
  const PreforkBoard::Slot& on_board = board_.slot(slot);
  uint64_t unreported;
  uint64_t begun;
  do {
    unreported = on_board.unreported;
    begun = on_board.begun;
  } while (unreported != on_board.unreported);
  return begun - unreported - workers_[slot].reported;
}

size_t Prefork::active() const {
  CatchUp();
  uint64_t active = 0;
  for (size_t slot = 0; slot < workers_.size(); ++slot) {
    active += InProgress(slot);
  }
  return active;
}

absl::Status Prefork::LookAt(size_t slot) {
  const PreforkBoard::Slot& on_board = board_.slot(slot);
  const Doing doing = on_board.doing;
  if (doing == Doing::kIdle) policy_.Idle(slot);
  if (doing == Doing::kBusy) policy_.Busy(slot);
  if (on_board.spent) policy_.Spent(slot);
  const int error = on_board.trouble;
  if ((error != 0) == workers_[slot].in_trouble) return absl::OkStatus();
  if (error == 0) {
    if (doing != Doing::kStarting) SetTrouble(slot, absl::OkStatus());
    return absl::OkStatus();
  }
  const absl::Status status = ErrnoStatus(
      error, absl::StrCat("worker ", workers_[slot].pid, " at ",
                          addresses_[std::min<size_t>(on_board.trouble_at,
                                                      addresses_.size() - 1)]));
  if (on_board.broken) return status;
  SetTrouble(slot, status);
  return absl::OkStatus();
}

absl::Status Prefork::LookAtAll() {
  ReadNews();
  news_of_.clear();
  board_.shared().told = false;
  for (size_t slot = 0; slot < workers_.size(); ++slot) {
    if (absl::Status s = LookAt(slot); !s.ok()) return s;
  }
  return absl::OkStatus();
}

// ---- What workers tell ----

// Reads no more than the pipe can hold: all that is there now, and not for ever
// what comes meanwhile.
absl::Status Prefork::ReadMessages() {
  ssize_t left = std::max(fcntl(messages_in_.get(), F_GETPIPE_SZ), 1);
  const size_t size = buffer_.size() * sizeof(PreforkMessage);
  while (left > 0) {
    const ssize_t got = RetryOnEintr(
        [&] { return read(messages_in_.get(), buffer_.data(), size); });
    if (got == -1 && errno != EAGAIN) return ErrnoStatus(errno, "read workers");
    const size_t count =
        got > 0 ? static_cast<size_t>(got) / sizeof(PreforkMessage) : 0;
    // What has been read now came after the news that there is.
    if (absl::Status s = LookAtNews(); !s.ok()) return s;
    for (size_t i = 0; i < count; ++i) {
      if (absl::Status s = Obey(buffer_[i]); !s.ok()) return s;
    }
    if (got < static_cast<ssize_t>(size)) break;
    left -= got;
  }
  if (board_.shared().look_at_all.exchange(false)) return LookAtAll();
  return absl::OkStatus();
}

absl::Status Prefork::LookAtNews() {
  ReadNews();
  for (const size_t slot : std::exchange(news_of_, {})) {
    if (absl::Status s = LookAt(slot); !s.ok()) return s;
  }
  return absl::OkStatus();
}

// The pipe of messages wakes this process, and who reads it looks at the news.
void Prefork::CatchUp() const {
  ReadNews();
  if (news_of_.empty()) return;
  const PreforkMessage look = {.kind = Kind::kLook,
                               .slot = static_cast<uint32_t>(news_of_.front())};
  (void)!write(messages_out_.get(), &look, sizeof(look));
}

void Prefork::ReadNews() const {
  if (!one_each_.has_value()) return;
  std::array<PreforkMessage, 16> messages;
  while (true) {
    const ssize_t got = RetryOnEintr([&] {
      return read(one_each_->news_in.get(), messages.data(), sizeof(messages));
    });
    const size_t count =
        got > 0 ? static_cast<size_t>(got) / sizeof(PreforkMessage) : 0;
    for (size_t i = 0; i < count; ++i) {
      if (messages[i].slot >= workers_.size()) continue;
      board_.Note(messages[i]);
      news_of_.push_back(messages[i].slot);
    }
    if (got < static_cast<ssize_t>(sizeof(messages))) return;
  }
}

absl::Status Prefork::Obey(const PreforkMessage& message) {
  // A worker whose memory a handler has spoilt may say anything.
  const size_t slot = message.slot;
  if (slot >= workers_.size() || message.listener >= addresses_.size()) {
    return absl::OkStatus();
  }
  switch (message.kind) {
    case Kind::kState:
      board_.Note(message);
      return LookAt(slot);
    case Kind::kLook:
      return LookAt(slot);
    case Kind::kTooFew:
      // Without a board, it is the news that tell which.
      return one_each_.has_value() ? absl::OkStatus() : LookAtAll();
    case Kind::kEnded:
      Record(message);
      break;
    case Kind::kNotStarted:
      TellNotStarted(message);
      break;
    case Kind::kTurnedAway:
      TellTurnedAway(message);
      break;
    case Kind::kFlood:
      shield_.CountAll(SourceKey::Of(message.Peer(), terms_.source_lengths));
      break;
  }
  return absl::OkStatus();
}

// Workers do not tell of all; one that has spoilt its memory may say anything.
void Prefork::TellTurnedAway(const PreforkMessage& message) {
  Worker& worker = workers_[message.slot];
  const uint64_t before =
      std::exchange(worker.turned_away, message.turned_away);
  if (one_each_.has_value()) {
    board_.NoteTurnedAway(message.slot, message.turned_away);
  }
  if (message.turned_away > before + 1) {
    turned_away_.Count(message.turned_away - before - 1);
  }
  turned_away_.Tell(message.Peer(), WhyTurnedAway(message));
}

Admission::Answer Prefork::AnswerIn(const PreforkMessage& message) const {
  using Refusal = PreforkMessage::Refusal;
  const auto client =
      Admission::Client::Of(message.Peer(), terms_.source_lengths);
  const bool full = message.refusal == Refusal::kSourceFull;
  return {.verdict = full ? Admission::Verdict::kSourceFull
                          : Admission::Verdict::kSourceTooFast,
          .source = message.refusal == Refusal::kNetworkTooFast ? client.network
                                                                : client.source,
          .connections = static_cast<size_t>(message.result),
          .limit = terms_.sources.max_connections_per_source,
          .rate = terms_.sources.rate_per_source,
          .retry_after = absl::Nanoseconds(message.duration)};
}

std::string Prefork::WhyTurnedAway(const PreforkMessage& message) const {
  switch (message.refusal) {
    case PreforkMessage::Refusal::kProxy:
      return message.parties.Text();
    case PreforkMessage::Refusal::kNotWatched:
      return "it could not be watched";
    case PreforkMessage::Refusal::kSourceFull:
    case PreforkMessage::Refusal::kSourceTooFast:
    case PreforkMessage::Refusal::kNetworkTooFast:
      return AnswerIn(message).ToString();
    case PreforkMessage::Refusal::kRules:
      break;
  }
  // The worker may have had others than there are now.
  const Rules::Match match = terms_.rules.Lookup(message.Peer());
  return match.rule == nullptr ? "no rule allows it" : match.rule->ToString();
}

// As in fork_per_connection.cc: it is no connection that has ended.
void Prefork::TellNotStarted(const PreforkMessage& message) {
  ++workers_[message.slot].reported;
  if (event_observer_ == nullptr) return;
  const std::string peer = message.Peer().ToString();
  const std::string why = message.parties.Text();
  event_observer_(
      {.name = "not_started",
       .sentence = absl::StrCat("peer ", peer, " has no process: ", why),
       .fields = {{"peer", peer}, {"why", why}}});
}

void Prefork::Record(const PreforkMessage& message) {
  Worker& worker = workers_[message.slot];
  worker.told = message.told != 0;
  const ResourceUsage usage = {
      .user_time = absl::Nanoseconds(message.user_time),
      .system_time = absl::Nanoseconds(message.system_time),
      .max_resident_bytes = message.max_resident_bytes};
  const bool program = message.pid > 0;
  if (!program) {
    worker.user_time += usage.user_time;
    worker.system_time += usage.system_time;
  }
  ++worker.reported;
  if (observer_ == nullptr) return;
  ExitStatus status = message.Status();
  status.set_usage(usage);
  const PreforkParties& parties = message.parties;
  ConnectionRecord record = {
      .pid = program ? message.pid : worker.pid,
      .peer = parties.Peer(),
      .client = parties.Client(),
      .local = parties.Local().value_or(addresses_[message.listener]),
      .status = status,
      .duration = absl::Nanoseconds(message.duration)};
  if (message.told != 0) {
    record.ended = worker.ended;
    if (cause_.has_value()) record.ended = {.cause = *cause_};
  }
  if (message.bytes_in >= 0) {
    record.bytes_in = static_cast<uint64_t>(message.bytes_in);
    record.bytes_out = static_cast<uint64_t>(message.bytes_out);
    record.retransmits = static_cast<uint64_t>(message.retransmits);
  }
  Observe(std::move(record));
}

void Prefork::Observe(ConnectionRecord record) {
  record.id = ++last_id_;
  record.model = std::string(options_.name);
  if (handler_.program().has_value()) {
    record.program = std::string(*handler_.program());
  } else {
    record.service = std::string(handler_.name());
  }
  observer_(record);
}

void Prefork::SetTrouble(size_t slot, const absl::Status& status) {
  if (workers_[slot].in_trouble == !status.ok()) return;
  workers_[slot].in_trouble = !status.ok();
  in_trouble_ += status.ok() ? -1 : 1;
  TellTrouble(status);
}

void Prefork::TellTrouble(const absl::Status& status) {
  const bool trouble = start_fails_ || in_trouble_ > 0;
  if (trouble == std::exchange(told_trouble_, trouble)) return;
  if (trouble_observer_ != nullptr) trouble_observer_(status);
}

// ---- Who is one too many ----

void Prefork::WatchDoors() {
  if (!turns_away() || draining_ || !policy_.full()) {
    UnwatchDoors();
    return;
  }
  if (MonotonicNow() < doors_paused_until_) {
    WakeAt(doors_paused_until_);
    return;
  }
  if (std::exchange(watching_doors_, true)) return;
  for (Listener& listener : listeners_) {
    loop_->Watch(listener.fd(),
                 [this, &listener] { return TurnAwayFrom(listener); });
  }
}

void Prefork::UnwatchDoors() {
  if (!std::exchange(watching_doors_, false)) return;
  for (const Listener& listener : listeners_) loop_->Unwatch(listener.fd());
}

// Whoever has become idle meanwhile has said nothing, and takes this client;
// when he has, he says that nobody is left.
absl::Status Prefork::TurnAwayFrom(Listener& listener) {
  if (absl::Status s = LookAtAll(); !s.ok()) return s;
  if (!policy_.full()) {
    Decide();
    return absl::OkStatus();
  }
  const Listener::Batch batch =
      listener.AcceptBatch(kBatch, [this](Accepted client) {
        TurnAway(std::move(client));
        return board_.shared().idle <= 0;
      });
  if (batch.trouble.ok()) return absl::OkStatus();
  if (!batch.pause.has_value()) return batch.trouble;
  doors_paused_until_ = MonotonicNow() + *batch.pause;
  UnwatchDoors();
  WatchDoors();
  return absl::OkStatus();
}

void Prefork::TurnAway(Accepted client) {
  ++turned_away_here_;
  const Address& peer = client.peer;
  if (!terms_.trusted_proxies.Contains(peer)) {
    shield_.Count(SourceKey::Of(peer, terms_.source_lengths));
  }
  turned_away_.Tell(peer, WhenFull(peer).ToString());
  SayGoodbye(client.stream, terms_.message, terms_.at_limit);
}

Admission::Answer Prefork::WhenFull(const Address& peer) const {
  return {.verdict = Admission::Verdict::kServerFull,
          .source = SourceKey::Of(peer, terms_.source_lengths),
          .connections = policy_.count(WorkerPolicy::State::kBusy),
          .limit = policy_.max_workers(),
          .rate = {},
          .retry_after = absl::ZeroDuration()};
}

// ---- How workers end ----

absl::Status Prefork::ReportEnds() {
  ended_.clear();
  while (true) {
    const absl::StatusOr<std::optional<Reaper::Exit>> exit = reaper_.Next();
    if (!exit.ok()) return exit.status();
    if (!exit->has_value()) break;
    ended_.push_back(**exit);
  }
  // The last thing that they have said comes before their end.
  absl::Status read = ReadMessages();
  read.Update(ReadCopies());
  for (const Reaper::Exit& exit : ended_) {
    Bury(exit.tag, exit.pid, exit.status);
  }
  if (!read.ok()) return read;
  Decide();
  return absl::OkStatus();
}

void Prefork::Bury(size_t slot, pid_t pid, const ExitStatus& status) {
  PreforkBoard::Shared& shared = board_.shared();
  const PreforkBoard::Slot& on_board = board_.slot(slot);
  (void)LookAt(slot);
  Worker& worker = workers_[slot];
  const bool in_progress = InProgress(slot) > 0;
  // Or the program has ended by itself, and its worker with it.
  if (worker.told || (in_progress && (worker.ended.has_value() ||
                                      !status.exit_code().has_value()))) {
    EndFamily(slot);
  }
  if (in_progress) RecordCrash(slot, pid, status);
  LetGo(worker);
  if (sources_.has_value()) sources_->Leave(slot);
  if (std::exchange(worker.kill_at, absl::InfiniteDuration()) !=
      absl::InfiniteDuration()) {
    --to_kill_;
  }
  const bool was_idle = on_board.doing == Doing::kIdle;
  if (was_idle && (counts_idle() || one_each_.has_value())) --shared.idle;
  worker.called_off = false;
  if (on_board.saw_nobody) policy_.Drained();
  board_.slot(slot).doing = Doing::kStarting;  // As whoever comes next.
  const bool ended = worker.ended.has_value();
  const bool well = status.success() || ended;
  const absl::Duration back_off = policy_.Ended(slot, well, MonotonicNow());
  if (back_off == absl::ZeroDuration()) {
    // Nobody will come and say that it is over.
    SetTrouble(slot, absl::OkStatus());
    // It took no other client, also if it was the only one to be woken for it.
    const bool may_have_been_woken = one_each_.has_value() && was_idle;
    if ((ended || may_have_been_woken) && !shared.stop) LookAtDoorsAgain();
    return;
  }
  if (shared.stop) return;
  // The kernel may have woken this worker for a client, and no other.
  LookAtDoorsAgain();
  if (event_observer_ == nullptr) return;
  event_observer_({.name = "worker_ended",
                   .sentence = absl::StrCat(
                       "worker ", pid, " ", status.ToString(),
                       ": another starts in ", RoundedDuration(back_off)),
                   .fields = {{"pid", int64_t{pid}},
                              {"status", status.ToString()},
                              {"back_off", back_off}}});
}

void Prefork::RecordCrash(size_t slot, pid_t pid, const ExitStatus& status) {
  Worker& worker = workers_[slot];
  const PreforkBoard::Slot& on_board = board_.slot(slot);
  ++worker.reported;
  if (observer_ == nullptr) return;
  // Its program has died with it.
  const pid_t program = on_board.program;
  const PreforkParties& parties = on_board.parties;
  ConnectionRecord record = {
      .pid = program > 0 ? program : pid,
      .peer = parties.Peer(),
      .client = parties.Client(),
      .local = parties.Local().value_or(addresses_[std::min<size_t>(
          on_board.listener, addresses_.size() - 1)]),
      .status = status,
      .duration = MonotonicNow() - absl::Nanoseconds(on_board.since.load())};
  if (program > 0) {
    // What it had used is not known.
    record.status = status.term_signal().has_value()
                        ? ExitStatus::Killed(SIGKILL)
                        : ExitStatus::Lost();
  } else if (status.usage().has_value()) {
    ResourceUsage usage = *status.usage();
    usage.user_time -= worker.user_time;
    usage.system_time -= worker.system_time;
    record.status.set_usage(usage);
  }
  const TcpTotals totals =
      worker.copy.valid() ? TcpTotals::Of(worker.copy.get()) : TcpTotals();
  if (totals.known) {
    record.bytes_in = totals.bytes_in;
    record.bytes_out = totals.bytes_out;
    record.retransmits = totals.retransmits;
  }
  record.ended = worker.ended;
  if (cause_.has_value()) record.ended = {.cause = *cause_};
  Observe(std::move(record));
}

// ---- The end ----

void Prefork::Drain(absl::AnyInvocable<void()> done) {
  done_ = std::move(done);
  draining_ = true;
  UnwatchDoors();
  policy_.Drain();
  shield_.Stop();  // Before the door is shut, which may be by a filter, too.
  // Where the door cannot be shut, there will be a moment when nobody waits.
  for (Listener& listener : listeners_) (void)listener.Drain();
  PreforkBoard::Shared& shared = board_.shared();
  shared.handshakes_until =
      absl::ToInt64Nanoseconds(MonotonicNow() + PreforkWorker::kHandshakes);
  shared.draining = true;
  bell_.Wake();
  if (one_each_.has_value() && !one_each_->door.Close(bell_.fd()).ok()) {
    CallAll();  // Whoever comes next knows.
  }
}

void Prefork::SignalHandlers(int signo, EndCause cause) {
  cause_ = cause;
  board_.shared().stop = true;
  CallAll();
  policy_.Drained();
  shield_.Stop();
  CloseListeners();
  for (size_t slot = 0; slot < workers_.size(); ++slot) {
    reaper_.KillGroupAtEnd(workers_[slot].pid);
    (void)reaper_.SignalGroup(workers_[slot].pid, signo);
    if (signo == SIGTERM && InProgress(slot) > 0) AskFamily(slot);
  }
  CallDone();
}

void Prefork::SetRules(Rules rules) {
  terms_.rules = std::move(rules);
  ++board_.shared().rules;
  CallAll();
}

// ---- How long a connection may take ----

// A stream keeps what each sender says in one piece, and passes no descriptor
// with bytes that it did not come with, so that one read yields one copy.
absl::StatusOr<Prefork::Copies> Prefork::Copies::Create() {
  constexpr int kLeastOfOne = 256;  // What the kernel charges for it, at least.
  std::array<int, 2> pair;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) == -1) {
    return ErrnoStatus(errno, "socketpair");
  }
  Copies copies = {.in = Stream(UniqueFd(pair[0]), Address()),
                   .out = Stream(UniqueFd(pair[1]), Address())};
  int size = 0;
  socklen_t length = sizeof(size);
  if (getsockopt(copies.out.fd(), SOL_SOCKET, SO_SNDBUF, &size, &length) ==
      -1) {
    return ErrnoStatus(errno, "SO_SNDBUF");
  }
  copies.most = std::max(size / kLeastOfOne, 1);
  return copies;
}

// As ReadMessages() does: all that is there now.
absl::Status Prefork::ReadCopies() {
  if (!copies_.has_value()) return absl::OkStatus();
  for (int left = copies_->most; left > 0; --left) {
    PreforkCopy copy;
    absl::StatusOr<ReceivedFds> got = TryReceiveFds(
        copies_->in,
        absl::MakeSpan(reinterpret_cast<char*>(&copy), sizeof(copy)),
        /*max_fds=*/1);
    if (absl::IsResourceExhausted(got.status())) {
      // Read, but for its descriptor: of this connection only the time that it
      // takes can be limited.
      TellNotWatched(got.status());
      continue;
    }
    if (!got.ok()) return got.status();
    if (got->data.bytes() != sizeof(copy)) break;
    if (copy.slot >= workers_.size()) continue;
    Worker& worker = workers_[copy.slot];
    if (copy.closed != 0) {
      LetGo(worker);
    } else if (!got->fds.empty()) {
      Watch(copy, std::move(got->fds.front()));
    }
  }
  return absl::OkStatus();
}

void Prefork::TellNotWatched(const absl::Status& why) {
  if (event_observer_ == nullptr) return;
  event_observer_(
      {.name = "not_watched",
       .sentence = absl::StrCat("a connection is not watched: ", why.message()),
       .fields = {{"why", std::string(why.message())}}});
}

void Prefork::Watch(const PreforkCopy& copy, UniqueFd fd) {
  Worker& worker = workers_[copy.slot];
  LetGo(worker);
  worker.copy = std::move(fd);
  worker.number_of_copy = copy.number;
  if (!WatchesClients(handler_, options_)) return;
  const Ended ended = {.cause = EndCause::kClientGone,
                       .limit = options_.patience.client_gone_grace};
  CallWhenClientIsGone(*loop_, worker.copy.get(), *ended.limit,
                       [this, slot = copy.slot, number = copy.number, ended] {
                         End(slot, number, ended);
                         return absl::OkStatus();
                       });
}

void Prefork::LetGo(Worker& worker) {
  if (!worker.copy.valid()) return;
  loop_->Unwatch(worker.copy.get());
  (void)worker.copy.Close();
}

// The worker may be done with the connection at this very moment, and take the
// next. So it is told first not to, and then looked at: if it still has this
// one, it will see what it was told before it takes another.
void Prefork::End(size_t slot, uint64_t number, const Ended& ended) {
  CatchUp();
  Worker& worker = workers_[slot];
  PreforkBoard::Slot& on_board = board_.slot(slot);
  if (worker.ended.has_value() || on_board.begun != number ||
      on_board.doing != Doing::kBusy) {
    return;
  }
  on_board.ending = true;
  if (on_board.begun != number || on_board.doing != Doing::kBusy) {
    on_board.ending = false;
    return;
  }
  worker.ended = ended;
  worker.kill_at = MonotonicNow() + Patience::kTermToKill;
  ++to_kill_;
  reaper_.KillGroupAtEnd(worker.pid);
  (void)reaper_.SignalGroup(worker.pid, SIGTERM);
  AskFamily(slot);
  TickSoon();
}

void Prefork::TickSoon() {
  if (std::exchange(ticking_, true)) return;
  loop_->CallAfter(options_.patience.tick(), [this] {
    ticking_ = false;
    Tick();
    if (!policy_.done() && (has_limits() || to_kill_ > 0)) TickSoon();
    return absl::OkStatus();
  });
}

void Prefork::Tick() {
  CatchUp();
  const absl::Duration now = MonotonicNow();
  for (size_t slot = 0; slot < workers_.size(); ++slot) {
    Worker& worker = workers_[slot];
    if (now >= worker.kill_at) {
      worker.kill_at = absl::InfiniteDuration();
      --to_kill_;
      (void)reaper_.SignalGroup(worker.pid, SIGKILL);
    }
    const PreforkBoard::Slot& on_board = board_.slot(slot);
    if (worker.ended.has_value() || on_board.doing != Doing::kBusy) continue;
    const uint64_t number = on_board.begun;
    if (std::exchange(worker.number, number) != number) {
      worker.progress = Progress(absl::Nanoseconds(on_board.since.load()));
    }
    const bool has_copy =
        worker.copy.valid() && worker.number_of_copy == number;
    const std::optional<Ended> ended = worker.progress.LimitOf(
        options_.patience, has_copy ? worker.copy.get() : -1, now);
    if (ended.has_value()) End(slot, number, *ended);
  }
}

// ---- Whom programs have started ----

// The worker passes SIGTERM on to its program's group; the only child that it
// has is that program.
void Prefork::AskFamily(size_t slot) {
  if (families_.get() == nullptr) return;
  const absl::StatusOr<std::vector<pid_t>> programs =
      ProcessTable().ChildrenOf(workers_[slot].pid);
  if (!programs.ok() || programs->empty()) return;
  families_.Ask(PreforkBoard::FamilyOf(slot, board_.slot(slot).begun),
                programs->front());
}

// Whoever of it had no parent but the worker and its program, both of which are
// dead, is this process's now.
void Prefork::EndFamily(size_t slot) {
  families_.End(PreforkBoard::FamilyOf(slot, board_.slot(slot).begun));
}

void Prefork::CloseListeners() {
  UnwatchDoors();
  for (Listener& listener : listeners_) (void)listener.Close();
}

void Prefork::CallDone() {
  if (done_ == nullptr || !policy_.done()) return;
  if (families_.is_ending()) return;
  CloseListeners();
  std::exchange(done_, nullptr)();
}

size_t Prefork::ChangeCapacity(int by) {
  (void)LookAtAll();
  const size_t capacity = policy_.ChangeCapacity(by);
  if (loop_ != nullptr) Decide();
  return capacity;
}

std::vector<LogField> Prefork::State() const {
  CatchUp();
  uint64_t idle = 0;
  uint64_t unreported = 0;
  for (size_t slot = 0; slot < workers_.size(); ++slot) {
    const PreforkBoard::Slot& on_board = board_.slot(slot);
    const WorkerPolicy::State state = policy_.state(slot);
    const bool live = state != WorkerPolicy::State::kEmpty &&
                      state != WorkerPolicy::State::kBackingOff;
    if (live && on_board.doing == Doing::kIdle) ++idle;
    unreported += on_board.unreported;
  }
  uint64_t connections = 0;
  uint64_t turned_away = turned_away_here_;
  for (size_t slot = 0; slot < workers_.size(); ++slot) {
    connections += board_.slot(slot).begun;
    turned_away += board_.slot(slot).turned_away;
  }
  return {{"active", uint64_t{active()}},
          {"connections", connections},
          {"turned_away", turned_away},
          {"workers", uint64_t{policy_.live()}},
          {"max_workers", uint64_t{policy_.max_workers()}},
          {"idle", idle},
          {"retiring", uint64_t{policy_.count(WorkerPolicy::State::kRetiring)}},
          {"backing_off",
           uint64_t{policy_.count(WorkerPolicy::State::kBackingOff)}},
          {"records_lost", observer_ != nullptr ? unreported : 0}};
}

std::string Prefork::Explain(const Address& peer) const {
  const auto client = Admission::Client::Of(peer, terms_.source_lengths);
  std::string lines;
  std::string now;
  if (sources_.has_value()) {
    const ConnectionLimits& limits = sources_->limits();
    const size_t most = limits.max_connections_per_source;
    const size_t connections = sources_->connections_of(client.source);
    absl::StrAppend(&lines, "counts as ", client.source, ": ", connections,
                    " connections, ",
                    most == ConnectionLimits::kNone
                        ? "no limit"
                        : absl::StrCat("at most ", most),
                    "; rate ", limits.rate_per_source.ToString(), "\n");
    const auto tokens = sources_->TokensOf(client, MonotonicNow());
    if (tokens.has_value()) {
      absl::StrAppend(&lines, "left of the rate: ", *tokens, " of ",
                      std::max(limits.rate_per_source.burst, uint32_t{1}),
                      "\n");
    }
    if (tokens == 0) {
      now =
          absl::StrCat(client.source, ": more than ",
                       limits.rate_per_source.ToString(), " from this source");
    } else if (connections >= most) {
      now = absl::StrCat(client.source, ": ", connections, " of ", most,
                         " connections of this source");
    }
  }
  if (now.empty()) now = WhatWorkersWouldDo(client.source);
  return absl::StrCat(lines, "now: ", now, "\n",
                      "workers: ", FieldsText(State()), "\n",
                      shield_.Explain(client.source));
}

// By the board: the policy hears of some only when it must.
std::string Prefork::WhatWorkersWouldDo(const SourceKey& source) const {
  CatchUp();
  size_t busy = 0;
  for (size_t slot = 0; slot < policy_.slots(); ++slot) {
    const WorkerPolicy::State state = policy_.state(slot);
    const bool serves = state == WorkerPolicy::State::kStarting ||
                        state == WorkerPolicy::State::kIdle ||
                        state == WorkerPolicy::State::kBusy;
    if (!serves) continue;
    if (board_.slot(slot).doing != Doing::kBusy) {
      return absl::StrCat(source, ": let in");
    }
    ++busy;
  }
  const size_t most = policy_.max_workers();
  const bool hindered =
      start_fails_ || policy_.count(WorkerPolicy::State::kBackingOff) > 0;
  if (busy < most && !hindered) return absl::StrCat(source, ": let in");
  const std::string all =
      absl::StrCat(source, ": ", busy, " of ", most, " connections");
  if (hindered || !turns_away()) return absl::StrCat(all, ", waits for one");
  return absl::StrCat(
      all, terms_.at_limit == AtLimit::kReset ? ", is reset" : ", is refused");
}

absl::StatusOr<std::string> Prefork::Forget(const Address& peer) {
  const auto client = Admission::Client::Of(peer, terms_.source_lengths);
  const bool was_shut_out = shield_.Forget(client.source);
  const absl::Duration now = MonotonicNow();
  const auto tokens = [&]() -> std::optional<uint32_t> {
    if (!sources_.has_value()) return std::nullopt;
    return sources_->TokensOf(client, now);
  };
  const std::optional<uint32_t> before = tokens();
  if (before.has_value()) sources_->Refill(client);
  return ExplainForgotten({.source = client.source,
                           .before = before,
                           .now = tokens(),
                           .heard_again = was_shut_out});
}

}  // namespace brood
