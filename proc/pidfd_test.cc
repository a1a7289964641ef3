// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/pidfd.h"

#include <fcntl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "brood/proc/unique_fd.h"
#include "brood/tests/in_child.h"
#include "brood/tests/kernel_release.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

pid_t EndAndReap(pid_t pid) {
  const UniqueFd pidfd(PidfdOpen(pid));
  PidfdInfo info = {.mask = kPidfdInfoExit};
  if (PidfdSendSignal(pidfd.get(), SIGTERM) == -1) return -1;
  if (waitpid(pid, nullptr, 0) == -1) return -1;
  return PidfdGetInfo(pidfd.get(), info) == 0 ? pid : -1;
}

// One that waits for a signal.
pid_t Sleeper() {
  return StartInChild([] { return pause(); });
}

TEST(PidfdTest, HeaderExample) {
  if (!KernelIsAtLeast(6, 15)) GTEST_SKIP() << "needs Linux 6.15";
  const pid_t pid = Sleeper();
  EXPECT_EQ(EndAndReap(pid), pid);
}

TEST(PidfdTest, MeansTheProcessAlsoWhenItIsGone) {
  const pid_t pid = Sleeper();
  const UniqueFd pidfd(PidfdOpen(pid));
  ASSERT_TRUE(pidfd.valid());
  EXPECT_EQ(fcntl(pidfd.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(PidfdSendSignal(pidfd.get(), SIGTERM), 0);
  EXPECT_EQ(WaitForChild(pid), 128 + SIGTERM);
  EXPECT_EQ(PidfdSendSignal(pidfd.get(), SIGTERM), -1);
  EXPECT_EQ(errno, ESRCH);
}

TEST(PidfdTest, TellsHowAReapedProcessEnded) {
  if (!KernelIsAtLeast(6, 15)) GTEST_SKIP() << "needs Linux 6.15";
  const pid_t pid = Sleeper();
  const UniqueFd pidfd(PidfdOpen(pid));
  PidfdInfo info = {.mask = kPidfdInfoExit};
  ASSERT_EQ(PidfdGetInfo(pidfd.get(), info), 0);
  EXPECT_EQ(info.mask & kPidfdInfoExit, 0u);  // It lives.
  EXPECT_EQ(PidfdSendSignal(pidfd.get(), SIGUSR1), 0);
  EXPECT_EQ(WaitForChild(pid), 128 + SIGUSR1);
  // The kernel notes it a moment after the wait has returned.
  do {
    info = {.mask = kPidfdInfoExit};
    ASSERT_EQ(PidfdGetInfo(pidfd.get(), info), 0);
  } while ((info.mask & kPidfdInfoExit) == 0);
  EXPECT_EQ(info.exit_code, SIGUSR1);
}

TEST(PidfdTest, SignalsAWholeGroupByItsLeader) {
  if (!KernelIsAtLeast(6, 9)) GTEST_SKIP() << "needs Linux 6.9";
  const pid_t leader = Sleeper();
  ASSERT_EQ(setpgid(leader, leader), 0);
  const pid_t member = Sleeper();
  ASSERT_EQ(setpgid(member, leader), 0);
  const UniqueFd pidfd(PidfdOpen(leader));
  EXPECT_EQ(PidfdSendSignal(pidfd.get(), SIGTERM, kPidfdSignalProcessGroup), 0);
  EXPECT_EQ(WaitForChild(leader), 128 + SIGTERM);
  EXPECT_EQ(WaitForChild(member), 128 + SIGTERM);
}

TEST(PidfdTest, LeavesErrnoAsTheKernelSetIt) {
  PidfdInfo info;
  EXPECT_EQ(PidfdOpen(-1), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(PidfdSendSignal(-1, 0), -1);
  EXPECT_EQ(errno, EBADF);
  EXPECT_EQ(PidfdGetInfo(-1, info), -1);
  EXPECT_EQ(errno, EBADF);
}

}  // namespace
}  // namespace brood
