// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/posix.h"

#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "brood/proc/unique_fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;

absl::StatusOr<char> ReadByte(int fd) {
  char byte;
  const ssize_t n = RetryOnEintr([&] { return read(fd, &byte, 1); });
  if (n == -1) return ErrnoStatus(errno, "read the barrier");
  if (n == 0) return absl::OutOfRangeError("the barrier was closed");
  return byte;
}

struct Pipe {
  Pipe() {
    std::array<int, 2> ends;
    EXPECT_EQ(pipe(ends.data()), 0);
    reader = UniqueFd(ends[0]);
    writer = UniqueFd(ends[1]);
  }
  UniqueFd reader;
  UniqueFd writer;
};

TEST(PosixTest, HeaderExample) {
  Pipe barrier;
  ASSERT_EQ(write(barrier.writer.get(), "x", 1), 1);
  EXPECT_THAT(ReadByte(barrier.reader.get()), IsOkAndHolds('x'));
  barrier.writer = UniqueFd();
  EXPECT_THAT(ReadByte(barrier.reader.get()),
              StatusIs(absl::StatusCode::kOutOfRange));
  EXPECT_THAT(ReadByte(-1), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST(PosixTest, RetriesWhileTheCallIsInterrupted) {
  int calls = 0;
  EXPECT_EQ(RetryOnEintr([&] {
              errno = EINTR;
              return ++calls < 3 ? -1 : 42;
            }),
            42);
  EXPECT_EQ(calls, 3);
}

TEST(PosixTest, ReturnsEveryOtherErrorAtOnce) {
  int calls = 0;
  EXPECT_EQ(RetryOnEintr([&] {
              ++calls;
              errno = EAGAIN;
              return ssize_t{-1};
            }),
            -1);
  EXPECT_EQ(calls, 1);
}

TEST(PosixTest, NamesTheCallTheReasonAndTheErrno) {
  const absl::Status status = ErrnoStatus(EACCES, "bind 127.0.0.1:80");
  EXPECT_THAT(status,
              StatusIs(absl::StatusCode::kPermissionDenied,
                       "bind 127.0.0.1:80: Permission denied (EACCES)"));
  EXPECT_EQ(ErrnoOf(status), EACCES);
}

TEST(PosixTest, SpeaksOfAnErrnoWithoutAName) {
  EXPECT_THAT(ErrnoStatus(9999, "call"),
              StatusIs(absl::StatusCode::kUnknown, "call: errno 9999"));
}

TEST(PosixTest, FindsNoErrnoInAnotherStatus) {
  EXPECT_EQ(ErrnoOf(absl::OkStatus()), 0);
  EXPECT_EQ(ErrnoOf(absl::NotFoundError("elsewhere")), 0);
}

TEST(PosixTest, PollsADescriptorThatIsReady) {
  Pipe pipe;
  ASSERT_EQ(write(pipe.writer.get(), "x", 1), 1);
  EXPECT_THAT(PollUntil(pipe.reader.get(), POLLIN, absl::InfiniteFuture()),
              IsOkAndHolds(true));
  EXPECT_THAT(PollUntil(pipe.reader.get(), POLLIN, absl::InfinitePast()),
              IsOkAndHolds(true));
}

TEST(PosixTest, PollsNoLongerThanTheDeadline) {
  Pipe pipe;
  EXPECT_THAT(PollUntil(pipe.reader.get(), POLLIN, absl::InfinitePast()),
              IsOkAndHolds(false));
  const absl::Time deadline = absl::Now() + absl::Milliseconds(5);
  EXPECT_THAT(PollUntil(pipe.reader.get(), POLLIN, deadline),
              IsOkAndHolds(false));
}

TEST(PosixTest, CountsAHangUpAsReady) {
  Pipe pipe;
  pipe.writer = UniqueFd();
  EXPECT_THAT(PollUntil(pipe.reader.get(), POLLIN, absl::InfiniteFuture()),
              IsOkAndHolds(true));
}

TEST(PosixTest, RefusesToPollWhatIsNotOpen) {
  EXPECT_THAT(PollUntil(1 << 20, POLLIN, absl::InfiniteFuture()),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       testing::HasSubstr("EBADF")));
}

TEST(PosixTest, NamesSignals) {
  EXPECT_EQ(NameOfSignal(SIGCHLD), "SIGCHLD");
  EXPECT_EQ(NameOfSignal(SIGSEGV), "SIGSEGV");
  EXPECT_EQ(NameOfSignal(SIGRTMIN), "SIGRTMIN");
  EXPECT_EQ(NameOfSignal(SIGRTMIN + 3), "SIGRTMIN+3");
  EXPECT_EQ(NameOfSignal(SIGRTMAX), "SIGRTMAX");
  EXPECT_EQ(NameOfSignal(0), "signal 0");
  EXPECT_EQ(NameOfSignal(99), "signal 99");
}

}  // namespace
}  // namespace brood
