// SPDX-License-Identifier: Apache-2.0
#include "brood/server/options.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/address_range_set.h"
#include "brood/net/listener.h"
#include "brood/net/proxy_protocol.h"
#include "brood/net/socket_options.h"
#include "brood/net/source_key.h"
#include "brood/proc/limits.h"
#include "brood/server/admission.h"
#include "brood/server/connection_log.h"
#include "brood/server/control.h"
#include "brood/server/explain.h"
#include "brood/server/flag_table.h"
#include "brood/server/flag_values.h"
#include "brood/server/program.h"
#include "brood/server/rules.h"
#include "brood/server/services.h"

namespace brood {
namespace {

constexpr std::string_view kDefaultListen = "127.0.0.1:7007";
constexpr size_t kMostConnections = 1'000'000;
constexpr size_t kMostWorkers = 32'768;
constexpr uint64_t kMostBytes = 1'000'000'000'000;
// One packet, so that to say it to a client never blocks.
constexpr size_t kLongestMessage = 512;
constexpr absl::Duration kDay = absl::Hours(24);
constexpr absl::Duration kMonth = absl::Hours(30 * 24);
constexpr absl::Duration kMillisecond = absl::Milliseconds(1);
constexpr absl::Duration kSecond = absl::Seconds(1);

// What the flags say, before it is known whether they agree.
struct Draft {
  ServerOptions options = {};
  std::vector<Address> addresses = {};
  Listener::Options listener = {};
  std::optional<unsigned> unix_mode = std::nullopt;
  std::optional<size_t> min_spare = std::nullopt;
  std::optional<size_t> max_spare = std::nullopt;
  std::optional<size_t> max_workers = std::nullopt;
  std::vector<std::string_view> allow = {};
  std::vector<std::string_view> deny = {};
};

absl::Status ParseListen(std::string_view value, Draft& draft) {
  for (const std::string_view text : absl::StrSplit(value, ',')) {
    const absl::StatusOr<Address> address = Address::Parse(text);
    if (!address.ok()) return address.status();
    if (*address == Address()) return AllowedIf(false);
    draft.addresses.push_back(*address);
  }
  return absl::OkStatus();
}

absl::Status ParseKeepAlive(std::string_view value, Draft& draft) {
  constexpr absl::Duration kMax = absl::Seconds(32'767);
  const std::vector<std::string_view> parts = absl::StrSplit(value, ',');
  KeepAlive& keep_alive = draft.listener.socket.keep_alive.emplace();
  const bool idle =
      ReadDuration(parts[0], kSecond, kMax, kSecond, keep_alive.idle);
  if (parts.size() == 1) return AllowedIf(idle);
  return AllowedIf(
      idle && parts.size() == 3 &&
      ReadDuration(parts[1], kSecond, kMax, kSecond, keep_alive.interval) &&
      ReadNumber(parts[2], 1, 127, keep_alive.count));
}

absl::Status ParseUnixMode(std::string_view value, Draft& draft) {
  unsigned mode = 0;
  const char* const end = value.data() + value.size();
  const auto [stop, error] = std::from_chars(value.data(), end, mode, 8);
  draft.unix_mode = mode;
  return AllowedIf(error == std::errc() && stop == end && mode <= 0777);
}

absl::Status ParseModel(std::string_view value, Draft& draft) {
  using Model = ServerOptions::Model;
  return AllowedIf(ReadWord(value,
                            {{"fork", Model::kFork},
                             {"iterative", Model::kIterative},
                             {"prefork", Model::kPrefork}},
                            draft.options.model));
}

absl::Status ParseAtLimit(std::string_view value, Draft& draft) {
  return AllowedIf(ReadWord(value,
                            {{"queue", AtLimit::kQueue},
                             {"refuse", AtLimit::kRefuse},
                             {"reset", AtLimit::kReset}},
                            draft.options.admit.at_limit));
}

absl::Status ParseAtLimitMessage(std::string_view value, Draft& draft) {
  draft.options.admit.message = std::string(value);
  return AllowedIf(IsPlain(value) && value.size() <= kLongestMessage);
}

absl::Status ParseRate(std::string_view value, Draft& draft) {
  const absl::StatusOr<ConnectionRate> rate = ConnectionRate::Parse(value);
  if (!rate.ok()) return rate.status();
  draft.options.admit.limits.rate_per_source = *rate;
  return absl::OkStatus();
}

absl::Status ParseSourcePrefix(std::string_view value, Draft& draft) {
  const std::vector<std::string_view> parts = absl::StrSplit(value, ',');
  int ipv4 = 0;
  int ipv6 = 0;
  if (parts.size() != 2 || !ReadNumber(parts[0], 0, 32, ipv4) ||
      !ReadNumber(parts[1], 0, 128, ipv6)) {
    return AllowedIf(false);
  }
  draft.options.admit.source_lengths = *SourceKey::Lengths::Create(ipv4, ipv6);
  return absl::OkStatus();
}

absl::Status ParseService(std::string_view value, Draft& draft) {
  draft.options.handler.service = std::string(value);
  return AllowedIf(absl::c_linear_search(kServiceNames, value));
}

absl::Status ParseKeepEnv(std::string_view value, Draft& draft) {
  draft.options.handler.keep_env = std::string(value);
  return ProgramEnvironment::Create(value).status();
}

absl::Status ParseRlimit(std::string_view value, Draft& draft) {
  // Limits quotes a text as it is.
  if (!absl::c_all_of(value, absl::ascii_isprint)) return AllowedIf(false);
  absl::StatusOr<Limits> limits = Limits::Parse(value);
  if (!limits.ok()) return limits.status();
  // Of two that are the same, Limits holds the last.
  const auto commas = static_cast<size_t>(absl::c_count(value, ','));
  if (limits->entries().size() != commas + 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        QuotedArgument(value), " names a resource twice: allowed is once"));
  }
  draft.options.handler.limits = *std::move(limits);
  return absl::OkStatus();
}

absl::Status ParseMinRate(std::string_view value, Draft& draft) {
  const size_t slash = value.find('/');
  if (slash == std::string_view::npos) return AllowedIf(false);
  // With its argument, for clang takes a class within a class for one that has
  // no default constructor yet.
  ServerOptions::Patience::Rate& rate =
      draft.options.patience.min_rate.emplace(ServerOptions::Patience::Rate());
  std::string period(value.substr(slash + 1));
  // "s" is one second.
  if (!period.empty() && absl::ascii_isalpha(period.front())) {
    period.insert(0, "1");
  }
  return AllowedIf(
      ReadNumber(value.substr(0, slash), 1, kMostBytes, rate.bytes) &&
      ReadDuration(period, kSecond, absl::Hours(1), kSecond, rate.period));
}

absl::Status ParseExplain(std::string_view value, Draft& draft) {
  draft.options.access.explain = std::string(value);
  return Explain(value, Rules(), Admission(ConnectionLimits()),
                 absl::ZeroDuration())
      .status();
}

absl::Status ParseProxyProtocol(std::string_view value, Draft& draft) {
  const bool v1 = value == "v1" || value == "auto";
  const bool v2 = value == "v2" || value == "auto";
  if (v1 || v2) {
    draft.options.proxy.headers = ProxyHeaderOptions{.v1 = v1, .v2 = v2};
  }
  return AllowedIf(v1 || v2 || value == "off");
}

absl::Status ParseTrustedProxies(std::string_view value, Draft& draft) {
  absl::StatusOr<AddressRangeSet> ranges = AddressRangeSet::Parse(value);
  if (!ranges.ok()) return ranges.status();
  draft.options.proxy.trusted = *std::move(ranges);
  return absl::OkStatus();
}

absl::Status ParseControl(std::string_view value, Draft& draft) {
  const absl::StatusOr<Address> address = Address::Parse(value);
  if (!address.ok()) return address.status();
  draft.options.control.address = *address;
  return AllowedIf(address->unix_path().has_value() ||
                   address->unix_abstract_name().has_value());
}

absl::Status ParseLogFormat(std::string_view value, Draft& draft) {
  return AllowedIf(ReadWord(value,
                            {{"text", LogFormat::kText},
                             {"json", LogFormat::kJson},
                             {"none", std::nullopt}},
                            draft.options.log_format));
}

constexpr std::string_view kPlainName =
    "a name or a number, without control characters";
constexpr std::string_view kRanges =
    "ranges such as 10.0.0.0/8 or 2001:db8::/32, with commas between";

// The groups of --help.
constexpr std::string_view kListen = "where clients connect";
constexpr std::string_view kModel = "processes";
constexpr std::string_view kHandler = "what is done for a client";
constexpr std::string_view kAdmit = "how many may come";
constexpr std::string_view kPatience = "how slow they may be";
constexpr std::string_view kAccess = "who may come at all";
constexpr std::string_view kProxy = "clients behind a proxy";
constexpr std::string_view kPrivileges = "rights";
constexpr std::string_view kServer = "the server itself";

FlagTable FlagsInto(Draft& draft) {
  return FlagTable(
      {
          {.name = "listen",
           .value_name = "ADDRESS,...",
           .group = kListen,
           .what = "places to connect to",
           .allowed =
               "addresses such as 127.0.0.1:7007, [::1]:7007, :7007 (every "
               "address of this machine), unix:/path or unix:@abstract, with "
               "commas between",
           .by_default = "127.0.0.1:7007, unless a starter hands over sockets "
                         "(LISTEN_FDS)",
           .more = "Port 0 takes any that is free. A comma in a path is \\x2c.",
           .parse =
               [&draft](std::string_view value) {
                 return ParseListen(value, draft);
               },
           .adds_up = true},
          {.name = "backlog",
           .value_name = "N",
           .group = kListen,
           .what =
               "how many may wait in the kernel's queue, if net.core.somaxconn "
               "permits",
           .allowed = "a number from 1 to 65535",
           .by_default = "4096",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(
                     ReadNumber(value, 1, 65'535, draft.listener.backlog));
               }},
          {.name = "reuse_port",
           .group = kListen,
           .what = "TCP: share the port with other servers of the same user",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(ReadBool(value, draft.listener.reuse_port));
               }},
          {.name = "defer_accept",
           .value_name = "DURATION",
           .group = kListen,
           .what =
               "TCP: a client comes in when it has sent something, or after "
               "about this long",
           .allowed = "whole seconds from 1s to 1h",
           .by_default = "at once",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(ReadDuration(value, kSecond, absl::Hours(1),
                                               kSecond,
                                               draft.listener.defer_accept));
               }},
          {.name = "no_delay",
           .group = kListen,
           .what = "TCP: small pieces are sent at once and not collected first",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(
                     ReadBool(value, draft.listener.socket.no_delay));
               }},
          {.name = "keep_alive",
           .value_name = "IDLE[,INTERVAL,COUNT]",
           .group = kListen,
           .what =
               "TCP: after IDLE without a word a client is asked whether it is "
               "still there, every INTERVAL and COUNT times",
           .allowed =
               "whole seconds from 1s to 32767s, and again, and a number from "
               "1 to 127, as in 60s or 60s,10s,5",
           .by_default = "never",
           .more = "INTERVAL is 75s and COUNT 9 if they are not given.",
           .parse =
               [&draft](std::string_view value) {
                 return ParseKeepAlive(value, draft);
               }},
          {.name = "user_timeout",
           .value_name = "DURATION",
           .group = kListen,
           .what =
               "TCP: how long what was sent may go unacknowledged before the "
               "connection fails",
           .allowed = "a duration from 1ms to 576h",
           .by_default = "the kernel's, about a quarter of an hour",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(
                     ReadDuration(value, kMillisecond, 24 * kDay,
                                  draft.listener.socket.user_timeout));
               }},
          {.name = "unix_mode",
           .value_name = "MODE",
           .group = kListen,
           .what =
               "unix:/path: who may connect, which takes the right to write",
           .allowed = "octal, from 0 to 0777",
           .by_default = "as the umask has it",
           .parse =
               [&draft](std::string_view value) {
                 return ParseUnixMode(value, draft);
               }},
          {.name = "unix_owner",
           .value_name = "USER",
           .group = kListen,
           .what = "unix:/path: whose it is",
           .allowed = kPlainName,
           .by_default = "the server's user",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(
                     ReadText(value, draft.options.listen.unix_owner));
               }},
          {.name = "unix_group",
           .value_name = "GROUP",
           .group = kListen,
           .what = "unix:/path: which group it belongs to",
           .allowed = kPlainName,
           .by_default = "the server's group",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(
                     ReadText(value, draft.options.listen.unix_group));
               }},

          {.name = "model",
           .value_name = "MODEL",
           .group = kModel,
           .what = "which process handles a client",
           .allowed = "fork, iterative or prefork",
           .by_default = "fork",
           .more =
               "fork: one of its own. iterative: one of its own, and the "
               "others "
               "wait. prefork: one of some workers that were forked before; "
               "they let "
               "clients in by themselves, so who is one too many of his source "
               "cannot wait: --max_connections_per_source needs "
               "--at_limit=refuse or "
               "reset. Who is one too many of all does as --at_limit says.",
           .parse =
               [&draft](std::string_view value) {
                 return ParseModel(value, draft);
               }},
          {.name = "workers",
           .value_name = "N",
           .group = kModel,
           .what = "prefork: so many workers, always",
           .allowed = "a number from 1 to 32768",
           .by_default = "as many as clients need, with spares",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(ReadNumber(value, 1, kMostWorkers,
                                             draft.options.workers.fixed));
               }},
          {.name = "min_spare_workers",
           .value_name = "N",
           .group = kModel,
           .what = "prefork: with fewer idle ones, more are started",
           .allowed = "a number from 1 to 32768",
           .by_default = "5",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(
                     ReadNumber(value, 1, kMostWorkers, draft.min_spare));
               }},
          {.name = "max_spare_workers",
           .value_name = "N",
           .group = kModel,
           .what = "prefork: with more idle ones, some are ended",
           .allowed = "a number from 1 to 32768",
           .by_default = "10",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(
                     ReadNumber(value, 1, kMostWorkers, draft.max_spare));
               }},
          {.name = "max_workers",
           .value_name = "N",
           .group = kModel,
           .what = "prefork: never more than so many, idle or not",
           .allowed = "a number from 1 to 32768",
           .by_default = "256",
           .more =
               "Of these three, those not given make room for those that are.",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(
                     ReadNumber(value, 1, kMostWorkers, draft.max_workers));
               }},
          {.name = "connections_per_worker",
           .value_name = "N",
           .group = kModel,
           .what = "prefork: after about so many clients a worker is replaced",
           .allowed = "a number from 0, for never, to 1000000000",
           .by_default = "0",
           .more = "1 is a process for each client, forked before it comes; "
                   "--workers "
                   "or --min_spare_workers is then how many wait for theirs.",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(
                     ReadNumber(value, 0, 1'000'000'000,
                                draft.options.workers.connections_per_worker));
               }},

          {.name = "service",
           .value_name = "NAME",
           .group = kHandler,
           .what = "what the server does itself, if no PROGRAM is given",
           .allowed = "echo, discard, chargen, daytime or time",
           .by_default = "echo",
           .parse =
               [&draft](std::string_view value) {
                 return ParseService(value, draft);
               }},
          {.name = "stderr_to_socket",
           .group = kHandler,
           .what = "PROGRAM: its standard error goes to the client, too",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(
                     ReadBool(value, draft.options.handler.stderr_to_socket));
               }},
          {.name = "keep_env",
           .value_name = "NAME,...",
           .group = kHandler,
           .what =
               "PROGRAM: what it has of the server's environment, beside PATH "
               "and what is said of the client",
           .allowed = "names of variables, with commas between",
           .by_default = "nothing",
           .parse =
               [&draft](std::string_view value) {
                 return ParseKeepEnv(value, draft);
               }},
          {.name = "client_gone_grace",
           .value_name = "DURATION",
           .group = kHandler,
           .what = "PROGRAM: how long it may go on once its client has gone, "
                   "before SIGTERM and then SIGKILL to it and to all whom it "
                   "has started",
           .allowed = "a duration from 0s to 24h",
           .by_default = "10s",
           .more = "A client that has only finished sending stays. One that "
                   "has closed looks the same at first, and has gone when its "
                   "own kernel has forgotten it, about a minute later.",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(ReadDuration(
                     value, absl::ZeroDuration(), kDay, absl::Nanoseconds(1),
                     draft.options.handler.client_gone_grace));
               }},
          {.name = "rlimit",
           .value_name = "NAME=SOFT[:HARD],...",
           .group = kHandler,
           .what = "what a handler may use, as setrlimit(2) names it",
           .allowed = "limits such as CPU=10,NOFILE=64:128,AS=unlimited",
           .by_default = "the server's",
           .more = "With prefork it is what a worker may use, for all its "
                   "connections together.",
           .parse =
               [&draft](std::string_view value) {
                 return ParseRlimit(value, draft);
               }},

          {.name = "max_connections",
           .value_name = "N",
           .group = kAdmit,
           .what = "so many at once",
           .allowed = "a number from 1 to 1000000",
           .by_default = "no limit",
           .more = "With prefork there are at most so many workers, also if "
                   "--max_workers would allow more.",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(
                     ReadNumber(value, 1, kMostConnections,
                                draft.options.admit.limits.max_connections));
               }},
          {.name = "max_connections_per_source",
           .value_name = "N",
           .group = kAdmit,
           .what = "so many at once of one source",
           .allowed = "a number from 1 to 1000000",
           .by_default = "no limit",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(ReadNumber(
                     value, 1, kMostConnections,
                     draft.options.admit.limits.max_connections_per_source));
               }},
          {.name = "connection_rate_per_source",
           .value_name = "RATE[,BURST]",
           .group = kAdmit,
           .what = "how often one source may come, and how many times at once "
                   "after "
                   "a pause; who comes too often is refused",
           .allowed =
               "N/s, N/m or N/h, and a burst or none, as in 5/s,10; each "
               "number from 1 to 1000000",
           .by_default = "no limit",
           .parse =
               [&draft](std::string_view value) {
                 return ParseRate(value, draft);
               }},
          {.name = "source_prefix",
           .value_name = "V4,V6",
           .group = kAdmit,
           .what = "how many bits of an address make a source",
           .allowed = "a number from 0 to 32 and one from 0 to 128",
           .by_default = "32,64",
           .parse =
               [&draft](std::string_view value) {
                 return ParseSourcePrefix(value, draft);
               }},
          {.name = "at_limit",
           .value_name = "WHAT",
           .group = kAdmit,
           .what = "what becomes of a client that is one too many",
           .allowed = "queue, refuse or reset",
           .by_default = "queue",
           .more = "queue: it waits, and of those who wait the one whose "
                   "source has "
                   "the fewest connections is next; with prefork who came "
                   "first is. refuse: its connection is "
                   "closed, after --at_limit_message. reset: it is reset.",
           .parse =
               [&draft](std::string_view value) {
                 return ParseAtLimit(value, draft);
               }},
          {.name = "at_limit_message",
           .value_name = "TEXT",
           .group = kAdmit,
           .what = "what is said to a client that a limit refuses",
           .allowed =
               "one line of at most 512 bytes, without control characters",
           .by_default = "nothing",
           .parse =
               [&draft](std::string_view value) {
                 return ParseAtLimitMessage(value, draft);
               }},
          {.name = "max_waiting",
           .value_name = "N",
           .group = kAdmit,
           .what = "how many may wait; the next is at the expense of the "
                   "source that "
                   "asks for most",
           .allowed = "a number from 1 to 1000000",
           .by_default = "1024",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(ReadNumber(value, 1, kMostConnections,
                                             draft.options.admit.max_waiting));
               }},
          {.name = "flood_threshold",
           .value_name = "N",
           .group = kAdmit,
           .what =
               "of how many turned away, or gone before their turn, within a "
               "second their source is shut out",
           .allowed = "a number from 0, for never, to 1000000",
           .by_default = "500",
           .more = "For 0.9s, and as long as it goes on, the kernel drops what "
                   "it knocks with; to it the server seems not to be there. "
                   "Newer kernels ask for CAP_NET_ADMIN. So a source is held "
                   "back too of whom 512 wait for a process, while others "
                   "come. With prefork each worker counts for itself.",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(ReadNumber(
                     value, 0, 1'000'000, draft.options.admit.flood_threshold));
               }},

          {.name = "idle_timeout",
           .value_name = "DURATION",
           .group = kPatience,
           .what =
               "a connection on which neither side has said anything for so "
               "long is ended",
           .allowed = "a duration from 1ms to 720h",
           .by_default = "never",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(ReadDuration(value, kMillisecond, kMonth,
                                               draft.options.patience.idle));
               }},
          {.name = "handler_timeout",
           .value_name = "DURATION",
           .group = kPatience,
           .what = "a connection is ended after so long, whatever it does",
           .allowed = "a duration from 1ms to 720h",
           .by_default = "never",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(ReadDuration(value, kMillisecond, kMonth,
                                               draft.options.patience.handler));
               }},
          {.name = "min_rate",
           .value_name = "BYTES/PERIOD",
           .group = kPatience,
           .what = "a connection on which fewer bytes have gone, both ways "
                   "together, "
                   "in any such period is ended",
           .allowed =
               "a number from 1 to 1000000000000, a slash, and whole seconds "
               "from 1s to 1h, as in 100/s or 1000/10s",
           .by_default = "no limit",
           .parse =
               [&draft](std::string_view value) {
                 return ParseMinRate(value, draft);
               }},

          {.name = "allow",
           .value_name = "RANGES",
           .group = kAccess,
           .what = "these may come, and whom no --allow names may not",
           .allowed = "ranges such as 10.0.0.0/8 or 2001:db8::/32, with commas "
                      "between, and the words all and unix",
           .by_default = "all",
           .parse =
               [&draft](std::string_view value) {
                 draft.allow.push_back(value);
                 return AllowedIf(IsPlain(value));
               },
           .adds_up = true},
          {.name = "deny",
           .value_name = "RANGES",
           .group = kAccess,
           .what = "these may not come, even if some --allow names them",
           .allowed = "ranges such as 10.0.0.0/8 or 2001:db8::/32, with commas "
                      "between, and the words all and unix",
           .by_default = "none",
           .parse =
               [&draft](std::string_view value) {
                 draft.deny.push_back(value);
                 return AllowedIf(IsPlain(value));
               },
           .adds_up = true},
          {.name = "rules",
           .value_name = "FILE",
           .group = kAccess,
           .what = "lines such as \"deny 192.0.2.9\" and \"allow "
                   "192.0.2.0/24\", of "
                   "which the first that names a client decides; read again "
                   "when it "
                   "changes",
           .allowed = "a path without control characters",
           .by_default = "none",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(
                     ReadText(value, draft.options.access.rules_file));
               }},
          {.name = "explain",
           .value_name = "ADDRESS",
           .group = kAccess,
           .what =
               "print which rule and which limits would speak if this client "
               "came, and do nothing else",
           .allowed = "an address such as 203.0.113.7 or 2001:db8::7, or unix",
           .by_default = "nobody",
           .parse =
               [&draft](std::string_view value) {
                 return ParseExplain(value, draft);
               }},

          {.name = "proxy_protocol",
           .value_name = "VERSION",
           .group = kProxy,
           .what =
               "trusted proxies say first who the client is, in a PROXY header "
               "of this version, and limits, rules and log believe them",
           .allowed = "off, v1, v2 or auto",
           .by_default = "off",
           .more = "auto: either version.",
           .parse =
               [&draft](std::string_view value) {
                 return ParseProxyProtocol(value, draft);
               }},
          {.name = "trusted_proxies",
           .value_name = "RANGES",
           .group = kProxy,
           .what = "which peers are such proxies",
           .allowed = kRanges,
           .by_default = "none",
           .parse =
               [&draft](std::string_view value) {
                 return ParseTrustedProxies(value, draft);
               }},
          {.name = "proxy_timeout",
           .value_name = "DURATION",
           .group = kProxy,
           .what = "how long a proxy may take to send the header",
           .allowed = "a duration from 1ms to 1h",
           .by_default = "3s",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(ReadDuration(
                     value, kMillisecond, absl::Hours(1), absl::Nanoseconds(1),
                     draft.options.proxy.timeout));
               }},

          {.name = "user",
           .value_name = "USER",
           .group = kPrivileges,
           .what =
               "whom the server and its handlers become, supplementary groups "
               "included, once it listens",
           .allowed = kPlainName,
           .by_default = "who started it",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(
                     ReadText(value, draft.options.privileges.user));
               }},
          {.name = "group",
           .value_name = "GROUP",
           .group = kPrivileges,
           .what = "the group, if it is not to be that user's own",
           .allowed = kPlainName,
           .by_default = "the user's",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(
                     ReadText(value, draft.options.privileges.group));
               }},
          {.name = "chroot",
           .value_name = "DIRECTORY",
           .group = kPrivileges,
           .what = "what becomes the root directory",
           .allowed = "a path that begins with /, without control characters",
           .by_default = "none",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(
                     ReadText(value, draft.options.privileges.chroot) &&
                     value.front() == '/');
               }},
          {.name = "new_privileges",
           .group = kPrivileges,
           .what = "PROGRAM: it may gain rights by set-user-ID programs",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(
                     ReadBool(value, draft.options.handler.new_privileges));
               }},

          {.name = "log_format",
           .value_name = "FORMAT",
           .group = kServer,
           .what =
               "how each connection, and whatever else happens, is logged, in "
               "lines on standard error; with none there is not one, and "
               "--control tells how things stand",
           .allowed = "text, json or none",
           .by_default = "text",
           .parse =
               [&draft](std::string_view value) {
                 return ParseLogFormat(value, draft);
               }},
          {.name = "control",
           .value_name = "ADDRESS",
           .group = kServer,
           .what = "where the server can be asked while it runs, by its own "
                   "user and "
                   "by root",
           .allowed = "unix:/path or unix:@abstract",
           .by_default = "nowhere",
           .parse =
               [&draft](std::string_view value) {
                 return ParseControl(value, draft);
               }},
          {.name = "ask",
           .value_name = "REQUEST",
           .group = kServer,
           .what = "ask the server that runs and has this --control, print its "
                   "answer, and do nothing else",
           .allowed = "1 to 255 bytes, without control characters",
           .by_default = "nothing",
           .more = "\"explain ADDRESS\": which rule and which limits would "
                   "speak if "
                   "this client came now; \"forget ADDRESS\": the rate of its "
                   "source "
                   "begins anew; \"state\", \"state json\": how things stand; "
                   "\"help\".",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(ReadText(value, draft.options.control.ask) &&
                                  value.size() < Control::kMaxRequest);
               }},
          {.name = "ready_fd",
           .value_name = "N",
           .group = kServer,
           .what = "a descriptor that gets a line, and is then closed, when "
                   "clients "
                   "may come",
           .allowed = "a number from 1 to 1048575",
           .by_default = "none",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(
                     ReadNumber(value, 1, 1'048'575, draft.options.ready_fd));
               }},
          {.name = "drain_timeout",
           .value_name = "DURATION",
           .group = kServer,
           .what = "how long clients may take to finish once the server is "
                   "asked to "
                   "stop",
           .allowed = "a duration from 0s to 24h",
           .by_default = "30s",
           .parse =
               [&draft](std::string_view value) {
                 return AllowedIf(ReadDuration(value, absl::ZeroDuration(),
                                               kDay, absl::Nanoseconds(1),
                                               draft.options.drain_timeout));
               }},
      },
      {.example = "--listen=:7007", .rest = "a program"});
}

class Parser {
 public:
  absl::StatusOr<ServerOptions> Parse(absl::Span<const std::string_view> args);

 private:
  absl::Status TakeProgram(absl::Span<const std::string_view> argv);
  // Whether all go together; makes of the draft what depends on more than one.
  absl::Status Agree();
  absl::Status AgreeOnControl();
  absl::Status AgreeOnHandler();
  absl::Status AgreeOnModel();
  absl::Status AgreeOnWorkers();
  absl::Status AgreeOnMaxConnections();
  absl::Status AgreeOnClients();
  absl::Status AgreeOnPlaces();

  GivenFlags given_;
  Draft draft_;
};

absl::Status Parser::TakeProgram(absl::Span<const std::string_view> argv) {
  if (argv.empty() || argv.front().empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        argv.empty() ? "--" : "-- \"\"",
        ": allowed is a program after it, by its name or its path"));
  }
  for (const std::string_view arg : argv) {
    if (absl::StrContains(arg, '\0')) {
      return absl::InvalidArgumentError(
          absl::StrCat("program's argument ", QuotedArgument(arg),
                       ": allowed is any text without a NUL"));
    }
  }
  draft_.options.handler.program.assign(argv.begin(), argv.end());
  return absl::OkStatus();
}

absl::Status Parser::AgreeOnControl() {
  const ServerOptions::ControlSocket& control = draft_.options.control;
  if (!control.ask.has_value()) {
    return control.address.has_value()
               ? given_.Refuse(
                     {"explain"},
                     "and --control do not go together: a server that runs "
                     "is asked by --ask=\"explain ADDRESS\"")
               : absl::OkStatus();
  }
  if (!control.address.has_value()) {
    return absl::InvalidArgumentError(
        "--ask needs --control: where is the server to be asked?");
  }
  constexpr std::string_view kWhy =
      "and --ask do not go together: the server that is asked has its own";
  if (absl::Status s = given_.RefuseAllBut({"ask", "control"}, kWhy); !s.ok()) {
    return s;
  }
  if (draft_.options.handler.program.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "program ", QuotedArgument(draft_.options.handler.program.front()), " ",
      kWhy));
}

absl::Status Parser::AgreeOnHandler() {
  const std::vector<std::string>& program = draft_.options.handler.program;
  if (program.empty()) {
    return given_.Refuse(
        {"stderr_to_socket", "keep_env", "client_gone_grace"},
        "needs a program: --service has nothing to do with it");
  }
  return given_.Refuse(
      {"service"},
      absl::StrCat("and the program ", QuotedArgument(program.front()),
                   " do not go together: allowed is "
                   "one of them"));
}

absl::Status Parser::AgreeOnModel() {
  using Model = ServerOptions::Model;
  const Model model = draft_.options.model;
  if (model != Model::kPrefork) {
    if (absl::Status s =
            given_.Refuse({"workers", "min_spare_workers", "max_spare_workers",
                           "max_workers", "connections_per_worker"},
                          absl::StrCat("needs --model=prefork, and it is ",
                                       given_.Value("model").value_or("fork")));
        !s.ok()) {
      return s;
    }
  }
  if (model == Model::kIterative) {
    if (absl::Status s = given_.Refuse(
            {"max_connections"},
            "and --model=iterative do not go together: that is one");
        !s.ok()) {
      return s;
    }
    return given_.Refuse(
        {"max_waiting"},
        "and --model=iterative do not go together: the others wait "
        "in the kernel's queue, which has room for --backlog");
  }
  if (model == Model::kPrefork) {
    if (absl::Status s =
            given_.Refuse({"max_waiting"},
                          "and --model=prefork do not go together: who "
                          "waits for a worker is in the kernel's queue");
        !s.ok()) {
      return s;
    }
    if (draft_.options.admit.at_limit == AtLimit::kQueue) {
      return given_.Refuse(
          {"max_connections_per_source"},
          "needs --at_limit=refuse or reset with --model=prefork: "
          "its workers let clients in from the kernel's queue, where "
          "nobody can wait for others of his source");
    }
  }
  return absl::OkStatus();
}

absl::Status Parser::AgreeOnWorkers() {
  if (draft_.options.workers.fixed.has_value()) {
    if (absl::Status s = given_.Refuse(
            {"min_spare_workers", "max_spare_workers", "max_workers"},
            "and --workers do not go together: so many workers, or as "
            "many as clients need");
        !s.ok()) {
      return s;
    }
  }
  // None may be above one that comes later.
  const std::array<std::pair<std::string_view, std::optional<size_t>>, 3>
      rising = {{{"min_spare_workers", draft_.min_spare},
                 {"max_spare_workers", draft_.max_spare},
                 {"max_workers", draft_.max_workers}}};
  for (size_t i = 0; i < rising.size(); ++i) {
    for (size_t j = i + 1; j < rising.size(); ++j) {
      const auto& [lower, low] = rising[i];
      const auto& [upper, high] = rising[j];
      if (!low.has_value() || !high.has_value() || *low <= *high) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          "--", lower, "=", *low, " and --", upper, "=", *high,
          " do not go together: the first must not be above the second"));
    }
  }
  ServerOptions::Workers& workers = draft_.options.workers;
  // Those that are given hold, and the defaults of the others make room.
  if (draft_.options.model == ServerOptions::Model::kPrefork) {
    if (absl::Status s = AgreeOnMaxConnections(); !s.ok()) return s;
  }
  const size_t most = draft_.max_workers.value_or(kMostWorkers);
  const size_t least = draft_.min_spare.value_or(1);
  workers.max_spare =
      draft_.max_spare.value_or(std::clamp(workers.max_spare, least, most));
  workers.min_spare =
      draft_.min_spare.value_or(std::min(workers.min_spare, workers.max_spare));
  workers.max =
      draft_.max_workers.value_or(std::max(workers.max, workers.max_spare));
  return absl::OkStatus();
}

// Each worker has one at a time, so it is a limit of workers.
absl::Status Parser::AgreeOnMaxConnections() {
  const size_t most = draft_.options.admit.limits.max_connections;
  if (most == ConnectionLimits::kNone) return absl::OkStatus();
  const std::array<std::pair<std::string_view, std::optional<size_t>>, 3>
      fewer = {{{"workers", draft_.options.workers.fixed},
                {"min_spare_workers", draft_.min_spare},
                {"max_spare_workers", draft_.max_spare}}};
  for (const auto& [name, number] : fewer) {
    if (!number.has_value() || *number <= most) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "--", name, "=", *number, " and --max_connections=", most,
        " do not go together: the first must not be above the second"));
  }
  draft_.max_workers =
      std::min({draft_.max_workers.value_or(most), most, kMostWorkers});
  return absl::OkStatus();
}

absl::Status Parser::AgreeOnClients() {
  ServerOptions& options = draft_.options;
  const std::string_view at_limit = given_.Value("at_limit").value_or("queue");
  if (options.admit.at_limit != AtLimit::kRefuse) {
    if (absl::Status s = given_.Refuse(
            {"at_limit_message"},
            absl::StrCat("needs --at_limit=refuse, and it is ", at_limit));
        !s.ok()) {
      return s;
    }
  }
  if (options.admit.at_limit != AtLimit::kQueue) {
    if (absl::Status s = given_.Refuse(
            {"max_waiting"},
            absl::StrCat("needs --at_limit=queue, and it is ", at_limit));
        !s.ok()) {
      return s;
    }
  }
  if (options.access.rules_file.has_value()) {
    if (absl::Status s =
            given_.Refuse({"allow", "deny"},
                          "and --rules do not go together: write it "
                          "into the file");
        !s.ok()) {
      return s;
    }
  }
  // As an older Apache has it, "deny from all" before "allow from": not here.
  const bool denies_all = absl::c_any_of(draft_.deny, [](auto list) {
    return absl::c_any_of(absl::StrSplit(list, ','), [](auto range) {
      return absl::StripAsciiWhitespace(range) == "all";
    });
  });
  if (denies_all) {
    if (absl::Status s =
            given_.Refuse({"allow"},
                          "and --deny=all do not go together: nobody "
                          "could come; whom no --allow names may not "
                          "anyway");
        !s.ok()) {
      return s;
    }
  }
  absl::StatusOr<Rules> rules = Rules::FromFlags(draft_.allow, draft_.deny);
  if (!rules.ok()) return rules.status();
  options.access.rules = *std::move(rules);
  if (!options.proxy.headers.has_value()) {
    return given_.Refuse(
        {"trusted_proxies", "proxy_timeout"},
        "needs --proxy_protocol=v1, v2 or auto, and it is off");
  }
  if (options.proxy.trusted.empty()) {
    return given_.Refuse(
        {"proxy_protocol"},
        "needs --trusted_proxies: else anybody could claim to be "
        "anybody");
  }
  return absl::OkStatus();
}

absl::Status Parser::AgreeOnPlaces() {
  ServerOptions::Listen& listen = draft_.options.listen;
  listen.given = !draft_.addresses.empty();
  if (!listen.given) {
    if (absl::Status s = ParseListen(kDefaultListen, draft_); !s.ok()) return s;
  }
  bool tcp = false;
  bool path = false;
  for (const Address& address : draft_.addresses) {
    const bool is_path = address.unix_path().has_value();
    const bool is_tcp = address.family() != AF_UNIX;
    const bool again = absl::c_any_of(listen.places, [&](const auto& place) {
      return place.address == address && address.port() != 0;
    });
    if (again) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--listen: ", address, " is given twice: allowed is once"));
    }
    Listener::Options options = {.backlog = draft_.listener.backlog};
    if (is_tcp) options = draft_.listener;
    if (is_path) options.access.mode = draft_.unix_mode;
    if (address == draft_.options.control.address) {
      return absl::InvalidArgumentError(
          absl::StrCat("--listen and --control are both at ", address,
                       ": clients come by one door, and who asks by another"));
    }
    listen.places.push_back({address, options});
    tcp = tcp || is_tcp;
    path = path || is_path;
  }
  if (!tcp) {
    constexpr std::string_view kNeedsTcp =
        "needs an address of TCP in --listen";
    // Silence, too, is TCP's to tell.
    if (absl::Status s = given_.Refuse(
            {"reuse_port", "defer_accept", "no_delay", "keep_alive",
             "user_timeout", "idle_timeout", "min_rate"},
            kNeedsTcp);
        !s.ok()) {
      return s;
    }
    // Trusted proxies are known by their addresses.
    if (draft_.options.proxy.headers.has_value()) {
      if (absl::Status s = given_.Refuse({"proxy_protocol"}, kNeedsTcp);
          !s.ok()) {
        return s;
      }
    }
  }
  if (!path) {
    return given_.Refuse({"unix_mode", "unix_owner", "unix_group"},
                         "needs a unix:/path in --listen");
  }
  return absl::OkStatus();
}

absl::Status Parser::Agree() {
  for (absl::Status (Parser::*agree)() :
       {&Parser::AgreeOnControl, &Parser::AgreeOnHandler, &Parser::AgreeOnModel,
        &Parser::AgreeOnWorkers, &Parser::AgreeOnClients,
        &Parser::AgreeOnPlaces}) {
    if (absl::Status s = (this->*agree)(); !s.ok()) return s;
  }
  if (!draft_.options.privileges.user.has_value()) {
    if (absl::Status s =
            given_.Refuse({"group"}, "needs --user: root would stay who it is");
        !s.ok()) {
      return s;
    }
    return given_.Refuse({"chroot"}, "needs --user: root could leave it");
  }
  return absl::OkStatus();
}

absl::StatusOr<ServerOptions> Parser::Parse(
    absl::Span<const std::string_view> args) {
  absl::StatusOr<GivenFlags> given = FlagsInto(draft_).Parse(args);
  if (!given.ok()) return given.status();
  given_ = *std::move(given);
  if (given_.rest().has_value()) {
    if (absl::Status s = TakeProgram(*given_.rest()); !s.ok()) return s;
  }
  draft_.options.help = given_.help();
  if (!draft_.options.help) {
    if (absl::Status s = Agree(); !s.ok()) return s;
  }
  return std::move(draft_.options);
}

}  // namespace

absl::StatusOr<ServerOptions> ParseOptions(
    absl::Span<const std::string_view> args) {
  return Parser().Parse(args);
}

std::string Usage() {
  std::string usage =
      R"(Serves many clients at once, a process for each, and leaves no zombie.

usage: server [flags]                       a service of its own, echo at first
       server [flags] -- PROGRAM [args...]  the client is PROGRAM's input and
                                            output

A flag is --name=value or --name value; --[no]name is one that is true or false.
A duration is as in 300ms, 30s, 1m30s or 24h.
)";
  Draft unused;
  absl::StrAppend(&usage, FlagsInto(unused).Help(), R"(
signals:
  SIGTERM, SIGINT    drain: who has connected may finish, nobody else comes in;
                     after --drain_timeout SIGTERM, and then SIGKILL, to what is
                     left
  a second, SIGQUIT  end at once
  SIGTTIN, SIGTTOU   one process more or one fewer may handle clients; with
                     --model=iterative it stays one
  SIGUSR1            log how things stand, in one line
  SIGHUP             read the --rules again

a server with --control is asked by another:
  server --control=unix:/run/echo.control --ask="explain 203.0.113.7"

exit code: 0 after an orderly end, 1 if the world refuses (the port is taken,
there is no such user or program), 2 for a mistake in the flags

examples:
  server --listen=:7007,unix:/run/echo.sock --max_connections_per_source=20
  server --listen=:9418 --user=nobody --idle_timeout=1m -- \
    git -c 'safe.directory=*' daemon --inetd --export-all --base-path=/srv/git
  server --model=prefork --workers=8 --service=daytime
)");
  return usage;
}

}  // namespace brood
