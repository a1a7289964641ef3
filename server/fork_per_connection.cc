// SPDX-License-Identifier: Apache-2.0
#include "brood/server/fork_per_connection.h"

#include <sys/types.h>

#include <csignal>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_queue.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/proc/reaper.h"
#include "brood/server/connection_handler.h"
#include "brood/server/connection_log.h"
#include "brood/server/poll_loop.h"
#include "brood/server/process_model.h"

namespace brood {
namespace {

// How long to wait with the next try after a fork has failed, if no child ends
// sooner.
constexpr absl::Duration kPause = absl::Milliseconds(100);

}  // namespace

absl::StatusOr<std::unique_ptr<ForkPerConnection>> ForkPerConnection::Create(
    Acceptor acceptor, ConnectionHandler& handler, const Options& options) {
  if (options.max_children == 0) {
    return absl::InvalidArgumentError(
        "max_children is 0: at least 1 is needed");
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
      reaper_(std::move(reaper)),
      observer_([](const ConnectionRecord&) {}),
      trouble_observer_([](const absl::Status&) {}),
      max_children_(options.max_children) {}

void ForkPerConnection::OnConnectionEnd(
    absl::AnyInvocable<void(const ConnectionRecord&)> observer) {
  observer_ = std::move(observer);
}

void ForkPerConnection::OnTrouble(
    absl::AnyInvocable<void(const absl::Status&)> observer) {
  trouble_observer_ = std::move(observer);
}

void ForkPerConnection::OnEvent(
    absl::AnyInvocable<void(const LogEvent&)> /*observer*/) {}

void ForkPerConnection::Tell(const absl::Status& status) {
  if (in_trouble_ == !status.ok()) return;
  in_trouble_ = !status.ok();
  trouble_observer_(status);
}

absl::Status ForkPerConnection::Start(PollLoop& loop) {
  loop_ = &loop;
  loop_->Watch(reaper_.fd(), [this] { return ReportEnds(); });
  acceptor_.OnTrouble([this](const absl::Status& status) {
    // The door is open, but somebody stands in it.
    if (status.ok() && waiting_.has_value()) return;
    Tell(status);
  });
  acceptor_.Start(loop, [this](Accepted client, const Address& local) {
    return Take(std::move(client), local);
  });
  return absl::OkStatus();
}

bool ForkPerConnection::Take(Accepted client, const Address& local) {
  if (const absl::Status status = StartOne(client, local); !status.ok()) {
    waiting_.emplace(std::move(client), local);
    Tell(status);
    TryAgainSoon();
    return false;
  }
  return HasRoom();
}

absl::Status ForkPerConnection::StartOne(Accepted& client,
                                         const Address& local) {
  const absl::Duration begin = MonotonicNow();
  const int connection = client.stream.fd();
  absl::StatusOr<Child> child =
      Fork({.exit_signal = reaper_.exit_signal(),
            .parent_death_signal = SIGKILL,
            .new_process_group = true,
            .keep_fds = absl::MakeConstSpan(&connection, 1)},
           [&] {
             return handler_.Handle(client.stream, {local, client.peer});
           });
  if (!child.ok()) return child.status();
  const pid_t pid = child->pid();
  if (free_.empty()) {
    free_.push_back(connections_.size());
    connections_.emplace_back();
  }
  const uint64_t place = free_.back();
  if (!reaper_.Add(*std::move(child), place).ok()) {
    // It may have begun, so its client cannot be given to another process: this
    // one ends here, by SIGKILL, and is accounted for like any other.
    (void)child->Signal(SIGKILL);
    const absl::StatusOr<ExitStatus> status = child->Wait();
    observer_({.pid = pid,
               .peer = client.peer,
               .status = status.value_or(ExitStatus::Lost()),
               .duration = MonotonicNow() - begin});
    return absl::OkStatus();
  }
  free_.pop_back();
  connections_[place] = {client.peer, begin};
  ++live_;
  return absl::OkStatus();
}

absl::Status ForkPerConnection::ReportEnds() {
  while (true) {
    absl::StatusOr<std::optional<Reaper::Exit>> exit = reaper_.Next();
    if (!exit.ok()) return exit.status();
    if (!exit->has_value()) break;
    const Connection& connection = connections_[(*exit)->tag];
    free_.push_back((*exit)->tag);
    --live_;
    observer_({.pid = (*exit)->pid,
               .peer = connection.peer,
               .status = (*exit)->status,
               .duration = MonotonicNow() - connection.begin});
  }
  TryAgain();
  CallDone();
  return absl::OkStatus();
}

void ForkPerConnection::TryAgain() {
  if (waiting_.has_value()) {
    if (!StartOne(waiting_->client, waiting_->local).ok()) {
      TryAgainSoon();
      return;
    }
    waiting_.reset();
    Tell(absl::OkStatus());
  }
  acceptor_.TryAgain();
  if (HasRoom()) acceptor_.Want();
}

void ForkPerConnection::TryAgainSoon() {
  if (std::exchange(trying_soon_, true)) return;
  loop_->CallAfter(kPause, [this] {
    trying_soon_ = false;
    TryAgain();
    return absl::OkStatus();
  });
}

void ForkPerConnection::Drain(absl::AnyInvocable<void()> done) {
  done_ = std::move(done);
  acceptor_.Drain([this] { CallDone(); });
}

void ForkPerConnection::CallDone() {
  if (done_ != nullptr && acceptor_.closed() && active() == 0) {
    std::exchange(done_, nullptr)();
  }
}

void ForkPerConnection::SignalHandlers(int signo, EndCause /*cause*/) {
  acceptor_.Close();
  waiting_.reset();
  (void)reaper_.SignalAll(signo);
  CallDone();
}

size_t ForkPerConnection::ChangeCapacity(int by) {
  if (by < 0 && max_children_ > 1) --max_children_;
  if (by > 0 && max_children_ < options_.max_children) ++max_children_;
  return max_children_;
}

std::vector<LogField> ForkPerConnection::State() const {
  return {{"active", static_cast<uint64_t>(live_)}};
}

}  // namespace brood
