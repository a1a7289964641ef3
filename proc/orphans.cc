// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/orphans.h"

#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/posix.h"
#include "brood/proc/process_table.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

// What epoll says of the timer; no pid is 0.
constexpr uint64_t kTimer = 0;

// A process in a new pid namespace that still sees its parent's /proc would
// find the children's pids of another namespace, and wait for strangers.
absl::Status CheckProc() {
  std::array<char, 32> target;
  const ssize_t length = readlink("/proc/self", target.data(), target.size());
  if (length == -1) {
    return absl::FailedPreconditionError(
        absl::StrCat("orphans are found through /proc: ",
                     ErrnoStatus(errno, "readlink /proc/self").message()));
  }
  const std::string_view pid(target.data(), static_cast<size_t>(length));
  if (pid != absl::StrCat(getpid())) {
    return absl::FailedPreconditionError(absl::StrCat(
        "orphans are found through /proc, and the one mounted here is that of "
        "another pid namespace: it calls this process ",
        pid, " and not ", getpid()));
  }
  return absl::OkStatus();
}

bool IsSubreaper() {
  int is = 0;
  return prctl(PR_GET_CHILD_SUBREAPER, &is, 0, 0, 0) == 0 && is != 0;
}

}  // namespace

absl::StatusOr<Orphans> Orphans::Receive(IsMine is_mine,
                                         absl::Duration interval) {
  if (is_mine == nullptr) {
    return absl::InvalidArgumentError(
        "receive orphans: is_mine must be a function that can be called");
  }
  if (interval <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("look for orphans every ", absl::FormatDuration(interval),
                     ": an interval is positive"));
  }
  if (absl::Status proc = CheckProc(); !proc.ok()) return proc;
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return ErrnoStatus(errno, "epoll_create1");
  UniqueFd timer(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer.valid()) return ErrnoStatus(errno, "timerfd_create");
  epoll_event event = {.events = EPOLLIN, .data = {.u64 = kTimer}};
  if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, timer.get(), &event) == -1) {
    return ErrnoStatus(errno, "watch the timer of orphans");
  }
  Orphans orphans(std::move(is_mine), interval, std::move(epoll),
                  std::move(timer));
  // At once, for there may be some already: exec keeps the children of the
  // program before.
  constexpr absl::Duration kNow = absl::Nanoseconds(1);
  if (absl::Status set = orphans.SetTimer(kNow); !set.ok()) return set;
  if (getpid() != 1 && !IsSubreaper()) {
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == -1) {
      return ErrnoStatus(errno, "become a subreaper");
    }
    orphans.made_subreaper_ = true;
  }
  return orphans;
}

Orphans::Orphans(IsMine is_mine, absl::Duration interval, UniqueFd epoll,
                 UniqueFd timer)
    : is_mine_(std::move(is_mine)),
      interval_(interval),
      owner_(getpid()),
      epoll_(std::move(epoll)),
      timer_(std::move(timer)) {}

Orphans::Orphans(Orphans&& other) noexcept
    : is_mine_(std::move(other.is_mine_)),
      interval_(other.interval_),
      owner_(other.owner_),
      made_subreaper_(std::exchange(other.made_subreaper_, false)),
      epoll_(std::move(other.epoll_)),
      timer_(std::move(other.timer_)),
      living_(std::exchange(other.living_, {})),
      ended_(std::exchange(other.ended_, {})),
      found_(std::exchange(other.found_, {})) {}

Orphans& Orphans::operator=(Orphans&& other) noexcept {
  if (this == &other) return *this;
  // Both have made this process a subreaper, or found it one: it stays one if
  // either is to undo that.
  const bool made_subreaper = made_subreaper_ || other.made_subreaper_;
  made_subreaper_ = false;
  LetGo();
  is_mine_ = std::move(other.is_mine_);
  interval_ = other.interval_;
  owner_ = other.owner_;
  made_subreaper_ = made_subreaper;
  other.made_subreaper_ = false;
  epoll_ = std::move(other.epoll_);
  timer_ = std::move(other.timer_);
  living_ = std::exchange(other.living_, {});
  ended_ = std::exchange(other.ended_, {});
  found_ = std::exchange(other.found_, {});
  return *this;
}

Orphans::~Orphans() { LetGo(); }

void Orphans::LetGo() {
  if (made_subreaper_ && owner_ == getpid()) {
    (void)prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
  }
  // A Child would kill; these were never started by us.
  for (auto& [pid, child] : living_) (void)std::move(child).Release();
  living_.clear();
}

absl::Status Orphans::CheckOwner() const {
  if (owner_ == getpid()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "orphans belong to the process that forked this one");
}

absl::Status Orphans::SetTimer(absl::Duration first) {
  itimerspec spec = {};
  if (first != absl::InfiniteDuration()) {
    spec.it_value = absl::ToTimespec(first);
  }
  if (interval_ != absl::InfiniteDuration()) {
    spec.it_interval = absl::ToTimespec(interval_);
  }
  if (timerfd_settime(timer_.get(), 0, &spec, nullptr) == 0) {
    return absl::OkStatus();
  }
  return ErrnoStatus(errno, "set the timer of orphans");
}

absl::Status Orphans::Scan() {
  if (absl::Status owner = CheckOwner(); !owner.ok()) return owner;
  // Ours, though no Reaper and no Child knows them any more.
  (void)ReapDropped();
  absl::StatusOr<std::vector<pid_t>> children =
      ProcessTable().ChildrenOf(owner_);
  if (!children.ok()) return children.status();
  for (const pid_t pid : *children) {
    if (living_.contains(pid) || is_mine_(pid)) continue;
    if (absl::Status look = LookAt(pid); !look.ok()) return look;
  }
  // Those found have no descriptor that would be readable; the timer's is.
  return found_.empty() ? absl::OkStatus() : SetTimer(absl::Nanoseconds(1));
}

absl::Status Orphans::LookAt(pid_t pid) {
  // Without __WALL on purpose: such a wait does not see a child whose exit
  // signal is not SIGCHLD, and the kernel gives every orphan SIGCHLD as it
  // hands it down. By number, for a child that nobody else waits for keeps it;
  // an orphan that has ended by now, and most have, needs no descriptor at all.
  siginfo_t info = {};
  struct rusage usage = {};
  const int result = RetryOnEintr([&] {
    return static_cast<int>(
        syscall(SYS_waitid, P_PID, pid, &info, WEXITED | WNOHANG, &usage));
  });
  if (result == -1) {
    if (errno == ECHILD) return absl::OkStatus();
    return ErrnoStatus(errno, absl::StrCat("waitid orphan ", pid));
  }
  if (info.si_pid == 0) {
    Watch(pid);
    return absl::OkStatus();
  }
  found_.push_back({pid, ExitStatus::FromSiginfo(info)});
  found_.back().status.set_usage(ResourceUsage::FromRusage(usage));
  return absl::OkStatus();
}

// Failing does no harm: the next scan looks again.
void Orphans::Watch(pid_t pid) {
  absl::StatusOr<Child> child = Child::Adopt(pid);
  if (!child.ok()) return;
  epoll_event event = {.events = EPOLLIN,
                       .data = {.u64 = static_cast<uint64_t>(pid)}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, child->fd(), &event) == -1) {
    (void)(*std::move(child)).Release();
    return;
  }
  living_.emplace(pid, *std::move(child));
}

std::optional<Orphans::Exit> Orphans::TakeFound() {
  if (found_.empty()) return std::nullopt;
  const Exit exit = found_.back();
  found_.pop_back();
  return exit;
}

absl::StatusOr<std::optional<Orphans::Exit>> Orphans::Next() {
  if (absl::Status owner = CheckOwner(); !owner.ok()) return owner;
  if (std::optional<Exit> exit = TakeFound()) return exit;
  constexpr int kBatch = 64;
  if (ended_.empty()) {
    std::array<epoll_event, kBatch> events;
    const int n = RetryOnEintr(
        [&] { return epoll_wait(epoll_.get(), events.data(), kBatch, 0); });
    if (n == -1) return ErrnoStatus(errno, "epoll_wait for orphans");
    bool scan = false;
    for (int i = 0; i < n; ++i) {
      if (events[i].data.u64 == kTimer) {
        scan = true;
      } else {
        ended_.push_back(static_cast<pid_t>(events[i].data.u64));
      }
    }
    if (scan) {
      // Before the scan, which may set it.
      uint64_t times;
      (void)RetryOnEintr(
          [&] { return read(timer_.get(), &times, sizeof times); });
      if (absl::Status status = Scan(); !status.ok()) return status;
      if (std::optional<Exit> exit = TakeFound()) return exit;
    }
  }
  while (!ended_.empty()) {
    const pid_t pid = ended_.back();
    ended_.pop_back();
    const auto it = living_.find(pid);
    if (it == living_.end()) continue;
    Child& child = it->second;
    absl::StatusOr<std::optional<ExitStatus>> status = child.TryWait();
    if (!status.ok()) return status.status();
    // Closing alone would not do: a forked sibling may hold a copy of the
    // pidfd, and epoll forgets a descriptor only when its last copy is closed.
    (void)epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, child.fd(), nullptr);
    // A tracer may still hold one that is dead to everyone else. Its pidfd
    // would be readable all the while, so it is left to the next scan.
    if (!status->has_value()) (void)std::move(child).Release();
    living_.erase(it);
    if (status->has_value()) return Exit{pid, **status};
  }
  return std::nullopt;
}

absl::Status Orphans::SignalAll(int signo) {
  if (absl::Status owner = CheckOwner(); !owner.ok()) return owner;
  absl::Status first;
  for (auto& [pid, child] : living_) {
    absl::Status status = child.Signal(signo);
    if (ErrnoOf(status) != ESRCH) first.Update(status);
  }
  return first;
}

}  // namespace brood
