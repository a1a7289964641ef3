// SPDX-License-Identifier: Apache-2.0
// What only root can ask of Spawn.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/limits.h"
#include "brood/proc/posix.h"
#include "brood/proc/privileges.h"
#include "brood/proc/spawn.h"
#include "brood/proc/unique_fd.h"
#include "brood/tests/gate.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

namespace fs = std::filesystem;

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::testing::HasSubstr;

// The id of nobody.
constexpr uid_t kStranger = 54321;
const Credentials kStrangers = {
    .uid = kStranger, .gid = kStranger + 1, .groups = {kStranger + 2, 7}};

class SpawnAsRootTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "only root can start a stranger";
    // A user namespace may have root, and lack the ids or forbid setgroups.
    absl::StatusOr<Child> child = Spawn({"true"}, {.run_as = kStrangers});
    if (!child.ok()) {
      GTEST_SKIP() << "this root may not start a stranger: " << child.status();
    }
    EXPECT_THAT(child->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
  }

  // `inspect`, where a stranger can reach it and may execute it.
  static UniqueFd OpenToAll() {
    const UniqueFd file(open(getenv("INSPECT"), O_RDONLY | O_CLOEXEC));
    EXPECT_TRUE(file.valid());
    UniqueFd copy(memfd_create("inspect", MFD_CLOEXEC));
    EXPECT_TRUE(copy.valid());
    while (sendfile(copy.get(), file.get(), nullptr, 1 << 20) > 0) {
    }
    // What is open for writing cannot be executed.
    return UniqueFd(open(absl::StrCat("/proc/self/fd/", copy.get()).c_str(),
                         O_RDONLY | O_CLOEXEC));
  }

  // What `inspect` prints.
  static std::string Inspect(SpawnOptions options) {
    const UniqueFd program = OpenToAll();
    EXPECT_TRUE(program.valid());
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const UniqueFd out(ends[0]);
    UniqueFd in(ends[1]);
    options.program = "/proc/self/fd/9";
    options.fds = {{1, in.get()}, {9, program.get()}};
    absl::StatusOr<Child> child = Spawn({"inspect"}, options);
    EXPECT_THAT(child, IsOk());
    if (!child.ok()) return "";
    (void)in.Close();
    std::string text;
    char buffer[4096];
    for (ssize_t n; (n = read(out.get(), buffer, sizeof(buffer))) > 0;) {
      text.append(buffer, n);
    }
    EXPECT_THAT(child->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
    return text;
  }
};

TEST_F(SpawnAsRootTest, RunsAsAnotherUserWithTheGroupsOfNobodyElse) {
  const std::string facts = Inspect({.run_as = kStrangers});
  EXPECT_THAT(facts, HasSubstr("\nusers: 54321 54321 54321\n"));
  EXPECT_THAT(facts, HasSubstr("\ngroups: 54322 54322 54322, 7 54323\n"));
}

TEST_F(SpawnAsRootTest, LeavesItsOwnUserInEveryThread) {
  Gate gate;
  uid_t seen = kStranger;
  std::thread other([&] {
    char byte;
    (void)!read(gate.read_fd(), &byte, 1);
    seen = geteuid();
  });
  (void)Inspect({.run_as = kStrangers});
  EXPECT_EQ(geteuid(), 0u);
  gate.Open();
  other.join();
  EXPECT_EQ(seen, 0u);
}

// The kernel makes memory undumpable whose process changes user, and this
// memory is shared.
TEST_F(SpawnAsRootTest, LeavesTheParentAsDumpableAsItWas) {
  ASSERT_EQ(prctl(PR_GET_DUMPABLE), 1);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < 25; ++i) {
        absl::StatusOr<Child> child = Spawn({"true"}, {.run_as = kStrangers});
        EXPECT_THAT(child, IsOk());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(prctl(PR_GET_DUMPABLE), 1);
  prctl(PR_SET_DUMPABLE, 0);
  EXPECT_THAT(Spawn({"true"}, {.run_as = kStrangers}), IsOk());
  EXPECT_EQ(prctl(PR_GET_DUMPABLE), 0);
  prctl(PR_SET_DUMPABLE, 1);
}

TEST_F(SpawnAsRootTest, ArmsTheDeathSignalAfterTheChangeOfUserThatClearsIt) {
  EXPECT_THAT(Inspect({.run_as = kStrangers, .parent_death_signal = SIGTERM}),
              HasSubstr("\nparent death signal: 15\n"));
}

TEST_F(SpawnAsRootTest, HasRootsRightsForAllThatComesBeforeTheUser) {
  std::string folder = absl::StrCat(testing::TempDir(), "/closed.XXXXXX");
  ASSERT_NE(mkdtemp(folder.data()), nullptr);  // Mode 0700.
  const Limit core = *CurrentLimit(RLIMIT_CORE);
  const std::string facts = Inspect({.cwd = folder,
                                     .nice = -1,
                                     .limits = *Limits::Parse("NOFILE=64"),
                                     .run_as = kStrangers});
  EXPECT_THAT(facts, HasSubstr("\nnice: -1\n"));
  EXPECT_THAT(facts, HasSubstr("\nfiles: 64:64\n"));
  EXPECT_EQ(*CurrentLimit(RLIMIT_CORE), core);
  fs::remove(folder);
}

TEST_F(SpawnAsRootTest, ExecutesWithTheRightsOfTheUser) {
  std::string folder = absl::StrCat(testing::TempDir(), "/closed.XXXXXX");
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const std::string tool = absl::StrCat(folder, "/tool");
  std::ofstream(tool) << "#!/bin/sh\n";
  ASSERT_EQ(chmod(tool.c_str(), 0700), 0);
  const absl::Status status = Spawn({tool}, {.run_as = kStrangers}).status();
  EXPECT_EQ(ErrnoOf(status), EACCES) << status;
  fs::remove_all(folder);
}

TEST_F(SpawnAsRootTest, SaysThatTheUserHasTooManyProcesses) {
  Gate gate;
  absl::StatusOr<Child> other =
      Spawn({"cat"}, {.fds = {{0, gate.read_fd()}}, .run_as = kStrangers});
  ASSERT_THAT(other, IsOk());
  const absl::Status status =
      Spawn({"true"},
            {.limits = *Limits::Parse("NPROC=0"), .run_as = kStrangers})
          .status();
  EXPECT_EQ(ErrnoOf(status), EAGAIN) << status;
  EXPECT_THAT(status.message(), HasSubstr("execve"));
}

TEST_F(SpawnAsRootTest, NamesTheCallThatOnlyRootMayMake) {
  absl::StatusOr<Child> child = Fork({}, [] {
    if (!DropPrivileges({.run_as = kStrangers}).ok()) return 1;
    const absl::Status as_root =
        Spawn({"true"}, {.run_as = Credentials{}}).status();
    if (ErrnoOf(as_root) != EPERM) return 2;
    if (!absl::StrContains(as_root.message(), "setgroups")) return 3;
    const absl::Status nice = Spawn({"true"}, {.nice = -1}).status();
    if (ErrnoOf(nice) != EACCES) return 4;
    return absl::StrContains(nice.message(), "setpriority -1") ? 0 : 5;
  });
  ASSERT_THAT(child, IsOk());
  EXPECT_THAT(child->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

// A directory below the root of a hierarchy, of version 2 or 1.
class Cgroup {
 public:
  Cgroup() {
    for (const char* root :
         {"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids"}) {
      std::string path = absl::StrCat(root, "/brood-spawn-test.", getpid());
      if (access(absl::StrCat(root, "/cgroup.procs").c_str(), W_OK) == 0 &&
          mkdir(path.c_str(), 0700) == 0) {
        path_ = std::move(path);
        return;
      }
    }
  }
  ~Cgroup() {
    if (!path_.empty()) rmdir(path_.c_str());
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST_F(SpawnAsRootTest, JoinsAControlGroup) {
  const Cgroup cgroup;
  if (cgroup.path().empty()) {
    GTEST_SKIP() << "no control group can be made here";
  }
  EXPECT_THAT(Inspect({.cgroup = cgroup.path(), .run_as = kStrangers}),
              HasSubstr(absl::StrCat(
                  ":/", fs::path(cgroup.path()).filename().string(), "\n")));
}

}  // namespace
}  // namespace brood
