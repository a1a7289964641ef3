// SPDX-License-Identifier: Apache-2.0
#include "brood/server/rules_file.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <ostream>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/server/rules.h"
#include "brood/tests/in_child.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;
using ::testing::HasSubstr;

namespace fs = std::filesystem;

absl::Status Follow(RulesFile& file, Rules& rules, std::ostream& log) {
  absl::StatusOr<std::optional<Rules>> changed = file.Next();
  if (!changed.ok()) {
    log << changed.status().message() << "; the old rules stay\n";
  } else if (changed->has_value()) {
    rules = **std::move(changed);
    log << rules.rules().size() << " rules\n";
  }
  return absl::OkStatus();
}

class RulesFileTest : public testing::Test {
 protected:
  RulesFileTest() {
    std::string pattern = "/tmp/rules_file_test.XXXXXX";
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    path_ = absl::StrCat(folder_, "/x.rules");
  }
  ~RulesFileTest() override { fs::remove_all(folder_); }

  // In the folder.
  std::string In(std::string_view name) const {
    return absl::StrCat(folder_, "/", name);
  }

  // Opened, written and closed in one go, as `echo > file` does.
  static void Write(const std::string& path, std::string_view text) {
    const UniqueFd file = Create(path);
    Append(file, text);
  }
  static UniqueFd Create(const std::string& path) {
    UniqueFd file(
        open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    EXPECT_TRUE(file.valid()) << path;
    return file;
  }
  static void Append(const UniqueFd& file, std::string_view text) {
    EXPECT_EQ(write(file.get(), text.data(), text.size()),
              static_cast<ssize_t>(text.size()));
  }

  static bool IsReadable(const RulesFile& file) {
    return *PollUntil(file.fd(), POLLIN, absl::Now());
  }

  // What one drain said: "", "2 rules", or an error.
  static std::string Ask(RulesFile& file) {
    const absl::StatusOr<std::optional<Rules>> next = file.Next();
    EXPECT_FALSE(IsReadable(file));
    if (!next.ok()) return std::string(next.status().message());
    if (!next->has_value()) return "";
    return absl::StrCat((*next)->rules().size(), " rules");
  }
  // The same, of a file that must have become readable.
  static std::string AskReadable(RulesFile& file) {
    EXPECT_TRUE(IsReadable(file));
    return Ask(file);
  }

  // With a file of one rule, read.
  RulesFile Opened() {
    Write(path_, "deny 10.0.0.1\n");
    absl::StatusOr<RulesFile> file = RulesFile::Open(path_);
    EXPECT_THAT(file, IsOk());
    EXPECT_THAT(file->Load(), IsOk());
    EXPECT_FALSE(IsReadable(*file));
    return *std::move(file);
  }

  std::string folder_;
  std::string path_;
};

TEST_F(RulesFileTest, HeaderExample) {
  RulesFile file = Opened();
  Rules rules = *file.Load();
  std::ostringstream log;
  EXPECT_THAT(Follow(file, rules, log), IsOk());
  EXPECT_EQ(log.str(), "");
  Write(path_, "deny 10.0.0.1\ndeny 10.0.0.2\n");
  EXPECT_THAT(Follow(file, rules, log), IsOk());
  Write(path_, "deny 10.0.0.1\nallow nobody\n");
  EXPECT_THAT(Follow(file, rules, log), IsOk());
  EXPECT_THAT(log.str(),
              HasSubstr(absl::StrCat("2 rules\n", path_,
                                     ":2:7: address range \"nobody\"")));
  EXPECT_THAT(log.str(), HasSubstr("; the old rules stay\n"));
  EXPECT_EQ(rules.rules().size(), 2);
}

TEST_F(RulesFileTest, SeesAnEditInPlace) {
  RulesFile file = Opened();
  EXPECT_EQ(Ask(file), "");
  Write(path_, "deny 10.0.0.1\ndeny 10.0.0.2\n");
  EXPECT_EQ(AskReadable(file), "2 rules");
  EXPECT_EQ(Ask(file), "");
}

TEST_F(RulesFileTest, ReadsNothingThatIsHalfWritten) {
  RulesFile file = Opened();
  {
    const UniqueFd half = Create(path_);
    EXPECT_EQ(Ask(file), "");
    Append(half, "deny 10.0.0.1\nal");
    EXPECT_EQ(Ask(file), "");
    // As cp -p and install do before they close.
    EXPECT_EQ(fchmod(half.get(), 0600), 0);
    EXPECT_EQ(Ask(file), "");
    // Whatever else happens in the folder.
    Write(In("other"), "x");
    EXPECT_EQ(Ask(file), "");
    Append(half, "low 10.0.0.2\n");
  }
  EXPECT_EQ(AskReadable(file), "2 rules");
}

TEST_F(RulesFileTest, ReadsNothingThatIsHalfWrittenWhereThereWasNoFile) {
  RulesFile file = Opened();
  EXPECT_EQ(unlink(path_.c_str()), 0);
  EXPECT_THAT(AskReadable(file), HasSubstr("(ENOENT)"));
  {
    const UniqueFd half = Create(path_);
    Append(half, "deny 10.0.0.1\ndeny all\n");
    EXPECT_EQ(Ask(file), "");
  }
  EXPECT_EQ(AskReadable(file), "2 rules");
}

TEST_F(RulesFileTest, SeesAnotherFileThatIsRenamedOverIt) {
  RulesFile file = Opened();
  Write(In("x.rules.new"), "deny 10.0.0.1\ndeny 10.0.0.2\n");
  EXPECT_EQ(AskReadable(file), "");
  EXPECT_EQ(rename(In("x.rules.new").c_str(), path_.c_str()), 0);
  EXPECT_EQ(AskReadable(file), "2 rules");
  // And is still watched by its name.
  Write(path_, "");
  EXPECT_EQ(AskReadable(file), "0 rules");
}

TEST_F(RulesFileTest, SaysOnceThatItIsGoneAndSeesItComeBack) {
  RulesFile file = Opened();
  EXPECT_EQ(rename(path_.c_str(), In("elsewhere").c_str()), 0);
  EXPECT_EQ(AskReadable(file),
            absl::StrCat(path_, ": No such file or directory (ENOENT)"));
  Write(In("other"), "x");
  EXPECT_EQ(AskReadable(file), "");
  Write(path_, "deny 10.0.0.1\ndeny 10.0.0.2\n");
  EXPECT_EQ(AskReadable(file), "2 rules");
  EXPECT_EQ(unlink(path_.c_str()), 0);
  EXPECT_THAT(AskReadable(file), HasSubstr("(ENOENT)"));
}

TEST_F(RulesFileTest, MakesTheSameComplaintOnce) {
  RulesFile file = Opened();
  Write(path_, "permit all\n");
  EXPECT_THAT(AskReadable(file), HasSubstr("x.rules:1:1: \"permit\""));
  Write(path_, "permit all\n");
  EXPECT_EQ(AskReadable(file), "");
  Write(path_, "\npermit all\n");
  EXPECT_THAT(AskReadable(file), HasSubstr("x.rules:2:1: \"permit\""));
  Write(path_, "allow all\n");
  EXPECT_EQ(AskReadable(file), "1 rules");
  Write(path_, "\npermit all\n");
  EXPECT_THAT(AskReadable(file), HasSubstr("x.rules:2:1: \"permit\""));
}

TEST_F(RulesFileTest, SeesAHardLinkAndASymbolicLinkInItsPlace) {
  RulesFile file = Opened();
  Write(In("two"), "deny 10.0.0.1\ndeny 10.0.0.2\n");
  EXPECT_EQ(unlink(path_.c_str()), 0);
  EXPECT_EQ(link(In("two").c_str(), path_.c_str()), 0);
  EXPECT_EQ(AskReadable(file), "2 rules");

  Write(In("three"), "deny 10.0.0.1\ndeny 10.0.0.2\ndeny 10.0.0.3\n");
  EXPECT_EQ(unlink(path_.c_str()), 0);
  EXPECT_EQ(symlink("three", path_.c_str()), 0);
  EXPECT_EQ(AskReadable(file), "3 rules");
}

// As a volume that Kubernetes mounts: x.rules -> ..data/x.rules and ..data ->
// a folder, and only the second link is ever replaced.
TEST_F(RulesFileTest, SeesThatALinkOnTheWayLeadsElsewhere) {
  for (const char* version : {"one", "two"}) {
    ASSERT_TRUE(fs::create_directory(In(version)));
  }
  Write(In("one/x.rules"), "deny 10.0.0.1\n");
  Write(In("two/x.rules"), "deny 10.0.0.1\ndeny 10.0.0.2\n");
  ASSERT_EQ(symlink("one", In("..data").c_str()), 0);
  ASSERT_EQ(symlink("..data/x.rules", path_.c_str()), 0);
  absl::StatusOr<RulesFile> file = RulesFile::Open(path_);
  ASSERT_THAT(file, IsOk());
  EXPECT_EQ(file->Load()->rules().size(), 1);
  ASSERT_EQ(symlink("two", In("..data_tmp").c_str()), 0);
  EXPECT_EQ(AskReadable(*file), "");
  ASSERT_EQ(rename(In("..data_tmp").c_str(), In("..data").c_str()), 0);
  EXPECT_EQ(AskReadable(*file), "2 rules");
}

TEST_F(RulesFileTest, SeesThatItMayBeReadNoLongerAndAgain) {
  const int result = InChild([&] {
    // Without capabilities not even root may read what it forbade itself.
    __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3,
                                       .pid = 0};
    const std::array<__user_cap_data_struct, 2> none = {};
    if (syscall(SYS_capset, &header, none.data()) != 0) return 77;
    RulesFile file = Opened();
    if (chmod(path_.c_str(), 0) != 0) return 1;
    if (AskReadable(file) !=
        absl::StrCat(path_, ": Permission denied (EACCES)")) {
      return 2;
    }
    if (chmod(path_.c_str(), 0600) != 0) return 3;
    if (AskReadable(file) != "1 rules") return 4;
    if (chmod(path_.c_str(), 0644) != 0 || !Ask(file).empty()) return 5;
    // The same for the folder.
    if (chmod(folder_.c_str(), 0600) != 0) return 6;
    if (AskReadable(file).find("(EACCES)") == std::string::npos) return 7;
    if (chmod(folder_.c_str(), 0700) != 0) return 8;
    if (AskReadable(file) != "1 rules") return 9;
    return HasFailure() ? 10 : 0;
  });
  if (result == 77) GTEST_SKIP() << "capabilities cannot be given up here";
  EXPECT_EQ(result, 0);
}

TEST_F(RulesFileTest, SaysThatTheFolderIsGoneAndFindsItAgainWhenAsked) {
  ASSERT_TRUE(fs::create_directory(In("etc")));
  path_ = In("etc/x.rules");
  RulesFile file = Opened();
  fs::remove_all(In("etc"));
  EXPECT_THAT(AskReadable(file), HasSubstr("(ENOENT)"));
  ASSERT_TRUE(fs::create_directory(In("etc")));
  Write(path_, "deny all\n");
  EXPECT_EQ(Ask(file), "");
  EXPECT_THAT(file.Load(), IsOk());
  Write(path_, "deny all\nallow all\n");
  EXPECT_EQ(AskReadable(file), "2 rules");
}

TEST_F(RulesFileTest, ReadsWhatIsThereAfterSoMuchThatEventsWereLost) {
  RulesFile file = Opened();
  std::string most;
  const UniqueFd max(
      open("/proc/sys/fs/inotify/max_queued_events", O_RDONLY | O_CLOEXEC));
  most.resize(32);
  const ssize_t n = read(max.get(), most.data(), most.size());
  ASSERT_GT(n, 0);
  const int queue = std::atoi(most.c_str());
  if (queue > 100'000) GTEST_SKIP() << "a queue of " << queue << " events";
  // Not twice the same in a row, which would be one event.
  for (int i = 0; i <= queue; ++i) {
    Write(In(i % 2 == 0 ? "a" : "b"), "");
  }
  Write(path_, "deny 10.0.0.1\ndeny all\n");
  std::string said;
  while (IsReadable(file)) {
    const absl::StatusOr<std::optional<Rules>> next = file.Next();
    ASSERT_THAT(next, IsOk());
    if (next->has_value()) {
      said = absl::StrCat((*next)->rules().size(), " rules");
    }
  }
  EXPECT_EQ(said, "2 rules");
}

TEST_F(RulesFileTest, SaysWhatIsNoRulesFile) {
  for (const std::string& path :
       {std::string(), folder_ + "/", std::string("a\0b", 3)}) {
    EXPECT_THAT(RulesFile::Open(path),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("expected the path of a file")));
  }
  EXPECT_THAT(RulesFile::Open(In("missing/x")),
              StatusIs(absl::StatusCode::kNotFound,
                       absl::StrCat("watch ", folder_,
                                    "/missing: No such file or directory "
                                    "(ENOENT)")));
  Write(In("file"), "");
  EXPECT_EQ(ErrnoOf(RulesFile::Open(In("file/x")).status()), ENOTDIR);

  absl::StatusOr<RulesFile> file = RulesFile::Open(path_);
  ASSERT_THAT(file, IsOk());
  EXPECT_THAT(file->Load(), StatusIs(absl::StatusCode::kNotFound));
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_THAT(file->Load(), StatusIs(absl::StatusCode::kInvalidArgument,
                                     absl::StrCat(path_,
                                                  ": expected an ordinary "
                                                  "file")));
  ASSERT_EQ(unlink(path_.c_str()), 0);
  Write(path_, "");
  ASSERT_EQ(truncate(path_.c_str(), RulesFile::kMaxSize + 1), 0);
  EXPECT_THAT(file->Load(), StatusIs(absl::StatusCode::kInvalidArgument,
                                     HasSubstr("at most 16777216 bytes")));
}

TEST_F(RulesFileTest, TakesAPathWithoutAFolder) {
  EXPECT_EQ(InChild([&] {
              if (chdir(folder_.c_str()) != 0) return 1;
              absl::StatusOr<RulesFile> file = RulesFile::Open("x.rules");
              if (!file.ok()) return 2;
              Write(path_, "deny all\n");
              return AskReadable(*file) == "1 rules" ? 0 : 3;
            }),
            0);
}

}  // namespace
}  // namespace brood
