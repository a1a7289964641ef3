// SPDX-License-Identifier: Apache-2.0
#include "brood/server/exec_handler.h"

#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/memory/memory.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/net/peer_credentials.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/posix.h"
#include "brood/proc/spawn.h"
#include "brood/proc/spawn_slots.h"
#include "brood/server/connection_handler.h"
#include "brood/server/program.h"
#include "brood/signal/mask.h"
#include "brood/signal/signal_fd.h"

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

// Blocks until the program has ended. Whether it was told to.
bool PassOnTerm(SignalFd& term, Child& program) {
  // Sooner than whoever sent SIGTERM would lose patience with this process.
  constexpr absl::Duration kTermToKill = absl::Seconds(1);
  absl::Duration kill_at = absl::InfiniteDuration();
  bool told = false;
  while (true) {
    const absl::Duration now = MonotonicNow();
    if (now >= kill_at) {
      kill_at = absl::InfiniteDuration();
      (void)program.SignalGroup(SIGKILL);
    }
    const int timeout =
        kill_at == absl::InfiniteDuration()
            ? -1
            : static_cast<int>(absl::ToInt64Milliseconds(
                  absl::Ceil(kill_at - now, absl::Milliseconds(1))));
    std::array<pollfd, 2> fds = {
        {{.fd = program.fd(), .events = POLLIN, .revents = 0},
         {.fd = term.fd(), .events = POLLIN, .revents = 0}}};
    if (poll(fds.data(), fds.size(), timeout) == -1 && errno != EINTR) {
      return told;
    }
    if (fds[0].revents != 0) return told;
    const absl::StatusOr<std::optional<SignalEvent>> event = term.Next();
    if (told || !event.ok() || !event->has_value()) continue;
    told = true;
    kill_at = MonotonicNow() + kTermToKill;
    (void)program.SignalGroup(SIGTERM);
  }
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
  constexpr int kCannotBegin = 126;
  constexpr int kKilled = 128;
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGTERM});
  if (!mask.ok()) return kCannotBegin;
  absl::StatusOr<SignalFd> term = SignalFd::Create({SIGTERM});
  if (!term.ok()) return kCannotBegin;
  absl::StatusOr<Child> child = Start(stream, info, {});
  if (!child.ok()) return kCannotBegin;
  const bool told = PassOnTerm(*term, *child);
  // While the leader is not reaped, the group's number is its own.
  if (told) (void)child->SignalGroup(SIGKILL);
  const absl::StatusOr<ExitStatus> status = child->Wait();
  if (told) (void)raise(SIGTERM);  // Strikes when the mask goes.
  if (!status.ok()) return kCannotBegin;
  if (status->exit_code().has_value()) return *status->exit_code();
  return kKilled + status->term_signal().value_or(0);
}

}  // namespace brood
