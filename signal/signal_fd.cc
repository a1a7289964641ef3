// SPDX-License-Identifier: Apache-2.0
#include "brood/signal/signal_fd.h"

#include <sys/signalfd.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/signal/mask.h"
#include "brood/signal/signal_event.h"
#include "brood/signal/signal_set.h"

namespace brood {

absl::StatusOr<SignalFd> SignalFd::Create(const SignalSet& signals) {
  if (signals.empty()) {
    return absl::InvalidArgumentError("a SignalFd of no signals");
  }
  // signalfd(2) would leave these two out without a word.
  const absl::Status receivable = CheckReceivable(signals);
  if (!receivable.ok()) return receivable;
  const absl::StatusOr<SignalSet> blocked = SignalMask::Current();
  if (!blocked.ok()) return blocked.status();
  const SignalSet unblocked = signals - *blocked;
  if (!unblocked.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("not blocked in this thread, so a SignalFd would miss: ",
                     unblocked.ToString()));
  }
  const sigset_t native = signals.native();
  UniqueFd fd(signalfd(-1, &native, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) {
    return ErrnoStatus(errno, absl::StrCat("signalfd ", signals.ToString()));
  }
  return SignalFd(std::move(fd));
}

absl::StatusOr<std::optional<SignalEvent>> SignalFd::Next() {
  signalfd_siginfo info;
  const ssize_t n =
      RetryOnEintr([&] { return read(fd_.get(), &info, sizeof(info)); });
  if (n == -1) {
    if (errno == EAGAIN) return std::nullopt;
    return ErrnoStatus(errno, "read signalfd");
  }
  // The kernel hands out whole records only and zeroes what it does not fill
  // in.
  return SignalEvent{.signo = static_cast<int>(info.ssi_signo),
                     .code = info.ssi_code,
                     .sender_pid = static_cast<pid_t>(info.ssi_pid),
                     .sender_uid = info.ssi_uid,
                     .value = info.ssi_int};
}

}  // namespace brood
