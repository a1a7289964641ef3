// SPDX-License-Identifier: Apache-2.0
//
// A LoadPlan is which connections are to be made, how fast, and what is said on
// each.
//
//   absl::StatusOr<LoadPlan> TenThousandToThisMachine() {
//     const absl::StatusOr<Address> to = Address::Parse("127.0.0.1:7007");
//     if (!to.ok()) return to.status();
//     LoadPlan plan = {.to = {*to}, .concurrency = 64};
//     plan.connections = 10'000;
//     plan.rate = 500;
//     if (absl::Status s = CheckPlan(plan); !s.ok()) return s;
//     return plan;
//   }
//
// What it is not: read from flags (load_options.h) or carried out (load_run.h).
//
// Errors: CheckPlan: InvalidArgument, one line that names what contradicts
// what.
//
// Threads, signals, fork: a value.
#ifndef BROOD_TOOLS_LOAD_LOAD_PLAN_H_
#define BROOD_TOOLS_LOAD_LOAD_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/proxy_protocol.h"

namespace brood {

struct LoadPlan {
  // What the server does with what it is sent.
  enum class Service {
    kEcho,     // Sends it back; every byte is looked at.
    kDiscard,  // Nothing, and ends when the client has.
    kNone,     // Is not asked: connect and close.
  };

  // A header of the PROXY protocol before the first message.
  struct Proxy {
    ProxyHeader::Version version = ProxyHeader::Version::k2;
    // The clients it tells of, in turn; their ports are made up.
    std::vector<Address> clients = {};
  };

  // A part of the plan: of each `of` connections in a row the one that comes
  // at `index`, and of the concurrency as large a part.
  struct Share {
    size_t index = 0;
    size_t of = 1;
  };

  // The servers, in turn; at least one.
  std::vector<Address> to = {};
  // Where to come from, in turn, each to a server of its family; none leaves it
  // to the kernel.
  std::vector<Address> from = {};
  // How many may be open at once.
  size_t concurrency = 16;
  // How many in all, or for how long one begins after the other; one of them,
  // or whichever is first.
  std::optional<uint64_t> connections = std::nullopt;
  std::optional<absl::Duration> duration = std::nullopt;
  // How many are due in a second: the first at once, and then one every
  // 1/rate s, however the others fare. None: the next one begins when one ends.
  std::optional<double> rate = std::nullopt;
  // On each connection. None: as many as `duration` leaves time for.
  std::optional<uint64_t> messages = 1;
  size_t message_size = 64;
  // Each message ends with a line feed, for servers that answer line by line.
  bool lines = false;
  // Between a message's answer and the next message.
  absl::Duration think_time = absl::ZeroDuration();
  Service service = Service::kEcho;
  std::optional<Proxy> proxy = std::nullopt;
  // How long a connection may take to be made, and how long without a byte
  // going either way it may be waited for.
  absl::Duration timeout = absl::Seconds(10);
  Share share = {};
};

// How many connections of the plan are this share's; nothing if only the
// duration limits them.
std::optional<uint64_t> ConnectionsOfShare(const LoadPlan& plan);
size_t ConcurrencyOfShare(const LoadPlan& plan);

absl::Status CheckPlan(const LoadPlan& plan);

}  // namespace brood

#endif  // BROOD_TOOLS_LOAD_LOAD_PLAN_H_
