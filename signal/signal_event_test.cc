// SPDX-License-Identifier: Apache-2.0
#include "brood/signal/signal_event.h"

#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <csignal>

#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "brood/signal/action.h"
#include "brood/signal/mask.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;

std::atomic<pid_t> last_sender = 0;

void RememberWho(int, siginfo_t* info, void*) {
  const SignalEvent event = SignalEvent::FromSiginfo(*info);
  last_sender.store(event.sender_pid);
}

TEST(SignalEventTest, HeaderExample) {
  const absl::StatusOr<SignalMask> open = SignalMask::Unblock({SIGUSR1});
  ASSERT_THAT(open, IsOk());
  const absl::StatusOr<SignalAction> action =
      SignalAction::Handle(SIGUSR1, RememberWho);
  ASSERT_THAT(action, IsOk());
  EXPECT_EQ(kill(getpid(), SIGUSR1), 0);
  EXPECT_EQ(last_sender.load(), getpid());
}

// A siginfo_t in which every member of the union means something, as memory
// that one of them filled in would have it.
siginfo_t Filled(int signo, int code) {
  siginfo_t info = {};
  info.si_pid = 42;
  info.si_uid = 7;
  info.si_value.sival_int = 99;
  info.si_signo = signo;
  info.si_code = code;
  return info;
}

TEST(SignalEventTest, TellsOnlyWhatTheCodeSaysIsThere) {
  const struct {
    int signo;
    int code;
    SignalEvent event;
  } kCases[] = {
      {SIGTERM, SI_USER, {SIGTERM, SI_USER, 42, 7, 0}},
      {SIGTERM, SI_TKILL, {SIGTERM, SI_TKILL, 42, 7, 0}},
      {SIGTERM, SI_QUEUE, {SIGTERM, SI_QUEUE, 42, 7, 99}},
      {SIGUSR1, SI_MESGQ, {SIGUSR1, SI_MESGQ, 42, 7, 99}},
      {SIGALRM, SI_TIMER, {SIGALRM, SI_TIMER, 0, 0, 99}},
      {SIGALRM, SI_KERNEL, {SIGALRM, SI_KERNEL, 0, 0, 0}},
      {SIGCHLD, CLD_EXITED, {SIGCHLD, CLD_EXITED, 42, 7, 0}},
      {SIGCHLD, SI_USER, {SIGCHLD, SI_USER, 42, 7, 0}},
      {SIGIO, POLL_IN, {SIGIO, POLL_IN, 0, 0, 0}},
      {SIGIO, SI_SIGIO, {SIGIO, SI_SIGIO, 0, 0, 0}},
      {SIGRTMIN, CLD_EXITED, {SIGRTMIN, CLD_EXITED, 0, 0, 0}},
      {SIGSEGV, SEGV_MAPERR, {SIGSEGV, SEGV_MAPERR, 0, 0, 0}},
  };
  for (const auto& [signo, code, event] : kCases) {
    EXPECT_EQ(SignalEvent::FromSiginfo(Filled(signo, code)), event)
        << signo << " " << code;
  }
}

}  // namespace
}  // namespace brood
