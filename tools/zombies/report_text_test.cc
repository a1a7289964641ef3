// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/zombies/report_text.h"

#include <csignal>
#include <cstdint>
#include <iostream>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "brood/proc/process_table.h"
#include "brood/tools/zombies/zombie_watch.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

void Print(const ZombieReport& report, bool is_terminal) {
  if (is_terminal) {
    std::cout << ReportText(report, {.tree = true});
  } else {
    std::cout << ReportLine(report) << "\n";
  }
}

Process Named(std::string name, pid_t pid, pid_t parent,
              absl::Duration start = absl::Hours(1)) {
  Process process;
  process.pid = pid;
  process.parent_pid = parent;
  process.name = std::move(name);
  process.start = start;
  process.thread_count = 1;
  process.exit_signal = SIGCHLD;
  return process;
}

FoundZombie Zombie(pid_t pid, pid_t parent, int wait_status) {
  FoundZombie zombie = {.process = Named("old-server", pid, parent),
                        .age = absl::Seconds(90)};
  zombie.process.state = ProcessState::kZombie;
  zombie.process.wait_status = wait_status;
  return zombie;
}

// init > shell > old-server, which handles SIGCHLD and has two zombies.
ZombieReport Textbook() {
  ZombieReport report;
  report.now = absl::Hours(3);
  report.time = absl::FromUnixSeconds(0);
  report.processes = 9;
  report.zombies = 2;
  report.ancestors = {Named("init", 1, 0, absl::ZeroDuration()),
                      Named("shell", 7, 1)};
  SignalState signals;
  signals.handled = uint64_t{1} << (SIGCHLD - 1);
  report.parents = {{.pid = 40,
                     .process = Named("old-server", 40, 7),
                     .signals = signals,
                     .zombies = {Zombie(41, 40, 0), Zombie(42, 40, SIGKILL)}}};
  return report;
}

TEST(ReportTextTest, HeaderExample) {
  testing::internal::CaptureStdout();
  Print(Textbook(), /*is_terminal=*/false);
  EXPECT_EQ(testing::internal::GetCapturedStdout(),
            "1970-01-01T00:00:00Z 2 zombies: 2 of old-server (40)\n");
  testing::internal::CaptureStdout();
  Print(ZombieReport(), /*is_terminal=*/true);
  EXPECT_EQ(testing::internal::GetCapturedStdout(),
            "no zombie among 0 processes\n");
}

TEST(ReportTextTest, IsATableForEachParentWithTheCureBeforeIt) {
  EXPECT_EQ(ReportText(Textbook(), {}),
            R"(2 zombies of 1 parent, among 9 processes

old-server, pid 40, started 2h0m ago: 2 zombies
  SIGCHLD: handled
  It handles SIGCHLD, yet leaves zombies: most likely its handler waits once,
  and one SIGCHLD may stand for many exits; or it waits only for children that
  it knows. Cure: wait in a loop until nothing is left, while (waitpid(-1,
  &status, WNOHANG) > 0). For now, each kill -CHLD 40 runs its handler once
  more.

       PID  NAME             STARTED       ZOMBIE            ENDED
        41  old-server       2h0m ago      at least 1m30s    exited 0
        42  old-server       2h0m ago      at least 1m30s    killed by SIGKILL
)");
}

TEST(ReportTextTest, IsATreeFromTheOldestAncestor) {
  EXPECT_THAT(ReportText(Textbook(), {.tree = true}), HasSubstr(R"(
init (1)
`- shell (7)
   `- old-server (40): 2 zombies
      |- old-server (41): zombie for at least 1m30s, exited 0
      `- old-server (42): zombie for at least 1m30s, killed by SIGKILL

old-server, pid 40, started 2h0m ago:
  SIGCHLD: handled
)"));
}

TEST(ReportTextTest, BranchesOfTheTreeGoOnBesideWhatIsBelow) {
  ZombieReport report = Textbook();
  report.zombies = 3;
  report.parents.push_back({.pid = 50,
                            .process = Named("other", 50, 1),
                            .zombies = {Zombie(51, 50, 0)}});
  EXPECT_THAT(ReportText(report, {.tree = true}), HasSubstr(R"(
init (1)
|- shell (7)
|  `- old-server (40): 2 zombies
|     |- old-server (41): zombie for at least 1m30s, exited 0
|     `- old-server (42): zombie for at least 1m30s, killed by SIGKILL
`- other (50): 1 zombie
   `- old-server (51): zombie for at least 1m30s, exited 0
)"));
}

TEST(ReportTextTest, OfManyZombiesHasTenAndHowManyMore) {
  ZombieReport report = Textbook();
  for (pid_t pid = 43; pid <= 1040; ++pid) {
    report.parents[0].zombies.push_back(Zombie(pid, 40, 0));
  }
  report.zombies = 1000;
  for (const bool tree : {false, true}) {
    const std::string text = ReportText(report, {.tree = tree});
    EXPECT_THAT(text, HasSubstr("and 990 more (--output=json has all)\n"));
    EXPECT_THAT(text, HasSubstr("50"));
    EXPECT_THAT(text, Not(HasSubstr("51")));
  }
  EXPECT_THAT(ReportJson(report, {}), HasSubstr("\"pid\":1040,"));
}

TEST(ReportTextTest, SaysWhatWasNotSeenAndWhatDoesNotCount) {
  ZombieReport report;
  report.processes = 4;
  report.young = 1;
  report.some_hidden = true;
  report.headless = {Named("worker", 9, 1)};
  report.headless[0].thread_count = 4;
  EXPECT_EQ(ReportText(report, {}),
            R"(no zombie among 4 processes

1 zombie is not counted: not seen for --min_age yet, and perhaps about to be
reaped.

worker, pid 9, looks like a zombie and is none: its first thread has ended, and
3 others run on.

Processes of other users are hidden from this one (/proc is mounted with
hidepid). Look as root to see all.
)");
  EXPECT_EQ(ReportLine(report),
            "1970-01-01T00:00:00Z 0 zombies; 1 not counted yet; other users' "
            "processes are hidden");
}

TEST(ReportTextTest, AnEndingThatTheKernelMayHideIsNotClaimed) {
  const std::string text = ReportText(Textbook(), {.endings_known = false});
  EXPECT_THAT(text, HasSubstr("exited 0, or hidden\n"));
  EXPECT_THAT(text, HasSubstr("killed by SIGKILL\n"));
}

TEST(ReportTextTest, AParentThatIsNotSeenStandsInTheTreeToo) {
  ZombieReport report;
  report.zombies = 2;
  report.parents = {{.pid = 0, .zombies = {Zombie(5, 0, 0)}},
                    {.pid = 6, .zombies = {Zombie(7, 6, 0)}}};
  const std::string text = ReportText(report, {.tree = true});
  EXPECT_THAT(text, HasSubstr("a parent outside of this pid namespace\n"
                              "`- old-server (5): "));
  EXPECT_THAT(text, HasSubstr("a parent that is not seen, pid 6\n"
                              "`- old-server (7): "));
  EXPECT_THAT(ReportLine(report), HasSubstr(": 1 of (not seen) (0), 1 of "));
  EXPECT_THAT(ReportJson(report, {}),
              HasSubstr(R"({"pid":6,"name":null,"started_seconds_ago":null,)"));
}

TEST(ReportTextTest, FitsItsWidthWhateverTheNames) {
  ZombieReport report = Textbook();
  report.parents[0].process->name = "a\x1b[2J\n\xff";
  for (const bool tree : {false, true}) {
    const std::string text = ReportText(report, {.tree = tree});
    for (const std::string_view line : absl::StrSplit(text, '\n')) {
      EXPECT_LE(line.size(), 80) << line;
      EXPECT_EQ(line.find_first_of("\x1b\xff"), line.npos) << line;
    }
    EXPECT_THAT(text, HasSubstr(R"(a\x1b[2J\n\xff)"));
  }
}

TEST(ReportTextTest, IsOneObjectAsJson) {
  ZombieReport report = Textbook();
  report.parents[0].zombies.pop_back();
  report.zombies = 1;
  report.headless = {Named("worker", 9, 1)};
  const std::string json = ReportJson(report, {});
  EXPECT_THAT(
      json,
      HasSubstr(
          R"({"time":"1970-01-01T00:00:00Z","zombies":1,"too_young":0,)"
          R"("processes":9,"others_hidden":false,"parents":[{"pid":40,)"
          R"("name":"old-server","started_seconds_ago":7200.000,)"
          R"("parent_pid":7,"sigchld":"handled","cure":"It handles SIGCHLD)"));
  EXPECT_THAT(
      json,
      HasSubstr(
          R"("zombies":[{"pid":41,"name":"old-server",)"
          R"("started_seconds_ago":7200.000,)"
          R"("zombie_for_at_least_seconds":90.000,"ended":"exited 0"}]}],)"
          R"("first_thread_ended":[{"pid":9,"name":"worker",)"
          R"("started_seconds_ago":7200.000,"threads":1}]})"));
}

}  // namespace
}  // namespace brood
