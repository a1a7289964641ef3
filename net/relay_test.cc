// SPDX-License-Identifier: Apache-2.0
#include "brood/net/relay.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>

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
#include "brood/tests/deny_syscalls.h"
#include "brood/tests/in_child.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

// A SIGPIPE would end this program: its disposition is the default one. What is
// left of the mask or of descriptors, tests/hygiene reports after each test.
namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::HasSubstr;

absl::Time Soon() { return absl::Now() + absl::Minutes(5); }

struct Pair {
  Stream outer;  // The peer's end.
  Stream inner;  // The relay's.
};

Address Somewhere(std::string_view family) {
  if (family == "tcp") return *Address::Parse("127.0.0.1:0");
  std::random_device random;
  return *Address::UnixAbstract(
      absl::StrCat("brood/relay_test/", random(), "/", random()));
}

Pair Connected(std::string_view family) {
  absl::StatusOr<Listener> listener = Listener::Open(Somewhere(family));
  EXPECT_THAT(listener, IsOk());
  absl::StatusOr<Stream> outer = Stream::Connect(listener->address());
  EXPECT_THAT(outer, IsOk());
  absl::StatusOr<std::optional<Accepted>> inner = listener->Accept();
  EXPECT_THAT(inner, IsOk());
  return {.outer = *std::move(outer), .inner = (**std::move(inner)).stream};
}

// a and b are the peers; between them runs a relay.
class Between {
 public:
  Between(Pair one, Pair other, const RelayOptions& options)
      : a(std::move(one.outer)),
        b(std::move(other.outer)),
        inner_a_(std::move(one.inner)),
        inner_b_(std::move(other.inner)),
        thread_([this, options] {
          relayed_ = Relay(inner_a_, inner_b_, options);
        }) {}
  Between(std::string_view a_family, std::string_view b_family,
          const RelayOptions& options = RelayOptions())
      : Between(Connected(a_family), Connected(b_family), options) {}
  ~Between() {
    if (thread_.joinable()) thread_.join();
  }
  Between(const Between&) = delete;
  Between& operator=(const Between&) = delete;

  const Relayed& Join() {
    thread_.join();
    return relayed_;
  }
  Stream& inner_a() { return inner_a_; }
  Stream& inner_b() { return inner_b_; }

  Stream a;
  Stream b;

 private:
  Stream inner_a_;
  Stream inner_b_;
  Relayed relayed_;
  std::thread thread_;
};

std::string Text(size_t size, size_t seed = 31) {
  std::string text(size, '\0');
  for (size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<char>(i * seed >> 7);
  }
  return text;
}

absl::StatusOr<std::string> ReadToEnd(Stream& stream) {
  std::string all;
  std::array<char, 65536> buffer;
  for (;;) {
    const absl::StatusOr<IoResult> got =
        stream.Read(absl::MakeSpan(buffer), Soon());
    if (!got.ok()) return got.status();
    if (got->end()) return all;
    all.append(buffer.data(), *got->bytes());
  }
}

absl::StatusOr<std::string> ReadExactly(Stream& stream, size_t size) {
  std::string all(size, '\0');
  absl::Span<char> rest = absl::MakeSpan(all);
  while (!rest.empty()) {
    const absl::StatusOr<IoResult> got = stream.Read(rest, Soon());
    if (!got.ok()) return got.status();
    if (got->end()) return absl::DataLossError("ended early");
    rest.remove_prefix(*got->bytes());
  }
  return all;
}

bool SigpipeIsPending() {
  sigset_t pending;
  EXPECT_EQ(sigpending(&pending), 0);
  return sigismember(&pending, SIGPIPE) == 1;
}

// Both say much at once, half-close, and get all of what the other said.
absl::Status TalkAtOnce(std::string_view a_family, std::string_view b_family) {
  const std::string from_a = Text(size_t{3} << 20);
  const std::string from_b = Text(size_t{2} << 20, 77);
  Between talk(a_family, b_family);
  const auto say = [](Stream& stream, std::string_view text) {
    EXPECT_THAT(stream.WriteAll(text, Soon()), IsOk());
    EXPECT_THAT(stream.ShutdownWrite(), IsOk());
  };
  std::thread a_says([&] { say(talk.a, from_a); });
  std::thread b_says([&] { say(talk.b, from_b); });
  absl::StatusOr<std::string> a_heard;
  std::thread a_hears([&] { a_heard = ReadToEnd(talk.a); });
  const absl::StatusOr<std::string> b_heard = ReadToEnd(talk.b);
  a_says.join();
  b_says.join();
  a_hears.join();
  const Relayed& relayed = talk.Join();
  if (!relayed.status.ok()) return relayed.status;
  if (!a_heard.ok()) return a_heard.status();
  if (!b_heard.ok()) return b_heard.status();
  if (relayed.a_to_b != from_a.size() || relayed.b_to_a != from_b.size()) {
    return absl::InternalError(
        absl::StrCat("counted ", relayed.a_to_b, " and ", relayed.b_to_a));
  }
  if (*a_heard != from_b || *b_heard != from_a) {
    return absl::DataLossError("not what was said");
  }
  return absl::OkStatus();
}

absl::Status Forward(Stream client, const Address& backend) {
  absl::StatusOr<Stream> server =
      Stream::Connect(backend, absl::Now() + absl::Seconds(5));
  if (!server.ok()) return server.status();
  const Relayed relayed =
      Relay(client, *server, {.idle_limit = absl::Minutes(10)});
  if (relayed.b_to_a == 0) return absl::DataLossError("no answer");
  return relayed.status;
}

TEST(RelayTest, HeaderExample) {
  auto [client, inner] = Connected("tcp");
  absl::StatusOr<Listener> backend = Listener::Open(Somewhere("unix"));
  ASSERT_THAT(backend, IsOk());
  std::thread relay([&backend, &inner = inner] {
    EXPECT_THAT(Forward(std::move(inner), backend->address()), IsOk());
  });
  EXPECT_THAT(client.WriteAll("ping"), IsOk());
  EXPECT_THAT(client.ShutdownWrite(), IsOk());
  EXPECT_THAT(PollUntil(backend->fd(), POLLIN, Soon()), IsOkAndHolds(true));
  absl::StatusOr<std::optional<Accepted>> accepted = backend->Accept();
  ASSERT_THAT(accepted, IsOk());
  Stream server = (**std::move(accepted)).stream;
  EXPECT_THAT(ReadToEnd(server), IsOkAndHolds("ping"));
  EXPECT_THAT(server.WriteAll("pong"), IsOk());
  EXPECT_THAT(server.Close(), IsOk());
  EXPECT_THAT(ReadToEnd(client), IsOkAndHolds("pong"));
  relay.join();
}

class RelayPairTest : public testing::TestWithParam<
                          std::tuple<std::string_view, std::string_view>> {
 protected:
  std::string_view a_family() const { return std::get<0>(GetParam()); }
  std::string_view b_family() const { return std::get<1>(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(Families, RelayPairTest,
                         testing::Combine(testing::Values("tcp", "unix"),
                                          testing::Values("tcp", "unix")),
                         [](const auto& test) {
                           return absl::StrCat(std::get<0>(test.param), "_",
                                               std::get<1>(test.param));
                         });

TEST_P(RelayPairTest, CarriesAllThatBothSayAtOnce) {
  EXPECT_THAT(TalkAtOnce(a_family(), b_family()), IsOk());
}

// Whoever took bytes by recv would have to send them; the end alone is asked
// for in its way.
TEST_P(RelayPairTest, CarriesNothingThroughMemoryWhereItNeedNot) {
  EXPECT_EQ(InChild([&] {
              Pair one = Connected(a_family());
              Pair other = Connected(b_family());
              for (Pair* pair : {&one, &other}) {
                if (!pair->outer.WriteAll("hello").ok()) return 1;
                if (!pair->outer.ShutdownWrite().ok()) return 2;
              }
              TrapSyscalls(
                  {SYS_recvmsg, SYS_read, SYS_sendto, SYS_sendmsg, SYS_write});
              const Relayed relayed = Relay(one.inner, other.inner);
              if (!relayed.status.ok()) return 3;
              return relayed.a_to_b == 5 && relayed.b_to_a == 5 ? 0 : 4;
            }),
            0);
}

// splice stops before it for good: at an end that nobody said, or for ever.
TEST_P(RelayPairTest, CarriesWhatComesAfterAnUrgentByte) {
  if (a_family() == "unix") GTEST_SKIP() << "that is a matter of TCP";
  for (const bool ends : {false, true}) {
    Pair one = Connected(a_family());
    Pair other = Connected(b_family());
    EXPECT_THAT(one.outer.WriteAll("hello"), IsOk());
    ASSERT_EQ(send(one.outer.fd(), "!", 1, MSG_OOB), 1);
    EXPECT_THAT(one.outer.WriteAll("world"), IsOk());
    if (ends) {
      EXPECT_THAT(one.outer.ShutdownWrite(), IsOk());
    }
    Between talk(std::move(one), std::move(other),
                 {.idle_limit = absl::Seconds(10)});
    EXPECT_THAT(ReadExactly(talk.b, 10), IsOkAndHolds("helloworld"));
    if (!ends) {
      // And by splice again, from there on.
      EXPECT_THAT(talk.a.WriteAll("and all"), IsOk());
      EXPECT_THAT(talk.a.ShutdownWrite(), IsOk());
    }
    EXPECT_THAT(ReadToEnd(talk.b), IsOkAndHolds(ends ? "" : "and all"));
    EXPECT_THAT(talk.b.Close(), IsOk());
    const Relayed& relayed = talk.Join();
    EXPECT_THAT(relayed.status, IsOk());
    EXPECT_EQ(relayed.a_to_b, ends ? 10u : 17u);
  }
}

// What this thread has worked, not waited.
absl::Duration Worked() {
  rusage usage = {};
  EXPECT_EQ(getrusage(RUSAGE_THREAD, &usage), 0);
  return absl::DurationFromTimeval(usage.ru_utime) +
         absl::DurationFromTimeval(usage.ru_stime);
}

// Relays until nothing has moved for a while, and says how much work that was.
absl::Duration WorkOfWaiting(Stream& a, Stream& b) {
  const absl::Duration before = Worked();
  EXPECT_THAT(Relay(a, b, {.idle_limit = absl::Milliseconds(200)}).status,
              StatusIs(absl::StatusCode::kDeadlineExceeded));
  return Worked() - before;
}

// poll reports a unix peer that has gone, asked or not.
TEST_P(RelayPairTest, SleepsWhileOneHasGoneAndTheOtherIsSilent) {
  Pair one = Connected(a_family());
  Pair other = Connected(b_family());
  EXPECT_THAT(one.outer.Close(), IsOk());
  EXPECT_LT(WorkOfWaiting(one.inner, other.inner), absl::Milliseconds(50));
}

TEST_P(RelayPairTest, CarriesItThroughMemoryWhereSpliceIsForbidden) {
  for (const int error : {EPERM, ENOSYS, EINVAL}) {
    EXPECT_EQ(InChild([&] {
                DenySyscalls({SYS_splice}, error);
                return TalkAtOnce(a_family(), b_family()).ok() ? 0 : 1;
              }),
              0)
        << error;
  }
}

TEST_P(RelayPairTest, CarriesItThroughMemoryWhereNoPipeIsToBeHad) {
  EXPECT_EQ(InChild([&] {
              DenySyscalls({SYS_pipe2}, EMFILE);
              return TalkAtOnce(a_family(), b_family()).ok() ? 0 : 1;
            }),
            0);
}

TEST_P(RelayPairTest, CarriesItWholeThoughSignalsInterrupt) {
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  struct sigaction before;
  ASSERT_EQ(sigaction(SIGALRM, &action, &before), 0);
  const itimerval storm = {.it_interval = {.tv_sec = 0, .tv_usec = 100},
                           .it_value = {.tv_sec = 0, .tv_usec = 100}};
  ASSERT_EQ(setitimer(ITIMER_REAL, &storm, nullptr), 0);
  EXPECT_THAT(TalkAtOnce(a_family(), b_family()), IsOk());
  const itimerval never = {};
  ASSERT_EQ(setitimer(ITIMER_REAL, &never, nullptr), 0);
  ASSERT_EQ(sigaction(SIGALRM, &before, nullptr), 0);
}

TEST_P(RelayPairTest, LetsOneWayEndWhileTheOtherGoesOn) {
  Between talk(a_family(), b_family());
  EXPECT_THAT(talk.a.WriteAll("question"), IsOk());
  EXPECT_THAT(talk.a.ShutdownWrite(), IsOk());
  EXPECT_THAT(ReadToEnd(talk.b), IsOkAndHolds("question"));
  EXPECT_THAT(talk.b.WriteAll("one "), IsOk());
  EXPECT_THAT(ReadExactly(talk.a, 4), IsOkAndHolds("one "));
  EXPECT_THAT(talk.b.WriteAll("two"), IsOk());
  EXPECT_THAT(talk.b.ShutdownWrite(), IsOk());
  EXPECT_THAT(ReadToEnd(talk.a), IsOkAndHolds("two"));
  const Relayed& relayed = talk.Join();
  EXPECT_THAT(relayed.status, IsOk());
  EXPECT_EQ(relayed.a_to_b, 8u);
  EXPECT_EQ(relayed.b_to_a, 7u);
  EXPECT_NE(talk.inner_a().fd(), -1);
  EXPECT_NE(talk.inner_b().fd(), -1);
}

// Whoever blocks where it writes would never come to what b says.
TEST_P(RelayPairTest, LetsOneWayPassWhileTheOtherIsStuck) {
  const std::string much = Text(size_t{1} << 20);
  const std::string more = Text(size_t{32} << 20, 77);
  Between talk(a_family(), b_family());
  std::thread a_says([&] {
    EXPECT_THAT(talk.a.WriteAll(more, Soon()), IsOk());
    EXPECT_THAT(talk.a.ShutdownWrite(), IsOk());
  });
  std::thread b_says([&] { EXPECT_THAT(talk.b.WriteAll(much), IsOk()); });
  EXPECT_THAT(ReadExactly(talk.a, much.size()), IsOkAndHolds(much));
  b_says.join();
  const absl::StatusOr<std::string> heard = ReadToEnd(talk.b);
  EXPECT_TRUE(heard.ok() && *heard == more) << heard.status();
  EXPECT_THAT(talk.b.Close(), IsOk());
  a_says.join();
  EXPECT_THAT(talk.Join().status, IsOk());
}

TEST_P(RelayPairTest, MakesAResetOfAResetAfterWhatCameBeforeIt) {
  Between talk(a_family(), b_family());
  EXPECT_THAT(talk.b.WriteAll("never read"), IsOk());
  EXPECT_THAT(PollUntil(talk.a.fd(), POLLIN, Soon()), IsOkAndHolds(true));
  // What a unix relay has not read would be told as a reset to its peer.
  EXPECT_THAT(talk.a.WriteAll("the last word"), IsOk());
  EXPECT_THAT(ReadExactly(talk.b, 13), IsOkAndHolds("the last word"));
  EXPECT_THAT(talk.a.Reset(), IsOk());
  const Relayed& relayed = talk.Join();
  EXPECT_EQ(ErrnoOf(relayed.status), ECONNRESET) << relayed.status;
  EXPECT_THAT(relayed.status.message(),
              HasSubstr(absl::StrCat(" from ", talk.inner_a().peer(), ": ")));
  EXPECT_EQ(relayed.a_to_b, 13u);
  EXPECT_EQ(relayed.b_to_a, 10u);
  EXPECT_EQ(talk.inner_a().fd(), -1);
  EXPECT_EQ(talk.inner_b().fd(), -1);
  // Unix knows no reset where nothing was left unread.
  if (b_family() == "tcp") {
    EXPECT_EQ(ErrnoOf(ReadToEnd(talk.b).status()), ECONNRESET);
  } else {
    EXPECT_THAT(ReadToEnd(talk.b), IsOkAndHolds(""));
  }
}

// b answers before it has heard all, and leaves.
TEST_P(RelayPairTest, CarriesTheAnswerOfAPeerThatReadsNoMore) {
  Pair one = Connected(a_family());
  Pair other = Connected(b_family());
  EXPECT_THAT(other.outer.WriteAll("too much"), IsOk());
  EXPECT_THAT(other.outer.Close(), IsOk());
  // The relay is to meet it when b has gone.
  while (other.inner.WriteAll("x").ok()) {
  }
  EXPECT_THAT(one.outer.WriteAll("and another thing"), IsOk());
  Between talk(std::move(one), std::move(other), RelayOptions());
  EXPECT_THAT(ReadToEnd(talk.a), IsOkAndHolds("too much"));
  const Relayed& relayed = talk.Join();
  EXPECT_EQ(ErrnoOf(relayed.status), EPIPE) << relayed.status;
  EXPECT_THAT(relayed.status.message(),
              HasSubstr(absl::StrCat(" to ", talk.inner_b().peer(), ": ")));
  EXPECT_EQ(relayed.a_to_b, 0u);
  EXPECT_EQ(relayed.b_to_a, 8u);
  EXPECT_NE(talk.inner_a().fd(), -1);
  if (a_family() == "unix") {
    EXPECT_EQ(ErrnoOf(talk.a.WriteAll("x")), EPIPE);
  }
}

// The kernel tells the write of the reset, and the read that it is the end.
TEST_P(RelayPairTest, MakesNoEndOfAResetThatAWriteWasTold) {
  if (b_family() == "unix") GTEST_SKIP() << "there a write is not told";
  Pair one = Connected(a_family());
  Pair other = Connected(b_family());
  EXPECT_THAT(other.outer.WriteAll("half an ans"), IsOk());
  EXPECT_THAT(other.outer.Reset(), IsOk());
  EXPECT_THAT(PollUntil(other.inner.fd(), 0, Soon()), IsOkAndHolds(true));
  EXPECT_THAT(one.outer.WriteAll("and another thing"), IsOk());
  Between talk(std::move(one), std::move(other), RelayOptions());
  const Relayed& relayed = talk.Join();
  EXPECT_EQ(ErrnoOf(relayed.status), ECONNRESET) << relayed.status;
  EXPECT_EQ(talk.inner_a().fd(), -1);
  if (a_family() == "tcp") {
    EXPECT_EQ(ErrnoOf(ReadToEnd(talk.a).status()), ECONNRESET);
  }
}

// Whoever had the stream before was told: the kernel says end by now.
TEST_P(RelayPairTest, MakesNoEndOfAResetThatTheStreamWasToldBefore) {
  for (const bool the_other_way : {false, true}) {
    Pair one = Connected(a_family());
    Pair other = Connected(b_family());
    EXPECT_THAT(one.inner.WriteAll("never read"), IsOk());
    EXPECT_THAT(one.outer.Reset(), IsOk());
    char byte;
    EXPECT_EQ(ErrnoOf(one.inner.Read(absl::MakeSpan(&byte, 1)).status()),
              ECONNRESET);
    // What cannot be said to it must not hide that it was cut.
    EXPECT_THAT(other.outer.WriteAll("hello?"), IsOk());
    const absl::Status status = the_other_way
                                    ? Relay(other.inner, one.inner).status
                                    : Relay(one.inner, other.inner).status;
    EXPECT_EQ(ErrnoOf(status), ECONNRESET) << status;
    EXPECT_THAT(status.message(),
                HasSubstr(absl::StrCat(" from ", one.inner.peer(), ": ")));
    EXPECT_EQ(one.inner.fd(), -1);
    EXPECT_EQ(other.inner.fd(), -1);
    if (b_family() == "tcp") {
      EXPECT_EQ(ErrnoOf(ReadToEnd(other.outer).status()), ECONNRESET);
    }
  }
}

// Which takes the network to have given up: a reset after an end is EPIPE.
TEST_P(RelayPairTest, ResetsBothThoughTheOneThatWasCutHadEnded) {
  EXPECT_EQ(InChild([&] {
              Pair one = Connected(a_family());
              Pair other = Connected(b_family());
              if (!other.outer.ShutdownWrite().ok()) return 1;
              DenySyscalls({SYS_splice}, EPERM);
              DenySyscalls({SYS_sendto}, ETIMEDOUT);
              std::thread a_answers([&] {
                const bool heard = ReadToEnd(one.outer).ok();
                if (!heard || write(one.outer.fd(), "x", 1) != 1) _exit(2);
              });
              const absl::Status status = Relay(one.inner, other.inner).status;
              a_answers.join();
              if (ErrnoOf(status) != ETIMEDOUT) return 4;
              return one.inner.fd() == -1 && other.inner.fd() == -1 ? 0 : 5;
            }),
            0);
}

TEST_P(RelayPairTest, EndsByResetAtItsLimits) {
  const std::array<RelayOptions, 3> limits = {
      RelayOptions{.deadline = absl::InfinitePast()},
      RelayOptions{.deadline = absl::Now() + absl::Milliseconds(5)},
      RelayOptions{.idle_limit = absl::Milliseconds(5)}};
  for (const RelayOptions& limit : limits) {
    const bool idle = limit.deadline == absl::InfiniteFuture();
    Between talk(a_family(), b_family(), limit);
    const Relayed& relayed = talk.Join();
    EXPECT_EQ(relayed.status,
              absl::DeadlineExceededError(absl::StrCat(
                  "relay between ", talk.inner_a().peer(), " and ",
                  talk.inner_b().peer(), ": ",
                  idle ? "no byte for 5ms" : "deadline exceeded")));
    EXPECT_EQ(ErrnoOf(relayed.status), 0);
    EXPECT_EQ(talk.inner_a().fd(), -1);
    if (a_family() == "tcp") {
      EXPECT_EQ(ErrnoOf(ReadToEnd(talk.a).status()), ECONNRESET);
    }
    if (b_family() == "tcp") {
      EXPECT_EQ(ErrnoOf(ReadToEnd(talk.b).status()), ECONNRESET);
    }
  }
}

TEST_P(RelayPairTest, IsNotIdleWhereBytesMoveOneWay) {
  constexpr absl::Duration kLimit = absl::Milliseconds(100);
  Between talk(a_family(), b_family(), {.idle_limit = kLimit});
  const absl::Duration start = MonotonicNow();
  absl::Duration last = start;
  absl::Duration longest_pause;
  bool open = true;
  while (open && last - start < 3 * kLimit) {
    open = talk.a.WriteAll("x").ok() && ReadExactly(talk.b, 1).ok();
    const absl::Duration now = MonotonicNow();
    longest_pause = std::max(longest_pause, now - last);
    last = now;
  }
  if (longest_pause > kLimit / 2) {
    GTEST_SKIP() << "this machine itself was idle";
  }
  EXPECT_TRUE(open);
  EXPECT_THAT(talk.a.Close(), IsOk());
  EXPECT_THAT(talk.b.Close(), IsOk());
  EXPECT_THAT(talk.Join().status, IsOk());
}

TEST_P(RelayPairTest, LeavesTheDescriptorsAsItFoundThem) {
  for (const int flags : {0, O_NONBLOCK}) {
    Pair one = Connected(a_family());
    Pair other = Connected(b_family());
    ASSERT_EQ(fcntl(one.inner.fd(), F_SETFL, flags), 0);
    EXPECT_THAT(one.outer.Close(), IsOk());
    EXPECT_THAT(other.outer.Close(), IsOk());
    EXPECT_THAT(Relay(one.inner, other.inner).status, IsOk());
    EXPECT_EQ(fcntl(one.inner.fd(), F_GETFL) & O_NONBLOCK, flags);
    EXPECT_EQ(fcntl(other.inner.fd(), F_GETFL) & O_NONBLOCK, 0);
  }
}

// One end that has nobody to write to any more, and one that has said
// something: a relay between them meets EPIPE.
absl::Status RelayIntoEpipe() {
  Pair one = Connected("unix");
  Pair other = Connected("unix");
  if (!one.outer.WriteAll("x").ok() || !one.outer.ShutdownWrite().ok() ||
      !other.outer.Close().ok()) {
    return absl::InternalError("not prepared");
  }
  return Relay(one.inner, other.inner).status;
}

TEST(RelaySigpipeTest, LeavesNoSigpipeBehind) {
  sigset_t sigpipe;
  sigset_t before;
  ASSERT_EQ(sigemptyset(&sigpipe), 0);
  ASSERT_EQ(sigaddset(&sigpipe, SIGPIPE), 0);
  EXPECT_EQ(ErrnoOf(RelayIntoEpipe()), EPIPE);
  ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &sigpipe, &before), 0);
  EXPECT_EQ(ErrnoOf(RelayIntoEpipe()), EPIPE);
  EXPECT_FALSE(SigpipeIsPending());
  // Still blocked: the mask is as it was.
  sigset_t now;
  ASSERT_EQ(pthread_sigmask(SIG_SETMASK, &before, &now), 0);
  EXPECT_EQ(sigismember(&now, SIGPIPE), 1);
  EXPECT_EQ(sigismember(&before, SIGPIPE), 0);
}

TEST(RelaySigpipeTest, TakesNoSigpipeThatIsNotItsOwn) {
  EXPECT_EQ(InChild([] {
              sigset_t sigpipe;
              if (sigemptyset(&sigpipe) != 0) return 1;
              if (sigaddset(&sigpipe, SIGPIPE) != 0) return 2;
              if (pthread_sigmask(SIG_BLOCK, &sigpipe, nullptr) != 0) return 3;
              if (raise(SIGPIPE) != 0) return 4;
              if (ErrnoOf(RelayIntoEpipe()) != EPIPE) return 5;
              return SigpipeIsPending() ? 0 : 6;
            }),
            0);
}

TEST(RelaySigpipeTest, ChangesNoDisposition) {
  EXPECT_EQ(InChild([] {
              struct sigaction action = {};
              action.sa_handler = [](int) { _exit(7); };
              if (sigaction(SIGPIPE, &action, nullptr) != 0) return 1;
              if (ErrnoOf(RelayIntoEpipe()) != EPIPE) return 2;
              return raise(SIGPIPE);  // The handler is still there.
            }),
            7);
}

TEST(RelayTest, SaysBetweenWhomItCouldNotWait) {
  EXPECT_EQ(InChild([] {
              auto [a, inner_a] = Connected("tcp");
              auto [b, inner_b] = Connected("tcp");
              DenySyscalls({SYS_ppoll}, EINVAL);  // As RLIMIT_NOFILE of 0 does.
              const absl::Status status = Relay(inner_a, inner_b).status;
              return status == ErrnoStatus(
                                   EINVAL,
                                   absl::StrCat("poll of ", inner_a.peer(),
                                                " and ", inner_b.peer()))
                         ? 0
                         : 1;
            }),
            0);
}

TEST(RelayTest, SaysWhichStreamWasClosedToBeginWith) {
  auto [a, inner_a] = Connected("tcp");
  auto [b, inner_b] = Connected("tcp");
  EXPECT_THAT(inner_a.Close(), IsOk());
  const Relayed relayed = Relay(inner_a, inner_b);
  EXPECT_EQ(ErrnoOf(relayed.status), EBADF);
  EXPECT_THAT(relayed.status.message(),
              HasSubstr(absl::StrCat(" from ", inner_a.peer(), ": ")));
  EXPECT_EQ(ErrnoOf(ReadToEnd(b).status()), ECONNRESET);
}

}  // namespace
}  // namespace brood
