// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/contender.h"

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace brood {
namespace {

constexpr std::string_view kServer = "server/server";
// What every static prefork server has, ours and others.
constexpr size_t kWorkers = 8;

constexpr std::string_view kXinetdConfig = R"(service cat
{
  type = UNLISTED
  socket_type = stream
  protocol = tcp
  bind = 127.0.0.1
  port = {port}
  wait = no
  user = {user}
  server = /bin/cat
  instances = UNLIMITED
  per_source = UNLIMITED
  cps = 1000000 1
  log_type = FILE /dev/null
}
)";

// Of its clients it refuses none for a minute: 1,000,000 may come in one.
constexpr std::string_view kInetdConfig =
    "127.0.0.1:{port} stream tcp nowait.1000000 {user} /bin/cat cat\n";

constexpr std::string_view kPythonServer = R"(import socketserver


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)


class Server(socketserver.ForkingTCPServer):
    allow_reuse_address = True
    request_queue_size = 4096
    max_children = 20000


Server(("127.0.0.1", {port}), Echo).serve_forever()
)";

constexpr std::string_view kApacheConfig = R"(ServerRoot {folder}
ServerName localhost
PidFile {folder}/pid
ErrorLog /dev/null
LoadModule mpm_prefork_module /usr/lib/apache2/modules/mod_mpm_prefork.so
LoadModule echo_module /usr/lib/apache2/modules/mod_echo.so
Listen 127.0.0.1:{port}
ListenBacklog 4096
AcceptFilter http none
StartServers 8
MinSpareServers 8
MaxSpareServers 8
ServerLimit 8
MaxRequestWorkers 8
MaxConnectionsPerChild 0
User www-data
Group www-data
ProtocolEcho On
)";

Contender Brood(std::string_view name, Design design,
                std::vector<std::string> flags,
                std::string_view log_format = "none") {
  std::vector<std::string> command = {
      "{program}", "--listen=127.0.0.1:0",
      absl::StrCat("--log_format=", log_format)};
  for (std::string& flag : flags) command.push_back(std::move(flag));
  return {.name = absl::StrCat("brood-", name),
          .origin = Origin::kBrood,
          .design = design,
          .program = std::string(kServer),
          .command = std::move(command),
          .says_where = true};
}

// `cat` by a server in a program that has so much.
Contender Laden(std::string_view name, size_t mebibytes, size_t descriptors) {
  Contender contender = Brood(name, Design::kProgram, {"--", "/bin/cat"});
  contender.program = "tools/bench/laden";
  contender.command.insert(
      contender.command.begin() + 1,
      {absl::StrCat(mebibytes), absl::StrCat(descriptors)});
  return contender;
}

Contender Floor(std::string_view name, Design design) {
  return {.name = absl::StrCat("floor-", name),
          .origin = Origin::kFloor,
          .design = design,
          .program = absl::StrCat("tools/bench/floors/", name, "_floor"),
          .command = {"{program}"},
          .says_where = true};
}

Contender Peer(std::string_view program, std::string_view package,
               Design design, std::vector<std::string> arguments,
               std::string_view config = "") {
  std::vector<std::string> command = {"{program}"};
  for (std::string& argument : arguments) {
    command.push_back(std::move(argument));
  }
  return {.name = std::string(program),
          .origin = Origin::kPeer,
          .design = design,
          .program = std::string(program),
          .package = std::string(package),
          .command = std::move(command),
          .config = std::string(config)};
}

Contender Named(std::string_view name, Contender contender) {
  contender.name = std::string(name);
  return contender;
}

Contender AtOnce(size_t clients, Contender contender) {
  contender.at_once = clients;
  return contender;
}

Contender SaysVersion(std::string_view if_asked, Contender contender) {
  contender.asked_for_version = std::string(if_asked);
  return contender;
}

// systemd-socket-activate says three lines of each connection. There is no flag
// to make it quiet, but a variable.
Contender WithoutLog(Contender contender) {
  contender.command.insert(contender.command.begin(),
                           {"/usr/bin/env", "SYSTEMD_LOG_LEVEL=err"});
  return contender;
}

std::string Fill(std::string_view text, const Contender& contender,
                 const Places& places) {
  return absl::StrReplaceAll(
      text,
      {{"{program}", places.program},
       {"{port}", places.port},
       {"{folder}", places.folder},
       {"{config}", contender.config.empty()
                        ? ""
                        : absl::StrCat(places.folder, "/", contender.name)},
       {"{user}", places.user}});
}

}  // namespace

std::string_view NameOf(Design design) {
  switch (design) {
    case Design::kFork:
      return "a process for each connection";
    case Design::kProgram:
      return "a program for each connection";
    case Design::kPrefork:
      return "processes that wait for connections";
    case Design::kIterative:
      return "one process for all connections";
  }
  return "";
}

std::string_view NameOf(Origin origin) {
  switch (origin) {
    case Origin::kBrood:
      return "brood";
    case Origin::kFloor:
      return "floor";
    case Origin::kPeer:
      return "peer";
  }
  return "";
}

std::vector<Contender> AllContenders() {
  return {
      Brood("fork", Design::kFork, {}),
      Brood("fork-log", Design::kFork, {}, "text"),
      Brood("fork-ahead", Design::kFork,
            {"--model=prefork", "--connections_per_worker=1",
             "--min_spare_workers=16", "--max_spare_workers=32",
             "--max_workers=32768"}),
      Floor("fork", Design::kFork),
      Floor("textbook", Design::kFork),
      Floor("ahead", Design::kFork),
      SaysVersion(
          "-V",
          Peer("socat", "socat", Design::kFork,
               {"-b65536",
                "TCP4-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,backlog=4096",
                "PIPE"})),
      SaysVersion("--version",
                  Named("python-forking",
                        Peer("python3", "python3-minimal", Design::kFork,
                             {"-E", "-S", "{config}"}, kPythonServer))),

      Brood("cat", Design::kProgram, {"--", "/bin/cat"}),
      Laden("cat-1gib", 1024, 0),
      Laden("cat-15000-fds", 0, 15'000),
      Floor("exec", Design::kProgram),
      SaysVersion(
          "-V",
          Named(
              "socat-cat",
              Peer("socat", "socat", Design::kProgram,
                   {"TCP4-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,backlog="
                    "4096",
                    "EXEC:/bin/cat,nofork"}))),
      Peer("tcpserver", "ucspi-tcp", Design::kProgram,
           {"-H", "-R", "-D", "-l0", "-c", "20000", "-b", "4096", "127.0.0.1",
            "{port}", "/bin/cat"}),
      Peer("tcpsvd", "ipsvd", Design::kProgram,
           {"-l", "0", "-c", "20000", "-b", "4096", "127.0.0.1", "{port}",
            "/bin/cat"}),
      Peer("s6-tcpserver", "s6-networking", Design::kProgram,
           {"-q", "-c", "20000", "-C", "20000", "-b", "4096", "127.0.0.1",
            "{port}", "/bin/cat"}),
      SaysVersion("-version", Peer("xinetd", "xinetd", Design::kProgram,
                                   {"-dontfork", "-f", "{config}", "-pidfile",
                                    "{folder}/pid"},
                                   kXinetdConfig)),
      Named("openbsd-inetd",
            Peer("inetd", "openbsd-inetd", Design::kProgram,
                 {"-i", "-R", "1000000", "-q", "4096", "{config}"},
                 kInetdConfig)),
      SaysVersion("--version",
                  Peer("ncat", "ncat", Design::kProgram,
                       {"--listen", "--keep-open", "--max-conns", "20000",
                        "--exec", "/bin/cat", "127.0.0.1", "{port}"})),
      SaysVersion("--version",
                  WithoutLog(Peer("systemd-socket-activate", "systemd",
                                  Design::kProgram,
                                  {"--listen=127.0.0.1:{port}", "--accept",
                                   "--inetd", "/bin/cat"}))),
      // Not every busybox has been built with it; Debian's has not.
      SaysVersion("--help",
                  Named("busybox-tcpsvd",
                        Peer("busybox", "busybox", Design::kProgram,
                             {"tcpsvd", "-E", "-c", "20000", "-b", "4096",
                              "127.0.0.1", "{port}", "/bin/cat"}))),

      AtOnce(kWorkers,
             Brood("prefork", Design::kPrefork,
                   {"--model=prefork", absl::StrCat("--workers=", kWorkers)})),
      Brood("prefork-dynamic", Design::kPrefork,
            {"--model=prefork", "--max_workers=32768"}),
      AtOnce(kWorkers, Floor("prefork", Design::kPrefork)),
      SaysVersion(
          "-v",
          AtOnce(kWorkers, Named("apache-echo",
                                 Peer("apache2", "apache2", Design::kPrefork,
                                      {"-D", "FOREGROUND", "-f", "{config}"},
                                      kApacheConfig)))),

      AtOnce(1, Brood("iterative", Design::kIterative, {"--model=iterative"})),
      AtOnce(1, Floor("iterative", Design::kIterative)),
  };
}

std::vector<std::string> CommandOf(const Contender& contender,
                                   const Places& places) {
  std::vector<std::string> command;
  command.reserve(contender.command.size());
  for (const std::string& argument : contender.command) {
    command.push_back(Fill(argument, contender, places));
  }
  return command;
}

std::string VersionIn(std::string_view said) {
  for (const std::string_view line : absl::StrSplit(said, '\n')) {
    for (size_t i = 1; i + 1 < line.size(); ++i) {
      if (line[i] == '.' && absl::ascii_isdigit(line[i - 1]) &&
          absl::ascii_isdigit(line[i + 1])) {
        return std::string(absl::StripAsciiWhitespace(line.substr(0, 120)));
      }
    }
  }
  return "";
}

std::string ConfigOf(const Contender& contender, const Places& places) {
  return Fill(contender.config, contender, places);
}

}  // namespace brood
