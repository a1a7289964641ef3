// SPDX-License-Identifier: Apache-2.0
#include "brood/signal/signal_set.h"

#include <csignal>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "brood/proc/posix.h"
#include "brood/signal/names.h"

namespace brood {

absl::StatusOr<SignalSet> SignalSet::Of(absl::Span<const int> signals) {
  SignalSet set;
  for (const int signo : signals) {
    const absl::Status added = set.Add(signo);
    if (!added.ok()) return added;
  }
  return set;
}

SignalSet SignalSet::All() {
  SignalSet all;
  for (int signo = 1; signo <= kLast; ++signo) {
    if (IsSignal(signo)) all.bits_ |= Bit(signo);
  }
  return all;
}

SignalSet SignalSet::FromNative(const sigset_t& native) {
  SignalSet set;
  for (const int signo : All().ToVector()) {
    if (sigismember(&native, signo) == 1) set.bits_ |= Bit(signo);
  }
  return set;
}

absl::Status SignalSet::Add(int signo) {
  if (!IsSignal(signo)) {
    return absl::InvalidArgumentError(absl::StrCat("no such signal: ", signo,
                                                   "; signals are 1 to 31 and ",
                                                   SIGRTMIN, " to ", SIGRTMAX));
  }
  bits_ |= Bit(signo);
  return absl::OkStatus();
}

void SignalSet::Remove(int signo) {
  if (IsSignal(signo)) bits_ &= ~Bit(signo);
}

bool SignalSet::Contains(int signo) const {
  return IsSignal(signo) && (bits_ & Bit(signo)) != 0;
}

std::vector<int> SignalSet::ToVector() const {
  std::vector<int> signals;
  for (int signo = 1; signo <= kLast; ++signo) {
    if (Contains(signo)) signals.push_back(signo);
  }
  return signals;
}

std::string SignalSet::ToString() const {
  return absl::StrJoin(ToVector(), " ", [](std::string* out, int signo) {
    out->append(NameOfSignal(signo));
  });
}

sigset_t SignalSet::native() const {
  sigset_t native;
  sigemptyset(&native);
  for (int signo = 1; signo <= kLast; ++signo) {
    if (Contains(signo)) sigaddset(&native, signo);
  }
  return native;
}

absl::Status CheckReceivable(const SignalSet& signals) {
  if (signals - kKillAndStop == signals) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "no program can handle, ignore, block or read SIGKILL and SIGSTOP; "
      "asked for: ",
      signals.ToString()));
}

}  // namespace brood
