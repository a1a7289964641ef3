// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/load/progress_line.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <string>

#include "absl/log/check.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::testing::HasSubstr;

void CountUp(int fd, int most) {
  ProgressLine line(fd);
  for (int i = 0; i < most; ++i) line.Show(absl::StrCat(i, " of ", most));
}

// A terminal of so many columns, and who looks at it.
class Terminal {
 public:
  explicit Terminal(unsigned short columns)
      : screen_(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK)) {
    CHECK(screen_.valid() && grantpt(screen_.get()) == 0 &&
          unlockpt(screen_.get()) == 0);
    terminal_ =
        UniqueFd(open(ptsname(screen_.get()), O_RDWR | O_NOCTTY | O_CLOEXEC));
    CHECK(terminal_.valid());
    winsize size = {};
    size.ws_col = columns;
    CHECK_EQ(ioctl(terminal_.get(), TIOCSWINSZ, &size), 0);
  }

  int fd() const { return terminal_.get(); }

  // What has been written since the last time, up to and with `end`.
  std::string ReadUpTo(const char* end) {
    std::string text;
    while (!absl::EndsWith(text, end)) {
      const absl::StatusOr<bool> ready =
          PollUntil(screen_.get(), POLLIN, absl::Now() + absl::Seconds(30));
      CHECK(ready.ok() && *ready) << text;
      std::array<char, 1024> buffer;
      const ssize_t n = read(screen_.get(), buffer.data(), buffer.size());
      CHECK_GT(n, 0);
      text.append(buffer.data(), static_cast<size_t>(n));
    }
    return text;
  }

 private:
  UniqueFd screen_;
  UniqueFd terminal_;
};

TEST(ProgressLineTest, ALineIsDrawnAndAtTheEndItIsGone) {
  Terminal terminal(80);
  {
    ProgressLine line(terminal.fd());
    line.Show("half done");
    EXPECT_EQ(terminal.ReadUpTo("\x1b[K"), "\rhalf done\x1b[K");
  }
  EXPECT_EQ(terminal.ReadUpTo("\x1b[K"), "\r\x1b[K");
}

TEST(ProgressLineTest, NewsThatComeFasterThanAPersonReadsAreNotDrawn) {
  Terminal terminal(80);
  ProgressLine line(terminal.fd());
  const absl::Duration start = MonotonicNow();
  int shown = 0;
  while (MonotonicNow() - start < absl::Milliseconds(450)) {
    line.Show(absl::StrCat("step ", shown++));
  }
  line.Clear();
  const std::string screen = terminal.ReadUpTo("\r\x1b[K");
  int drawn = 0;
  for (const char c : screen) drawn += c == 's' ? 1 : 0;
  EXPECT_GE(drawn, 2);
  EXPECT_LE(drawn, 4);
  EXPECT_GT(shown, drawn);
}

TEST(ProgressLineTest, WhatIsTooLongIsCutSoThatItIsOneLine) {
  Terminal terminal(10);
  ProgressLine line(terminal.fd());
  line.Show("0123456789abcdef");
  EXPECT_EQ(terminal.ReadUpTo("\x1b[K"), "\r012345678\x1b[K");
}

TEST(ProgressLineTest, WhereThereIsNoTerminalNothingIsWritten) {
  std::array<int, 2> ends;
  ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK), 0);
  const UniqueFd reader(ends[0]);
  const UniqueFd writer(ends[1]);
  CountUp(writer.get(), 100);
  char byte;
  EXPECT_EQ(read(reader.get(), &byte, 1), -1);
  Terminal terminal(80);
  CountUp(terminal.fd(), 100);
  EXPECT_THAT(terminal.ReadUpTo("\r\x1b[K"), HasSubstr("0 of 100"));
}

}  // namespace
}  // namespace brood
