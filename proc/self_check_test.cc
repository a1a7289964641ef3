// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/self_check.h"

#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/log/check.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/tests/deny_syscalls.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

int Preflight(int max_children) {
  const SelfCheck check =
      SelfCheck::Run({.children = max_children}, KernelFeatures::Probe());
  std::cerr << check.ToString();  // "warning  SIGCHLD  It is ignored: ..."
  return check.Has(Severity::kError) ? EX_OSERR : EX_OK;
}

// A kernel that has all.
constexpr KernelFeatures kNewKernel = {.pidfd_open = Support::kOk,
                                       .pidfd_send_signal = Support::kOk,
                                       .waitid_pidfd = Support::kOk,
                                       .clone3 = Support::kOk,
                                       .clone_pidfd = Support::kOk,
                                       .close_range = Support::kOk,
                                       .pidfd_exit_info = Support::kOk,
                                       .tid_address = Support::kOk};

// What a forked body exits with if this machine does not permit the test.
constexpr int kNotPermitted = 77;

int ExitCodeOf(absl::FunctionRef<int()> body) {
  absl::StatusOr<Child> child = Fork({}, body);
  CHECK_OK(child);
  return child->Wait()->exit_code().value_or(-1);
}

// True in a child that has been changed by `change`.
bool HoldsAfter(absl::FunctionRef<void()> change,
                absl::FunctionRef<bool()> holds) {
  return ExitCodeOf([&] {
           change();
           return holds() ? 0 : 1;
         }) == 0;
}

bool Finds(std::string_view what, Severity severity,
           const SelfCheckOptions& options = {}) {
  const SelfCheck check = SelfCheck::Run(options, kNewKernel);
  const Finding* finding = check.Find(what);
  return finding != nullptr && finding->severity == severity;
}

bool FindsNothingAbout(std::string_view what,
                       const SelfCheckOptions& options = {}) {
  return SelfCheck::Run(options, kNewKernel).Find(what) == nullptr;
}

void SetAction(int signo, void (*handler)(int), int flags = 0) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  CHECK_EQ(sigaction(signo, &action, nullptr), 0);
}

void SetSoftLimit(decltype(RLIMIT_NOFILE) resource, rlim_t soft) {
  rlimit limit;
  CHECK_EQ(getrlimit(resource, &limit), 0);
  limit.rlim_cur = soft;
  CHECK_EQ(setrlimit(resource, &limit), 0);
}

void Block(int signo) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signo);
  CHECK_EQ(sigprocmask(SIG_BLOCK, &set, nullptr), 0);
}

// A file system tree of this test's own.
class Tree {
 public:
  Tree()
      : root_(absl::StrCat(
            testing::TempDir(), "/tree.", getpid(), ".",
            testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::create_directories(root_ / "proc" / "self");
    std::filesystem::create_directories(root_ / "cgroup");
  }
  ~Tree() { std::filesystem::remove_all(root_); }

  void Write(std::string_view path, std::string_view text) {
    const std::filesystem::path file = root_ / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  std::filesystem::path Path(std::string_view path) const {
    return root_ / path;
  }
  SelfCheckOptions Options(int children) const {
    return {.children = children,
            .proc_root = (root_ / "proc").string(),
            .cgroup_root = (root_ / "cgroup").string()};
  }

 private:
  std::filesystem::path root_;
};

TEST(SelfCheckTest, HeaderExample) {
  EXPECT_EQ(ExitCodeOf([] { return Preflight(10); }), EX_OK);
  EXPECT_EQ(ExitCodeOf([] {
              (void)close(0);
              return Preflight(10);
            }),
            EX_OSERR);
}

TEST(SelfCheckTest, FindsNothingWhereNothingWouldBite) {
  EXPECT_TRUE(HoldsAfter(
      [] {
        SetAction(SIGCHLD, SIG_DFL);
        SetAction(SIGPIPE, [](int) {});
      },
      [] {
        const SelfCheck check = SelfCheck::Run({.children = 0}, kNewKernel);
        std::cerr << check.ToString();
        return check.findings.empty() && check.ToString().empty() &&
               !check.Has(Severity::kNotice);
      }));
}

TEST(SelfCheckTest, SeesHowSigchldIsSet) {
  const auto warns = [] { return Finds("SIGCHLD", Severity::kWarning); };
  EXPECT_TRUE(HoldsAfter([] { SetAction(SIGCHLD, SIG_IGN); }, warns));
  EXPECT_TRUE(
      HoldsAfter([] { SetAction(SIGCHLD, SIG_DFL, SA_NOCLDWAIT); }, warns));
  EXPECT_TRUE(HoldsAfter(
      [] {
        SetAction(
            SIGCHLD, [](int) {}, SA_NOCLDWAIT);
      },
      warns));
  EXPECT_TRUE(HoldsAfter([] { SetAction(SIGCHLD, [](int) {}); },
                         [] { return Finds("SIGCHLD", Severity::kNotice); }));
  EXPECT_TRUE(HoldsAfter([] { SetAction(SIGCHLD, SIG_DFL); },
                         [] { return FindsNothingAbout("SIGCHLD"); }));
}

TEST(SelfCheckTest, SeesHowSigpipeIsSet) {
  const auto advice_has = [](std::string_view words) {
    return [=] {
      const SelfCheck check = SelfCheck::Run({}, kNewKernel);
      const Finding* finding = check.Find("SIGPIPE");
      return finding != nullptr && finding->severity == Severity::kNotice &&
             finding->advice.find(words) != std::string::npos;
    };
  };
  EXPECT_TRUE(HoldsAfter([] { SetAction(SIGPIPE, SIG_DFL); },
                         advice_has("ends this process")));
  EXPECT_TRUE(
      HoldsAfter([] { SetAction(SIGPIPE, SIG_IGN); }, advice_has("inherit")));
  EXPECT_TRUE(HoldsAfter([] { SetAction(SIGPIPE, [](int) {}); },
                         [] { return FindsNothingAbout("SIGPIPE"); }));
}

TEST(SelfCheckTest, NamesTheSignalsThatAreBlocked) {
  EXPECT_TRUE(
      HoldsAfter([] {}, [] { return FindsNothingAbout("blocked signals"); }));
  EXPECT_TRUE(
      HoldsAfter([] { Block(SIGUSR1); },
                 [] { return Finds("blocked signals", Severity::kNotice); }));
  for (const int signo : {SIGTERM, SIGINT, SIGCHLD}) {
    EXPECT_TRUE(HoldsAfter(
        [=] { Block(signo); },
        [] { return Finds("blocked signals", Severity::kWarning); }));
  }
  EXPECT_TRUE(HoldsAfter(
      [] {
        Block(SIGTERM);
        Block(SIGRTMIN + 1);
      },
      [] {
        const SelfCheck check = SelfCheck::Run({}, kNewKernel);
        return check.Find("blocked signals")
                   ->advice.find("SIGTERM SIGRTMIN+1: ") == 0;
      }));
}

TEST(SelfCheckTest, MeasuresLimitsByTheChildrenThatAreWanted) {
  struct Row {
    std::string_view what;
    decltype(RLIMIT_NOFILE) resource;
    Severity severity;
  };
  for (const Row& row :
       {Row{"RLIMIT_NOFILE", RLIMIT_NOFILE, Severity::kWarning},
        Row{"RLIMIT_NPROC", RLIMIT_NPROC, Severity::kWarning},
        Row{"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING, Severity::kNotice}}) {
    const auto lower = [&] { SetSoftLimit(row.resource, 60); };
    EXPECT_TRUE(HoldsAfter(lower, [&] {
      return Finds(row.what, row.severity, {.children = 61});
    })) << row.what;
    EXPECT_TRUE(HoldsAfter(lower, [&] {
      return FindsNothingAbout(row.what, {.children = 20});
    })) << row.what;
  }
  EXPECT_TRUE(HoldsAfter(
      [] { SetSoftLimit(RLIMIT_NOFILE, 60); },
      [] { return FindsNothingAbout("RLIMIT_NOFILE", {.children = -1000}); }));
}

TEST(SelfCheckTest, SeesClosedStandardStreams) {
  EXPECT_TRUE(FindsNothingAbout("descriptor 0"));
  for (const int fd : {0, 1, 2}) {
    EXPECT_TRUE(HoldsAfter([=] { (void)close(fd); },
                           [=] {
                             return Finds(absl::StrCat("descriptor ", fd),
                                          Severity::kError);
                           }))
        << fd;
  }
}

TEST(SelfCheckTest, CountsThreads) {
  EXPECT_TRUE(FindsNothingAbout("threads"));
  EXPECT_TRUE(HoldsAfter(
      [] {
        pthread_t thread;
        const auto sleep = [](void*) -> void* {
          while (true) pause();
        };
        CHECK_EQ(pthread_create(&thread, nullptr, sleep, nullptr), 0);
      },
      [] {
        const SelfCheck check = SelfCheck::Run({}, kNewKernel);
        const Finding* finding = check.Find("threads");
        return finding != nullptr && finding->severity == Severity::kWarning &&
               finding->advice.find("There are ") == 0;
      }));
}

TEST(SelfCheckTest, SeesASubreaperThatDoesNotReap) {
  EXPECT_TRUE(FindsNothingAbout("orphans"));
  const auto become = [] {
    CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
  };
  EXPECT_TRUE(
      HoldsAfter(become, [] { return Finds("orphans", Severity::kWarning); }));
  EXPECT_TRUE(HoldsAfter(become, [] {
    return FindsNothingAbout("orphans", {.reaps_orphans = true});
  }));
}

TEST(SelfCheckTest, SeesThatItIsPidOneAndThatProcIsAnothers) {
  const int code = ExitCodeOf([] {
    if (unshare(CLONE_NEWUSER | CLONE_NEWPID) == -1) return kNotPermitted;
    return ExitCodeOf([] {
      if (!Finds("orphans", Severity::kWarning)) return 1;
      return Finds("/proc", Severity::kWarning) ? 0 : 2;
    });
  });
  if (code == kNotPermitted) GTEST_SKIP() << "no pid namespace is to be had";
  EXPECT_EQ(code, 0);
}

TEST(SelfCheckTest, SaysThatThereIsNoProc) {
  EXPECT_TRUE(Finds("/proc", Severity::kWarning, {.proc_root = "/nowhere"}));
  EXPECT_TRUE(FindsNothingAbout("/proc"));
}

TEST(SelfCheckTest, FindsTheSmallestRoomOfAllEnclosingGroups) {
  Tree tree;
  tree.Write("proc/self/cgroup", "0::/a/b\n");
  EXPECT_TRUE(FindsNothingAbout("pids.max", tree.Options(1000)));
  tree.Write("cgroup/a/b/pids.max", "max\n");
  tree.Write("cgroup/a/b/pids.current", "3\n");
  EXPECT_TRUE(FindsNothingAbout("pids.max", tree.Options(1000)));
  tree.Write("cgroup/a/pids.max", "50\n");
  tree.Write("cgroup/a/pids.current", "10\n");
  EXPECT_TRUE(FindsNothingAbout("pids.max", tree.Options(40)));
  EXPECT_TRUE(Finds("pids.max", Severity::kWarning, tree.Options(41)));
  tree.Write("cgroup/pids.max", "5\n");
  tree.Write("cgroup/pids.current", "9\n");
  EXPECT_TRUE(Finds("pids.max", Severity::kWarning, tree.Options(1)));
  const SelfCheck check = SelfCheck::Run(tree.Options(1), kNewKernel);
  EXPECT_THAT(check.Find("pids.max")->advice, HasSubstr("room for 0 "));
}

TEST(SelfCheckTest, KnowsTheOlderControlGroupsToo) {
  Tree tree;
  tree.Write("proc/self/cgroup",
             "9:name=systemd:/x\n8:cpu,pids:/c\n4:memory:/m:n\n0::/\n");
  tree.Write("cgroup/pids/c/pids.max", "7\n");
  EXPECT_TRUE(Finds("pids.max", Severity::kWarning, tree.Options(8)));
  EXPECT_TRUE(FindsNothingAbout("pids.max", tree.Options(7)));
}

TEST(SelfCheckTest, ReadsNoSenseIntoNonsense) {
  Tree tree;
  for (const std::string_view text :
       {"", "\n\n", "::::", "0:", "0::", "0::x", "0::/../..", "pids:pids:pids",
        "8:pids:/\xff"}) {
    tree.Write("proc/self/cgroup", text);
    tree.Write("cgroup/pids.max", "many");
    EXPECT_TRUE(FindsNothingAbout("pids.max", tree.Options(8))) << text;
  }
}

TEST(SelfCheckTest, JudgesEachFeatureOfTheKernel) {
  struct Row {
    std::string_view what;
    Support KernelFeatures::*support;
    Severity if_missing;
  };
  for (const Row& row :
       {Row{"pidfd_open", &KernelFeatures::pidfd_open, Severity::kError},
        Row{"pidfd_send_signal", &KernelFeatures::pidfd_send_signal,
            Severity::kError},
        Row{"waitid P_PIDFD", &KernelFeatures::waitid_pidfd, Severity::kError},
        Row{"clone3", &KernelFeatures::clone3, Severity::kNotice},
        Row{"CLONE_PIDFD", &KernelFeatures::clone_pidfd, Severity::kNotice},
        Row{"close_range", &KernelFeatures::close_range, Severity::kWarning},
        Row{"PIDFD_INFO_EXIT", &KernelFeatures::pidfd_exit_info,
            Severity::kNotice},
        Row{"PR_GET_TID_ADDRESS", &KernelFeatures::tid_address,
            Severity::kNotice}}) {
    EXPECT_TRUE(FindsNothingAbout(row.what));
    for (const Support support : {Support::kMissing, Support::kForbidden,
                                  Support::kFatal, Support::kUnknown}) {
      KernelFeatures kernel = kNewKernel;
      kernel.*row.support = support;
      const SelfCheck check = SelfCheck::Run({}, kernel);
      const Finding* finding = check.Find(row.what);
      ASSERT_NE(finding, nullptr) << row.what << " " << support;
      EXPECT_EQ(finding->severity, support == Support::kFatal ? Severity::kError
                                   : support == Support::kUnknown
                                       ? Severity::kNotice
                                       : row.if_missing)
          << row.what << " " << support;
    }
  }
}

TEST(SelfCheckTest, PrintsALineForEachFindingTheMostSevereFirst) {
  KernelFeatures kernel = kNewKernel;
  kernel.pidfd_exit_info = Support::kMissing;
  kernel.close_range = Support::kForbidden;
  kernel.waitid_pidfd = Support::kFatal;
  const std::string table = SelfCheck::Run({.children = 0}, kernel).ToString();
  const std::vector<std::string> lines = absl::StrSplit(table, '\n');
  ASSERT_GE(lines.size(), 4);
  EXPECT_THAT(lines[0], StartsWith("error    waitid P_PIDFD  "));
  EXPECT_THAT(lines[0], HasSubstr("SIGSYS"));
  EXPECT_THAT(table, HasSubstr("\nwarning  close_range      It is forbidden"));
  EXPECT_THAT(table, HasSubstr("\nnotice   PIDFD_INFO_EXIT  It is missing"));
  EXPECT_EQ(lines.back(), "");
}

TEST(KernelFeaturesTest, AreProbedAlikeEachTime) {
  const KernelFeatures features = KernelFeatures::Probe();
  EXPECT_EQ(features, KernelFeatures::Probe());
  // Without these this test program could not have come so far.
  EXPECT_EQ(features.pidfd_open, Support::kOk);
  EXPECT_EQ(features.pidfd_send_signal, Support::kOk);
  EXPECT_EQ(features.waitid_pidfd, Support::kOk);
}

TEST(KernelFeaturesTest, ShowWhatASandboxAnswers) {
  struct Row {
    long number;
    int error;
    Support KernelFeatures::*support;
    Support expected;
  };
  for (const Row& row : {
           Row{SYS_pidfd_open, ENOSYS, &KernelFeatures::pidfd_open,
               Support::kMissing},
           Row{SYS_pidfd_open, EPERM, &KernelFeatures::pidfd_open,
               Support::kForbidden},
           Row{SYS_pidfd_open, EPERM, &KernelFeatures::pidfd_exit_info,
               Support::kForbidden},
           Row{SYS_pidfd_send_signal, ENOSYS,
               &KernelFeatures::pidfd_send_signal, Support::kMissing},
           Row{SYS_pidfd_send_signal, EPERM, &KernelFeatures::pidfd_send_signal,
               Support::kForbidden},
           Row{SYS_waitid, EINVAL, &KernelFeatures::waitid_pidfd,
               Support::kMissing},
           Row{SYS_clone3, ENOSYS, &KernelFeatures::clone3, Support::kMissing},
           Row{SYS_clone3, EPERM, &KernelFeatures::clone3, Support::kForbidden},
           Row{SYS_clone3, EPERM, &KernelFeatures::clone_pidfd,
               Support::kForbidden},
           Row{SYS_clone3, EAGAIN, &KernelFeatures::clone3, Support::kUnknown},
           Row{SYS_close_range, ENOSYS, &KernelFeatures::close_range,
               Support::kMissing},
           Row{SYS_close_range, EPERM, &KernelFeatures::close_range,
               Support::kForbidden},
           Row{SYS_ioctl, ENOTTY, &KernelFeatures::pidfd_exit_info,
               Support::kMissing},
           Row{SYS_prctl, EINVAL, &KernelFeatures::tid_address,
               Support::kMissing},
       }) {
    EXPECT_TRUE(HoldsAfter(
        [&] { DenySyscalls({row.number}, row.error); },
        [&] { return KernelFeatures::Probe().*row.support == row.expected; }))
        << row.number << " with errno " << row.error;
  }
}

TEST(KernelFeaturesTest, OutliveCallsThatKill) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the sanitizer starts a thread, by clone3, after each fork";
#endif
  const KernelFeatures before = KernelFeatures::Probe();
  const auto as_expected = [&] {
    KernelFeatures expected = before;
    expected.pidfd_open = Support::kFatal;
    expected.pidfd_exit_info = Support::kFatal;  // It needs a pidfd.
    expected.clone3 = Support::kFatal;
    expected.clone_pidfd = Support::kFatal;
    expected.close_range = Support::kFatal;
    return KernelFeatures::Probe() == expected;
  };
  const auto trap = [] {
    TrapSyscalls({SYS_pidfd_open, SYS_clone3, SYS_close_range});
  };
  EXPECT_TRUE(HoldsAfter(trap, as_expected));
  // When nobody can say how the probing child ended.
  EXPECT_TRUE(HoldsAfter(
      [&] {
        SetAction(SIGCHLD, SIG_IGN);
        trap();
      },
      as_expected));
}

TEST(KernelFeaturesTest, AreUnknownWhereNoChildIsToBeHad) {
  EXPECT_TRUE(HoldsAfter(
      [] {
        DenySyscalls({SYS_clone, SYS_fork, SYS_vfork}, EAGAIN);
      },
      [] { return KernelFeatures::Probe() == KernelFeatures(); }));
}

TEST(KernelFeaturesTest, LeaveNoOrphanToASubreaper) {
  EXPECT_TRUE(HoldsAfter(
      [] {
        CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
        TrapSyscalls({SYS_pidfd_open, SYS_clone3});
        (void)KernelFeatures::Probe();
      },
      [] {
        return waitpid(-1, nullptr, WNOHANG | __WALL) == -1 && errno == ECHILD;
      }));
}

TEST(KernelFeaturesTest, CanBeProbedBesideThreads) {
  EXPECT_TRUE(HoldsAfter(
      [] {
        pthread_t thread;
        const auto sleep = [](void*) -> void* {
          while (true) pause();
        };
        CHECK_EQ(pthread_create(&thread, nullptr, sleep, nullptr), 0);
      },
      [] { return KernelFeatures::Probe().pidfd_open == Support::kOk; }));
}

}  // namespace
}  // namespace brood
