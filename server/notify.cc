// SPDX-License-Identifier: Apache-2.0
#include "brood/server/notify.h"

#include <sys/socket.h>
#include <sys/types.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/server/log_writer.h"

namespace brood {
namespace {

constexpr char kNotifySocket[] = "NOTIFY_SOCKET";
constexpr char kWatchdogUsec[] = "WATCHDOG_USEC";
constexpr char kWatchdogPid[] = "WATCHDOG_PID";

std::optional<std::string> Variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) return std::nullopt;
  return value;
}

absl::Status NotAllowed(std::string_view variable, std::string_view value,
                        std::string_view allowed) {
  return absl::InvalidArgumentError(absl::StrCat(
      variable, "=\"", absl::CHexEscape(value), "\": allowed ", allowed));
}

// A decimal number and nothing else: no sign and no white space, which
// SimpleAtoi would take, and no leading zero, which some would take for octal.
absl::StatusOr<int64_t> Number(std::string_view variable,
                               std::string_view value, int64_t max) {
  int64_t number = 0;
  if (!std::all_of(value.begin(), value.end(), absl::ascii_isdigit) ||
      absl::StartsWith(value, "0") || !absl::SimpleAtoi(value, &number) ||
      number > max) {
    return NotAllowed(variable, value,
                      absl::StrCat("is a number from 1 to ", max));
  }
  return number;
}

absl::StatusOr<Address> SocketAddress(const std::string& value) {
  const auto not_allowed = [&] {
    return NotAllowed(
        kNotifySocket, value,
        absl::StrCat("are a path that begins with /, of at most ",
                     Address::kMaxUnixPath, " bytes, and @ with 1 to ",
                     Address::kMaxAbstractName, " bytes of a name"));
  };
  absl::StatusOr<Address> address = not_allowed();
  if (absl::StartsWith(value, "/")) address = Address::UnixPath(value);
  // The name is as long as it is: a NUL at its end would be part of it.
  if (absl::StartsWith(value, "@") && value.size() > 1) {
    address = Address::UnixAbstract(value.substr(1));
  }
  if (!address.ok()) return not_allowed();
  return address;
}

}  // namespace

NotifyVariables NotifyVariables::FromEnvironment() {
  return {.notify_socket = Variable(kNotifySocket),
          .watchdog_usec = Variable(kWatchdogUsec),
          .watchdog_pid = Variable(kWatchdogPid)};
}

void UnsetNotifyVariables() {
  for (const char* name : {kNotifySocket, kWatchdogUsec, kWatchdogPid}) {
    (void)unsetenv(name);  // Fails only for a name that is none.
  }
}

absl::StatusOr<std::optional<absl::Duration>> WatchdogInterval(
    const NotifyVariables& variables, pid_t self) {
  if (!variables.notify_socket.has_value() ||
      !variables.watchdog_usec.has_value()) {
    return std::nullopt;
  }
  if (variables.watchdog_pid.has_value()) {
    const absl::StatusOr<int64_t> pid =
        Number(kWatchdogPid, *variables.watchdog_pid,
               std::numeric_limits<pid_t>::max());
    if (!pid.ok()) return pid.status();
    // Not for us: then the rest is none of our business, right or wrong.
    if (*pid != self) return std::nullopt;
  }
  const absl::StatusOr<int64_t> silence =
      Number(kWatchdogUsec, *variables.watchdog_usec,
             std::numeric_limits<int64_t>::max());
  if (!silence.ok()) return silence.status();
  return absl::Microseconds(*silence) / 2;
}

absl::StatusOr<Notifier> Notifier::Create(const NotifyVariables& variables) {
  if (!variables.notify_socket.has_value()) {
    return Notifier(UniqueFd(), Address());
  }
  const absl::StatusOr<Address> address =
      SocketAddress(*variables.notify_socket);
  if (!address.ok()) return address.status();
  UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) {
    return ErrnoStatus(errno, absl::StrCat("socket for ", *address));
  }
  // A datagram socket's connect neither waits nor is interrupted.
  if (connect(fd.get(), address->sockaddr(), address->sockaddr_length()) ==
      -1) {
    return ErrnoStatus(errno,
                       absl::StrCat(kNotifySocket, ": connect ", *address));
  }
  return Notifier(std::move(fd), *address);
}

absl::Status Notifier::Ready(std::string_view status) const {
  return Send("READY=1\n", status);
}

absl::Status Notifier::Stopping(std::string_view status) const {
  return Send("STOPPING=1\n", status);
}

absl::Status Notifier::Reloading(std::string_view status) const {
  // So that a READY that was sent before is not taken for the one after.
  return Send(absl::StrCat("RELOADING=1\nMONOTONIC_USEC=",
                           absl::ToInt64Microseconds(MonotonicNow()), "\n"),
              status);
}

absl::Status Notifier::Status(std::string_view status) const {
  return Send("", status);
}

absl::Status Notifier::Watchdog() const { return Send("WATCHDOG=1\n", ""); }

absl::Status Notifier::MainPid(pid_t pid) const {
  return Send(absl::StrCat("MAINPID=", pid, "\n"), "");
}

absl::Status Notifier::Send(std::string_view assignments,
                            std::string_view status) const {
  std::string message(assignments);
  if (!status.empty()) {
    // A newline in it would be an assignment of its own.
    std::string line(status);
    std::replace_if(
        line.begin(), line.end(),
        [](unsigned char c) { return absl::ascii_iscntrl(c); }, ' ');
    absl::StrAppend(&message, "STATUS=", line, "\n");
  }
  if (!listened_to() || message.empty()) return absl::OkStatus();
  const ssize_t n = RetryOnEintr([&] {
    return send(socket_.get(), message.data(), message.size(),
                MSG_DONTWAIT | MSG_NOSIGNAL);
  });
  if (n == -1) {
    return ErrnoStatus(errno,
                       absl::StrCat(kNotifySocket, ": send to ", address_));
  }
  return absl::OkStatus();
}

absl::Status TellReady(UniqueFd fd, std::string_view line) {
  absl::StatusOr<LogWriter> writer = LogWriter::Create(fd.get());
  if (!writer.ok()) return writer.status();
  writer->Write(line);
  if (writer->lost() > 0) {
    return absl::UnavailableError(
        absl::StrCat("tell descriptor ", fd.get(),
                     " of being ready: expected a reader, and room now"));
  }
  return fd.Close();
}

}  // namespace brood
