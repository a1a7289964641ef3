// SPDX-License-Identifier: Apache-2.0
#include "brood/net/listener.h"

#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/file.h>
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

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/accept_error.h"
#include "brood/net/address.h"
#include "brood/net/bound_path.h"
#include "brood/net/socket_options.h"
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

// The family of which there shall be no sockets, and the option that may not be
// set: none unless a test says so.
int forbidden_family = -1;
int forbidden_option = -1;

}  // namespace

// These take the place of libc's for the whole test program: there is no other
// way to meet the errnos that need a broken network, or another kernel.
extern "C" {

int accept4(int fd, struct sockaddr* address, socklen_t* length, int flags) {
  if (!AcceptFailures().empty()) {
    errno = AcceptFailures().front();
    AcceptFailures().pop_front();
    return -1;
  }
  return static_cast<int>(syscall(SYS_accept4, fd, address, length, flags));
}

int socket(int family, int type, int protocol) noexcept {
  if (family == forbidden_family) {
    errno = EAFNOSUPPORT;
    return -1;
  }
  return static_cast<int>(syscall(SYS_socket, family, type, protocol));
}

int setsockopt(int fd, int level, int option, const void* value,
               socklen_t length) noexcept {
  if (level == SOL_SOCKET && option == forbidden_option) {
    errno = EPERM;
    return -1;
  }
  return static_cast<int>(
      syscall(SYS_setsockopt, fd, level, option, value, length));
}

}  // extern "C"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::Eq;
using ::testing::HasSubstr;
using ::testing::StartsWith;

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
  Listener listener = MustOpen(Address::Everywhere(0));
  const uint16_t port = *listener.address().port();
  EXPECT_NE(port, 0);
  if (listener.address().family() == AF_INET) {
    GTEST_SKIP() << "this machine has no IPv6";
  }
  EXPECT_EQ(listener.address(), Address::Everywhere(port));
  const Stream client =
      MustConnect(*Address::Parse(absl::StrCat("127.0.0.1:", port)));
  const Accepted accepted = MustAccept(listener);
  EXPECT_THAT(LocalAddressOf(client.fd()), IsOkAndHolds(accepted.peer));
  EXPECT_EQ(accepted.stream.peer(), accepted.peer);
}

TEST(ListenerTest, ListensEverywhereByIPv4WhereThereIsNoIPv6) {
  forbidden_family = AF_INET6;
  Listener listener = MustOpen(Address::Everywhere(0));
  const absl::Status no_ipv6 =
      Listener::Open(*Address::Parse("[::]:0")).status();
  forbidden_family = -1;
  EXPECT_EQ(no_ipv6.message(),
            "socket for [::]:0: Address family not supported by protocol "
            "(EAFNOSUPPORT)");
  const uint16_t port = *listener.address().port();
  EXPECT_EQ(listener.address(),
            *Address::Parse(absl::StrCat("0.0.0.0:", port)));
  const Stream client =
      MustConnect(*Address::Parse(absl::StrCat("127.0.0.1:", port)));
  MustAccept(listener);
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

TEST(ListenerTest, AnswersEachErrnoAsTheTableSays) {
  for (const AcceptErrorRow& row : AcceptErrors()) {
    SCOPED_TRACE(strerrorname_np(row.error));
    Listener listener = MustOpen(Loopback());
    const Stream client = MustConnect(listener.address());
    std::optional<Address> taken;
    const auto take = [&](Accepted accepted) {
      taken = accepted.peer;
      return true;
    };
    AcceptFailures() = {row.error};
    const Listener::Batch batch = listener.AcceptBatch(5, take);
    EXPECT_EQ(batch.turned_away, 0);  // Not yet.
    const absl::Status expected =
        ErrnoStatus(row.error, absl::StrCat("accept ", listener.address()));
    switch (row.remedy) {
      case AcceptRemedy::kWait:
        EXPECT_THAT(batch.trouble, IsOk());
        EXPECT_EQ(taken, std::nullopt);
        break;
      case AcceptRemedy::kRetry:
        EXPECT_THAT(batch.trouble, IsOk());
        EXPECT_THAT(LocalAddressOf(client.fd()), IsOkAndHolds(taken));
        break;
      case AcceptRemedy::kPause:
      case AcceptRemedy::kShedAndPause:
        EXPECT_EQ(batch.trouble, expected);
        EXPECT_GT(batch.pause, absl::ZeroDuration());
        EXPECT_EQ(taken, std::nullopt);
        break;
      case AcceptRemedy::kGiveUp:
        EXPECT_EQ(batch.trouble, expected);
        EXPECT_EQ(batch.pause, std::nullopt);
        EXPECT_EQ(taken, std::nullopt);
        break;
    }
    // Whatever it was, the client has not been lost.
    if (!taken.has_value()) {
      EXPECT_THAT(listener.AcceptBatch(5, take).trouble, IsOk());
      EXPECT_THAT(LocalAddressOf(client.fd()), IsOkAndHolds(taken));
    }
  }
}

TEST(ListenerTest, PausesForAnErrnoThatNoManualKnows) {
  Listener listener = MustOpen(Loopback());
  AcceptFailures() = {EXFULL};
  const Listener::Batch batch =
      listener.AcceptBatch(1, [](Accepted) { return true; });
  EXPECT_EQ(ErrnoOf(batch.trouble), EXFULL);
  EXPECT_NE(batch.pause, std::nullopt);
}

TEST(ListenerTest, PausesLongerEachTimeUpToASecondAndBeginsAnewAfterwards) {
  Listener listener = MustOpen(Loopback());
  const auto pause = [&] {
    AcceptFailures() = {ENOBUFS};
    return *listener.AcceptBatch(1, [](Accepted) { return true; }).pause;
  };
  for (const int milliseconds : {10, 20, 40, 80, 160, 320, 640, 1000, 1000}) {
    const absl::Duration most = absl::Milliseconds(milliseconds);
    const absl::Duration got = pause();
    EXPECT_LE(got, most);
    EXPECT_GE(got, most * 0.75);
  }
  EXPECT_THAT(listener.AcceptBatch(1, [](Accepted) { return true; }).trouble,
              IsOk());
  EXPECT_LE(pause(), absl::Milliseconds(10));
}

TEST(ListenerTest, TakesNoMoreClientsThanItIsToldTo) {
  Listener listener = MustOpen(Loopback());
  std::vector<Stream> clients;
  for (int i = 0; i < 5; ++i) {
    clients.push_back(MustConnect(listener.address()));
  }
  int taken = 0;
  EXPECT_THAT(listener
                  .AcceptBatch(3,
                               [&](Accepted) {
                                 ++taken;
                                 return true;
                               })
                  .trouble,
              IsOk());
  EXPECT_EQ(taken, 3);
  EXPECT_THAT(listener
                  .AcceptBatch(3,
                               [&](Accepted) {
                                 ++taken;
                                 return false;
                               })
                  .trouble,
              IsOk());
  EXPECT_EQ(taken, 4);
  MustAccept(listener);
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

TEST(ListenerTest, CallsAShortageResourceExhausted) {
  Listener listener = MustOpen(Loopback());
  const Stream client = MustConnect(listener.address());
  for (const int error : {EMFILE, ENFILE, ENOBUFS, ENOMEM}) {
    AcceptFailures() = {error};
    const absl::Status status = listener.Accept().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
    EXPECT_EQ(ErrnoOf(status), error);
  }
  MustAccept(listener);
}

// No descriptor can be opened while this lives.
class NoDescriptors {
 public:
  NoDescriptors() {
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &before_), 0);
    const UniqueFd next_free(open("/", O_PATH | O_CLOEXEC));
    rlimit low = before_;
    low.rlim_cur = static_cast<rlim_t>(next_free.get());
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  }
  ~NoDescriptors() { EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &before_), 0); }

 private:
  rlimit before_;
};

TEST(ListenerTest, KeepsAClientWaitingWhileDescriptorsAreShort) {
  Listener listener = MustOpen(Loopback());
  const auto take = [](Accepted) { return true; };
  EXPECT_THAT(listener.AcceptBatch(1, take).trouble, IsOk());
  const Stream client = MustConnect(listener.address());
  {
    const NoDescriptors none;
    for (int i = 0; i < 3; ++i) {
      const Listener::Batch batch = listener.AcceptBatch(1, take);
      EXPECT_EQ(batch.trouble.code(), absl::StatusCode::kResourceExhausted);
      EXPECT_EQ(batch.trouble.message(),
                absl::StrCat("accept ", listener.address(),
                             ": Too many open files (EMFILE)"));
      EXPECT_EQ(batch.turned_away, 0);
      EXPECT_TRUE(Readable(listener.fd()));
    }
  }
  MustAccept(listener);
}

TEST(ListenerTest, TurnsClientsAwayWhenDescriptorsAreShortForTooLong) {
  for (const Address& address : {Loopback(), Abstract()}) {
    absl::StatusOr<Listener> listener =
        Listener::Open(address, {.shed_after = absl::ZeroDuration()});
    ASSERT_THAT(listener, IsOk());
    const auto take = [](Accepted) { return true; };
    EXPECT_THAT(listener->AcceptBatch(1, take).trouble, IsOk());
    for (int i = 0; i < 3; ++i) {
      Stream first = MustConnect(listener->address());
      Stream second = MustConnect(listener->address());
      EXPECT_THAT(second.WriteAll("hello"), IsOk());
      const NoDescriptors none;
      const Listener::Batch batch = listener->AcceptBatch(1, take);
      EXPECT_EQ(ErrnoOf(batch.trouble), EMFILE);
      EXPECT_NE(batch.pause, std::nullopt);
      EXPECT_EQ(batch.turned_away, 2);
      EXPECT_FALSE(Readable(listener->fd()));
      std::array<char, 1> got;
      EXPECT_EQ(ErrnoOf(second.Read(absl::MakeSpan(got)).status()), ECONNRESET);
      // Not for what was unread: a unix socket knows no other reset.
      if (address.family() != AF_UNIX) {
        EXPECT_EQ(ErrnoOf(first.Read(absl::MakeSpan(got)).status()),
                  ECONNRESET);
      }
    }
    const Stream third = MustConnect(listener->address());
    MustAccept(*listener);
  }
}

// Nobody has asked before; so the reserve has to be there from the beginning.
TEST(ListenerTest, TurnsClientsAwayIfDescriptorsWereShortFromTheStart) {
  absl::StatusOr<Listener> listener =
      Listener::Open(Loopback(), {.shed_after = absl::ZeroDuration()});
  ASSERT_THAT(listener, IsOk());
  const Stream client = MustConnect(listener->address());
  const NoDescriptors none;
  EXPECT_EQ(listener->AcceptBatch(1, [](Accepted) { return true; }).turned_away,
            1);
}

TEST(ListenerTest, LetsClientsWaitForDescriptorsIfItKeepsNone) {
  absl::StatusOr<Listener> listener =
      Listener::Open(Loopback(), {.shed_after = absl::ZeroDuration()});
  ASSERT_THAT(listener, IsOk());
  listener->KeepNoReserve();
  const Stream client = MustConnect(listener->address());
  {
    const NoDescriptors none;
    for (int i = 0; i < 3; ++i) {
      const Listener::Batch batch =
          listener->AcceptBatch(1, [](Accepted) { return true; });
      EXPECT_EQ(ErrnoOf(batch.trouble), EMFILE);
      EXPECT_EQ(batch.turned_away, 0);
      EXPECT_TRUE(batch.pause.has_value());
    }
  }
  int taken = 0;
  listener->AcceptBatch(1, [&](Accepted) {
    ++taken;
    return true;
  });
  EXPECT_EQ(taken, 1);
}

// ---- options ----

int OptionOf(int fd, int level, int option) {
  int value = -1;
  socklen_t length = sizeof(value);
  EXPECT_EQ(getsockopt(fd, level, option, &value, &length), 0);
  return value;
}

TEST(ListenerOptionsTest, ReachTheKernelAndTheClients) {
  absl::StatusOr<Listener> listener = Listener::Open(
      Loopback(),
      {.reuse_port = true,
       .free_bind = true,
       .device = "lo",
       .defer_accept = absl::Seconds(1),
       .fast_open = 5,
       .socket = {.no_delay = true,
                  .keep_alive = KeepAlive{.idle = absl::Seconds(60),
                                          .interval = absl::Seconds(10),
                                          .count = 3},
                  .user_timeout = absl::Milliseconds(1500),
                  .send_buffer = 8192,
                  .receive_buffer = 16384}});
  ASSERT_THAT(listener, IsOk());
  const int fd = listener->fd();
  EXPECT_EQ(OptionOf(fd, SOL_SOCKET, SO_REUSEPORT), 1);
  EXPECT_EQ(OptionOf(fd, IPPROTO_IP, IP_FREEBIND), 1);
  EXPECT_EQ(OptionOf(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT), 1);
  EXPECT_EQ(OptionOf(fd, IPPROTO_TCP, TCP_FASTOPEN), 5);
  std::array<char, IFNAMSIZ> device = {};
  socklen_t length = device.size();
  EXPECT_EQ(getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device.data(), &length),
            0);
  EXPECT_EQ(std::string_view(device.data()), "lo");

  Stream client = MustConnect(listener->address());
  EXPECT_THAT(client.WriteAll("x"), IsOk());
  const Accepted accepted = MustAccept(*listener);
  const int inside = accepted.stream.fd();
  EXPECT_EQ(OptionOf(inside, IPPROTO_TCP, TCP_NODELAY), 1);
  EXPECT_EQ(OptionOf(inside, SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(OptionOf(inside, IPPROTO_TCP, TCP_KEEPIDLE), 60);
  EXPECT_EQ(OptionOf(inside, IPPROTO_TCP, TCP_KEEPINTVL), 10);
  EXPECT_EQ(OptionOf(inside, IPPROTO_TCP, TCP_KEEPCNT), 3);
  EXPECT_EQ(OptionOf(inside, IPPROTO_TCP, TCP_USER_TIMEOUT), 1500);
  EXPECT_EQ(OptionOf(inside, SOL_SOCKET, SO_SNDBUF), 2 * 8192);
  EXPECT_EQ(OptionOf(inside, SOL_SOCKET, SO_RCVBUF), 2 * 16384);
}

TEST(ListenerOptionsTest, DeferAcceptTakesAClientInWhenItHasSpoken) {
  absl::StatusOr<Listener> listener =
      Listener::Open(Loopback(), {.defer_accept = absl::Seconds(60)});
  ASSERT_THAT(listener, IsOk());
  Stream client = MustConnect(listener->address());
  EXPECT_THAT(listener->Accept(), IsOkAndHolds(Eq(std::nullopt)));
  EXPECT_THAT(client.WriteAll("x"), IsOk());
  MustAccept(*listener);
}

TEST(ListenerOptionsTest, FreeBindTakesAnAddressThatNobodyHas) {
  for (const std::string_view text : {"192.0.2.1:0", "[2001:db8::1]:0"}) {
    const absl::Status status =
        Listener::Open(*Address::Parse(text), {.free_bind = true}).status();
    if (ErrnoOf(status) == EAFNOSUPPORT) continue;
    EXPECT_THAT(status, IsOk());
  }
}

TEST(ListenerOptionsTest, ReusePortSharesAnAddressAmongThoseWhoAskForIt) {
  absl::StatusOr<Listener> first =
      Listener::Open(Loopback(), {.reuse_port = true});
  ASSERT_THAT(first, IsOk());
  EXPECT_THAT(Listener::Open(first->address(), {.reuse_port = true}), IsOk());
  EXPECT_EQ(ErrnoOf(Listener::Open(first->address()).status()), EADDRINUSE);
}

TEST(ListenerOptionsTest, OutOfRangeAreNamedWithWhatIsAllowed) {
  const auto message = [](const Address& address,
                          const Listener::Options& options) {
    const absl::Status status = Listener::Open(address, options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  const Address tcp = Loopback();
  EXPECT_EQ(message(tcp, {.backlog = -1}), "backlog -1: allowed is 0 or more");
  EXPECT_EQ(message(tcp, {.fast_open = -1}),
            "fast_open -1: allowed is 0 or more");
  for (const absl::Duration bad :
       {absl::Seconds(-1), absl::Milliseconds(1500), absl::Seconds(3601),
        absl::InfiniteDuration()}) {
    EXPECT_EQ(message(tcp, {.defer_accept = bad}),
              absl::StrCat("defer_accept ", absl::FormatDuration(bad),
                           ": allowed is whole seconds from 0s to 1h"));
  }
  EXPECT_EQ(message(tcp, {.shed_after = absl::Seconds(-1)}),
            "shed_after -1s: allowed is 0s or more");
  EXPECT_EQ(message(tcp, {.socket = {.keep_alive = KeepAlive{.count = 128}}}),
            "keep_alive.count 128: allowed is from 1 to 127");
  EXPECT_EQ(
      message(tcp, {.socket = {.keep_alive =
                                   KeepAlive{.idle = absl::ZeroDuration()}}}),
      "keep_alive.idle 0: allowed is whole seconds from 1 to 32767");
  EXPECT_EQ(
      message(tcp, {.socket = {.keep_alive =
                                   KeepAlive{.interval = absl::Hours(10)}}}),
      "keep_alive.interval 10h: allowed is whole seconds from 1 to "
      "32767");
  EXPECT_EQ(message(tcp, {.socket = {.user_timeout = absl::ZeroDuration()}}),
            "user_timeout 0: allowed is from 1ms to 576h");
  EXPECT_EQ(message(tcp, {.socket = {.send_buffer = 0}}),
            "send_buffer 0: allowed is 1 byte or more");
  EXPECT_EQ(message(tcp, {.socket = {.receive_buffer = -1}}),
            "receive_buffer -1: allowed is 1 byte or more");
  EXPECT_EQ(message(tcp, {.access = {.mode = 0600}}),
            "mode, owner and group are options of a unix path, not of "
            "127.0.0.1:0");
  EXPECT_EQ(message(*Address::UnixAbstract("x"), {.access = {.owner = 0}}),
            "mode, owner and group are options of a unix path, not of "
            "unix:@x");
  EXPECT_EQ(message(Path("x"), {.access = {.mode = 01777}}),
            "mode 01777: allowed is from 0 to 0777");
  EXPECT_EQ(message(Path("x"), {.reuse_port = true}),
            "reuse_port, free_bind, device, defer_accept and fast_open are "
            "options of TCP, not of unix:x");
  EXPECT_EQ(message(Path("x"), {.socket = {.no_delay = true}}),
            "no_delay, keep_alive and user_timeout are options of TCP, not of "
            "unix:x");
  EXPECT_EQ(message(tcp, {.device = "abcdefghijklmnop"}),
            "device \"abcdefghijklmnop\": allowed is the name of a network "
            "interface, at most 15 bytes");
  EXPECT_EQ(message(tcp, {.device = std::string("lo\0", 3)}),
            "device \"lo\\x00\": allowed is the name of a network interface, "
            "at most 15 bytes");
  EXPECT_EQ(message(Path("x"), {.access = {.group = static_cast<gid_t>(-1)}}),
            "owner or group -1: allowed is an id; leave it out to change "
            "nothing");
  EXPECT_EQ(Listener::Adopt(UniqueFd(), absl::Seconds(-1)).status().message(),
            "shed_after -1s: allowed is 0s or more");
  EXPECT_EQ(Listener::Open(tcp, {.device = "nosuch0"}).status().message(),
            "SO_BINDTODEVICE nosuch0 for 127.0.0.1:0: No such device (ENODEV)");
  EXPECT_FALSE(Exists("x"));
}

// ---- adoption ----

UniqueFd RawListener(const Address& address) {
  UniqueFd socket(::socket(address.family(), SOCK_STREAM, 0));
  EXPECT_EQ(bind(socket.get(), address.sockaddr(), address.sockaddr_length()),
            0);
  EXPECT_EQ(listen(socket.get(), 5), 0);
  return socket;
}

TEST(ListenerTest, AdoptsASocketThatListens) {
  for (const Address& address : {Loopback(), Abstract()}) {
    absl::StatusOr<Listener> listener = Listener::Adopt(RawListener(address));
    ASSERT_THAT(listener, IsOk());
    EXPECT_EQ(fcntl(listener->fd(), F_GETFD), FD_CLOEXEC);
    EXPECT_THAT(listener->Accept(), IsOkAndHolds(Eq(std::nullopt)));
    const Stream client = MustConnect(listener->address());
    MustAccept(*listener);
  }
}

TEST(ListenerTest, AdoptsNothingElse) {
  UniqueFd file(open("/", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(ErrnoOf(Listener::Adopt(std::move(file)).status()), ENOTSOCK);
  EXPECT_EQ(ErrnoOf(Listener::Adopt(UniqueFd()).status()), EBADF);
  for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
    UniqueFd socket(::socket(AF_INET, type | SOCK_CLOEXEC, 0));
    const std::string message =
        absl::StrCat("adopt descriptor ", socket.get(),
                     " at 0.0.0.0:0: expected a stream socket that listens");
    EXPECT_THAT(Listener::Adopt(std::move(socket)),
                StatusIs(absl::StatusCode::kInvalidArgument, message));
  }
}

// ---- drain ----

absl::Status Leave(Listener& listener, absl::Time deadline,
                   absl::FunctionRef<void(Accepted)> serve) {
  if (absl::Status s = listener.Drain(); !s.ok()) return s;
  for (;;) {
    absl::StatusOr<std::optional<Accepted>> client = listener.Accept();
    if (!client.ok()) return client.status();
    if (client->has_value()) {
      serve(**std::move(client));
      continue;
    }
    const absl::StatusOr<bool> drained = listener.Drained();
    if (!drained.ok()) return drained.status();
    if (*drained || absl::Now() >= deadline) return listener.Close();
    pollfd ready = {.fd = listener.fd(), .events = POLLIN, .revents = 0};
    (void)poll(&ready, 1, 10);  // Somebody is still on his way.
  }
}

void EchoOne(Accepted accepted) {
  std::array<char, 1> byte;
  const absl::StatusOr<IoResult> got =
      accepted.stream.Read(absl::MakeSpan(byte));
  if (got.ok() && got->bytes() == 1) {
    EXPECT_THAT(accepted.stream.WriteAll({byte.data(), 1}), IsOk());
  }
}

TEST(ListenerDrainTest, RefusesNewClientsAndYieldsThoseWhoWait) {
  for (const Address& address : {Loopback(), *Address::Parse("0.0.0.0:0"),
                                 Address::Everywhere(0), Abstract()}) {
    Listener listener = MustOpen(address);
    Address door = listener.address();
    if (door.family() != AF_UNIX) {
      door = *Address::Parse(absl::StrCat("127.0.0.1:", *door.port()));
    }
    SCOPED_TRACE(door);
    const Stream first = MustConnect(door);
    const Stream second = MustConnect(door);
    ASSERT_THAT(listener.Drain(), IsOk());
    EXPECT_EQ(ErrnoOf(Stream::Connect(door).status()), ECONNREFUSED);
    EXPECT_THAT(listener.Drained(), IsOkAndHolds(false));
    MustAccept(listener);
    EXPECT_THAT(listener.Drained(), IsOkAndHolds(false));
    MustAccept(listener);
    EXPECT_THAT(listener.Accept(), IsOkAndHolds(Eq(std::nullopt)));
    EXPECT_THAT(listener.Drained(), IsOkAndHolds(true));
    EXPECT_EQ(ErrnoOf(Stream::Connect(door).status()), ECONNREFUSED);
    EXPECT_THAT(listener.Drain(), IsOk());
    EXPECT_THAT(listener.Accept(), IsOkAndHolds(Eq(std::nullopt)));
    EXPECT_THAT(listener.Drained(), IsOkAndHolds(true));
    EXPECT_THAT(listener.Close(), IsOk());
  }
}

// Whether `listener` answers a client that comes now: on the loopback interface
// it would do so within the call.
bool Answers(const Listener& listener) {
  const UniqueFd client(
      ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  EXPECT_EQ(connect(client.get(), listener.address().sockaddr(),
                    listener.address().sockaddr_length()),
            -1);
  EXPECT_EQ(errno, EINPROGRESS);
  tcp_info info = {};
  socklen_t length = sizeof(info);
  EXPECT_EQ(getsockopt(client.get(), IPPROTO_TCP, TCP_INFO, &info, &length), 0);
  return info.tcpi_state != TCP_SYN_SENT;
}

// As for a process that may not leave the interface it has chosen, and for one
// of those who share a port.
TEST(ListenerDrainTest, IsDeafToNewClientsWhereItMayNotRefuseThem) {
  for (const bool shares : {false, true}) {
    absl::StatusOr<Listener> listener =
        Listener::Open(Loopback(), {.reuse_port = shares});
    ASSERT_THAT(listener, IsOk());
    Stream early = MustConnect(listener->address());
    EXPECT_THAT(early.WriteAll("x"), IsOk());
    if (!shares) forbidden_option = SO_BINDTOIFINDEX;
    const absl::Status status = listener->Drain();
    forbidden_option = -1;
    if (ErrnoOf(status) == EPERM) {
      GTEST_SKIP() << "here only root may attach a filter: " << status;
    }
    ASSERT_THAT(status, IsOk());
    EXPECT_FALSE(Answers(*listener));
    int served = 0;
    EXPECT_THAT(Leave(*listener, absl::InfiniteFuture(),
                      [&](Accepted accepted) {
                        EchoOne(std::move(accepted));
                        ++served;
                      }),
                IsOk());
    EXPECT_EQ(served, 1);
  }
}

TEST(ListenerDrainTest, LeavesAnAdoptedSocketOpenForThoseWhoShareIt) {
  for (const Address& address : {Loopback(), Abstract()}) {
    UniqueFd shared = RawListener(address);
    absl::StatusOr<Listener> listener =
        Listener::Adopt(UniqueFd(dup(shared.get())));
    ASSERT_THAT(listener, IsOk());
    const Stream early = MustConnect(listener->address());
    ASSERT_THAT(listener->Drain(), IsOk());
    EXPECT_THAT(listener->Drained(), IsOkAndHolds(false));
    MustAccept(*listener);
    // How many waited is TCP's to tell; unix says when nobody does.
    if (address.family() == AF_UNIX) {
      EXPECT_THAT(listener->Accept(), IsOkAndHolds(Eq(std::nullopt)));
    }
    Stream late = MustConnect(listener->address());
    EXPECT_THAT(listener->Accept(), IsOkAndHolds(Eq(std::nullopt)));
    EXPECT_THAT(listener->Drained(), IsOkAndHolds(true));
    EXPECT_THAT(listener->Close(), IsOk());
    absl::StatusOr<Listener> other = Listener::Adopt(std::move(shared));
    ASSERT_THAT(other, IsOk());
    MustAccept(*other);
  }
}

TEST(ListenerDrainTest, TurnsAwayNobodyWhoIsForThoseWhoShareIt) {
  UniqueFd shared = RawListener(Loopback());
  absl::StatusOr<Listener> listener = Listener::Adopt(
      UniqueFd(dup(shared.get())), /*shed_after=*/absl::ZeroDuration());
  ASSERT_THAT(listener, IsOk());
  const Stream early = MustConnect(listener->address());
  ASSERT_THAT(listener->Drain(), IsOk());
  const Stream late = MustConnect(listener->address());
  {
    const NoDescriptors none;
    EXPECT_EQ(
        listener->AcceptBatch(9, [](Accepted) { return true; }).turned_away, 1);
  }
  EXPECT_THAT(listener->Accept(), IsOkAndHolds(Eq(std::nullopt)));
  absl::StatusOr<Listener> other = Listener::Adopt(std::move(shared));
  ASSERT_THAT(other, IsOk());
  EXPECT_THAT(LocalAddressOf(late.fd()), IsOkAndHolds(MustAccept(*other).peer));
}

// Connects, asks, waits for the answer and begins anew, until it is refused.
// The exit code says whether it was ever lost on the way.
[[noreturn]] void BeAClient(const Address& address) {
  for (;;) {
    absl::StatusOr<Stream> stream = Stream::Connect(address);
    if (!stream.ok()) {
      const bool refused = ErrnoOf(stream.status()) == ECONNREFUSED;
      _exit(refused ? 0 : 2);
    }
    std::array<char, 1> answer;
    if (!stream->WriteAll("x").ok()) _exit(1);
    const absl::StatusOr<IoResult> got = stream->Read(absl::MakeSpan(answer));
    if (!got.ok() || got->end()) _exit(1);
  }
}

TEST(ListenerDrainTest, LosesNobodyWhileManyComeAndGo) {
  constexpr int kRounds = 10;
  constexpr int kClients = 20;
  for (int round = 0; round < kRounds; ++round) {
    for (const Address& address :
         {Loopback(), Address::Everywhere(0), Abstract()}) {
      // Once a short backlog, so that some knock at a full house: they ask
      // again after a second.
      absl::StatusOr<Listener> listener =
          Listener::Open(address, {.backlog = round == 0 ? 4 : 4096});
      ASSERT_THAT(listener, IsOk());
      Address door = listener->address();
      if (door.family() != AF_UNIX) {
        door = *Address::Parse(absl::StrCat("127.0.0.1:", *door.port()));
      }
      std::vector<pid_t> clients;
      for (int i = 0; i < kClients; ++i) {
        clients.push_back(fork());
        ASSERT_GE(clients.back(), 0);
        if (clients.back() == 0) {
          (void)close(listener->fd());
          BeAClient(door);
        }
      }
      for (int served = 0; served < 200;) {
        pollfd ready = {.fd = listener->fd(), .events = POLLIN, .revents = 0};
        ASSERT_EQ(poll(&ready, 1, -1), 1);
        absl::StatusOr<std::optional<Accepted>> client = listener->Accept();
        ASSERT_THAT(client, IsOk());
        if (!client->has_value()) continue;
        EchoOne(**std::move(client));
        ++served;
      }
      EXPECT_THAT(Leave(*listener, absl::InfiniteFuture(), EchoOne), IsOk());
      for (const pid_t client : clients) {
        int status = -1;
        ASSERT_EQ(waitpid(client, &status, 0), client);
        EXPECT_EQ(status, 0) << "1: lost after it connected";
      }
    }
  }
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

absl::StatusOr<BoundPath> Claim(int socket, const Address& address) {
  return BoundPath::Bind(socket, address, {.mode = 0660});
}

TEST_F(ListenerPathTest, BoundPathHeaderExample) {
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  absl::StatusOr<BoundPath> bound = Claim(socket.get(), Path("x"));
  ASSERT_THAT(bound, IsOk());
  EXPECT_TRUE(Exists("x"));
  EXPECT_THAT(bound->Remove(), IsOk());
  EXPECT_FALSE(Exists("x"));
  EXPECT_THAT(bound->Remove(), IsOk());
}

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

TEST_F(ListenerPathTest, GivesThePathTheModeAndTheOwnersItIsTold) {
  const mode_t before = umask(077);
  absl::StatusOr<Listener> listener = Listener::Open(
      Path("x"),
      {.access = {.mode = 0664, .owner = geteuid(), .group = getegid()}});
  umask(before);
  ASSERT_THAT(listener, IsOk());
  struct stat found;
  ASSERT_EQ(lstat("x", &found), 0);
  EXPECT_EQ(found.st_mode & 07777, 0664u);
  EXPECT_EQ(found.st_uid, geteuid());
  EXPECT_EQ(found.st_gid, getegid());
  const Stream client = MustConnect(Path("x"));
  MustAccept(*listener);
}

TEST_F(ListenerPathTest, LetsGoOfTheFolderOnceItListens) {
  const Listener listener = MustOpen(Path("x"));
  const UniqueFd folder(open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  EXPECT_EQ(flock(folder.get(), LOCK_EX | LOCK_NB), 0);
}

TEST_F(ListenerPathTest, LeavesNoPathBehindWhenItMayNotGiveItAway) {
  constexpr uid_t kStranger = 54321;
  const absl::Status status =
      Listener::Open(Path("x"), {.access = {.owner = kStranger}}).status();
  EXPECT_FALSE(Exists("x"));
  if (status.ok()) GTEST_SKIP() << "root may give anything to anybody";
  EXPECT_THAT(status.message(), StartsWith("chown unix:x: "));
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
