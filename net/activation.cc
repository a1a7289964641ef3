// SPDX-License-Identifier: Apache-2.0
#include "brood/net/activation.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "brood/net/quoted.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

constexpr char kListenPid[] = "LISTEN_PID";
constexpr char kListenFds[] = "LISTEN_FDS";
constexpr char kListenFdnames[] = "LISTEN_FDNAMES";

std::optional<std::string> Variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) return std::nullopt;
  return value;
}

absl::Status Expected(std::string_view variable, std::string_view value,
                      std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(variable, "=", Quoted(value), ": expected ", what));
}

// A decimal number and nothing else: no sign and no white space, which
// SimpleAtoi would take, and no leading zero, which some would take for octal.
absl::StatusOr<int> Number(std::string_view variable, std::string_view value,
                           int min, int max) {
  int number = 0;
  if (!std::all_of(value.begin(), value.end(), absl::ascii_isdigit) ||
      (value.size() > 1 && value.front() == '0') ||
      !absl::SimpleAtoi(value, &number) || number < min || number > max) {
    return Expected(variable, value,
                    absl::StrCat("a number from ", min, " to ", max));
  }
  return number;
}

std::string Describe(int fd, std::string_view name) {
  return absl::StrCat("activated descriptor ", fd, " (\"", name, "\")");
}

// Whether clients come in there; an error if it is not ours to have.
absl::StatusOr<bool> Inspect(int fd, std::string_view name) {
  const int flags = fcntl(fd, F_GETFD);
  if (flags == -1) return ErrnoStatus(errno, Describe(fd, name));
  if ((flags & FD_CLOEXEC) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(Describe(fd, name),
                     ": expected one that has come through execve, but "
                     "it is close-on-exec: it has been adopted "
                     "already, or opened since"));
  }
  int listening = 0;
  socklen_t length = sizeof(listening);
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) == -1) {
    return ErrnoStatus(errno, Describe(fd, name));
  }
  return listening != 0;
}

}  // namespace

ActivationVariables ActivationVariables::FromEnvironment() {
  return {.listen_pid = Variable(kListenPid),
          .listen_fds = Variable(kListenFds),
          .listen_fdnames = Variable(kListenFdnames)};
}

absl::StatusOr<std::vector<std::string>> ActivatedNames(
    const ActivationVariables& variables, pid_t self) {
  if (!variables.listen_pid.has_value() || !variables.listen_fds.has_value()) {
    return std::vector<std::string>();
  }
  const absl::StatusOr<int> pid = Number(kListenPid, *variables.listen_pid, 1,
                                         std::numeric_limits<pid_t>::max());
  if (!pid.ok()) return pid.status();
  // Not for us: then the rest is none of our business, right or wrong.
  if (*pid != self) return std::vector<std::string>();
  const absl::StatusOr<int> count =
      Number(kListenFds, *variables.listen_fds, 0, kMaxActivatedFds);
  if (!count.ok()) return count.status();
  if (!variables.listen_fdnames.has_value()) {
    return std::vector<std::string>(*count, kUnknownActivatedName);
  }

  const std::string& text = *variables.listen_fdnames;
  std::vector<std::string> names;
  // No text is no name; but the text "" between colons is one.
  if (!text.empty() || *count == 1) names = absl::StrSplit(text, ':');
  if (names.size() != static_cast<size_t>(*count)) {
    return Expected(kListenFdnames, text,
                    absl::StrCat("as many names as LISTEN_FDS says, ", *count,
                                 ", not ", names.size()));
  }
  for (const std::string& name : names) {
    if (name.size() > kMaxActivatedName ||
        !std::all_of(name.begin(), name.end(), absl::ascii_isprint)) {
      return Expected(kListenFdnames, text,
                      absl::StrCat("names of at most ", kMaxActivatedName,
                                   " characters of printable ASCII"));
    }
  }
  return names;
}

absl::StatusOr<std::vector<ActivatedSocket>> AdoptActivatedSockets(
    const ActivationVariables& variables) {
  const absl::StatusOr<std::vector<std::string>> names =
      ActivatedNames(variables, getpid());
  if (!names.ok()) return names.status();
  // First look at all of them, then take them: after an error nobody has to
  // find out which are whose.
  std::vector<bool> listening;
  int fd = kFirstActivatedFd;
  for (const std::string& name : *names) {
    const absl::StatusOr<bool> answer = Inspect(fd++, name);
    if (!answer.ok()) return answer.status();
    listening.push_back(*answer);
  }
  std::vector<ActivatedSocket> sockets;
  for (size_t i = 0; i < names->size(); ++i) {
    ActivatedSocket& socket = sockets.emplace_back();
    socket.fd = UniqueFd(kFirstActivatedFd + static_cast<int>(i));
    socket.name = (*names)[i];
    socket.listening = listening[i];
    // Cannot fail: the descriptor is open.
    (void)fcntl(socket.fd.get(), F_SETFD, FD_CLOEXEC);
  }
  return sockets;
}

void UnsetActivationVariables() {
  for (const char* name : {kListenPid, kListenFds, kListenFdnames}) {
    (void)unsetenv(name);  // Fails only for a name that is none.
  }
}

}  // namespace brood
