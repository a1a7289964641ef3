// SPDX-License-Identifier: Apache-2.0
#include "brood/server/prefork_worker.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/fd_passing.h"
#include "brood/net/listener.h"
#include "brood/net/proxy_protocol.h"
#include "brood/net/source_key.h"
#include "brood/net/stream.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/families.h"
#include "brood/proc/limits.h"
#include "brood/proc/posix.h"
#include "brood/server/acceptor.h"
#include "brood/server/admission.h"
#include "brood/server/connection_handler.h"
#include "brood/server/prefork_board.h"
#include "brood/server/program_run.h"
#include "brood/server/source_table.h"
#include "brood/server/turned_away.h"
#include "brood/server/worker_doors.h"

namespace brood {
namespace {

using Doing = PreforkBoard::Doing;
using Kind = PreforkMessage::Kind;
using Refusal = PreforkMessage::Refusal;

// How many clients of one listener are served before the others are looked at.
constexpr int kBatch = 16;
// How often to look, while draining, whether those on their way have arrived.
constexpr absl::Duration kLookAgain = absl::Milliseconds(10);
// How long the parent may not know how many have been turned away.
constexpr absl::Duration kUntold = absl::Seconds(1);

// How long until the next try to send the parent a copy.
constexpr absl::Duration kShortage = absl::Milliseconds(1);

int64_t Nanoseconds(const timeval& time) {
  return (int64_t{time.tv_sec} * 1'000'000 + time.tv_usec) * 1'000;
}

std::string_view BytesOf(const PreforkCopy& copy) {
  return {reinterpret_cast<const char*>(&copy), sizeof(copy)};
}

int64_t Now() { return absl::ToInt64Nanoseconds(MonotonicNow()); }

}  // namespace

PreforkWorker::PreforkWorker(const Share& share, const Task& task)
    : share_(share),
      task_(task),
      shared_(one_shot() ? own_shared_ : share.board.shared()),
      slot_(one_shot() ? own_slot_ : share.board.slot(task.slot)),
      doors_(one_shot() ? static_cast<WorkerDoors&>(
                              shared_doors_.emplace(std::move(*share.door)))
                        : own_doors_.emplace(share.listeners, share.bell)) {
  if (!one_shot()) return;
  slot_.begun = task.begun;
  slot_.turned_away = told_turned_away_ = task.turned_away;
  shared_.draining = task.draining;
  shared_.handshakes_until = task.handshakes_until;
  shared_.rules = task.rules;
}

int PreforkWorker::Run() {
  if (!share_.terms.limits.Apply().ok()) return 1;
  if (const absl::Status opened = doors_.Open(); !opened.ok()) {
    slot_.trouble = ErrnoOf(opened);
    TellSlot();
    return 1;
  }
  SetDoing(Doing::kIdle);
  // Of who has one client to serve, the parent knows.
  if (!one_shot()) Tell(Kind::kLook);
  // Before it waits it has been where a client will lead it, so that pages are
  // mapped, and each listener has its reserve. Who accepts once needs none, and
  // would have to give it back while his client waits.
  if (one_shot()) {
    for (Listener& listener : share_.listeners) listener.KeepNoReserve();
    SaySurely(UniqueFd(), State());  // To nobody.
  }
  slot_.parties.Set(Address());
  slot_.since = Now();
  for (size_t i = 0; i < share_.listeners.size() && !IsInterrupted(); ++i) {
    LetIn(i);
  }
  while (true) {
    if (const std::optional<int> code = Look()) return *code;
    const bool untold = one_shot() && slot_.turned_away != told_turned_away_;
    const auto woken = doors_.Wait(untold ? kUntold : absl::InfiniteDuration());
    for (const size_t listener : woken) {
      if (IsInterrupted()) break;
      LetIn(listener);
    }
    if (untold && woken.empty()) TellNews();
  }
}

std::optional<int> PreforkWorker::Look() {
  if (broken_) return 1;
  if (shared_.stop || slot_.ending) return 0;
  if (last_.has_value()) return ServeLast();
  if (doors_.closing() && !shared_.draining.exchange(true)) {
    shared_.handshakes_until = Now() + absl::ToInt64Nanoseconds(kHandshakes);
  }
  if (shared_.draining) return Drain();
  if (slot_.retire) return Retire();
  // Its successor will look before it waits.
  if (shared_.rules != task_.rules || doors_.called_off()) return 0;
  return std::nullopt;
}

bool PreforkWorker::IsInterrupted() const {
  if (shared_.stop || slot_.ending || broken_ || last_.has_value()) return true;
  return doors_.called_off() ||
         (!draining_ &&
          (shared_.draining || slot_.retire || shared_.rules != task_.rules));
}

bool PreforkWorker::LetIn(size_t listener) {
  const uint64_t before = served_;
  const Listener::Batch batch = share_.listeners[listener].AcceptBatch(
      kBatch,
      [&](Accepted client) { return Take(std::move(client), listener); });
  NoteTrouble(batch, listener);
  return served_ != before;
}

std::optional<Refusal> PreforkWorker::MayNotCome(Guest& guest) {
  Accepted& client = guest.client;
  entry_.reset();
  why_.clear();
  by_proxy_ = share_.terms.trusted_proxies.Contains(client.peer);
  if (by_proxy_) {
    const absl::StatusOr<std::optional<ProxyHeader>> header = ReadProxyHeader(
        client.stream.fd(), client.peer, [](const Address&) { return true; },
        absl::Now() + share_.terms.proxy_timeout, share_.terms.proxy_header);
    if (!header.ok()) {
      why_ = absl::IsDeadlineExceeded(header.status())
                 ? absl::StrCat(
                       "the proxy did not say for whom it speaks "
                       "within ",
                       absl::FormatDuration(share_.terms.proxy_timeout))
                 : std::string(header.status().message());
      return Refusal::kProxy;
    }
    if (const auto& endpoints = (*header)->endpoints; endpoints.has_value()) {
      guest.proxy = client.peer;
      client.peer = endpoints->source.Unmapped();
      guest.local = endpoints->destination.Unmapped();
    }
  }
  if (!share_.terms.rules.Lookup(client.peer).allowed) return Refusal::kRules;
  return share_.sources == nullptr ? std::nullopt : EnterTable(client.peer);
}

std::optional<Refusal> PreforkWorker::EnterTable(const Address& peer) {
  const auto client = Admission::Client::Of(peer, share_.terms.source_lengths);
  entry_ = share_.sources->Enter(task_.slot, client, MonotonicNow());
  switch (entry_->answer.verdict) {
    case Admission::Verdict::kAdmitted:
      return std::nullopt;
    case Admission::Verdict::kServerFull:
    case Admission::Verdict::kSourceFull:
      return Refusal::kSourceFull;
    case Admission::Verdict::kSourceTooFast:
      break;
  }
  return entry_->answer.source == client.source ? Refusal::kSourceTooFast
                                                : Refusal::kNetworkTooFast;
}

std::optional<uint64_t> PreforkWorker::ConnectionsOfSource() const {
  if (!entry_.has_value()) return std::nullopt;
  return entry_->connections;
}

void PreforkWorker::LeaveTable() {
  if (share_.sources != nullptr) share_.sources->Leave(task_.slot);
}

// All are counted; the parent would not tell of more, and what it has to read
// for nothing would cost it what others say.
void PreforkWorker::TurnAway(Accepted client, Refusal why) {
  const uint64_t count = slot_.turned_away.load(std::memory_order_relaxed) + 1;
  slot_.turned_away.store(count, std::memory_order_relaxed);
  const bool reset = why == Refusal::kProxy || why == Refusal::kNotWatched;
  SayGoodbye(client.stream, why == Refusal::kRules ? "" : share_.terms.message,
             reset ? AtLimit::kReset : share_.terms.at_limit);
  const absl::Duration now = MonotonicNow();
  if (!by_proxy_) CountFlood(client.peer, now);
  if (now - telling_since_ >= absl::Seconds(1)) {
    telling_since_ = now;
    told_ = 0;
  }
  if (++told_ > TurnedAway::kToldPerSecond) return;
  PreforkMessage message = {.kind = Kind::kTurnedAway,
                            .slot = static_cast<uint32_t>(task_.slot),
                            .refusal = why,
                            .turned_away = count};
  if (entry_.has_value()) {
    message.result = static_cast<int32_t>(entry_->connections);
    message.duration = absl::ToInt64Nanoseconds(entry_->answer.retry_after);
  }
  message.parties.Set(client.peer, std::nullopt, std::nullopt, why_);
  if (write(share_.messages.get(), &message, sizeof(message)) ==
      sizeof(message)) {
    told_turned_away_ = count;
  }
}

void PreforkWorker::CountFlood(const Address& peer, absl::Duration now) {
  const auto source = SourceKey::Of(peer, share_.terms.source_lengths);
  if (!flood_.has_value()) flood_.emplace(share_.terms.flood_threshold);
  if (!flood_->Count(source, now)) return;
  PreforkMessage message = {.kind = Kind::kFlood,
                            .slot = static_cast<uint32_t>(task_.slot)};
  message.parties.Set(peer);
  (void)!write(share_.messages.get(), &message, sizeof(message));
}

bool PreforkWorker::Take(Accepted client, size_t listener) {
  doors_.Accepted(listener);
  Guest guest = {.client = std::move(client),
                 .listener = listener,
                 .local = share_.listeners[listener].address()};
  std::optional<Refusal> refusal = MayNotCome(guest);
  if (!refusal.has_value() && !Show(guest.client)) {
    LeaveTable();
    refusal = Refusal::kNotWatched;
  }
  if (refusal.has_value()) {
    TurnAway(std::move(guest.client), *refusal);
    return !IsInterrupted();
  }
  ++served_;
  if (one_shot()) {
    last_.emplace(std::move(guest));
    return false;
  }
  const bool leaves = shared_.many;
  if (leaves) doors_.StepAside();
  Serve(guest);
  (void)guest.client.stream.Close();
  SayClosed();
  LeaveTable();
  if (leaves && !doors_.StepBack().ok()) broken_ = true;
  if (served_ == task_.connections) {
    slot_.spent = true;
    Tell(Kind::kLook);
  }
  return !IsInterrupted();
}

void PreforkWorker::Serve(Guest& guest) {
  Begin(guest);
  if (share_.handler.program().has_value()) {
    End(RunProgram(guest));
    return;
  }
  const int result = share_.handler.Handle(guest.client.stream, InfoOf(guest));
  PreforkMessage message = {
      .result = PreforkMessage::ResultOf(ExitStatus::Exited(result))};
  TakeUsage(message);
  End(TellEnd(guest, message));
}

ConnectionInfo PreforkWorker::InfoOf(const Guest& guest) const {
  return {.local = guest.local,
          .peer = guest.client.peer,
          .connections_of_source = ConnectionsOfSource()};
}

// Before the connection begins on the board: then it is watched as soon as it
// counts. While too many copies are on their way, or no memory is to be had for
// one, the client waits.
bool PreforkWorker::Show(const Accepted& client) {
  if (share_.copies == nullptr) return true;
  const PreforkCopy copy = {
      .slot = static_cast<uint32_t>(task_.slot),
      .number = slot_.begun.load(std::memory_order_relaxed) + 1};
  while (true) {
    const absl::Status status =
        SendFds(*share_.copies, BytesOf(copy), {client.stream.fd()});
    switch (ErrnoOf(status)) {
      case 0:
        return status.ok();
      case ETOOMANYREFS:
      case ENOBUFS:
      case ENOMEM:
        if (shared_.stop) return false;
        absl::SleepFor(kShortage);
        break;
      default:
        return false;  // There is no parent any more.
    }
  }
}

// Until the parent has closed its copy, the client sees no end.
void PreforkWorker::SayClosed() {
  if (share_.copies == nullptr) return;
  const PreforkCopy copy = {
      .slot = static_cast<uint32_t>(task_.slot),
      .closed = 1,
      .number = slot_.begun.load(std::memory_order_relaxed)};
  (void)share_.copies->WriteAll(BytesOf(copy));
}

void PreforkWorker::Begin(Guest& guest) {
  if (!guest.proxy.has_value()) LearnLocal(guest.client.stream, guest.local);
  slot_.program.store(0, std::memory_order_relaxed);
  slot_.parties.Set(
      guest.proxy.value_or(guest.client.peer),
      guest.proxy.has_value() ? std::optional(guest.client.peer) : std::nullopt,
      guest.local);
  slot_.listener.store(static_cast<uint32_t>(guest.listener),
                       std::memory_order_relaxed);
  slot_.since.store(Now(), std::memory_order_relaxed);
  const uint64_t begun = slot_.begun.load(std::memory_order_relaxed) + 1;
  if (share_.families != nullptr) Mark(begun);
  slot_.begun.store(begun, std::memory_order_release);
  SetDoing(Doing::kBusy);
  if (!one_shot()) return;
  TellNews();
  int unread = 0;
  if (share_.counts_idle && ioctl(share_.news->get(), FIONREAD, &unread) == 0 &&
      static_cast<size_t>(unread) >=
          task_.most_unread * sizeof(PreforkMessage)) {
    Tell(Kind::kTooFew);
  }
}

// A program has the limits of its worker.
void PreforkWorker::Mark(uint64_t begun) {
  Limits mark;
  (void)mark.Set(
      share_.families->MarkOf(PreforkBoard::FamilyOf(task_.slot, begun)));
  (void)mark.Apply();
}

// If it was told to end, it is when `run` goes, and with it this process.
bool PreforkWorker::RunProgram(Guest& guest) {
  absl::StatusOr<ProgramRun> run = ProgramRun::Create();
  if (!run.ok()) return TellNotStarted(guest, run.status());
  const absl::StatusOr<ProgramRun::End> end =
      run->Run(share_.handler, guest.client.stream, InfoOf(guest),
               {.on_start =
                    [this](pid_t pid) {
                      slot_.program = pid;
                      if (one_shot()) TellNews();
                    },
                .on_shortage =
                    [&](const absl::Status& status) {
                      NoteShortage(ErrnoOf(status), guest.listener);
                    }});
  NoteShortage(0, guest.listener);
  bool told = false;
  if (end.ok()) {
    PreforkMessage message = {.result = PreforkMessage::ResultOf(end->status),
                              .pid = static_cast<int32_t>(end->pid),
                              .told = run->told() ? uint32_t{1} : uint32_t{0}};
    if (const auto& usage = end->status.usage(); usage.has_value()) {
      message.user_time = absl::ToInt64Nanoseconds(usage->user_time);
      message.system_time = absl::ToInt64Nanoseconds(usage->system_time);
      message.max_resident_bytes = usage->max_resident_bytes;
    }
    told = TellEnd(guest, message);
  } else {
    told = TellNotStarted(guest, end.status());
  }
  if (run->told() && !one_shot()) End(told);
  return told;
}

// Whoever comes meanwhile waits for the others, as if he could not be accepted.
void PreforkWorker::NoteShortage(int error, size_t listener) {
  if (error == slot_.trouble) return;
  slot_.trouble_at = static_cast<uint32_t>(listener);
  slot_.trouble = error;
  TellSlot();
}

void PreforkWorker::End(bool told) {
  if (!told) {
    slot_.unreported.store(slot_.unreported.load(std::memory_order_relaxed) + 1,
                           std::memory_order_release);
  }
  SetDoing(Doing::kIdle);
}

bool PreforkWorker::TellEnd(const Guest& guest, PreforkMessage message) {
  if (!share_.records) return false;
  message.kind = Kind::kEnded;
  message.slot = static_cast<uint32_t>(task_.slot);
  message.listener = static_cast<uint32_t>(guest.listener);
  message.duration = Now() - slot_.since.load(std::memory_order_relaxed);
  const TcpTotals totals = TcpTotals::Of(guest.client.stream.fd());
  if (totals.known) {
    message.bytes_in = static_cast<int64_t>(totals.bytes_in);
    message.bytes_out = static_cast<int64_t>(totals.bytes_out);
    message.retransmits = static_cast<int64_t>(totals.retransmits);
  }
  message.parties = slot_.parties;
  // At once or not at all: a client must not wait for the log.
  return write(share_.messages.get(), &message, sizeof(message)) ==
         sizeof(message);
}

bool PreforkWorker::TellNotStarted(const Guest& guest,
                                   const absl::Status& why) {
  PreforkMessage message = {.kind = Kind::kNotStarted,
                            .slot = static_cast<uint32_t>(task_.slot)};
  message.parties.Set(guest.client.peer, std::nullopt, std::nullopt,
                      why.message());
  return write(share_.messages.get(), &message, sizeof(message)) ==
         sizeof(message);
}

void PreforkWorker::TakeUsage(PreforkMessage& message) {
  if (!share_.records) return;
  rusage usage = {};
  (void)getrusage(RUSAGE_SELF, &usage);
  const int64_t user_time = Nanoseconds(usage.ru_utime);
  const int64_t system_time = Nanoseconds(usage.ru_stime);
  message.user_time = user_time - std::exchange(user_time_, user_time);
  message.system_time = system_time - std::exchange(system_time_, system_time);
  message.max_resident_bytes = int64_t{usage.ru_maxrss} * 1024;
}

void PreforkWorker::SetDoing(Doing doing) {
  const Doing before = slot_.doing.exchange(doing);
  if (!share_.counts_idle || one_shot()) return;
  if (doing == Doing::kIdle) ++shared_.idle;
  if (before == Doing::kIdle && --shared_.idle < shared_.low_water &&
      !shared_.told.exchange(true)) {
    Tell(Kind::kTooFew);
  }
}

// What the parent is not told it finds when it looks at the board.
void PreforkWorker::Tell(Kind kind) {
  const PreforkMessage message = {.kind = kind,
                                  .slot = static_cast<uint32_t>(task_.slot)};
  if (write(share_.messages.get(), &message, sizeof(message)) !=
      sizeof(message)) {
    shared_.look_at_all = true;
  }
}

void PreforkWorker::TellSlot() {
  if (!one_shot()) return Tell(Kind::kLook);
  SaySurely(share_.messages, State());
}

void PreforkWorker::TellNews() {
  SaySurely(*share_.news, State());
  told_turned_away_ = slot_.turned_away;
}

PreforkMessage PreforkWorker::State() {
  const bool busy = slot_.doing == Doing::kBusy;
  return {.kind = Kind::kState,
          .slot = static_cast<uint32_t>(task_.slot),
          .listener = busy ? slot_.listener : slot_.trouble_at,
          .result = slot_.trouble,
          .pid = slot_.program,
          .flags = (busy ? PreforkMessage::kBusy : 0) |
                   (slot_.broken ? PreforkMessage::kBroken : 0) |
                   (slot_.saw_nobody ? PreforkMessage::kSawNobody : 0),
          .parties = slot_.parties,
          .duration = slot_.since,
          .state = ++states_told_,
          .turned_away = slot_.turned_away};
}

// The parent reads all when it reads any, and dies with this process.
void PreforkWorker::SaySurely(const UniqueFd& pipe,
                              const PreforkMessage& message) {
  while (write(pipe.get(), &message, sizeof(message)) == -1 &&
         errno == EAGAIN) {
    Tell(Kind::kTooFew);
    (void)PollUntil(pipe.get(), POLLOUT, absl::Now() + kLookAgain);
  }
}

void PreforkWorker::NoteTrouble(const Listener::Batch& batch, size_t listener) {
  const int error = batch.trouble.ok() ? 0 : ErrnoOf(batch.trouble);
  if (error != slot_.trouble) {
    slot_.trouble_at = static_cast<uint32_t>(listener);
    broken_ = error != 0 && !batch.pause.has_value();
    slot_.broken = broken_;
    slot_.trouble = error;
    TellSlot();
  }
  if (!batch.pause.has_value()) return;
  if (!doors_.Pause(*batch.pause).ok()) broken_ = true;
  doors_.Accepted(listener);  // Somebody is there still.
}

// From here on it is like a child of fork_per_connection.h: it has its
// connection and nothing else of the server's, if not to tell of a program.
int PreforkWorker::ServeLast() {
  Begin(*last_);
  for (Listener& listener : share_.listeners) (void)listener.Close();
  doors_.Leave();
  if (share_.copies != nullptr) (void)share_.copies->Close();
  // A program has nothing of this anyway, and its end is to be told.
  if (share_.handler.program().has_value()) return RunProgram(*last_) ? 0 : 1;
  (void)share_.messages.Close();
  (void)share_.news->Close();
  if (share_.sources != nullptr) share_.sources->Unmap();
  return share_.handler.Handle(last_->client.stream, InfoOf(*last_));
}

// It may be that the kernel has woken this worker for a client, and no other.
// So it takes one that waits, if there is any.
int PreforkWorker::Retire() {
  for (size_t i = 0; i < share_.listeners.size(); ++i) {
    doors_.Unwatch(i);
    if (LetIn(i)) break;
  }
  return 0;
}

// The door is shut for all copies of a listener by the parent; what each worker
// shuts is what it knows of it itself. Where the door cannot be shut, there
// will be a moment when nobody waits.
int PreforkWorker::Drain() {
  draining_ = true;
  for (Listener& listener : share_.listeners) (void)listener.Drain();
  while (!doors_.called_off()) {
    bool open = false;
    for (size_t i = 0; i < share_.listeners.size(); ++i) {
      Listener& listener = share_.listeners[i];
      if (listener.fd() == -1) continue;
      LetIn(i);
      if (broken_) return 1;
      if (shared_.stop || slot_.ending) return 0;
      if (last_.has_value()) return ServeLast();
      if (IsDrained(listener)) {
        doors_.Unwatch(i);
        (void)listener.Close();
      } else {
        open = true;
      }
    }
    if (!open) {
      slot_.saw_nobody = true;
      if (one_shot()) TellSlot();
      return 0;
    }
    (void)doors_.Wait(kLookAgain);
  }
  return 0;
}

bool PreforkWorker::IsDrained(const Listener& listener) const {
  if (listener.Drained().value_or(false)) return true;
  // Handshakes that do not end, or of which the kernel does not tell.
  return Now() >= shared_.handshakes_until &&
         !PollUntil(listener.fd(), POLLIN, absl::InfinitePast())
              .value_or(false);
}

}  // namespace brood
