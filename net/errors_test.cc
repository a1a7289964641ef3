// SPDX-License-Identifier: Apache-2.0
//
// Holds docs/errors.md to be true: makes each call fail with each errno that
// the page lists, and compares what comes of it with what the page says.
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/accept_error.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/proc/posix.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace {

// The next call of the named one fails with this; 0 for none.
struct Failure {
  std::string_view call = "";
  int error = 0;
} failure;

// What the call that is to fail is called. Each fails once.
bool Fails(std::string_view call) {
  if (failure.error == 0 || failure.call != call) return false;
  errno = std::exchange(failure.error, 0);
  return true;
}

}  // namespace

// These take the place of libc's for the whole test program.
extern "C" {

int accept4(int fd, struct sockaddr* address, socklen_t* length, int flags) {
  if (Fails("accept4")) return -1;
  return static_cast<int>(syscall(SYS_accept4, fd, address, length, flags));
}

int connect(int fd, const struct sockaddr* address, socklen_t length) {
  if (Fails("connect")) return -1;
  return static_cast<int>(syscall(SYS_connect, fd, address, length));
}

int bind(int fd, const struct sockaddr* address, socklen_t length) noexcept {
  if (Fails("bind")) return -1;
  return static_cast<int>(syscall(SYS_bind, fd, address, length));
}

ssize_t recv(int fd, void* buffer, size_t size, int flags) {
  if (Fails("recv")) return -1;
  return syscall(SYS_recvfrom, fd, buffer, size, flags, nullptr, nullptr);
}

ssize_t send(int fd, const void* data, size_t size, int flags) {
  if (Fails("send")) return -1;
  return syscall(SYS_sendto, fd, data, size, flags, nullptr, 0);
}

ssize_t recvmsg(int fd, struct msghdr* message, int flags) {
  if (Fails("recv")) return -1;
  return syscall(SYS_recvmsg, fd, message, flags);
}

ssize_t sendmsg(int fd, const struct msghdr* message, int flags) {
  if (Fails("send")) return -1;
  return syscall(SYS_sendmsg, fd, message, flags);
}

}  // extern "C"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;

// One row: an errno, and the cells after "what has happened".
struct Row {
  int error;
  std::vector<std::string> says;
};

int ErrnoByName(std::string_view name) {
  for (int error = 1; error < 200; ++error) {
    const char* const its_name = strerrorname_np(error);
    if (its_name != nullptr && name == its_name) return error;
  }
  ADD_FAILURE() << "no such errno: " << name;
  return 0;
}

// The rows of the table under "## `heading`".
std::vector<Row> TableOf(std::string_view heading) {
  std::ifstream file("docs/errors.md");
  EXPECT_TRUE(file.is_open());
  std::stringstream text;
  text << file.rdbuf();
  std::vector<Row> rows;
  bool here = false;
  for (std::string_view line : absl::StrSplit(text.str(), '\n')) {
    if (absl::ConsumePrefix(&line, "## ")) here = line == heading;
    if (!here || !absl::ConsumePrefix(&line, "| E")) continue;
    std::vector<std::string> cells = absl::StrSplit(line, '|');
    for (std::string& cell : cells) absl::StripAsciiWhitespace(&cell);
    Row row = {.error = ErrnoByName(absl::StrCat("E", cells.front())),
               .says = {cells.begin() + 2, cells.end() - 1}};
    rows.push_back(std::move(row));
  }
  EXPECT_GE(rows.size(), 10u) << heading;
  return rows;
}

std::string CodeOf(const absl::Status& status) {
  std::string name;
  for (const std::string_view word :
       absl::StrSplit(absl::StatusCodeToString(status.code()), '_')) {
    absl::StrAppend(&name, word.substr(0, 1),
                    absl::AsciiStrToLower(word.substr(1)));
  }
  return name;
}

// `status` is of `code`, and says exactly which call failed on what and why.
void ExpectError(const absl::Status& status, int error, std::string_view what,
                 std::string_view code) {
  EXPECT_EQ(ErrnoOf(status), error);
  EXPECT_EQ(CodeOf(status), code) << status;
  EXPECT_EQ(status.message(), absl::StrCat(what, ": ", strerrordesc_np(error),
                                           " (", strerrorname_np(error), ")"));
}

Address Loopback() { return *Address::Parse("127.0.0.1:0"); }

Listener MustListen() {
  absl::StatusOr<Listener> listener = Listener::Open(Loopback());
  EXPECT_THAT(listener, IsOk());
  return *std::move(listener);
}

Stream MustConnect(const Listener& listener) {
  absl::StatusOr<Stream> stream = Stream::Connect(listener.address());
  EXPECT_THAT(stream, IsOk());
  return *std::move(stream);
}

TEST(ErrorsPageTest, IsRightAboutAccept4) {
  const std::map<std::string_view, AcceptRemedy> remedies = {
      {"wait", AcceptRemedy::kWait},
      {"next", AcceptRemedy::kRetry},
      {"pause", AcceptRemedy::kPause},
      {"shed and pause", AcceptRemedy::kShedAndPause},
      {"give up", AcceptRemedy::kGiveUp}};
  const std::vector<Row> rows = TableOf("accept4");
  for (const Row& row : rows) {
    SCOPED_TRACE(strerrorname_np(row.error));
    ASSERT_TRUE(remedies.contains(row.says.at(1)));
    EXPECT_EQ(RemedyFor(row.error), remedies.at(row.says.at(1)));
    Listener listener = MustListen();
    const Stream client = MustConnect(listener);
    failure = {.call = "accept4", .error = row.error};
    const absl::StatusOr<std::optional<Accepted>> got = listener.Accept();
    EXPECT_EQ(failure.error, 0);
    const std::string& says = row.says.at(0);
    if (says == "tried again" || says == "passed over") {
      ASSERT_THAT(got, IsOk());
      EXPECT_TRUE(got->has_value());
    } else if (says == "nullopt") {
      ASSERT_THAT(got, IsOk());
      EXPECT_FALSE(got->has_value());
    } else {
      ExpectError(got.status(), row.error,
                  absl::StrCat("accept ", listener.address()), says);
    }
  }
  EXPECT_EQ(rows.size(), AcceptErrors().size());
}

TEST(ErrorsPageTest, IsRightAboutConnect) {
  const Listener tcp = MustListen();
  std::random_device random;
  const absl::StatusOr<Listener> unix_listener =
      Listener::Open(*Address::UnixAbstract(
          absl::StrCat("brood/errors_test/", random(), "/", random())));
  ASSERT_THAT(unix_listener, IsOk());
  for (const Row& row : TableOf("connect")) {
    for (const Listener* listener : {&tcp, &*unix_listener}) {
      SCOPED_TRACE(
          absl::StrCat(strerrorname_np(row.error), " ", listener->address()));
      const std::string what = absl::StrCat("connect ", listener->address());
      failure = {.call = "connect", .error = row.error};
      const absl::Status status = Stream::Connect(listener->address()).status();
      EXPECT_EQ(failure.error, 0);
      std::string_view says = row.says.at(0);
      if (says == "goes on") {
        EXPECT_THAT(status, IsOk());
        continue;
      }
      const bool too_late =
          absl::ConsumeSuffix(&says, listener == &tcp ? " (1)" : " (2)");
      (void)(absl::ConsumeSuffix(&says, " (1)") ||
             absl::ConsumeSuffix(&says, " (2)"));
      ExpectError(status, row.error, what, says);
      failure = {.call = "connect", .error = row.error};
      const absl::Status limited =
          Stream::Connect(listener->address(), absl::Now() + absl::Hours(1))
              .status();
      if (too_late) {
        EXPECT_THAT(limited, absl_testing::StatusIs(
                                 absl::StatusCode::kDeadlineExceeded,
                                 absl::StrCat(what, ": deadline exceeded")));
      } else {
        ExpectError(limited, row.error, what, says);
      }
    }
  }
}

TEST(ErrorsPageTest, IsRightAboutBind) {
  for (const Row& row : TableOf("bind")) {
    SCOPED_TRACE(strerrorname_np(row.error));
    failure = {.call = "bind", .error = row.error};
    const absl::Status status = Listener::Open(Loopback()).status();
    EXPECT_EQ(failure.error, 0);
    ExpectError(status, row.error, "bind 127.0.0.1:0", row.says.at(0));
  }
}

TEST(ErrorsPageTest, IsRightAboutRecv) {
  const Listener listener = MustListen();
  Stream stream = MustConnect(listener);
  std::array<char, 4> buffer;
  for (const Row& row : TableOf("recv and read")) {
    SCOPED_TRACE(strerrorname_np(row.error));
    failure = {.call = "recv", .error = row.error};
    const absl::StatusOr<IoResult> got = stream.TryRead(absl::MakeSpan(buffer));
    EXPECT_EQ(failure.error, 0);
    const std::string& says = row.says.at(0);
    // There was nothing to read: tried again, it would block.
    if (says == "would-block" || says == "tried again") {
      EXPECT_THAT(got, IsOkAndHolds(IoResult::WouldBlock()));
      continue;
    }
    const std::string what = absl::StrCat("recv from ", stream.peer());
    ExpectError(got.status(), row.error, what, says);
    failure = {.call = "recv", .error = row.error};
    ExpectError(stream.Read(absl::MakeSpan(buffer)).status(), row.error, what,
                says);
    const std::array<absl::Span<char>, 1> pieces = {absl::MakeSpan(buffer)};
    failure = {.call = "recv", .error = row.error};
    ExpectError(stream.TryReadV(pieces).status(), row.error, what, says);
    failure = {.call = "recv", .error = row.error};
    ExpectError(
        stream.Read(absl::MakeSpan(buffer), absl::Now() + absl::Hours(1))
            .status(),
        row.error, what, says);
  }
}

TEST(ErrorsPageTest, IsRightAboutSend) {
  const Listener listener = MustListen();
  Stream stream = MustConnect(listener);
  for (const Row& row : TableOf("send and write")) {
    SCOPED_TRACE(strerrorname_np(row.error));
    failure = {.call = "send", .error = row.error};
    const absl::StatusOr<IoResult> got = stream.TryWrite("word");
    EXPECT_EQ(failure.error, 0);
    const std::string& says = row.says.at(0);
    if (says == "would-block") {
      EXPECT_THAT(got, IsOkAndHolds(IoResult::WouldBlock()));
      continue;
    }
    if (says == "tried again") {
      EXPECT_THAT(got, IsOkAndHolds(IoResult::Bytes(4)));
      continue;
    }
    const std::string what = absl::StrCat("send to ", stream.peer());
    ExpectError(got.status(), row.error, what, says);
    failure = {.call = "send", .error = row.error};
    ExpectError(stream.WriteAll("word"), row.error,
                absl::StrCat(what, " after 0 of 4 bytes"), says);
    const std::array<std::string_view, 1> pieces = {"word"};
    failure = {.call = "send", .error = row.error};
    ExpectError(stream.TryWriteV(pieces).status(), row.error, what, says);
  }
}

}  // namespace
}  // namespace brood
