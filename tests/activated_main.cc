// SPDX-License-Identifier: Apache-2.0
// Tells its first client what it was handed, one socket a line, and ends.
#include <poll.h>
#include <sys/socket.h>

#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "brood/net/activation.h"
#include "brood/net/stream.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

absl::Status AnswerOne() {
  absl::StatusOr<std::vector<ActivatedSocket>> sockets =
      AdoptActivatedSockets(ActivationVariables::FromEnvironment());
  if (!sockets.ok()) return sockets.status();
  std::string answer;
  for (const ActivatedSocket& socket : *sockets) {
    absl::StrAppend(&answer, socket.name,
                    socket.listening ? " listens\n" : " is connected\n");
  }
  if (sockets->empty()) return absl::NotFoundError("nothing was handed over");
  ActivatedSocket& first = sockets->front();
  UniqueFd client = std::move(first.fd);
  if (first.listening) {
    const absl::StatusOr<bool> ready =
        PollUntil(client.get(), POLLIN, absl::Now() + absl::Seconds(20));
    if (!ready.ok()) return ready.status();
    if (!*ready) return absl::DeadlineExceededError("no client has come");
    client = UniqueFd(accept4(client.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  absl::StatusOr<Stream> stream = Stream::Adopt(std::move(client));
  if (!stream.ok()) return stream.status();
  return stream->WriteAll(answer, absl::Now() + absl::Seconds(20));
}

}  // namespace
}  // namespace brood

int main() {
  const absl::Status status = brood::AnswerOne();
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
