// SPDX-License-Identifier: Apache-2.0
#include "brood/server/iterative.h"

#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "brood/net/listener.h"
#include "brood/server/connection_handler.h"
#include "brood/server/fork_per_connection.h"
#include "brood/server/process_model.h"

namespace brood {

absl::StatusOr<std::unique_ptr<ProcessModel>> MakeIterative(
    Listener listener, ConnectionHandler& handler) {
  return ForkPerConnection::Create(std::move(listener), handler,
                                   {.name = "iterative", .max_children = 1});
}

}  // namespace brood
