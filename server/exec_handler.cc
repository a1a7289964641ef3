// SPDX-License-Identifier: Apache-2.0
#include "brood/server/exec_handler.h"

#include <unistd.h>

#include <csignal>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/memory/memory.h"
#include "absl/status/statusor.h"
#include "brood/net/peer_credentials.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/spawn.h"
#include "brood/proc/spawn_slots.h"
#include "brood/server/connection_handler.h"
#include "brood/server/program.h"
#include "brood/server/program_run.h"

namespace brood {
namespace {

ClientFacts FactsOf(const Stream& stream, const ConnectionInfo& info) {
  ClientFacts facts = {.connections = info.connections_of_source};
  if (info.peer.family() != AF_UNIX) return facts;
  const absl::StatusOr<PeerCredentials> peer = PeerCredentialsOf(stream.fd());
  if (peer.ok()) {
    facts.credentials = ClientFacts::Credentials{
        .pid = peer->pid, .uid = peer->uid, .gid = peer->gid};
  }
  return facts;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ExecHandler>> ExecHandler::Create(
    std::vector<std::string> argv, const Options& options) {
  absl::StatusOr<std::string> path = ResolveProgram(argv);
  if (!path.ok()) return path.status();
  absl::StatusOr<ProgramEnvironment> environment =
      ProgramEnvironment::Create(options.keep_env);
  if (!environment.ok()) return environment.status();
  absl::StatusOr<SpawnSlots> slots = SpawnSlots::Reserve();
  if (!slots.ok()) return slots.status();
  return absl::WrapUnique(new ExecHandler(
      std::move(argv), *std::move(path), *std::move(environment),
      *std::move(slots), options.stderr_to_socket));
}

absl::StatusOr<Child> ExecHandler::Start(Stream& stream,
                                         const ConnectionInfo& info,
                                         const HandlerProcess& process) {
  SpawnOptions options = {
      .program = path_,
      .env = environment_.For(info, FactsOf(stream, info)),
      .fds = {{.child = STDIN_FILENO, .parent = stream.fd()},
              {.child = STDOUT_FILENO, .parent = stream.fd()}},
      .process_group = 0,
      .limits = process.limits,
      .parent_death_signal = SIGKILL,
      .slots = &slots_,
  };
  if (stderr_to_socket_) {
    options.fds.push_back({.child = STDERR_FILENO, .parent = stream.fd()});
  }
  return Spawn(argv_, options);
}

int ExecHandler::Handle(Stream& stream, const ConnectionInfo& info) {
  constexpr int kKilled = 128;
  absl::StatusOr<ProgramRun> run = ProgramRun::Create();
  if (!run.ok()) return kCannotBegin;
  const absl::StatusOr<ProgramRun::End> end = run->Run(*this, stream, info, {});
  if (!end.ok() || end->status.lost()) return kCannotBegin;
  const std::optional<int> code = end->status.exit_code();
  return code.value_or(kKilled + end->status.term_signal().value_or(0));
}

}  // namespace brood
