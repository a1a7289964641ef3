// SPDX-License-Identifier: Apache-2.0
//
// A program that handles connections is found before the first client comes,
// and told about each one in its environment.
//
//   absl::StatusOr<Child> RunFor(Stream& stream, const ConnectionInfo& info) {
//     const std::vector<std::string> argv = {"cat", "-u"};
//     absl::StatusOr<std::string> path = ResolveProgram(argv);
//     if (!path.ok()) return path.status();
//     absl::StatusOr<ProgramEnvironment> environment =
//         ProgramEnvironment::Create("LANG,TZ");
//     if (!environment.ok()) return environment.status();
//     return Spawn(argv, {.program = *path,
//                         .env = environment->For(info, {}),
//                         .fds = {{0, stream.fd()}, {1, stream.fd()}}});
//   }
//
// What it is not: the running of it; see proc/spawn.h. Nothing is executed
// here, so what only the kernel knows (a security module, a library that is
// missing) is found by the first client all the same.
//
// For every client the program has PATH, as the server has it, the variables
// that are to be kept, those of them that are set, and of a connection by
//
//   TCP    PROTO=TCP, TCPLOCALIP, TCPLOCALPORT, TCPREMOTEIP, TCPREMOTEPORT,
//          TCPCONNNUM, REMOTE_ADDR, REMOTE_PORT
//   unix   PROTO=UNIX, UNIXLOCALPATH, UNIXREMOTEEUID, UNIXREMOTEEGID,
//          UNIXREMOTEPID
//
// and nothing else. What is not known is not set. Addresses are in numbers;
// nobody is asked for a name, and so there are no ...HOST and no ...INFO.
//
// PROTO is TCP for IPv6 as well, as s6-networking has it: programs ask for TCP,
// and look for the rest under that name. (ucspi-tcp6 says TCP6 and renames
// everything.) An IPv4 client of a socket for both families is an IPv4 client.
// A scope is in REMOTE_ADDR, "fe80::1%2", as systemd writes it, and not in
// TCPREMOTEIP, which nobody expects it in.
//
// TCPCONNNUM is how many connections there are from the client's source, this
// one included: what s6-tcpserver documents. Who counts decides what a source
// is (net/source_key.h).
//
// The variables of unix are ucspi-unix's (s6-ipcserver says IPC and has no
// pid). UNIXLOCALPATH is the path as it is; an abstract name is written with an
// @ before it, and otherwise as Address does.
//
// Ownership: values. Errors: each is one Status. A name that cannot be a
// variable's, or that is one of those above, is InvalidArgument. A program that
// cannot be run is what execve(2) would say, with its errno (see ErrnoOf):
// NotFound (ENOENT), PermissionDenied (EACCES: no permission, or no regular
// file), ENOEXEC for a format that is none, ELOOP for scripts that interpret
// scripts too deep. The message names the program, the file at fault if it is
// another, and why.
//
// Threads, signals, fork: functions of values, of the environment and of the
// file system; as safe as these.
// Rests on: execve(2), elf(5), UCSPI-1996, systemd.exec(5).
#ifndef BROOD_SERVER_PROGRAM_H_
#define BROOD_SERVER_PROGRAM_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "brood/server/connection_handler.h"

namespace brood {

// The path of the program that `argv` begins with: that name itself if there is
// a slash in it, else the first in PATH that can be executed, relative
// directories skipped, as Spawn() does. Judged with the rights of this process,
// so ask when they are those of the program.
//
// Looks at what would be executed: the file, and if it is a script the
// interpreter that its "#!" names, and the loader that a dynamic program asks
// for. A format that only binfmt_misc knows is ENOEXEC here: name its
// interpreter.
absl::StatusOr<std::string> ResolveProgram(
    const std::vector<std::string>& argv);

// What is known of a client besides its addresses.
struct ClientFacts {
  // By unix: who connected (SO_PEERCRED in unix(7)).
  struct Credentials {
    pid_t pid = 0;
    uid_t uid = 0;
    gid_t gid = 0;
  };
  std::optional<Credentials> credentials = std::nullopt;
  // By TCP: connections from its source, this one included.
  std::optional<uint64_t> connections = std::nullopt;
};

class ProgramEnvironment {
 public:
  // `keep` is names with commas between them; empty for none. Their values are
  // taken now, from the environment of this process.
  static absl::StatusOr<ProgramEnvironment> Create(std::string_view keep);

  // "NAME=value", each, for one connection. The addresses are those of the
  // connection, not of the listener, whose may be 0.0.0.0; and of the client,
  // if a proxy has said who that is.
  std::vector<std::string> For(const ConnectionInfo& info,
                               const ClientFacts& facts) const;

 private:
  explicit ProgramEnvironment(std::vector<std::string> kept)
      : kept_(std::move(kept)) {}

  std::vector<std::string> kept_;  // PATH first.
};

}  // namespace brood

#endif  // BROOD_SERVER_PROGRAM_H_
