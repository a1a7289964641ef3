// SPDX-License-Identifier: Apache-2.0
#include "brood/server/iterative.h"

#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "brood/server/acceptor.h"
#include "brood/server/connection_handler.h"
#include "brood/server/fork_per_connection.h"
#include "brood/server/process_model.h"

namespace brood {

absl::StatusOr<std::unique_ptr<ProcessModel>> MakeIterative(
    Acceptor acceptor, ConnectionHandler& handler,
    ForkPerConnection::Options options) {
  options.name = "iterative";
  options.gate.limits.max_connections = 1;
  options.gate.max_waiting = 0;
  options.fixed_capacity = true;
  return ForkPerConnection::Create(std::move(acceptor), handler, options);
}

}  // namespace brood
