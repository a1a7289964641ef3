// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/unique_fd.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "brood/proc/posix.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;

bool IsOpen(int fd) { return fcntl(fd, F_GETFD) != -1; }

int OpenNull() { return open("/dev/null", O_RDONLY | O_CLOEXEC); }

absl::Status CountLines(const char* path) {
  UniqueFd file(open(path, O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return ErrnoStatus(errno, path);
  // ... read(file.get(), ...) ...
  return file.Close();  // Leave it out and the destructor closes.
}

TEST(UniqueFdTest, HeaderExample) {
  EXPECT_THAT(CountLines("/dev/null"), IsOk());
  EXPECT_THAT(CountLines("/no/such/file"),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST(UniqueFdTest, ClosesItsDescriptorWhenDestroyed) {
  int raw;
  {
    UniqueFd fd(OpenNull());
    raw = fd.get();
    ASSERT_TRUE(IsOpen(raw));
  }
  EXPECT_FALSE(IsOpen(raw));
}

TEST(UniqueFdTest, KeepsErrnoWhenDestroyed) {
  {
    const UniqueFd not_open(1 << 20);
    errno = ENOENT;
  }
  EXPECT_EQ(errno, ENOENT);
}

TEST(UniqueFdTest, TakesAnyNegativeNumberForNone) {
  EXPECT_FALSE(UniqueFd().valid());
  EXPECT_FALSE(UniqueFd(-1).valid());
  EXPECT_EQ(UniqueFd(-7).get(), -1);
  EXPECT_THAT(UniqueFd(-1).Close(), IsOk());
}

TEST(UniqueFdTest, TakesZeroForADescriptor) {
  UniqueFd zero(0);
  EXPECT_TRUE(zero.valid());
  EXPECT_EQ(std::move(zero).Release(), 0);
}

TEST(UniqueFdTest, LeavesNothingBehindWhenMovedFrom) {
  UniqueFd from(OpenNull());
  const int raw = from.get();
  UniqueFd to = std::move(from);
  EXPECT_FALSE(from.valid());  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(to.get(), raw);
}

TEST(UniqueFdTest, ClosesWhatItOwnedWhenAssignedTo) {
  UniqueFd first(OpenNull());
  const int raw = first.get();
  first = UniqueFd(OpenNull());
  EXPECT_TRUE(first.valid());
  EXPECT_FALSE(IsOpen(raw));
}

TEST(UniqueFdTest, SurvivesAssignmentToItself) {
  UniqueFd fd(OpenNull());
  UniqueFd& same = fd;
  fd = std::move(same);
  EXPECT_TRUE(IsOpen(fd.get()));
}

TEST(UniqueFdTest, GivesUpTheDescriptorItReleases) {
  UniqueFd fd(OpenNull());
  const int raw = std::move(fd).Release();
  EXPECT_FALSE(fd.valid());  // NOLINT(bugprone-use-after-move)
  EXPECT_TRUE(IsOpen(raw));
  close(raw);
}

TEST(UniqueFdTest, ReportsAFailedCloseOnce) {
  const int raw = OpenNull();
  close(raw);
  UniqueFd fd(raw);
  EXPECT_THAT(fd.Close(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                   testing::HasSubstr("EBADF")));
  EXPECT_FALSE(fd.valid());
  EXPECT_THAT(fd.Close(), IsOk());
}

}  // namespace
}  // namespace brood
