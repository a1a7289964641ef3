// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/families.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/proc/limits.h"
#include "brood/proc/pidfd.h"
#include "brood/proc/posix.h"
#include "brood/proc/process_table.h"
#include "brood/proc/unique_fd.h"

// Why a resource limit. What is to tell a program's daemon from everybody
// else's has to stay with it through fork, exec, setsid and the death of its
// parents, without a privilege and without a process for each program. Sessions
// and groups are left at will, and are what one leaves first. The environment
// that /proc shows may be emptied, and is where some daemons write their title.
// A cgroup needs a privilege. To make each program the subreaper of its own
// would keep its family below it, but hand it children that it never had, and
// that it would not reap. A limit that no kernel heeds is changed by nobody.
//
// Why a subreaper all the same. While the one who began a family lives, it can
// be gone through from there; once it has ended, every process of the family
// has living ancestors up to one that is a child of this process. So the family
// is at an end exactly when none of its members is a child of this process;
// that is one list, and those in it are children that nobody else reaps, whose
// pids are their own. Without, it would be all processes of the machine.
//
// Why those who flee cannot get far. A signal that is pending when fork(2)
// would make its child known makes it begin anew, and SIGKILL leaves nothing to
// begin: after it was sent nobody has another child. So each member is killed
// first, and its children are listed then: they are all it will ever have.
// Those it leaves by dying meanwhile are this process's by then, and found by
// the next look. SIGSTOP first would add nothing to that, and whoever is
// stopped can be woken: by a sibling, or by the kernel as its group becomes an
// orphan.
namespace brood {
namespace {

constexpr auto kResource = static_cast<__rlimit_resource>(RLIMIT_LOCKS);
constexpr int kNumberBits = 41;
static_assert(Families::kMostNumber == (uint64_t{1} << kNumberBits) - 1);

// How often to look for those who have ended, and how long at least between two
// looks beside many children: one part in so many of the time goes there.
constexpr absl::Duration kInterval = absl::Seconds(1);
constexpr int kPart = 200;
// How soon to look whether those who were killed have died.
constexpr absl::Duration kFirstPause = absl::Milliseconds(1);
constexpr absl::Duration kLongestPause = absl::Milliseconds(100);
// For how long to look again and again while there is news.
constexpr absl::Duration kTurn = absl::Milliseconds(2);
constexpr absl::Duration kPatience = absl::Seconds(2);

absl::Status CheckProc() {
  std::array<char, 32> target;
  const ssize_t length = readlink("/proc/self", target.data(), target.size());
  if (length != -1 &&
      std::string_view(target.data(), static_cast<size_t>(length)) ==
          absl::StrCat(getpid())) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      "families are found through /proc, which is not mounted here or is that "
      "of another pid namespace");
}

bool IsSubreaper() {
  int is = 0;
  return prctl(PR_GET_CHILD_SUBREAPER, &is, 0, 0, 0) == 0 && is != 0;
}

// The soft limit from /proc/PID/limits, which everybody may read.
std::optional<rlim_t> ReadMark(pid_t pid) {
  constexpr std::string_view kLine = "\nMax file locks ";
  const UniqueFd file(open(absl::StrCat("/proc/", pid, "/limits").c_str(),
                           O_RDONLY | O_CLOEXEC));
  std::array<char, 4096> buffer;
  const ssize_t got = RetryOnEintr(
      [&] { return read(file.get(), buffer.data(), buffer.size()); });
  if (got <= 0) return std::nullopt;
  std::string_view text(buffer.data(), static_cast<size_t>(got));
  const size_t line = text.find(kLine);
  if (line == text.npos) return std::nullopt;
  text = absl::StripLeadingAsciiWhitespace(text.substr(line + kLine.size()));
  rlim_t mark;
  if (!absl::SimpleAtoi(text.substr(0, text.find(' ')), &mark)) {
    return std::nullopt;
  }
  return mark;
}

std::optional<rlim_t> MarkOn(pid_t pid) {
  rlimit limit;
  if (prlimit(pid, kResource, nullptr, &limit) == 0) return limit.rlim_cur;
  // A program that gains privileges as it is executed can be killed by who has
  // started it, but not be asked so.
  return errno == EPERM ? ReadMark(pid) : std::nullopt;
}

}  // namespace

absl::StatusOr<Families> Families::Receive(IsMine is_mine, Reaps reaps) {
  if (is_mine == nullptr) {
    return absl::InvalidArgumentError(
        "receive families: is_mine must be a function that can be called");
  }
  if (absl::Status proc = CheckProc(); !proc.ok()) return proc;
  const absl::StatusOr<Limit> limit = CurrentLimit(RLIMIT_LOCKS);
  if (!limit.ok()) return limit.status();
  UniqueFd timer(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer.valid()) return ErrnoStatus(errno, "timerfd_create");
  Families families(std::move(is_mine), reaps, limit->hard, std::move(timer));
  if (families.MarkOf(kMostNumber).soft > limit->hard) {
    return absl::FailedPreconditionError(
        absl::StrCat("the mark of a family is a soft limit of ",
                     NameOfResource(RLIMIT_LOCKS),
                     ", and the hard one is only ", limit->hard));
  }
  if (getpid() != 1 && !IsSubreaper()) {
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == -1) {
      return ErrnoStatus(errno, "become a subreaper");
    }
    families.made_subreaper_ = true;
  }
  families.WakeIn(kInterval);
  return families;
}

Families::Families(IsMine is_mine, Reaps reaps, rlim_t hard, UniqueFd timer)
    : is_mine_(std::move(is_mine)),
      reaps_(reaps),
      hard_(hard),
      owner_(getpid()),
      timer_(std::move(timer)),
      pause_(kFirstPause) {}

Families::Families(Families&& other) noexcept
    : is_mine_(std::move(other.is_mine_)),
      reaps_(other.reaps_),
      hard_(other.hard_),
      owner_(other.owner_),
      made_subreaper_(std::exchange(other.made_subreaper_, false)),
      timer_(std::move(other.timer_)),
      due_(other.due_),
      pause_(other.pause_),
      asked_(std::move(other.asked_)),
      ending_(std::move(other.ending_)) {}

Families::~Families() {
  if (made_subreaper_ && owner_ == getpid()) {
    (void)prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
  }
}

// Whoever may become a child of this process descends from it, and so does
// whoever gave it its mark; while this process lives none of those has its pid.
Limit Families::MarkOf(uint64_t number) const {
  return {.resource = RLIMIT_LOCKS,
          .soft = (static_cast<rlim_t>(owner_) << kNumberBits) |
                  (number & kMostNumber),
          .hard = hard_};
}

std::optional<uint64_t> Families::NumberOf(pid_t pid) const {
  const std::optional<rlim_t> mark = MarkOn(pid);
  if (!mark.has_value() ||
      *mark >> kNumberBits != static_cast<rlim_t>(owner_)) {
    return std::nullopt;
  }
  return *mark & kMostNumber;
}

void Families::Ask(uint64_t number, pid_t leader) {
  asked_[number & kMostNumber] = leader;
  WakeIn(absl::ZeroDuration());
}

void Families::End(uint64_t number) {
  ending_.emplace(number & kMostNumber, MonotonicNow());
  pause_ = kFirstPause;
  WakeIn(absl::ZeroDuration());
}

size_t Families::ending() const {
  const absl::Duration now = MonotonicNow();
  return static_cast<size_t>(std::ranges::count_if(
      ending_, [&](const auto& one) { return now - one.second < kPatience; }));
}

void Families::WakeIn(absl::Duration time) {
  if (std::exchange(due_, time == absl::ZeroDuration()) && due_) return;
  // Zero would disarm it.
  const itimerspec spec = {
      .it_interval = {},
      .it_value = absl::ToTimespec(std::max(time, absl::Nanoseconds(1)))};
  (void)timerfd_settime(timer_.get(), 0, &spec, nullptr);
}

void Families::Notice(pid_t pid) {
  if (noticed_.insert(pid).second) news_ = true;
}

absl::Status Families::Look() {
  if (owner_ != getpid()) {
    return absl::FailedPreconditionError(
        "families belong to the process that forked this one");
  }
  const absl::Duration began = MonotonicNow();
  absl::Duration took;
  noticed_.clear();
  absl::Status status;
  do {
    news_ = false;
    status = LookOnce();
    asked_.clear();
    took = MonotonicNow() - began;
  } while (status.ok() && news_ && took < kTurn);
  due_ = false;
  if (ending_.empty()) {
    WakeIn(std::max(kInterval, kPart * took));
  } else {
    WakeIn(pause_);  // Longer each time that nobody has ended.
    pause_ = std::min(2 * pause_, kLongestPause);
  }
  return status;
}

absl::Status Families::LookOnce() {
  // Whoever is handed down while this reads is appended to the list, so of
  // those whose parents have ended before, none is missed.
  const absl::StatusOr<std::vector<pid_t>> children =
      ProcessTable().ChildrenOf(owner_);
  if (!children.ok()) return children.status();
  for (const auto& [number, leader] : asked_) {
    SignalFrom(leader, number, SIGTERM, leader);
  }
  absl::flat_hash_set<uint64_t> remain;
  for (const pid_t pid : *children) {
    if (is_mine_(pid)) continue;
    const std::optional<uint64_t> number = NumberOf(pid);
    if (!number.has_value()) {
      if (reaps_ == Reaps::kAll) (void)LookAt(pid);
      continue;
    }
    const bool is_ending = ending_.contains(*number);
    const Found found = LookAt(pid);
    if (found == Found::kNobody) continue;
    if (found == Found::kEnded) {
      // What it had has come to this process since the list was read.
      if (!is_ending) continue;
      remain.insert(*number);
      Notice(pid);
      if (reaps_ == Reaps::kNobody) continue;  // Nobody may ever reap it.
      ending_[*number] = MonotonicNow();
      pause_ = kFirstPause;
      continue;
    }
    if (is_ending) {
      if (SignalOrphan(pid, SIGKILL)) {
        remain.insert(*number);
        Notice(pid);
      }
      SignalFrom(pid, *number, SIGKILL, /*leader=*/0);
    } else if (const auto asked = asked_.find(*number); asked != asked_.end()) {
      if (getpgid(pid) != asked->second) (void)SignalOrphan(pid, SIGTERM);
      SignalFrom(pid, *number, SIGTERM, asked->second);
    }
  }
  absl::erase_if(ending_,
                 [&](const auto& one) { return !remain.contains(one.first); });
  return absl::OkStatus();
}

// Without __WALL, as in orphans.cc: the kernel gives every orphan SIGCHLD.
Families::Found Families::LookAt(pid_t pid) {
  siginfo_t info = {};
  const int options =
      WEXITED | WNOHANG | (reaps_ == Reaps::kNobody ? WNOWAIT : 0);
  if (RetryOnEintr([&] {
        return waitid(P_PID, static_cast<id_t>(pid), &info, options);
      }) == -1) {
    return Found::kNobody;
  }
  return info.si_pid == 0 ? Found::kLiving : Found::kEnded;
}

// Where there is no descriptor to be had, by its number, which is its own: it
// is a child that was found alive, and that nobody else reaps.
bool Families::SignalOrphan(pid_t pid, int signo) const {
  const UniqueFd pidfd(PidfdOpen(pid));
  if (!pidfd.valid()) return kill(pid, signo) == 0;
  return NumberOf(pid).has_value() && PidfdSendSignal(pidfd.get(), signo) == 0;
}

// Each by a descriptor that was there before its mark was read: if the pid was
// another's by then, the descriptor means one that has gone. So it does no harm
// either if `pid` itself is another's, whose children carry no such mark.
void Families::SignalFrom(pid_t pid, uint64_t number, int signo, pid_t leader) {
  std::vector<pid_t> parents = {pid};
  while (!parents.empty()) {
    const absl::StatusOr<std::vector<pid_t>> children =
        ProcessTable().ChildrenOf(parents.back());
    parents.pop_back();
    if (!children.ok()) continue;  // It has gone.
    for (const pid_t child : *children) {
      // Without one to spare it has to wait until it is a child of ours.
      const UniqueFd pidfd(PidfdOpen(child));
      if (!pidfd.valid() || NumberOf(child) != number) continue;
      if (getpgid(child) != leader) (void)PidfdSendSignal(pidfd.get(), signo);
      if (signo == SIGKILL) Notice(child);
      parents.push_back(child);
    }
  }
}

}  // namespace brood
