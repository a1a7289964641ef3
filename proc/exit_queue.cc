// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/exit_queue.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <ctime>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brood/proc/child.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

sigset_t Only(int signo) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signo);
  return set;
}

// Somebody who wants a realtime signal begins at SIGRTMIN, so begin at the
// other end.
std::optional<int> FindFreeSignal() {
  sigset_t blocked;
  sigset_t pending;
  (void)pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
  (void)sigpending(&pending);
  for (int signo = SIGRTMAX; signo >= SIGRTMIN; --signo) {
    struct sigaction action = {};
    if (sigaction(signo, nullptr, &action) == 0 &&
        (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN) &&
        sigismember(&blocked, signo) == 0 &&
        sigismember(&pending, signo) == 0) {
      return signo;
    }
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<ExitQueue> ExitQueue::Create() {
  const std::optional<int> signo = FindFreeSignal();
  if (!signo.has_value()) {
    return absl::ResourceExhaustedError(
        "exit queue: every signal from SIGRTMIN to SIGRTMAX is handled, "
        "blocked or pending");
  }
  const sigset_t only = Only(*signo);
  // Never read: signalfd's records of such signals lack the sender. It is there
  // to be polled.
  UniqueFd fd(signalfd(-1, &only, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) return ErrnoStatus(errno, "signalfd for an exit queue");
  sigset_t mask;
  (void)pthread_sigmask(SIG_BLOCK, &only, &mask);
  // What is blocked is queued, though it be ignored. In a thread that does not
  // block it the default action would end the process.
  struct sigaction ignore = {};
  ignore.sa_handler = SIG_IGN;
  struct sigaction action = {};
  (void)sigaction(*signo, &ignore, &action);
  return ExitQueue(*signo, std::move(fd), mask, action);
}

ExitQueue::ExitQueue(int signo, UniqueFd fd, const sigset_t& mask,
                     const struct sigaction& action)
    : signo_(signo),
      owner_(getpid()),
      fd_(std::move(fd)),
      previous_mask_(mask),
      previous_action_(action) {}

ExitQueue::ExitQueue(ExitQueue&& other) noexcept
    : signo_(std::exchange(other.signo_, 0)),
      owner_(other.owner_),
      fd_(std::move(other.fd_)),
      previous_mask_(other.previous_mask_),
      previous_action_(other.previous_action_),
      in_a_row_(other.in_a_row_),
      full_(other.full_),
      may_have_lost_(other.may_have_lost_) {}

ExitQueue::~ExitQueue() {
  if (signo_ == 0 || owner_ != getpid()) return;
  const int saved = errno;
  while (Next().has_value()) {
  }
  const sigset_t only = Only(signo_);
  if (sigismember(&previous_mask_, signo_) == 0) {
    (void)pthread_sigmask(SIG_UNBLOCK, &only, nullptr);
  }
  if (ReapDropped() == 0) (void)sigaction(signo_, &previous_action_, nullptr);
  errno = saved;
}

std::optional<pid_t> ExitQueue::Next() {
  const sigset_t only = Only(signo_);
  constexpr timespec kNow = {};
  siginfo_t info = {};
  while (RetryOnEintr([&] { return sigtimedwait(&only, &info, &kNow); }) > 0) {
    if (in_a_row_ == 0) {
      // Others of the same user may have had part of the room, so half of it is
      // taken for full.
      rlimit limit = {};
      (void)getrlimit(RLIMIT_SIGPENDING, &limit);
      full_ = limit.rlim_cur / 2;
    }
    if (++in_a_row_ >= full_) {
      may_have_lost_ = true;
      in_a_row_ = 0;
    }
    // Anyone may send a signal; only the kernel sends one with such a code.
    if (info.si_code == CLD_EXITED || info.si_code == CLD_KILLED ||
        info.si_code == CLD_DUMPED) {
      return info.si_pid;
    }
  }
  in_a_row_ = 0;
  return std::nullopt;
}

bool ExitQueue::MayHaveLost() { return std::exchange(may_have_lost_, false); }

}  // namespace brood
