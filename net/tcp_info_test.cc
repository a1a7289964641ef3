// SPDX-License-Identifier: Apache-2.0
#include "brood/net/tcp_info.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
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
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

absl::Time Soon() { return absl::Now() + absl::Minutes(1); }

absl::StatusOr<Listener> Open(const Listener::Options& options = {}) {
  return Listener::Open(*Address::Parse("127.0.0.1:0"), options);
}

struct Pair {
  Stream client;
  Stream server;
};

Pair Connected() {
  absl::StatusOr<Listener> listener = Open();
  EXPECT_THAT(listener, IsOk());
  absl::StatusOr<Stream> client = Stream::Connect(listener->address());
  EXPECT_THAT(client, IsOk());
  absl::StatusOr<std::optional<Accepted>> accepted = listener->Accept();
  EXPECT_THAT(accepted, IsOk());
  return {.client = *std::move(client),
          .server = (**std::move(accepted)).stream};
}

// All of it, however it arrives.
void ReadExactly(Stream& stream, size_t size) {
  std::string buffer(size, '\0');
  for (absl::Span<char> rest = absl::MakeSpan(buffer); !rest.empty();) {
    const absl::StatusOr<IoResult> got = stream.Read(rest, Soon());
    ASSERT_THAT(got, IsOk());
    ASSERT_TRUE(got->bytes().has_value());
    rest.remove_prefix(*got->bytes());
  }
}

// What is so at last: acknowledgements are on their own way.
template <typename Holds>
TcpInfo Await(const Stream& stream, Holds holds) {
  const Deadline end = Soon();
  for (;;) {
    const absl::StatusOr<TcpInfo> info = TcpInfoOf(stream.fd());
    EXPECT_THAT(info, IsOk());
    if (!info.ok()) return TcpInfo();
    if (holds(*info) || end.Left() == absl::ZeroDuration()) return *info;
  }
}

std::string Describe(const Stream& stream) {
  const absl::StatusOr<TcpInfo> info = TcpInfoOf(stream.fd());
  if (!info.ok()) return std::string(info.status().message());
  return absl::StrCat(info->state, ", ", info->segments_retransmitted,
                      " sent again, ", info->bytes_received.value_or(0),
                      " bytes received, the last ",
                      absl::FormatDuration(info->since_data_received), " ago");
}

TEST(TcpInfoTest, HeaderExample) {
  auto [client, server] = Connected();
  EXPECT_THAT(client.WriteAll("hello"), IsOk());
  ReadExactly(server, 5);
  EXPECT_THAT(Describe(server),
              MatchesRegex("ESTABLISHED, [0-9]+ sent again, 5 bytes received, "
                           "the last [0-9.]+(ms|s|m)? ago"));
}

TEST(TcpInfoTest, CountsBytesBothWays) {
  auto [client, server] = Connected();
  const std::string question(100'000, 'q');
  const std::string answer(7, 'a');
  EXPECT_THAT(client.WriteAll(question), IsOk());
  ReadExactly(server, question.size());
  EXPECT_THAT(server.WriteAll(answer), IsOk());
  ReadExactly(client, answer.size());

  const TcpInfo info = Await(client, [](const TcpInfo& now) {
    return now.segments_unacknowledged == 0 && now.bytes_not_sent == 0u;
  });
  EXPECT_EQ(info.state, TcpState::kEstablished);
  EXPECT_EQ(info.segments_unacknowledged, 0u);
  EXPECT_EQ(info.bytes_not_sent, 0u);
  ASSERT_TRUE(info.bytes_sent.has_value());
  ASSERT_TRUE(info.bytes_retransmitted.has_value());
  EXPECT_EQ(*info.bytes_sent - *info.bytes_retransmitted, question.size());
  // And the SYN.
  EXPECT_EQ(info.bytes_acknowledged, question.size() + 1);
  EXPECT_EQ(info.bytes_received, answer.size());
  ASSERT_TRUE(info.rtt.has_value());
  EXPECT_GT(*info.rtt, absl::ZeroDuration());
  EXPECT_LT(*info.rtt, absl::Minutes(1));
  EXPECT_TRUE(info.rtt_variation.has_value());

  const absl::StatusOr<TcpInfo> other = TcpInfoOf(server.fd());
  ASSERT_THAT(other, IsOk());
  EXPECT_EQ(other->bytes_received, question.size());
}

TEST(TcpInfoTest, SaysWhatThePeerDoesNotTake) {
  auto [client, server] = Connected();
  const std::string chunk(65536, 'x');
  size_t written = 0;
  for (;;) {
    const absl::StatusOr<IoResult> put = client.TryWrite(chunk);
    ASSERT_THAT(put, IsOk());
    if (put->would_block()) break;
    written += *put->bytes();
  }
  const TcpInfo info = Await(client, [](const TcpInfo& now) {
    return now.bytes_not_sent.value_or(0) > 0 &&
           now.bytes_acknowledged.value_or(0) > 1;
  });
  EXPECT_GT(info.bytes_not_sent, 0u);
  EXPECT_LT(*info.bytes_acknowledged, written);
  EXPECT_GT(*info.bytes_acknowledged, 1u);
}

TEST(TcpInfoTest, SaysHowLongNothingCame) {
  auto [client, server] = Connected();
  EXPECT_THAT(client.WriteAll("x"), IsOk());
  ReadExactly(server, 1);
  const absl::Duration before = MonotonicNow();
  const TcpInfo info = Await(server, [](const TcpInfo& now) {
    return now.since_data_received >= absl::Milliseconds(50);
  });
  EXPECT_GE(info.since_data_received, absl::Milliseconds(50));
  // Ticks of the kernel's clock may be 10 ms.
  EXPECT_GE(MonotonicNow() - before, absl::Milliseconds(30));
  EXPECT_THAT(client.WriteAll("x"), IsOk());
  ReadExactly(server, 1);
  EXPECT_LT(TcpInfoOf(server.fd())->since_data_received,
            MonotonicNow() - before);
  EXPECT_GE(TcpInfoOf(server.fd())->since_data_sent, absl::Milliseconds(50));
}

TEST(TcpInfoTest, CanBeHadAfterThePeerHasEndedOrReset) {
  auto [client, server] = Connected();
  EXPECT_THAT(client.WriteAll("hello"), IsOk());
  EXPECT_THAT(client.ShutdownWrite(), IsOk());
  ReadExactly(server, 5);
  const TcpInfo ended = Await(server, [](const TcpInfo& now) {
    return now.state == TcpState::kCloseWait;
  });
  EXPECT_EQ(ended.state, TcpState::kCloseWait);
  EXPECT_EQ(ended.bytes_received, 6u);  // And the FIN.

  auto [other_client, other_server] = Connected();
  EXPECT_THAT(other_client.WriteAll("hello"), IsOk());
  ReadExactly(other_server, 5);
  EXPECT_THAT(other_client.Reset(), IsOk());
  const TcpInfo reset = Await(other_server, [](const TcpInfo& now) {
    return now.state == TcpState::kClosed;
  });
  EXPECT_EQ(reset.state, TcpState::kClosed);
  EXPECT_EQ(reset.bytes_received, 5u);
  // To have looked has not taken the error away.
  char byte;
  EXPECT_EQ(ErrnoOf(other_server.Read(absl::MakeSpan(&byte, 1)).status()),
            ECONNRESET);
}

// Of its times the kernel would say how long the machine runs.
TEST(TcpInfoTest, KnowsNothingOfWhatWasNeverConnected) {
  const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const absl::Status lonely = ErrnoStatus(
      ENOTCONN, absl::StrCat("TCP_INFO of descriptor ", socket.get()));
  EXPECT_EQ(TcpInfoOf(socket.get()).status(), lonely);
  // Bound, so that nobody else can be there, but not listening.
  const Address wish = *Address::Parse("127.0.0.1:0");
  const UniqueFd bound(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(bind(bound.get(), wish.sockaddr(), wish.sockaddr_length()), 0);
  const absl::StatusOr<Address> nobody = LocalAddressOf(bound.get());
  ASSERT_THAT(nobody, IsOk());
  ASSERT_EQ(
      connect(socket.get(), nobody->sockaddr(), nobody->sockaddr_length()), -1);
  EXPECT_EQ(TcpInfoOf(socket.get()).status(), lonely);
}

TEST(TcpInfoTest, CanBeHadOfAServersEndThatWasResetBeforeItsFirstByte) {
  auto [client, server] = Connected();
  EXPECT_THAT(client.Reset(), IsOk());
  EXPECT_THAT(PollUntil(server.fd(), 0, Soon()), IsOkAndHolds(true));
  const absl::StatusOr<TcpInfo> info = TcpInfoOf(server.fd());
  ASSERT_THAT(info, IsOk());
  EXPECT_EQ(info->state, TcpState::kClosed);
  EXPECT_EQ(info->bytes_received, 0u);
}

TEST(TcpInfoTest, CountsNoTimeBeforeTheConnectionIsMade) {
  const absl::StatusOr<Listener> listener = Open({.backlog = 0});
  ASSERT_THAT(listener, IsOk());
  // Whom a full backlog keeps waiting.
  std::vector<UniqueFd> clients;
  do {
    ASSERT_LT(clients.size(), 16u);
    clients.emplace_back(
        socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    ASSERT_EQ(connect(clients.back().get(), listener->address().sockaddr(),
                      listener->address().sockaddr_length()),
              -1);
    ASSERT_EQ(errno, EINPROGRESS);
  } while (*PollUntil(clients.back().get(), POLLOUT,
                      absl::Now() + absl::Milliseconds(20)));
  const absl::StatusOr<TcpInfo> info = TcpInfoOf(clients.back().get());
  ASSERT_THAT(info, IsOk());
  EXPECT_EQ(info->state, TcpState::kSynSent);
  EXPECT_EQ(info->since_data_sent, absl::ZeroDuration());
  EXPECT_EQ(info->since_data_received, absl::ZeroDuration());
  EXPECT_EQ(info->segments_unacknowledged, 1u);  // The SYN.
}

TEST(TcpInfoTest, KnowsNothingOfOtherSockets) {
  std::array<int, 2> ends;
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  const UniqueFd one(ends[0]);
  const UniqueFd other(ends[1]);
  const absl::Status local = TcpInfoOf(one.get()).status();
  EXPECT_THAT(local, StatusIs(absl::StatusCode::kUnimplemented));
  EXPECT_EQ(ErrnoOf(local), EOPNOTSUPP);
  EXPECT_THAT(local.message(),
              HasSubstr(absl::StrCat("TCP_INFO of descriptor ", one.get())));
  EXPECT_EQ(ErrnoOf(ListenQueueOf(one.get()).status()), EOPNOTSUPP);
  EXPECT_EQ(ErrnoOf(TcpInfoOf(-1).status()), EBADF);

  const absl::StatusOr<Listener> listener = Open();
  ASSERT_THAT(listener, IsOk());
  EXPECT_EQ(TcpInfoOf(listener->fd()).status(),
            absl::InvalidArgumentError(
                absl::StrCat("TCP_INFO of descriptor ", listener->fd(),
                             ": expected a connection and not a listener")));
  auto [client, server] = Connected();
  EXPECT_EQ(
      ListenQueueOf(client.fd()).status(),
      absl::InvalidArgumentError(absl::StrCat(
          "TCP_INFO of descriptor ", client.fd(), ": expected a listener")));
}

TEST(TcpInfoTest, NamesEveryState) {
  EXPECT_EQ(absl::StrCat(TcpState::kEstablished), "ESTABLISHED");
  EXPECT_EQ(absl::StrCat(TcpState::kClosing), "CLOSING");
  EXPECT_EQ(NameOf(TcpState{77}), "unknown");
}

TEST(ListenQueueTest, CountsWhoWaitsAndSaysHowManyMay) {
  absl::StatusOr<Listener> listener = Open({.backlog = 5});
  ASSERT_THAT(listener, IsOk());
  std::vector<Stream> clients;
  for (uint32_t waiting = 1; waiting <= 3; ++waiting) {
    absl::StatusOr<Stream> client = Stream::Connect(listener->address());
    ASSERT_THAT(client, IsOk());
    clients.push_back(*std::move(client));
    // The last acknowledgement of the handshake makes it wait.
    const Deadline end = Soon();
    while (ListenQueueOf(listener->fd())->depth < waiting &&
           end.Left() > absl::ZeroDuration()) {
    }
    const absl::StatusOr<ListenQueue> queue = ListenQueueOf(listener->fd());
    ASSERT_THAT(queue, IsOk());
    EXPECT_EQ(queue->depth, waiting);
    EXPECT_EQ(queue->limit, 5u);
  }
  EXPECT_THAT(listener->Accept(), IsOk());
  EXPECT_EQ(ListenQueueOf(listener->fd())->depth, 2u);
}

}  // namespace
}  // namespace brood
