// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/child.h"

#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <ctime>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/pidfd.h"
#include "brood/proc/posix.h"
#include "brood/proc/process_table.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

// How long a destructor waits for a process that it has killed.
constexpr absl::Duration kTimeToDie = absl::Milliseconds(100);

// By number: glibc's waitid drops the fifth argument, the rusage.
int RawWaitid(idtype_t type, int id, siginfo_t* info, int options,
              struct rusage* usage) {
  return static_cast<int>(RetryOnEintr([&] {
    return syscall(SYS_waitid, type, id, info, WEXITED | options, usage);
  }));
}

// For a child by its number: only children that send no SIGCHLD, if it is one.
int KindToWaitFor(int exit_signal) {
  return exit_signal == SIGCHLD ? __WALL : static_cast<int>(__WCLONE);
}

// The status of a process that somebody else has reaped. The kernel notes it on
// the pidfd a moment after the other's wait has returned, so what is not there
// yet is asked for again. A kernel that never notes it fails the call.
ExitStatus StatusOfReaped(int pidfd) {
  constexpr int kAttempts = 10000;
  for (int i = 0; pidfd != -1 && i < kAttempts; ++i) {
    PidfdInfo info = {.mask = kPidfdInfoExit};
    if (PidfdGetInfo(pidfd, info) == -1) break;
    if ((info.mask & kPidfdInfoExit) != 0) {
      return ExitStatus::FromWaitStatus(info.exit_code);
    }
    (void)sched_yield();
  }
  return ExitStatus::Lost();
}

absl::Status NotOurs(pid_t pid, pid_t owner) {
  return absl::FailedPreconditionError(
      owner == 0 ? absl::StrCat("child ", pid, " has been given away")
                 : absl::StrCat("child ", pid,
                                " belongs to its parent, process ", owner));
}

// A killed child that had not died when its handle went.
struct Dropped {
  pid_t pid;
  pid_t owner;
  UniqueFd pidfd;
  int kind;  // Without a pidfd: __WCLONE or __WALL.
  Dropped* next = nullptr;
};

// Process-wide, as zombies are. Whoever wants to look takes the whole list and
// puts back what must stay, so it needs no lock, which a fork could leave
// locked for ever.
constinit std::atomic<Dropped*> dropped_children = nullptr;

void PutAside(std::unique_ptr<Dropped> one) {
  Dropped* node = one.release();
  node->next = dropped_children.load(std::memory_order_relaxed);
  while (!dropped_children.compare_exchange_weak(
      node->next, node, std::memory_order_release, std::memory_order_relaxed)) {
  }
}

}  // namespace

size_t ReapDropped() {
  if (dropped_children.load(std::memory_order_relaxed) == nullptr) return 0;
  Dropped* rest = dropped_children.exchange(nullptr, std::memory_order_acquire);
  size_t held = 0;
  while (rest != nullptr) {
    std::unique_ptr<Dropped> one(rest);
    rest = one->next;
    if (one->owner != getpid()) continue;  // A forked copy: not ours.
    siginfo_t info = {};
    const bool by_pidfd = one->pidfd.valid();
    if (RawWaitid(by_pidfd ? P_PIDFD : P_PID,
                  by_pidfd ? one->pidfd.get() : one->pid, &info,
                  WNOHANG | (by_pidfd ? __WALL : one->kind), nullptr) == 0 &&
        info.si_pid == 0) {
      PutAside(std::move(one));
      ++held;
    }
  }
  return held;
}

absl::StatusOr<Child> Child::Adopt(pid_t pid) {
  if (pid <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("adopt pid ", pid, ": a pid is positive"));
  }
  // The pid is still the child's: it has not been waited for, so at worst it is
  // a zombie, and a zombie keeps its number.
  UniqueFd pidfd(PidfdOpen(pid));
  if (!pidfd.valid()) {
    return ErrnoStatus(errno, absl::StrCat("pidfd_open child ", pid));
  }
  // WNOWAIT looks without taking. ECHILD: no child of ours, or no longer.
  siginfo_t info = {};
  if (RawWaitid(P_PIDFD, pidfd.get(), &info, WNOHANG | WNOWAIT | __WALL,
                nullptr) == -1) {
    return ErrnoStatus(errno, absl::StrCat("adopt pid ", pid));
  }
  return Child(pid, std::move(pidfd));
}

Child::Child(pid_t pid, UniqueFd pidfd)
    : pid_(pid), owner_(getpid()), pidfd_(std::move(pidfd)) {}

Child::Child(pid_t pid, int exit_signal)
    : pid_(pid),
      owner_(getpid()),
      exit_signal_(exit_signal),
      made_(SinceBoot()) {}

Child::Child(Child&& other) noexcept
    : pid_(other.pid_),
      owner_(std::exchange(other.owner_, 0)),
      pidfd_(std::move(other.pidfd_)),
      exit_signal_(other.exit_signal_),
      made_(other.made_),
      status_(other.status_) {}

Child& Child::operator=(Child&& other) noexcept {
  if (this != &other) {
    KillAndReapSoon();
    pid_ = other.pid_;
    owner_ = std::exchange(other.owner_, 0);
    pidfd_ = std::move(other.pidfd_);
    exit_signal_ = other.exit_signal_;
    made_ = other.made_;
    status_ = other.status_;
  }
  return *this;
}

Child::~Child() { KillAndReapSoon(); }

bool Child::OwesWait() const {
  return owner_ != 0 && !status_.has_value() && owner_ == getpid();
}

void Child::KillAndReapSoon() noexcept {
  if (OwesWait()) KillAndReap(absl::Now() + kTimeToDie);
}

void Child::KillAndReap(absl::Time deadline) noexcept {
  const int saved = errno;
  (void)Signal(SIGKILL);
  const absl::StatusOr<std::optional<ExitStatus>> status = WaitUntil(deadline);
  if (!status.ok() || !status->has_value()) {
    PutAside(std::make_unique<Dropped>(
        Dropped{.pid = pid_,
                .owner = owner_,
                .pidfd = std::move(pidfd_),
                .kind = KindToWaitFor(exit_signal_)}));
    owner_ = 0;
  }
  (void)ReapDropped();
  errno = saved;
}

void Child::Drop(absl::Time deadline) && {
  // What is left here is nobody's, whether or not it has died in time.
  Child dropped = std::move(*this);
  if (dropped.OwesWait()) dropped.KillAndReap(deadline);
}

// __WALL: also those that send no SIGCHLD as they end, which Fork() makes and a
// plain wait does not see. Of those by number, only them: a process that has
// the number now and is like any other is not ours, or not any more.
int Child::Waitid(siginfo_t* info, int options, struct rusage* usage) {
  if (!pidfd_.valid()) {
    const int result = RawWaitid(P_PID, pid_, info,
                                 options | KindToWaitFor(exit_signal_), usage);
    if (result == 0 || errno != ECHILD || exit_signal_ == SIGCHLD) {
      return result;
    }
    if (!RecognizeAfterExec()) {
      errno = ECHILD;
      return -1;
    }
  }
  return RawWaitid(P_PIDFD, pidfd_.get(), info, options | __WALL, usage);
}

// After execve(2) it is a child like any other, which a wait for any child can
// take and whose number can be handed out again. It is still ours if it is our
// child and started no later than it was made.
bool Child::RecognizeAfterExec() {
  constexpr absl::Duration kClockTick = absl::Milliseconds(10);
  UniqueFd pidfd(PidfdOpen(pid_));
  if (!pidfd.valid()) return false;
  const absl::StatusOr<Process> process = ProcessTable().Read(pid_);
  if (!process.ok() || process->parent_pid != owner_ ||
      process->start > made_ + kClockTick) {
    return false;
  }
  // What was read was this one's, if it is there to be waited for still.
  siginfo_t info = {};
  if (RawWaitid(P_PIDFD, pidfd.get(), &info, WNOHANG | WNOWAIT | __WALL,
                nullptr) == -1) {
    return false;
  }
  pidfd_ = std::move(pidfd);
  return true;
}

absl::StatusOr<std::optional<ExitStatus>> Child::WaitWithOptions(int options) {
  if (status_.has_value()) return status_;
  if (!OwesWait()) return NotOurs(pid_, owner_);
  siginfo_t info = {};
  struct rusage usage = {};
  if (Waitid(&info, options, &usage) == -1) {
    if (errno != ECHILD) {
      return ErrnoStatus(errno, absl::StrCat("waitid child ", pid_));
    }
    status_ = StatusOfReaped(pidfd_.get());
  } else if (info.si_pid != 0) {  // 0: WNOHANG, and it has not ended.
    status_ = ExitStatus::FromSiginfo(info);
    status_->set_usage(ResourceUsage::FromRusage(usage));
  }
  return status_;
}

absl::StatusOr<std::optional<ExitStatus>> Child::TryWait() {
  return WaitWithOptions(WNOHANG);
}

absl::StatusOr<bool> Child::HasEnded() {
  if (status_.has_value()) return true;
  if (!OwesWait()) return NotOurs(pid_, owner_);
  siginfo_t info = {};
  if (Waitid(&info, WNOHANG | WNOWAIT, nullptr) == 0) {
    return info.si_pid != 0;
  }
  if (errno == ECHILD) return true;  // Somebody else has reaped it.
  return ErrnoStatus(errno, absl::StrCat("waitid child ", pid_));
}

absl::StatusOr<ExitStatus> Child::Wait() {
  absl::StatusOr<std::optional<ExitStatus>> status = WaitWithOptions(0);
  if (!status.ok()) return status.status();
  return **status;
}

absl::StatusOr<std::optional<ExitStatus>> Child::WaitUntil(
    absl::Time deadline_time) {
  const Deadline deadline = deadline_time;
  absl::StatusOr<std::optional<ExitStatus>> status = TryWait();
  if (!status.ok() || status->has_value()) return status;
  // A child without a descriptor gets one for as long as this lasts. Its pid is
  // its own: nobody but us can have reaped it.
  UniqueFd own;
  if (!pidfd_.valid()) {
    own = UniqueFd(PidfdOpen(pid_));
    if (!own.valid()) return LookUntil(deadline);
  }
  const int pidfd = own.valid() ? own.get() : pidfd_.get();
  const absl::StatusOr<bool> died = PollUntil(pidfd, POLLIN, deadline);
  if (!died.ok()) return died.status();
  status = TryWait();
  if (!*died || !status.ok() || status->has_value()) return status;

  // Dead, and yet not to be had: a tracer holds it. Its letting go wakes the
  // pidfd once more, which only an edge shows, for the level has long been
  // high.
  const UniqueFd edge(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event = {.events = EPOLLIN | EPOLLET, .data = {}};
  if (!edge.valid() ||
      epoll_ctl(edge.get(), EPOLL_CTL_ADD, pidfd, &event) == -1) {
    return ErrnoStatus(errno, absl::StrCat("watch traced child ", pid_));
  }
  while (status.ok() && !status->has_value()) {
    const absl::StatusOr<bool> woken = PollUntil(edge.get(), POLLIN, deadline);
    if (!woken.ok()) return woken.status();
    if (!*woken) break;
    (void)epoll_wait(edge.get(), &event, 1, 0);
    status = TryWait();
  }
  return status;
}

absl::StatusOr<std::optional<ExitStatus>> Child::LookUntil(
    const Deadline& deadline) {
  absl::Duration pause = absl::Microseconds(100);
  constexpr absl::Duration kLongest = absl::Milliseconds(10);
  while (true) {
    const absl::Duration left = deadline.Left();
    absl::StatusOr<std::optional<ExitStatus>> status = TryWait();
    if (!status.ok() || status->has_value() || left == absl::ZeroDuration()) {
      return status;
    }
    const timespec time = absl::ToTimespec(std::min(pause, left));
    (void)nanosleep(&time, nullptr);
    pause = std::min(2 * pause, kLongest);
  }
}

absl::Status Child::Signal(int signo) {
  if (status_.has_value()) {
    return ErrnoStatus(ESRCH, absl::StrCat("signal child ", pid_));
  }
  if (!OwesWait()) return NotOurs(pid_, owner_);
  // Without a descriptor the pid itself is used, once it is seen not to have
  // been reaped: whoever could reap it would have to do so in a signal handler
  // between these two calls.
  siginfo_t info = {};
  if (!pidfd_.valid() && Waitid(&info, WNOHANG | WNOWAIT, nullptr) == -1) {
    return ErrnoStatus(ESRCH, absl::StrCat("signal child ", pid_));
  }
  const int result =
      pidfd_.valid() ? PidfdSendSignal(pidfd_.get(), signo) : kill(pid_, signo);
  if (result == 0) return absl::OkStatus();
  return ErrnoStatus(
      errno, absl::StrCat("send ", NameOfSignal(signo), " to child ", pid_));
}

// A process that has not been reaped keeps its number, and with it the one of
// its group.
absl::Status Child::SignalGroup(int signo) {
  siginfo_t info = {};
  if (status_.has_value() || !OwesWait() ||
      Waitid(&info, WNOHANG | WNOWAIT, nullptr) == -1) {
    return ErrnoStatus(ESRCH, absl::StrCat("signal process group ", pid_));
  }
  if (killpg(pid_, signo) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, absl::StrCat("send ", NameOfSignal(signo),
                                         " to process group ", pid_));
}

pid_t Child::Release() && {
  (void)UniqueFd(std::move(pidfd_)).Close();
  owner_ = 0;
  return pid_;
}

}  // namespace brood
