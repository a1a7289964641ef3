// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/check/forbidden_calls.h"

#include <string>
#include <vector>

#include "brood/tools/check/finding.h"
#include "brood/tools/check/source_tree.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::vector<Finding> Try(const std::string& path, const std::string& source) {
  return ForbiddenCalls(SourceTree::Of({{path, source}}));
}

TEST(ForbiddenCallsTest, NamesTheFileTheLineTheCallAndWhy) {
  const SourceTree tree =
      SourceTree::Of({{"net/a.cc", "int n = system(\"ls\");\n"}});
  EXPECT_THAT(ForbiddenCalls(tree),
              ElementsAre(Finding{
                  "net/a.cc", 1,
                  "system(): a shell stands between; see proc/spawn.h"}));
}

TEST(ForbiddenCallsTest, SeesCodeOnly) {
  EXPECT_THAT(Try("net/a.cc", "// system(1)\nconst char* s = \"system(1)\";\n"),
              IsEmpty());
}

TEST(ForbiddenCallsTest, TellsAFunctionFromAMember) {
  EXPECT_THAT(Try("net/a.cc", "child.kill(1); Child::kill(1); c->kill(1);"),
              IsEmpty());
  EXPECT_THAT(Try("net/a.cc", "kill(1, 2); ::kill(1, 2);"), SizeIs(2));
  EXPECT_THAT(Try("net/a.cc", "std::this_thread::sleep_for(x);"), SizeIs(1));
}

TEST(ForbiddenCallsTest, WaitsForNoChildOfTheHost) {
  EXPECT_THAT(Try("proc/a.cc", "waitpid(-1, &status, 0);"), SizeIs(1));
  EXPECT_THAT(Try("proc/a.cc", "waitpid(pid, &status, 0);"), IsEmpty());
  EXPECT_THAT(Try("proc/a.cc", "waitpid(WAIT_ANY, &status, 0);"), SizeIs(1));
  EXPECT_THAT(Try("proc/a.cc", "wait4(-1, &status, 0, &usage);"), SizeIs(1));
  EXPECT_THAT(Try("proc/a.cc", "wait4(WAIT_ANY, &status, 0, &usage);"),
              SizeIs(1));
  EXPECT_THAT(Try("proc/a.cc", "wait4(pid, &status, 0, &usage);"), IsEmpty());
  EXPECT_THAT(Try("proc/a.cc", "waitid(P_ALL, 0, &info, 0);"), SizeIs(1));
  EXPECT_THAT(Try("proc/a.cc", "waitid(P_PIDFD, fd, &info, 0);"), IsEmpty());
}

TEST(ForbiddenCallsTest, WantsDescriptorsCloseOnExecFromTheirCreation) {
  EXPECT_THAT(Try("net/a.cc", "open(path, O_RDONLY);"), SizeIs(1));
  EXPECT_THAT(Try("net/a.cc", "open(path, O_RDONLY | O_CLOEXEC);"), IsEmpty());
  EXPECT_THAT(Try("net/a.cc", "accept(fd, nullptr, nullptr);"), SizeIs(1));
  EXPECT_THAT(Try("net/a.h", "bool open() const;"), IsEmpty());
}

TEST(ForbiddenCallsTest, LoadsNoNameServiceNotEvenInATest) {
  for (const char* path : {"proc/a.cc", "tests/a.cc", "tools/bench/a.cc"}) {
    EXPECT_THAT(Try(path, "getpwnam_r(n, &e, b, s, &f); getpwuid(0);"),
                SizeIs(2))
        << path;
    EXPECT_THAT(Try(path, "getgrnam(n); getgrouplist(n, g, a, &c);"), SizeIs(2))
        << path;
  }
  EXPECT_THAT(Try("proc/a.cc", "fgetpwent_r(file, &e, b, s, &f);"), IsEmpty());
}

TEST(ForbiddenCallsTest, RetriesNoClose) {
  EXPECT_THAT(Try("net/a.cc", "RetryOnEintr([&] { return close(fd); });"),
              SizeIs(1));
  EXPECT_THAT(Try("net/a.cc", "RetryOnEintr([&] { return read(fd, b, 1); });"),
              IsEmpty());
}

TEST(ForbiddenCallsTest, LetsTestsAndTheTextbookForkAndWait) {
  for (const char* path :
       {"net/a_test.cc", "tests/a.cc", "docs/tour/1_zombie/zombie.cc"}) {
    EXPECT_THAT(Try(path, "fork(); waitpid(-1, &status, 0); signal(1, f);"),
                IsEmpty())
        << path;
    EXPECT_THAT(Try(path, "sleep(1); strcpy(a, b);"), SizeIs(2)) << path;
  }
}

TEST(ForbiddenCallsTest, LetsProgramsEndThemselves) {
  for (const char* path : {"server/server.cc", "tools/load/load.cc"}) {
    EXPECT_THAT(Try(path, "exit(1);"), IsEmpty()) << path;
  }
  EXPECT_THAT(Try("net/a.cc", "exit(1); abort(); CHECK(x); LOG(FATAL);"),
              SizeIs(4));
  EXPECT_THAT(Try("net/a.cc", "_exit(1); LOG(INFO);"), IsEmpty());
}

TEST(ForbiddenCallsTest, MakesExceptionsForOneCallInOneFile) {
  EXPECT_THAT(Try("proc/fork.cc", "fork();"), IsEmpty());
  EXPECT_THAT(Try("proc/fork.cc", "vfork();"), SizeIs(1));
}

TEST(StaleExceptionsTest, AreThoseThatNothingNeeds) {
  EXPECT_THAT(StaleExceptions(SourceTree::Of(
                  {{"net/bound_path.cc", "nanosleep(&t, nullptr);"}})),
              IsEmpty());
  EXPECT_THAT(
      StaleExceptions(SourceTree::Of({{"net/bound_path.cc", "int n = 0;"}})),
      ElementsAre(Finding{
          "net/bound_path.cc", 0,
          "makes no call of nanosleep() that would need an exception"}));
}

}  // namespace
}  // namespace brood
