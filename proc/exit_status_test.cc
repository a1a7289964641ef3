// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/exit_status.h"

#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

// As the kernel lays it out; see bits/waitstatus.h.
constexpr int ExitWord(int code) { return code << 8; }
constexpr int SignalWord(int signo) { return signo; }
constexpr int kCoreFlag = 0x80;

std::string Verdict(int wait_status) {
  const ExitStatus status = ExitStatus::FromWaitStatus(wait_status);
  if (status.success()) return "fine";
  if (status.term_signal() == SIGSEGV) return "a bug";
  return status.ToString();  // "exited 7", "killed by SIGKILL"
}

TEST(ExitStatusTest, HeaderExample) {
  EXPECT_EQ(Verdict(ExitWord(0)), "fine");
  EXPECT_EQ(Verdict(SignalWord(SIGSEGV)), "a bug");
  EXPECT_EQ(Verdict(ExitWord(7)), "exited 7");
  EXPECT_EQ(Verdict(SignalWord(SIGKILL)), "killed by SIGKILL");
}

TEST(ExitStatusTest, AgreesWithTheMacrosOnEveryExitCode) {
  for (int code = 0; code < 256; ++code) {
    const int word = ExitWord(code);
    ASSERT_TRUE(WIFEXITED(word));
    const ExitStatus status = ExitStatus::FromWaitStatus(word);
    EXPECT_EQ(status.exit_code(), WEXITSTATUS(word));
    EXPECT_EQ(status.term_signal(), std::nullopt);
    EXPECT_EQ(status, ExitStatus::Exited(code));
    EXPECT_EQ(status.success(), code == 0);
  }
}

TEST(ExitStatusTest, AgreesWithTheMacrosOnEverySignal) {
  for (int signo = 1; signo <= 64; ++signo) {
    for (int core : {0, kCoreFlag}) {
      const int word = SignalWord(signo) | core;
      ASSERT_TRUE(WIFSIGNALED(word));
      const ExitStatus status = ExitStatus::FromWaitStatus(word);
      EXPECT_EQ(status.term_signal(), WTERMSIG(word));
      EXPECT_EQ(status.core_dumped(), static_cast<bool>(WCOREDUMP(word)));
      EXPECT_EQ(status.exit_code(), std::nullopt);
      EXPECT_FALSE(status.success());
    }
  }
}

TEST(ExitStatusTest, ReadsASiginfo) {
  siginfo_t info = {};
  info.si_status = 7;
  info.si_code = CLD_EXITED;
  EXPECT_EQ(ExitStatus::FromSiginfo(info), ExitStatus::Exited(7));
  info.si_status = SIGTERM;
  info.si_code = CLD_KILLED;
  EXPECT_EQ(ExitStatus::FromSiginfo(info), ExitStatus::Killed(SIGTERM));
  info.si_code = CLD_DUMPED;
  EXPECT_EQ(ExitStatus::FromSiginfo(info), ExitStatus::Killed(SIGTERM, true));
}

TEST(ExitStatusTest, KeepsTheLowEightBitsOfAnExitCode) {
  EXPECT_EQ(ExitStatus::Exited(256 + 7), ExitStatus::Exited(7));
  EXPECT_EQ(ExitStatus::Exited(-1).exit_code(), 255);
}

TEST(ExitStatusTest, NeverTakesLostForSuccess) {
  const ExitStatus lost = ExitStatus::Lost();
  EXPECT_TRUE(lost.lost());
  EXPECT_FALSE(lost.success());
  EXPECT_EQ(lost.exit_code(), std::nullopt);
  EXPECT_EQ(lost.term_signal(), std::nullopt);
  EXPECT_FALSE(ExitStatus::Exited(0) == lost);
}

TEST(ExitStatusTest, SpeaksInWords) {
  EXPECT_EQ(ExitStatus::Exited(0).ToString(), "exited 0");
  EXPECT_EQ(ExitStatus::Killed(SIGSEGV).ToString(), "killed by SIGSEGV");
  EXPECT_EQ(ExitStatus::Killed(SIGABRT, true).ToString(),
            "killed by SIGABRT (core dumped)");
  EXPECT_EQ(ExitStatus::Killed(SIGRTMIN + 2).ToString(),
            "killed by SIGRTMIN+2");
  EXPECT_EQ(ExitStatus::Lost().ToString(), "lost");
}

TEST(ExitStatusTest, CarriesWhatWasUsedButDoesNotCompareIt) {
  struct rusage usage = {};
  usage.ru_utime = {.tv_sec = 1, .tv_usec = 500'000};
  usage.ru_stime = {.tv_sec = 0, .tv_usec = 250'000};
  usage.ru_maxrss = 3;
  ExitStatus status = ExitStatus::Exited(0);
  EXPECT_FALSE(status.usage().has_value());
  status.set_usage(ResourceUsage::FromRusage(usage));
  EXPECT_EQ(status.usage()->user_time, absl::Seconds(1.5));
  EXPECT_EQ(status.usage()->system_time, absl::Milliseconds(250));
  EXPECT_EQ(status.usage()->max_resident_bytes, 3 * 1024);
  EXPECT_EQ(status, ExitStatus::Exited(0));
}

}  // namespace
}  // namespace brood
