// SPDX-License-Identifier: Apache-2.0
#include "brood/net/peer_credentials.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/tests/in_child.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::ElementsAreArray;
using ::testing::EndsWith;
using ::testing::UnorderedElementsAreArray;

absl::Time Soon() { return absl::Now() + absl::Minutes(1); }

absl::StatusOr<Listener> OpenUnix() {
  std::random_device random;
  return Listener::Open(*Address::UnixAbstract(
      absl::StrCat("brood/peer_credentials_test/", random(), "/", random())));
}

absl::StatusOr<Stream> AcceptOne(Listener& listener) {
  const absl::StatusOr<bool> ready = PollUntil(listener.fd(), POLLIN, Soon());
  if (!ready.ok()) return ready.status();
  absl::StatusOr<std::optional<Accepted>> accepted = listener.Accept();
  if (!accepted.ok()) return accepted.status();
  if (!accepted->has_value()) return absl::NotFoundError("nobody came");
  return (**std::move(accepted)).stream;
}

// Connects, and leaves when the server does.
int ConnectAndStay(const Address& address) {
  absl::StatusOr<Stream> stream = Stream::Connect(address, Soon());
  if (!stream.ok()) return 1;
  char byte;
  return stream->Read(absl::MakeSpan(&byte, 1), Soon()).ok() ? 0 : 2;
}

std::vector<gid_t> OwnGroups() {
  std::vector<gid_t> groups(static_cast<size_t>(getgroups(0, nullptr)));
  EXPECT_EQ(getgroups(static_cast<int>(groups.size()), groups.data()),
            static_cast<int>(groups.size()));
  return groups;
}

absl::Status Admit(const Stream& client) {
  const absl::StatusOr<PeerCredentials> peer = PeerCredentialsOf(client.fd());
  if (!peer.ok()) return peer.status();
  if (peer->uid == 0 || peer->uid == geteuid()) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat("user ", peer->uid, " may not come in"));
}

TEST(PeerCredentialsTest, TellEachEndWhoConnectedAndWhoListened) {
  absl::StatusOr<Listener> listener = OpenUnix();
  ASSERT_THAT(listener, IsOk());
  const pid_t child =
      StartInChild([&] { return ConnectAndStay(listener->address()); });
  absl::StatusOr<Stream> server = AcceptOne(*listener);
  ASSERT_THAT(server, IsOk());
  EXPECT_THAT(Admit(*server), IsOk());

  const absl::StatusOr<PeerCredentials> client =
      PeerCredentialsOf(server->fd());
  ASSERT_THAT(client, IsOk());
  EXPECT_EQ(client->pid, child);
  EXPECT_EQ(client->uid, geteuid());
  EXPECT_EQ(client->gid, getegid());
  EXPECT_THAT(client->groups, UnorderedElementsAreArray(OwnGroups()));
  EXPECT_THAT(server->Close(), IsOk());
  EXPECT_EQ(WaitForChild(child), 0);

  EXPECT_EQ(InChild([&] {
              absl::StatusOr<Stream> stream =
                  Stream::Connect(listener->address(), Soon());
              if (!stream.ok()) return 1;
              const absl::StatusOr<PeerCredentials> listened =
                  PeerCredentialsOf(stream->fd());
              return listened.ok() && listened->pid == getppid() ? 0 : 2;
            }),
            0);
}

TEST(PeerCredentialsTest, AreThoseOfTheMomentOfConnecting) {
  // More than are asked for at first.
  std::vector<gid_t> groups;
  for (gid_t group = 3000; group < 3100; ++group) groups.push_back(group);
  const auto become_somebody_else = [&] {
    return setgroups(groups.size(), groups.data()) == 0 && setegid(2345) == 0 &&
           seteuid(12345) == 0;
  };
  if (InChild([&] { return become_somebody_else() ? 0 : 1; }) != 0) {
    GTEST_SKIP() << "this user cannot become somebody else";
  }
  absl::StatusOr<Listener> listener = OpenUnix();
  ASSERT_THAT(listener, IsOk());
  const pid_t child = StartInChild([&] {
    if (!become_somebody_else()) return 3;
    absl::StatusOr<Stream> stream =
        Stream::Connect(listener->address(), Soon());
    if (!stream.ok()) return 1;
    // Too late to look like somebody else.
    if (seteuid(0) != 0) return 4;
    char byte;
    return stream->Read(absl::MakeSpan(&byte, 1), Soon()).ok() ? 0 : 2;
  });
  absl::StatusOr<Stream> server = AcceptOne(*listener);
  ASSERT_THAT(server, IsOk());
  const absl::StatusOr<PeerCredentials> client =
      PeerCredentialsOf(server->fd());
  ASSERT_THAT(client, IsOk());
  EXPECT_EQ(client->uid, 12345u);
  EXPECT_EQ(client->gid, 2345u);
  EXPECT_THAT(client->groups, ElementsAreArray(groups));
  EXPECT_THAT(Admit(*server), StatusIs(absl::StatusCode::kPermissionDenied,
                                       "user 12345 may not come in"));
  EXPECT_THAT(server->Close(), IsOk());
  EXPECT_EQ(WaitForChild(child), 0);
}

TEST(PeerCredentialsTest, OfASocketpairAreItsMakers) {
  std::array<int, 2> ends;
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  const UniqueFd one(ends[0]);
  const UniqueFd other(ends[1]);
  const pid_t maker = getpid();
  EXPECT_EQ(InChild([&] {
              const absl::StatusOr<PeerCredentials> peer =
                  PeerCredentialsOf(one.get());
              return peer.ok() && peer->pid == maker ? 0 : 1;
            }),
            0);
}

TEST(PeerPidfdTest, IsReadableOnceThePeerHasEnded) {
  absl::StatusOr<Listener> listener = OpenUnix();
  ASSERT_THAT(listener, IsOk());
  const pid_t child =
      StartInChild([&] { return ConnectAndStay(listener->address()); });
  absl::StatusOr<Stream> server = AcceptOne(*listener);
  ASSERT_THAT(server, IsOk());
  const absl::StatusOr<UniqueFd> pidfd = PeerPidfdOf(server->fd());
  if (ErrnoOf(pidfd.status()) == ENOPROTOOPT) {
    EXPECT_THAT(server->Close(), IsOk());
    EXPECT_EQ(WaitForChild(child), 0);
    GTEST_SKIP() << "this kernel has no SO_PEERPIDFD (Linux 6.5)";
  }
  ASSERT_THAT(pidfd, IsOk());
  EXPECT_EQ(fcntl(pidfd->get(), F_GETFD), FD_CLOEXEC);
  EXPECT_THAT(PollUntil(pidfd->get(), POLLIN, absl::InfinitePast()),
              IsOkAndHolds(false));
  EXPECT_THAT(server->Close(), IsOk());
  EXPECT_THAT(PollUntil(pidfd->get(), POLLIN, Soon()), IsOkAndHolds(true));
  EXPECT_EQ(WaitForChild(child), 0);
}

// The kernel answers: with whoever listens.
TEST(PeerCredentialsTest, RefuseAListenerWhichHasNoPeer) {
  const absl::StatusOr<Listener> listener = OpenUnix();
  ASSERT_THAT(listener, IsOk());
  EXPECT_EQ(PeerCredentialsOf(listener->fd()).status(),
            absl::InvalidArgumentError(
                absl::StrCat("SO_PEERCRED of descriptor ", listener->fd(),
                             ": expected a connection and not a listener")));
  EXPECT_EQ(PeerPidfdOf(listener->fd()).status(),
            absl::InvalidArgumentError(
                absl::StrCat("SO_PEERPIDFD of descriptor ", listener->fd(),
                             ": expected a connection and not a listener")));
}

TEST(PeerCredentialsTest, RefuseWhatIsNoConnectedUnixSocket) {
  const UniqueFd lonely(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const UniqueFd file(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const UniqueFd tcp(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(PeerCredentialsOf(lonely.get()).status(),
            ErrnoStatus(ENOTCONN, absl::StrCat("SO_PEERCRED of descriptor ",
                                               lonely.get())));
  EXPECT_EQ(ErrnoOf(PeerCredentialsOf(file.get()).status()), ENOTSOCK);
  EXPECT_EQ(ErrnoOf(PeerCredentialsOf(-1).status()), EBADF);
  EXPECT_THAT(PeerCredentialsOf(tcp.get()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       EndsWith(": expected a unix socket")));
  EXPECT_THAT(ErrnoOf(PeerPidfdOf(lonely.get()).status()),
              testing::AnyOf(ENOTCONN, ENOPROTOOPT));
  EXPECT_EQ(ErrnoOf(PeerPidfdOf(file.get()).status()), ENOTSOCK);
  EXPECT_THAT(PeerPidfdOf(tcp.get()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       EndsWith(": expected a unix socket")));
}

}  // namespace
}  // namespace brood
