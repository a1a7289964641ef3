// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/exit_status.h"

#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/proc/posix.h"

namespace brood {

ResourceUsage ResourceUsage::FromRusage(const struct rusage& usage) {
  constexpr int64_t kBytesPerUnit = 1024;  // ru_maxrss is in kilobytes.
  return {.user_time = absl::DurationFromTimeval(usage.ru_utime),
          .system_time = absl::DurationFromTimeval(usage.ru_stime),
          .max_resident_bytes = usage.ru_maxrss * kBytesPerUnit};
}

ExitStatus ExitStatus::Exited(int code) {
  return ExitStatus(Kind::kExited, code & 0xff);
}

ExitStatus ExitStatus::Killed(int signo, bool core_dumped) {
  return ExitStatus(core_dumped ? Kind::kDumped : Kind::kKilled, signo);
}

ExitStatus ExitStatus::Lost() { return ExitStatus(Kind::kLost, 0); }

ExitStatus ExitStatus::FromWaitStatus(int wait_status) {
  if (WIFEXITED(wait_status)) return Exited(WEXITSTATUS(wait_status));
  return Killed(WTERMSIG(wait_status), WCOREDUMP(wait_status));
}

ExitStatus ExitStatus::FromSiginfo(const siginfo_t& info) {
  if (info.si_code == CLD_EXITED) return Exited(info.si_status);
  return Killed(info.si_status, info.si_code == CLD_DUMPED);
}

std::optional<int> ExitStatus::exit_code() const {
  if (kind_ != Kind::kExited) return std::nullopt;
  return value_;
}

std::optional<int> ExitStatus::term_signal() const {
  if (kind_ != Kind::kKilled && kind_ != Kind::kDumped) return std::nullopt;
  return value_;
}

std::string ExitStatus::ToString() const {
  switch (kind_) {
    case Kind::kExited:
      return absl::StrCat("exited ", value_);
    case Kind::kKilled:
      return absl::StrCat("killed by ", NameOfSignal(value_));
    case Kind::kDumped:
      return absl::StrCat("killed by ", NameOfSignal(value_), " (core dumped)");
    case Kind::kLost:
      break;
  }
  return "lost";
}

}  // namespace brood
