// SPDX-License-Identifier: Apache-2.0
//
// Clients of a ServerProcess, and what it says of itself while they are there.
//
//   Stream client = Come(server, 2);  // From 127.0.0.2.
//   EXPECT_TRUE(Echoes(client));
//   AwaitState(server, "active", 1);
//   EXPECT_EQ(StateOf(server, "waiting"), 0);
//
// What it is not: a load. Each of these is one client that does one thing.
//
// StateOf and AwaitState send SIGUSR1 and pass over the lines before the
// answer: what is expected of the log is read before they are called.
//
// Errors: what makes the test meaningless (no connection, a server that has
// ended) aborts it. Threads: one.
#ifndef BROOD_TESTS_SERVER_CLIENTS_H_
#define BROOD_TESTS_SERVER_CLIENTS_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/net/stream.h"
#include "brood/tests/server_process.h"

namespace brood {

// A client from 127.0.0.`host`.
Stream Come(const ServerProcess& server, int host = 1);
// The same, who may not get in: whom a server resets, it may reset while he
// connects still.
absl::StatusOr<Stream> Knock(
    const ServerProcess& server, int host,
    absl::Duration patience = absl::InfiniteDuration());
// Whether what it says comes back.
bool Echoes(Stream& stream, std::string_view text = "x");
bool Echoes(absl::StatusOr<Stream> knocked);
// Up to the end or a reset.
std::string ReadAll(Stream& stream);
// Blocks until there is something to read, and says whether that is a reset.
bool IsReset(Stream& stream);
bool IsReset(absl::StatusOr<Stream> knocked);

// A number of the line that says how things stand.
uint64_t StateOf(ServerProcess& server, std::string_view name);
// Blocks until it is this one.
void AwaitState(ServerProcess& server, std::string_view name, uint64_t value);

// What the process itself has used of the processors, its children left out.
absl::Duration CpuTimeOf(pid_t pid);

}  // namespace brood

#endif  // BROOD_TESTS_SERVER_CLIENTS_H_
