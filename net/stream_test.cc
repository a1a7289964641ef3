// SPDX-License-Identifier: Apache-2.0
#include "brood/net/stream.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/tests/deny_syscalls.h"
#include "brood/tests/in_child.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// Longer than any test takes; a test that runs into it has failed.
absl::Time Soon() { return absl::Now() + absl::Minutes(5); }

absl::Status Echo(Stream& stream) {
  std::array<char, 4096> buffer;
  for (;;) {
    const absl::StatusOr<IoResult> got = stream.Read(absl::MakeSpan(buffer));
    if (!got.ok()) return got.status();
    if (got->end()) return stream.ShutdownWrite();
    const std::string_view bytes(buffer.data(), *got->bytes());
    if (absl::Status s = stream.WriteAll(bytes); !s.ok()) return s;
  }
}

// All that comes until the end, or the error that came instead of the end.
absl::StatusOr<std::string> ReadToEnd(
    Stream& stream, absl::Time deadline = absl::InfiniteFuture()) {
  std::string all;
  std::array<char, 65536> buffer;
  for (;;) {
    const absl::StatusOr<IoResult> got =
        stream.Read(absl::MakeSpan(buffer), deadline);
    if (!got.ok()) return got.status();
    if (got->end()) return all;
    all.append(buffer.data(), *got->bytes());
  }
}

absl::StatusOr<IoResult> ReadByte(
    Stream& stream, absl::Time deadline = absl::InfiniteFuture()) {
  char byte;
  return stream.Read(absl::MakeSpan(&byte, 1), deadline);
}

absl::StatusOr<IoResult> TryReadByte(Stream& stream) {
  char byte;
  return stream.TryRead(absl::MakeSpan(&byte, 1));
}

// Writes until the kernel takes no more; returns how much it took.
size_t Fill(Stream& stream) {
  const std::string chunk(65536, 'x');
  size_t total = 0;
  for (;;) {
    const absl::StatusOr<IoResult> put = stream.TryWrite(chunk);
    EXPECT_THAT(put, IsOk());
    if (!put.ok() || !put->bytes().has_value()) return total;
    total += *put->bytes();
  }
}

// An address to listen on that no other test uses.
Address Somewhere(std::string_view family) {
  if (family == "v4") return *Address::Parse("127.0.0.1:0");
  if (family == "v6") return *Address::Parse("[::1]:0");
  // A process id would not do: two sandboxes may have the same one, and share
  // the abstract names.
  std::random_device random;
  return *Address::UnixAbstract(
      absl::StrCat("brood/stream_test/", random(), "/", random()));
}

// Both ends of one connection.
struct Pair {
  Stream client;
  Stream server;
};

Pair Connected(std::string_view family) {
  absl::StatusOr<Listener> listener = Listener::Open(Somewhere(family));
  EXPECT_THAT(listener, IsOk());
  absl::StatusOr<Stream> client = Stream::Connect(listener->address());
  EXPECT_THAT(client, IsOk());
  absl::StatusOr<std::optional<Accepted>> accepted = listener->Accept();
  EXPECT_THAT(accepted, IsOk());
  return Pair{.client = *std::move(client),
              .server = (**std::move(accepted)).stream};
}

// Returns when the connection is gone in both directions.
void AwaitHangUp(const Stream& stream) {
  EXPECT_THAT(PollUntil(stream.fd(), 0, Soon()), IsOkAndHolds(true));
}

// A signal every `interval`, whose handler interrupts what blocks.
class Storm {
 public:
  explicit Storm(absl::Duration interval = absl::Microseconds(100)) {
    struct sigaction action = {};
    action.sa_handler = [](int) {};
    EXPECT_EQ(sigaction(SIGALRM, &action, &before_), 0);
    const timeval every = absl::ToTimeval(interval);
    const itimerval timer = {.it_interval = every, .it_value = every};
    EXPECT_EQ(setitimer(ITIMER_REAL, &timer, nullptr), 0);
  }
  ~Storm() {
    constexpr itimerval kNever = {};
    EXPECT_EQ(setitimer(ITIMER_REAL, &kNever, nullptr), 0);
    EXPECT_EQ(sigaction(SIGALRM, &before_, nullptr), 0);
  }
  Storm(const Storm&) = delete;
  Storm& operator=(const Storm&) = delete;

 private:
  struct sigaction before_ = {};
};

// Text that is different everywhere.
std::string Text(size_t size) {
  std::string text(size, '\0');
  for (size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<char>(i * 31 >> 7);
  }
  return text;
}

class StreamTest : public testing::TestWithParam<std::string_view> {
 protected:
  void SetUp() override {
    if (GetParam() == "v6" && !Listener::Open(Somewhere("v6")).ok()) {
      GTEST_SKIP() << "this machine has no ::1";
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Families, StreamTest,
                         testing::Values("v4", "v6", "unix"),
                         [](const auto& test) {
                           return std::string(test.param);
                         });

TEST(IoResultTest, IsExactlyOneOfBytesWouldBlockAndEnd) {
  const IoResult bytes = IoResult::Bytes(7);
  EXPECT_EQ(bytes.bytes(), 7u);
  EXPECT_FALSE(bytes.would_block());
  EXPECT_FALSE(bytes.end());

  const IoResult would_block = IoResult::WouldBlock();
  EXPECT_EQ(would_block.bytes(), std::nullopt);
  EXPECT_TRUE(would_block.would_block());
  EXPECT_FALSE(would_block.end());

  const IoResult end = IoResult::End();
  EXPECT_EQ(end.bytes(), std::nullopt);
  EXPECT_FALSE(end.would_block());
  EXPECT_TRUE(end.end());
}

TEST_P(StreamTest, HeaderExample) {
  auto [client, server] = Connected(GetParam());
  EXPECT_THAT(client.WriteAll("hello"), IsOk());
  EXPECT_THAT(client.ShutdownWrite(), IsOk());
  EXPECT_THAT(Echo(server), IsOk());
  EXPECT_THAT(ReadToEnd(client), IsOkAndHolds("hello"));
}

TEST_P(StreamTest, TellsBytesFromNotNowFromTheEnd) {
  auto [client, server] = Connected(GetParam());
  EXPECT_THAT(TryReadByte(server), IsOkAndHolds(IoResult::WouldBlock()));
  EXPECT_THAT(client.TryWrite("a"), IsOkAndHolds(IoResult::Bytes(1)));
  EXPECT_THAT(ReadByte(server), IsOkAndHolds(IoResult::Bytes(1)));
  EXPECT_THAT(TryReadByte(server), IsOkAndHolds(IoResult::WouldBlock()));
  EXPECT_THAT(client.Close(), IsOk());
  EXPECT_THAT(ReadByte(server), IsOkAndHolds(IoResult::End()));
  EXPECT_THAT(TryReadByte(server), IsOkAndHolds(IoResult::End()));
}

TEST_P(StreamTest, ReadsInBothDirectionsAfterHalfClose) {
  auto [client, server] = Connected(GetParam());
  EXPECT_THAT(client.WriteAll("question"), IsOk());
  EXPECT_THAT(client.ShutdownWrite(), IsOk());
  EXPECT_THAT(ReadToEnd(server), IsOkAndHolds("question"));
  EXPECT_THAT(TryReadByte(client), IsOkAndHolds(IoResult::WouldBlock()));
  EXPECT_THAT(server.WriteAll("answer"), IsOk());
  EXPECT_THAT(server.Close(), IsOk());
  EXPECT_THAT(ReadToEnd(client), IsOkAndHolds("answer"));
}

TEST_P(StreamTest, ReportsAResetAsAnErrorAndNotAsTheEnd) {
  auto [client, server] = Connected(GetParam());
  EXPECT_THAT(server.WriteAll("never read"), IsOk());
  EXPECT_THAT(client.Reset(), IsOk());
  EXPECT_EQ(client.fd(), -1);

  const absl::Status reset = ReadByte(server).status();
  EXPECT_EQ(ErrnoOf(reset), ECONNRESET) << reset;
  EXPECT_EQ(reset.message(),
            absl::StrCat("recv from ", server.peer(),
                         ": Connection reset by peer (ECONNRESET)"));
}

TEST_P(StreamTest, TakesACloseThatLeftSomethingUnreadForAReset) {
  auto [client, server] = Connected(GetParam());
  EXPECT_THAT(client.WriteAll("the last word"), IsOk());
  EXPECT_THAT(server.WriteAll("never read"), IsOk());
  EXPECT_THAT(PollUntil(client.fd(), POLLIN, Soon()), IsOkAndHolds(true));
  EXPECT_THAT(client.Close(), IsOk());
  AwaitHangUp(server);
  std::array<char, 64> buffer;
  EXPECT_THAT(server.Read(absl::MakeSpan(buffer)),
              IsOkAndHolds(IoResult::Bytes(13)));
  EXPECT_EQ(ErrnoOf(ReadByte(server).status()), ECONNRESET);
}

TEST_P(StreamTest, NeverTakesAResetForTheEndHoweverOftenItIsAsked) {
  auto [client, server] = Connected(GetParam());
  EXPECT_THAT(server.WriteAll("never read"), IsOk());
  EXPECT_THAT(client.Reset(), IsOk());
  EXPECT_EQ(ErrnoOf(ReadByte(server).status()), ECONNRESET);
  char byte;
  const absl::Span<char> room(&byte, 1);
  EXPECT_EQ(ErrnoOf(server.Read(room).status()), ECONNRESET);
  EXPECT_EQ(ErrnoOf(server.TryRead(room).status()), ECONNRESET);
  EXPECT_EQ(ErrnoOf(server.ReadV({room}).status()), ECONNRESET);
  EXPECT_EQ(ErrnoOf(server.TryReadV({room}).status()), ECONNRESET);
  Stream moved = std::move(server);
  EXPECT_EQ(ErrnoOf(TryReadByte(moved).status()), ECONNRESET);
}

TEST_P(StreamTest, RemembersAResetThatAWriteWasTold) {
  for (const bool gathered : {false, true}) {
    for (const bool blocking : {false, true}) {
      auto [client, server] = Connected(GetParam());
      EXPECT_THAT(client.WriteAll("a"), IsOk());
      EXPECT_THAT(server.WriteAll("never read"), IsOk());
      EXPECT_THAT(client.Reset(), IsOk());
      AwaitHangUp(server);
      const absl::Status told =
          gathered   ? blocking ? server.WriteAllV({"x"})
                                : server.TryWriteV({"x"}).status()
            : blocking ? server.WriteAll("x")
                     : server.TryWrite("x").status();
      // Unix keeps the reset for whoever reads.
      EXPECT_EQ(ErrnoOf(told), GetParam() == "unix" ? EPIPE : ECONNRESET);
      EXPECT_THAT(ReadByte(server), IsOkAndHolds(IoResult::Bytes(1)));
      EXPECT_EQ(ErrnoOf(ReadByte(server).status()), ECONNRESET);
      EXPECT_EQ(ErrnoOf(ReadByte(server).status()), ECONNRESET);
    }
  }
}

// What the writer is told, and what the reader finds at an end.
TEST_P(StreamTest, RemembersOnlyWhatEndsAConnection) {
  const auto read_after = [](std::string_view family, int error) {
    return InChild([&] {
      auto [client, server] = Connected(family);
      DenySyscalls({SYS_sendto}, error);
      if (ErrnoOf(server.TryWrite("x").status()) != error) return 255;
      if (server.lost() != 0 && server.lost() != error) return 254;
      if (!client.ShutdownWrite().ok()) return 253;
      const absl::StatusOr<IoResult> got = ReadByte(server);
      if (!got.ok()) return ErrnoOf(got.status());
      return got->end() ? 0 : 252;
    });
  };
  for (const int error : {ECONNRESET, ECONNABORTED, ECONNREFUSED, ETIMEDOUT,
                          EHOSTUNREACH, EHOSTDOWN, ENETUNREACH, ENETDOWN,
                          ENONET, ENOPROTOOPT, EOPNOTSUPP, EPROTO}) {
    EXPECT_EQ(read_after(GetParam(), error), error);
  }
  for (const int error : {EFAULT, EPERM, EACCES, EMSGSIZE, EINVAL, ENOMEM,
                          ENOBUFS, EPIPE, ENOTCONN}) {
    EXPECT_EQ(read_after(GetParam(), error), 0) << error;
  }
}

TEST_P(StreamTest, ReadsTheEndOfAPeerThatReadsNoMore) {
  auto [client, server] = Connected(GetParam());
  EXPECT_THAT(client.WriteAll("a"), IsOk());
  EXPECT_THAT(client.Close(), IsOk());
  // The first may still be taken, and be what the peer answers with a reset.
  while (server.WriteAll("x").ok()) {
  }
  EXPECT_EQ(ErrnoOf(server.WriteAll("x")), EPIPE);
  EXPECT_THAT(ReadByte(server), IsOkAndHolds(IoResult::Bytes(1)));
  EXPECT_THAT(ReadByte(server), IsOkAndHolds(IoResult::End()));
}

TEST(StreamResetTest, OfUnixIsAnEndIfThePeerHasWrittenNothing) {
  auto [client, server] = Connected("unix");
  EXPECT_THAT(client.Reset(), IsOk());
  EXPECT_THAT(ReadByte(server), IsOkAndHolds(IoResult::End()));
}

TEST(StreamResetTest, OfTcpDropsWhatHasNotBeenSent) {
  auto [client, server] = Connected("v4");
  EXPECT_GT(Fill(client), 0u);
  EXPECT_THAT(client.Reset(), IsOk());
  EXPECT_EQ(ErrnoOf(ReadToEnd(server).status()), ECONNRESET);
}

TEST_P(StreamTest, WritingToNobodyIsAnErrorAndNoSignal) {
  struct sigaction action = {};
  ASSERT_EQ(sigaction(SIGPIPE, nullptr, &action), 0);
  ASSERT_EQ(action.sa_handler, SIG_DFL);

  auto [client, server] = Connected(GetParam());
  EXPECT_THAT(client.ShutdownWrite(), IsOk());
  const absl::Status broken = client.WriteAll("x");
  EXPECT_EQ(ErrnoOf(broken), EPIPE) << broken;
  EXPECT_THAT(broken.message(),
              StartsWith(absl::StrCat("send to ", client.peer(),
                                      " after 0 of 1 bytes: Broken pipe")));
  EXPECT_EQ(ErrnoOf(client.TryWrite("x").status()), EPIPE);
  EXPECT_EQ(ErrnoOf(client.WriteAll("x", Soon())), EPIPE);
  EXPECT_EQ(ErrnoOf(client.TryWriteV({"x", "y"}).status()), EPIPE);
  EXPECT_THAT(client.WriteAllV({"x", "y"}).message(),
              StartsWith(absl::StrCat("send to ", client.peer(),
                                      " after 0 of 2 bytes: Broken pipe")));
}

TEST_P(StreamTest, StopsWritingWhenThePeerDoesNotRead) {
  auto [client, server] = Connected(GetParam());
  EXPECT_GT(Fill(client), 0u);
  EXPECT_THAT(client.TryWrite("x"), IsOkAndHolds(IoResult::WouldBlock()));
  const absl::Status late = client.WriteAll("xyz", absl::InfinitePast());
  EXPECT_EQ(late, absl::DeadlineExceededError(
                      absl::StrCat("send to ", client.peer(),
                                   " after 0 of 3 bytes: deadline exceeded")));
  EXPECT_EQ(ErrnoOf(late), 0);
  EXPECT_THAT(client.TryWriteV({"x"}), IsOkAndHolds(IoResult::WouldBlock()));
  EXPECT_EQ(client.WriteAllV({"xy", "", "z"}, absl::InfinitePast()), late);
  EXPECT_THAT(client.WriteAll("x", absl::Now() + absl::Milliseconds(1)),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
}

TEST_P(StreamTest, SaysHowMuchWasTakenBeforeTheDeadline) {
  auto [client, server] = Connected(GetParam());
  const std::string much(size_t{64} << 20, 'x');
  const absl::Status late =
      client.WriteAll(much, absl::Now() + absl::Milliseconds(1));
  EXPECT_THAT(late, StatusIs(absl::StatusCode::kDeadlineExceeded,
                             EndsWith(" of 67108864 bytes: deadline "
                                      "exceeded")));
  EXPECT_THAT(late.message(), Not(HasSubstr(" after 0 of")));

  auto [other_client, other_server] = Connected(GetParam());
  const std::vector<std::string_view> pieces = {"", "x", much, "y"};
  EXPECT_THAT(
      other_client.WriteAllV(pieces, absl::Now() + absl::Milliseconds(1)),
      StatusIs(absl::StatusCode::kDeadlineExceeded,
               AllOf(EndsWith(" of 67108866 bytes: deadline exceeded"),
                     Not(HasSubstr(" after 0 of")))));
}

// A peer that reads as fast as this end writes never makes it wait. Here it is
// not even asked whether there is room again.
TEST_P(StreamTest, EndsAWriteAtItsDeadlineThoughThereIsRoom) {
  EXPECT_EQ(InChild([] {
              auto [client, server] = Connected(GetParam());
              const std::string much(size_t{64} << 20, 'x');
              TrapSyscalls({SYS_ppoll});
              return client.WriteAll(much, absl::InfinitePast()).code() ==
                             absl::StatusCode::kDeadlineExceeded
                         ? 0
                         : 1;
            }),
            0);

  auto [client, server] = Connected(GetParam());
  const std::vector<std::string_view> pieces(IOV_MAX + 1, "x");
  EXPECT_EQ(client.WriteAllV(pieces, absl::InfinitePast()),
            absl::DeadlineExceededError(absl::StrCat(
                "send to ", client.peer(), " after ", IOV_MAX, " of ",
                IOV_MAX + 1, " bytes: deadline exceeded")));
}

TEST_P(StreamTest, SaysForWhatItCouldNotWait) {
  EXPECT_EQ(InChild([] {
              auto [client, server] = Connected(GetParam());
              constexpr rlimit kNone = {.rlim_cur = 0, .rlim_max = 0};
              if (setrlimit(RLIMIT_NOFILE, &kNone) != 0) return 1;
              if (ReadByte(server, Soon()).status() !=
                  ErrnoStatus(EINVAL, absl::StrCat("poll to recv from ",
                                                   server.peer()))) {
                return 2;
              }
              const absl::Status unsaid =
                  client.WriteAll(std::string(size_t{64} << 20, 'x'), Soon());
              return absl::StartsWith(unsaid.message(),
                                      absl::StrCat("poll to send to ",
                                                   client.peer(), " after "))
                         ? 0
                         : 3;
            }),
            0);
}

TEST_P(StreamTest, GathersPiecesInTheirOrderAndScattersThemAgain) {
  auto [client, server] = Connected(GetParam());
  EXPECT_THAT(client.TryWriteV({"", "head", "", "er", "body", ""}),
              IsOkAndHolds(IoResult::Bytes(10)));
  std::array<char, 6> header;
  std::array<char, 8> body = {};
  const std::array<absl::Span<char>, 4> buffers = {
      absl::MakeSpan(header), absl::Span<char>(), absl::MakeSpan(body)};
  EXPECT_THAT(server.ReadV(buffers), IsOkAndHolds(IoResult::Bytes(10)));
  EXPECT_EQ(std::string_view(header.data(), header.size()), "header");
  EXPECT_EQ(std::string_view(body.data()), "body");

  EXPECT_THAT(server.TryReadV(buffers), IsOkAndHolds(IoResult::WouldBlock()));
  EXPECT_EQ(server.ReadV(buffers, absl::InfinitePast()).status(),
            absl::DeadlineExceededError(absl::StrCat(
                "recv from ", server.peer(), ": deadline exceeded")));
  EXPECT_THAT(client.WriteAllV({"again", "!"}), IsOk());
  EXPECT_THAT(server.TryReadV(buffers), IsOkAndHolds(IoResult::Bytes(6)));
  EXPECT_EQ(std::string_view(header.data(), header.size()), "again!");
  EXPECT_THAT(client.ShutdownWrite(), IsOk());
  EXPECT_THAT(server.ReadV(buffers), IsOkAndHolds(IoResult::End()));
  EXPECT_THAT(server.TryReadV(buffers), IsOkAndHolds(IoResult::End()));
}

TEST_P(StreamTest, GathersMorePiecesThanTheKernelTakesAtOnce) {
  const std::string sent = Text(5000);
  std::vector<std::string_view> pieces;
  for (size_t at = 0; at < sent.size(); ++at) {
    // Whoever passes the empty ones on to the kernel has too few places left.
    pieces.insert(pieces.end(), at % 3, std::string_view());
    pieces.push_back(std::string_view(sent).substr(at, 1));
  }
  auto [client, server] = Connected(GetParam());
  EXPECT_THAT(client.TryWriteV(pieces), IsOkAndHolds(IoResult::Bytes(IOV_MAX)));
  std::string got(IOV_MAX + 1, '\0');
  std::vector<absl::Span<char>> buffers(2 * IOV_MAX);
  for (size_t at = 0; at < got.size(); ++at) {
    buffers.push_back(absl::MakeSpan(got).subspan(at, 1));
  }
  EXPECT_THAT(server.TryReadV(buffers), IsOkAndHolds(IoResult::Bytes(IOV_MAX)));
  EXPECT_EQ(got, absl::StrCat(sent.substr(0, IOV_MAX), std::string(1, '\0')));

  EXPECT_THAT(client.WriteAllV(pieces), IsOk());
  EXPECT_THAT(client.ShutdownWrite(), IsOk());
  EXPECT_THAT(ReadToEnd(server), IsOkAndHolds(sent));
}

TEST_P(StreamTest, GoesOnWithinThePieceWhereAWriteEnded) {
  // What the kernel takes at once of 8 MiB ends anywhere in these.
  const std::string sent = Text(size_t{8} << 20);
  std::vector<std::string_view> pieces;
  std::string_view rest = sent;
  for (size_t size = 1; !rest.empty(); size = size * 7 % 100'003) {
    pieces.push_back(rest.substr(0, size));
    pieces.emplace_back();
    rest.remove_prefix(std::min(size, rest.size()));
  }
  for (const absl::Time deadline : {absl::InfiniteFuture(), Soon()}) {
    auto [client, server] = Connected(GetParam());
    std::thread reader([&server = server, &sent, deadline] {
      const absl::StatusOr<std::string> got = ReadToEnd(server, deadline);
      EXPECT_TRUE(got.ok() && *got == sent) << got.status();
    });
    EXPECT_THAT(client.WriteAllV(pieces, deadline), IsOk());
    EXPECT_THAT(client.ShutdownWrite(), IsOk());
    reader.join();
  }
}

TEST_P(StreamTest, MovesEveryByteOnceThoughSignalsInterrupt) {
  const std::string sent = Text(size_t{8} << 20);
  for (const absl::Time deadline : {absl::InfiniteFuture(), Soon()}) {
    auto [client, server] = Connected(GetParam());
    const Storm storm;
    std::thread reader([&server = server, &sent, deadline] {
      const absl::StatusOr<std::string> got = ReadToEnd(server, deadline);
      EXPECT_TRUE(got.ok() && *got == sent) << got.status();
    });
    EXPECT_THAT(client.WriteAll(sent, deadline), IsOk());
    EXPECT_THAT(client.ShutdownWrite(), IsOk());
    reader.join();
  }
}

TEST_P(StreamTest, ReadsWhatIsThereEvenIfTheDeadlineHasPassed) {
  auto [client, server] = Connected(GetParam());
  EXPECT_EQ(ReadByte(server, absl::InfinitePast()).status(),
            absl::DeadlineExceededError(absl::StrCat(
                "recv from ", server.peer(), ": deadline exceeded")));
  EXPECT_THAT(ReadByte(server, absl::Now() + absl::Milliseconds(1)),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_THAT(client.WriteAll("x", absl::InfinitePast()), IsOk());
  EXPECT_THAT(ReadByte(server), IsOkAndHolds(IoResult::Bytes(1)));
  EXPECT_THAT(client.ShutdownWrite(), IsOk());
  EXPECT_THAT(ReadByte(server), IsOkAndHolds(IoResult::End()));
  EXPECT_THAT(ReadByte(server, absl::InfinitePast()),
              IsOkAndHolds(IoResult::End()));
}

TEST_P(StreamTest, MovesMoreThanFitsIntoAnyBuffer) {
  const std::string sent = Text(size_t{8} << 20);
  for (const absl::Time deadline : {absl::InfiniteFuture(), Soon()}) {
    auto [client, server] = Connected(GetParam());
    std::thread reader([&server = server, &sent, deadline] {
      const absl::StatusOr<std::string> got = ReadToEnd(server, deadline);
      EXPECT_TRUE(got.ok() && *got == sent) << got.status();
    });
    EXPECT_THAT(client.WriteAll(sent, deadline), IsOk());
    EXPECT_THAT(client.ShutdownWrite(), IsOk());
    reader.join();
  }
}

TEST_P(StreamTest, WaitsThoughSomebodyHasMadeTheSocketNonBlocking) {
  auto [client, server] = Connected(GetParam());
  ASSERT_EQ(fcntl(server.fd(), F_SETFL, O_NONBLOCK), 0);
  std::thread writer([&client = client] {
    EXPECT_THAT(ReadByte(client), IsOkAndHolds(IoResult::Bytes(1)));
    EXPECT_THAT(client.WriteAll("x"), IsOk());
  });
  EXPECT_THAT(server.WriteAll("x"), IsOk());
  EXPECT_THAT(ReadByte(server), IsOkAndHolds(IoResult::Bytes(1)));
  writer.join();
}

TEST_P(StreamTest, RefusesASpanOfNothing) {
  auto [client, server] = Connected(GetParam());
  EXPECT_THAT(client.TryRead({}), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(client.Read({}), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(client.TryWrite(""),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(client.WriteAll(""), IsOk());
  const std::array<absl::Span<char>, 2> no_room = {};
  for (const absl::Span<const absl::Span<char>> none :
       {absl::Span<const absl::Span<char>>(), absl::MakeConstSpan(no_room)}) {
    EXPECT_THAT(client.TryReadV(none),
                StatusIs(absl::StatusCode::kInvalidArgument));
    EXPECT_THAT(client.ReadV(none),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
  EXPECT_THAT(client.TryWriteV({}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(client.TryWriteV({"", ""}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(client.WriteAllV({}), IsOk());
  EXPECT_THAT(client.WriteAllV({"", ""}), IsOk());
}

TEST_P(StreamTest, IsCloseOnExecAndBlockingAtBothEnds) {
  auto [client, server] = Connected(GetParam());
  for (const Stream* stream : {&client, &server}) {
    EXPECT_EQ(fcntl(stream->fd(), F_GETFD), FD_CLOEXEC);
    EXPECT_EQ(fcntl(stream->fd(), F_GETFL) & O_NONBLOCK, 0);
  }
}

TEST_P(StreamTest, FailsWithEveryCallOnceClosed) {
  auto [client, server] = Connected(GetParam());
  EXPECT_THAT(client.Close(), IsOk());
  EXPECT_EQ(client.fd(), -1);
  EXPECT_EQ(ErrnoOf(TryReadByte(client).status()), EBADF);
  EXPECT_EQ(ErrnoOf(ReadByte(client).status()), EBADF);
  EXPECT_EQ(ErrnoOf(client.TryWrite("x").status()), EBADF);
  EXPECT_EQ(ErrnoOf(client.WriteAll("x")), EBADF);
  EXPECT_EQ(ErrnoOf(client.WriteAllV({"x"})), EBADF);
  EXPECT_EQ(ErrnoOf(client.TryWriteV({"x"}).status()), EBADF);
  EXPECT_EQ(ErrnoOf(client.ShutdownWrite()), EBADF);
  EXPECT_EQ(ErrnoOf(client.SetNoDelay(true)), EBADF);
  EXPECT_EQ(ErrnoOf(client.Reset()), EBADF);
  EXPECT_THAT(client.Close(), IsOk());
}

TEST_P(StreamTest, DelaysSmallWritesOnlyWhereAskedTo) {
  auto [client, server] = Connected(GetParam());
  for (const bool no_delay : {true, false}) {
    EXPECT_THAT(client.SetNoDelay(no_delay), IsOk());
    if (GetParam() == "unix") continue;
    int value = -1;
    socklen_t length = sizeof(value);
    ASSERT_EQ(
        getsockopt(client.fd(), IPPROTO_TCP, TCP_NODELAY, &value, &length), 0);
    EXPECT_EQ(value != 0, no_delay);
  }
}

TEST_P(StreamTest, ConnectsInTimeAndLeavesNoTimeoutBehind) {
  absl::StatusOr<Listener> listener = Listener::Open(Somewhere(GetParam()));
  ASSERT_THAT(listener, IsOk());
  const absl::StatusOr<Stream> client =
      Stream::Connect(listener->address(), Soon());
  ASSERT_THAT(client, IsOk());
  EXPECT_EQ(client->peer(), listener->address());
  timeval timeout = {.tv_sec = 1, .tv_usec = 1};
  socklen_t length = sizeof(timeout);
  ASSERT_EQ(
      getsockopt(client->fd(), SOL_SOCKET, SO_SNDTIMEO, &timeout, &length), 0);
  EXPECT_EQ(timeout.tv_sec, 0);
  EXPECT_EQ(timeout.tv_usec, 0);
}

TEST_P(StreamTest, GivesUpConnectingWhereTheBacklogStaysFull) {
  absl::StatusOr<Listener> listener =
      Listener::Open(Somewhere(GetParam()), {.backlog = 0});
  ASSERT_THAT(listener, IsOk());
  std::vector<Stream> inside;
  for (;;) {
    absl::StatusOr<Stream> next = Stream::Connect(
        listener->address(), absl::Now() + absl::Milliseconds(50));
    if (!next.ok()) {
      EXPECT_EQ(next.status(),
                absl::DeadlineExceededError(absl::StrCat(
                    "connect ", listener->address(), ": deadline exceeded")));
      break;
    }
    inside.push_back(*std::move(next));
    ASSERT_LT(inside.size(), 16u);
  }
  EXPECT_THAT(Stream::Connect(listener->address(), absl::InfinitePast()),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
}

TEST_P(StreamTest, GivesUpConnectingInTimeThoughSignalsInterrupt) {
  absl::StatusOr<Listener> listener =
      Listener::Open(Somewhere(GetParam()), {.backlog = 0});
  ASSERT_THAT(listener, IsOk());
  std::vector<Stream> inside;
  // So often that no wait is ever over by itself; and so that the last one is,
  // after others that were not.
  for (const absl::Duration interval :
       {absl::Microseconds(100), absl::Milliseconds(20)}) {
    const Storm storm(interval);
    for (;;) {
      absl::StatusOr<Stream> next = Stream::Connect(
          listener->address(), absl::Now() + absl::Milliseconds(50));
      if (!next.ok()) {
        EXPECT_EQ(next.status(),
                  absl::DeadlineExceededError(absl::StrCat(
                      "connect ", listener->address(), ": deadline exceeded")));
        break;
      }
      inside.push_back(*std::move(next));
      ASSERT_LT(inside.size(), 16u);
    }
    EXPECT_EQ(
        Stream::Connect(listener->address(), absl::InfinitePast()).status(),
        absl::DeadlineExceededError(absl::StrCat(
            "connect ", listener->address(), ": deadline exceeded")));
  }
}

TEST_P(StreamTest, ConnectsOnceThereIsRoomThoughSignalsInterrupt) {
  for (const absl::Time deadline : {absl::InfiniteFuture(), Soon()}) {
    absl::StatusOr<Listener> listener =
        Listener::Open(Somewhere(GetParam()), {.backlog = 0});
    ASSERT_THAT(listener, IsOk());
    std::vector<Stream> inside;
    for (;;) {
      absl::StatusOr<Stream> next = Stream::Connect(
          listener->address(), absl::Now() + absl::Milliseconds(10));
      if (!next.ok()) break;
      inside.push_back(*std::move(next));
      ASSERT_LT(inside.size(), 16u);
    }
    const Storm storm;
    std::thread server([&listener] {
      // Interrupted by the storm about a hundred times.
      const Deadline later = absl::Now() + absl::Milliseconds(10);
      while (later.Left() > absl::ZeroDuration()) {
      }
      while (true) {
        absl::StatusOr<std::optional<Accepted>> next = listener->Accept();
        if (!next.ok() || !next->has_value()) break;
      }
    });
    EXPECT_THAT(Stream::Connect(listener->address(), deadline), IsOk());
    server.join();
  }
}

TEST_P(StreamTest, TakesADeadlineHoweverFarAway) {
  absl::StatusOr<Listener> listener = Listener::Open(Somewhere(GetParam()));
  ASSERT_THAT(listener, IsOk());
  for (const absl::Time deadline :
       {absl::Now() + absl::Hours(24 * 365 * 1000),
        absl::FromUnixSeconds(int64_t{1} << 62),
        absl::InfiniteFuture() - absl::Seconds(1)}) {
    absl::StatusOr<Stream> client =
        Stream::Connect(listener->address(), deadline);
    ASSERT_THAT(client, IsOk());
    absl::StatusOr<std::optional<Accepted>> accepted = listener->Accept();
    ASSERT_THAT(accepted, IsOk());
    Stream server = (**std::move(accepted)).stream;
    std::thread echo([&server] { EXPECT_THAT(Echo(server), IsOk()); });
    EXPECT_THAT(client->WriteAll("x", deadline), IsOk());
    EXPECT_THAT(ReadByte(*client, deadline), IsOkAndHolds(IoResult::Bytes(1)));
    EXPECT_THAT(client->ShutdownWrite(), IsOk());
    echo.join();
  }
}

TEST_P(StreamTest, ComesFromTheSourceItIsGiven) {
  if (GetParam() == "unix") GTEST_SKIP() << "a unix stream has no source";
  const Address source =
      *Address::Parse(GetParam() == "v4" ? "127.0.0.2:0" : "[::1]:0");
  absl::StatusOr<Listener> listener = Listener::Open(Somewhere(GetParam()));
  ASSERT_THAT(listener, IsOk());
  absl::StatusOr<Stream> client =
      Stream::Connect(listener->address(), Soon(), {.source = source});
  ASSERT_THAT(client, IsOk());
  absl::StatusOr<std::optional<Accepted>> accepted = listener->Accept();
  ASSERT_THAT(accepted, IsOk());
  const Address came_from = (*accepted)->peer;
  EXPECT_THAT(LocalAddressOf(client->fd()), IsOkAndHolds(came_from));
  EXPECT_THAT(came_from.ToString(),
              StartsWith(GetParam() == "v4" ? "127.0.0.2:" : "[::1]:"));
  int late_port = 0;
  socklen_t length = sizeof(late_port);
  ASSERT_EQ(getsockopt(client->fd(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT,
                       &late_port, &length),
            0);
  EXPECT_EQ(late_port, 1);

  // Once it has a port it is a place that is taken.
  const absl::Status taken =
      Stream::Connect(listener->address(), Soon(), {.source = came_from})
          .status();
  EXPECT_EQ(ErrnoOf(taken), EADDRINUSE) << taken;
  EXPECT_EQ(
      taken.message(),
      absl::StrCat("bind ", came_from, " to connect ", listener->address(),
                   ": Address already in use (EADDRINUSE)"));
}

TEST(StreamSourceTest, RefusesOneFromWhichNobodyCanCome) {
  const Address peer = *Address::Parse("127.0.0.1:1");
  for (const char* source : {"[::1]:0", "unix:/tmp/x"}) {
    EXPECT_EQ(Stream::Connect(peer, Soon(), {.source = *Address::Parse(source)})
                  .status(),
              absl::InvalidArgumentError(
                  absl::StrCat("bind ", source,
                               " to connect 127.0.0.1:1: expected an IPv4 "
                               "or IPv6 address of the same family")));
  }
  const Address local = *Address::Parse("unix:@x");
  EXPECT_THAT(Stream::Connect(local, Soon(), {.source = local}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  const absl::Status elsewhere =
      Stream::Connect(peer, Soon(), {.source = *Address::Parse("192.0.2.1:0")})
          .status();
  EXPECT_EQ(ErrnoOf(elsewhere), EADDRNOTAVAIL) << elsewhere;
  EXPECT_THAT(elsewhere.message(),
              StartsWith("bind 192.0.2.1:0 to connect 127.0.0.1:1: "));
}

TEST_P(StreamTest, NamesTheAddressThatRefused) {
  // Bound, so that nobody else can be there, but not listening.
  const Address wish = Somewhere(GetParam());
  const UniqueFd bound(socket(wish.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(bind(bound.get(), wish.sockaddr(), wish.sockaddr_length()), 0);
  const absl::StatusOr<Address> nobody = LocalAddressOf(bound.get());
  ASSERT_THAT(nobody, IsOk());
  for (const absl::Time deadline : {absl::InfiniteFuture(), Soon()}) {
    const absl::Status refused = Stream::Connect(*nobody, deadline).status();
    EXPECT_EQ(ErrnoOf(refused), ECONNREFUSED);
    EXPECT_EQ(refused.message(),
              absl::StrCat("connect ", *nobody,
                           ": Connection refused (ECONNREFUSED)"));
  }
}

TEST(StreamAdoptTest, TakesAConnectedStreamSocket) {
  std::array<int, 2> ends;
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  absl::StatusOr<Stream> one = Stream::Adopt(UniqueFd(ends[0]));
  absl::StatusOr<Stream> other = Stream::Adopt(UniqueFd(ends[1]));
  ASSERT_THAT(one, IsOk());
  ASSERT_THAT(other, IsOk());
  EXPECT_EQ(one->peer(), Address());
  EXPECT_THAT(one->WriteAll("x"), IsOk());
  EXPECT_THAT(ReadByte(*other), IsOkAndHolds(IoResult::Bytes(1)));
}

TEST(StreamAdoptTest, MakesOfItWhatAcceptDoes) {
  absl::StatusOr<Listener> listener = Listener::Open(Address::Everywhere(0));
  ASSERT_THAT(listener, IsOk());
  if (!listener->address().both_families()) {
    GTEST_SKIP() << "this machine has no IPv6";
  }
  const Address by_v4 =
      *Address::Parse(absl::StrCat("127.0.0.1:", *listener->address().port()));
  const absl::StatusOr<Stream> client = Stream::Connect(by_v4, Soon());
  ASSERT_THAT(client, IsOk());
  UniqueFd accepted(accept4(listener->fd(), nullptr, nullptr, 0));
  ASSERT_TRUE(accepted.valid());
  ASSERT_EQ(fcntl(accepted.get(), F_GETFD), 0);
  const absl::StatusOr<Stream> adopted = Stream::Adopt(std::move(accepted));
  ASSERT_THAT(adopted, IsOk());
  EXPECT_EQ(fcntl(adopted->fd(), F_GETFD), FD_CLOEXEC);
  EXPECT_THAT(LocalAddressOf(client->fd()), IsOkAndHolds(adopted->peer()));
}

TEST(StreamAdoptTest, RefusesWhatIsNoConnectedStreamSocket) {
  EXPECT_EQ(ErrnoOf(Stream::Adopt(UniqueFd()).status()), EBADF);
  UniqueFd file(open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(ErrnoOf(Stream::Adopt(std::move(file)).status()), ENOTSOCK);
  UniqueFd lonely(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(ErrnoOf(Stream::Adopt(std::move(lonely)).status()), ENOTCONN);

  std::array<int, 2> ends;
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  const UniqueFd other(ends[1]);
  EXPECT_THAT(Stream::Adopt(UniqueFd(ends[0])),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("expected a stream socket")));
}

}  // namespace
}  // namespace brood
