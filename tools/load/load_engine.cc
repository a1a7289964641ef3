// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/load/load_engine.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/proxy_protocol.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/signal/timer_fd.h"
#include "brood/tools/load/echo_pattern.h"
#include "brood/tools/load/load_plan.h"
#include "brood/tools/load/load_result.h"

namespace brood {
namespace {

// How many connections begin, and how many events are taken, before it is the
// other's turn: who waits for an answer should not wait for a crowd to come in.
constexpr int kTurn = 64;
// How often one connection moves bytes before it is the others' turn.
constexpr int kMaxRounds = 16;
constexpr absl::Duration kWatchPeriod = absl::Milliseconds(100);
// A unix socket whose backlog is full says so at once, and never when there is
// room.
constexpr absl::Duration kRetryPeriod = absl::Milliseconds(1);
// After so many failures without one whole connection there is no hope.
constexpr uint64_t kHopeless = 1000;
// A message up to this fits one packet of most networks. Of a longer one the
// last piece would wait until the others are acknowledged.
constexpr size_t kOnePacket = 1400;

bool IsService(const LoadPlan& plan, LoadPlan::Service service) {
  return plan.service == service;
}

LoadFailure KindOf(int error) {
  switch (error) {
    case ECONNREFUSED:
    case ENOENT:  // A unix path.
      return LoadFailure::kRefused;
    case ECONNRESET:
      return LoadFailure::kReset;
    // Sent to somebody who had ended before, in good order.
    case EPIPE:
      return LoadFailure::kClosed;
    case ETIMEDOUT:
      return LoadFailure::kTimeout;
    case EADDRNOTAVAIL:
    case EAGAIN:  // Of connect to TCP.
    case EMFILE:
    case ENFILE:
      return LoadFailure::kNoRoom;
  }
  return LoadFailure::kOther;
}

absl::Status BindTo(int fd, const Address& source) {
  // Otherwise bind chooses the port, and knows no peer yet: it has to be one
  // that no other connection from this address has.
  constexpr int kOn = 1;
  (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &kOn, sizeof(kOn));
  if (bind(fd, source.sockaddr(), source.sockaddr_length()) == -1) {
    return ErrnoStatus(errno, absl::StrCat("come from ", source));
  }
  return absl::OkStatus();
}

struct Used {
  absl::Duration cpu = {};
  absl::Duration waited = {};
};

// What this thread has used of the processors, and how long it was kept from
// them.
Used UsedSoFar() {
  Used used;
  struct rusage usage = {};
  (void)getrusage(RUSAGE_THREAD, &usage);
  used.cpu = absl::DurationFromTimeval(usage.ru_utime) +
             absl::DurationFromTimeval(usage.ru_stime);
  // Not every kernel counts the second (CONFIG_SCHED_INFO).
  std::ifstream schedstat("/proc/thread-self/schedstat");
  int64_t ran = 0;
  int64_t waited = 0;
  if (schedstat >> ran >> waited) used.waited = absl::Nanoseconds(waited);
  return used;
}

}  // namespace

absl::StatusOr<LoadEngine> LoadEngine::Create(const LoadPlan& plan) {
  if (absl::Status s = CheckPlan(plan); !s.ok()) return s;
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return ErrnoStatus(errno, "epoll_create1");
  absl::StatusOr<TimerFd> timer = TimerFd::Create();
  if (!timer.ok()) return timer.status();
  // On an edge, so that an expiration need not be read.
  epoll_event event = {.events = EPOLLIN | EPOLLET, .data = {.u64 = kNobody}};
  if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, timer->fd(), &event) == -1) {
    return ErrnoStatus(errno, "epoll_ctl for a timer");
  }
  LoadEngine engine(plan, std::move(epoll), *std::move(timer));
  if (absl::Status s = engine.CheckSources(); !s.ok()) return s;
  return engine;
}

LoadEngine::LoadEngine(const LoadPlan& plan, UniqueFd epoll, TimerFd timer)
    : plan_(plan),
      epoll_(std::move(epoll)),
      timer_(std::move(timer)),
      pattern_(plan.lines ? plan.message_size : 0),
      buffer_(EchoPattern::kMaxPiece),
      no_delay_(plan.message_size > kOnePacket ||
                IsService(plan, LoadPlan::Service::kDiscard)),
      to_begin_(ConnectionsOfShare(plan)) {
  for (const Address& to : plan.to) {
    std::vector<Address>& sources = sources_.emplace_back();
    for (const Address& from : plan.from) {
      if (from.family() == to.family()) sources.push_back(from);
    }
  }
}

absl::Status LoadEngine::CheckSources() const {
  for (const Address& source : plan_.from) {
    const UniqueFd fd(socket(source.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd.valid()) {
      return ErrnoStatus(errno, absl::StrCat("socket for ", source));
    }
    if (absl::Status s = BindTo(fd.get(), source); !s.ok()) {
      return absl::FailedPreconditionError(s.message());
    }
  }
  return absl::OkStatus();
}

const Address& LoadEngine::PeerOf(Slot slot) const {
  return plan_.to[TargetOf(connections_[slot].number)];
}

const Address* LoadEngine::SourceOf(uint64_t number) const {
  const std::vector<Address>& sources = sources_[TargetOf(number)];
  if (sources.empty()) return nullptr;
  return &sources[number / plan_.to.size() % sources.size()];
}

std::string LoadEngine::HeaderOf(uint64_t number) const {
  if (!plan_.proxy.has_value()) return {};
  const std::vector<Address>& clients = plan_.proxy->clients;
  const Address& client = clients[number % clients.size()];
  constexpr uint64_t kFirstPort = 1024;
  constexpr uint64_t kPorts = 65'536 - kFirstPort;
  const uint64_t port = kFirstPort + number / clients.size() % kPorts;
  ProxyHeader header = {.version = plan_.proxy->version};
  const Address& to = plan_.to[TargetOf(number)];
  const auto on_port = [](const Address& host, uint64_t with_port) {
    sockaddr_storage storage = {};
    std::memcpy(&storage, host.sockaddr(), host.sockaddr_length());
    auto* const v4 = reinterpret_cast<sockaddr_in*>(&storage);
    auto* const v6 = reinterpret_cast<sockaddr_in6*>(&storage);
    const in_port_t wire = htons(static_cast<uint16_t>(with_port));
    (host.family() == AF_INET ? v4->sin_port : v6->sin6_port) = wire;
    return Address::FromSockaddr(reinterpret_cast<sockaddr*>(&storage),
                                 host.sockaddr_length());
  };
  // Both have to be of one family; where the server is of another, the client
  // has come to its own host.
  const absl::StatusOr<Address> source = on_port(client, port);
  const absl::StatusOr<Address> destination =
      to.family() == client.family() ? to
                                     : on_port(client, to.port().value_or(1));
  if (!source.ok() || !destination.ok()) return {};
  header.endpoints = ProxyEndpoints{*source, *destination};
  return FormatProxyHeader(header).value_or("");
}

// ---- lines ----

LoadEngine::Line* LoadEngine::LineOf(State state) {
  switch (state) {
    case State::kFree:
      return nullptr;
    case State::kRetrying:
      return &retrying_;
    case State::kThinking:
      return &thinking_;
    case State::kConnecting:
    case State::kTalking:
    case State::kEnding:
      return &waiting_;
  }
  return nullptr;
}

void LoadEngine::LeaveLine(Slot slot) {
  Connection& connection = connections_[slot];
  Line* const line = LineOf(connection.state);
  if (line == nullptr) return;
  const Slot before = std::exchange(connection.before, kNobody);
  const Slot behind = std::exchange(connection.behind, kNobody);
  (before == kNobody ? line->first : connections_[before].behind) = behind;
  (behind == kNobody ? line->last : connections_[behind].before) = before;
}

void LoadEngine::MoveTo(State state, Slot slot, absl::Duration now,
                        absl::Duration wait) {
  LeaveLine(slot);
  Connection& connection = connections_[slot];
  connection.state = state;
  Line* const line = LineOf(state);
  if (line == nullptr) return;
  connection.until = now + wait;
  connection.before = line->last;
  (line->last == kNobody ? line->first : connections_[line->last].behind) =
      slot;
  line->last = slot;
}

LoadEngine::Slot LoadEngine::FirstExpired(const Line& line,
                                          absl::Duration now) const {
  return FirstUntil(line) <= now ? line.first : kNobody;
}

absl::Duration LoadEngine::FirstUntil(const Line& line) const {
  return line.first == kNobody ? absl::InfiniteDuration()
                               : connections_[line.first].until;
}

// ---- when to begin ----

bool LoadEngine::HasRoom() const {
  return !free_.empty() || connections_.size() < ConcurrencyOfShare(plan_);
}

uint64_t LoadEngine::NextNumber() const {
  return plan_.share.index + begun_ * plan_.share.of;
}

absl::Duration LoadEngine::NextDue() const {
  return start_ +
         absl::Seconds(static_cast<double>(NextNumber()) / *plan_.rate);
}

bool LoadEngine::MoreToBegin(absl::Duration now) const {
  if (now >= end_ || result_.gave_up) return false;
  if (to_begin_.has_value() && begun_ >= *to_begin_) return false;
  return !plan_.rate.has_value() || NextDue() < end_;
}

void LoadEngine::BeginSome() {
  for (int i = 0; i < kTurn && HasRoom(); ++i) {
    const absl::Duration now = MonotonicNow();
    if (!MoreToBegin(now)) return;
    const absl::Duration due = plan_.rate.has_value() ? NextDue() : now;
    if (due > now) return;
    if (plan_.rate.has_value()) result_.lateness.Add(now - due);
    const uint64_t number = NextNumber();
    ++begun_;
    Begin(number, due);
  }
}

// Who was due and never had a turn would have waited longest: to leave them out
// would flatter the server.
void LoadEngine::CountNotBegun() {
  if (!plan_.rate.has_value() || result_.stopped || result_.gave_up) return;
  while (NextDue() < end_ && (!to_begin_.has_value() || begun_ < *to_begin_)) {
    ++begun_;
    LoadResult::Failure& failure = result_.failures[LoadFailure::kNotBegun];
    if (failure.count++ > 0) continue;
    failure.first = absl::StrCat("connection ", NextNumber() - plan_.share.of,
                                 " had not begun when the time was over, for ",
                                 plan_.concurrency, " others were open");
  }
}

// ---- one connection ----

void LoadEngine::Begin(uint64_t number, absl::Duration due) {
  Slot slot = 0;
  if (free_.empty()) {
    slot = static_cast<Slot>(connections_.size());
    connections_.emplace_back();
  } else {
    slot = free_.back();
    free_.pop_back();
  }
  Connection& connection = connections_[slot];
  connection.number = number;
  connection.due = due;
  connection.begun = MonotonicNow();
  connection.messages = 0;
  connection.place = 0;
  connection.sent = 0;
  connection.received = 0;
  connection.header = HeaderOf(number);
  connection.readable = false;
  connection.writable = true;
  connection.hung_up = false;
  connection.asked_for_room = false;
  connection.again = false;
  if (Prepare(slot)) Connect(slot);
}

bool LoadEngine::Prepare(Slot slot) {
  Connection& connection = connections_[slot];
  const Address& peer = PeerOf(slot);
  connection.fd = UniqueFd(
      socket(peer.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!connection.fd.valid()) {
    FailWith(slot, errno, "socket for");
    return false;
  }
  const int fd = connection.fd.get();
  constexpr int kOn = 1;
  if (no_delay_ && peer.family() != AF_UNIX &&
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &kOn, sizeof(kOn)) == -1) {
    FailWith(slot, errno, "TCP_NODELAY for");
    return false;
  }
  const Address* const source = SourceOf(connection.number);
  if (source == nullptr) return true;
  if (const absl::Status s = BindTo(fd, *source); !s.ok()) {
    Fail(slot, KindOf(ErrnoOf(s)), [&] { return std::string(s.message()); });
    return false;
  }
  return true;
}

// A socket of TCP that does not block says EINPROGRESS even if the server is on
// this machine, and yet is connected by the time the call is back. So the first
// message is tried at once: where it goes, it has saved an event.
void LoadEngine::Connect(Slot slot) {
  Connection& connection = connections_[slot];
  const Address& peer = PeerOf(slot);
  const int result =
      connect(connection.fd.get(), peer.sockaddr(), peer.sockaddr_length());
  const int error = result == 0 ? 0 : errno;
  const absl::Duration now = MonotonicNow();
  if (error == EAGAIN && peer.family() == AF_UNIX) {
    return MoveTo(State::kRetrying, slot, now, kRetryPeriod);
  }
  // After EINTR it goes on by itself.
  if (error != 0 && error != EINPROGRESS && error != EINTR) {
    return FailWith(slot, error, "connect");
  }
  MoveTo(State::kConnecting, slot, now, plan_.timeout);
  const uint32_t generation = connection.generation;
  if (error == 0) {
    BeConnected(slot, now);
  } else if (!IsService(plan_, LoadPlan::Service::kNone)) {
    connection.message_begun = now;
    bool moved = false;
    if (!Send(slot, moved)) return;
    if (moved) {
      result_.connect.Add(now - connection.begun);
      MoveTo(State::kTalking, slot, now, plan_.timeout);
    }
  }
  if (connection.generation != generation) return;
  if (connection.state == State::kTalking) Talk(slot);
  if (connection.generation != generation) return;
  connection.asked_for_room = connection.state == State::kConnecting ||
                              connection.sent < plan_.message_size;
  epoll_event event = {
      .events = EPOLLIN | EPOLLRDHUP | EPOLLET |
                (connection.asked_for_room ? uint32_t{EPOLLOUT} : 0),
      .data = {.u64 = uint64_t{generation} << 32 | slot}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, connection.fd.get(), &event) ==
      -1) {
    FailWith(slot, errno, "epoll_ctl for");
  }
}

void LoadEngine::BeConnected(Slot slot, absl::Duration now) {
  result_.connect.Add(now - connections_[slot].begun);
  if (IsService(plan_, LoadPlan::Service::kNone)) return BeWhole(slot);
  BeginMessage(slot, now);
}

void LoadEngine::BeginMessage(Slot slot, absl::Duration now) {
  Connection& connection = connections_[slot];
  connection.message_begun = now;
  connection.place = connection.messages * plan_.message_size;
  connection.sent = 0;
  connection.received = 0;
  MoveTo(State::kTalking, slot, now, plan_.timeout);
}

bool LoadEngine::MessageIsOver(const Connection& connection) const {
  const size_t moved = IsService(plan_, LoadPlan::Service::kEcho)
                           ? connection.received
                           : connection.sent;
  return connection.state == State::kTalking && moved == plan_.message_size;
}

void LoadEngine::EndMessage(Slot slot, absl::Duration now) {
  Connection& connection = connections_[slot];
  ++result_.messages;
  ++connection.messages;
  if (IsService(plan_, LoadPlan::Service::kEcho)) {
    result_.round_trip.Add(now - connection.message_begun);
  }
  if (connection.messages == plan_.messages || now >= end_) {
    return SayEnd(slot, now);
  }
  if (plan_.think_time == absl::ZeroDuration()) return BeginMessage(slot, now);
  MoveTo(State::kThinking, slot, now, plan_.think_time);
}

void LoadEngine::SayEnd(Slot slot, absl::Duration now) {
  Connection& connection = connections_[slot];
  if (!IsService(plan_, LoadPlan::Service::kDiscard)) return BeWhole(slot);
  if (shutdown(connection.fd.get(), SHUT_WR) == -1) {
    return FailWith(slot, errno, "shutdown towards");
  }
  MoveTo(State::kEnding, slot, now, plan_.timeout);
}

void LoadEngine::Handle(Slot slot, uint32_t events) {
  Connection& connection = connections_[slot];
  const bool failed = (events & EPOLLERR) != 0;
  if (connection.state == State::kConnecting) {
    int error = 0;
    socklen_t length = sizeof(error);
    if (failed &&
        getsockopt(connection.fd.get(), SOL_SOCKET, SO_ERROR, &error,
                   &length) == 0 &&
        error != 0) {
      return FailWith(slot, error, "connect");
    }
    if ((events & EPOLLOUT) == 0) return;
    BeConnected(slot, MonotonicNow());
    if (connection.state != State::kTalking) return;
  }
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
    connection.readable = true;
  }
  if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
    connection.hung_up = true;
  }
  if ((events & EPOLLOUT) != 0) connection.writable = true;
  Talk(slot);
}

void LoadEngine::Talk(Slot slot) {
  Connection& connection = connections_[slot];
  for (int round = 0; round < kMaxRounds; ++round) {
    bool moved = false;
    if (connection.state == State::kTalking && connection.writable &&
        connection.sent < plan_.message_size && !Send(slot, moved)) {
      return;
    }
    if (connection.readable && !Receive(slot, moved)) return;
    const bool over = MessageIsOver(connection);
    if (moved || over) {
      const absl::Duration now = MonotonicNow();
      if (over) {
        const uint32_t generation = connection.generation;
        EndMessage(slot, now);
        if (connection.generation != generation) return;
      } else if (connection.state == State::kTalking) {
        MoveTo(State::kTalking, slot, now, plan_.timeout);
      }
    }
    const bool can_send = connection.state == State::kTalking &&
                          connection.writable &&
                          connection.sent < plan_.message_size;
    if (!can_send && !connection.readable) {
      if (!connection.writable) AskForRoom(slot);
      return;
    }
  }
  if (!std::exchange(connection.again, true)) again_.push_back(slot);
}

bool LoadEngine::Send(Slot slot, bool& moved) {
  Connection& connection = connections_[slot];
  const std::string_view piece =
      pattern_.At(connection.number, connection.place + connection.sent,
                  plan_.message_size - connection.sent);
  std::array<iovec, 2> parts = {
      {{.iov_base = connection.header.data(),
        .iov_len = connection.header.size()},
       {.iov_base = const_cast<char*>(piece.data()), .iov_len = piece.size()}}};
  msghdr message = {};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  const ssize_t n = RetryOnEintr([&] {
    return connection.header.empty()
               ? send(connection.fd.get(), piece.data(), piece.size(),
                      MSG_NOSIGNAL)
               : sendmsg(connection.fd.get(), &message, MSG_NOSIGNAL);
  });
  if (n == -1) {
    if (errno != EAGAIN) {
      // Connecting goes on by itself, and fails with the first call after.
      FailWith(slot, errno,
               connection.state == State::kConnecting ? "connect" : "send to");
      return false;
    }
    connection.writable = false;
    return true;
  }
  moved = true;
  const auto taken = static_cast<size_t>(n);
  connection.writable = taken == connection.header.size() + piece.size();
  const size_t of_header = std::min(taken, connection.header.size());
  if (of_header > 0) connection.header.erase(0, of_header);
  connection.sent += taken - of_header;
  result_.bytes_sent += taken - of_header;
  return true;
}

bool LoadEngine::Receive(Slot slot, bool& moved) {
  Connection& connection = connections_[slot];
  const ssize_t n = RetryOnEintr([&] {
    return recv(connection.fd.get(), buffer_.data(), buffer_.size(), 0);
  });
  if (n > 0) {
    moved = true;
    const auto size = static_cast<size_t>(n);
    // Less than there was room for is all there was, but for an end or an error
    // that the kernel has told of together with it.
    connection.readable = size == buffer_.size() || connection.hung_up;
    result_.bytes_received += size;
    return Verify(slot, std::string_view(buffer_.data(), size));
  }
  if (n == -1) {
    if (errno == EAGAIN) {
      connection.readable = false;
      return true;
    }
    FailWith(slot, errno, "recv from");
    return false;
  }
  if (connection.state == State::kEnding) {
    BeWhole(slot);
    return false;
  }
  Fail(slot, LoadFailure::kClosed, [&] {
    return absl::StrCat(
        PeerOf(slot), " ended connection ", connection.number,
        connection.state == State::kThinking
            ? " before all was said"
            : absl::StrCat(" after ", connection.received, " of ",
                           plan_.message_size, " bytes of an answer"));
  });
  return false;
}

bool LoadEngine::Verify(Slot slot, std::string_view bytes) {
  Connection& connection = connections_[slot];
  const std::string_view expected = pattern_.At(
      connection.number, connection.place + connection.received, bytes.size());
  const size_t owed = connection.sent - connection.received;
  const bool answers =
      IsService(plan_, LoadPlan::Service::kEcho) && bytes.size() <= owed;
  if (answers && bytes == expected) {
    connection.received += bytes.size();
    return true;
  }
  Fail(slot, LoadFailure::kWrongBytes, [&] {
    if (!answers) {
      return absl::StrCat(PeerOf(slot), " sent ", bytes.size(),
                          " bytes on connection ", connection.number, " where ",
                          IsService(plan_, LoadPlan::Service::kEcho) ? owed : 0,
                          " were to come");
    }
    const auto wrong =
        std::mismatch(bytes.begin(), bytes.end(), expected.begin());
    const auto code = [](char byte) {
      return absl::StrCat(
          "0x", absl::Hex(static_cast<uint8_t>(byte), absl::kZeroPad2));
    };
    return absl::StrCat(PeerOf(slot), " sent ", code(*wrong.first),
                        " instead of ", code(*wrong.second), " as byte ",
                        connection.place + connection.received +
                            static_cast<size_t>(wrong.first - bytes.begin()) +
                            1,
                        " on connection ", connection.number);
  });
  return false;
}

void LoadEngine::AskForRoom(Slot slot) {
  Connection& connection = connections_[slot];
  if (std::exchange(connection.asked_for_room, true)) return;
  epoll_event event = {
      .events = EPOLLIN | EPOLLRDHUP | EPOLLOUT | EPOLLET,
      .data = {.u64 = uint64_t{connection.generation} << 32 | slot}};
  // Not known yet: Connect() is about to ask for it.
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, connection.fd.get(), &event) ==
          -1 &&
      errno != ENOENT) {
    FailWith(slot, errno, "epoll_ctl for");
  }
}

void LoadEngine::BeWhole(Slot slot) {
  Connection& connection = connections_[slot];
  const bool said_all = IsService(plan_, LoadPlan::Service::kNone) ||
                        !plan_.messages.has_value() ||
                        connection.messages == *plan_.messages;
  const absl::Duration due = connection.due;
  ++result_.whole;
  if (kept_ != nullptr) {
    // Fails if it never was in.
    (void)epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, connection.fd.get(), nullptr);
    kept_->push_back(std::move(connection.fd));
  }
  Free(slot);
  if (said_all) result_.connection.Add(MonotonicNow() - due);
}

void LoadEngine::Fail(Slot slot, LoadFailure kind,
                      absl::FunctionRef<std::string()> what) {
  // A server that closes at once does so with or without a reset, as its kernel
  // finds bytes of ours or not: a race, so it is one kind.
  const Connection& connection = connections_[slot];
  const bool cut = kind == LoadFailure::kReset || kind == LoadFailure::kClosed;
  const bool unanswered = cut && IsService(plan_, LoadPlan::Service::kEcho) &&
                          connection.messages == 0 && connection.received == 0;
  LoadResult::Failure& failure =
      result_.failures[unanswered ? LoadFailure::kUnanswered : kind];
  if (failure.count++ == 0) failure.first = what();
  Free(slot);
  if (result_.whole == 0 && result_.failed() >= kHopeless) {
    result_.gave_up = true;
  }
}

void LoadEngine::FailWith(Slot slot, int error, std::string_view call) {
  Fail(slot, KindOf(error), [&] {
    return std::string(
        ErrnoStatus(error, absl::StrCat(call, " ", PeerOf(slot))).message());
  });
}

void LoadEngine::Free(Slot slot) {
  LeaveLine(slot);
  Connection& connection = connections_[slot];
  connection.fd = UniqueFd();
  connection.state = State::kFree;
  ++connection.generation;
  connection.again = false;
  free_.push_back(slot);
}

// ---- the loop ----

void LoadEngine::LookAtTheClock(absl::Duration now) {
  for (Slot slot; (slot = FirstExpired(waiting_, now)) != kNobody;) {
    const Connection& connection = connections_[slot];
    Fail(slot, LoadFailure::kTimeout, [&] {
      const std::string within =
          absl::StrCat(" for ", absl::FormatDuration(plan_.timeout));
      if (connection.state == State::kConnecting) {
        return absl::StrCat("connect ", PeerOf(slot), ": no answer", within);
      }
      return absl::StrCat("nothing from ", PeerOf(slot), within, ", after ",
                          connection.received, " of ", plan_.message_size,
                          " bytes of an answer on connection ",
                          connection.number);
    });
  }
  for (Slot slot; (slot = FirstExpired(retrying_, now)) != kNobody;) {
    if (now - connections_[slot].begun < plan_.timeout) {
      LeaveLine(slot);
      connections_[slot].state = State::kFree;  // In no line.
      Connect(slot);
      continue;
    }
    Fail(slot, LoadFailure::kTimeout, [&] {
      return absl::StrCat("connect ", PeerOf(slot), ": its backlog was full ",
                          "for ", absl::FormatDuration(plan_.timeout));
    });
  }
  // At the end there is nothing more to say.
  const absl::Duration thought_until =
      now >= end_ ? absl::InfiniteDuration() : now;
  for (Slot slot; (slot = FirstExpired(thinking_, thought_until)) != kNobody;) {
    if (now >= end_) {
      SayEnd(slot, now);
    } else {
      BeginMessage(slot, now);
      Talk(slot);
    }
  }
}

absl::Status LoadEngine::Wait() {
  const absl::Duration now = MonotonicNow();
  // To the nanosecond; epoll_wait counts in milliseconds.
  absl::Duration precise =
      std::min(FirstUntil(thinking_), FirstUntil(retrying_));
  if (HasRoom() && MoreToBegin(now)) {
    precise = std::min(precise, plan_.rate.has_value() ? NextDue() : now);
  }
  absl::Duration coarse = std::min(next_watch_, FirstUntil(waiting_));
  if (end_ > now) coarse = std::min(coarse, end_);
  if (!again_.empty() || precise <= now) {
    coarse = now;
  } else if (precise != armed_for_ && precise < coarse) {
    if (absl::Status s = timer_.ExpireAfter(precise - now); !s.ok()) return s;
    armed_for_ = precise;
  }
  const auto milliseconds = static_cast<int>(absl::ToInt64Milliseconds(
      absl::Ceil(std::max(coarse - now, absl::ZeroDuration()),
                 absl::Milliseconds(1))));
  std::array<epoll_event, kTurn> events;
  const int count = epoll_wait(epoll_.get(), events.data(),
                               static_cast<int>(events.size()), milliseconds);
  if (count == -1 && errno != EINTR) return ErrnoStatus(errno, "epoll_wait");
  for (int i = 0; i < count; ++i) {
    const auto slot = static_cast<Slot>(events[i].data.u64);
    if (slot == kNobody) {
      armed_for_ = absl::InfiniteDuration();
      continue;
    }
    if (connections_[slot].generation != events[i].data.u64 >> 32) continue;
    Handle(slot, events[i].events);
  }
  for (const Slot slot : std::exchange(again_, {})) {
    if (std::exchange(connections_[slot].again, false)) Talk(slot);
  }
  return absl::OkStatus();
}

LoadProgress LoadEngine::Progress(absl::Duration now) const {
  return {.elapsed = now - start_,
          .whole = result_.whole,
          .failed = result_.failed(),
          .messages = result_.messages,
          .open = open()};
}

absl::StatusOr<LoadResult> LoadEngine::Run(
    absl::FunctionRef<bool(const LoadProgress&)> watch) {
  const Used before = UsedSoFar();
  start_ = MonotonicNow();
  if (plan_.duration.has_value()) end_ = start_ + *plan_.duration;
  next_watch_ = start_ + kWatchPeriod;
  absl::Duration now = start_;
  while (!result_.gave_up) {
    BeginSome();
    now = MonotonicNow();
    if (open() == 0 && !MoreToBegin(now)) break;
    if (absl::Status s = Wait(); !s.ok()) return s;
    now = MonotonicNow();
    LookAtTheClock(now);
    if (now < next_watch_) continue;
    next_watch_ = now + kWatchPeriod;
    if (watch(Progress(now))) continue;
    result_.stopped = true;
    break;
  }
  CountNotBegun();
  result_.abandoned = open();
  for (Slot slot = 0; slot < connections_.size(); ++slot) {
    if (connections_[slot].state != State::kFree) Free(slot);
  }
  result_.elapsed = now - start_;
  const Used after = UsedSoFar();
  result_.cpu = after.cpu - before.cpu;
  result_.waited_for_cpu = after.waited - before.waited;
  return std::move(result_);
}

}  // namespace brood
