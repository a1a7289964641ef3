// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/child.h"

#include <poll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

// By number: glibc has the pidfd calls only since 2.36, and its waitid drops
// the fifth argument, the rusage.
int PidfdOpen(pid_t pid) {
  return static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
}

int PidfdSendSignal(int pidfd, int signo) {
  return static_cast<int>(
      syscall(SYS_pidfd_send_signal, pidfd, signo, nullptr, 0));
}

int WaitidPidfd(int pidfd, siginfo_t* info, int options, struct rusage* usage) {
  return static_cast<int>(
      syscall(SYS_waitid, P_PIDFD, pidfd, info, options, usage));
}

absl::Status NotOurs(pid_t pid) {
  return absl::FailedPreconditionError(absl::StrCat(
      "child ", pid, " belongs to the process that forked this one"));
}

}  // namespace

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
  if (WaitidPidfd(pidfd.get(), &info, WEXITED | WNOHANG | WNOWAIT, nullptr) ==
      -1) {
    return ErrnoStatus(errno, absl::StrCat("adopt pid ", pid));
  }
  return Child(pid, std::move(pidfd));
}

Child::Child(pid_t pid, UniqueFd pidfd)
    : pid_(pid), owner_(getpid()), pidfd_(std::move(pidfd)) {}

Child& Child::operator=(Child&& other) noexcept {
  if (this != &other) {
    KillAndReap();
    pid_ = other.pid_;
    owner_ = other.owner_;
    pidfd_ = std::move(other.pidfd_);
    status_ = other.status_;
  }
  return *this;
}

Child::~Child() { KillAndReap(); }

bool Child::OwesWait() const {
  return pidfd_.valid() && !status_.has_value() && owner_ == getpid();
}

void Child::KillAndReap() {
  if (!OwesWait()) return;
  const int saved = errno;
  (void)PidfdSendSignal(pidfd_.get(), SIGKILL);
  siginfo_t info = {};
  (void)RetryOnEintr(
      [&] { return WaitidPidfd(pidfd_.get(), &info, WEXITED, nullptr); });
  errno = saved;
}

absl::StatusOr<std::optional<ExitStatus>> Child::WaitWithOptions(int options) {
  if (status_.has_value()) return status_;
  if (!OwesWait()) return NotOurs(pid_);
  siginfo_t info = {};
  struct rusage usage = {};
  const int result = RetryOnEintr([&] {
    return WaitidPidfd(pidfd_.get(), &info, WEXITED | options, &usage);
  });
  if (result == -1) {
    if (errno != ECHILD) {
      return ErrnoStatus(errno, absl::StrCat("waitid child ", pid_));
    }
    status_ = ExitStatus::Lost();
  } else if (info.si_pid != 0) {  // 0: WNOHANG, and it has not ended.
    status_ = ExitStatus::FromSiginfo(info);
    status_->set_usage(ResourceUsage::FromRusage(usage));
  }
  return status_;
}

absl::StatusOr<std::optional<ExitStatus>> Child::TryWait() {
  return WaitWithOptions(WNOHANG);
}

absl::StatusOr<ExitStatus> Child::Wait() {
  absl::StatusOr<std::optional<ExitStatus>> status = WaitWithOptions(0);
  if (!status.ok()) return status.status();
  return **status;
}

absl::StatusOr<std::optional<ExitStatus>> Child::WaitUntil(
    absl::Time deadline) {
  absl::StatusOr<std::optional<ExitStatus>> status = TryWait();
  if (!status.ok() || status->has_value()) return status;
  absl::StatusOr<bool> ended = PollUntil(pidfd_.get(), POLLIN, deadline);
  if (!ended.ok()) return ended.status();
  return TryWait();
}

absl::Status Child::Signal(int signo) {
  if (status_.has_value()) {
    return ErrnoStatus(ESRCH, absl::StrCat("signal child ", pid_));
  }
  if (!OwesWait()) return NotOurs(pid_);
  if (PidfdSendSignal(pidfd_.get(), signo) == 0) return absl::OkStatus();
  return ErrnoStatus(
      errno, absl::StrCat("send ", NameOfSignal(signo), " to child ", pid_));
}

pid_t Child::Release() && {
  (void)UniqueFd(std::move(pidfd_)).Close();
  return pid_;
}

}  // namespace brood
