// SPDX-License-Identifier: Apache-2.0
// The server: parse, build, run, and say in the exit code how it went.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <iostream>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/proc/posix.h"
#include "brood/server/acceptor.h"
#include "brood/server/connection_handler.h"
#include "brood/server/echo.h"
#include "brood/server/fork_per_connection.h"
#include "brood/server/iterative.h"
#include "brood/server/options.h"
#include "brood/server/process_model.h"
#include "brood/server/supervisor.h"
#include "brood/signal/mask.h"

namespace brood {
namespace {

constexpr int kWorldRefuses = 1;
constexpr int kUsageError = 2;

// What a person can do about it.
std::string_view Advice(const absl::Status& status, const Address& address) {
  const bool path = address.unix_path().has_value();
  switch (ErrnoOf(status)) {
    case EADDRINUSE:
      return path ? "; stop who answers there, or choose a path that is free"
                  : "; stop who has it, or choose another (0 takes a free one)";
    case EACCES:
    case EPERM:
      return path ? "; choose a path in a folder that may be written"
                  : "; choose a port from 1024 up";
    case ENOENT:
    case ENOTDIR:
      return "; choose a path in a folder that exists";
    case EADDRNOTAVAIL:
      return "; choose an address of this machine";
    default:
      return "";
  }
}

int Fail(int exit_code, std::string_view message) {
  std::cerr << "server: " << message << std::endl;
  return exit_code;
}

// Whoever starts us may have closed some of the first three. The next
// descriptors opened would take their numbers, and a line for the log would go
// to a client.
void FillStandardDescriptors() {
  int fd;
  do {
    fd = open("/dev/null", O_RDWR);
  } while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd > STDERR_FILENO) close(fd);
}

// A descriptor for each child is held by its parent, and the soft limit of most
// shells, 1024, exists for the sake of select(2), which is not used here.
void RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == -1) return;
  limit.rlim_cur = limit.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &limit);
}

absl::StatusOr<std::unique_ptr<ProcessModel>> MakeModel(
    ServerOptions::Model model, Acceptor acceptor, ConnectionHandler& handler) {
  switch (model) {
    case ServerOptions::Model::kIterative:
      return MakeIterative(std::move(acceptor), handler);
    case ServerOptions::Model::kPrefork:
      return absl::UnimplementedError("--model=prefork is not in this server");
    case ServerOptions::Model::kFork:
      break;
  }
  return ForkPerConnection::Create(std::move(acceptor), handler, {});
}

int Run(absl::Span<const std::string_view> args) {
  const absl::StatusOr<ServerOptions> options = ParseOptions(args);
  if (!options.ok()) return Fail(kUsageError, options.status().message());
  if (options->help) {
    std::cout << Usage() << std::flush;
    return std::cout ? 0 : kWorldRefuses;
  }
  RaiseDescriptorLimit();
  std::vector<Listener> listeners;
  for (const auto& [address, listener_options] : options->listen.places) {
    absl::StatusOr<Listener> listener =
        Listener::Open(address, listener_options);
    if (!listener.ok()) {
      return Fail(kWorldRefuses,
                  absl::StrCat("--listen=", address.ToString(), ": ",
                               listener.status().message(),
                               Advice(listener.status(), address)));
    }
    listeners.push_back(*std::move(listener));
  }
  EchoHandler echo;
  absl::StatusOr<std::unique_ptr<ProcessModel>> model =
      MakeModel(options->model, Acceptor(std::move(listeners)), echo);
  if (!model.ok()) return Fail(kWorldRefuses, model.status().message());
  const absl::Status status =
      Supervise(**model, {.drain_timeout = options->drain_timeout});
  if (!status.ok()) return Fail(kWorldRefuses, status.message());
  return 0;
}

}  // namespace
}  // namespace brood

int main(int argc, char** argv) {
  brood::FillStandardDescriptors();
  // From the first moment to the last, so that a request to stop finds either a
  // server that can be stopped or one that has ended, with its exit code.
  // Children have none of these blocked.
  const absl::StatusOr<brood::SignalMask> mask =
      brood::SignalMask::Block({SIGTERM, SIGINT, SIGPIPE});
  const int exit_code =
      brood::Run(std::vector<std::string_view>(argv + 1, argv + argc));
  _exit(exit_code);  // Would put the mask back otherwise.
}
