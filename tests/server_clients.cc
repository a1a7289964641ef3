// SPDX-License-Identifier: Apache-2.0
#include "brood/tests/server_clients.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/log/check.h"
#include "absl/log/log.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/stream.h"
#include "brood/proc/posix.h"
#include "brood/tests/server_process.h"

namespace brood {

Stream Come(const ServerProcess& server, int host) {
  absl::StatusOr<Stream> stream = Knock(server, host);
  CHECK_OK(stream);
  return *std::move(stream);
}

absl::StatusOr<Stream> Knock(const ServerProcess& server, int host,
                             absl::Duration patience) {
  return Stream::Connect(
      server.address(), absl::Now() + patience,
      {.source = *Address::Parse(absl::StrCat("127.0.0.", host, ":0"))});
}

bool Echoes(Stream& stream, std::string_view text) {
  if (!stream.WriteAll(text).ok()) return false;
  std::string echoed;
  std::array<char, 4096> buffer;
  while (echoed.size() < text.size()) {
    const absl::StatusOr<IoResult> got = stream.Read(absl::MakeSpan(buffer));
    if (!got.ok() || got->end()) return false;
    echoed.append(buffer.data(), *got->bytes());
  }
  return echoed == text;
}

bool Echoes(absl::StatusOr<Stream> knocked) {
  return knocked.ok() && Echoes(*knocked);
}

std::string ReadAll(Stream& stream) {
  std::string all;
  std::array<char, 4096> buffer;
  while (true) {
    const absl::StatusOr<IoResult> got = stream.Read(absl::MakeSpan(buffer));
    if (!got.ok() || got->end()) return all;
    all.append(buffer.data(), *got->bytes());
  }
}

bool IsReset(Stream& stream) {
  std::array<char, 1> byte;
  return ErrnoOf(stream.Read(absl::MakeSpan(byte)).status()) == ECONNRESET;
}

bool IsReset(absl::StatusOr<Stream> knocked) {
  return knocked.ok() ? IsReset(*knocked)
                      : ErrnoOf(knocked.status()) == ECONNRESET;
}

uint64_t StateOf(ServerProcess& server, std::string_view name) {
  server.Signal(SIGUSR1);
  const std::optional<std::string> line = server.NextLogLineWith(": uptime ");
  CHECK(line.has_value()) << "the server ended before it said " << name;
  const std::vector<std::string_view> words = absl::StrSplit(*line, ' ');
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    uint64_t value;
    if (words[i] == name && absl::SimpleAtoi(words[i + 1], &value)) {
      return value;
    }
  }
  LOG(FATAL) << *line << ": it says nothing of " << name;
}

void AwaitState(ServerProcess& server, std::string_view name, uint64_t value) {
  while (StateOf(server, name) != value) {
  }
}

absl::Duration CpuTimeOf(pid_t pid) {
  clockid_t clock;
  const int error = clock_getcpuclockid(pid, &clock);
  CHECK_EQ(error, 0) << ErrnoStatus(error, absl::StrCat("clock of ", pid));
  timespec used;
  CHECK_EQ(clock_gettime(clock, &used), 0);
  return absl::DurationFromTimespec(used);
}

}  // namespace brood
