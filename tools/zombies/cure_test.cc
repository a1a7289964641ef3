// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/zombies/cure.h"

#include <csignal>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "brood/proc/process_table.h"
#include "brood/tools/zombies/zombie_watch.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr uint64_t kSigchld = uint64_t{1} << (SIGCHLD - 1);

std::string Advice(const ZombieParent& parent) {
  return absl::StrCat("SIGCHLD: ", SigchldInWords(parent), ". ",
                      CureInWords(parent));
}

// A parent with one zombie, and nothing done about SIGCHLD.
ZombieParent Parent(pid_t pid = 42) {
  FoundZombie zombie;
  zombie.process.pid = 43;
  zombie.process.exit_signal = SIGCHLD;
  Process process;
  process.pid = pid;
  process.thread_count = 1;
  return {.pid = pid,
          .process = process,
          .signals = SignalState(),
          .zombies = {zombie}};
}

ZombieParent With(uint64_t SignalState::*set, ZombieParent parent = Parent()) {
  (*parent.signals).*set |= kSigchld;
  return parent;
}

TEST(CureTest, HeaderExample) {
  EXPECT_THAT(Advice(Parent()),
              StartsWith("SIGCHLD: neither handled nor ignored. It neither "
                         "handles nor ignores SIGCHLD, so it is up to it"));
}

TEST(CureTest, AHandlerThatWaitsOnceIsToWaitInALoop) {
  const std::string advice = Advice(With(&SignalState::handled));
  EXPECT_THAT(advice, StartsWith("SIGCHLD: handled. "));
  EXPECT_THAT(advice, HasSubstr("waits once"));
  EXPECT_THAT(advice, HasSubstr("while (waitpid(-1, &status, WNOHANG) > 0)"));
  EXPECT_THAT(advice, HasSubstr("kill -CHLD 42 runs its handler once more"));
}

TEST(CureTest, AHandlerThatCannotRunIsToBeLetRun) {
  ZombieParent parent = With(&SignalState::handled);
  parent = With(&SignalState::blocked, parent);
  // Blocked now, but the last one was taken: it ran, and waited for too few.
  EXPECT_THAT(Advice(parent), HasSubstr("waits once"));
  parent = With(&SignalState::pending, parent);
  EXPECT_THAT(Advice(parent), StartsWith("SIGCHLD: handled, blocked, one "
                                         "pending. "));
  EXPECT_THAT(Advice(parent), HasSubstr("the handler cannot run"));
  EXPECT_THAT(Advice(parent), Not(HasSubstr("waits once")));
  parent.process->thread_count = 2;
  EXPECT_THAT(Advice(parent), HasSubstr("its first thread blocks it"));
}

TEST(CureTest, ASignalOnItsWayIsToBeWaitedFor) {
  ZombieParent parent = With(&SignalState::pending);
  parent = With(&SignalState::handled, parent);
  EXPECT_THAT(Advice(parent), HasSubstr("Look again"));
}

TEST(CureTest, WhoBlocksItWithoutAHandlerMayReadASignalfd) {
  ZombieParent parent = With(&SignalState::blocked);
  EXPECT_THAT(Advice(parent), HasSubstr("signalfd"));
  EXPECT_THAT(Advice(parent), HasSubstr("None is pending"));
  parent = With(&SignalState::pending, parent);
  EXPECT_THAT(Advice(parent), HasSubstr("it has not read that yet"));
}

TEST(CureTest, WhoIgnoresItHasNotAlwaysDoneSo) {
  EXPECT_THAT(Advice(With(&SignalState::ignored)),
              HasSubstr("these ended before it did so"));
}

TEST(CureTest, WhoDoesNothingIsNotHelpedByASignal) {
  EXPECT_THAT(Advice(Parent()), HasSubstr("kill -CHLD changes nothing"));
  EXPECT_THAT(Advice(Parent()), Not(HasSubstr("init")));
  EXPECT_THAT(Advice(Parent(/*pid=*/1)), HasSubstr("an init as PID 1"));
}

TEST(CureTest, WhoIsStoppedIsToGoOn) {
  ZombieParent parent = With(&SignalState::handled);
  parent.process->state = ProcessState::kStopped;
  EXPECT_THAT(Advice(parent), HasSubstr("kill -CONT 42"));
  parent.process->state = ProcessState::kTraced;
  EXPECT_THAT(Advice(parent), HasSubstr("debugger"));
}

TEST(CureTest, ChildrenOfWhichNoSigchldTellsTakeAnotherWait) {
  ZombieParent parent = With(&SignalState::handled);
  parent.zombies[0].process.exit_signal = 0;
  EXPECT_THAT(Advice(parent), HasSubstr("__WALL"));
  // Not if it is so of some only.
  parent.zombies.push_back(Parent().zombies[0]);
  EXPECT_THAT(Advice(parent), Not(HasSubstr("__WALL")));
}

TEST(CureTest, NothingIsSaidOfAParentThatCannotBeSeen) {
  ZombieParent hidden = {.pid = 42, .zombies = Parent().zombies};
  EXPECT_THAT(Advice(hidden), StartsWith("SIGCHLD: not known. "));
  EXPECT_THAT(Advice(hidden), HasSubstr("as root"));
  hidden.pid = 0;
  EXPECT_THAT(Advice(hidden), HasSubstr("outside of this pid namespace"));
  ZombieParent unreadable = Parent();
  unreadable.signals.reset();
  EXPECT_THAT(Advice(unreadable), HasSubstr("may not be read"));
}

}  // namespace
}  // namespace brood
