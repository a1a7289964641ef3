// SPDX-License-Identifier: Apache-2.0
#include "brood/server/notify.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
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
using ::testing::EndsWith;
using ::testing::Optional;
using ::testing::StartsWith;

constexpr pid_t kSelf = 4711;

absl::Status SayReady() {
  const absl::StatusOr<Notifier> manager =
      Notifier::Create(NotifyVariables::FromEnvironment());
  UnsetNotifyVariables();
  if (!manager.ok()) return manager.status();
  return manager->Ready("listening on 127.0.0.1:7007");
}

// Whoever started the server: a socket with a name.
class Manager {
 public:
  // At a path in a folder of its own, or at an abstract name.
  explicit Manager(bool abstract = false)
      : folder_("/tmp/notify.XXXXXX"),
        socket_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    EXPECT_NE(mkdtemp(folder_.data()), nullptr);
    // No two of these folders have one name, so it will do for both.
    name_ = abstract ? absl::StrCat("@brood", folder_)
                     : absl::StrCat(folder_, "/socket");
    const absl::StatusOr<Address> address =
        abstract ? Address::UnixAbstract(name_.substr(1))
                 : Address::UnixPath(name_);
    EXPECT_THAT(address, IsOk());
    EXPECT_EQ(
        bind(socket_.get(), address->sockaddr(), address->sockaddr_length()),
        0);
  }
  Manager(const Manager&) = delete;
  Manager& operator=(const Manager&) = delete;
  ~Manager() {
    unlink(name_.c_str());
    rmdir(folder_.c_str());
  }

  const std::string& name() const { return name_; }

  // The next message; nullopt if there is none.
  std::optional<std::string> Next() {
    std::array<char, 4096> buffer;
    const ssize_t n = recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (n == -1) return std::nullopt;
    return std::string(buffer.data(), static_cast<size_t>(n));
  }

  void Leave() { EXPECT_THAT(socket_.Close(), IsOk()); }

 private:
  std::string folder_;
  UniqueFd socket_;
  std::string name_;
};

Notifier To(const Manager& manager) {
  absl::StatusOr<Notifier> notifier =
      Notifier::Create({.notify_socket = manager.name()});
  EXPECT_THAT(notifier, IsOk());
  return *std::move(notifier);
}

TEST(NotifyTest, HeaderExample) {
  Manager manager;
  EXPECT_THAT(SayReady(), IsOk());  // To nobody.
  ASSERT_EQ(setenv("NOTIFY_SOCKET", manager.name().c_str(), 1), 0);
  EXPECT_THAT(SayReady(), IsOk());
  EXPECT_THAT(
      manager.Next(),
      Optional(std::string("READY=1\nSTATUS=listening on 127.0.0.1:7007\n")));
  EXPECT_EQ(std::getenv("NOTIFY_SOCKET"), nullptr);
}

TEST(NotifyTest, SpeaksToAnAbstractName) {
  Manager manager(/*abstract=*/true);
  EXPECT_THAT(To(manager).Ready(""), IsOk());
  EXPECT_THAT(manager.Next(), Optional(std::string("READY=1\n")));
}

TEST(NotifyTest, SaysEachThingInItsOwnMessage) {
  Manager manager;
  const Notifier notifier = To(manager);
  EXPECT_TRUE(notifier.listened_to());
  EXPECT_THAT(notifier.Stopping("draining"), IsOk());
  EXPECT_THAT(manager.Next(),
              Optional(std::string("STOPPING=1\nSTATUS=draining\n")));
  EXPECT_THAT(notifier.Status("3 inside"), IsOk());
  EXPECT_THAT(manager.Next(), Optional(std::string("STATUS=3 inside\n")));
  EXPECT_THAT(notifier.Watchdog(), IsOk());
  EXPECT_THAT(manager.Next(), Optional(std::string("WATCHDOG=1\n")));
  EXPECT_THAT(notifier.MainPid(4242), IsOk());
  EXPECT_THAT(manager.Next(), Optional(std::string("MAINPID=4242\n")));
  EXPECT_THAT(notifier.Status(""), IsOk());
  EXPECT_EQ(manager.Next(), std::nullopt);
}

TEST(NotifyTest, SaysWhenAReloadBegan) {
  Manager manager;
  const int64_t before = absl::ToInt64Microseconds(MonotonicNow());
  EXPECT_THAT(To(manager).Reloading("rules"), IsOk());
  const std::optional<std::string> message = manager.Next();
  ASSERT_TRUE(message.has_value());
  std::string_view rest = *message;
  ASSERT_TRUE(absl::ConsumePrefix(&rest, "RELOADING=1\nMONOTONIC_USEC="));
  ASSERT_TRUE(absl::ConsumeSuffix(&rest, "\nSTATUS=rules\n"));
  int64_t when;
  ASSERT_TRUE(absl::SimpleAtoi(rest, &when)) << rest;
  EXPECT_GE(when, before);
  EXPECT_LE(when, absl::ToInt64Microseconds(MonotonicNow()));
}

TEST(NotifyTest, LetsNoStatusSayAnythingElse) {
  Manager manager;
  EXPECT_THAT(To(manager).Status("a\nMAINPID=1\tb\xc3\xa9"), IsOk());
  EXPECT_THAT(manager.Next(),
              Optional(std::string("STATUS=a MAINPID=1 b\xc3\xa9\n")));
}

TEST(NotifyTest, SpeaksToNobodyWhereNobodyListens) {
  const absl::StatusOr<Notifier> notifier = Notifier::Create({});
  ASSERT_THAT(notifier, IsOk());
  EXPECT_FALSE(notifier->listened_to());
  EXPECT_THAT(notifier->Ready("x"), IsOk());
  EXPECT_THAT(notifier->Watchdog(), IsOk());
}

TEST(NotifyTest, DoesNotWaitForAManagerThatDoesNotRead) {
  Manager manager;
  const Notifier notifier = To(manager);
  absl::Status status;
  while (status.ok()) status = notifier.Watchdog();
  EXPECT_EQ(ErrnoOf(status), EAGAIN);
  EXPECT_THAT(status.message(), StartsWith("NOTIFY_SOCKET: send to unix:/"));
  EXPECT_NE(manager.Next(), std::nullopt);
  EXPECT_THAT(notifier.Ready(""), IsOk());
}

TEST(NotifyTest, SaysThatTheManagerIsNotThere) {
  Manager manager;
  const Notifier notifier = To(manager);
  manager.Leave();
  EXPECT_EQ(ErrnoOf(notifier.Ready("")), ECONNREFUSED);
  EXPECT_EQ(
      ErrnoOf(Notifier::Create({.notify_socket = manager.name()}).status()),
      ECONNREFUSED);
  EXPECT_EQ(
      ErrnoOf(Notifier::Create({.notify_socket = "/nowhere/at/all"}).status()),
      ENOENT);
}

// As after --chroot.
TEST(NotifyTest, StillSpeaksWhenTheNameCannotBeReachedAnyMore) {
  Manager manager;
  const Notifier notifier = To(manager);
  ASSERT_EQ(unlink(manager.name().c_str()), 0);
  EXPECT_THAT(notifier.Stopping(""), IsOk());
  EXPECT_THAT(manager.Next(), Optional(std::string("STOPPING=1\n")));
}

TEST(NotifyTest, SaysWhatASocketMayBe) {
  for (const std::string& value :
       {std::string(), std::string("@"), std::string("relative"),
        std::string("vsock:2:1234"), "/" + std::string(108, 'x'),
        "@" + std::string(108, 'x')}) {
    EXPECT_THAT(Notifier::Create({.notify_socket = value}).status(),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         absl::StrCat("NOTIFY_SOCKET=\"", value,
                                      "\": allowed are a path that begins with "
                                      "/, of at most 108 bytes, and @ with 1 "
                                      "to 107 bytes of a name")));
  }
  // The longest that there can be; nobody is there.
  EXPECT_EQ(
      ErrnoOf(Notifier::Create({.notify_socket = "@" + std::string(107, 'x')})
                  .status()),
      ECONNREFUSED);
}

TEST(NotifyTest, WatchesTwiceInTheTimeItMayBeSilent) {
  EXPECT_THAT(WatchdogInterval({.notify_socket = "/x",
                                .watchdog_usec = "30000000",
                                .watchdog_pid = "4711"},
                               kSelf),
              IsOkAndHolds(Optional(absl::Seconds(15))));
  EXPECT_THAT(
      WatchdogInterval({.notify_socket = "/x", .watchdog_usec = "1"}, kSelf),
      IsOkAndHolds(Optional(absl::Nanoseconds(500))));
}

TEST(NotifyTest, WatchesOnlyIfThisProcessIsAskedTo) {
  EXPECT_THAT(WatchdogInterval({}, kSelf), IsOkAndHolds(std::nullopt));
  EXPECT_THAT(WatchdogInterval({.notify_socket = "/x"}, kSelf),
              IsOkAndHolds(std::nullopt));
  EXPECT_THAT(WatchdogInterval({.watchdog_usec = "30000000"}, kSelf),
              IsOkAndHolds(std::nullopt));
  EXPECT_THAT(WatchdogInterval({.notify_socket = "/x",
                                .watchdog_usec = "wrong, but not ours",
                                .watchdog_pid = "4712"},
                               kSelf),
              IsOkAndHolds(std::nullopt));
}

TEST(NotifyTest, SaysWhatTheWatchdogsVariablesMayBe) {
  for (const std::string value :
       {"", "0", "-1", "+1", " 1", "1s", "01", "9223372036854775808"}) {
    EXPECT_THAT(
        WatchdogInterval({.notify_socket = "/x", .watchdog_usec = value}, kSelf)
            .status(),
        StatusIs(absl::StatusCode::kInvalidArgument,
                 absl::StrCat("WATCHDOG_USEC=\"", value,
                              "\": allowed is a number from 1 to "
                              "9223372036854775807")));
  }
  EXPECT_THAT(
      WatchdogInterval(
          {.notify_socket = "/x", .watchdog_usec = "1", .watchdog_pid = "x\n"},
          kSelf)
          .status(),
      StatusIs(absl::StatusCode::kInvalidArgument,
               "WATCHDOG_PID=\"x\\n\": allowed is a number from 1 to "
               "2147483647"));
}

TEST(NotifyTest, ReadsAndRemovesItsVariablesAndNoOthers) {
  EXPECT_EQ(InChild([] {
              setenv("NOTIFY_SOCKET", "@a", 1);
              setenv("WATCHDOG_USEC", "2", 1);
              setenv("WATCHDOG_PID", "", 1);
              setenv("NOTIFY_SOCKETS", "stays", 1);
              const NotifyVariables v = NotifyVariables::FromEnvironment();
              EXPECT_EQ(v.notify_socket, "@a");
              EXPECT_EQ(v.watchdog_usec, "2");
              EXPECT_EQ(v.watchdog_pid, "");
              UnsetNotifyVariables();
              const NotifyVariables none = NotifyVariables::FromEnvironment();
              EXPECT_EQ(none.notify_socket, std::nullopt);
              EXPECT_EQ(none.watchdog_usec, std::nullopt);
              EXPECT_EQ(none.watchdog_pid, std::nullopt);
              EXPECT_STREQ(std::getenv("NOTIFY_SOCKETS"), "stays");
              return testing::Test::HasFailure() ? 1 : 0;
            }),
            0);
}

TEST(NotifyTest, DoesNotLeakItsSocketIntoPrograms) {
  const Manager manager;
  const int next = dup(STDIN_FILENO);
  ASSERT_EQ(close(next), 0);
  const Notifier notifier = To(manager);
  EXPECT_EQ(fcntl(next, F_GETFD), FD_CLOEXEC);
}

// ---- A line and the end ----

struct Pipe {
  Pipe() {
    std::array<int, 2> ends;
    EXPECT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
    reader = UniqueFd(ends[0]);
    writer = UniqueFd(ends[1]);
  }
  UniqueFd reader;
  UniqueFd writer;
};

TEST(NotifyTest, TellsADescriptorOnceAndClosesIt) {
  Pipe pipe;
  EXPECT_THAT(TellReady(std::move(pipe.writer), "listening"), IsOk());
  std::array<char, 64> buffer;
  const ssize_t n = read(pipe.reader.get(), buffer.data(), buffer.size());
  EXPECT_EQ(std::string_view(buffer.data(), static_cast<size_t>(n)),
            "listening\n");
  EXPECT_EQ(read(pipe.reader.get(), buffer.data(), buffer.size()), 0);
}

TEST(NotifyTest, SaysThatADescriptorWasNotToBeTold) {
  {
    Pipe pipe;
    pipe.reader = UniqueFd();
    EXPECT_THAT(TellReady(std::move(pipe.writer), "x"),
                StatusIs(absl::StatusCode::kUnavailable,
                         EndsWith(" of being ready: expected a reader, and "
                                  "room now")));
  }
  {
    Pipe pipe;
    EXPECT_THAT(TellReady(std::move(pipe.reader), "x"),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         EndsWith("open for writing")));
  }
  EXPECT_EQ(ErrnoOf(TellReady(UniqueFd(), "x")), EBADF);
}

}  // namespace
}  // namespace brood
