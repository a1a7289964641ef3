// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/stop.h"

#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <ctime>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/pidfd.h"
#include "brood/proc/posix.h"
#include "brood/proc/process_table.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

// That the others of a group have ended is no event for us: they are nobody's
// children, or somebody else's. So look, at growing intervals.
constexpr absl::Duration kFirstLook = absl::Milliseconds(1);
constexpr absl::Duration kLongestLook = absl::Milliseconds(100);

// The group is meant by its leader's identity, which no other process gets.
// Where the kernel cannot do that, by its number, if the leader still has it.
bool SignalGroup(int pidfd, pid_t leader, int signo) {
  if (PidfdSendSignal(pidfd, signo, kPidfdSignalProcessGroup) == 0) {
    return true;
  }
  if (errno != EINVAL) return false;
  siginfo_t info = {};
  if (syscall(SYS_waitid, P_PIDFD, pidfd, &info,
              WEXITED | WNOHANG | WNOWAIT | __WALL, nullptr) == -1) {
    errno = ESRCH;
    return false;
  }
  return killpg(leader, signo) == 0;
}

absl::Status CheckPlan(const StopPlan& plan) {
  if (plan.steps.empty()) {
    return absl::InvalidArgumentError("stop: the plan has no steps");
  }
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    const StopStep& step = plan.steps[i];
    if (step.signo < 1 || step.signo > SIGRTMAX) {
      return absl::InvalidArgumentError(
          absl::StrCat("stop: steps[", i, "]: ", step.signo,
                       " is no signal; 1 to ", SIGRTMAX, " are"));
    }
    if (step.patience < absl::ZeroDuration()) {
      return absl::InvalidArgumentError(
          absl::StrCat("stop: steps[", i, "]: the patience ",
                       absl::FormatDuration(step.patience), " is negative"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Stop> Stop::Begin(Child&& child, StopPlan plan) {
  if (absl::Status s = CheckPlan(plan); !s.ok()) return s;
  const pid_t pid = child.pid();
  // A zombie, too, still has its group.
  if (plan.whole_group && getpgid(pid) != pid) {
    return absl::FailedPreconditionError(
        absl::StrCat("stop: the whole group of child ", pid,
                     ": it leads none; start it with new_process_group"));
  }
  UniqueFd own_pidfd;
  if (child.fd() == -1) {
    own_pidfd = UniqueFd(PidfdOpen(pid));
    if (!own_pidfd.valid()) {
      return ErrnoStatus(errno, absl::StrCat("stop: pidfd_open child ", pid));
    }
  }
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  UniqueFd timer(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  // An edge: a tracer may hold it dead, and then the level says nothing.
  epoll_event edge = {.events = EPOLLIN | EPOLLET, .data = {}};
  epoll_event level = {.events = EPOLLIN, .data = {}};
  const int pidfd = own_pidfd.valid() ? own_pidfd.get() : child.fd();
  if (!epoll.valid() || !timer.valid() ||
      epoll_ctl(epoll.get(), EPOLL_CTL_ADD, pidfd, &edge) == -1 ||
      epoll_ctl(epoll.get(), EPOLL_CTL_ADD, timer.get(), &level) == -1) {
    return ErrnoStatus(errno, absl::StrCat("stop: watch child ", pid));
  }
  Stop stop(std::move(child), std::move(plan), std::move(epoll),
            std::move(timer), std::move(own_pidfd));
  absl::StatusOr<bool> ended = stop.child_.HasEnded();
  absl::Status begun = ended.status();
  if (begun.ok() && !*ended) stop.TakeDueSteps();
  if (begun.ok()) begun = stop.WakeAt(stop.NextStep()).status();
  if (!begun.ok()) {
    child = std::move(stop.child_);
    return begun;
  }
  return stop;
}

Stop::Stop(Child&& child, StopPlan plan, UniqueFd epoll, UniqueFd timer,
           UniqueFd own_pidfd)
    : child_(std::move(child)),
      plan_(std::move(plan)),
      epoll_(std::move(epoll)),
      timer_(std::move(timer)),
      own_pidfd_(std::move(own_pidfd)),
      next_look_(kFirstLook) {
  Schedule(plan_.deadline);
}

// Forward by patience, and backward from the deadline; whichever is earlier.
void Stop::Schedule(const absl::Time& deadline) {
  const absl::Duration now = MonotonicNow();
  absl::Duration forward = now;
  for (const StopStep& step : plan_.steps) {
    starts_.push_back(forward);
    forward += step.patience;
  }
  absl::Duration backward = now + Deadline(deadline).Left();
  end_ = std::min(forward, backward);
  for (size_t i = plan_.steps.size(); i-- > 0;) {
    // One that may last for ever has no claim on the time before the deadline.
    const absl::Duration patience = plan_.steps[i].patience;
    if (patience != absl::InfiniteDuration()) backward -= patience;
    starts_[i] = std::max(now, std::min(starts_[i], backward));
  }
}

absl::Status Stop::Send(int signo) {
  if (!plan_.whole_group) return child_.Signal(signo);
  const int pidfd = own_pidfd_.valid() ? own_pidfd_.get() : child_.fd();
  if (SignalGroup(pidfd, child_.pid(), signo)) return absl::OkStatus();
  return ErrnoStatus(errno, absl::StrCat("send ", NameOfSignal(signo),
                                         " to process group ", child_.pid()));
}

void Stop::TakeDueSteps() {
  for (; taken_ < starts_.size() && starts_[taken_] <= MonotonicNow();
       ++taken_) {
    for (const int signo : {plan_.steps[taken_].signo, SIGCONT}) {
      absl::Status sent = Send(signo);
      // It may have ended since we looked.
      if (ErrnoOf(sent) != ESRCH) trouble_.Update(sent);
    }
  }
}

absl::Duration Stop::NextStep() const {
  return taken_ < starts_.size() ? starts_[taken_] : end_;
}

absl::StatusOr<bool> Stop::GroupRemains() const {
  const absl::StatusOr<std::vector<Process>> all = ProcessTable().List();
  if (!all.ok()) return all.status();
  return std::ranges::any_of(*all, [&](const Process& process) {
    return process.process_group == child_.pid() && !process.zombie();
  });
}

absl::StatusOr<std::optional<Stop::Result>> Stop::WakeAt(absl::Duration when) {
  // Zero would disarm it.
  const absl::Duration delay =
      std::max(when - MonotonicNow(), absl::Nanoseconds(1));
  itimerspec spec = {};
  if (delay != absl::InfiniteDuration()) {
    spec.it_value = absl::ToTimespec(delay);
  }
  if (timerfd_settime(timer_.get(), 0, &spec, nullptr) == -1) {
    return ErrnoStatus(errno, "stop: timerfd_settime");
  }
  return std::nullopt;
}

absl::StatusOr<std::optional<Stop::Result>> Stop::Next() {
  if (over_) return absl::OutOfRangeError("stop: it has told its result");
  // Takes the edge, if that is why we are here.
  epoll_event event;
  (void)RetryOnEintr([&] { return epoll_wait(epoll_.get(), &event, 1, 0); });
  const absl::StatusOr<bool> ended = child_.HasEnded();
  if (!ended.ok()) return ended.status();
  bool group_remains = plan_.whole_group;
  if (plan_.whole_group && *ended) {
    const absl::StatusOr<bool> remains = GroupRemains();
    if (!remains.ok()) return remains.status();
    group_remains = *remains;
  }
  if (!*ended || group_remains) {
    TakeDueSteps();
    if (MonotonicNow() < end_) {
      absl::Duration when = NextStep();
      if (*ended) {
        when = std::min(when, MonotonicNow() + next_look_);
        next_look_ = std::min(2 * next_look_, kLongestLook);
      }
      return WakeAt(when);
    }
  }
  Result result = {.signo = taken_ == 0 ? 0 : plan_.steps[taken_ - 1].signo,
                   .group_remains = group_remains,
                   .trouble = trouble_};
  absl::StatusOr<std::optional<ExitStatus>> status = child_.TryWait();
  if (!status.ok()) return status.status();
  result.status = *status;
  over_ = true;
  return result;
}

}  // namespace brood
