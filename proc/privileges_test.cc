// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/privileges.h"

#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "brood/proc/accounts.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/tests/gate.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;
using ::testing::HasSubstr;

absl::Status BecomeNobody(const std::string& directory) {
  const absl::StatusOr<Credentials> nobody = LookUpUser("nobody");
  if (!nobody.ok()) return nobody.status();  // See accounts.h.
  // Sockets below port 1024 have been bound, files of root's been opened.
  return DropPrivileges(
      {.chroot = directory, .run_as = *nobody, .no_new_privileges = true});
}

// Where a process of root's can be somebody else and come to no harm.
ExitStatus InAChild(absl::FunctionRef<int()> body) {
  absl::StatusOr<Child> child = Fork({}, body);
  EXPECT_THAT(child, IsOk());
  if (!child.ok()) return ExitStatus::Lost();
  return *child->Wait();
}

// Neither is the id of anybody.
constexpr uid_t kStranger = 54321;
const Credentials kStrangers = {
    .uid = kStranger, .gid = kStranger, .groups = {kStranger + 1}};

class PrivilegesAsRootTest : public testing::Test {
 protected:
  void SetUp() override {
    // A user namespace may have root, and forbid setgroups or lack the ids.
    const ExitStatus can = InAChild(
        [] { return DropPrivileges({.run_as = kStrangers}).ok() ? 0 : 1; });
    if (geteuid() != 0) GTEST_SKIP() << "only root has privileges to drop";
    if (!can.success()) GTEST_SKIP() << "this root may not become another user";
  }
};

TEST_F(PrivilegesAsRootTest, HeaderExample) {
  if (!LookUpUser("nobody").ok()) GTEST_SKIP() << "there is no user nobody";
  const std::string directory = testing::TempDir();
  EXPECT_EQ(InAChild([&] {
              if (!BecomeNobody(directory).ok()) return 1;
              struct stat root;
              struct stat here;
              if (stat("/", &root) == -1 || stat(".", &here) == -1) return 2;
              if (root.st_ino != here.st_ino) return 3;
              if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) return 4;
              return access("/proc/self", F_OK) == -1 ? 0 : 5;
            }),
            ExitStatus::Exited(0));
}

TEST_F(PrivilegesAsRootTest, LeavesNoIdOfRootBehind) {
  EXPECT_EQ(InAChild([] {
              if (!DropPrivileges({.run_as = kStrangers}).ok()) return 1;
              gid_t groups[8];
              if (getgroups(std::size(groups), groups) != 1) return 2;
              if (groups[0] != kStranger + 1) return 3;
              if (getuid() != kStranger || getegid() != kStranger) return 4;
              return setuid(0) == -1 && setgid(0) == -1 ? 0 : 5;
            }),
            ExitStatus::Exited(0));
}

TEST_F(PrivilegesAsRootTest, SaysSoWhenRootCanBeRegained) {
  EXPECT_EQ(InAChild([] {
              if (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP) == -1) {
                return 1;
              }
              const absl::Status dropped =
                  DropPrivileges({.run_as = kStrangers});
              return dropped.code() == absl::StatusCode::kInternal ? 0 : 2;
            }),
            ExitStatus::Exited(0));
}

TEST_F(PrivilegesAsRootTest, NamesTheCallThatASecondDropMayNotMake) {
  EXPECT_EQ(InAChild([] {
              if (!DropPrivileges({.run_as = kStrangers}).ok()) return 1;
              const absl::Status again = DropPrivileges({.run_as = kStrangers});
              if (ErrnoOf(again) != EPERM) return 2;
              return again.message().find("setgroups") != std::string::npos ? 0
                                                                            : 3;
            }),
            ExitStatus::Exited(0));
}

TEST_F(PrivilegesAsRootTest, NamesADirectoryThatCannotBecomeTheRoot) {
  EXPECT_EQ(InAChild([] {
              const absl::Status dropped = DropPrivileges(
                  {.chroot = "/nonexistent/jail", .run_as = kStrangers});
              if (ErrnoOf(dropped) != ENOENT || getuid() != 0) return 1;
              return dropped.message().find("/nonexistent/jail") !=
                             std::string::npos
                         ? 0
                         : 2;
            }),
            ExitStatus::Exited(0));
}

TEST(PrivilegesTest, GivesUpNothingUnlessAsked) {
  EXPECT_THAT(DropPrivileges({}), IsOk());
  EXPECT_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
}

TEST(PrivilegesTest, NeedsNoPrivilegeToGainNoNewOnes) {
  EXPECT_EQ(InAChild([] {
              if (!DropPrivileges({.no_new_privileges = true}).ok()) return 1;
              return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : 2;
            }),
            ExitStatus::Exited(0));
}

TEST(PrivilegesTest, RefusesRootAndIdsThatMeanUnchanged) {
  const uid_t unchanged = -1;
  for (const Credentials& user :
       std::vector<Credentials>{{.uid = 0, .gid = 1},
                                {.uid = 1, .gid = 0},
                                {.uid = 1, .gid = 1, .groups = {1, 0}},
                                {.uid = unchanged, .gid = 1},
                                {.uid = 1, .gid = unchanged},
                                {.uid = 1, .gid = 1, .groups = {unchanged}}}) {
    EXPECT_THAT(
        DropPrivileges({.run_as = user}),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("run_as")));
  }
}

TEST(PrivilegesTest, RefusesAChrootThatRootCouldLeave) {
  EXPECT_THAT(
      DropPrivileges({.chroot = "/"}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("chroot")));
}

TEST(PrivilegesTest, RefusesWithSeveralThreads) {
  Gate gate;
  std::thread other([&] {
    char byte;
    (void)!read(gate.read_fd(), &byte, 1);
  });
  EXPECT_THAT(DropPrivileges({.no_new_privileges = true}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("more than one thread")));
  gate.Open();
  other.join();
}

}  // namespace
}  // namespace brood
