// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/reaper.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_queue.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/posix.h"
#include "brood/proc/process_table.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

// How long the destructor waits for those it has killed.
constexpr absl::Duration kTimeToDie = absl::Milliseconds(100);
// How often to look after children whose end may go unannounced, and after
// those whose end will.
constexpr absl::Duration kAnnounced = absl::Seconds(1);
constexpr absl::Duration kSilent = absl::Milliseconds(10);
// How many at a time. To ask after a process that is in no cache takes
// microseconds, and nobody is to wait for hundreds of those: while there are
// more, they are looked after in parts, 512 in a second.
constexpr size_t kLooksAtATime = 512;
constexpr size_t kAnnouncedAtATime = 32;
constexpr absl::Duration kNextPart = absl::Microseconds(62'500);

// What epoll says of a descriptor: whose it is, a child's or one of these.
constexpr pid_t kQueue = 0;
constexpr pid_t kTimer = -1;

epoll_event EventFor(pid_t whose) {
  return {.events = EPOLLIN, .data = {.u64 = static_cast<uint32_t>(whose)}};
}

absl::Status WatchWith(const UniqueFd& epoll, int fd, pid_t whose) {
  epoll_event event = EventFor(whose);
  if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) == -1) {
    return ErrnoStatus(errno, absl::StrCat("watch descriptor ", fd));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Reaper> Reaper::Create() {
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return ErrnoStatus(errno, "epoll_create1");
  return Reaper(std::move(epoll), std::nullopt);
}

absl::StatusOr<Reaper> Reaper::Create(ExitQueue queue) {
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return ErrnoStatus(errno, "epoll_create1");
  if (absl::Status s = WatchWith(epoll, queue.fd(), kQueue); !s.ok()) return s;
  Reaper reaper(std::move(epoll), std::move(queue));
  // It will be needed, and there may be no descriptor then.
  if (absl::Status s = reaper.MakeTimer(); !s.ok()) return s;
  return reaper;
}

Reaper::Reaper(UniqueFd epoll, std::optional<ExitQueue> queue)
    : epoll_(std::move(epoll)),
      queue_(std::move(queue)),
      owner_(getpid()),
      children_(MakeChildren(queue_.has_value())) {}

Reaper::ChildrenPtr Reaper::MakeChildren(bool unforked) {
  Allocator<Children> allocator(unforked);
  Children* const children = allocator.allocate(1);
  return ChildrenPtr(new (children)
                         Children(Children::allocator_type(allocator)));
}

void Reaper::Free::operator()(Children* children) const {
  Allocator<Children> allocator(children->get_allocator());
  children->~Children();
  allocator.deallocate(children, 1);
}

bool Reaper::IsForkedCopy() const { return owner_ != getpid(); }

Reaper::Reaper(Reaper&& other) noexcept
    : epoll_(std::move(other.epoll_)),
      queue_(std::exchange(other.queue_, std::nullopt)),
      timer_(std::move(other.timer_)),
      timer_set_to_(std::exchange(other.timer_set_to_, kNever)),
      next_look_(std::exchange(other.next_look_, kNever)),
      owner_(other.owner_),
      children_(
          std::exchange(other.children_, MakeChildren(queue_.has_value()))),
      ended_(std::exchange(other.ended_, {})),
      without_pidfd_(std::exchange(other.without_pidfd_, 0)),
      silent_(std::exchange(other.silent_, 0)),
      to_look_after_(std::exchange(other.to_look_after_, {})),
      look_after_all_(std::exchange(other.look_after_all_, false)),
      unclaimed_(other.unclaimed_),
      found_(std::exchange(other.found_, {})) {}

Reaper& Reaper::operator=(Reaper&& other) noexcept {
  if (this == &other) return *this;
  std::destroy_at(this);
  return *std::construct_at(this, std::move(other));
}

Reaper::~Reaper() {
  if (IsForkedCopy()) {
    // Where the table was there is nothing; so nobody may take it apart.
    if (queue_.has_value()) (void)children_.release();
    return;
  }
  // All at once, so that they die side by side and not one after another, and
  // within one time for all.
  (void)SignalAll(SIGKILL);
  const absl::Time deadline = absl::Now() + kTimeToDie;
  for (auto& [pid, entry] : *children_) std::move(entry.child).Drop(deadline);
}

std::optional<int> Reaper::exit_signal() const {
  if (!queue_.has_value()) return std::nullopt;
  return queue_->signo();
}

absl::Status Reaper::Add(Child&& child, uint64_t tag) {
  const int pidfd = child.fd();
  if (pidfd == -1) return AddWithoutPidfd(std::move(child), tag);
  // It may be somebody else's, or nobody's any more.
  if (absl::Status s = child.HasEnded().status(); !s.ok()) return s;
  const pid_t pid = child.pid();
  if (absl::Status s = GiveWay(pid); !s.ok()) return s;
  if (absl::Status s = WatchWith(epoll_, pidfd, pid); !s.ok()) return s;
  children_->emplace(pid, Entry{std::move(child), tag});
  return SetTimer();
}

// A new child has the pid of one that is still here: somebody else has reaped
// that one, and the kernel has handed out its number again.
absl::Status Reaper::GiveWay(pid_t pid) {
  const auto it = children_->find(pid);
  if (it == children_->end()) return absl::OkStatus();
  Child& child = it->second.child;
  ExitStatus status = ExitStatus::Lost();
  if (child.fd() == -1) {
    (void)std::move(child).Release();
  } else {
    const absl::StatusOr<std::optional<ExitStatus>> told = child.TryWait();
    if (!told.ok()) return told.status();
    if (!told->has_value()) {
      return absl::AlreadyExistsError(
          absl::StrCat("add child ", pid, ": it has been added already"));
    }
    status = **told;
  }
  found_.push_back({pid, it->second.tag, status});
  Forget(it);
  return absl::OkStatus();
}

void Reaper::Forget(Children::iterator it) {
  CountOut(it->second);
  if (const int pidfd = it->second.child.fd(); pidfd != -1) {
    // Closing alone would not do: a forked sibling may hold a copy of the
    // pidfd, and epoll forgets a descriptor only when its last copy is closed.
    (void)epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, pidfd, nullptr);
  }
  children_->erase(it);
}

void Reaper::CountOut(Entry& entry) {
  if (!std::exchange(entry.without_pidfd, false)) return;
  --without_pidfd_;
  silent_ -= Announces(entry.child) ? 0 : 1;
}

bool Reaper::Announces(const Child& child) const {
  return queue_.has_value() && child.exit_signal() == queue_->signo();
}

absl::Status Reaper::AddWithoutPidfd(Child&& child, uint64_t tag) {
  if (absl::Status s = MakeTimer(); !s.ok()) return s;
  const pid_t pid = child.pid();
  const bool silent = !Announces(child);
  // Its announcement may have come before its Add(), and gone; if so, one that
  // nobody here was meant by has come since the child was made.
  if (silent || child.made() <= unclaimed_ || !child.OwesWait()) {
    const absl::StatusOr<std::optional<ExitStatus>> status = child.TryWait();
    if (!status.ok()) return status.status();
    if (status->has_value()) {
      found_.push_back({pid, tag, **status});
      return SetTimer();
    }
    if (child.fd() != -1) return Add(std::move(child), tag);  // By now it has.
  }
  if (absl::Status s = GiveWay(pid); !s.ok()) return s;
  if (without_pidfd_ == 0 || (silent && silent_ == 0)) {
    const absl::Duration soon = silent ? kSilent : kAnnounced;
    next_look_ = std::min(next_look_, MonotonicNow() + soon);
  }
  children_->emplace(pid, Entry{std::move(child), tag, /*without_pidfd=*/true});
  ++without_pidfd_;
  silent_ += silent ? 1 : 0;
  return SetTimer();
}

// A child that has become another program has been given a pidfd to be known
// by, in the last call of its own.
absl::Status Reaper::NoticePidfd(Entry& entry) {
  const int pidfd = entry.child.fd();
  if (pidfd == -1 || !entry.without_pidfd) return absl::OkStatus();
  if (absl::Status s = WatchWith(epoll_, pidfd, entry.child.pid()); !s.ok()) {
    return s;
  }
  CountOut(entry);
  return absl::OkStatus();
}

absl::Status Reaper::SignalGroup(pid_t pid, int signo) {
  const auto it = children_->find(pid);
  if (it == children_->end()) {
    return ErrnoStatus(ESRCH, absl::StrCat("signal process group ", pid));
  }
  const absl::Status status = it->second.child.SignalGroup(signo);
  if (absl::Status s = NoticePidfd(it->second); !s.ok()) return s;
  return status;
}

void Reaper::KillGroupAtEnd(pid_t pid) {
  const auto it = children_->find(pid);
  if (it != children_->end()) it->second.kill_group_at_end = true;
}

void Reaper::SetTag(pid_t pid, uint64_t tag) {
  const auto it = children_->find(pid);
  if (it != children_->end()) {
    it->second.tag = tag;
    return;
  }
  // It has ended, and is yet to be reported.
  const auto found = std::ranges::find(found_, pid, &Exit::pid);
  if (found != found_.end()) found->tag = tag;
}

absl::StatusOr<std::optional<Reaper::Exit>> Reaper::LookAfter(
    Children::iterator it) {
  Child& child = it->second.child;
  if (it->second.kill_group_at_end && child.HasEnded().value_or(false)) {
    (void)child.SignalGroup(SIGKILL);
  }
  const absl::StatusOr<std::optional<ExitStatus>> status = child.TryWait();
  if (!status.ok()) return status.status();
  if (absl::Status s = NoticePidfd(it->second); !s.ok()) return s;
  if (!status->has_value()) return std::nullopt;
  const Exit exit = {child.pid(), it->second.tag, **status};
  Forget(it);
  return exit;
}

absl::Status Reaper::LookAfterSome(size_t most) {
  if (to_look_after_.empty()) {
    for (const auto& [pid, entry] : *children_) {
      if (entry.without_pidfd) to_look_after_.push_back(pid);
    }
  }
  for (; most > 0 && !to_look_after_.empty(); --most) {
    const auto it = children_->find(to_look_after_.back());
    to_look_after_.pop_back();
    if (it == children_->end() || !it->second.without_pidfd) continue;
    const absl::StatusOr<std::optional<Exit>> exit = LookAfter(it);
    if (!exit.ok()) return exit.status();
    if (exit->has_value()) found_.push_back(**exit);
  }
  return absl::OkStatus();
}

absl::Status Reaper::MakeTimer() {
  if (timer_.valid()) return absl::OkStatus();
  UniqueFd timer(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer.valid()) return ErrnoStatus(errno, "timerfd_create");
  if (absl::Status s = WatchWith(epoll_, timer.get(), kTimer); !s.ok()) {
    return s;
  }
  timer_ = std::move(timer);
  return absl::OkStatus();
}

// At once while somebody is found and not reported, which keeps fd() readable;
// else when it is time to look. That time is never put off.
absl::Status Reaper::SetTimer() {
  const absl::Duration when =
      found_.empty() && !look_after_all_ ? next_look_ : absl::ZeroDuration();
  if (when == timer_set_to_) return absl::OkStatus();
  if (absl::Status s = MakeTimer(); !s.ok()) return s;
  itimerspec spec = {};  // Disarmed.
  if (when != absl::InfiniteDuration()) {
    // A zero would disarm it, too; what is past is at once.
    spec.it_value = absl::ToTimespec(std::max(when, absl::Nanoseconds(1)));
  }
  if (timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &spec, nullptr) == -1) {
    return ErrnoStatus(errno, "timerfd_settime");
  }
  timer_set_to_ = when;
  return absl::OkStatus();
}

absl::StatusOr<std::optional<Reaper::Exit>> Reaper::Next() {
  (void)ReapDropped();
  if (!found_.empty()) return NextFound();
  // A storm in one place must not hide what ends in the other.
  constexpr int kTurns = 64;
  const bool pidfds_first = !queue_.has_value() || ++turn_ % kTurns == 0;
  absl::StatusOr<std::optional<Exit>> exit =
      pidfds_first ? NextByPidfd() : NextQueued();
  if (!queue_.has_value() || !exit.ok() || exit->has_value()) return exit;
  return pidfds_first ? NextQueued() : NextByPidfd();
}

absl::StatusOr<std::optional<Reaper::Exit>> Reaper::NextFound() {
  if (found_.empty()) return std::nullopt;
  const Exit exit = found_.back();
  found_.pop_back();
  if (absl::Status s = SetTimer(); !s.ok()) return s;
  return exit;
}

absl::StatusOr<std::optional<Reaper::Exit>> Reaper::NextQueued() {
  while (true) {
    const std::optional<pid_t> pid = queue_->Next();
    if (queue_->MayHaveLost()) {
      look_after_all_ = true;
      unclaimed_ = SinceBoot();
    }
    if (!pid.has_value()) break;
    const auto it = children_->find(*pid);
    if (it == children_->end()) {
      unclaimed_ = SinceBoot();
      continue;
    }
    absl::StatusOr<std::optional<Exit>> exit = LookAfter(it);
    if (!exit.ok()) return exit;
    if (absl::Status s = SetTimer(); !s.ok()) return s;
    if (exit->has_value()) return exit;
  }
  if (absl::Status s = SetTimer(); !s.ok()) return s;
  return std::nullopt;
}

absl::StatusOr<std::optional<Reaper::Exit>> Reaper::NextByPidfd() {
  constexpr int kBatch = 16;
  // Without a pidfd among them, only the timer is left to hear.
  if (without_pidfd_ == children_->size() && MonotonicNow() < timer_set_to_) {
    return std::nullopt;
  }
  if (ended_.empty()) {
    std::array<epoll_event, kBatch> events;
    const int n = RetryOnEintr(
        [&] { return epoll_wait(epoll_.get(), events.data(), kBatch, 0); });
    if (n == -1) return ErrnoStatus(errno, "epoll_wait for children");
    for (int i = 0; i < n; ++i) {
      const pid_t pid = static_cast<pid_t>(events[i].data.u64);
      if (pid == kTimer) {
        if (absl::Status s = TimeToLook(); !s.ok()) return s;
      } else if (pid != kQueue) {
        ended_.push_back(pid);
      }
    }
  }
  while (!ended_.empty()) {
    const auto it = children_->find(ended_.back());
    ended_.pop_back();
    if (it == children_->end()) continue;
    absl::StatusOr<std::optional<Exit>> exit = LookAfter(it);
    if (!exit.ok() || exit->has_value()) return exit;
    Hold(it->second);
  }
  return NextFound();
}

// Dead, and yet not to be had: a tracer holds it. Its pidfd stays readable, and
// would keep the caller's loop turning. When the tracer lets go, the kernel
// wakes the pidfd once more, and from an edge on that is all we hear.
void Reaper::Hold(Entry& entry) {
  const int pidfd = entry.child.fd();
  if (pidfd == -1 || std::exchange(entry.held, true)) return;
  epoll_event event = EventFor(entry.child.pid());
  event.events |= EPOLLET;
  (void)epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, pidfd, &event);
}

absl::Status Reaper::TimeToLook() {
  if (std::exchange(look_after_all_, false)) {
    to_look_after_.clear();
    if (absl::Status s = LookAfterSome(children_->size()); !s.ok()) return s;
  } else if (MonotonicNow() >= next_look_) {
    const size_t most = silent_ > 0 ? kLooksAtATime : kAnnouncedAtATime;
    if (absl::Status s = LookAfterSome(most); !s.ok()) return s;
    const absl::Duration pause =
        to_look_after_.empty() ? kAnnounced : kNextPart;
    next_look_ = MonotonicNow() + (silent_ > 0 ? kSilent : pause);
  }
  if (without_pidfd_ == 0) next_look_ = absl::InfiniteDuration();
  return SetTimer();
}

absl::Status Reaper::SignalAll(int signo) {
  absl::Status first;
  for (auto& [pid, entry] : *children_) {
    absl::Status status = entry.child.Signal(signo);
    if (ErrnoOf(status) != ESRCH) first.Update(status);
    first.Update(NoticePidfd(entry));
  }
  return first;
}

}  // namespace brood
