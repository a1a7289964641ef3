// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/load/idle_crowd.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/tools/load/load_engine.h"
#include "brood/tools/load/load_plan.h"
#include "brood/tools/load/load_result.h"

namespace brood {

absl::StatusOr<IdleCrowd> IdleCrowd::Gather(const LoadPlan& plan,
                                            absl::FunctionRef<bool()> go_on) {
  if (!plan.connections.has_value() || !plan.messages.has_value()) {
    return absl::InvalidArgumentError(
        "a crowd of idle connections: allowed is a number of connections, and "
        "one of messages");
  }
  absl::StatusOr<LoadEngine> engine = LoadEngine::Create(plan);
  if (!engine.ok()) return engine.status();
  std::vector<UniqueFd> connections;
  engine->KeepIn(connections);
  // One that fails is one too few: nothing is gained by going on.
  const absl::StatusOr<LoadResult> result =
      engine->Run([&](const LoadProgress& progress) {
        return progress.failed == 0 && go_on();
      });
  if (!result.ok()) return result.status();
  if (connections.size() == *plan.connections) {
    return IdleCrowd(std::move(connections));
  }
  return absl::UnavailableError(absl::StrCat(
      "of ", *plan.connections, " idle connections there are ",
      connections.size(),
      result->failures.empty()
          ? ""
          : absl::StrCat(": ", result->failures.begin()->second.first)));
}

absl::StatusOr<size_t> IdleCrowd::StillConnected() const {
  std::vector<pollfd> items;
  items.reserve(connections_.size());
  for (const UniqueFd& connection : connections_) {
    items.push_back(
        {.fd = connection.get(), .events = POLLIN | POLLRDHUP, .revents = 0});
  }
  if (RetryOnEintr([&] { return poll(items.data(), items.size(), 0); }) == -1) {
    return ErrnoStatus(errno, "poll a crowd");
  }
  const auto silent = [](const pollfd& item) { return item.revents == 0; };
  return static_cast<size_t>(std::count_if(items.begin(), items.end(), silent));
}

}  // namespace brood
