// SPDX-License-Identifier: Apache-2.0
// What others have written talks to //net, and //net to it: each byte arrives,
// each end is answered.
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/log/check.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/proc/spawn.h"
#include "brood/proc/unique_fd.h"
#include "brood/tests/find_program.h"
#include "brood/tests/pattern.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::testing::Ne;

constexpr size_t kSize = 1 << 20;

absl::Time Soon() { return absl::Now() + absl::Seconds(60); }

std::pair<UniqueFd, UniqueFd> SocketPair() {
  std::array<int, 2> ends;
  CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0)
      << ErrnoStatus(errno, "socketpair");
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// ---- Where to talk ----

std::string PortOf(const Address& address) {
  return absl::StrCat(*address.port());
}

Address Loopback() { return *Address::Parse("127.0.0.1:0"); }

Address AbstractName() {
  std::random_device random;
  return *Address::UnixAbstract(
      absl::StrCat("brood/real_peers_test/", random(), "/", random()));
}

// A folder to work in, gone with all that is in it. Paths are relative, since
// the folder's name alone may be longer than a socket's path may be.
class Folder {
 public:
  Folder() {
    CHECK(mkdtemp(folder_.data()) != nullptr) << ErrnoStatus(errno, folder_);
    std::filesystem::current_path(folder_);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::filesystem::current_path(before_);
    std::filesystem::remove_all(folder_);
  }

 private:
  std::string folder_ = absl::StrCat(testing::TempDir(), "/peers.XXXXXX");
  std::filesystem::path before_ = std::filesystem::current_path();
};

Address Path() { return *Address::UnixPath("socket"); }

// ---- A client of somebody else's, a server of ours ----

class EchoServer {
 public:
  explicit EchoServer(const Address& address)
      : listener_(*Listener::Open(address)),
        child_(*Fork({.parent_death_signal = SIGKILL}, [this] {
          const absl::Status status = Serve();
          if (!status.ok()) ADD_FAILURE() << status;
          return status.ok() ? 0 : 1;
        })) {}

  const Address& address() const { return listener_.address(); }
  // How it ended, which it does when its first client has.
  absl::StatusOr<std::optional<ExitStatus>> End() {
    return child_.WaitUntil(Soon());
  }

 private:
  absl::Status Serve() {
    const absl::StatusOr<bool> ready =
        PollUntil(listener_.fd(), POLLIN, Soon());
    if (!ready.ok()) return ready.status();
    if (!*ready) return absl::DeadlineExceededError("no client has come");
    absl::StatusOr<std::optional<Accepted>> client = listener_.Accept();
    if (!client.ok()) return client.status();
    if (!client->has_value()) return absl::NotFoundError("the client has left");
    return EchoPattern((*client)->stream, Soon());
  }

  Listener listener_;
  Child child_;
};

// A program whose standard input and output are the other end of stdio().
class Client {
 public:
  Client(const std::string& program, std::vector<std::string> arguments) {
    auto [ours, theirs] = SocketPair();
    arguments.insert(arguments.begin(), program);
    absl::StatusOr<Child> child =
        Spawn(arguments, {.fds = {{.child = 0, .parent = theirs.get()},
                                  {.child = 1, .parent = theirs.get()}},
                          .parent_death_signal = SIGKILL});
    CHECK_OK(child);
    child_ = *std::move(child);
    stdio_ = *Stream::Adopt(std::move(ours));
  }

  Stream& stdio() { return *stdio_; }
  absl::StatusOr<std::optional<ExitStatus>> End() {
    return child_->WaitUntil(Soon());
  }

 private:
  std::optional<Child> child_;
  std::optional<Stream> stdio_;
};

// The client sends the pattern, has it back to the last byte, and ends, as does
// the server.
void ExpectEchoesAll(EchoServer& server, const std::string& program,
                     const std::vector<std::string>& arguments) {
  Client client(program, arguments);
  EXPECT_THAT(SendPattern(client.stdio(), kSize, Soon()), IsOk());
  EXPECT_THAT(client.End(), IsOkAndHolds(ExitStatus::Exited(0)));
  EXPECT_THAT(server.End(), IsOkAndHolds(ExitStatus::Exited(0)));
}

// ---- A server of somebody else's ----

// One that says on its standard error when it is ready.
class Server {
 public:
  // `fds` are its descriptors, but for that one.
  Server(const std::string& program, std::vector<std::string> arguments,
         std::vector<SpawnFd> fds = {}) {
    auto [ours, theirs] = SocketPair();
    arguments.insert(arguments.begin(), program);
    fds.push_back({.child = 2, .parent = theirs.get()});
    absl::StatusOr<Child> child = Spawn(
        arguments, {.fds = std::move(fds), .parent_death_signal = SIGKILL});
    CHECK_OK(child);
    child_ = *std::move(child);
    log_ = *Stream::Adopt(std::move(ours));
  }

  // The first line of its log with `text`; what it said instead if there is
  // none.
  std::string LineWith(std::string_view text) {
    std::array<char, 1> byte;
    std::string all;
    std::string line;
    for (;;) {
      const absl::StatusOr<IoResult> got =
          log_->Read(absl::MakeSpan(byte), Soon());
      if (!got.ok()) return absl::StrCat(all, got.status().message());
      if (got->end()) return all;
      all += byte[0];
      line += byte[0];
      if (byte[0] != '\n') continue;
      line.pop_back();
      if (absl::StrContains(line, text)) return line;
      line.clear();
    }
  }
  // The port at the end of a line, after `last`.
  uint16_t PortInLineWith(std::string_view text, char last) {
    const std::string line = LineWith(text);
    int port = 0;
    EXPECT_TRUE(absl::SimpleAtoi(line.substr(line.rfind(last) + 1), &port))
        << line;
    return static_cast<uint16_t>(port);
  }

  absl::StatusOr<std::optional<ExitStatus>> End() {
    return child_->WaitUntil(Soon());
  }

 private:
  std::optional<Child> child_;
  std::optional<Stream> log_;
};

// We send the pattern, have it back to the last byte, and the server ends.
void ExpectIsEchoed(Server& server, const Address& address,
                    SayEnd say_end = SayEnd::kWhenAllIsSent) {
  absl::StatusOr<Stream> stream = Stream::Connect(address, Soon());
  ASSERT_THAT(stream, IsOk());
  EXPECT_THAT(SendPattern(*stream, kSize, Soon(), say_end), IsOk());
  EXPECT_THAT(server.End(), IsOkAndHolds(ExitStatus::Exited(0)));
}

// ---- socat ----

class SocatTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!socat_.has_value()) GTEST_SKIP() << NoProgram("socat");
  }

  // As a client. It waits for the other direction after one has ended, half a
  // second by itself.
  void ExpectEchoesAllTo(EchoServer& server, const std::string& address) {
    ExpectEchoesAll(server, *socat_, {"-t60", "STDIO", address});
  }
  // As a server that echoes, by means of cat.
  Server Listening(const std::string& address) {
    return Server(*socat_, {"-d", "-d", "-t60", address, "EXEC:cat"});
  }

  std::optional<std::string> socat_ = FindProgram("socat");
};

// Whether this machine has ::1.
bool HasIPv6() { return Listener::Open(*Address::Parse("[::1]:0")).ok(); }

TEST_F(SocatTest, HasEveryByteEchoedByTcp) {
  EchoServer server(Loopback());
  ExpectEchoesAllTo(server,
                    absl::StrCat("TCP4:127.0.0.1:", PortOf(server.address())));
}

TEST_F(SocatTest, HasEveryByteEchoedByTcpOverIPv6) {
  if (!HasIPv6()) GTEST_SKIP() << "this machine has no ::1";
  EchoServer server(*Address::Parse("[::1]:0"));
  ExpectEchoesAllTo(server,
                    absl::StrCat("TCP6:[::1]:", PortOf(server.address())));
}

TEST_F(SocatTest, HasEveryByteEchoedThroughAUnixPath) {
  const Folder folder;
  EchoServer server(Path());
  ExpectEchoesAllTo(server, "UNIX-CONNECT:socket");
}

TEST_F(SocatTest, HasEveryByteEchoedThroughAnAbstractName) {
  EchoServer server(AbstractName());
  ExpectEchoesAllTo(server,
                    absl::StrCat("ABSTRACT-CONNECT:",
                                 *server.address().unix_abstract_name()));
}

TEST_F(SocatTest, EchoesEveryByteByTcp) {
  Server server = Listening("TCP4-LISTEN:0,bind=127.0.0.1");
  const uint16_t port = server.PortInLineWith("listening on", ':');
  ExpectIsEchoed(server, *Address::Parse(absl::StrCat("127.0.0.1:", port)));
}

TEST_F(SocatTest, EchoesEveryByteByTcpOverIPv6) {
  if (!HasIPv6()) GTEST_SKIP() << "this machine has no ::1";
  Server server = Listening("TCP6-LISTEN:0,bind=[::1]");
  const uint16_t port = server.PortInLineWith("listening on", ':');
  ExpectIsEchoed(server, *Address::Parse(absl::StrCat("[::1]:", port)));
}

TEST_F(SocatTest, EchoesEveryByteThroughAUnixPath) {
  const Folder folder;
  Server server = Listening("UNIX-LISTEN:socket");
  (void)server.LineWith("listening on");
  ExpectIsEchoed(server, Path());
}

TEST_F(SocatTest, EchoesEveryByteThroughAnAbstractName) {
  const Address name = AbstractName();
  Server server =
      Listening(absl::StrCat("ABSTRACT-LISTEN:", *name.unix_abstract_name()));
  (void)server.LineWith("listening on");
  ExpectIsEchoed(server, name);
}

// ---- nc ----

class NetcatTest : public testing::Test {
 protected:
  // OpenBSD's, which Debian calls so beside the other one.
  void SetUp() override {
    if (!nc_.has_value()) GTEST_SKIP() << NoProgram("nc.openbsd");
  }

  // As a server that echoes: what it writes is what it reads. It leaves when
  // its client has said the end, whatever it has still to read.
  Server Listening(const std::vector<std::string>& arguments) {
    const auto [in, out] = SocketPair();
    return Server(
        *nc_, arguments,
        {{.child = 0, .parent = in.get()}, {.child = 1, .parent = out.get()}});
  }

  std::optional<std::string> nc_ = FindProgram("nc.openbsd");
};

// With -N it says the end when its input ends, and goes on to read.
TEST_F(NetcatTest, HasEveryByteEchoedThoughItHasSaidTheEnd) {
  EchoServer server(Loopback());
  ExpectEchoesAll(server, *nc_, {"-N", "127.0.0.1", PortOf(server.address())});
}

TEST_F(NetcatTest, HasEveryByteEchoedThroughAUnixPath) {
  const Folder folder;
  EchoServer server(Path());
  ExpectEchoesAll(server, *nc_, {"-N", "-U", "socket"});
}

TEST_F(NetcatTest, EchoesEveryByteByTcp) {
  Server server = Listening({"-n", "-v", "-N", "-l", "127.0.0.1", "0"});
  const uint16_t port = server.PortInLineWith("Listening on", ' ');
  ExpectIsEchoed(server, *Address::Parse(absl::StrCat("127.0.0.1:", port)),
                 SayEnd::kWhenAllIsEchoed);
}

TEST_F(NetcatTest, EchoesEveryByteThroughAUnixPath) {
  const Folder folder;
  Server server = Listening({"-v", "-N", "-l", "-U", "socket"});
  (void)server.LineWith("Listening on");
  ExpectIsEchoed(server, Path(), SayEnd::kWhenAllIsEchoed);
}

// ---- curl ----

std::string Exactly(size_t size, Stream& stream) {
  std::string text(size, '\0');
  size_t have = 0;
  while (have < size) {
    const absl::StatusOr<IoResult> got =
        stream.Read(absl::MakeSpan(text).subspan(have), Soon());
    if (!got.ok()) return got.status().ToString();
    if (got->end()) return text.substr(0, have) + " and the end";
    have += *got->bytes();
  }
  return text;
}

// To telnet 0xff means something, and curl looks at its input and at the
// network in turn, and at the former without a limit: as long as that has not
// ended, an answer may wait. So this is a short talk, of letters.
TEST(CurlTest, TalksByTelnetUntilTheServerEnds) {
  constexpr std::string_view kText = "hello\nis anybody there?\n";
  const std::optional<std::string> curl = FindProgram("curl");
  if (!curl.has_value()) GTEST_SKIP() << NoProgram("curl");
  Listener listener = *Listener::Open(Loopback());
  Client client(*curl, {"--silent", "--show-error", "--no-buffer",
                        absl::StrCat("telnet://", listener.address())});
  ASSERT_THAT(PollUntil(listener.fd(), POLLIN, Soon()), IsOkAndHolds(true));
  absl::StatusOr<std::optional<Accepted>> accepted = listener.Accept();
  ASSERT_THAT(accepted, IsOkAndHolds(Ne(std::nullopt)));
  Stream& server = (*accepted)->stream;
  EXPECT_THAT(client.stdio().WriteAll(kText, Soon()), IsOk());
  EXPECT_EQ(Exactly(kText.size(), server), kText);
  EXPECT_THAT(server.WriteAll(kText, Soon()), IsOk());
  EXPECT_THAT(server.ShutdownWrite(), IsOk());
  EXPECT_THAT(client.stdio().ShutdownWrite(), IsOk());
  EXPECT_EQ(Exactly(kText.size(), client.stdio()), kText);
  EXPECT_THAT(client.End(), IsOkAndHolds(ExitStatus::Exited(0)));
  std::array<char, 1> more;
  EXPECT_THAT(server.Read(absl::MakeSpan(more), Soon()),
              IsOkAndHolds(IoResult::End()));
}

}  // namespace
}  // namespace brood
