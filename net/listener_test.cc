// SPDX-License-Identifier: Apache-2.0
#include "brood/net/listener.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <deque>
#include <filesystem>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/stream.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace {

// What accept4 is to fail with, before it is asked for real again.
std::deque<int>& AcceptFailures() {
  static auto& failures = *new std::deque<int>;
  return failures;
}

}  // namespace

// Takes the place of libc's for the whole test program: there is no other way
// to meet the errnos that need a broken network.
extern "C" int accept4(int fd, struct sockaddr* address, socklen_t* length,
                       int flags) {
  if (!AcceptFailures().empty()) {
    errno = AcceptFailures().front();
    AcceptFailures().pop_front();
    return -1;
  }
  return static_cast<int>(syscall(SYS_accept4, fd, address, length, flags));
}

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::Eq;
using ::testing::HasSubstr;

Address Loopback() { return *Address::Parse("127.0.0.1:0"); }
// A name that nobody else has. A process id would not make it one: two
// sandboxes may have the same, and share the abstract names.
Address Abstract() {
  std::random_device random;
  return *Address::UnixAbstract(
      absl::StrCat("brood/listener_test/", random(), "/", random()));
}
Address Path(std::string_view path) { return *Address::UnixPath(path); }

Listener MustOpen(const Address& address) {
  absl::StatusOr<Listener> listener = Listener::Open(address);
  EXPECT_THAT(listener, IsOk());
  return *std::move(listener);
}

Stream MustConnect(const Address& address) {
  absl::StatusOr<Stream> stream = Stream::Connect(address);
  EXPECT_THAT(stream, IsOk());
  return *std::move(stream);
}

Accepted MustAccept(Listener& listener) {
  absl::StatusOr<std::optional<Accepted>> accepted = listener.Accept();
  EXPECT_THAT(accepted, IsOk());
  EXPECT_TRUE(accepted->has_value());
  return **std::move(accepted);
}

bool Readable(int fd) {
  pollfd item = {.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&item, 1, 0) == 1;
}

bool Exists(const std::string& path) {
  struct stat found;
  return lstat(path.c_str(), &found) == 0;
}

// A socket file that nobody has open any more.
void LeaveStaleSocket(const std::string& path) {
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const Address address = Path(path);
  ASSERT_EQ(bind(socket.get(), address.sockaddr(), address.sockaddr_length()),
            0);
}

absl::Status GreetOne(Listener& listener) {
  pollfd ready = {.fd = listener.fd(), .events = POLLIN, .revents = 0};
  if (poll(&ready, 1, -1) == -1) return ErrnoStatus(errno, "poll");
  absl::StatusOr<std::optional<Accepted>> next = listener.Accept();
  if (!next.ok()) return next.status();
  if (!next->has_value()) return absl::OkStatus();  // It has left already.
  return (*next)->stream.WriteAll("welcome\n");
}

TEST(ListenerTest, HeaderExample) {
  Listener listener = MustOpen(Loopback());
  Stream client = MustConnect(listener.address());
  EXPECT_THAT(GreetOne(listener), IsOk());
  std::array<char, 8> got;
  EXPECT_THAT(client.Read(absl::MakeSpan(got)),
              IsOkAndHolds(IoResult::Bytes(8)));
  EXPECT_EQ(std::string_view(got.data(), got.size()), "welcome\n");
}

TEST(ListenerTest, KnowsThePortTheKernelChose) {
  const Listener listener = MustOpen(Loopback());
  EXPECT_NE(listener.address().port(), 0);
  EXPECT_EQ(listener.address(), *Address::Parse(absl::StrCat(
                                    "127.0.0.1:", *listener.address().port())));
}

TEST(ListenerTest, YieldsEachClientOnceAndInOrder) {
  Listener listener = MustOpen(Loopback());
  EXPECT_FALSE(Readable(listener.fd()));
  EXPECT_THAT(listener.Accept(), IsOkAndHolds(Eq(std::nullopt)));

  const Stream first = MustConnect(listener.address());
  const Stream second = MustConnect(listener.address());
  for (const Stream* client : {&first, &second}) {
    EXPECT_TRUE(Readable(listener.fd()));
    const Accepted accepted = MustAccept(listener);
    EXPECT_THAT(LocalAddressOf(client->fd()), IsOkAndHolds(accepted.peer));
    EXPECT_EQ(accepted.stream.peer(), accepted.peer);
    EXPECT_EQ(client->peer(), listener.address());
  }
  EXPECT_FALSE(Readable(listener.fd()));
  EXPECT_THAT(listener.Accept(), IsOkAndHolds(Eq(std::nullopt)));
}

TEST(ListenerTest, OnAnAbstractNameYieldsUnnamedClients) {
  const Address name = Abstract();
  Listener listener = MustOpen(name);
  EXPECT_EQ(listener.address(), name);
  const Stream client = MustConnect(name);
  EXPECT_EQ(MustAccept(listener).peer, Address());
}

TEST(ListenerTest, OnIPv6TakesNoIPv4) {
  absl::StatusOr<Listener> listener =
      Listener::Open(*Address::Parse("[::1]:0"));
  if (ErrnoOf(listener.status()) == EADDRNOTAVAIL ||
      ErrnoOf(listener.status()) == EAFNOSUPPORT) {
    GTEST_SKIP() << "this machine has no ::1: " << listener.status();
  }
  ASSERT_THAT(listener, IsOk());
  const Stream client = MustConnect(listener->address());
  EXPECT_THAT(LocalAddressOf(client.fd()),
              IsOkAndHolds(MustAccept(*listener).peer));
  int v6_only = 0;
  socklen_t length = sizeof(v6_only);
  ASSERT_EQ(
      getsockopt(listener->fd(), IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, &length),
      0);
  EXPECT_EQ(v6_only, 1);
}

TEST(ListenerTest, ListensEverywhereByOneSocketForBothFamilies) {
  absl::StatusOr<Listener> listener = Listener::Open(Address::Everywhere(0));
  if (ErrnoOf(listener.status()) == EAFNOSUPPORT) {
    GTEST_SKIP() << "this machine has no IPv6: " << listener.status();
  }
  ASSERT_THAT(listener, IsOk());
  const uint16_t port = *listener->address().port();
  EXPECT_NE(port, 0);
  EXPECT_EQ(listener->address(), Address::Everywhere(port));
  const Stream client =
      MustConnect(*Address::Parse(absl::StrCat("127.0.0.1:", port)));
  EXPECT_THAT(LocalAddressOf(client.fd()),
              IsOkAndHolds(MustAccept(*listener).peer.Unmapped()));
}

TEST(ListenerTest, IsCloseOnExecAndNonBlockingAndItsClientsAreNot) {
  Listener listener = MustOpen(Loopback());
  EXPECT_EQ(fcntl(listener.fd(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(fcntl(listener.fd(), F_GETFL) & O_NONBLOCK, O_NONBLOCK);
  const Stream client = MustConnect(listener.address());
  const Accepted accepted = MustAccept(listener);
  EXPECT_EQ(fcntl(accepted.stream.fd(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(fcntl(accepted.stream.fd(), F_GETFL) & O_NONBLOCK, 0);
}

TEST(ListenerTest, ReusesItsAddressByDefaultAndNotIfToldSo) {
  for (const bool reuse : {true, false}) {
    absl::StatusOr<Listener> listener =
        Listener::Open(Loopback(), {.reuse_address = reuse});
    ASSERT_THAT(listener, IsOk());
    int value = -1;
    socklen_t length = sizeof(value);
    ASSERT_EQ(
        getsockopt(listener->fd(), SOL_SOCKET, SO_REUSEADDR, &value, &length),
        0);
    EXPECT_EQ(value, reuse ? 1 : 0);
  }
}

TEST(ListenerTest, NamesTheCallAndTheAddressThatFailed) {
  const Listener first = MustOpen(Loopback());
  const absl::Status in_use = Listener::Open(first.address()).status();
  EXPECT_EQ(in_use.message(),
            absl::StrCat("bind ", first.address(),
                         ": Address already in use (EADDRINUSE)"));
  EXPECT_EQ(ErrnoOf(in_use), EADDRINUSE);

  EXPECT_EQ(
      Listener::Open(*Address::Parse("192.0.2.1:0")).status().message(),
      "bind 192.0.2.1:0: Cannot assign requested address (EADDRNOTAVAIL)");
  EXPECT_EQ(Listener::Open(Path("no/such/x")).status().message(),
            "bind unix:no/such/x: No such file or directory (ENOENT)");
  EXPECT_THAT(Listener::Open(Address()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("bind unix:(unnamed)")));
}

TEST(ListenerTest, ClosesNowAndOnce) {
  Listener listener = MustOpen(Abstract());
  EXPECT_THAT(listener.Close(), IsOk());
  EXPECT_EQ(listener.fd(), -1);
  EXPECT_EQ(ErrnoOf(Stream::Connect(listener.address()).status()),
            ECONNREFUSED);
  EXPECT_EQ(ErrnoOf(listener.Accept().status()), EBADF);
  EXPECT_THAT(listener.Close(), IsOk());
}

TEST(ListenerTest, PassesOverClientsThatAreGone) {
  for (const int error :
       {EINTR, ECONNABORTED, EPERM, EPROTO, ENOPROTOOPT, ENETDOWN, ENETUNREACH,
        EHOSTDOWN, EHOSTUNREACH, ENONET, EOPNOTSUPP, ETIMEDOUT}) {
    SCOPED_TRACE(strerrorname_np(error));
    Listener listener = MustOpen(Loopback());
    AcceptFailures() = {error, error};
    EXPECT_THAT(listener.Accept(), IsOkAndHolds(Eq(std::nullopt)));
    AcceptFailures() = {error, error, error};
    const Stream client = MustConnect(listener.address());
    EXPECT_THAT(LocalAddressOf(client.fd()),
                IsOkAndHolds(MustAccept(listener).peer));
  }
}

TEST(ListenerTest, GivesUpWhenClientsAreGoneTooOftenInARow) {
  Listener listener = MustOpen(Loopback());
  AcceptFailures() = std::deque<int>(1000, EPERM);
  const absl::Status status = listener.Accept().status();
  EXPECT_EQ(status.message(),
            absl::StrCat("accept ", listener.address(),
                         ": Operation not permitted (EPERM)"));
  EXPECT_FALSE(AcceptFailures().empty());
  AcceptFailures().clear();
}

TEST(ListenerTest, TellsAShortageFromAFailure) {
  Listener listener = MustOpen(Loopback());
  const Stream client = MustConnect(listener.address());
  for (const int error : {EMFILE, ENFILE, ENOBUFS, ENOMEM}) {
    AcceptFailures() = {error};
    const absl::Status status = listener.Accept().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
    EXPECT_EQ(ErrnoOf(status), error);
  }
  for (const int error : {EBADF, EINVAL, ENOTSOCK, EFAULT}) {
    AcceptFailures() = {error};
    const absl::Status status = listener.Accept().status();
    EXPECT_NE(status.code(), absl::StatusCode::kResourceExhausted) << status;
    EXPECT_EQ(ErrnoOf(status), error);
  }
  MustAccept(listener);
}

TEST(ListenerTest, KeepsAClientWaitingWhileDescriptorsAreShort) {
  Listener listener = MustOpen(Loopback());
  const Stream client = MustConnect(listener.address());
  const UniqueFd next_free(dup(listener.fd()));
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit low = before;
  low.rlim_cur = static_cast<rlim_t>(next_free.get());
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  for (int i = 0; i < 3; ++i) {
    const absl::Status short_of = listener.Accept().status();
    EXPECT_EQ(short_of.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(short_of.message(),
              absl::StrCat("accept ", listener.address(),
                           ": Too many open files (EMFILE)"));
    EXPECT_TRUE(Readable(listener.fd()));
  }
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  MustAccept(listener);
}

// Works in a folder of its own, by relative paths, since the folder's name
// alone may be longer than a socket's path may be.
class ListenerPathTest : public testing::Test {
 protected:
  void SetUp() override {
    before_ = std::filesystem::current_path();
    folder_ = absl::StrCat(testing::TempDir(), "/listener_test.XXXXXX");
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
    std::filesystem::current_path(folder_);
  }

  void TearDown() override {
    std::filesystem::current_path(before_);
    std::filesystem::remove_all(folder_);
  }

 private:
  std::filesystem::path before_;
  std::string folder_;
};

TEST_F(ListenerPathTest, RemovesItsPathAtTheEnd) {
  {
    Listener listener = MustOpen(Path("x"));
    EXPECT_TRUE(Exists("x"));
    const Listener moved = std::move(listener);
    EXPECT_TRUE(Exists("x"));
  }
  EXPECT_FALSE(Exists("x"));

  Listener listener = MustOpen(Path("x"));
  EXPECT_THAT(listener.Close(), IsOk());
  EXPECT_FALSE(Exists("x"));

  listener = MustOpen(Path("y"));
  listener = MustOpen(Path("z"));
  EXPECT_FALSE(Exists("y"));
  EXPECT_TRUE(Exists("z"));
}

TEST_F(ListenerPathTest, RemovesItsPathOnlyIfStillItsOwn) {
  Listener first = MustOpen(Path("x"));
  ASSERT_EQ(unlink("x"), 0);
  Listener second = MustOpen(Path("x"));
  EXPECT_THAT(first.Close(), IsOk());
  EXPECT_TRUE(Exists("x"));
  MustConnect(Path("x"));

  ASSERT_EQ(unlink("x"), 0);
  EXPECT_THAT(second.Close(), IsOk());
}

TEST_F(ListenerPathTest, KeepsItsPathWhenAForkedCopyEnds) {
  auto listener = std::make_unique<Listener>(MustOpen(Path("x")));
  const pid_t child = fork();
  if (child == 0) {
    listener.reset();
    _exit(Exists("x") ? 0 : 1);
  }
  ASSERT_GT(child, 0);
  int status;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(Exists("x"));
  listener.reset();
  EXPECT_FALSE(Exists("x"));
}

TEST_F(ListenerPathTest, ReplacesASocketOnWhichNobodyAnswers) {
  LeaveStaleSocket("x");
  Listener listener = MustOpen(Path("x"));
  const Stream client = MustConnect(Path("x"));
  MustAccept(listener);
}

TEST_F(ListenerPathTest, DoesNotReplaceASocketThatIsInUse) {
  const std::string in_use = "bind unix:x: Address already in use (EADDRINUSE)";
  absl::StatusOr<Listener> living = Listener::Open(Path("x"), {.backlog = 0});
  ASSERT_THAT(living, IsOk());
  EXPECT_EQ(Listener::Open(Path("x")).status().message(), in_use);
  // The question above fills the backlog; now it is full, and still in use.
  EXPECT_EQ(Listener::Open(Path("x")).status().message(), in_use);
  MustAccept(*living);
  MustConnect(Path("x"));
  EXPECT_THAT(living->Close(), IsOk());

  const UniqueFd other(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(
      bind(other.get(), Path("x").sockaddr(), Path("x").sockaddr_length()), 0);
  EXPECT_EQ(Listener::Open(Path("x")).status().message(), in_use);
  EXPECT_TRUE(Exists("x"));
}

TEST_F(ListenerPathTest, RemovesNothingThatIsNoSocket) {
  ASSERT_EQ(mkdir("folder", 0700), 0);
  ASSERT_EQ(mkfifo("fifo", 0600), 0);
  ASSERT_EQ(symlink("nowhere", "link"), 0);
  const UniqueFd file(open("file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  LeaveStaleSocket("stale");
  ASSERT_EQ(symlink("stale", "link-to-socket"), 0);
  for (const std::string path :
       {"folder", "fifo", "link", "file", "link-to-socket"}) {
    EXPECT_EQ(Listener::Open(Path(path)).status().message(),
              absl::StrCat("bind unix:", path,
                           ", which is there and is no socket: Address "
                           "already in use (EADDRINUSE)"));
    EXPECT_TRUE(Exists(path));
  }
}

TEST_F(ListenerPathTest, TakesAPathThatFillsTheSockaddr) {
  for (const size_t size : {107u, 108u}) {
    const std::string path(size, 'x');
    Listener listener = MustOpen(Path(path));
    EXPECT_EQ(listener.address(), Path(path));
    const Stream client = MustConnect(Path(path));
    MustAccept(listener);
    EXPECT_THAT(PeerAddressOf(client.fd()), IsOkAndHolds(Path(path)));
    EXPECT_THAT(listener.Close(), IsOk());
    EXPECT_FALSE(Exists(path));
  }
}

// Each round, several servers find one stale socket at the same moment. One of
// them must get the path and keep it.
TEST_F(ListenerPathTest, HasOneSuccessorWhenManyReplaceAStaleSocketAtOnce) {
  constexpr int kServers = 6;
  for (int round = 0; round < 20; ++round) {
    LeaveStaleSocket("x");
    std::array<int, 2> start, results, finish;
    for (auto* ends : {&start, &results, &finish}) {
      ASSERT_EQ(pipe2(ends->data(), O_CLOEXEC), 0);
    }
    const auto wait_for_end = [](const std::array<int, 2>& ends) {
      close(ends[1]);
      char byte;
      (void)!RetryOnEintr([&] { return read(ends[0], &byte, 1); });
    };
    std::vector<pid_t> servers;
    for (int i = 0; i < kServers; ++i) {
      servers.push_back(fork());
      ASSERT_GE(servers.back(), 0);
      if (servers.back() == 0) {
        wait_for_end(start);
        {
          const absl::StatusOr<Listener> listener = Listener::Open(Path("x"));
          const bool lost = ErrnoOf(listener.status()) == EADDRINUSE;
          const char result = listener.ok() ? '+' : lost ? '-' : '!';
          (void)!write(results[1], &result, 1);
          wait_for_end(finish);
        }
        _exit(0);
      }
    }
    close(start[1]);
    std::string all;
    while (all.size() < kServers) {
      char result;
      ASSERT_EQ(read(results[0], &result, 1), 1);
      all.push_back(result);
    }
    EXPECT_THAT(Stream::Connect(Path("x")), IsOk());
    close(finish[1]);
    for (const pid_t server : servers) {
      int status;
      ASSERT_EQ(waitpid(server, &status, 0), server);
      EXPECT_EQ(status, 0);
    }
    EXPECT_EQ(std::count(all.begin(), all.end(), '+'), 1) << all;
    EXPECT_EQ(std::count(all.begin(), all.end(), '-'), kServers - 1) << all;
    EXPECT_FALSE(Exists("x"));
    for (const int fd : {start[0], results[0], results[1], finish[0]}) {
      close(fd);
    }
  }
}

}  // namespace
}  // namespace brood
