// SPDX-License-Identifier: Apache-2.0
#include "brood/server/fork_per_connection.h"

#include <sys/types.h>

#include <csignal>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

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
#include "brood/server/poll_loop.h"
#include "brood/server/process_model.h"

namespace brood {
namespace {

// How many clients one wake-up takes in before exits and signals are looked at.
constexpr int kAcceptBatch = 16;

constexpr absl::Duration kPause = absl::Milliseconds(100);

}  // namespace

absl::StatusOr<std::unique_ptr<ForkPerConnection>> ForkPerConnection::Create(
    Listener listener, ConnectionHandler& handler, const Options& options) {
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
  return absl::WrapUnique(new ForkPerConnection(std::move(listener), handler,
                                                options, *std::move(reaper)));
}

ForkPerConnection::ForkPerConnection(Listener listener,
                                     ConnectionHandler& handler,
                                     const Options& options, Reaper reaper)
    : listener_(std::move(listener)),
      handler_(handler),
      options_(options),
      reaper_(std::move(reaper)),
      observer_([](const ConnectionEnd&) {}),
      trouble_observer_([](const absl::Status&) {}) {}

void ForkPerConnection::OnConnectionEnd(
    absl::AnyInvocable<void(const ConnectionEnd&)> observer) {
  observer_ = std::move(observer);
}

void ForkPerConnection::OnTrouble(
    absl::AnyInvocable<void(const absl::Status&)> observer) {
  trouble_observer_ = std::move(observer);
}

void ForkPerConnection::Tell(const absl::Status& status) {
  if (in_trouble_ == !status.ok()) return;
  in_trouble_ = !status.ok();
  trouble_observer_(status);
}

absl::Status ForkPerConnection::Start(PollLoop& loop) {
  loop_ = &loop;
  accepting_ = true;
  loop_->Watch(reaper_.fd(), [this] { return ReportEnds(); });
  UpdateWatch();
  return absl::OkStatus();
}

void ForkPerConnection::UpdateWatch() {
  const bool wanted = accepting_ && HasRoom() && waiting_.empty() && !paused_;
  if (wanted == std::exchange(watching_, wanted)) return;
  if (wanted) {
    loop_->Watch(listener_.fd(), [this] { return AcceptClients(); });
  } else {
    loop_->Unwatch(listener_.fd());
  }
}

absl::Status ForkPerConnection::AcceptClients() {
  for (int i = 0; i < kAcceptBatch && HasRoom() && waiting_.empty(); ++i) {
    absl::StatusOr<std::optional<Accepted>> client = listener_.Accept();
    if (!client.ok()) {
      Pause(client.status());
      break;
    }
    if (!client->has_value()) {
      Tell(absl::OkStatus());
      break;
    }
    waiting_.push_back(**std::move(client));
    StartWaiting();
  }
  UpdateWatch();
  return absl::OkStatus();
}

void ForkPerConnection::StartWaiting() {
  while (!waiting_.empty() && HasRoom() && !paused_) {
    // Out of the queue first: whoever observes its end counts who is left.
    Accepted client = std::move(waiting_.front());
    waiting_.pop_front();
    if (absl::Status status = StartOne(client); !status.ok()) {
      waiting_.push_front(std::move(client));
      Pause(status);
      return;
    }
  }
}

absl::Status ForkPerConnection::StartOne(Accepted& client) {
  const ConnectionInfo info = {listener_.address(), client.peer};
  const absl::Duration begin = MonotonicNow();
  const int connection = client.stream.fd();
  absl::StatusOr<Child> child =
      Fork({.exit_signal = reaper_.exit_signal(),
            .parent_death_signal = SIGKILL,
            .new_process_group = true,
            .keep_fds = absl::MakeConstSpan(&connection, 1)},
           [&] { return handler_.Handle(client.stream, info); });
  if (!child.ok()) return child.status();
  const pid_t pid = child->pid();
  const uint64_t tag = next_tag_++;
  if (!reaper_.Add(*std::move(child), tag).ok()) {
    // It may have begun, so its client cannot be given to another process: this
    // one ends here, by SIGKILL, and is accounted for like any other.
    (void)child->Signal(SIGKILL);
    const absl::StatusOr<ExitStatus> status = child->Wait();
    observer_({pid, client.peer, status.value_or(ExitStatus::Lost()),
               MonotonicNow() - begin});
    return absl::OkStatus();
  }
  live_.emplace(tag, Live{client.peer, begin});
  return absl::OkStatus();
}

absl::Status ForkPerConnection::ReportEnds() {
  while (true) {
    absl::StatusOr<std::optional<Reaper::Exit>> exit = reaper_.Next();
    if (!exit.ok()) return exit.status();
    if (!exit->has_value()) break;
    auto it = live_.find((*exit)->tag);
    const ConnectionEnd end = {(*exit)->pid, it->second.peer, (*exit)->status,
                               MonotonicNow() - it->second.begin};
    live_.erase(it);
    observer_(end);
    paused_ = false;
  }
  Resume();
  return absl::OkStatus();
}

void ForkPerConnection::Pause(const absl::Status& why) {
  Tell(why);
  if (std::exchange(paused_, true)) return;
  // A timer of an earlier pause, which an exit cut short, must not end this
  // one.
  loop_->CallAfter(kPause, [this, pause = ++pause_count_] {
    if (paused_ && pause == pause_count_) {
      paused_ = false;
      Resume();
    }
    return absl::OkStatus();
  });
}

void ForkPerConnection::Resume() {
  StartWaiting();
  UpdateWatch();
  // The trouble is over when nobody waits any more, neither here nor in the
  // kernel's queue, and only asking tells.
  if (in_trouble_ && watching_) (void)AcceptClients();
}

void ForkPerConnection::StopAccepting() {
  if (!std::exchange(accepting_, false)) return;
  UpdateWatch();
  // Who waits in the kernel's queue believes to be connected; closing the
  // listener would reset them all.
  while (true) {
    absl::StatusOr<std::optional<Accepted>> client = listener_.Accept();
    if (!client.ok() || !client->has_value()) break;
    waiting_.push_back(**std::move(client));
  }
  (void)listener_.Close();
  StartWaiting();
}

void ForkPerConnection::SignalHandlers(int signo) {
  waiting_.clear();
  (void)reaper_.SignalAll(signo);
}

}  // namespace brood
