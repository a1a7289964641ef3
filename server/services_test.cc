// SPDX-License-Identifier: Apache-2.0
#include "brood/server/services.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_split.h"
#include "absl/time/civil_time.h"
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
#include "brood/proc/unique_fd.h"
#include "brood/server/connection_handler.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;

absl::Time Soon() { return absl::Now() + absl::Seconds(20); }

int Serve(std::string_view name, Stream& stream) {
  absl::StatusOr<std::unique_ptr<ConnectionHandler>> service =
      MakeService(name);
  if (!service.ok()) {
    std::cerr << service.status().message() << "\n";
    return 2;
  }
  return (*service)->Handle(stream, {});
}

// A client by TCP, and the service at the other end in a process of its own.
struct Served {
  explicit Served(std::string_view name) {
    absl::StatusOr<Listener> listener =
        Listener::Open(*Address::Parse("127.0.0.1:0"));
    EXPECT_THAT(listener, IsOk());
    absl::StatusOr<Stream> connected = Stream::Connect(listener->address());
    EXPECT_THAT(connected, IsOk());
    client.emplace(*std::move(connected));
    absl::StatusOr<std::optional<Accepted>> accepted = listener->Accept();
    EXPECT_THAT(accepted, IsOk());
    Stream& stream = (*accepted)->stream;
    const std::array<int, 1> kept = {stream.fd()};
    absl::StatusOr<Child> child =
        Fork({.keep_fds = kept}, [&] { return Serve(name, stream); });
    EXPECT_THAT(child, IsOk());
    service.emplace(*std::move(child));
  }

  std::optional<Stream> client;
  std::optional<Child> service;
};

// Up to the end, or `size` bytes.
std::string ReadSome(Stream& stream, size_t size = size_t{1} << 30) {
  std::string text;
  std::vector<char> buffer(1 << 16);
  while (text.size() < size) {
    const absl::StatusOr<IoResult> got =
        stream.Read(absl::MakeSpan(buffer).first(
                        std::min(buffer.size(), size - text.size())),
                    Soon());
    EXPECT_THAT(got, IsOk());
    if (!got.ok() || got->end()) break;
    text.append(buffer.data(), *got->bytes());
  }
  return text;
}

// The first `size` bytes of chargen, from the words of the RFC.
std::string Characters(size_t size) {
  std::string printable;
  for (char c = ' '; c <= '~'; ++c) printable.push_back(c);
  printable += printable;
  std::string text;
  for (size_t line = 0; text.size() < size; ++line) {
    text += printable.substr(line % 95, 72) + "\r\n";
  }
  return text.substr(0, size);
}

TEST(ServicesTest, HeaderExample) {
  std::array<int, 2> ends;
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  Stream server{UniqueFd(ends[0]), Address()};
  { const UniqueFd client(ends[1]); }
  EXPECT_EQ(Serve("discard", server), 0);
  EXPECT_EQ(Serve("nothing", server), 2);
}

TEST(ServicesTest, KnowsEachByItsName) {
  for (const std::string_view name : kServiceNames) {
    const absl::StatusOr<std::unique_ptr<ConnectionHandler>> service =
        MakeService(name);
    ASSERT_THAT(service, IsOk()) << name;
    EXPECT_EQ((*service)->name(), name);
  }
}

TEST(ServicesTest, SaysWhichThereAreToOneWhoAsksForAnother) {
  EXPECT_THAT(MakeService("Echo\n").status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "service \"Echo\\n\": allowed are echo, discard, "
                       "chargen, daytime, time"));
}

TEST(ServicesTest, EchoAnswersByItsName) {
  Served served("echo");
  EXPECT_THAT(served.client->WriteAll("hello"), IsOk());
  EXPECT_THAT(served.client->ShutdownWrite(), IsOk());
  EXPECT_EQ(ReadSome(*served.client), "hello");
  EXPECT_THAT(served.service->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(ServicesTest, DiscardTakesEverythingAndSaysNothing) {
  Served served("discard");
  EXPECT_THAT(
      served.client->WriteAll(std::string(size_t{1} << 24, 'x'), Soon()),
      IsOk());
  EXPECT_THAT(served.client->ShutdownWrite(), IsOk());
  EXPECT_EQ(ReadSome(*served.client), "");
  EXPECT_THAT(served.service->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(ServicesTest, ChargenSendsRotatingLinesUntilTheClientLeaves) {
  Served served("chargen");
  // More than the kernel holds, and not a whole number of anything.
  constexpr size_t kSize = 20'000'003;
  EXPECT_TRUE(ReadSome(*served.client, kSize) == Characters(kSize));
  EXPECT_THAT(served.client->Close(), IsOk());
  EXPECT_THAT(served.service->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(ServicesTest, ChargenBeginsWithTheWholeAlphabet) {
  Served served("chargen");
  const std::vector<std::string> lines =
      absl::StrSplit(ReadSome(*served.client, 96 * 74), "\r\n");
  EXPECT_EQ(lines[0],
            " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]"
            "^_`abcdefg");
  EXPECT_EQ(lines[1],
            "!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]"
            "^_`abcdefgh");
  EXPECT_EQ(lines[94],
            "~ !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]"
            "^_`abcdef");
  EXPECT_EQ(lines[95], lines[0]);
  EXPECT_THAT(served.client->Close(), IsOk());
  EXPECT_THAT(served.service->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(ServicesTest, ChargenGoesOnForAClientThatHasFinishedSending) {
  Served served("chargen");
  EXPECT_THAT(served.client->ShutdownWrite(), IsOk());
  constexpr size_t kSize = 20'000'000;
  EXPECT_TRUE(ReadSome(*served.client, kSize) == Characters(kSize));
  EXPECT_THAT(served.client->Close(), IsOk());
  EXPECT_THAT(served.service->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

// It would wait for room with a service that waits for room.
TEST(ServicesTest, ChargenThrowsAwayWhatAClientSendsBeforeItReads) {
  Served served("chargen");
  EXPECT_THAT(
      served.client->WriteAll(std::string(size_t{1} << 25, 'x'), Soon()),
      IsOk());
  EXPECT_TRUE(ReadSome(*served.client, 1'000'000) == Characters(1'000'000));
  EXPECT_THAT(served.client->Close(), IsOk());
  EXPECT_THAT(served.service->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(ServicesTest, ChargenEndsForAClientThatNeverRead) {
  Served served("chargen");
  EXPECT_THAT(served.client->Close(), IsOk());
  EXPECT_THAT(served.service->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(ServicesTest, DaytimeIsALineThatAPersonReads) {
  const auto at = [](int year, int month, int day, int hour, int minute,
                     int second) {
    return DaytimeAnswer(absl::FromCivil(
        absl::CivilSecond(year, month, day, hour, minute, second),
        absl::UTCTimeZone()));
  };
  EXPECT_EQ(at(1982, 2, 22, 17, 37, 43),
            "Monday, February 22, 1982 17:37:43-UTC\r\n");
  EXPECT_EQ(at(2024, 2, 29, 0, 0, 0),
            "Thursday, February 29, 2024 00:00:00-UTC\r\n");
  EXPECT_EQ(at(2023, 12, 31, 23, 59, 59),
            "Sunday, December 31, 2023 23:59:59-UTC\r\n");
}

TEST(ServicesTest, TimeIsWhatTheRfcSaysOfFiveMoments) {
  const auto at = [](int year, int month, int day) {
    const std::string answer = TimeAnswer(absl::FromCivil(
        absl::CivilSecond(year, month, day), absl::UTCTimeZone()));
    EXPECT_EQ(answer.size(), 4);
    uint32_t seconds = 0;
    for (const char c : answer) {
      seconds = seconds << 8 | static_cast<unsigned char>(c);
    }
    return seconds;
  };
  EXPECT_EQ(at(1970, 1, 1), 2'208'988'800u);
  EXPECT_EQ(at(1976, 1, 1), 2'398'291'200u);
  EXPECT_EQ(at(1980, 1, 1), 2'524'521'600u);
  EXPECT_EQ(at(1983, 5, 1), 2'629'584'000u);
  EXPECT_EQ(at(1858, 11, 17), static_cast<uint32_t>(-1'297'728'000));
  // And begins again in 2036.
  EXPECT_EQ(TimeAnswer(absl::FromUnixSeconds(2'085'978'496)),
            std::string(4, '\0'));
}

TEST(ServicesTest, AnswersOnceAndClosesForAClientThatAlsoSpeaks) {
  for (const std::string_view name : {"daytime", "time"}) {
    Served served(name);
    const absl::Time before = absl::Now();
    // Unread bytes at the close would cost the answer.
    EXPECT_THAT(served.client->WriteAll("GET / HTTP/1.0\r\n\r\n"), IsOk());
    const std::string answer = ReadSome(*served.client);
    EXPECT_THAT(served.client->Close(), IsOk());
    EXPECT_THAT(served.service->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
    bool possible = false;
    // It took one of the seconds since; the first may have been the one before.
    for (absl::Time t = before; t <= absl::Now() + absl::Seconds(1);
         t += absl::Seconds(1)) {
      possible |= answer == (name == "time" ? TimeAnswer(t) : DaytimeAnswer(t));
    }
    EXPECT_TRUE(possible) << answer;
  }
}

TEST(ServicesTest, WaitsOnlyALittleForAClientThatNeverCloses) {
  Served served("daytime");
  EXPECT_NE(ReadSome(*served.client), "");
  // The client is still there.
  const absl::StatusOr<bool> ended =
      PollUntil(served.service->fd(), POLLIN, Soon());
  EXPECT_THAT(ended, IsOkAndHolds(true));
  EXPECT_THAT(served.service->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(ServicesTest, ReportsAClientThatBreaksTheConnection) {
  Served served("discard");
  const linger reset = {.l_onoff = 1, .l_linger = 0};
  ASSERT_EQ(setsockopt(served.client->fd(), SOL_SOCKET, SO_LINGER, &reset,
                       sizeof(reset)),
            0);
  EXPECT_THAT(served.client->Close(), IsOk());
  EXPECT_THAT(served.service->Wait(), IsOkAndHolds(ExitStatus::Exited(1)));
}

}  // namespace
}  // namespace brood
