// SPDX-License-Identifier: Apache-2.0
//
// The real server with those who start it, watch it and stop it: an init that
// it is itself, a service manager, an operator with kill(1).
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/log/check.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/proc/accounts.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/proc/privileges.h"
#include "brood/proc/unique_fd.h"
#include "brood/tests/server_process.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::Optional;
using ::testing::StartsWith;

namespace fs = std::filesystem;

using Args = std::vector<std::string>;

constexpr std::string_view kAnyPort = "--listen=127.0.0.1:0";

Args With(const Args& more) {
  Args args = {std::string(kAnyPort)};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

// Each of the models, and a program.
std::vector<Args> AllKinds() {
  return {{"--model=fork"},
          {"--model=iterative"},
          {"--model=prefork", "--workers=2"},
          {"--model=fork", "--", "cat"}};
}

Stream Connect(const Address& address) {
  absl::StatusOr<Stream> stream = Stream::Connect(address);
  CHECK_OK(stream);
  return *std::move(stream);
}

// What comes, up to so many bytes.
std::string ReadSome(Stream& stream, size_t most) {
  std::string some(most, '\0');
  size_t size = 0;
  while (size < most) {
    const absl::StatusOr<IoResult> got =
        stream.Read(absl::MakeSpan(some).subspan(size));
    if (!got.ok() || got->end()) break;
    size += *got->bytes();
  }
  return some.substr(0, size);
}

bool Echoes(Stream& stream, std::string_view text) {
  return stream.WriteAll(text).ok() && ReadSome(stream, text.size()) == text;
}

std::pair<UniqueFd, UniqueFd> MakePipe() {
  std::array<int, 2> ends;
  CHECK_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

std::string ReadToEnd(int fd) {
  std::string all;
  std::array<char, 4096> buffer;
  ssize_t n;
  while ((n = RetryOnEintr(
              [&] { return read(fd, buffer.data(), buffer.size()); })) > 0) {
    all.append(buffer.data(), static_cast<size_t>(n));
  }
  return all;
}

// The line of /proc/PID/status that begins with `name`, its values with one
// blank between them.
std::string StatusOf(pid_t pid, std::string_view name) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/status"));
  for (std::string line; std::getline(file, line);) {
    std::string_view values = line;
    if (!absl::ConsumePrefix(&values, absl::StrCat(name, ":"))) continue;
    return absl::StrJoin(
        absl::StrSplit(values, absl::ByAnyChar(" \t"), absl::SkipEmpty()), " ");
  }
  return "";
}

std::string LinkOf(pid_t pid, std::string_view name) {
  std::error_code error;
  return fs::read_symlink(absl::StrCat("/proc/", pid, "/", name), error)
      .string();
}

// A folder that everybody may enter.
class Folder {
 public:
  Folder() {
    std::string name = "/tmp/brood_operations.XXXXXX";
    CHECK(mkdtemp(name.data()) != nullptr && chmod(name.c_str(), 0755) == 0);
    path_ = name;
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// ---- PID 1 ----

// The server as PID 1 of namespaces of its own, below a process that ends as it
// does.
class ServerAsPidOne {
 public:
  explicit ServerAsPidOne(const Args& args) {
    auto [reader, writer] = MakePipe();
    server_.emplace(args, [fd = writer.get()] { BecomePidOne(fd); });
    writer = UniqueFd();
    pid_t pid = -1;
    if (read(reader.get(), &pid, sizeof pid) == sizeof pid) pid_ = pid;
  }

  bool NotPermitted() const { return !pid_.has_value(); }
  ServerProcess& process() { return *server_; }
  void Signal(int signo) { CHECK_EQ(kill(*pid_, signo), 0); }

 private:
  // Returns in the process that is PID 1. The one above it says through `tell`
  // by which number it is known there, and exits as it does.
  static void BecomePidOne(int tell) {
    if (unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS) == -1) _exit(126);
    const pid_t pid = fork();
    if (pid == -1) _exit(126);
    if (pid == 0) {
      (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (mount("proc", "/proc", "proc", 0, nullptr) == -1) _exit(126);
      return;
    }
    int status = 0;
    const bool told = write(tell, &pid, sizeof pid) == sizeof pid;
    // The ends of the pipes are the server's alone.
    (void)syscall(SYS_close_range, 0, ~0U, 0);
    (void)waitpid(pid, &status, 0);
    _exit(told && WIFEXITED(status) ? WEXITSTATUS(status) : 125);
  }

  std::optional<ServerProcess> server_;
  std::optional<pid_t> pid_;
};

// Whether there are such namespaces to be had.
bool MayBePidOne() {
  absl::StatusOr<Child> child = Fork({}, [] {
    if (unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS) == -1) return 1;
    const pid_t pid = fork();
    if (pid == 0) {
      _exit(mount("proc", "/proc", "proc", 0, nullptr) == 0 ? 0 : 1);
    }
    int status = 1;
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0 ? 0 : 1;
  });
  CHECK_OK(child);
  const absl::StatusOr<ExitStatus> status = child->Wait();
  CHECK_OK(status);
  return status->success();
}

// Leaves somebody behind that lives until its client says a word.
const char* const kLeavesAnOrphan =
    "exec 3<&0; (echo left; read word <&3; exit 7) & exit 0";

TEST(ServerAsPidOneTest, ReapsOrphansAndSaysHowTheyEnded) {
  if (!MayBePidOne()) GTEST_SKIP() << "no pid namespace is to be had";
  ServerAsPidOne server(With({"--", "sh", "-c", kLeavesAnOrphan}));
  ASSERT_FALSE(server.NotPermitted());
  ServerProcess& process = server.process();
  std::vector<Stream> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(Connect(process.address()));
    ASSERT_EQ(ReadSome(clients.back(), 5), "left\n");
    EXPECT_THAT(process.NextLogLine(), Optional(HasSubstr(" exited 0 after ")));
  }
  for (Stream& client : clients) {
    ASSERT_THAT(client.WriteAll("go\n"), IsOk());
    EXPECT_THAT(process.NextLogLine(),
                Optional(MatchesRegex("orphan [0-9]+ exited 7")));
  }
  server.Signal(SIGUSR1);
  EXPECT_THAT(process.NextLogLine(), Optional(HasSubstr(" orphans 0 ")));
  server.Signal(SIGTERM);
  EXPECT_EQ(process.Wait(), ExitStatus::Exited(0));
}

TEST(ServerAsPidOneTest, PassesTheRequestToStopOnToOrphans) {
  if (!MayBePidOne()) GTEST_SKIP() << "no pid namespace is to be had";
  for (const int signo : {SIGTERM, SIGINT}) {
    ServerAsPidOne server(With({"--", "sh", "-c", kLeavesAnOrphan}));
    ASSERT_FALSE(server.NotPermitted());
    ServerProcess& process = server.process();
    Stream client = Connect(process.address());
    ASSERT_EQ(ReadSome(client, 5), "left\n");
    EXPECT_THAT(process.NextLogLine(), Optional(HasSubstr(" exited 0 after ")));
    server.Signal(signo);
    EXPECT_THAT(process.NextLogLine(), Optional(StartsWith("draining on ")));
    EXPECT_EQ(process.NextLogLine(), "nobody is inside: SIGTERM to 1 orphans");
    EXPECT_THAT(process.NextLogLine(),
                Optional(MatchesRegex("orphan [0-9]+ killed by SIGTERM")));
    EXPECT_EQ(process.Wait(), ExitStatus::Exited(0));
  }
}

// The kernel lets no signal that has no handler end PID 1.
TEST(ServerAsPidOneTest, EndsAsItWouldAnywhere) {
  if (!MayBePidOne()) GTEST_SKIP() << "no pid namespace is to be had";
  {
    ServerAsPidOne server(With({}));
    Stream inside = Connect(server.process().address());
    ASSERT_TRUE(Echoes(inside, "x"));
    server.Signal(SIGQUIT);
    EXPECT_EQ(server.process().Wait(), ExitStatus::Exited(0));
    EXPECT_EQ(ReadSome(inside, 1), "");
  }
  ServerAsPidOne refused(With({"--", "/no/such/program"}));
  EXPECT_EQ(refused.process().Wait(), ExitStatus::Exited(1));
  ServerAsPidOne mistaken({"--speed=11"});
  EXPECT_EQ(mistaken.process().Wait(), ExitStatus::Exited(2));
}

// ---- Whoever starts it ----

// A service manager, at a path or, if that is empty, at an abstract name that
// the kernel chooses.
class Manager {
 public:
  explicit Manager(const std::string& path)
      : socket_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = {}};
    CHECK_LT(path.size(), sizeof name.sun_path);
    path.copy(name.sun_path, path.size());
    auto* address = reinterpret_cast<sockaddr*>(&name);
    constexpr size_t kBegin = offsetof(sockaddr_un, sun_path);
    auto length = static_cast<socklen_t>(
        path.empty() ? sizeof name.sun_family : kBegin + path.size() + 1);
    CHECK_EQ(bind(socket_.get(), address, length), 0);
    length = sizeof name;
    CHECK_EQ(getsockname(socket_.get(), address, &length), 0);
    variable_ = path.empty()
                    ? absl::StrCat("@", std::string_view(&name.sun_path[1],
                                                         length - kBegin - 1))
                    : path;
  }

  // What NOTIFY_SOCKET is to be.
  const std::string& variable() const { return variable_; }
  // Blocks for the next message that has `text` in it; skips the others.
  std::string NextWith(std::string_view text) const {
    std::array<char, 4096> buffer;
    while (true) {
      const ssize_t n = RetryOnEintr(
          [&] { return recv(socket_.get(), buffer.data(), buffer.size(), 0); });
      CHECK_GT(n, 0);
      const std::string_view message(buffer.data(), static_cast<size_t>(n));
      if (absl::StrContains(message, text)) return std::string(message);
    }
  }

 private:
  UniqueFd socket_;
  std::string variable_;
};

TEST(ServerOperationsTest, TellsItsManagerFromTheBeginningToTheEnd) {
  const Folder folder;
  for (const std::string& path : {folder.path() + "/notify", std::string()}) {
    const Manager manager(path);
    ServerProcess server(With({}), [&] {
      setenv("NOTIFY_SOCKET", manager.variable().c_str(), 1);
      setenv("WATCHDOG_USEC", "20000", 1);
      setenv("WATCHDOG_PID", absl::StrCat(getpid()).c_str(), 1);
    });
    const std::string serving =
        absl::StrCat("STATUS=serving on ", server.address(), ": ");
    EXPECT_EQ(manager.NextWith(""),
              absl::StrCat("READY=1\n", serving, "0 inside\n"));
    Stream client = Connect(server.address());
    ASSERT_TRUE(Echoes(client, "x"));
    EXPECT_EQ(manager.NextWith("STATUS="), serving + "1 inside\n");
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(manager.NextWith("WATCHDOG"), "WATCHDOG=1\n");
    }
    server.Signal(SIGHUP);
    EXPECT_THAT(manager.NextWith("RELOADING"),
                StartsWith("RELOADING=1\nMONOTONIC_USEC="));
    EXPECT_THAT(manager.NextWith("READY"), StartsWith("READY=1\n"));
    server.Signal(SIGTERM);
    EXPECT_EQ(manager.NextWith("STOPPING"),
              "STOPPING=1\nSTATUS=draining: 1 inside\n");
    ASSERT_THAT(client.Close(), IsOk());
    EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
  }
}

TEST(ServerOperationsTest, TellsNobodyOfTheWatchdogOfAnother) {
  const Manager manager("");
  ServerProcess server(With({}), [&] {
    setenv("NOTIFY_SOCKET", manager.variable().c_str(), 1);
    setenv("WATCHDOG_USEC", "1", 1);
    setenv("WATCHDOG_PID", absl::StrCat(getpid() + 1).c_str(), 1);
  });
  EXPECT_THAT(manager.NextWith(""), StartsWith("READY=1\n"));
  server.Signal(SIGTERM);
  EXPECT_THAT(manager.NextWith(""), StartsWith("STOPPING=1\n"));
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
}

TEST(ServerOperationsTest, SaysOnADescriptorThatClientsMayCome) {
  for (const Args& kind : AllKinds()) {
    SCOPED_TRACE(absl::StrJoin(kind, " "));
    auto [reader, writer] = MakePipe();
    Args args = {std::string(kAnyPort), "--ready_fd=9"};
    args.insert(args.end(), kind.begin(), kind.end());
    ServerProcess server(args, [fd = writer.get()] { (void)dup2(fd, 9); });
    writer = UniqueFd();
    // To its end, which comes while the server and its workers live.
    EXPECT_EQ(ReadToEnd(reader.get()), server.ready_line() + "\n");
    Stream client = Connect(server.address());
    EXPECT_TRUE(Echoes(client, "x"));
  }
}

// So that it can hand over connections under low numbers.
TEST(ServerOperationsTest, KeepsWhatItInheritsUnderHigherNumbers) {
  constexpr int kMany = 200;
  ServerProcess server({"--listen=127.0.0.1:0"}, [] {
    for (int i = 0; i < kMany; ++i) (void)open("/dev/null", O_RDONLY);
  });
  int inherited = 0;
  int lowest_socket = kMany;
  for (const auto& entry : std::filesystem::directory_iterator(
           absl::StrCat("/proc/", server.pid(), "/fd"))) {
    const std::string what = std::filesystem::read_symlink(entry);
    int number = kMany;
    ASSERT_TRUE(absl::SimpleAtoi(entry.path().filename().string(), &number));
    if (what == "/dev/null") ++inherited;
    if (absl::StartsWith(what, "socket:")) {
      lowest_socket = std::min(lowest_socket, number);
    }
  }
  EXPECT_GE(inherited, kMany);
  EXPECT_LT(lowest_socket, 64);
}

TEST(ServerOperationsTest, TakesOverTheSocketsOfItsStarter) {
  const Folder folder;
  const std::string path = folder.path() + "/socket";
  for (const Args& kind : AllKinds()) {
    SCOPED_TRACE(absl::StrJoin(kind, " "));
    const absl::StatusOr<Listener> tcp =
        Listener::Open(*Address::Parse("127.0.0.1:0"));
    ASSERT_THAT(tcp, IsOk());
    absl::StatusOr<Listener> unix =
        Listener::Open(*Address::Parse("unix:" + path));
    ASSERT_THAT(unix, IsOk());
    ServerProcess server(kind, [&] {
      // Out of the way first: one may be where the other is to be.
      const int first = fcntl(tcp->fd(), F_DUPFD, 10);
      const int second = fcntl(unix->fd(), F_DUPFD, 10);
      (void)dup2(first, 3);
      (void)dup2(second, 4);
      setenv("LISTEN_FDS", "2", 1);
      setenv("LISTEN_PID", absl::StrCat(getpid()).c_str(), 1);
      (void)syscall(SYS_close_range, 5, ~0U, 0);
    });
    EXPECT_THAT(server.ready_line(),
                StartsWith(absl::StrCat("listening on ", tcp->address(),
                                        ", unix:", path, " (")));
    for (const Address& address : {tcp->address(), unix->address()}) {
      Stream client = Connect(address);
      EXPECT_TRUE(Echoes(client, "x"));
    }
    server.Signal(SIGTERM);
    EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
    EXPECT_TRUE(fs::exists(path)) << "removed what is its starter's";
  }
}

TEST(ServerOperationsTest, SaysThatItDoesNotTakeOverWhatItCouldHave) {
  const absl::StatusOr<Listener> tcp =
      Listener::Open(*Address::Parse("127.0.0.1:0"));
  ASSERT_THAT(tcp, IsOk());
  const UniqueFd log(memfd_create("log", MFD_CLOEXEC));
  ServerProcess server(With({}), [&] {
    (void)dup2(log.get(), STDERR_FILENO);
    const int copy = fcntl(tcp->fd(), F_DUPFD, 10);
    (void)dup2(copy, 3);
    setenv("LISTEN_FDS", "1", 1);
    setenv("LISTEN_PID", absl::StrCat(getpid()).c_str(), 1);
    (void)syscall(SYS_close_range, 4, ~0U, 0);
  });
  server.Signal(SIGTERM);
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
  ASSERT_EQ(lseek(log.get(), 0, SEEK_SET), 0);
  EXPECT_THAT(ReadToEnd(log.get()),
              HasSubstr("1 of 1 sockets of LISTEN_FDS closed: --listen says "
                        "where to listen\n"));
}

TEST(ServerOperationsTest, TakesEverybodyWithItWhenItIsKilled) {
  for (const Args& kind : AllKinds()) {
    SCOPED_TRACE(absl::StrJoin(kind, " "));
    ServerProcess server(With(kind));
    Stream client = Connect(server.address());
    ASSERT_TRUE(Echoes(client, "x"));
    std::vector<UniqueFd> children;
    for (const ProcessEntry& child : ChildrenOf(server.pid())) {
      children.emplace_back(
          static_cast<int>(syscall(SYS_pidfd_open, child.pid, 0)));
      ASSERT_TRUE(children.back().valid());
    }
    EXPECT_GE(children.size(), 1);
    server.Signal(SIGKILL);
    EXPECT_EQ(server.Wait(), ExitStatus::Killed(SIGKILL));
    for (const UniqueFd& child : children) {
      EXPECT_THAT(PollUntil(child.get(), POLLIN, absl::InfiniteFuture()),
                  IsOkAndHolds(true));
    }
    EXPECT_EQ(ReadSome(client, 1), "");
  }
}

// ---- Signals ----

TEST(ServerOperationsTest, EndsAtOnceOnSigquitAndOnASecondSigterm) {
  for (const Args& kind : AllKinds()) {
    for (const bool quit : {true, false}) {
      SCOPED_TRACE(absl::StrCat(absl::StrJoin(kind, " "), quit));
      Args args = {"--drain_timeout=24h"};
      args.insert(args.end(), kind.begin(), kind.end());
      ServerProcess server(With(args));
      Stream inside = Connect(server.address());
      ASSERT_TRUE(Echoes(inside, "x"));
      if (quit) {
        server.Signal(SIGQUIT);
      } else {
        server.Signal(SIGTERM);
        EXPECT_THAT(server.NextLogLine(),
                    Optional(StartsWith("draining on SIGTERM: 1 inside")));
        EXPECT_TRUE(Echoes(inside, "still here"));
        server.Signal(SIGTERM);
      }
      EXPECT_THAT(
          server.NextLogLineWith("SIGKILL to"),
          Optional(AllOf(StartsWith(quit ? "SIGQUIT: " : "a second SIGTERM: "),
                         EndsWith("SIGKILL to 1"))));
      EXPECT_THAT(server.NextLogLineWith("killed by"),
                  Optional(HasSubstr("killed by SIGKILL")));
      EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
      EXPECT_EQ(ReadSome(inside, 1), "");
    }
  }
}

TEST(ServerOperationsTest, ServesOneMoreOnSigttinAndOneFewerOnSigttou) {
  const std::vector<Args> with_one_place = {
      {"--model=fork", "--max_connections=1"},
      {"--model=prefork", "--workers=1"},
      {"--max_connections=1", "--", "cat"},
  };
  for (const Args& kind : with_one_place) {
    SCOPED_TRACE(absl::StrJoin(kind, " "));
    ServerProcess server(With(kind));
    Stream first = Connect(server.address());
    ASSERT_TRUE(Echoes(first, "first"));
    Stream second = Connect(server.address());
    ASSERT_THAT(second.WriteAll("second"), IsOk());
    server.Signal(SIGTTIN);
    EXPECT_EQ(server.NextLogLine(), "capacity 2 on SIGTTIN");
    EXPECT_EQ(ReadSome(second, 6), "second");
    server.Signal(SIGTTOU);
    EXPECT_EQ(server.NextLogLine(), "capacity 1 on SIGTTOU");
    // Nobody is sent away, and the last place is not taken away either.
    server.Signal(SIGTTOU);
    EXPECT_EQ(server.NextLogLine(), "capacity 1 on SIGTTOU");
    EXPECT_TRUE(Echoes(first, "still here"));
    EXPECT_TRUE(Echoes(second, "still here"));
  }
  ServerProcess server(With({}));
  server.Signal(SIGTTIN);
  EXPECT_EQ(server.NextLogLine(), "no limit to capacity on SIGTTIN");
}

TEST(ServerOperationsTest, ServesOneByOneWhateverTheSignalsAskFor) {
  ServerProcess server(With({"--model=iterative"}));
  Stream first = Connect(server.address());
  ASSERT_TRUE(Echoes(first, "first"));
  Stream second = Connect(server.address());
  ASSERT_THAT(second.WriteAll("second"), IsOk());
  for (const auto& [signo, name] :
       {std::pair(SIGTTIN, "SIGTTIN"), std::pair(SIGTTOU, "SIGTTOU")}) {
    server.Signal(signo);
    EXPECT_EQ(server.NextLogLine(), absl::StrCat("capacity 1 on ", name));
  }
  server.Signal(SIGUSR1);
  EXPECT_THAT(
      server.NextLogLine(),
      Optional(AllOf(HasSubstr(" active 1 "), HasSubstr(" connections 1 "),
                     HasSubstr(" max_connections 1"))));
  ASSERT_THAT(first.Close(), IsOk());
  EXPECT_EQ(ReadSome(second, 6), "second");
}

TEST(ServerOperationsTest, SaysHowThingsStandInOneLine) {
  for (const Args& kind : AllKinds()) {
    SCOPED_TRACE(absl::StrJoin(kind, " "));
    ServerProcess server(With(kind));
    Stream inside = Connect(server.address());
    ASSERT_TRUE(Echoes(inside, "x"));
    server.Signal(SIGUSR1);
    EXPECT_THAT(server.NextLogLine(),
                Optional(AllOf(
                    StartsWith("serving: uptime "), HasSubstr(" active 1 "),
                    HasSubstr(" connections 1 "), HasSubstr(" turned_away 0"),
                    HasSubstr(" lost_lines 0"))));
    server.Signal(SIGHUP);
    EXPECT_EQ(server.NextLogLine(), "SIGHUP: there is nothing to read again");
  }
}

// Where no change of the folder tells of it: the file is elsewhere.
TEST(ServerOperationsTest, ReadsTheRulesAgainOnSighup) {
  const Folder folder;
  const Folder elsewhere;
  const std::string path = folder.path() + "/rules";
  const std::string target = elsewhere.path() + "/rules";
  fs::create_symlink(target, path);
  for (const Args& kind : AllKinds()) {
    SCOPED_TRACE(absl::StrJoin(kind, " "));
    std::ofstream(target) << "allow all\n";
    Args args = {"--rules=" + path};
    args.insert(args.end(), kind.begin(), kind.end());
    ServerProcess server(With(args));
    {
      Stream client = Connect(server.address());
      ASSERT_TRUE(Echoes(client, "x"));
    }
    EXPECT_THAT(server.NextLogLine(), Optional(HasSubstr(" exited 0 after ")));
    std::ofstream(target) << "deny 127.0.0.0/8\n";
    server.Signal(SIGHUP);
    EXPECT_EQ(server.NextLogLine(), "read again on SIGHUP");
    Stream denied = Connect(server.address());
    EXPECT_EQ(ReadSome(denied, 1), "");
    EXPECT_THAT(server.NextLogLine(),
                Optional(StartsWith(absl::StrCat(
                    "turned away ", LocalAddressOf(denied.fd())->ToString()))));
  }
}

TEST(ServerOperationsTest, DocumentsEverySignalThatItTakes) {
  ServerProcess asked({"--help"});
  const std::string help = asked.RestOfOutput();
  EXPECT_EQ(asked.Wait(), ExitStatus::Exited(0));
  const std::string signals = help.substr(help.find("\nsignals:\n"));
  const ServerProcess server(With({}));
  uint64_t blocked = 0;
  ASSERT_TRUE(absl::SimpleHexAtoi(StatusOf(server.pid(), "SigBlk"), &blocked));
  int documented = 0;
  for (int signo = 1; signo < 32; ++signo) {
    if ((blocked >> (signo - 1) & 1) == 0 || signo == SIGPIPE) continue;
    EXPECT_THAT(signals, HasSubstr(NameOfSignal(signo)));
    ++documented;
  }
  EXPECT_GE(documented, 7);
}

// ---- Rights ----

constexpr std::string_view kStranger = "54321";

bool MayBecomeSomebodyElse() {
  const Credentials user = {.uid = 65534, .gid = 65534};
  absl::StatusOr<Child> child = Fork({}, [&] {
    return DropPrivileges({.chroot = "/", .run_as = user}).ok() ? 0 : 1;
  });
  CHECK_OK(child);
  const absl::StatusOr<ExitStatus> status = child->Wait();
  CHECK_OK(status);
  return status->success();
}

// The server and those who handle its clients.
std::vector<pid_t> Everybody(const ServerProcess& server) {
  std::vector<pid_t> pids = {server.pid()};
  for (const ProcessEntry& child : ChildrenOf(server.pid())) {
    pids.push_back(child.pid);
  }
  EXPECT_GE(pids.size(), 2);
  return pids;
}

TEST(ServerOperationsTest, BecomesTheUserThatItIsToldTo) {
  if (!MayBecomeSomebodyElse()) {
    GTEST_SKIP() << "it takes root to change root and user";
  }
  const absl::StatusOr<Credentials> nobody = LookUpUser("nobody");
  for (const Args& kind : AllKinds()) {
    SCOPED_TRACE(absl::StrJoin(kind, " "));
    Args args = {absl::StrCat("--user=", kStranger), "--group=12345"};
    args.insert(args.end(), kind.begin(), kind.end());
    // Groups that it must not keep.
    ServerProcess server(With(args), [] {
      constexpr std::array<gid_t, 2> kGroups = {0, 4};
      (void)setgroups(kGroups.size(), kGroups.data());
    });
    Stream client = Connect(server.address());
    ASSERT_TRUE(Echoes(client, "x"));
    for (const pid_t pid : Everybody(server)) {
      EXPECT_THAT(StatusOf(pid, "Uid"),
                  StartsWith(absl::StrCat(kStranger, " ")));
      EXPECT_EQ(StatusOf(pid, "Gid"), "12345 12345 12345 12345");
      EXPECT_EQ(StatusOf(pid, "Groups"), "");
      EXPECT_EQ(StatusOf(pid, "NoNewPrivs"), "1");
      EXPECT_EQ(StatusOf(pid, "CapPrm"), "0000000000000000");
    }
  }
  if (!nobody.ok()) GTEST_SKIP() << "there is no user nobody";
  // A number means the user who has it, with his groups.
  for (const std::string& user :
       {std::string("nobody"), absl::StrCat(nobody->uid)}) {
    ServerProcess server(With({absl::StrCat("--user=", user)}));
    Stream client = Connect(server.address());
    ASSERT_TRUE(Echoes(client, "x"));
    for (const pid_t pid : Everybody(server)) {
      EXPECT_THAT(StatusOf(pid, "Uid"), StartsWith(absl::StrCat(nobody->uid)));
      EXPECT_THAT(StatusOf(pid, "Gid"), StartsWith(absl::StrCat(nobody->gid)));
      EXPECT_EQ(StatusOf(pid, "Groups"), absl::StrJoin(nobody->groups, " "));
    }
  }
}

TEST(ServerOperationsTest, ShutsItselfInWhereItIsToldTo) {
  if (!MayBecomeSomebodyElse()) {
    GTEST_SKIP() << "it takes root to change root and user";
  }
  const Folder folder;
  for (const Args& kind : AllKinds()) {
    if (kind.back() == "cat") continue;  // Which is not in there.
    SCOPED_TRACE(absl::StrJoin(kind, " "));
    Args args = {absl::StrCat("--user=", kStranger),
                 "--chroot=" + folder.path()};
    args.insert(args.end(), kind.begin(), kind.end());
    ServerProcess server(With(args));
    Stream client = Connect(server.address());
    ASSERT_TRUE(Echoes(client, "x"));
    for (const pid_t pid : Everybody(server)) {
      EXPECT_EQ(LinkOf(pid, "root"), folder.path());
      EXPECT_EQ(LinkOf(pid, "cwd"), folder.path());
    }
  }
}

TEST(ServerOperationsTest, SaysWhatSomebodyElseCannotReachAnyMore) {
  if (!MayBecomeSomebodyElse()) {
    GTEST_SKIP() << "it takes root to change root and user";
  }
  const Folder folder;
  const std::string rules = folder.path() + "/rules";
  std::ofstream(rules) << "allow 127.0.0.0/8\n";
  ASSERT_EQ(chmod(rules.c_str(), 0600), 0);
  const std::string place = absl::StrCat("unix:", folder.path(), "/socket");
  const UniqueFd log(memfd_create("log", MFD_CLOEXEC));
  ServerProcess server({absl::StrCat("--listen=", place), "--rules=" + rules,
                        absl::StrCat("--user=", kStranger)},
                       [&] { (void)dup2(log.get(), STDERR_FILENO); });
  server.Signal(SIGTERM);
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
  ASSERT_EQ(lseek(log.get(), 0, SEEK_SET), 0);
  EXPECT_THAT(ReadToEnd(log.get()),
              AllOf(HasSubstr(absl::StrCat(rules,
                                           ": Permission denied "
                                           "(EACCES): its rules hold, "
                                           "and cannot be read again")),
                    HasSubstr(absl::StrCat(place,
                                           ": Permission denied "
                                           "(EACCES): it cannot be "
                                           "removed when the server "
                                           "ends"))));
}

TEST(ServerOperationsTest, GivesHandlersNoNewRightsUnlessAskedTo) {
  for (const Args& kind : AllKinds()) {
    SCOPED_TRACE(absl::StrJoin(kind, " "));
    ServerProcess server(With(kind));
    Stream client = Connect(server.address());
    ASSERT_TRUE(Echoes(client, "x"));
    for (const ProcessEntry& child : ChildrenOf(server.pid())) {
      EXPECT_EQ(StatusOf(child.pid, "NoNewPrivs"), "1");
    }
  }
  if (StatusOf(getpid(), "NoNewPrivs") != "0") {
    GTEST_SKIP() << "who runs this test may not have new rights either";
  }
  for (const char* model : {"fork", "iterative", "prefork"}) {
    SCOPED_TRACE(model);
    ServerProcess server(With(
        {absl::StrCat("--model=", model), "--new_privileges", "--", "cat"}));
    Stream client = Connect(server.address());
    ASSERT_TRUE(Echoes(client, "x"));
    for (const ProcessEntry& child : ChildrenOf(server.pid())) {
      EXPECT_EQ(StatusOf(child.pid, "NoNewPrivs"), "0");
    }
  }
}

TEST(ServerOperationsTest, SaysThatItIsRoot) {
  if (!MayBecomeSomebodyElse()) {
    GTEST_SKIP() << "it takes root to change root and user";
  }
  for (const bool stays : {true, false}) {
    const UniqueFd log(memfd_create("log", MFD_CLOEXEC));
    const Args args = stays ? Args() : Args{absl::StrCat("--user=", kStranger)};
    ServerProcess server(With(args),
                         [&] { (void)dup2(log.get(), STDERR_FILENO); });
    server.Signal(SIGTERM);
    EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
    ASSERT_EQ(lseek(log.get(), 0, SEEK_SET), 0);
    const std::string said = ReadToEnd(log.get());
    if (stays) {
      EXPECT_THAT(said, HasSubstr("running as root, handlers too: --user=NAME "
                                  "gives it up\n"));
    } else {
      EXPECT_THAT(said, Not(HasSubstr("running as root")));
    }
  }
}

}  // namespace
}  // namespace brood
