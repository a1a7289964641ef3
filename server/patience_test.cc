// SPDX-License-Identifier: Apache-2.0
#include "brood/server/patience.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/socket_options.h"
#include "brood/net/stream.h"
#include "brood/net/tcp_info.h"
#include "brood/proc/posix.h"
#include "brood/server/connection_log.h"
#include "brood/server/poll_loop.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;

std::optional<Ended> WhyItIsToEnd(const Stream& stream, Progress& progress) {
  const Patience patience = {.handler_timeout = absl::Minutes(5),
                             .idle_timeout = absl::Seconds(30)};
  return progress.LimitOf(patience, stream.fd(), MonotonicNow());
}

struct Pair {
  Stream client;
  Stream server;
};

Pair Connected() {
  absl::StatusOr<Listener> listener =
      Listener::Open(*Address::Parse("127.0.0.1:0"));
  EXPECT_THAT(listener, IsOk());
  absl::StatusOr<Stream> client = Stream::Connect(listener->address());
  EXPECT_THAT(client, IsOk());
  absl::StatusOr<std::optional<Accepted>> accepted = listener->Accept();
  EXPECT_THAT(accepted, IsOk());
  return {.client = *std::move(client),
          .server = (**std::move(accepted)).stream};
}

std::optional<EndCause> CauseOf(const std::optional<Ended>& ended) {
  if (!ended.has_value()) return std::nullopt;
  return ended->cause;
}

TEST(PatienceTest, HeaderExample) {
  const auto [client, server] = Connected();
  Progress now(MonotonicNow());
  EXPECT_EQ(WhyItIsToEnd(server, now), std::nullopt);
  Progress long_ago(MonotonicNow() - absl::Hours(1));
  EXPECT_EQ(CauseOf(WhyItIsToEnd(server, long_ago)), EndCause::kHandlerTimeout);
}

TEST(PatienceTest, SpeaksOfSilenceAndSlownessOnlyWhereTcpIsAsked) {
  const auto [client, server] = Connected();
  const Patience idle = {.idle_timeout = absl::ZeroDuration()};
  Progress progress;
  EXPECT_EQ(CauseOf(progress.LimitOf(idle, server.fd(), absl::Seconds(1))),
            EndCause::kIdle);
  EXPECT_EQ(progress.LimitOf(idle, -1, absl::Seconds(1)), std::nullopt);
  EXPECT_EQ(progress.LimitOf({}, server.fd(), absl::Hours(1)), std::nullopt);
}

TEST(PatienceTest, WhatAClientWaitedBeforeItsTurnIsNotItsSilence) {
  auto [client, server] = Connected();
  constexpr absl::Duration kSilence = absl::Milliseconds(2);
  while (true) {
    const absl::StatusOr<TcpInfo> info = TcpInfoOf(server.fd());
    ASSERT_TRUE(info.ok());
    if (std::min(info->since_data_received, info->since_data_sent) >=
        kSilence) {
      break;
    }
  }
  const Patience patience = {.idle_timeout = kSilence};
  Progress late(absl::Seconds(100));
  EXPECT_EQ(
      late.LimitOf(patience, server.fd(), absl::Seconds(100) + kSilence / 2),
      std::nullopt);
  EXPECT_EQ(CauseOf(late.LimitOf(patience, server.fd(), absl::Seconds(101))),
            EndCause::kIdle);
}

TEST(PatienceTest, SaysWhenALimitCouldBeMetAndLooksAtNothingBefore) {
  const auto [client, server] = Connected();
  const Patience patience = {
      .handler_timeout = absl::Seconds(100),
      .idle_timeout = absl::Seconds(60),
      .min_rate = Patience::MinRate{.bytes = 0, .period = absl::Seconds(10)}};
  EXPECT_EQ(patience.shortest(), absl::Seconds(10));
  Progress progress(absl::Seconds(1000));
  EXPECT_EQ(progress.LimitOf(patience, server.fd(), absl::Seconds(1001)),
            std::nullopt);
  EXPECT_EQ(progress.look_at(), absl::Seconds(1010));
  EXPECT_EQ(progress.LimitOf({.handler_timeout = absl::ZeroDuration()},
                             server.fd(), absl::Seconds(1009)),
            std::nullopt);
  EXPECT_EQ(progress.LimitOf(patience, server.fd(), absl::Seconds(1095)),
            std::nullopt);
  EXPECT_EQ(progress.look_at(), absl::Seconds(1100));
  EXPECT_EQ(
      CauseOf(progress.LimitOf(patience, server.fd(), absl::Seconds(1100))),
      EndCause::kHandlerTimeout);
}

TEST(PatienceTest, IsNeverToBeLookedAtWithoutALimit) {
  const auto [client, server] = Connected();
  EXPECT_EQ(Patience().shortest(), absl::InfiniteDuration());
  Progress progress;
  EXPECT_EQ(progress.LimitOf({}, server.fd(), absl::Seconds(1)), std::nullopt);
  EXPECT_EQ(progress.look_at(), absl::InfiniteDuration());
}

TEST(PatienceTest, LooksAgainForADescriptorThatIsOnItsWay) {
  const auto [client, server] = Connected();
  const Patience patience = {.idle_timeout = absl::ZeroDuration()};
  Progress progress;
  EXPECT_EQ(progress.LimitOf(patience, -1, absl::Seconds(1)), std::nullopt);
  EXPECT_EQ(CauseOf(progress.LimitOf(patience, server.fd(), absl::Seconds(2))),
            EndCause::kIdle);
}

TEST(PatienceTest, CountsTheBytesOfEachPeriodForItself) {
  auto [client, server] = Connected();
  const Patience patience = {
      .min_rate = Patience::MinRate{.bytes = 3, .period = absl::Seconds(10)}};
  Progress progress;
  ASSERT_THAT(client.WriteAll("abc"), IsOk());
  std::array<char, 3> buffer;
  ASSERT_THAT(server.Read(absl::MakeSpan(buffer)), IsOk());
  const auto cause_at = [&](int second) {
    return CauseOf(
        progress.LimitOf(patience, server.fd(), absl::Seconds(second)));
  };
  EXPECT_EQ(cause_at(9), std::nullopt);
  EXPECT_EQ(cause_at(10), std::nullopt);
  EXPECT_EQ(cause_at(19), std::nullopt);
  EXPECT_EQ(cause_at(20), EndCause::kTooSlow);
}

TEST(PatienceTest, LooksOftenEnoughForItsShortestLimit) {
  EXPECT_EQ(Patience().tick(), absl::Milliseconds(250));
  EXPECT_EQ(Patience({.idle_timeout = absl::Milliseconds(80)}).tick(),
            absl::Milliseconds(10));
  EXPECT_EQ(Patience({.handler_timeout = absl::Milliseconds(8)}).tick(),
            absl::Milliseconds(5));
}

int OptionOf(const Stream& stream, int level, int option) {
  int value = -1;
  socklen_t length = sizeof(value);
  EXPECT_EQ(getsockopt(stream.fd(), level, option, &value, &length), 0);
  return value;
}

TEST(PatienceTest,
     AsksTheKernelOfAClientThatSendsNoMoreUnlessThatIsAskedAlready) {
  PollLoop loop;
  auto [stays, of_stays] = Connected();
  auto [ends, of_ends] = Connected();
  auto [asked, of_asked] = Connected();
  auto [leaver, last] = Connected();
  ASSERT_THAT(SetSocketOptions(of_asked.fd(),
                               {.keep_alive = {{.idle = absl::Seconds(77)}}},
                               *LocalAddressOf(of_asked.fd())),
              IsOk());
  bool called_too_soon = false;
  for (const Stream* stream : {&of_stays, &of_ends, &of_asked}) {
    CallWhenClientIsGone(loop, stream->fd(), absl::ZeroDuration(), [&] {
      called_too_soon = true;
      return absl::OkStatus();
    });
  }
  CallWhenClientIsGone(loop, last.fd(), absl::ZeroDuration(), [&] {
    loop.Stop();
    return absl::OkStatus();
  });
  ASSERT_THAT(ends.ShutdownWrite(), IsOk());
  ASSERT_THAT(asked.ShutdownWrite(), IsOk());
  ASSERT_THAT(leaver.Reset(), IsOk());
  EXPECT_THAT(loop.Run(), IsOk());
  EXPECT_FALSE(called_too_soon);
  EXPECT_EQ(OptionOf(of_stays, SOL_SOCKET, SO_KEEPALIVE), 0);
  EXPECT_EQ(OptionOf(of_ends, SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(OptionOf(of_ends, IPPROTO_TCP, TCP_KEEPIDLE), 5);
  EXPECT_EQ(OptionOf(of_ends, IPPROTO_TCP, TCP_KEEPINTVL), 5);
  EXPECT_EQ(OptionOf(of_asked, IPPROTO_TCP, TCP_KEEPIDLE), 77);
}

TEST(PatienceTest, CallsWhenAClientHasGoneAndNotWhenItOnlySaidTheEnd) {
  PollLoop loop;
  auto [client, server] = Connected();
  auto [leaver, other] = Connected();
  bool called_too_soon = false;
  CallWhenClientIsGone(loop, server.fd(), absl::ZeroDuration(), [&] {
    called_too_soon = true;
    return absl::OkStatus();
  });
  CallWhenClientIsGone(loop, other.fd(), absl::ZeroDuration(), [&] {
    loop.Stop();
    return absl::OkStatus();
  });
  ASSERT_THAT(client.ShutdownWrite(), IsOk());
  ASSERT_THAT(leaver.Reset(), IsOk());
  EXPECT_THAT(loop.Run(), IsOk());
  EXPECT_FALSE(called_too_soon);
}

}  // namespace
}  // namespace brood
