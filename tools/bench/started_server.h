// SPDX-License-Identifier: Apache-2.0
//
// A StartedServer is one contender that runs and answers, with everyone it
// starts.
//
//   absl::StatusOr<absl::Duration> CpuOfServing(const Contender& contender,
//                                               const std::string& program) {
//     absl::StatusOr<StartedServer> server =
//         StartedServer::Start(contender, program, Folder());
//     if (!server.ok()) return server.status();
//     absl::StatusOr<Stream> client = Stream::Connect(server->address());
//     if (!client.ok()) return client.status();
//     return std::move(*server).Stop();
//   }
//
// What it is not: fast. It is ready when it has said where it listens, or has
// sent back a line.
//
// Ownership: it leads a session of its own. Stop() asks it to end, then makes
// it, and then kills whoever of its descendants is left, for they are handed to
// this process; the destructor does the same without asking. REQUIRES: this
// process has no other children while one runs.
//
// Errors: one line, with the first that the server said itself.
//
// Threads: one. Signals: none used. Fork: see proc/spawn.h.
// Rests on: proc/spawn.h, proc/stop.h, proc/orphans.h.
#ifndef BROOD_TOOLS_BENCH_STARTED_SERVER_H_
#define BROOD_TOOLS_BENCH_STARTED_SERVER_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/proc/child.h"
#include "brood/proc/orphans.h"
#include "brood/tools/bench/contender.h"

namespace brood {

class StartedServer {
 public:
  // `program` is where it was found; `folder` is there, and its own.
  static absl::StatusOr<StartedServer> Start(const Contender& contender,
                                             const std::string& program,
                                             const std::string& folder);
  StartedServer(StartedServer&& other) noexcept;
  StartedServer& operator=(StartedServer&&) = delete;
  ~StartedServer();

  const Address& address() const { return address_; }
  pid_t pid() const { return pid_; }
  // How it was started: its command line, and what its file of configuration
  // has, if there is one.
  const std::vector<std::string>& command() const { return command_; }
  const std::string& config() const { return config_; }
  // What it and all its descendants have for themselves; see process_memory.h.
  absl::StatusOr<int64_t> MemoryOfAll() const;
  // How many of its children have ended and are not reaped.
  absl::StatusOr<int> Zombies() const;

  // Blocks until it and all its descendants have ended, for some seconds at
  // most; says what processor time they have used in all.
  absl::StatusOr<absl::Duration> Stop() &&;

 private:
  StartedServer(Child child, Orphans orphans);

  absl::Duration EndOrphans();

  pid_t pid_;
  std::optional<Child> child_;
  std::optional<Orphans> orphans_;
  Address address_;
  std::vector<std::string> command_;
  std::string config_;
};

}  // namespace brood

#endif  // BROOD_TOOLS_BENCH_STARTED_SERVER_H_
