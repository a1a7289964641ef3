// SPDX-License-Identifier: Apache-2.0
// Two networks of the test's own, joined by a link that takes only small
// packets, and loses some. They are their processes', and end with them.
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/log/check.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
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
#include "brood/tests/in_child.h"
#include "brood/tests/own_network.h"
#include "brood/tests/pattern.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::testing::Gt;
using ::testing::Le;
using ::testing::Ne;

absl::Time Soon() { return absl::Now() + absl::Minutes(2); }

// As ip(8) takes them; the last is the far host for an Address.
struct Link {
  std::string near;
  std::string far;
  std::string far_host;
  uint32_t mtu;
  uint32_t headers;  // Of IP and TCP, without options.
};

const Link kIPv4 = {.near = "10.77.0.1/30",
                    .far = "10.77.0.2/30",
                    .far_host = "10.77.0.2",
                    .mtu = 576,
                    .headers = 40};
// IPv6 asks of a link that it take 1280 bytes. No waiting for somebody else who
// might have the address.
const Link kIPv6 = {.near = "fd00:77::1/64 nodad",
                    .far = "fd00:77::2/64 nodad",
                    .far_host = "[fd00:77::2]",
                    .mtu = 1280,
                    .headers = 60};

enum class Loss { kNone, kOneInTwenty };

// ---- Networks ----

// Runs ip(8), which says on standard error what it has against it.
absl::Status Ip(std::string_view words) {
  std::vector<std::string> argv = absl::StrSplit(words, ' ');
  argv.insert(argv.begin(), FindProgram("ip").value_or("ip"));
  absl::StatusOr<Child> child = Spawn(argv, {.parent_death_signal = SIGKILL});
  if (!child.ok()) return child.status();
  const absl::StatusOr<ExitStatus> status = child->Wait();
  if (!status.ok() || status->success()) return status.status();
  return absl::UnavailableError(
      absl::StrCat("ip ", words, ": ", status->ToString()));
}

absl::Status SetUpEnd(std::string_view device, std::string_view host) {
  absl::Status status = Ip(absl::StrCat("address add ", host, " dev ", device));
  status.Update(Ip(absl::StrCat("link set ", device, " up")));
  return status;
}

// ---- Sockets ----

constexpr int kBuffer = 4096;

void ShrinkBuffers(int fd) {
  for (const int option : {SO_SNDBUF, SO_RCVBUF}) {
    EXPECT_EQ(setsockopt(fd, SOL_SOCKET, option, &kBuffer, sizeof(kBuffer)), 0);
  }
}

// From now on the socket does not see one in twenty of the packets that come,
// as if they had got lost on their way: this program decides before TCP looks
// at them. That takes no queue that loses packets (netem), which many kernels
// are built without.
void LosePackets(int fd) {
  constexpr uint32_t kRandom =
      static_cast<uint32_t>(SKF_AD_OFF + SKF_AD_RANDOM);
  std::array<sock_filter, 4> program = {{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kRandom),
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, UINT32_MAX / 20, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),  // All of it.
      BPF_STMT(BPF_RET | BPF_K, 0),
  }};
  const sock_fprog filter = {.len = program.size(), .filter = program.data()};
  EXPECT_EQ(
      setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)), 0);
}

absl::StatusOr<Stream> ConnectWithSmallBuffers(const Address& address) {
  UniqueFd fd(socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  ShrinkBuffers(fd.get());
  if (connect(fd.get(), address.sockaddr(), address.sockaddr_length()) == -1) {
    return ErrnoStatus(errno, absl::StrCat("connect to ", address));
  }
  return Stream::Adopt(std::move(fd));
}

// What the kernel knows of a connection that has been used.
void ExpectWentThrough(int fd, const Link& link, Loss loss) {
  for (const int option : {SO_SNDBUF, SO_RCVBUF}) {
    int size = 0;
    socklen_t length = sizeof(size);
    EXPECT_EQ(getsockopt(fd, SOL_SOCKET, option, &size, &length), 0);
    // It doubles what it is asked for, to have room for its own records, and
    // there is a least, which is a little more.
    EXPECT_THAT(size, Le(3 * kBuffer));
  }
  tcp_info info = {};
  socklen_t length = sizeof(info);
  EXPECT_EQ(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
  EXPECT_EQ(info.tcpi_pmtu, link.mtu);
  EXPECT_THAT(info.tcpi_snd_mss, Le(link.mtu - link.headers));
  // Of two thousand packets, or some more. Without a loss there are a few, too,
  // of what was only late.
  if (loss != Loss::kNone) {
    EXPECT_THAT(info.tcpi_total_retrans, Gt(30u));
  }
}

// ---- The two ends ----

// Carries one number from one process to another.
class Message {
 public:
  Message() {
    std::array<int, 2> ends;
    CHECK_EQ(pipe2(ends.data(), O_CLOEXEC), 0) << ErrnoStatus(errno, "pipe2");
    out_ = UniqueFd(ends[0]);
    in_ = UniqueFd(ends[1]);
  }

  void Send(uint16_t number) {
    EXPECT_EQ(write(in_.get(), &number, sizeof(number)), sizeof(number));
  }
  // Blocks. nullopt if nobody can send any more.
  std::optional<uint16_t> Receive() {
    in_ = UniqueFd();
    uint16_t number = 0;
    const ssize_t size =
        RetryOnEintr([&] { return read(out_.get(), &number, sizeof(number)); });
    if (size != sizeof(number)) return std::nullopt;
    return number;
  }

 private:
  UniqueFd out_;
  UniqueFd in_;
};

// Echoes to one client at the far end of the link, once there is one.
void Echo(const Link& link, Loss loss, Message& linked, Message& port) {
  ASSERT_THAT(linked.Receive(), Ne(std::nullopt));
  ASSERT_THAT(SetUpEnd("brood1", link.far), IsOk());
  const auto address = Address::Parse(absl::StrCat(link.far_host, ":0"));
  ASSERT_THAT(address, IsOk());
  absl::StatusOr<Listener> listener = Listener::Open(*address);
  ASSERT_THAT(listener, IsOk());
  ShrinkBuffers(listener->fd());  // And thereby each client's.
  port.Send(*listener->address().port());
  ASSERT_THAT(PollUntil(listener->fd(), POLLIN, Soon()), IsOkAndHolds(true));
  absl::StatusOr<std::optional<Accepted>> client = listener->Accept();
  ASSERT_THAT(client, IsOkAndHolds(Ne(std::nullopt)));
  Stream& stream = (*client)->stream;
  if (loss != Loss::kNone) LosePackets(stream.fd());
  EXPECT_THAT(EchoPattern(stream, Soon()), IsOk());
  ExpectWentThrough(stream.fd(), link, loss);
}

// Makes the link, and has `size` bytes echoed at its other end.
void Send(const Link& link, Loss loss, size_t size) {
  ASSERT_EQ(EnterOwnNetwork(), 0);
  Message entered;
  Message linked;
  Message port;
  absl::StatusOr<Child> far = Fork({.parent_death_signal = SIGKILL}, [&] {
    // Root already, of whatever user namespace that is.
    EXPECT_EQ(unshare(CLONE_NEWNET), 0);
    entered.Send(1);
    Echo(link, loss, linked, port);
    return testing::Test::HasFailure() ? 1 : 0;
  });
  ASSERT_THAT(far, IsOk());
  ASSERT_THAT(entered.Receive(), Ne(std::nullopt));
  ASSERT_THAT(Ip(absl::StrCat("link add brood0 mtu ", link.mtu,
                              " type veth peer name brood1 mtu ", link.mtu,
                              " netns ", far->pid())),
              IsOk());
  ASSERT_THAT(SetUpEnd("brood0", link.near), IsOk());
  linked.Send(1);
  const std::optional<uint16_t> number = port.Receive();
  ASSERT_THAT(number, Ne(std::nullopt));
  const absl::StatusOr<Address> address =
      Address::Parse(absl::StrCat(link.far_host, ":", *number));
  ASSERT_THAT(address, IsOk());
  absl::StatusOr<Stream> stream = ConnectWithSmallBuffers(*address);
  ASSERT_THAT(stream, IsOk());
  if (loss != Loss::kNone) LosePackets(stream->fd());
  EXPECT_THAT(SendPattern(*stream, size, Soon()), IsOk());
  ExpectWentThrough(stream->fd(), link, loss);
  EXPECT_THAT(far->WaitUntil(Soon()), IsOkAndHolds(ExitStatus::Exited(0)));
}

class SmallLinkTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!FindProgram("ip").has_value()) GTEST_SKIP() << NoProgram("ip");
    if (const int error = InChild(EnterOwnNetwork); error != 0) {
      GTEST_SKIP()
          << ErrnoStatus(error, "no network namespace is to be had").message();
    }
    if (InChild([] {
          if (EnterOwnNetwork() != 0) return 1;
          return Ip("link add brood0 type veth peer name brood1").ok() ? 0 : 1;
        }) != 0) {
      GTEST_SKIP() << "ip cannot make a pair of virtual devices (veth)";
    }
  }

  // In a process that has networks to lose.
  static void ExpectEchoesEveryByte(const Link& link, Loss loss, size_t size) {
    EXPECT_EQ(InChild([&] {
                Send(link, loss, size);
                return testing::Test::HasFailure() ? 1 : 0;
              }),
              0);
  }
};

TEST_F(SmallLinkTest, EchoesEveryByteInPacketsOf576AndWithBuffersOf4KiB) {
  ExpectEchoesEveryByte(kIPv4, Loss::kNone, 4 << 20);
}

TEST_F(SmallLinkTest, EchoesEveryByteOverIPv6InPacketsOf1280) {
  if (!UniqueFd(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0)).valid()) {
    GTEST_SKIP() << "this machine has no IPv6";
  }
  ExpectEchoesEveryByte(kIPv6, Loss::kNone, 4 << 20);
}

TEST_F(SmallLinkTest, EchoesEveryByteThoughOnePacketInTwentyIsLost) {
  ExpectEchoesEveryByte(kIPv4, Loss::kOneInTwenty, 1 << 20);
}

}  // namespace
}  // namespace brood
