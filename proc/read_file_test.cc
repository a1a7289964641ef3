// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/read_file.h"

#include <fcntl.h>

#include <cerrno>
#include <fstream>
#include <string>

#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOkAndHolds;
using ::testing::HasSubstr;

std::string PathOf(const std::string& name) {
  return absl::StrCat(testing::TempDir(), "/", name);
}

TEST(ReadFileTest, ReadsWhatIsLongerThanOneRead) {
  std::string text;
  for (int i = 0; i < 5'000; ++i) absl::StrAppend(&text, i, "\n");
  std::ofstream(PathOf("long")) << text;
  EXPECT_THAT(ReadFile(AT_FDCWD, PathOf("long")), IsOkAndHolds(text));
}

absl::StatusOr<std::string> OwnLimits() {
  return ReadFile(AT_FDCWD, "/proc/self/limits");
}

TEST(ReadFileTest, ReadsWhatHasNoSize) {
  EXPECT_THAT(OwnLimits(), IsOkAndHolds(HasSubstr("\nMax file locks ")));
}

TEST(ReadFileTest, LooksInTheDirectory) {
  std::ofstream(PathOf("here")) << "text";
  const UniqueFd directory(
      open(testing::TempDir().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  EXPECT_THAT(ReadFile(directory.get(), "here"), IsOkAndHolds("text"));
}

TEST(ReadFileTest, NamesWhatIsMissingAndWhatIsNoFile) {
  const absl::StatusOr<std::string> missing =
      ReadFile(AT_FDCWD, PathOf("nowhere"));
  EXPECT_EQ(ErrnoOf(missing.status()), ENOENT);
  EXPECT_THAT(missing.status().message(), HasSubstr(PathOf("nowhere")));
  EXPECT_EQ(ErrnoOf(ReadFile(AT_FDCWD, testing::TempDir()).status()), EISDIR);
}

}  // namespace
}  // namespace brood
