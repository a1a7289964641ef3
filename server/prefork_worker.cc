// SPDX-License-Identifier: Apache-2.0
#include "brood/server/prefork_worker.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
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
#include "brood/signal/wakeup_fd.h"

namespace brood {
namespace {

using Doing = PreforkBoard::Doing;
using Kind = PreforkMessage::Kind;
using Refusal = PreforkMessage::Refusal;

// How many clients of one listener are served before the others are looked at.
constexpr int kBatch = 16;
// How often to look, while draining, whether those on their way have arrived.
constexpr int kLookAgain = 10;  // Milliseconds.

// How long until the next try to send the parent a copy.
constexpr absl::Duration kShortage = absl::Milliseconds(1);

constexpr uint64_t kBell = ~uint64_t{0};  // What epoll says of it.

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
      slot_(share.board.slot(task.slot)),
      flood_(share.terms.flood_threshold) {}

// Every worker has an epoll of its own, and asks for EPOLLEXCLUSIVE: for a
// client that comes, the kernel goes through those who watch the listener and
// stops at the first whose owner waits in epoll_wait(2). So where there are
// thousands, none of them watches while it serves. To wait in accept(2)
// would do the same with one call less, for one listener; but then only a
// signal could wake the worker to go.
bool PreforkWorker::Watch(size_t listener) {
  epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE,
                       .data = {.u64 = listener}};
  return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, share_.listeners[listener].fd(),
                   &event) == 0;
}

// To be done before a listener is closed: epoll forgets a descriptor only when
// its last copy is gone, and the other workers have copies.
void PreforkWorker::Unwatch(size_t listener) {
  (void)epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, share_.listeners[listener].fd(),
                  nullptr);
}

void PreforkWorker::UnwatchAll() {
  for (size_t i = 0; i < share_.listeners.size(); ++i) Unwatch(i);
}

void PreforkWorker::WatchAll() {
  for (size_t i = 0; i < share_.listeners.size(); ++i) {
    if (share_.listeners[i].fd() != -1 && !Watch(i)) broken_ = true;
  }
}

int PreforkWorker::Run() {
  if (!share_.terms.limits.Apply().ok()) return 1;
  epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  epoll_event bell = {.events = EPOLLIN | EPOLLET, .data = {.u64 = kBell}};
  bool ready = epoll_.valid() && epoll_ctl(epoll_.get(), EPOLL_CTL_ADD,
                                           share_.bell.fd(), &bell) == 0;
  for (size_t i = 0; ready && i < share_.listeners.size(); ++i) {
    ready = Watch(i);
  }
  if (!ready) {
    slot_.trouble = errno;
    Tell(Kind::kLook);
    return 1;
  }
  SetDoing(Doing::kIdle);
  // Who has one client to serve will be heard of soon enough.
  if (task_.connections != 1) Tell(Kind::kLook);
  // Before it waits it has been where a client will lead it, so that pages are
  // mapped, and each listener has its reserve.
  slot_.parties.Set(Address());
  slot_.since = Now();
  for (size_t i = 0; i < share_.listeners.size() && !IsInterrupted(); ++i) {
    LetIn(i);
  }
  while (true) {
    const PreforkBoard::Shared& shared = share_.board.shared();
    if (broken_ || shared.stop) return broken_ ? 1 : 0;
    if (slot_.ending) return 0;
    if (last_.has_value()) return ServeLast();
    if (shared.draining) return Drain();
    if (slot_.retire) return Retire();
    // Its successor will look before it waits.
    if (shared.rules != task_.rules) return 0;
    std::array<epoll_event, 8> events;
    const int count = RetryOnEintr([&] {
      return epoll_wait(epoll_.get(), events.data(), events.size(), -1);
    });
    for (int i = 0; i < count && !IsInterrupted(); ++i) {
      if (events[i].data.u64 != kBell) LetIn(events[i].data.u64);
    }
  }
}

bool PreforkWorker::IsInterrupted() const {
  const PreforkBoard::Shared& shared = share_.board.shared();
  if (shared.stop || slot_.ending || broken_ || last_.has_value()) return true;
  return !draining_ &&
         (shared.draining || slot_.retire || shared.rules != task_.rules);
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
  (void)!write(share_.messages.get(), &message, sizeof(message));
}

void PreforkWorker::CountFlood(const Address& peer, absl::Duration now) {
  const auto source = SourceKey::Of(peer, share_.terms.source_lengths);
  if (!flood_.Count(source, now)) return;
  PreforkMessage message = {.kind = Kind::kFlood,
                            .slot = static_cast<uint32_t>(task_.slot)};
  message.parties.Set(peer);
  (void)!write(share_.messages.get(), &message, sizeof(message));
}

bool PreforkWorker::Take(Accepted client, size_t listener) {
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
  if (task_.connections == 1) {
    last_.emplace(std::move(guest));
    return false;
  }
  const bool leaves = share_.board.shared().many;
  if (leaves) UnwatchAll();
  Serve(guest);
  (void)guest.client.stream.Close();
  SayClosed();
  LeaveTable();
  if (leaves) WatchAll();
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
        if (share_.board.shared().stop) return false;
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
               {.on_start = [this](pid_t pid) { slot_.program = pid; },
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
  if (run->told() && task_.connections != 1) End(told);
  return told;
}

// Whoever comes meanwhile waits for the others, as if he could not be accepted.
void PreforkWorker::NoteShortage(int error, size_t listener) {
  if (error == slot_.trouble) return;
  slot_.trouble_at = static_cast<uint32_t>(listener);
  slot_.trouble = error;
  Tell(Kind::kLook);
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
  if (!share_.counts_idle) return;
  PreforkBoard::Shared& shared = share_.board.shared();
  if (doing == Doing::kIdle) ++shared.idle;
  if (before == Doing::kIdle && --shared.idle < shared.low_water &&
      !shared.told.exchange(true)) {
    Tell(Kind::kTooFew);
  }
}

// What the parent is not told it finds when it looks at the board.
void PreforkWorker::Tell(Kind kind) {
  const PreforkMessage message = {.kind = kind,
                                  .slot = static_cast<uint32_t>(task_.slot)};
  if (write(share_.messages.get(), &message, sizeof(message)) !=
      sizeof(message)) {
    share_.board.shared().look_at_all = true;
  }
}

void PreforkWorker::NoteTrouble(const Listener::Batch& batch, size_t listener) {
  const int error = batch.trouble.ok() ? 0 : ErrnoOf(batch.trouble);
  if (error != slot_.trouble) {
    slot_.trouble_at = static_cast<uint32_t>(listener);
    broken_ = error != 0 && !batch.pause.has_value();
    slot_.broken = broken_;
    slot_.trouble = error;
    Tell(Kind::kLook);
  }
  if (batch.pause.has_value()) Pause(*batch.pause);
}

void PreforkWorker::Pause(absl::Duration time) {
  UnwatchAll();
  epoll_event bell;
  (void)epoll_wait(epoll_.get(), &bell, 1,
                   static_cast<int>(absl::ToInt64Milliseconds(
                       absl::Ceil(time, absl::Milliseconds(1)))));
  WatchAll();
}

// From here on it is like a child of fork_per_connection.h: it has its
// connection and nothing else of the server's, if not to tell of a program.
int PreforkWorker::ServeLast() {
  Begin(*last_);
  for (Listener& listener : share_.listeners) (void)listener.Close();
  (void)epoll_.Close();
  if (share_.copies != nullptr) (void)share_.copies->Close();
  (void)close(share_.bell.fd());
  // A program has nothing of this anyway, and its end is to be told.
  if (share_.handler.program().has_value()) return RunProgram(*last_) ? 0 : 1;
  (void)share_.messages.Close();
  share_.board.Unmap();
  if (share_.sources != nullptr) share_.sources->Unmap();
  return share_.handler.Handle(last_->client.stream, InfoOf(*last_));
}

// It may be that the kernel has woken this worker for a client, and no other.
// So it takes one that waits, if there is any.
int PreforkWorker::Retire() {
  for (size_t i = 0; i < share_.listeners.size(); ++i) {
    Unwatch(i);
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
  while (true) {
    bool open = false;
    for (size_t i = 0; i < share_.listeners.size(); ++i) {
      Listener& listener = share_.listeners[i];
      if (listener.fd() == -1) continue;
      LetIn(i);
      if (broken_ || share_.board.shared().stop) return broken_ ? 1 : 0;
      if (slot_.ending) return 0;
      if (last_.has_value()) return ServeLast();
      if (IsDrained(listener)) {
        Unwatch(i);
        (void)listener.Close();
      } else {
        open = true;
      }
    }
    if (!open) {
      slot_.saw_nobody = true;
      return 0;
    }
    epoll_event event;
    (void)epoll_wait(epoll_.get(), &event, 1, kLookAgain);
  }
}

bool PreforkWorker::IsDrained(const Listener& listener) const {
  if (listener.Drained().value_or(false)) return true;
  // Handshakes that do not end, or of which the kernel does not tell.
  return Now() >= share_.board.shared().handshakes_until &&
         !PollUntil(listener.fd(), POLLIN, absl::InfinitePast())
              .value_or(false);
}

}  // namespace brood
