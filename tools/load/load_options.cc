// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/load/load_options.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/proxy_protocol.h"
#include "brood/server/flag_table.h"
#include "brood/server/flag_values.h"
#include "brood/tools/load/host_list.h"
#include "brood/tools/load/load_plan.h"
#include "brood/tools/load/load_report.h"
#include "brood/tools/load/load_result.h"

namespace brood {
namespace {

constexpr std::string_view kDefaultTo = "127.0.0.1:7007";
constexpr std::string_view kDefaultProxyFrom = "192.0.2.1";
constexpr absl::Duration kDefaultDuration = absl::Seconds(10);
constexpr uint64_t kMostConnections = 1'000'000'000'000;
constexpr uint64_t kMostBytes = uint64_t{1} << 30;
constexpr absl::Duration kShortest = absl::Milliseconds(1);
constexpr absl::Duration kLongest = absl::Hours(24);
constexpr double kHighestRate = 10'000'000;
constexpr double kLowestRate = 0.001;

// The groups of --help.
constexpr std::string_view kWhere = "from where to where";
constexpr std::string_view kMany = "how many connections";
constexpr std::string_view kSaid = "what is said on each";
constexpr std::string_view kTold = "how it is told";

constexpr std::string_view kHosts =
    "hosts such as 127.0.0.1, 127.0.0.1-127.0.0.50, 127.0.0.0/28 or ::1, with "
    "commas between, 65536 at most";

struct Draft {
  LoadOptions options = {};
  std::optional<ProxyHeader::Version> proxy_version = std::nullopt;
  std::vector<Address> proxy_clients = {};
};

absl::Status ReadTo(std::string_view value, Draft& draft) {
  for (const std::string_view text : absl::StrSplit(value, ',')) {
    const absl::StatusOr<Address> address = Address::Parse(text);
    if (!address.ok()) return address.status();
    if (*address == Address() || address->port() == 0) return AllowedIf(false);
    draft.options.plan.to.push_back(*address);
  }
  return absl::OkStatus();
}

absl::Status ReadHosts(std::string_view value, std::vector<Address>& hosts) {
  absl::StatusOr<std::vector<Address>> parsed = ParseHosts(value);
  if (!parsed.ok()) return parsed.status();
  hosts = *std::move(parsed);
  return absl::OkStatus();
}

// Digits, and perhaps a point among them.
bool ReadRate(std::string_view value, std::optional<double>& rate) {
  const auto plain = [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c)) || c == '.';
  };
  return absl::c_all_of(value, plain) &&
         absl::SimpleAtod(value, &rate.emplace()) && *rate >= kLowestRate &&
         *rate <= kHighestRate;
}

bool ReadMessages(std::string_view value, std::optional<uint64_t>& messages) {
  if (value == "unlimited") {
    messages = std::nullopt;
    return true;
  }
  return ReadNumber(value, 1, kMostConnections, messages);
}

FlagTable FlagsInto(Draft& draft) {
  LoadPlan& plan = draft.options.plan;
  return FlagTable(
      {
          {.name = "to",
           .value_name = "ADDRESS,...",
           .group = kWhere,
           .what = "the servers, which are connected to in turn",
           .allowed = "addresses such as 127.0.0.1:7007, [::1]:7007, "
                      "unix:/path or unix:@abstract, with commas between",
           .by_default = kDefaultTo,
           .parse =
               [&draft](std::string_view value) {
                 return ReadTo(value, draft);
               }},
          {.name = "from",
           .value_name = "HOST,...",
           .group = kWhere,
           .what = "TCP: addresses of this machine to come from, in turn",
           .allowed = kHosts,
           .by_default = "what the kernel thinks best",
           .more = "All of 127.0.0.0/8 is of this machine. Each address has "
                   "some 28,000 ports, of which a closed connection keeps one "
                   "for a while, and the kernel searches them one by one: for "
                   "more than some 10,000 connections a second give several.",
           .parse =
               [&plan](std::string_view value) {
                 return ReadHosts(value, plan.from);
               }},
          {.name = "concurrency",
           .value_name = "N",
           .group = kMany,
           .what = "how many may be open at once",
           .allowed = "a number from 1 to 1000000",
           .by_default = "16",
           .parse =
               [&plan](std::string_view value) {
                 return AllowedIf(
                     ReadNumber(value, 1, 1'000'000, plan.concurrency));
               }},
          {.name = "connections",
           .value_name = "N",
           .group = kMany,
           .what = "how many in all",
           .allowed = "a number from 1 to 1000000000000",
           .by_default = "as many as there is time for",
           .parse =
               [&plan](std::string_view value) {
                 return AllowedIf(
                     ReadNumber(value, 1, kMostConnections, plan.connections));
               }},
          {.name = "duration",
           .value_name = "DURATION",
           .group = kMany,
           .what = "for how long new ones begin; who is connected then "
                   "finishes the message underway",
           .allowed = "a duration from 1ms to 24h",
           .by_default = "10s, or with --connections no limit",
           .parse =
               [&plan](std::string_view value) {
                 return AllowedIf(
                     ReadDuration(value, kShortest, kLongest, plan.duration));
               }},
          {.name = "rate",
           .value_name = "N",
           .group = kMany,
           .what = "how many begin in a second, at even distances and whatever "
                   "becomes of those before; else one begins when one ends",
           .allowed = "a number from 0.001 to 10000000",
           .by_default = "as fast as it goes",
           .parse =
               [&plan](std::string_view value) {
                 return AllowedIf(ReadRate(value, plan.rate));
               }},
          {.name = "processes",
           .value_name = "N",
           .group = kMany,
           .what = "how many processes share the work, each with its part of "
                   "--concurrency, --connections and --rate",
           .allowed = "a number from 1 to 256",
           .by_default = "1",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(
                     ReadNumber(value, 1, 256, draft.options.processes));
               }},
          {.name = "service",
           .value_name = "NAME",
           .group = kSaid,
           .what = "what the servers do: echo, and every byte is looked at; "
                   "discard, and end when the client has; none, and the client "
                   "connects and closes",
           .allowed = "echo, discard or none",
           .by_default = "echo",
           .parse =
               [&plan](std::string_view value) {
                 using Service = LoadPlan::Service;
                 return AllowedIf(ReadWord(value,
                                           {{"echo", Service::kEcho},
                                            {"discard", Service::kDiscard},
                                            {"none", Service::kNone}},
                                           plan.service));
               }},
          {.name = "size",
           .value_name = "BYTES",
           .group = kSaid,
           .what = "how long a message is",
           .allowed = "a number from 1 to 1073741824",
           .by_default = "64",
           .parse =
               [&plan](std::string_view value) {
                 return AllowedIf(
                     ReadNumber(value, 1, kMostBytes, plan.message_size));
               }},
          {.name = "messages",
           .value_name = "N",
           .group = kSaid,
           .what = "how many messages, each after the answer to the one before",
           .allowed = "a number from 1 to 1000000000000, or unlimited: until "
                      "--duration is over",
           .by_default = "1",
           .parse =
               [&plan](std::string_view value) {
                 return AllowedIf(ReadMessages(value, plan.messages));
               }},
          {.name = "think_time",
           .value_name = "DURATION",
           .group = kSaid,
           .what = "between an answer and the next message",
           .allowed = "a duration from 0s to 24h",
           .by_default = "0s",
           .parse =
               [&plan](std::string_view value) {
                 return AllowedIf(ReadDuration(value, absl::ZeroDuration(),
                                               kLongest, plan.think_time));
               }},
          {.name = "proxy_protocol",
           .value_name = "VERSION",
           .group = kSaid,
           .what = "a header of the PROXY protocol comes first, as from a "
                   "proxy",
           .allowed = "v1 or v2",
           .by_default = "none",
           .parse =
               [&draft](std::string_view value) {
                 using Version = ProxyHeader::Version;
                 return AllowedIf(
                     ReadWord(value, {{"v1", Version::k1}, {"v2", Version::k2}},
                              draft.proxy_version.emplace()));
               }},
          {.name = "proxy_from",
           .value_name = "HOST,...",
           .group = kSaid,
           .what = "the clients that these headers tell of, in turn; their "
                   "ports are made up",
           .allowed = kHosts,
           .by_default = kDefaultProxyFrom,
           .parse =
               [&draft](std::string_view value) {
                 return ReadHosts(value, draft.proxy_clients);
               }},
          {.name = "timeout",
           .value_name = "DURATION",
           .group = kSaid,
           .what = "how long to wait to be connected, and how long for the "
                   "next byte of an answer",
           .allowed = "a duration from 1ms to 24h",
           .by_default = "10s",
           .parse =
               [&plan](std::string_view value) {
                 return AllowedIf(
                     ReadDuration(value, kShortest, kLongest, plan.timeout));
               }},
          {.name = "output",
           .value_name = "FORMAT",
           .group = kTold,
           .what = "the summary, on standard output",
           .allowed = "text or json",
           .by_default = "text",
           .parse =
               [&draft](std::string_view value) {
                 using Output = LoadOptions::Output;
                 return AllowedIf(ReadWord(
                     value, {{"text", Output::kText}, {"json", Output::kJson}},
                     draft.options.output));
               }},
      },
      {.example = "--connections=1000"});
}

absl::Status Agree(const GivenFlags& given, Draft& draft) {
  LoadPlan& plan = draft.options.plan;
  if (plan.service == LoadPlan::Service::kNone) {
    if (absl::Status s = given.Refuse(
            {"size", "messages", "think_time", "proxy_protocol", "proxy_from"},
            "and --service=none do not go together: nothing is said");
        !s.ok()) {
      return s;
    }
  }
  if (plan.messages == 1) {
    if (absl::Status s =
            given.Refuse({"think_time"}, "needs --messages: there is only one");
        !s.ok()) {
      return s;
    }
  }
  if (!draft.proxy_version.has_value()) {
    if (absl::Status s =
            given.Refuse({"proxy_from"}, "needs --proxy_protocol=v1 or v2");
        !s.ok()) {
      return s;
    }
  }
  if (!plan.messages.has_value() && !plan.duration.has_value() &&
      plan.connections.has_value()) {
    return absl::InvalidArgumentError(
        "--messages=unlimited needs --duration: beside --connections nothing "
        "else would end it");
  }
  if (draft.options.processes > plan.concurrency) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--processes=", draft.options.processes,
        " and --concurrency=", plan.concurrency,
        " do not go together: each process needs one connection or more"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LoadOptions> ParseLoadOptions(
    absl::Span<const std::string_view> args) {
  Draft draft;
  const absl::StatusOr<GivenFlags> given = FlagsInto(draft).Parse(args);
  if (!given.ok()) return given.status();
  LoadPlan& plan = draft.options.plan;
  draft.options.help = given->help();
  if (draft.options.help) return std::move(draft.options);
  if (absl::Status s = Agree(*given, draft); !s.ok()) return s;
  if (plan.to.empty()) {
    if (absl::Status s = ReadTo(kDefaultTo, draft); !s.ok()) return s;
  }
  if (!plan.connections.has_value() && !plan.duration.has_value()) {
    plan.duration = kDefaultDuration;
  }
  if (draft.proxy_version.has_value()) {
    if (draft.proxy_clients.empty()) {
      if (absl::Status s = ReadHosts(kDefaultProxyFrom, draft.proxy_clients);
          !s.ok()) {
        return s;
      }
    }
    plan.proxy = {.version = *draft.proxy_version,
                  .clients = std::move(draft.proxy_clients)};
  }
  if (absl::Status s = CheckPlan(plan); !s.ok()) return s;
  return std::move(draft.options);
}

std::string LoadUsage() {
  std::string usage =
      R"(Connects to a server of streams again and again, and says how it did.

usage: load [flags]

A flag is --name=value or --name value. A duration is as in 300ms, 30s or 1m30s.
)";
  Draft unused;
  absl::StrAppend(&usage, FlagsInto(unused).Help(), R"(
what is measured:
  connection  from when it was due until it was closed, if it was whole
  connect     until the server could be written to
  round trip  of a message, from its first byte sent to its last one received
  Quantiles are exact to one part in 1,024. With --rate, when each connection is
  due is fixed beforehand, and it counts from then even if it had to wait for
  --concurrency or for the generator: a server that stands still for a second is
  seen by all who would have come in that second. Each byte of an answer is
  compared with what was sent; what is sent differs from place to place and from
  connection to connection. The client closes first. After 1,000 failures
  without one whole connection a run gives up.

signals:
  SIGINT, SIGTERM  end now, with a summary of what has been

exit code: 0 if every connection was whole, 1 if the world refuses (no address
of this machine, no room for --concurrency), 2 for a mistake in the flags; else
that of the first of these that happened, and how often each did is in the
summary
)");
  for (int i = 0; i < kLoadFailures; ++i) {
    const auto kind = static_cast<LoadFailure>(i);
    absl::StrAppendFormat(&usage, "  %d  %-12s %s\n", ExitCodeOf(kind),
                          NameOf(kind), DescriptionOf(kind));
  }
  absl::StrAppend(&usage, R"(
examples:
  load --to=127.0.0.1:7007 --concurrency=64 --duration=30s
  load --rate=2000 --duration=1m --from=127.0.0.1-127.0.0.50
  load --to=unix:/run/echo.sock --size=65536 --messages=unlimited --output=json
)");
  return usage;
}

}  // namespace brood
