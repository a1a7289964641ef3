// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/fork.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <initializer_list>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/log/log.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_queue.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/posix.h"
#include "brood/proc/single_threaded.h"
#include "brood/proc/unique_fd.h"
#include "brood/tests/deny_syscalls.h"
#include "brood/tests/gate.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::Contains;
using ::testing::HasSubstr;

absl::StatusOr<ExitStatus> SumInAChild(absl::Span<const int> numbers) {
  absl::StatusOr<Child> child = Fork(
      {}, [&] { return std::accumulate(numbers.begin(), numbers.end(), 0); });
  if (!child.ok()) return child.status();
  return child->Wait();  // "exited" with the sum, modulo 256.
}

absl::StatusOr<ExitStatus> ForkAndWait(const ForkOptions& options,
                                       absl::FunctionRef<int()> body) {
  absl::StatusOr<Child> child = Fork(options, body);
  if (!child.ok()) return child.status();
  return child->Wait();
}

bool IsOpen(int fd) { return fcntl(fd, F_GETFD) != -1; }

TEST(ForkTest, HeaderExample) {
  EXPECT_THAT(SumInAChild({1, 2, 3}), IsOkAndHolds(ExitStatus::Exited(6)));
}

TEST(ForkTest, RunsNoDestructorOfTheParentInTheChild) {
  Gate gate;
  struct Guard {
    int fd;
    ~Guard() { (void)!write(fd, "x", 1); }
  };
  {
    // A byte is written here by the parent and must not be by the child.
    const Guard guard = {gate.write_fd()};
    EXPECT_THAT(ForkAndWait({}, [] { return 0; }),
                IsOkAndHolds(ExitStatus::Exited(0)));
  }
  std::array<char, 8> bytes;
  EXPECT_EQ(read(gate.read_fd(), bytes.data(), bytes.size()), 1);
}

TEST(ForkTest, ReportsAbortAsSigabrt) {
  absl::StatusOr<ExitStatus> status = ForkAndWait({}, [] {
    prctl(PR_SET_DUMPABLE, 0);  // No core file for a test.
    abort();
    return 0;
  });
  ASSERT_THAT(status, IsOk());
  EXPECT_EQ(status->term_signal(), SIGABRT);
}

TEST(ForkTest, EndsByAbortWhenAnExceptionEscapes) {
  absl::StatusOr<ExitStatus> status = ForkAndWait({}, []() -> int {
    prctl(PR_SET_DUMPABLE, 0);
    close(STDERR_FILENO);  // The runtime's last words are not for the log.
    throw std::runtime_error("escaped");
  });
  ASSERT_THAT(status, IsOk());
  EXPECT_EQ(status->term_signal(), SIGABRT);
}

TEST(ForkTest, CatchesExceptionsWithinTheChild) {
  EXPECT_THAT(ForkAndWait({},
                          [] {
                            try {
                              throw std::runtime_error("caught");
                            } catch (const std::runtime_error&) {
                              return 5;
                            }
                          }),
              IsOkAndHolds(ExitStatus::Exited(5)));
}

TEST(ForkTest, ForgetsEveryHandlerInTheChildAndIgnoresWhatWasIgnored) {
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  struct sigaction old_user;
  struct sigaction old_pipe;
  ASSERT_EQ(sigaction(SIGUSR1, &action, &old_user), 0);
  action.sa_handler = SIG_IGN;
  ASSERT_EQ(sigaction(SIGPIPE, &action, &old_pipe), 0);
  EXPECT_THAT(ForkAndWait({},
                          [] {
                            for (int signo = 1; signo < NSIG; ++signo) {
                              struct sigaction now = {};
                              if (sigaction(signo, nullptr, &now) == -1)
                                continue;
                              const bool ignored = now.sa_handler == SIG_IGN;
                              if (!ignored && now.sa_handler != SIG_DFL)
                                return signo;
                              if (signo == SIGPIPE && !ignored) return 99;
                            }
                            return 0;
                          }),
              IsOkAndHolds(ExitStatus::Exited(0)));
  sigaction(SIGUSR1, &old_user, nullptr);
  sigaction(SIGPIPE, &old_pipe, nullptr);
}

TEST(ForkTest, BlocksNoSignalInTheChildAndKeepsTheMaskInTheParent) {
  sigset_t block;
  sigemptyset(&block);
  sigaddset(&block, SIGTERM);
  sigset_t old;
  sigprocmask(SIG_BLOCK, &block, &old);
  EXPECT_THAT(ForkAndWait({},
                          [] {
                            sigset_t mask;
                            sigprocmask(SIG_BLOCK, nullptr, &mask);
                            return sigisemptyset(&mask) ? 0 : 1;
                          }),
              IsOkAndHolds(ExitStatus::Exited(0)));
  sigset_t now;
  sigprocmask(SIG_SETMASK, &old, &now);
  EXPECT_TRUE(sigismember(&now, SIGTERM));
  EXPECT_FALSE(sigismember(&now, SIGUSR1));
}

TEST(ForkTest, KeepsAllDescriptorsUnlessTold) {
  Gate gate;
  EXPECT_THAT(ForkAndWait({}, [&] { return IsOpen(gate.read_fd()) ? 0 : 1; }),
              IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(ForkTest, KeepsOnlyTheDescriptorsNamed) {
  std::vector<UniqueFd> open_fds;
  for (int i = 0; i < 10; ++i) {
    open_fds.emplace_back(open("/dev/null", O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(open_fds.back().valid());
  }
  // Unsorted, with a duplicate, one of the standard three, and none.
  const std::vector<std::vector<int>> cases = {
      {},
      {open_fds[7].get(), open_fds[2].get()},
      {open_fds[0].get(), open_fds[0].get(), STDIN_FILENO},
      {open_fds[9].get()}};
  for (const std::vector<int>& keep : cases) {
    EXPECT_THAT(ForkAndWait({.keep_fds = keep},
                            [&] {
                              for (int fd = 3; fd < 1024; ++fd) {
                                const bool kept =
                                    std::find(keep.begin(), keep.end(), fd) !=
                                    keep.end();
                                if (IsOpen(fd) != kept) return 1;
                              }
                              return 0;
                            }),
                IsOkAndHolds(ExitStatus::Exited(0)));
  }
}

// Thousands of descriptors, as many as the machine allows.
class CrowdedForkTest : public testing::Test {
 protected:
  CrowdedForkTest() {
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &before_), 0);
    const rlimit most = {.rlim_cur = before_.rlim_max,
                         .rlim_max = before_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &most), 0);
    while (crowd_.size() < 3000) {
      crowd_.emplace_back(open("/dev/null", O_RDONLY | O_CLOEXEC));
      if (!crowd_.back().valid()) break;
    }
  }
  ~CrowdedForkTest() override {
    crowd_.clear();
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &before_), 0);
  }

  int CountOpen() const {
    int count = 0;
    for (const UniqueFd& fd : crowd_) count += IsOpen(fd.get()) ? 1 : 0;
    return count;
  }

  rlimit before_ = {};
  std::vector<UniqueFd> crowd_;
};

TEST_F(CrowdedForkTest, KeepsOnlyTheDescriptorsNamed) {
  const int low = crowd_.front().get();
  const int high = crowd_.back().get();
  const std::vector<std::vector<int>> keeps = {{}, {low}, {high}, {low, high}};
  for (const std::vector<int>& keep : keeps) {
    EXPECT_THAT(ForkAndWait({.keep_fds = keep},
                            [&] {
                              const int kept = static_cast<int>(keep.size());
                              if (CountOpen() != kept) return 1;
                              for (const int fd : keep) {
                                if (!IsOpen(fd)) return 2;
                              }
                              return 0;
                            }),
                IsOkAndHolds(ExitStatus::Exited(0)));
    EXPECT_EQ(CountOpen(), crowd_.size());
  }
}

TEST_F(CrowdedForkTest, KeepsOnlyTheDescriptorsNamedWithoutCloseRange) {
  const int low = crowd_.front().get();
  EXPECT_THAT(
      ForkAndWait({},
                  [&] {
                    DenySyscalls({SYS_close_range}, EPERM);
                    absl::StatusOr<ExitStatus> status =
                        ForkAndWait({.keep_fds = absl::MakeConstSpan(&low, 1)},
                                    [&] { return CountOpen(); });
                    if (!status.ok()) return 1;
                    if (*status != ExitStatus::Exited(1)) return 2;
                    return CountOpen() == static_cast<int>(crowd_.size()) ? 0
                                                                          : 3;
                  }),
      IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST_F(CrowdedForkTest, DoesNotHangWhenTheChildIsKilledBeforeItHasATable) {
  EXPECT_THAT(
      ForkAndWait({},
                  [] {
                    prctl(PR_SET_DUMPABLE, 0);
                    TrapSyscalls({SYS_close_range});
                    const absl::StatusOr<ExitStatus> status =
                        ForkAndWait({.keep_fds = absl::Span<const int>()},
                                    [] { return 0; });
                    return status.ok() && status->term_signal() == SIGSYS ? 0
                                                                          : 1;
                  }),
      IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(ForkTest, LeadsAProcessGroupOfItsOwnWhenAsked) {
  EXPECT_THAT(ForkAndWait({}, [] { return getpgrp() == getpid() ? 1 : 0; }),
              IsOkAndHolds(ExitStatus::Exited(0)));
  EXPECT_THAT(ForkAndWait({.new_process_group = true},
                          [] { return getpgrp() == getpid() ? 0 : 1; }),
              IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(ForkTest, LeadsItsGroupByTheTimeForkReturns) {
  for (int i = 0; i < 50; ++i) {
    Gate gate;
    absl::StatusOr<Child> child = Fork({.new_process_group = true}, [&] {
      gate.Wait();
      return 0;
    });
    ASSERT_THAT(child, IsOk());
    EXPECT_EQ(getpgid(child->pid()), child->pid());
  }
}

TEST(ForkTest, LetsAChildInANewPidNamespaceLive) {
  const absl::StatusOr<ExitStatus> status = ForkAndWait({}, [] {
    if (unshare(CLONE_NEWPID) == -1) return 77;
    const absl::StatusOr<ExitStatus> first =
        ForkAndWait({.parent_death_signal = SIGKILL}, [] { return 5; });
    return first.ok() && *first == ExitStatus::Exited(5) ? 0 : 1;
  });
  ASSERT_THAT(status, IsOk());
  if (*status == ExitStatus::Exited(77)) {
    GTEST_SKIP() << "a pid namespace of one's own is not permitted";
  }
  EXPECT_EQ(*status, ExitStatus::Exited(0));
}

TEST(ForkTest, KeepsTheRecordLocksOfTheParent) {
  // To close any descriptor of a file drops them all, a copy of stdin too.
  FILE* file = tmpfile();
  ASSERT_NE(file, nullptr);
  const UniqueFd old_stdin(fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3));
  ASSERT_EQ(dup2(fileno(file), STDIN_FILENO), STDIN_FILENO);
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  ASSERT_EQ(fcntl(fileno(file), F_SETLK, &lock), 0);
  EXPECT_THAT(ForkAndWait({.keep_fds = absl::Span<const int>()},
                          [] {
                            struct flock asked = {};
                            asked.l_type = F_WRLCK;
                            if (fcntl(STDIN_FILENO, F_GETLK, &asked) == -1) {
                              return 1;
                            }
                            return asked.l_type == F_UNLCK ? 2 : 0;
                          }),
              IsOkAndHolds(ExitStatus::Exited(0)));
  ASSERT_EQ(dup2(old_stdin.get(), STDIN_FILENO), STDIN_FILENO);
  (void)fclose(file);
}

TEST(ForkTest, ChildDiesWithItsParentWhenAsked) {
  // The gate's only writing end left is the grandchild's, so end of file here
  // means that it has died, whoever reaps it.
  Gate gate;
  EXPECT_THAT(ForkAndWait({},
                          [&] {
                            absl::StatusOr<Child> grandchild =
                                Fork({.parent_death_signal = SIGKILL}, [] {
                                  pause();
                                  return 0;
                                });
                            if (!grandchild.ok()) return 1;
                            // Not to be killed by its handle, but by the
                            // kernel.
                            (void)std::move(*grandchild).Release();
                            return 0;
                          }),
              IsOkAndHolds(ExitStatus::Exited(0)));
  gate.Wait();
}

absl::Status CheckAlone() {
  if (!IsSingleThreaded()) {
    return absl::FailedPreconditionError("more than one thread");
  }
  return absl::OkStatus();
}

TEST(ForkTest, KnowsWhetherItIsAlone) {
  EXPECT_THAT(CheckAlone(), IsOk());
  Gate gate;
  std::thread other([&] {
    char byte;
    (void)!read(gate.read_fd(), &byte, 1);
  });
  EXPECT_THAT(CheckAlone(), StatusIs(absl::StatusCode::kFailedPrecondition));
  gate.Open();
  other.join();
  EXPECT_THAT(CheckAlone(), IsOk());
}

TEST(ForkTest, RefusesToForkWithSeveralThreads) {
  Gate gate;
  std::thread other([&] {
    char byte;
    (void)!read(gate.read_fd(), &byte, 1);
  });
  EXPECT_THAT(Fork({}, [] { return 0; }),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("more than one thread")));
  gate.Open();
  other.join();
}

TEST(ForkTest, ForksAgainWhenTheOtherThreadsHaveEnded) {
  std::thread([] {}).join();
  EXPECT_THAT(ForkAndWait({}, [] { return 0; }),
              IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(ForkTest, LetsTheChildBeAWholeProgram) {
  EXPECT_THAT(ForkAndWait({},
                          [] {
                            const std::vector<std::string> strings(
                                1000, std::string(1000, 'x'));
                            LOG(INFO) << "a child logs " << strings.size()
                                      << " strings";
                            FILE* file = tmpfile();
                            if (file == nullptr || fputs("stdio\n", file) < 0 ||
                                fclose(file) != 0) {
                              return 1;
                            }
                            // glibc knows under which id the child runs;
                            // else this mutex would be the parent's.
                            pthread_mutexattr_t checked;
                            pthread_mutexattr_init(&checked);
                            pthread_mutexattr_settype(&checked,
                                                      PTHREAD_MUTEX_ERRORCHECK);
                            pthread_mutex_t mutex;
                            pthread_mutex_init(&mutex, &checked);
                            pthread_mutex_lock(&mutex);
                            if (mutex.__data.__owner != gettid()) return 2;
                            if (pthread_mutex_lock(&mutex) != EDEADLK) return 3;
                            return pthread_mutex_unlock(&mutex);
                          }),
              IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(ForkTest, LetsTheChildStartThreads) {
  EXPECT_THAT(ForkAndWait({},
                          [] {
                            int result = 0;
                            std::thread([&] { result = 6; }).join();
                            return result;
                          }),
              IsOkAndHolds(ExitStatus::Exited(6)));
}

TEST(ForkTest, SendsNoSigchldToTheHost) {
  static volatile std::sig_atomic_t received;
  received = 0;
  struct sigaction count = {};
  count.sa_handler = [](int) { received = received + 1; };
  struct sigaction old;
  ASSERT_EQ(sigaction(SIGCHLD, &count, &old), 0);
  EXPECT_THAT(ForkAndWait({}, [] { return 0; }), IsOk());
  EXPECT_EQ(received, 0);
  ASSERT_EQ(sigaction(SIGCHLD, &old, nullptr), 0);
}

// Runs `body` under `deny` in a child of its own, and says what it returned.
int InSandbox(std::initializer_list<long> deny, int error,
              absl::FunctionRef<int()> body) {
  absl::StatusOr<ExitStatus> status = ForkAndWait({}, [&] {
    DenySyscalls(deny, error);
    return body();
  });
  EXPECT_THAT(status, IsOk());
  return status->exit_code().value_or(-1);
}

int ExitsWithSeven(const ForkOptions& options) {
  const absl::StatusOr<ExitStatus> status = ForkAndWait(options, [] {
    for (int signo = 1; signo < NSIG; ++signo) {
      struct sigaction now = {};
      if (sigaction(signo, nullptr, &now) == 0 && now.sa_handler != SIG_DFL &&
          now.sa_handler != SIG_IGN) {
        return 1;
      }
    }
    return 7;
  });
  return status.ok() && *status == ExitStatus::Exited(7) ? 0 : 1;
}

TEST(ForkTest, WorksWhereSomeOfTheKernelIsMissingOrForbidden) {
  struct sigaction handler = {};
  handler.sa_handler = [](int) {};
  struct sigaction old;
  ASSERT_EQ(sigaction(SIGUSR1, &handler, &old), 0);
  const auto body = [] {
    struct sigaction again = {};
    again.sa_handler = [](int) {};
    (void)sigaction(SIGUSR1, &again, nullptr);
    return ExitsWithSeven({});
  };
  for (const int error : {ENOSYS, EPERM}) {
    EXPECT_EQ(InSandbox({SYS_clone3}, error, body), 0);
    EXPECT_EQ(InSandbox({SYS_clone3, SYS_prctl}, error, body), 0);
    EXPECT_EQ(InSandbox({SYS_clone3, SYS_prctl, SYS_pidfd_open}, error, body),
              0);
    EXPECT_EQ(
        InSandbox({SYS_get_robust_list, SYS_set_robust_list}, error, body), 0);
  }
  ASSERT_EQ(sigaction(SIGUSR1, &old, nullptr), 0);
}

TEST(ForkTest, AnnouncesTheEndWhereClone3IsForbidden) {
  EXPECT_EQ(InSandbox({SYS_clone3}, EPERM,
                      [] {
                        absl::StatusOr<ExitQueue> queue = ExitQueue::Create();
                        if (!queue.ok()) return 1;
                        absl::StatusOr<Child> child = Fork(
                            {.exit_signal = queue->signo()}, [] { return 0; });
                        if (!child.ok() || child->fd() != -1) return 2;
                        if (!child->Wait().ok()) return 3;
                        return queue->Next() == child->pid() ? 0 : 4;
                      }),
            0);
}

TEST(ForkTest, LeavesNothingBehindWhenThereIsNoRoomForAProcess) {
  EXPECT_EQ(InSandbox({SYS_clone3, SYS_clone}, EAGAIN,
                      [] {
                        const absl::StatusOr<Child> child =
                            Fork({}, [] { return 0; });
                        if (ErrnoOf(child.status()) != EAGAIN) return 1;
                        sigset_t mask;
                        sigprocmask(SIG_BLOCK, nullptr, &mask);
                        if (sigisemptyset(&mask) != 1) return 2;
                        return waitid(P_ALL, 0, nullptr, WEXITED | __WALL) ==
                                           -1 &&
                                       errno == ECHILD
                                   ? 0
                                   : 3;
                      }),
            0);
}

TEST(ForkTest, RefusesOptionsThatMeanNothing) {
  const auto body = [] { return 0; };
  EXPECT_THAT(
      Fork({.exit_signal = SIGTERM}, body),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("exit_signal 15: only a realtime signal, 34 to 64")));
  EXPECT_THAT(Fork({.exit_signal = SIGRTMIN}, body),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("SIGRTMIN is not blocked")));
  EXPECT_THAT(Fork({.parent_death_signal = 99}, body),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("parent_death_signal 99")));
  const int negative = -5;
  EXPECT_THAT(Fork({.keep_fds = absl::MakeConstSpan(&negative, 1)}, body),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("keep_fds has -5")));
  const int closed = 777;
  EXPECT_THAT(Fork({.keep_fds = absl::MakeConstSpan(&closed, 1)}, body),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("keep_fds has 777")));
}

TEST(ForkTest, LeavesNothingBehindWhenNoDescriptorIsLeft) {
  const UniqueFd next(open("/dev/null", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(next.valid());
  rlimit old;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
  const rlimit tight = {.rlim_cur = static_cast<rlim_t>(next.get()) + 1,
                        .rlim_max = old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
  const absl::StatusOr<Child> child = Fork({}, [] {
    pause();
    return 0;
  });
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
  // That no child and no blocked signal is left is checked after every test.
  EXPECT_THAT(child.status(), StatusIs(absl::StatusCode::kResourceExhausted,
                                       HasSubstr("EMFILE")));
}

// Of processes that share memory.
class SharedPid {
 public:
  SharedPid()
      : pid_(static_cast<pid_t*>(mmap(nullptr, sizeof(pid_t),
                                      PROT_READ | PROT_WRITE,
                                      MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {
    EXPECT_NE(pid_, MAP_FAILED);
  }
  SharedPid(const SharedPid&) = delete;
  SharedPid& operator=(const SharedPid&) = delete;
  ~SharedPid() { EXPECT_EQ(munmap(pid_, sizeof(pid_t)), 0); }

  pid_t& operator*() const { return *pid_; }

 private:
  pid_t* pid_;
};

TEST(ForkSiblingTest, MakesAChildOfTheCallersParent) {
  const absl::StatusOr<ExitQueue> queue = ExitQueue::Create();
  ASSERT_THAT(queue, IsOk());
  const SharedPid pid;
  const pid_t self = getpid();
  EXPECT_THAT(
      ForkAndWait({.exit_signal = queue->signo()},
                  [&] {
                    const absl::StatusOr<pid_t> sibling =
                        ForkSibling({.new_process_group = true}, *pid, [&] {
                          return getppid() == self && getpgrp() == getpid() ? 7
                                                                            : 1;
                        });
                    return sibling.ok() && *sibling == *pid ? 0 : 1;
                  }),
      IsOkAndHolds(ExitStatus::Exited(0)));
  EXPECT_THAT(Child(*pid, queue->signo()).Wait(),
              IsOkAndHolds(ExitStatus::Exited(7)));
}

TEST(ForkSiblingTest, IsAnnouncedByTheSignalOfItsCaller) {
  absl::StatusOr<ExitQueue> queue = ExitQueue::Create();
  ASSERT_THAT(queue, IsOk());
  const SharedPid pid;
  EXPECT_THAT(
      ForkAndWait(
          {.exit_signal = queue->signo()},
          [&] { return ForkSibling({}, *pid, [] { return 0; }).ok() ? 0 : 1; }),
      IsOkAndHolds(ExitStatus::Exited(0)));
  EXPECT_THAT(Child(*pid, queue->signo()).Wait(), IsOk());
  std::vector<pid_t> announced;
  while (const std::optional<pid_t> ended = queue->Next()) {
    announced.push_back(*ended);
  }
  EXPECT_THAT(announced, Contains(*pid));
}

TEST(ForkSiblingTest, DiesWithItsParentWhenAsked) {
  Gate gate;  // As in ForkTest.ChildDiesWithItsParentWhenAsked.
  EXPECT_THAT(
      ForkAndWait({},
                  [&] {
                    const SharedPid pid;
                    const absl::StatusOr<ExitStatus> made =
                        ForkAndWait({}, [&] {
                          return ForkSibling(
                                     {.parent_death_signal = SIGKILL}, *pid,
                                     [] {
                                       pause();
                                       return 0;
                                     }).ok()
                                     ? 0
                                     : 1;
                        });
                    return made.ok() && *made == ExitStatus::Exited(0) ? 0 : 1;
                  }),
      IsOkAndHolds(ExitStatus::Exited(0)));
  gate.Wait();
}

TEST(ForkSiblingTest, WorksWhereClone3IsForbidden) {
  EXPECT_THAT(
      ForkAndWait({},
                  [] {
                    const absl::StatusOr<ExitQueue> queue = ExitQueue::Create();
                    if (!queue.ok()) return 1;
                    DenySyscalls({SYS_clone3}, ENOSYS);
                    const SharedPid pid;
                    const absl::StatusOr<ExitStatus> made =
                        ForkAndWait({.exit_signal = queue->signo()}, [&] {
                          return ForkSibling({}, *pid, [] { return 7; }).ok()
                                     ? 0
                                     : 1;
                        });
                    if (!made.ok() || *made != ExitStatus::Exited(0)) return 2;
                    const auto end = Child(*pid, queue->signo()).Wait();
                    return end.ok() && *end == ExitStatus::Exited(7) ? 0 : 3;
                  }),
      IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(ForkSiblingTest, HasNoExitSignalOfItsOwn) {
  pid_t pid = 0;
  EXPECT_THAT(
      ForkSibling({.exit_signal = SIGRTMIN}, pid, [] { return 0; }),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("exit_signal")));
  EXPECT_EQ(pid, 0);
}

}  // namespace
}  // namespace brood
