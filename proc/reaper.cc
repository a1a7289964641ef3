// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/reaper.h"

#include <sys/epoll.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"

namespace brood {

absl::StatusOr<Reaper> Reaper::Create() {
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return ErrnoStatus(errno, "epoll_create1");
  return Reaper(std::move(epoll));
}

Reaper::Reaper(Reaper&& other) noexcept
    : epoll_(std::move(other.epoll_)),
      children_(std::exchange(other.children_, {})),
      ended_(std::exchange(other.ended_, {})) {}

Reaper& Reaper::operator=(Reaper&& other) noexcept {
  // What this one had goes with `former`, as in the destructor.
  Reaper former(std::move(other));
  std::swap(epoll_, former.epoll_);
  std::swap(children_, former.children_);
  std::swap(ended_, former.ended_);
  return *this;
}

Reaper::~Reaper() {
  // All at once, so that they die side by side and not one after another as
  // their destructors run.
  (void)SignalAll(SIGKILL);
}

absl::Status Reaper::Add(Child&& child, uint64_t tag) {
  const int pidfd = child.fd();
  epoll_event event = {.events = EPOLLIN, .data = {.fd = pidfd}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, pidfd, &event) == -1) {
    return ErrnoStatus(errno, absl::StrCat("watch child ", child.pid()));
  }
  children_.emplace(pidfd, Entry{std::move(child), tag});
  return absl::OkStatus();
}

absl::StatusOr<std::optional<Reaper::Exit>> Reaper::Next() {
  constexpr int kBatch = 64;
  if (ended_.empty()) {
    std::array<epoll_event, kBatch> events;
    const int n = RetryOnEintr(
        [&] { return epoll_wait(epoll_.get(), events.data(), kBatch, 0); });
    if (n == -1) return ErrnoStatus(errno, "epoll_wait for children");
    for (int i = 0; i < n; ++i) ended_.push_back(events[i].data.fd);
  }
  while (!ended_.empty()) {
    const int pidfd = ended_.back();
    ended_.pop_back();
    const auto it = children_.find(pidfd);
    if (it == children_.end()) continue;
    Child& child = it->second.child;
    absl::StatusOr<std::optional<ExitStatus>> status = child.TryWait();
    if (!status.ok()) return status.status();
    // A tracer may still hold a child that is dead to everyone else.
    if (!status->has_value()) continue;
    Exit exit = {child.pid(), it->second.tag, **status};
    // Closing alone would not do: a forked sibling may hold a copy of the
    // pidfd, and epoll forgets a descriptor only when its last copy is closed.
    (void)epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, pidfd, nullptr);
    children_.erase(it);
    return exit;
  }
  return std::nullopt;
}

absl::Status Reaper::SignalAll(int signo) {
  absl::Status first;
  for (auto& [pidfd, entry] : children_) {
    absl::Status status = entry.child.Signal(signo);
    if (ErrnoOf(status) != ESRCH) first.Update(status);
  }
  return first;
}

}  // namespace brood
