// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/spawn_child.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

extern "C" int __clone(int (*function)(void*), void* stack, int flags,
                       void* argument, ...);

namespace brood {
namespace {

using ::testing::IsEmpty;
using ::testing::IsSubsetOf;
using ::testing::Not;

// How `program` ended; 0 if it did not run, and `plan` says why.
int Start(const char* program, SpawnPlan& plan, char* stack) {
  std::vector<const char*> candidates = {program, nullptr};
  std::vector<char*> argv = {const_cast<char*>(program), nullptr};
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &before);

  plan.candidates = candidates.data();
  plan.argv = argv.data();
  plan.envp = environ;
  char* const top = stack + kSpawnStackBytes;
  const int flags = CLONE_VM | CLONE_VFORK;
  const pid_t pid = __clone(RunSpawnPlan, top, flags, &plan);
  // Here it has either executed, or failed as plan.failure says.

  sigprocmask(SIG_SETMASK, &before, nullptr);
  int status = -1;
  EXPECT_EQ(waitpid(pid, &status, __WALL), pid);
  return status;
}

class SpawnChildTest : public testing::Test {
 protected:
  SpawnChildTest()
      : stack_(static_cast<char*>(mmap(nullptr, kSpawnStackBytes,
                                       PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {}
  ~SpawnChildTest() override { munmap(stack_, kSpawnStackBytes); }

  char* const stack_;
};

TEST_F(SpawnChildTest, HeaderExample) {
  SpawnPlan plan;
  plan.shares_fds = false;
  EXPECT_EQ(Start("/bin/true", plan, stack_), 0);
  EXPECT_EQ(plan.failure.error, 0);
}

TEST_F(SpawnChildTest, WritesItsFailureIntoTheParentsMemory) {
  SpawnPlan plan;
  plan.shares_fds = false;
  plan.directory = "/nonexistent";
  EXPECT_NE(Start("/bin/true", plan, stack_), 0);
  EXPECT_EQ(plan.failure.stage, SpawnStage::kDirectory);
  EXPECT_EQ(plan.failure.error, ENOENT);
}

// Whatever the compiler was told to add: every function that the object file
// calls is a symbol that it does not define.
TEST(SpawnChildObjectTest, CallsNothingBeyondSystemCallsAndTheAddressOfErrno) {
  const char* path = getenv("UNDEFINED_SYMBOLS");
  ASSERT_NE(path, nullptr);
  std::ifstream file(path);
  ASSERT_TRUE(file.is_open()) << path;
  std::set<std::string> symbols;
  for (std::string symbol; file >> symbol;) symbols.insert(symbol);
  EXPECT_THAT(symbols, Not(IsEmpty()));
  const std::vector<std::string> allowed = {"syscall", "__errno_location"};
  EXPECT_THAT(symbols, IsSubsetOf(allowed));
}

}  // namespace
}  // namespace brood
