// SPDX-License-Identifier: Apache-2.0
#include "brood/server/options.h"

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"

namespace brood {
namespace {

constexpr std::string_view kDefaultListen = "127.0.0.1:7007";
constexpr absl::Duration kMaxDrainTimeout = absl::Hours(24);

std::string Quoted(std::string_view text) {
  return absl::StrCat("\"", absl::CHexEscape(text), "\"");
}

// Each parser's error begins where "--name" ends.
absl::Status NotAllowed(std::string_view value, std::string_view allowed) {
  return absl::InvalidArgumentError(
      absl::StrCat("=", Quoted(value), ": allowed ", allowed));
}

absl::Status ParseListen(std::string_view value, ServerOptions& options) {
  absl::StatusOr<Address> address = Address::Parse(value);
  if (!address.ok()) {  // It quotes the value itself.
    return absl::InvalidArgumentError(
        absl::StrCat(": ", address.status().message()));
  }
  if (*address == Address()) {
    return NotAllowed(value, "is an address with a name");
  }
  options.listen = *address;
  return absl::OkStatus();
}

absl::Status ParseModel(std::string_view value, ServerOptions& options) {
  if (value == "fork") {
    options.model = ServerOptions::Model::kFork;
  } else if (value == "iterative") {
    options.model = ServerOptions::Model::kIterative;
  } else {
    return NotAllowed(value, "are fork and iterative");
  }
  return absl::OkStatus();
}

absl::Status ParseDrainTimeout(std::string_view value, ServerOptions& options) {
  absl::Duration timeout;
  if (!absl::ParseDuration(value, &timeout) || timeout < absl::ZeroDuration() ||
      timeout > kMaxDrainTimeout) {
    return NotAllowed(value,
                      "is a duration from 0s to 24h, such as 30s or 1m30s");
  }
  options.drain_timeout = timeout;
  return absl::OkStatus();
}

struct Flag {
  std::string_view name;
  std::string_view value_name;
  std::string_view help;
  absl::Status (*parse)(std::string_view value, ServerOptions& options);
};

constexpr std::array<Flag, 3> kFlags = {{
    {"listen", "ADDRESS",
     "where clients connect: 127.0.0.1:7007 (default), [::1]:7007, :7007,\n"
     "      unix:/path or unix:@abstract; port 0 takes any free port",
     ParseListen},
    {"model", "MODEL",
     "fork: a process for each client (default);\n"
     "      iterative: one client at a time, the others wait",
     ParseModel},
    {"drain_timeout", "DURATION",
     "how long clients may take to finish once the server is\n"
     "      asked to stop: 0s to 24h, default 30s",
     ParseDrainTimeout},
}};

std::string AllFlags() {
  return absl::StrCat(absl::StrJoin(kFlags, ", ",
                                    [](std::string* out, const Flag& flag) {
                                      absl::StrAppend(out, "--", flag.name);
                                    }),
                      " and --help");
}

}  // namespace

absl::StatusOr<ServerOptions> ParseOptions(
    absl::Span<const std::string_view> args) {
  ServerOptions options;
  if (absl::Status status = ParseListen(kDefaultListen, options);
      !status.ok()) {
    return status;
  }
  for (size_t i = 0; i < args.size(); ++i) {
    std::string_view name = args[i];
    if (name == "--help" || name == "-h") {
      options.help = true;
      continue;
    }
    if (!absl::ConsumePrefix(&name, "--")) {
      return absl::InvalidArgumentError(
          absl::StrCat("argument ", Quoted(args[i]),
                       ": only flags are allowed: ", AllFlags()));
    }
    const size_t equals = name.find('=');
    const std::string_view bare_name = name.substr(0, equals);
    if (bare_name == "help") {
      return absl::InvalidArgumentError(
          absl::StrCat(Quoted(args[i]), ": --help takes no value"));
    }
    const auto flag = absl::c_find_if(
        kFlags, [&](const Flag& f) { return f.name == bare_name; });
    if (flag == kFlags.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("unknown flag ", Quoted(absl::StrCat("--", bare_name)),
                       ": allowed are ", AllFlags()));
    }
    std::string_view value;
    if (equals != std::string_view::npos) {
      value = name.substr(equals + 1);
    } else if (i + 1 < args.size()) {
      value = args[++i];
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("--", flag->name, " needs a value: --", flag->name, "=",
                       flag->value_name));
    }
    if (absl::Status status = flag->parse(value, options); !status.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", flag->name, status.message()));
    }
  }
  return options;
}

std::string Usage() {
  std::string usage =
      "Echoes to many clients at once, a process for each, and leaves no "
      "zombie.\n"
      "\n"
      "usage: server [flags]\n";
  for (const Flag& flag : kFlags) {
    absl::StrAppend(&usage, "  --", flag.name, "=", flag.value_name, "\n      ",
                    flag.help, "\n");
  }
  absl::StrAppend(&usage,
                  "  --help\n"
                  "      print this\n"
                  "\n"
                  "signals:\n"
                  "  SIGTERM, SIGINT   drain: who is inside may finish, nobody "
                  "else comes in;\n"
                  "                    after --drain_timeout SIGTERM, then "
                  "SIGKILL, to what is\n"
                  "                    left\n"
                  "  a second one      end at once\n"
                  "\n"
                  "exit code: 0 after an orderly end, 1 if the world refuses "
                  "(the port is taken,\n"
                  "the path is not permitted), 2 for a mistake in the flags\n");
  return usage;
}

}  // namespace brood
