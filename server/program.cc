// SPDX-License-Identifier: Apache-2.0
#include "brood/server/program.h"

#include <arpa/inet.h>
#include <elf.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "brood/net/address.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/server/connection_handler.h"

namespace brood {
namespace {

// What execvp(3), and so Spawn(), takes where there is no PATH.
constexpr char kDefaultPath[] = "/bin:/usr/bin";

std::string Quoted(std::string_view text) {
  return absl::StrCat("\"", absl::CHexEscape(text), "\"");
}

// ---- The program ----

// How far the kernel looks for "#!" and what follows it (BINPRM_BUF_SIZE), and
// how many scripts may interpret each other.
constexpr size_t kFirstLine = 256;
constexpr int kMostInterpreters = 5;

// The bytes at `offset`, as many as there are.
std::string ReadAt(int fd, size_t size, off_t offset) {
  std::string bytes(size, '\0');
  const ssize_t n =
      RetryOnEintr([&] { return pread(fd, bytes.data(), size, offset); });
  bytes.resize(n > 0 ? static_cast<size_t>(n) : 0);
  return bytes;
}

// What follows "#!" up to a blank; empty if nothing does, as in "#!\n", or if
// it does not end in time.
std::string InterpreterOfScript(std::string_view head) {
  const bool cut = head.size() == kFirstLine;
  absl::ConsumePrefix(&head, "#!");
  const size_t newline = head.find('\n');
  head = head.substr(0, newline);
  head.remove_prefix(std::min(head.find_first_not_of(" \t"), head.size()));
  constexpr std::string_view kEnds(" \t\0", 3);
  const size_t end = head.find_first_of(kEnds);
  if (cut && newline == head.npos && end == head.npos) return "";
  return std::string(head.substr(0, end));
}

// The path in PT_INTERP; empty if there is none, or in another machine's format
// than this one's: then the kernel may know more of it than we.
std::string LoaderOfElf(int fd) {
  Elf64_Ehdr header;
  const std::string head = ReadAt(fd, sizeof(header), 0);
  if (head.size() < sizeof(header)) return "";
  std::memcpy(&header, head.data(), sizeof(header));
  const bool native = header.e_ident[EI_CLASS] == ELFCLASS64 &&
                      header.e_ident[EI_DATA] == ELFDATA2LSB &&
                      header.e_phentsize == sizeof(Elf64_Phdr);
  if (!native) return "";
  for (size_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    const std::string bytes =
        ReadAt(fd, sizeof(segment),
               static_cast<off_t>(header.e_phoff + i * sizeof(segment)));
    if (bytes.size() < sizeof(segment)) return "";
    std::memcpy(&segment, bytes.data(), sizeof(segment));
    if (segment.p_type != PT_INTERP || segment.p_filesz > 4096) continue;
    const std::string path =
        ReadAt(fd, segment.p_filesz, static_cast<off_t>(segment.p_offset));
    return path.substr(0, path.find('\0'));
  }
  return "";
}

// Whether `path` is a file that may be executed; says nothing of its format.
absl::Status CheckFile(const std::string& path, std::string_view what) {
  struct stat file;
  if (stat(path.c_str(), &file) == -1) return ErrnoStatus(errno, what);
  if (S_ISDIR(file.st_mode)) {
    return ErrnoStatus(EACCES, absl::StrCat(what, ": is a directory"));
  }
  if (!S_ISREG(file.st_mode)) {
    return ErrnoStatus(EACCES, absl::StrCat(what, ": is no regular file"));
  }
  // Where nobody may execute it, not even root may; and neither may anybody on
  // a file system that is mounted noexec.
  if (faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) == -1) {
    return ErrnoStatus(errno, absl::StrCat(what, ": is not executable"));
  }
  return absl::OkStatus();
}

// Whether `path` would be executed. `what` begins the message.
absl::Status CheckExecutable(const std::string& path, const std::string& what,
                             int interpreters) {
  if (absl::Status status = CheckFile(path, what); !status.ok()) return status;
  const UniqueFd file(
      RetryOnEintr([&] { return open(path.c_str(), O_RDONLY | O_CLOEXEC); }));
  // May be executed, and not read.
  if (!file.valid()) return absl::OkStatus();
  const std::string head = ReadAt(file.get(), kFirstLine, 0);
  if (absl::StartsWith(head, ELFMAG)) {
    const std::string loader = LoaderOfElf(file.get());
    if (loader.empty()) return absl::OkStatus();
    return CheckFile(loader,
                     absl::StrCat(what, ": its loader ", Quoted(loader)));
  }
  if (!absl::StartsWith(head, "#!")) {
    return ErrnoStatus(
        ENOEXEC, absl::StrCat(what, ": begins neither with #! nor as ELF"));
  }
  const std::string interpreter = InterpreterOfScript(head);
  if (interpreter.empty()) {
    return ErrnoStatus(
        ENOEXEC, absl::StrCat(what, ": names no interpreter after its #!"));
  }
  const std::string next =
      absl::StrCat(what, ": its interpreter ", Quoted(interpreter));
  if (interpreters == kMostInterpreters) return ErrnoStatus(ELOOP, next);
  return CheckExecutable(interpreter, next, interpreters + 1);
}

std::string PathVariable() {
  const char* path = std::getenv("PATH");
  return path == nullptr ? kDefaultPath : path;
}

// ---- The environment ----

bool IsOurs(std::string_view name) {
  constexpr std::array<std::string_view, 13> kOurs = {
      "PATH",         "PROTO",         "TCPLOCALIP",     "TCPLOCALPORT",
      "TCPREMOTEIP",  "TCPREMOTEPORT", "TCPCONNNUM",     "REMOTE_ADDR",
      "REMOTE_PORT",  "UNIXLOCALPATH", "UNIXREMOTEEUID", "UNIXREMOTEEGID",
      "UNIXREMOTEPID"};
  return absl::c_linear_search(kOurs, name);
}

bool IsName(std::string_view name) {
  return !name.empty() && !absl::ascii_isdigit(name.front()) &&
         absl::c_all_of(name, [](unsigned char c) {
           return absl::ascii_isalnum(c) || c == '_';
         });
}

// The address in numbers, without port and scope. REQUIRES: AF_INET, AF_INET6.
std::string Host(const Address& address) {
  std::array<char, INET6_ADDRSTRLEN> text = {};
  if (address.family() == AF_INET) {
    sockaddr_in v4;
    std::memcpy(&v4, address.sockaddr(), sizeof(v4));
    inet_ntop(AF_INET, &v4.sin_addr, text.data(), text.size());
  } else {
    sockaddr_in6 v6;
    std::memcpy(&v6, address.sockaddr(), sizeof(v6));
    inet_ntop(AF_INET6, &v6.sin6_addr, text.data(), text.size());
  }
  return text.data();
}

void AppendTcp(const Address& local, const Address& peer,
               const ClientFacts& facts, std::vector<std::string>& out) {
  out.push_back("PROTO=TCP");
  if (local.family() != AF_UNIX) {
    out.push_back(absl::StrCat("TCPLOCALIP=", Host(local)));
    out.push_back(absl::StrCat("TCPLOCALPORT=", *local.port()));
  }
  const std::string host = Host(peer);
  out.push_back(absl::StrCat("TCPREMOTEIP=", host));
  out.push_back(absl::StrCat("TCPREMOTEPORT=", *peer.port()));
  if (facts.connections.has_value()) {
    out.push_back(absl::StrCat("TCPCONNNUM=", *facts.connections));
  }
  out.push_back(peer.scope() == 0
                    ? absl::StrCat("REMOTE_ADDR=", host)
                    : absl::StrCat("REMOTE_ADDR=", host, "%", peer.scope()));
  out.push_back(absl::StrCat("REMOTE_PORT=", *peer.port()));
}

void AppendUnix(const Address& local, const ClientFacts& facts,
                std::vector<std::string>& out) {
  out.push_back("PROTO=UNIX");
  if (const std::optional<std::string_view> path = local.unix_path()) {
    out.push_back(absl::StrCat("UNIXLOCALPATH=", *path));
  } else if (local.unix_abstract_name().has_value()) {
    const std::string text = local.ToString();  // "unix:@name"
    out.push_back(
        absl::StrCat("UNIXLOCALPATH=", absl::StripPrefix(text, "unix:")));
  }
  if (facts.credentials.has_value()) {
    out.push_back(absl::StrCat("UNIXREMOTEEUID=", facts.credentials->uid));
    out.push_back(absl::StrCat("UNIXREMOTEEGID=", facts.credentials->gid));
    out.push_back(absl::StrCat("UNIXREMOTEPID=", facts.credentials->pid));
  }
}

}  // namespace

absl::StatusOr<std::string> ResolveProgram(
    const std::vector<std::string>& argv) {
  if (argv.empty() || argv[0].empty()) {
    return absl::InvalidArgumentError(
        "program: expected its name or path, and then its arguments");
  }
  for (const std::string& argument : argv) {
    if (absl::StrContains(argument, '\0')) {
      return absl::InvalidArgumentError(absl::StrCat(
          "program: ", Quoted(argument), ": expected text without NUL"));
    }
  }
  const std::string& name = argv[0];
  const std::string what = absl::StrCat("program ", Quoted(name));
  if (absl::StrContains(name, '/')) {
    absl::Status status = CheckExecutable(name, what, 0);
    if (!status.ok()) return status;
    return name;
  }
  const std::string variable = PathVariable();
  // As execvp(3): what may not be executed is passed over, and told if nothing
  // better comes. What may be, but cannot, is the one that is meant.
  absl::Status denied;
  for (const std::string_view directory : absl::StrSplit(variable, ':')) {
    if (!absl::StartsWith(directory, "/")) continue;
    const std::string path = absl::StrCat(directory, "/", name);
    const std::string where = absl::StrCat(what, ": ", path);
    const absl::Status file = CheckFile(path, where);
    if (file.ok()) {
      absl::Status status = CheckExecutable(path, where, 0);
      if (!status.ok()) return status;
      return path;
    }
    if (ErrnoOf(file) == EACCES && denied.ok()) denied = file;
  }
  if (!denied.ok()) return denied;
  return ErrnoStatus(
      ENOENT, absl::StrCat(what, ": find it in PATH ", Quoted(variable)));
}

absl::StatusOr<ProgramEnvironment> ProgramEnvironment::Create(
    std::string_view keep) {
  std::vector<std::string> kept = {absl::StrCat("PATH=", PathVariable())};
  std::vector<std::string_view> names;
  if (!keep.empty()) names = absl::StrSplit(keep, ',');
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string name(names[i]);
    if (!IsName(name)) {
      return absl::InvalidArgumentError(
          absl::StrCat(Quoted(name),
                       ": allowed are names of letters, digits and _, no "
                       "digit first, with commas between them"));
    }
    if (IsOurs(name)) {
      return absl::InvalidArgumentError(absl::StrCat(
          Quoted(name), ": allowed are names that the server does not set"));
    }
    const bool again =
        std::find(names.begin(), names.begin() + i, name) != names.begin() + i;
    const char* value = std::getenv(name.c_str());
    if (value != nullptr && !again) {
      kept.push_back(absl::StrCat(name, "=", value));
    }
  }
  return ProgramEnvironment(std::move(kept));
}

std::vector<std::string> ProgramEnvironment::For(
    const ConnectionInfo& info, const ClientFacts& facts) const {
  std::vector<std::string> environment = kept_;
  const Address local = info.local.Unmapped();
  const Address peer = info.peer.Unmapped();
  if (peer.family() == AF_UNIX) {
    AppendUnix(local, facts, environment);
  } else {
    AppendTcp(local, peer, facts, environment);
  }
  return environment;
}

}  // namespace brood
