// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/accounts.h"

#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/proc/posix.h"
#include "brood/proc/privileges.h"
#include "brood/tests/in_child.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

namespace fs = std::filesystem;

using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

absl::Status BecomeOf(const std::string& user, const std::string& group) {
  absl::StatusOr<Credentials> credentials = LookUpUser(user);
  if (!credentials.ok()) return credentials.status();
  const absl::StatusOr<gid_t> gid = LookUpGroup(group);
  if (!gid.ok()) return gid.status();  // NotFound: no such group.
  credentials->gid = *gid;
  return DropPrivileges({.run_as = *credentials});
}

// A machine's files and its getent, all made up.
class AccountsTest : public testing::Test {
 protected:
  AccountsTest() {
    std::string name = absl::StrCat(testing::TempDir(), "/accounts.XXXXXX");
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    sources_ = {.passwd = Write("passwd",
                                "root:x:0:0:root:/:/bin/sh\n"
                                "alice:x:1000:100:Alice:/srv:/bin/sh\n"
                                "bob:x:1001:101::/:\n"),
                .group = Write("group",
                               "root:x:0:\n"
                               "users:x:100:bob\n"
                               "bob:x:101:\n"
                               "disk:x:6:alice,bob\n"
                               "audio:x:29:alice\n"),
                .getent = ""};
  }
  ~AccountsTest() override { fs::remove_all(folder_); }

  std::string Write(const std::string& name, std::string_view text) {
    const std::string path = absl::StrCat(folder_, "/", name);
    std::ofstream(path) << text;
    return path;
  }

  // A getent that does what `script` says, and keeps a list of what it is
  // asked.
  void HaveGetent(std::string_view script) {
    sources_.getent =
        Write("getent", absl::StrCat("#!/bin/sh\necho \"$@\" >>", folder_,
                                     "/asked\n", script, "\n"));
    ASSERT_EQ(chmod(sources_.getent.c_str(), 0700), 0);
  }

  std::string Asked() const {
    std::ifstream file(folder_ + "/asked");
    std::string all;
    for (std::string line; std::getline(file, line);) all += line + "; ";
    return all;
  }

  absl::StatusOr<Credentials> User(const std::string& name) const {
    return LookUpUser(name, sources_);
  }
  absl::StatusOr<gid_t> Group(const std::string& name) const {
    return LookUpGroup(name, sources_);
  }
  absl::StatusOr<std::string> NameOf(uid_t uid) const {
    return NameOfUser(uid, sources_);
  }

  std::string folder_;
  AccountSources sources_;
};

TEST_F(AccountsTest, HeaderExample) {
  EXPECT_THAT(BecomeOf("no-such-user", "root"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no-such-user")));
  EXPECT_THAT(
      BecomeOf("root", "no-such-group"),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("no-such-group")));
}

// ---- The files ----

TEST_F(AccountsTest, AUserHasTheGroupsThatListHimAndHisOwn) {
  EXPECT_THAT(User("alice"),
              IsOkAndHolds(Credentials{
                  .uid = 1000, .gid = 100, .groups = {6, 29, 100}}));
  EXPECT_THAT(User("bob"),
              IsOkAndHolds(Credentials{
                  .uid = 1001, .gid = 101, .groups = {6, 100, 101}}));
  EXPECT_THAT(User("root"),
              IsOkAndHolds(Credentials{.uid = 0, .gid = 0, .groups = {0}}));
}

TEST_F(AccountsTest, AGroupHasANumberAndANumberAName) {
  EXPECT_THAT(Group("disk"), IsOkAndHolds(6));
  EXPECT_THAT(Group("root"), IsOkAndHolds(0));
  EXPECT_THAT(NameOf(1001), IsOkAndHolds("bob"));
}

TEST_F(AccountsTest, WhoIsNotThereIsNamed) {
  EXPECT_THAT(User("carol"), StatusIs(absl::StatusCode::kNotFound,
                                      "user \"carol\" does not exist"));
  EXPECT_THAT(Group("staff"), StatusIs(absl::StatusCode::kNotFound,
                                       "there is no group \"staff\""));
  EXPECT_THAT(NameOf(77),
              StatusIs(absl::StatusCode::kNotFound, "user 77 has no name"));
}

TEST_F(AccountsTest, FilesThatAreMissingHaveNoNamesInThem) {
  sources_.group = folder_ + "/none";
  EXPECT_THAT(User("alice"), IsOkAndHolds(Credentials{
                                 .uid = 1000, .gid = 100, .groups = {100}}));
  EXPECT_THAT(Group("disk"), StatusIs(absl::StatusCode::kNotFound));
  sources_.passwd = folder_ + "/none";
  EXPECT_THAT(User("alice"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(NameOf(1000), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(AccountsTest, AFileThatCannotBeReadIsNamed) {
  sources_.passwd = sources_.group = folder_;
  for (const absl::Status& status :
       {User("alice").status(), Group("disk").status(), NameOf(1).status()}) {
    EXPECT_EQ(ErrnoOf(status), EISDIR);
    EXPECT_THAT(status.message(), HasSubstr(folder_));
  }
}

TEST_F(AccountsTest, ALineThatMeansNothingHidesNoOther) {
  std::string many;
  for (int i = 0; i < 2000; ++i) absl::StrAppend(&many, "member", i, ",");
  sources_.passwd = Write("passwd",
                          "\n# comment\nbroken\nbroken:x:a:b:::\n"
                          "nobodys:x:4294967295:1::/:\n"
                          "+:x:9:9::/:\n"
                          "alice:x:1000:100::/:");
  sources_.group = Write("group", absl::StrCat("many:x:7:", many, "alice\n",
                                               "broken:x:\n"
                                               "nobodys:x:4294967295:alice\n"
                                               "last:x:8:alice"));
  EXPECT_THAT(User("alice"),
              IsOkAndHolds(
                  Credentials{.uid = 1000, .gid = 100, .groups = {7, 8, 100}}));
  for (const char* none : {"broken", "nobodys", "+"}) {
    EXPECT_THAT(User(none), StatusIs(absl::StatusCode::kNotFound)) << none;
    EXPECT_THAT(Group(none), StatusIs(absl::StatusCode::kNotFound)) << none;
  }
}

// ---- getent ----

TEST_F(AccountsTest, GetentIsAskedForWhatIsNotInTheFiles) {
  HaveGetent(
      "case \"$1 $2\" in\n"
      "'passwd ldap') echo 'ldap:*:5000:5001:L:/srv:/bin/sh';;\n"
      "'passwd 5000') echo 'ldap:*:5000:5001:L:/srv:/bin/sh';;\n"
      "'group admins') echo 'admins:*:5002:ldap,alice';;\n"
      "'initgroups ldap') echo 'ldap                  5002 5003';;\n"
      "*) exit 2;;\n"
      "esac");
  EXPECT_THAT(User("ldap"),
              IsOkAndHolds(Credentials{
                  .uid = 5000, .gid = 5001, .groups = {5001, 5002, 5003}}));
  EXPECT_THAT(Group("admins"), IsOkAndHolds(5002));
  EXPECT_THAT(NameOf(5000), IsOkAndHolds("ldap"));
  EXPECT_THAT(User("carol"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(Group("staff"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(NameOf(77), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(AccountsTest, GetentIsNotAskedForWhatIsInTheFilesButForMoreGroups) {
  HaveGetent("echo \"$2     100   5002 \"");
  EXPECT_THAT(User("alice"),
              IsOkAndHolds(Credentials{
                  .uid = 1000, .gid = 100, .groups = {6, 29, 100, 5002}}));
  EXPECT_THAT(Group("disk"), IsOkAndHolds(6));
  EXPECT_THAT(NameOf(1000), IsOkAndHolds("alice"));
  EXPECT_EQ(Asked(), "initgroups alice; ");
}

TEST_F(AccountsTest, AUserIsWhoGetentSaysHeIs) {
  HaveGetent(
      "case \"$1 $2\" in\n"
      "'passwd Ann@CORP') echo 'ann:*:5000:5001::/:';;\n"
      "'initgroups ann') echo 'ann 5002';;\n"
      "*) exit 2;;\n"
      "esac");
  EXPECT_THAT(User("Ann@CORP"),
              IsOkAndHolds(Credentials{
                  .uid = 5000, .gid = 5001, .groups = {5001, 5002}}));
}

TEST_F(AccountsTest, NobodyIsAskedForWhatIsNoName) {
  HaveGetent("echo 'found:x:1:1::/:'");
  for (const std::string& name :
       std::vector<std::string>{"", "--help", "+", " 1", "12345", "a:b", "a\nb",
                                "a,b", std::string("a\0b", 3)}) {
    EXPECT_THAT(User(name), StatusIs(absl::StatusCode::kNotFound)) << name;
    EXPECT_THAT(Group(name), StatusIs(absl::StatusCode::kNotFound)) << name;
  }
  EXPECT_EQ(Asked(), "");
  // Nor is anybody else's answer taken for that of a number.
  EXPECT_THAT(NameOf(77), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(AccountsTest, WithoutGetentThereAreTheFiles) {
  sources_.getent = folder_ + "/none";
  EXPECT_THAT(Group("disk"), IsOkAndHolds(6));
  EXPECT_THAT(User("alice"),
              IsOkAndHolds(Credentials{
                  .uid = 1000, .gid = 100, .groups = {6, 29, 100}}));
  EXPECT_THAT(User("carol"), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(AccountsTest, NobodyIsSaidToBeMissingByAGetentThatFails) {
  for (const char* script : {"exit 1", "kill -SEGV $$"}) {
    HaveGetent(script);
    for (const absl::Status& status :
         {User("carol").status(), Group("staff").status(),
          NameOf(77).status()}) {
      EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable,
                                   HasSubstr(sources_.getent)))
          << script;
    }
    // Whom the file knows has the groups of the file.
    EXPECT_THAT(User("alice"),
                IsOkAndHolds(Credentials{
                    .uid = 1000, .gid = 100, .groups = {6, 29, 100}}));
  }
}

TEST_F(AccountsTest, NobodyWaitsForEverForAGetentThatDoesNotAnswer) {
  sources_.patience = absl::Milliseconds(100);
  // The second lets go of what could be read, and stays.
  for (const char* script :
       {"exec tail -f /dev/null", "exec tail -f /dev/null >/dev/null"}) {
    HaveGetent(script);
    EXPECT_THAT(User("carol"),
                StatusIs(absl::StatusCode::kDeadlineExceeded,
                         AllOf(HasSubstr("carol"), HasSubstr(sources_.getent))))
        << script;
  }
}

TEST_F(AccountsTest, AnAnswerHasAnEnd) {
  HaveGetent("exec cat /dev/zero");
  EXPECT_THAT(User("carol"), StatusIs(absl::StatusCode::kUnavailable,
                                      HasSubstr("without end")));
}

TEST_F(AccountsTest, GetentHasItsOwnStandardDescriptors) {
  HaveGetent(
      "[ \"$(readlink /proc/$$/fd/0 /proc/$$/fd/2)\" = \"/dev/null\n"
      "/dev/null\" ] || exit 1\n"
      "read line && exit 1\n"
      "echo 'staff:x:50:'");
  EXPECT_THAT(Group("staff"), IsOkAndHolds(50));
}

TEST_F(AccountsTest, GetentIsHeardWhereChildrenAreIgnored) {
  HaveGetent("echo 'staff:x:50:'");
  EXPECT_EQ(InChild([&] {
              (void)signal(SIGCHLD, SIG_IGN);
              return Group("staff").value_or(1) == 50 ? 0 : 1;
            }),
            0);
}

// ---- This machine ----

TEST(AccountsOfThisMachineTest, HaveRootInThem) {
  const absl::StatusOr<Credentials> root = LookUpUser("root");
  if (absl::IsNotFound(root.status())) GTEST_SKIP() << "there is no user root";
  EXPECT_EQ(root.value_or(Credentials{.uid = 1}).uid, 0);
  EXPECT_THAT(NameOfUser(0), IsOkAndHolds("root"));
}

}  // namespace
}  // namespace brood
