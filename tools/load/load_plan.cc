// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/load/load_plan.h"

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/net/address.h"

namespace brood {
namespace {

absl::Status Refuse(std::string_view what, std::string_view allowed) {
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": allowed is ", allowed));
}

absl::Status CheckPlaces(const LoadPlan& plan) {
  if (plan.to.empty()) return Refuse("to nowhere", "at least one server");
  for (const Address& to : plan.to) {
    if (to == Address() || to.port() == 0) {
      return Refuse(absl::StrCat("to ", to), "where a server can listen");
    }
    const bool can_come =
        plan.from.empty() ||
        absl::c_any_of(plan.from, [&](const Address& from) {
          return to.family() != AF_UNIX && from.family() == to.family();
        });
    if (!can_come) {
      return Refuse(absl::StrCat("to ", to, " from ", plan.from.front()),
                    "TCP from an address of the same family");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckProxy(const LoadPlan::Proxy& proxy) {
  if (proxy.clients.empty()) {
    return Refuse("a PROXY header for nobody", "at least one client");
  }
  for (const Address& client : proxy.clients) {
    if (client.family() != AF_UNIX) continue;
    return Refuse(absl::StrCat("a PROXY header for ", client),
                  "an IPv4 or IPv6 address");
  }
  return absl::OkStatus();
}

}  // namespace

std::optional<uint64_t> ConnectionsOfShare(const LoadPlan& plan) {
  if (!plan.connections.has_value()) return std::nullopt;
  return (*plan.connections + plan.share.of - 1 - plan.share.index) /
         plan.share.of;
}

size_t ConcurrencyOfShare(const LoadPlan& plan) {
  return (plan.concurrency + plan.share.of - 1 - plan.share.index) /
         plan.share.of;
}

absl::Status CheckPlan(const LoadPlan& plan) {
  if (absl::Status s = CheckPlaces(plan); !s.ok()) return s;
  if (plan.concurrency == 0) {
    return Refuse("0 connections at once", "1 or more");
  }
  if (!plan.connections.has_value() && !plan.duration.has_value()) {
    return Refuse("neither connections nor a duration", "one of them, or both");
  }
  if (plan.duration.has_value() && *plan.duration <= absl::ZeroDuration()) {
    return Refuse(absl::StrCat("for ", absl::FormatDuration(*plan.duration)),
                  "a positive duration");
  }
  if (plan.rate.has_value() && !(*plan.rate > 0)) {
    return Refuse(absl::StrCat(*plan.rate, " connections a second"),
                  "a positive rate");
  }
  if (plan.messages == 0) return Refuse("0 messages", "1 or more");
  if (!plan.messages.has_value() && !plan.duration.has_value()) {
    return Refuse("as many messages as there is time for", "with a duration");
  }
  if (plan.message_size == 0) return Refuse("0 bytes", "1 or more");
  if (plan.think_time < absl::ZeroDuration()) {
    return Refuse("a negative think time", "zero or more");
  }
  if (plan.timeout <= absl::ZeroDuration()) {
    return Refuse("no timeout", "a positive one");
  }
  if (plan.share.index >= plan.share.of || plan.share.of > plan.concurrency) {
    return Refuse(
        absl::StrCat("share ", plan.share.index, " of ", plan.share.of),
        "one of as many as may be open at once");
  }
  if (plan.proxy.has_value()) return CheckProxy(*plan.proxy);
  return absl::OkStatus();
}

}  // namespace brood
