// SPDX-License-Identifier: Apache-2.0
//
// Options turns the server's command line into a checked struct, or into one
// line that says which flag is wrong and what it may be.
//
//   int PrintPlaces(absl::Span<const std::string_view> args) {
//     absl::StatusOr<ServerOptions> options = ParseOptions(args);
//     if (!options.ok()) {
//       std::cerr << options.status().message() << "\n";
//       return 2;
//     }
//     for (const ServerOptions::Place& place : options->listen.places) {
//       std::cout << place.address << "\n";
//     }
//     return 0;
//   }
//
// What it is not: a flag registry. There are no globals; what is not in the
// struct does not exist. Nor does it look at the world: whether there is such a
// user, file or program is for those who need them to find out.
//
// A flag is written --name=value or --name value; a value that begins with --
// only in the first form. One that is true or false is also written --name and
// --noname. What follows a lone -- is a program and its arguments.
//
// Each flag is given once, so their order never matters and none is overruled
// by one that nobody saw; only --listen, --allow and --deny add up. Flags that
// contradict each other, or that would change nothing beside the others, are
// errors too. With --help they are not, for there nothing else counts.
//
// Errors: InvalidArgument, one line; the values in it are quoted and escaped.
//
// Threads, signals, fork: a pure function and a value.
#ifndef BROOD_SERVER_OPTIONS_H_
#define BROOD_SERVER_OPTIONS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/address_range_set.h"
#include "brood/net/listener.h"
#include "brood/net/proxy_protocol.h"
#include "brood/net/source_key.h"
#include "brood/proc/limits.h"
#include "brood/server/admission.h"
#include "brood/server/connection_log.h"
#include "brood/server/flood_guard.h"
#include "brood/server/rules.h"

namespace brood {

struct ServerOptions {
  enum class Model { kFork, kIterative, kPrefork };

  // For Listener::Open(): options of TCP only where the address is, those of a
  // path only where it has one.
  struct Place {
    Address address;
    Listener::Options options = {};
  };
  struct Listen {
    // At least one, unless `help`. Each is another, but for those with port 0.
    std::vector<Place> places = {};
    // Somebody wrote --listen. Else `places` is the default, in whose stead
    // sockets may come that a starter hands over (net/activation.h).
    bool given = false;
    // Names or numbers, to be looked up, for Options::access of the paths.
    std::optional<std::string> unix_owner = std::nullopt;
    std::optional<std::string> unix_group = std::nullopt;
  };

  // The workers of Model::kPrefork.
  struct Workers {
    // So many, always; else as many as the clients need and some ahead.
    std::optional<size_t> fixed = std::nullopt;
    // min_spare <= max_spare <= max.
    size_t min_spare = 5;
    size_t max_spare = 10;
    size_t max = 256;
    // After how many a worker goes; 0 for never.
    uint64_t connections_per_worker = 0;
  };

  struct Handler {
    // argv of a program; empty if it is the service. At most one was asked for.
    std::vector<std::string> program = {};
    // One of kServiceNames.
    std::string service = "echo";
    bool stderr_to_socket = false;
    // For ProgramEnvironment::Create(), which has been asked.
    std::string keep_env = {};
    absl::Duration client_gone_grace = absl::Seconds(10);
    Limits limits = {};
    bool new_privileges = false;
  };

  struct Admit {
    ConnectionLimits limits = {};
    SourceKey::Lengths source_lengths = {};
    AtLimit at_limit = AtLimit::kQueue;
    // For those who are refused, without the end of its line; empty for none.
    std::string message = {};
    // How many may be in the waiting room.
    size_t max_waiting = 1024;
    // See FloodGuard; 0 shuts nobody out.
    uint32_t flood_threshold = FloodGuard::kDefaultThreshold;
  };

  struct Patience {
    // So many bytes, of both directions together, in each such period.
    struct Rate {
      uint64_t bytes = 0;
      absl::Duration period = absl::Seconds(1);

      friend bool operator==(const Rate&, const Rate&) = default;
    };

    std::optional<absl::Duration> idle = std::nullopt;
    std::optional<absl::Duration> handler = std::nullopt;
    std::optional<Rate> min_rate = std::nullopt;
  };

  // Who may come at all.
  struct Access {
    // Of --allow and --deny; none if there is a file.
    Rules rules = {};
    std::optional<std::string> rules_file = std::nullopt;
    // Whom to Explain(), and do nothing else.
    std::optional<std::string> explain = std::nullopt;
  };

  struct Proxy {
    // Which headers trusted proxies send; nothing if they send none.
    std::optional<ProxyHeaderOptions> headers = std::nullopt;
    AddressRangeSet trusted = {};
    // How long one may take to send its header.
    absl::Duration timeout = absl::Seconds(3);
  };

  // Where a server that runs is asked, a unix path or an abstract name.
  struct ControlSocket {
    std::optional<Address> address = std::nullopt;
    // What to AskControl() there, and do nothing else; comes with an address.
    std::optional<std::string> ask = std::nullopt;
  };

  // Names or numbers, to be looked up. A group or a chroot comes with a user.
  struct Privileges {
    std::optional<std::string> user = std::nullopt;
    std::optional<std::string> group = std::nullopt;
    std::optional<std::string> chroot = std::nullopt;
  };

  Listen listen = {};
  Model model = Model::kFork;
  Workers workers = {};
  Handler handler = {};
  Admit admit = {};
  Patience patience = {};
  Access access = {};
  Proxy proxy = {};
  Privileges privileges = {};
  ControlSocket control = {};
  // Nothing is logged without one.
  std::optional<LogFormat> log_format = LogFormat::kText;
  // Where to TellReady(), if anywhere.
  std::optional<int> ready_fd = std::nullopt;
  // How long those inside may take to finish once the server is asked to stop.
  absl::Duration drain_timeout = absl::Seconds(30);
  // Print Usage() and do nothing else.
  bool help = false;
};

// `args` without the program's name.
absl::StatusOr<ServerOptions> ParseOptions(
    absl::Span<const std::string_view> args);

// What --help prints: every flag, what it may be and what it is without, every
// signal, and the exit codes.
std::string Usage();

}  // namespace brood

#endif  // BROOD_SERVER_OPTIONS_H_
