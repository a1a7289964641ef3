// SPDX-License-Identifier: Apache-2.0
#include "brood/server/options.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <numeric>
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
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
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
#include "brood/server/program.h"
#include "brood/server/rules.h"
#include "brood/server/services.h"

namespace brood {
namespace {

constexpr std::string_view kDefaultListen = "127.0.0.1:7007";
constexpr size_t kWidth = 80;
constexpr size_t kMostConnections = 1'000'000;
constexpr size_t kMostWorkers = 32'768;
constexpr uint64_t kMostBytes = 1'000'000'000'000;
// One packet, so that to say it to a client never blocks.
constexpr size_t kLongestMessage = 512;
constexpr absl::Duration kDay = absl::Hours(24);
constexpr absl::Duration kMonth = absl::Hours(30 * 24);
constexpr absl::Duration kMillisecond = absl::Milliseconds(1);
constexpr absl::Duration kSecond = absl::Seconds(1);

// How much of a text an error repeats.
constexpr size_t kLongestQuote = 64;

std::string Quoted(std::string_view text) {
  const bool cut = text.size() > kLongestQuote;
  return absl::StrCat("\"", absl::CHexEscape(text.substr(0, kLongestQuote)),
                      cut ? "...\"" : "\"");
}

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

// What a flag's parser says of a value that is not what `Flag::allowed` says:
// whoever calls it knows the rest. Other parsers' errors quote the value.
absl::Status NotAllowed() { return absl::InvalidArgumentError(""); }

absl::Status Check(bool allowed) {
  return allowed ? absl::OkStatus() : NotAllowed();
}

// Digits and nothing else, from `min` to `max`.
template <typename Integer>
bool Number(std::string_view text, uint64_t min, uint64_t max, Integer& value) {
  uint64_t number = 0;
  if (!absl::c_all_of(text, absl::ascii_isdigit) ||
      !absl::SimpleAtoi(text, &number) || number < min || number > max) {
    return false;
  }
  value = static_cast<Integer>(number);
  return true;
}

template <typename Integer>
bool Number(std::string_view text, uint64_t min, uint64_t max,
            std::optional<Integer>& value) {
  return Number(text, min, max, value.emplace());
}

// From `min` to `max`, a multiple of `unit`.
bool Time(std::string_view text, absl::Duration min, absl::Duration max,
          absl::Duration unit, absl::Duration& value) {
  absl::Duration time;
  if (!absl::ParseDuration(text, &time) || time < min || time > max ||
      time != absl::Trunc(time, unit)) {
    return false;
  }
  value = time;
  return true;
}

bool Time(std::string_view text, absl::Duration min, absl::Duration max,
          std::optional<absl::Duration>& value) {
  return Time(text, min, max, absl::Nanoseconds(1), value.emplace());
}

bool IsPlain(std::string_view text) {
  return absl::c_none_of(text, absl::ascii_iscntrl);
}

bool Text(std::string_view text, std::optional<std::string>& value) {
  value = std::string(text);
  return IsPlain(text);
}

absl::Status ParseListen(std::string_view value, Draft& draft) {
  for (const std::string_view text : absl::StrSplit(value, ',')) {
    const absl::StatusOr<Address> address = Address::Parse(text);
    if (!address.ok()) return address.status();
    if (*address == Address()) return NotAllowed();
    draft.addresses.push_back(*address);
  }
  return absl::OkStatus();
}

absl::Status ParseKeepAlive(std::string_view value, Draft& draft) {
  constexpr absl::Duration kMax = absl::Seconds(32'767);
  const std::vector<std::string_view> parts = absl::StrSplit(value, ',');
  KeepAlive& keep_alive = draft.listener.socket.keep_alive.emplace();
  const bool idle = Time(parts[0], kSecond, kMax, kSecond, keep_alive.idle);
  if (parts.size() == 1) return Check(idle);
  return Check(idle && parts.size() == 3 &&
               Time(parts[1], kSecond, kMax, kSecond, keep_alive.interval) &&
               Number(parts[2], 1, 127, keep_alive.count));
}

absl::Status ParseUnixMode(std::string_view value, Draft& draft) {
  unsigned mode = 0;
  const char* const end = value.data() + value.size();
  const auto [stop, error] = std::from_chars(value.data(), end, mode, 8);
  draft.unix_mode = mode;
  return Check(error == std::errc() && stop == end && mode <= 0777);
}

absl::Status ParseModel(std::string_view value, Draft& draft) {
  using Model = ServerOptions::Model;
  for (const auto& [name, model] : {std::pair("fork", Model::kFork),
                                    std::pair("iterative", Model::kIterative),
                                    std::pair("prefork", Model::kPrefork)}) {
    if (value != name) continue;
    draft.options.model = model;
    return absl::OkStatus();
  }
  return NotAllowed();
}

absl::Status ParseAtLimit(std::string_view value, Draft& draft) {
  for (const auto& [name, at_limit] : {std::pair("queue", AtLimit::kQueue),
                                       std::pair("refuse", AtLimit::kRefuse),
                                       std::pair("reset", AtLimit::kReset)}) {
    if (value != name) continue;
    draft.options.admit.at_limit = at_limit;
    return absl::OkStatus();
  }
  return NotAllowed();
}

absl::Status ParseAtLimitMessage(std::string_view value, Draft& draft) {
  draft.options.admit.message = std::string(value);
  return Check(IsPlain(value) && value.size() <= kLongestMessage);
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
  if (parts.size() != 2 || !Number(parts[0], 0, 32, ipv4) ||
      !Number(parts[1], 0, 128, ipv6)) {
    return NotAllowed();
  }
  draft.options.admit.source_lengths = *SourceKey::Lengths::Create(ipv4, ipv6);
  return absl::OkStatus();
}

absl::Status ParseService(std::string_view value, Draft& draft) {
  draft.options.handler.service = std::string(value);
  return Check(absl::c_linear_search(kServiceNames, value));
}

absl::Status ParseKeepEnv(std::string_view value, Draft& draft) {
  draft.options.handler.keep_env = std::string(value);
  return ProgramEnvironment::Create(value).status();
}

absl::Status ParseRlimit(std::string_view value, Draft& draft) {
  // Limits quotes a text as it is.
  if (!absl::c_all_of(value, absl::ascii_isprint)) return NotAllowed();
  absl::StatusOr<Limits> limits = Limits::Parse(value);
  if (!limits.ok()) return limits.status();
  // Of two that are the same, Limits holds the last.
  const auto commas = static_cast<size_t>(absl::c_count(value, ','));
  if (limits->entries().size() != commas + 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        Quoted(value), " names a resource twice: allowed is once"));
  }
  draft.options.handler.limits = *std::move(limits);
  return absl::OkStatus();
}

absl::Status ParseMinRate(std::string_view value, Draft& draft) {
  const size_t slash = value.find('/');
  if (slash == std::string_view::npos) return NotAllowed();
  ServerOptions::Patience::Rate& rate =
      draft.options.patience.min_rate.emplace();
  std::string period(value.substr(slash + 1));
  // "s" is one second.
  if (!period.empty() && absl::ascii_isalpha(period.front())) {
    period.insert(0, "1");
  }
  return Check(Number(value.substr(0, slash), 1, kMostBytes, rate.bytes) &&
               Time(period, kSecond, absl::Hours(1), kSecond, rate.period));
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
  return Check(v1 || v2 || value == "off");
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
  return Check(address->unix_path().has_value() ||
               address->unix_abstract_name().has_value());
}

absl::Status ParseLogFormat(std::string_view value, Draft& draft) {
  std::optional<LogFormat>& format = draft.options.log_format;
  if (value == "text") {
    format = LogFormat::kText;
  } else if (value == "json") {
    format = LogFormat::kJson;
  } else {
    format = std::nullopt;
    return Check(value == "none");
  }
  return absl::OkStatus();
}

constexpr std::string_view kPlainName =
    "a name or a number, without control characters";
constexpr std::string_view kRanges =
    "ranges such as 10.0.0.0/8 or 2001:db8::/32, with commas between";

// The groups of --help, in their order.
enum class Group {
  kListen,
  kModel,
  kHandler,
  kAdmit,
  kPatience,
  kAccess,
  kProxy,
  kPrivileges,
  kServer
};

constexpr auto kGroups = std::to_array<std::pair<Group, std::string_view>>({
    {Group::kListen, "where clients connect"},
    {Group::kModel, "processes"},
    {Group::kHandler, "what is done for a client"},
    {Group::kAdmit, "how many may come"},
    {Group::kPatience, "how slow they may be"},
    {Group::kAccess, "who may come at all"},
    {Group::kProxy, "clients behind a proxy"},
    {Group::kPrivileges, "rights"},
    {Group::kServer, "the server itself"},
});

struct Flag {
  std::string_view name;
  // Empty if it is true or false, and may be written without a value.
  std::string_view value_name;
  Group group;
  std::string_view what;
  // What the value may be; the end of "allowed is".
  std::string_view allowed;
  std::string_view by_default;
  // What else --help says.
  std::string_view more = {};
  // Never sees an empty value.
  absl::Status (*parse)(std::string_view value, Draft& draft) = nullptr;
  // It may be given more than once.
  bool adds_up = false;
};

constexpr std::string_view kTrueOrFalse = "true or false";

constexpr auto kFlags = std::to_array<Flag>({
    {.name = "listen",
     .value_name = "ADDRESS,...",
     .group = Group::kListen,
     .what = "places to connect to",
     .allowed = "addresses such as 127.0.0.1:7007, [::1]:7007, :7007 (every "
                "address of this machine), unix:/path or unix:@abstract, with "
                "commas between",
     .by_default = "127.0.0.1:7007, unless a starter hands over sockets "
                   "(LISTEN_FDS)",
     .more = "Port 0 takes any that is free. A comma in a path is \\x2c.",
     .parse = ParseListen,
     .adds_up = true},
    {.name = "backlog",
     .value_name = "N",
     .group = Group::kListen,
     .what = "how many may wait in the kernel's queue, if net.core.somaxconn "
             "permits",
     .allowed = "a number from 1 to 65535",
     .by_default = "4096",
     .parse =
         [](std::string_view value, Draft& draft) {
           return Check(Number(value, 1, 65'535, draft.listener.backlog));
         }},
    {.name = "reuse_port",
     .value_name = "",
     .group = Group::kListen,
     .what = "TCP: share the port with other servers of the same user",
     .allowed = kTrueOrFalse,
     .by_default = "false",
     .parse =
         [](std::string_view value, Draft& draft) {
           draft.listener.reuse_port = value == "true";
           return absl::OkStatus();
         }},
    {.name = "defer_accept",
     .value_name = "DURATION",
     .group = Group::kListen,
     .what = "TCP: a client comes in when it has sent something, or after "
             "about this long",
     .allowed = "whole seconds from 1s to 1h",
     .by_default = "at once",
     .parse =
         [](std::string_view value, Draft& draft) {
           return Check(Time(value, kSecond, absl::Hours(1), kSecond,
                             draft.listener.defer_accept));
         }},
    {.name = "no_delay",
     .value_name = "",
     .group = Group::kListen,
     .what = "TCP: small pieces are sent at once and not collected first",
     .allowed = kTrueOrFalse,
     .by_default = "false",
     .parse =
         [](std::string_view value, Draft& draft) {
           draft.listener.socket.no_delay = value == "true";
           return absl::OkStatus();
         }},
    {.name = "keep_alive",
     .value_name = "IDLE[,INTERVAL,COUNT]",
     .group = Group::kListen,
     .what = "TCP: after IDLE without a word a client is asked whether it is "
             "still there, every INTERVAL and COUNT times",
     .allowed = "whole seconds from 1s to 32767s, and again, and a number from "
                "1 to 127, as in 60s or 60s,10s,5",
     .by_default = "never",
     .more = "INTERVAL is 75s and COUNT 9 if they are not given.",
     .parse = ParseKeepAlive},
    {.name = "user_timeout",
     .value_name = "DURATION",
     .group = Group::kListen,
     .what = "TCP: how long what was sent may go unacknowledged before the "
             "connection fails",
     .allowed = "a duration from 1ms to 576h",
     .by_default = "the kernel's, about a quarter of an hour",
     .parse =
         [](std::string_view value, Draft& draft) {
           return Check(Time(value, kMillisecond, 24 * kDay,
                             draft.listener.socket.user_timeout));
         }},
    {.name = "unix_mode",
     .value_name = "MODE",
     .group = Group::kListen,
     .what = "unix:/path: who may connect, which takes the right to write",
     .allowed = "octal, from 0 to 0777",
     .by_default = "as the umask has it",
     .parse = ParseUnixMode},
    {.name = "unix_owner",
     .value_name = "USER",
     .group = Group::kListen,
     .what = "unix:/path: whose it is",
     .allowed = kPlainName,
     .by_default = "the server's user",
     .parse =
         [](std::string_view value, Draft& draft) {
           return Check(Text(value, draft.options.listen.unix_owner));
         }},
    {.name = "unix_group",
     .value_name = "GROUP",
     .group = Group::kListen,
     .what = "unix:/path: which group it belongs to",
     .allowed = kPlainName,
     .by_default = "the server's group",
     .parse =
         [](std::string_view value, Draft& draft) {
           return Check(Text(value, draft.options.listen.unix_group));
         }},

    {.name = "model",
     .value_name = "MODEL",
     .group = Group::kModel,
     .what = "which process handles a client",
     .allowed = "fork, iterative or prefork",
     .by_default = "fork",
     .more =
         "fork: one of its own. iterative: one of its own, and the others "
         "wait. prefork: one of some workers that were forked before; they let "
         "clients in by themselves, so who is one too many of his source "
         "cannot wait: --max_connections_per_source needs --at_limit=refuse or "
         "reset.",
     .parse = ParseModel},
    {.name = "workers",
     .value_name = "N",
     .group = Group::kModel,
     .what = "prefork: so many workers, always",
     .allowed = "a number from 1 to 32768",
     .by_default = "as many as clients need, with spares",
     .parse =
         [](std::string_view value, Draft& draft) {
           return Check(
               Number(value, 1, kMostWorkers, draft.options.workers.fixed));
         }},
    {.name = "min_spare_workers",
     .value_name = "N",
     .group = Group::kModel,
     .what = "prefork: with fewer idle ones, more are started",
     .allowed = "a number from 1 to 32768",
     .by_default = "5",
     .parse =
         [](std::string_view value, Draft& draft) {
           return Check(Number(value, 1, kMostWorkers, draft.min_spare));
         }},
    {.name = "max_spare_workers",
     .value_name = "N",
     .group = Group::kModel,
     .what = "prefork: with more idle ones, some are ended",
     .allowed = "a number from 1 to 32768",
     .by_default = "10",
     .parse =
         [](std::string_view value, Draft& draft) {
           return Check(Number(value, 1, kMostWorkers, draft.max_spare));
         }},
    {.name = "max_workers",
     .value_name = "N",
     .group = Group::kModel,
     .what = "prefork: never more than so many, idle or not",
     .allowed = "a number from 1 to 32768",
     .by_default = "256",
     .more = "Of these three, those not given make room for those that are.",
     .parse =
         [](std::string_view value, Draft& draft) {
           return Check(Number(value, 1, kMostWorkers, draft.max_workers));
         }},
    {.name = "connections_per_worker",
     .value_name = "N",
     .group = Group::kModel,
     .what = "prefork: after about so many clients a worker is replaced",
     .allowed = "a number from 0, for never, to 1000000000",
     .by_default = "0",
     .more =
         "1 is a process for each client, forked before it comes; --workers "
         "or --min_spare_workers is then how many wait for theirs.",
     .parse =
         [](std::string_view value, Draft& draft) {
           return Check(Number(value, 0, 1'000'000'000,
                               draft.options.workers.connections_per_worker));
         }},

    {.name = "service",
     .value_name = "NAME",
     .group = Group::kHandler,
     .what = "what the server does itself, if no PROGRAM is given",
     .allowed = "echo, discard, chargen, daytime or time",
     .by_default = "echo",
     .parse = ParseService},
    {.name = "stderr_to_socket",
     .value_name = "",
     .group = Group::kHandler,
     .what = "PROGRAM: its standard error goes to the client, too",
     .allowed = kTrueOrFalse,
     .by_default = "false",
     .parse =
         [](std::string_view value, Draft& draft) {
           draft.options.handler.stderr_to_socket = value == "true";
           return absl::OkStatus();
         }},
    {.name = "keep_env",
     .value_name = "NAME,...",
     .group = Group::kHandler,
     .what = "PROGRAM: what it has of the server's environment, beside PATH "
             "and what is said of the client",
     .allowed = "names of variables, with commas between",
     .by_default = "nothing",
     .parse = ParseKeepEnv},
    {.name = "client_gone_grace",
     .value_name = "DURATION",
     .group = Group::kHandler,
     .what = "PROGRAM: how long it may go on once its client has gone, before "
             "SIGTERM and then SIGKILL",
     .allowed = "a duration from 0s to 24h",
     .by_default = "10s",
     .parse =
         [](std::string_view value, Draft& draft) {
           return Check(Time(value, absl::ZeroDuration(), kDay,
                             absl::Nanoseconds(1),
                             draft.options.handler.client_gone_grace));
         }},
    {.name = "rlimit",
     .value_name = "NAME=SOFT[:HARD],...",
     .group = Group::kHandler,
     .what = "what a handler may use, as setrlimit(2) names it",
     .allowed = "limits such as CPU=10,NOFILE=64:128,AS=unlimited",
     .by_default = "the server's",
     .parse = ParseRlimit},

    {.name = "max_connections",
     .value_name = "N",
     .group = Group::kAdmit,
     .what = "so many at once",
     .allowed = "a number from 1 to 1000000",
     .by_default = "no limit",
     .parse =
         [](std::string_view value, Draft& draft) {
           return Check(Number(value, 1, kMostConnections,
                               draft.options.admit.limits.max_connections));
         }},
    {.name = "max_connections_per_source",
     .value_name = "N",
     .group = Group::kAdmit,
     .what = "so many at once of one source",
     .allowed = "a number from 1 to 1000000",
     .by_default = "no limit",
     .parse =
         [](std::string_view value, Draft& draft) {
           return Check(
               Number(value, 1, kMostConnections,
                      draft.options.admit.limits.max_connections_per_source));
         }},
    {.name = "connection_rate_per_source",
     .value_name = "RATE[,BURST]",
     .group = Group::kAdmit,
     .what = "how often one source may come, and how many times at once after "
             "a pause; who comes too often is refused",
     .allowed = "N/s, N/m or N/h, and a burst or none, as in 5/s,10; each "
                "number from 1 to 1000000",
     .by_default = "no limit",
     .parse = ParseRate},
    {.name = "source_prefix",
     .value_name = "V4,V6",
     .group = Group::kAdmit,
     .what = "how many bits of an address make a source",
     .allowed = "a number from 0 to 32 and one from 0 to 128",
     .by_default = "32,64",
     .parse = ParseSourcePrefix},
    {.name = "at_limit",
     .value_name = "WHAT",
     .group = Group::kAdmit,
     .what = "what becomes of a client that is one too many",
     .allowed = "queue, refuse or reset",
     .by_default = "queue",
     .more = "queue: it waits, and of those who wait the one whose source has "
             "the fewest connections is next. refuse: its connection is "
             "closed, after --at_limit_message. reset: it is reset.",
     .parse = ParseAtLimit},
    {.name = "at_limit_message",
     .value_name = "TEXT",
     .group = Group::kAdmit,
     .what = "what is said to a client that is refused",
     .allowed = "one line of at most 512 bytes, without control characters",
     .by_default = "nothing",
     .parse = ParseAtLimitMessage},
    {.name = "max_waiting",
     .value_name = "N",
     .group = Group::kAdmit,
     .what = "how many may wait; the next is at the expense of the source that "
             "asks for most",
     .allowed = "a number from 1 to 1000000",
     .by_default = "1024",
     .parse =
         [](std::string_view value, Draft& draft) {
           return Check(Number(value, 1, kMostConnections,
                               draft.options.admit.max_waiting));
         }},
    {.name = "flood_threshold",
     .value_name = "N",
     .group = Group::kAdmit,
     .what = "of how many turned away within a second their source is shut out",
     .allowed = "a number from 0, for never, to 1000000",
     .by_default = "500",
     .more = "For 0.9s, and if it goes on for up to 7.2s, the kernel drops what "
             "it knocks with; to it the server seems not to be there. Newer "
             "kernels ask for CAP_NET_ADMIN.",
     .parse =
         [](std::string_view value, Draft& draft) {
           return Check(Number(value, 0, 1'000'000,
                               draft.options.admit.flood_threshold));
         }},

    {.name = "idle_timeout",
     .value_name = "DURATION",
     .group = Group::kPatience,
     .what = "a connection on which neither side has said anything for so "
             "long is ended",
     .allowed = "a duration from 1ms to 720h",
     .by_default = "never",
     .parse =
         [](std::string_view value, Draft& draft) {
           return Check(
               Time(value, kMillisecond, kMonth, draft.options.patience.idle));
         }},
    {.name = "handler_timeout",
     .value_name = "DURATION",
     .group = Group::kPatience,
     .what = "a connection is ended after so long, whatever it does",
     .allowed = "a duration from 1ms to 720h",
     .by_default = "never",
     .parse =
         [](std::string_view value, Draft& draft) {
           return Check(Time(value, kMillisecond, kMonth,
                             draft.options.patience.handler));
         }},
    {.name = "min_rate",
     .value_name = "BYTES/PERIOD",
     .group = Group::kPatience,
     .what = "a connection on which fewer bytes have gone, both ways together, "
             "in any such period is ended",
     .allowed = "a number from 1 to 1000000000000, a slash, and whole seconds "
                "from 1s to 1h, as in 100/s or 1000/10s",
     .by_default = "no limit",
     .parse = ParseMinRate},

    {.name = "allow",
     .value_name = "RANGES",
     .group = Group::kAccess,
     .what = "these may come, and whom no --allow names may not",
     .allowed = "ranges such as 10.0.0.0/8 or 2001:db8::/32, with commas "
                "between, and the words all and unix",
     .by_default = "all",
     .parse =
         [](std::string_view value, Draft& draft) {
           draft.allow.push_back(value);
           return Check(IsPlain(value));
         },
     .adds_up = true},
    {.name = "deny",
     .value_name = "RANGES",
     .group = Group::kAccess,
     .what = "these may not come, even if some --allow names them",
     .allowed = "ranges such as 10.0.0.0/8 or 2001:db8::/32, with commas "
                "between, and the words all and unix",
     .by_default = "none",
     .parse =
         [](std::string_view value, Draft& draft) {
           draft.deny.push_back(value);
           return Check(IsPlain(value));
         },
     .adds_up = true},
    {.name = "rules",
     .value_name = "FILE",
     .group = Group::kAccess,
     .what = "lines such as \"deny 192.0.2.9\" and \"allow 192.0.2.0/24\", of "
             "which the first that names a client decides; read again when it "
             "changes",
     .allowed = "a path without control characters",
     .by_default = "none",
     .parse =
         [](std::string_view value, Draft& draft) {
           return Check(Text(value, draft.options.access.rules_file));
         }},
    {.name = "explain",
     .value_name = "ADDRESS",
     .group = Group::kAccess,
     .what = "print which rule and which limits would speak if this client "
             "came, and do nothing else",
     .allowed = "an address such as 203.0.113.7 or 2001:db8::7, or unix",
     .by_default = "nobody",
     .parse = ParseExplain},

    {.name = "proxy_protocol",
     .value_name = "VERSION",
     .group = Group::kProxy,
     .what = "trusted proxies say first who the client is, in a PROXY header "
             "of this version, and limits, rules and log believe them",
     .allowed = "off, v1, v2 or auto",
     .by_default = "off",
     .more = "auto: either version.",
     .parse = ParseProxyProtocol},
    {.name = "trusted_proxies",
     .value_name = "RANGES",
     .group = Group::kProxy,
     .what = "which peers are such proxies",
     .allowed = kRanges,
     .by_default = "none",
     .parse = ParseTrustedProxies},
    {.name = "proxy_timeout",
     .value_name = "DURATION",
     .group = Group::kProxy,
     .what = "how long a proxy may take to send the header",
     .allowed = "a duration from 1ms to 1h",
     .by_default = "3s",
     .parse =
         [](std::string_view value, Draft& draft) {
           return Check(Time(value, kMillisecond, absl::Hours(1),
                             absl::Nanoseconds(1),
                             draft.options.proxy.timeout));
         }},

    {.name = "user",
     .value_name = "USER",
     .group = Group::kPrivileges,
     .what = "whom the server and its handlers become, supplementary groups "
             "included, once it listens",
     .allowed = kPlainName,
     .by_default = "who started it",
     .parse =
         [](std::string_view value, Draft& draft) {
           return Check(Text(value, draft.options.privileges.user));
         }},
    {.name = "group",
     .value_name = "GROUP",
     .group = Group::kPrivileges,
     .what = "the group, if it is not to be that user's own",
     .allowed = kPlainName,
     .by_default = "the user's",
     .parse =
         [](std::string_view value, Draft& draft) {
           return Check(Text(value, draft.options.privileges.group));
         }},
    {.name = "chroot",
     .value_name = "DIRECTORY",
     .group = Group::kPrivileges,
     .what = "what becomes the root directory",
     .allowed = "a path that begins with /, without control characters",
     .by_default = "none",
     .parse =
         [](std::string_view value, Draft& draft) {
           return Check(Text(value, draft.options.privileges.chroot) &&
                        value.front() == '/');
         }},
    {.name = "new_privileges",
     .value_name = "",
     .group = Group::kPrivileges,
     .what = "PROGRAM: it may gain rights by set-user-ID programs",
     .allowed = kTrueOrFalse,
     .by_default = "false",
     .parse =
         [](std::string_view value, Draft& draft) {
           draft.options.handler.new_privileges = value == "true";
           return absl::OkStatus();
         }},

    {.name = "log_format",
     .value_name = "FORMAT",
     .group = Group::kServer,
     .what = "how each connection is logged, in one line on standard error",
     .allowed = "text, json or none",
     .by_default = "text",
     .parse = ParseLogFormat},
    {.name = "control",
     .value_name = "ADDRESS",
     .group = Group::kServer,
     .what = "where the server can be asked while it runs, by its own user and "
             "by root",
     .allowed = "unix:/path or unix:@abstract",
     .by_default = "nowhere",
     .parse = ParseControl},
    {.name = "ask",
     .value_name = "REQUEST",
     .group = Group::kServer,
     .what = "ask the server that runs and has this --control, print its "
             "answer, and do nothing else",
     .allowed = "1 to 255 bytes, without control characters",
     .by_default = "nothing",
     .more = "\"explain ADDRESS\": which rule and which limits would speak if "
             "this client came now; \"forget ADDRESS\": the rate of its source "
             "begins anew; \"state\", \"state json\": how things stand; "
             "\"help\".",
     .parse =
         [](std::string_view value, Draft& draft) {
           return Check(Text(value, draft.options.control.ask) &&
                        value.size() < Control::kMaxRequest);
         }},
    {.name = "ready_fd",
     .value_name = "N",
     .group = Group::kServer,
     .what = "a descriptor that gets a line, and is then closed, when clients "
             "may come",
     .allowed = "a number from 1 to 1048575",
     .by_default = "none",
     .parse =
         [](std::string_view value, Draft& draft) {
           return Check(Number(value, 1, 1'048'575, draft.options.ready_fd));
         }},
    {.name = "drain_timeout",
     .value_name = "DURATION",
     .group = Group::kServer,
     .what = "how long clients may take to finish once the server is asked to "
             "stop",
     .allowed = "a duration from 0s to 24h",
     .by_default = "30s",
     .parse =
         [](std::string_view value, Draft& draft) {
           return Check(Time(value, absl::ZeroDuration(), kDay,
                             absl::Nanoseconds(1),
                             draft.options.drain_timeout));
         }},
    {.name = "help",
     .value_name = "",
     .group = Group::kServer,
     .what = "print this, and do nothing else",
     .allowed = kTrueOrFalse,
     .by_default = "false",
     .parse =
         [](std::string_view value, Draft& draft) {
           draft.options.help = value == "true";
           return absl::OkStatus();
         }},
});

bool IsSwitch(const Flag& flag) { return flag.value_name.empty(); }

const Flag* Find(std::string_view name) {
  const auto flag =
      absl::c_find_if(kFlags, [&](const Flag& f) { return f.name == name; });
  return flag == kFlags.end() ? nullptr : &*flag;
}

// How many bytes to change, add or leave out to make the one of the other. An
// underscore may be written as a dash.
size_t Distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const bool same = a[i] == b[j] || (a[i] == '-' && b[j] == '_');
      const size_t change = diagonal + (same ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({change, diagonal + 1, row[j] + 1});
    }
  }
  return row.back();
}

absl::Status UnknownFlag(std::string_view name) {
  constexpr size_t kNear = 2;
  constexpr size_t kLongestName = 64;
  std::string_view nearest;
  size_t distance = kNear + 1;
  if (name.size() <= kLongestName) {
    for (const Flag& flag : kFlags) {
      const size_t d = Distance(name, flag.name);
      // Any two short words are near each other.
      if (d >= distance || 2 * d > flag.name.size()) continue;
      nearest = flag.name;
      distance = d;
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "unknown flag ", Quoted(absl::StrCat("--", name)), ": ",
      nearest.empty() ? "" : absl::StrCat("did you mean --", nearest, "? "),
      "--help lists all"));
}

// One flag on the command line.
struct Written {
  const Flag* flag;
  std::string_view value;
};

class Parser {
 public:
  explicit Parser(absl::Span<const std::string_view> args) : args_(args) {}

  absl::StatusOr<ServerOptions> Parse();

 private:
  // The flag that begins at `next_`, which moves beyond it.
  absl::StatusOr<Written> Read();
  absl::Status Take(const Written& written);
  absl::Status TakeProgram(absl::Span<const std::string_view> argv);
  // Whether all go together; makes of the draft what depends on more than one.
  absl::Status Agree();
  absl::Status AgreeOnControl();
  absl::Status AgreeOnHandler();
  absl::Status AgreeOnModel();
  absl::Status AgreeOnWorkers();
  absl::Status AgreeOnClients();
  absl::Status AgreeOnPlaces();

  // The value, if it is written and does not say what is so anyway, "false".
  std::optional<std::string_view> Given(std::string_view name) const;
  // Each of `names` that is given is an error, because of `why`.
  absl::Status Refuse(absl::Span<const std::string_view> names,
                      std::string_view why) const;

  absl::Span<const std::string_view> args_;
  size_t next_ = 0;
  // By the place in kFlags; of those that add up the last.
  std::array<std::optional<std::string_view>, kFlags.size()> given_;
  Draft draft_;
};

absl::StatusOr<Written> Parser::Read() {
  const std::string_view arg = args_[next_++];
  if (arg == "-h") return Written{Find("help"), "true"};
  std::string_view name = arg;
  if (!absl::ConsumePrefix(&name, "--")) {
    return absl::InvalidArgumentError(
        absl::StrCat("argument ", Quoted(arg),
                     ": a flag begins with --, as in --listen=:7007, and a "
                     "program comes after a lone --"));
  }
  const size_t equals = name.find('=');
  const bool has_value = equals != std::string_view::npos;
  const std::string_view value =
      has_value ? name.substr(equals + 1) : std::string_view();
  name = name.substr(0, equals);
  const Flag* flag = Find(name);
  if (flag == nullptr) {
    std::string_view positive = name;
    const Flag* negated =
        absl::ConsumePrefix(&positive, "no") ? Find(positive) : nullptr;
    if (negated == nullptr || !IsSwitch(*negated)) return UnknownFlag(name);
    if (has_value) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", name, "=", Quoted(value), ": allowed is --", name,
                       ", or --", negated->name, "=true or false"));
    }
    return Written{negated, "false"};
  }
  if (has_value) return Written{flag, value};
  if (IsSwitch(*flag)) return Written{flag, "true"};
  // What looks like a flag is one: else a value forgotten would take it.
  if (next_ == args_.size() || absl::StartsWith(args_[next_], "--")) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--", name, " needs a value: --", name, "=", flag->value_name));
  }
  return Written{flag, args_[next_++]};
}

absl::Status Parser::Take(const Written& written) {
  const Flag& flag = *written.flag;
  std::optional<std::string_view>& given = given_[&flag - kFlags.data()];
  if (given.has_value() && !flag.adds_up) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag.name, " is given twice, as ", Quoted(*given),
                     " and as ", Quoted(written.value), ": allowed is once"));
  }
  given = written.value;
  const bool is_switch_value =
      written.value == "true" || written.value == "false";
  const absl::Status status =
      written.value.empty() || (IsSwitch(flag) && !is_switch_value)
          ? NotAllowed()
          : flag.parse(written.value, draft_);
  if (status.ok()) return status;
  if (!status.message().empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag.name, ": ", status.message()));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag.name, "=", Quoted(written.value), ": allowed is ",
                   flag.allowed));
}

absl::Status Parser::TakeProgram(absl::Span<const std::string_view> argv) {
  if (argv.empty() || argv.front().empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        argv.empty() ? "--" : "-- \"\"",
        ": allowed is a program after it, by its name or its path"));
  }
  for (const std::string_view arg : argv) {
    if (absl::StrContains(arg, '\0')) {
      return absl::InvalidArgumentError(
          absl::StrCat("program's argument ", Quoted(arg),
                       ": allowed is any text without a NUL"));
    }
  }
  draft_.options.handler.program.assign(argv.begin(), argv.end());
  return absl::OkStatus();
}

std::optional<std::string_view> Parser::Given(std::string_view name) const {
  const Flag* flag = Find(name);
  const std::optional<std::string_view> value = given_[flag - kFlags.data()];
  return IsSwitch(*flag) && value == "false" ? std::nullopt : value;
}

absl::Status Parser::Refuse(absl::Span<const std::string_view> names,
                            std::string_view why) const {
  for (const std::string_view name : names) {
    if (!Given(name).has_value()) continue;
    return absl::InvalidArgumentError(absl::StrCat("--", name, " ", why));
  }
  return absl::OkStatus();
}

absl::Status Parser::AgreeOnControl() {
  const ServerOptions::ControlSocket& control = draft_.options.control;
  if (!control.ask.has_value()) {
    return control.address.has_value()
               ? Refuse({"explain"},
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
  for (const Flag& flag : kFlags) {
    if (flag.name == "ask" || flag.name == "control") continue;
    if (absl::Status s = Refuse({flag.name}, kWhy); !s.ok()) return s;
  }
  if (draft_.options.handler.program.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "program ", Quoted(draft_.options.handler.program.front()), " ", kWhy));
}

absl::Status Parser::AgreeOnHandler() {
  const std::vector<std::string>& program = draft_.options.handler.program;
  if (program.empty()) {
    return Refuse({"stderr_to_socket", "keep_env"},
                  "needs a program: --service has nothing to do with it");
  }
  return Refuse({"service"},
                absl::StrCat("and the program ", Quoted(program.front()),
                             " do not go together: allowed is "
                             "one of them"));
}

absl::Status Parser::AgreeOnModel() {
  using Model = ServerOptions::Model;
  const Model model = draft_.options.model;
  if (model != Model::kPrefork) {
    if (absl::Status s =
            Refuse({"workers", "min_spare_workers", "max_spare_workers",
                    "max_workers", "connections_per_worker"},
                   absl::StrCat("needs --model=prefork, and it is ",
                                Given("model").value_or("fork")));
        !s.ok()) {
      return s;
    }
  }
  if (model == Model::kIterative) {
    if (absl::Status s =
            Refuse({"max_connections"},
                   "and --model=iterative do not go together: that is one");
        !s.ok()) {
      return s;
    }
    return Refuse({"max_waiting"},
                  "and --model=iterative do not go together: the others wait "
                  "in the kernel's queue, which has room for --backlog");
  }
  if (model == Model::kPrefork) {
    if (absl::Status s = Refuse({"max_connections"},
                                "and --model=prefork do not go together: its "
                                "limit is --workers or --max_workers");
        !s.ok()) {
      return s;
    }
    if (absl::Status s = Refuse({"max_waiting"},
                                "and --model=prefork do not go together: who "
                                "waits for a worker is in the kernel's queue");
        !s.ok()) {
      return s;
    }
    if (draft_.options.admit.at_limit == AtLimit::kQueue) {
      return Refuse({"at_limit", "max_connections_per_source"},
                    "needs --at_limit=refuse or reset with --model=prefork: "
                    "its workers let clients in from the kernel's queue, where "
                    "nobody can wait for others of his source");
    }
  }
  return absl::OkStatus();
}

absl::Status Parser::AgreeOnWorkers() {
  if (draft_.options.workers.fixed.has_value()) {
    if (absl::Status s =
            Refuse({"min_spare_workers", "max_spare_workers", "max_workers"},
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

absl::Status Parser::AgreeOnClients() {
  ServerOptions& options = draft_.options;
  const std::string_view at_limit = Given("at_limit").value_or("queue");
  if (options.admit.at_limit != AtLimit::kRefuse) {
    if (absl::Status s = Refuse(
            {"at_limit_message"},
            absl::StrCat("needs --at_limit=refuse, and it is ", at_limit));
        !s.ok()) {
      return s;
    }
  }
  if (options.admit.at_limit != AtLimit::kQueue) {
    if (absl::Status s = Refuse(
            {"max_waiting"},
            absl::StrCat("needs --at_limit=queue, and it is ", at_limit));
        !s.ok()) {
      return s;
    }
  }
  if (options.access.rules_file.has_value()) {
    if (absl::Status s = Refuse({"allow", "deny"},
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
    if (absl::Status s = Refuse({"allow"},
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
    return Refuse({"trusted_proxies", "proxy_timeout"},
                  "needs --proxy_protocol=v1, v2 or auto, and it is off");
  }
  if (options.proxy.trusted.empty()) {
    return Refuse({"proxy_protocol"},
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
    if (absl::Status s =
            Refuse({"reuse_port", "defer_accept", "no_delay", "keep_alive",
                    "user_timeout", "idle_timeout", "min_rate"},
                   kNeedsTcp);
        !s.ok()) {
      return s;
    }
    // Trusted proxies are known by their addresses.
    if (draft_.options.proxy.headers.has_value()) {
      if (absl::Status s = Refuse({"proxy_protocol"}, kNeedsTcp); !s.ok()) {
        return s;
      }
    }
  }
  if (!path) {
    return Refuse({"unix_mode", "unix_owner", "unix_group"},
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
            Refuse({"group"}, "needs --user: root would stay who it is");
        !s.ok()) {
      return s;
    }
    return Refuse({"chroot"}, "needs --user: root could leave it");
  }
  return absl::OkStatus();
}

absl::StatusOr<ServerOptions> Parser::Parse() {
  while (next_ < args_.size()) {
    if (args_[next_] == "--") {
      if (absl::Status s = TakeProgram(args_.subspan(next_ + 1)); !s.ok()) {
        return s;
      }
      break;
    }
    const absl::StatusOr<Written> written = Read();
    if (!written.ok()) return written.status();
    if (absl::Status s = Take(*written); !s.ok()) return s;
  }
  if (!draft_.options.help) {
    if (absl::Status s = Agree(); !s.ok()) return s;
  }
  return std::move(draft_.options);
}

// Adds words to `text`, in lines that begin with `indent` spaces.
void AppendWrapped(std::string_view words, size_t indent, std::string& text) {
  size_t column = 0;
  for (const std::string_view word :
       absl::StrSplit(words, ' ', absl::SkipEmpty())) {
    if (column > 0 && column + 1 + word.size() <= kWidth) {
      text.append(" ").append(word);
      column += 1 + word.size();
      continue;
    }
    if (column > 0) text.append("\n");
    text.append(indent, ' ').append(word);
    column = indent + word.size();
  }
  text.append("\n");
}

void AppendHelp(const Flag& flag, std::string& text) {
  constexpr size_t kIndent = 6;
  absl::StrAppend(&text, "  --", IsSwitch(flag) ? "[no]" : "", flag.name,
                  IsSwitch(flag) ? "" : "=", flag.value_name, "\n");
  AppendWrapped(
      absl::StrCat(flag.what,
                   flag.adds_up ? "; may be given more than once" : "",
                   flag.more.empty() ? "" : ". ", flag.more),
      kIndent, text);
  AppendWrapped(
      absl::StrCat("allowed: ", flag.allowed, "; default: ", flag.by_default),
      kIndent, text);
}

}  // namespace

absl::StatusOr<ServerOptions> ParseOptions(
    absl::Span<const std::string_view> args) {
  return Parser(args).Parse();
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
  for (const auto& [group, title] : kGroups) {
    absl::StrAppend(&usage, "\n", title, ":\n");
    for (const Flag& flag : kFlags) {
      if (flag.group == group) AppendHelp(flag, usage);
    }
  }
  absl::StrAppend(&usage, R"(
signals:
  SIGTERM, SIGINT    drain: who has connected may finish, nobody else comes in;
                     after --drain_timeout SIGTERM, and then SIGKILL, to what is
                     left
  a second, SIGQUIT  end at once
  SIGTTIN, SIGTTOU   one process more or one fewer may handle clients
  SIGUSR1            log how things stand, in one line
  SIGHUP             read the --rules again

a server with --control is asked by another:
  server --control=unix:/run/echo.control --ask="explain 203.0.113.7"

exit code: 0 after an orderly end, 1 if the world refuses (the port is taken,
there is no such user or program), 2 for a mistake in the flags

examples:
  server --listen=:7007,unix:/run/echo.sock --max_connections_per_source=20
  server --listen=:9418 --user=nobody --idle_timeout=1m -- git daemon --inetd
  server --model=prefork --workers=8 --service=daytime
)");
  return usage;
}

}  // namespace brood
