// SPDX-License-Identifier: Apache-2.0
//
// A SmallServer is a server for tests of the load generator: a process that
// takes one client after the other and does with each what the test says.
//
//   absl::StatusOr<LoadResult> LoadOf(const SmallServer& server) {
//     LoadPlan plan = {.to = {server.address()}, .concurrency = 2};
//     plan.connections = 3;
//     return RunLoad(plan, [](const LoadProgress&) { return true; });
//   }
//
// What it is not: fast, or a server of many at once.
//
// Ownership: the destructor kills and reaps it.
//
// Errors: what makes the test meaningless (no socket, no process) aborts it.
// Threads: one. Fork: see proc/fork.h.
#ifndef BROOD_TOOLS_LOAD_SMALL_SERVER_H_
#define BROOD_TOOLS_LOAD_SMALL_SERVER_H_

#include <optional>

#include "absl/functional/function_ref.h"
#include "brood/net/address.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"

namespace brood {

class SmallServer {
 public:
  // Calls `serve` in the server's process for each client, counted from 0. If
  // it is told where to be, its backlog has room for one or two.
  explicit SmallServer(absl::FunctionRef<void(Stream client, int number)> serve,
                       std::optional<Address> at = std::nullopt);
  ~SmallServer();

  const Address& address() const { return address_; }

 private:
  Address address_;
  std::optional<Child> child_;
};

// What a SmallServer does for a client that is to be served well: sends back
// what comes until its end. `change` sees each piece first.
void EchoAll(
    Stream& client, absl::FunctionRef<void(char* begin, char* end)> change =
                        [](char*, char*) {});

// Where nobody listens.
Address Nowhere();

}  // namespace brood

#endif  // BROOD_TOOLS_LOAD_SMALL_SERVER_H_
