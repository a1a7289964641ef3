// SPDX-License-Identifier: Apache-2.0
#include "brood/signal/names.h"

#include <csignal>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/posix.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

absl::StatusOr<int> StopSignal(std::string_view flag) {
  const absl::StatusOr<int> signo = ParseSignal(flag);
  if (!signo.ok()) return signo.status();
  if (*signo == SIGKILL) {
    return absl::InvalidArgumentError(
        absl::StrCat(NameOfSignal(*signo), " leaves no time to drain"));
  }
  return signo;
}

TEST(NamesTest, HeaderExample) {
  EXPECT_THAT(StopSignal("TERM"), IsOkAndHolds(SIGTERM));
  EXPECT_THAT(StopSignal("15"), IsOkAndHolds(SIGTERM));
  EXPECT_THAT(StopSignal("9"), StatusIs(absl::StatusCode::kInvalidArgument,
                                        "SIGKILL leaves no time to drain"));
  EXPECT_THAT(StopSignal("TERMINATE"),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(NamesTest, EverySignalReturnsFromItsNameAndItsNumber) {
  int signals = 0;
  for (int signo = 1; signo <= 64; ++signo) {
    SCOPED_TRACE(signo);
    const std::string name = NameOfSignal(signo);
    const std::string number = absl::StrCat(signo);
    if (IsSignal(signo)) {
      ++signals;
      EXPECT_THAT(ParseSignal(name), IsOkAndHolds(signo));
      EXPECT_THAT(ParseSignal(number), IsOkAndHolds(signo));
    } else {
      EXPECT_THAT(ParseSignal(name),
                  StatusIs(absl::StatusCode::kInvalidArgument));
      EXPECT_THAT(ParseSignal(number),
                  StatusIs(absl::StatusCode::kInvalidArgument));
    }
  }
  EXPECT_EQ(signals, 31 + SIGRTMAX - SIGRTMIN + 1);
}

TEST(NamesTest, WhatTheCLibraryKeepsForItselfIsNoSignal) {
  for (int signo = -1; signo <= 70; ++signo) {
    SCOPED_TRACE(signo);
    sigset_t set;
    sigemptyset(&set);
    EXPECT_EQ(IsSignal(signo), sigaddset(&set, signo) == 0);
  }
}

TEST(NamesTest, WhatIsNoSignalHasANumberForAName) {
  for (const int signo : {-2147483647 - 1, -1, 0, 32, 33, 65, 2147483647}) {
    EXPECT_FALSE(IsSignal(signo));
    EXPECT_EQ(NameOfSignal(signo), absl::StrCat("signal ", signo));
  }
}

TEST(NamesTest, UnderstandsAnyCaseAndShortForms) {
  const struct {
    std::string_view text;
    int signo;
  } kCases[] = {
      {"SIGCHLD", SIGCHLD},
      {"CHLD", SIGCHLD},
      {"chld", SIGCHLD},
      {"SigChld", SIGCHLD},
      {"CLD", SIGCHLD},
      {"SIGIO", SIGIO},
      {"SIGPOLL", SIGIO},
      {"IOT", SIGABRT},
      {"017", SIGCHLD},
      {"SIGRTMIN", SIGRTMIN},
      {"SIGRTMIN+0", SIGRTMIN},
      {"SIGRTMIN+3", SIGRTMIN + 3},
      {"rtmin+3", SIGRTMIN + 3},
      {"SIGRTMAX", SIGRTMAX},
      {"SIGRTMAX-1", SIGRTMAX - 1},
      {"RTMAX-0", SIGRTMAX},
      {"SIGRTMIN+30", SIGRTMAX},
      {"SIGRTMAX-30", SIGRTMIN},
  };
  for (const auto& [text, signo] : kCases) {
    SCOPED_TRACE(text);
    EXPECT_THAT(ParseSignal(text), IsOkAndHolds(signo));
  }
}

TEST(NamesTest, RefusesEverythingElse) {
  const std::string_view kCases[] = {"",
                                     " ",
                                     "SIG",
                                     "SIGSIGINT",
                                     "SIGFOO",
                                     "INTR",
                                     "SIG17",
                                     "0",
                                     "-1",
                                     "+2",
                                     "32",
                                     "33",
                                     "65",
                                     "0x11",
                                     "17 ",
                                     " 17",
                                     "1.5",
                                     "99999999999",
                                     "SIGRTMIN-1",
                                     "SIGRTMAX+1",
                                     "SIGRTMIN+",
                                     "SIGRTMIN+31",
                                     "SIGRTMAX-31",
                                     "SIGRTMAX-40",
                                     "SIGRTMIN+2147483647",
                                     "SIGRTMIN+-1",
                                     "SIGRTMIN++1",
                                     "SIGRTMIN3",
                                     "RTMIN+ 1",
                                     "SIGRTMIN+99999999999",
                                     "signal 99",
                                     std::string_view("INT\0", 4)};
  for (const std::string_view text : kCases) {
    SCOPED_TRACE(text);
    EXPECT_THAT(ParseSignal(text),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
}

TEST(NamesTest, TheRefusalQuotesTheTextAndSaysWhatIsAllowed) {
  EXPECT_THAT(ParseSignal("SIG\nFOO"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("\"SIG\\nFOO\""), HasSubstr("SIGTERM"),
                             HasSubstr("1 to 31"))));
}

}  // namespace
}  // namespace brood
