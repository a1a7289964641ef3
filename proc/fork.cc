// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/fork.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <limits>
#include <optional>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "brood/proc/child.h"
#include "brood/proc/posix.h"
#include "brood/proc/single_threaded.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

constexpr int kFirstFdAfterStdio = 3;

// The kernel's set of signals, of which bit n - 1 is signal n. The C library's
// is sixteen times as large; and a forked child has to map each page of code
// anew that it runs through, which that of a call by number is mapped already.
using KernelSignalSet = uint64_t;
static_assert(sizeof(KernelSignalSet) == _NSIG / 8);

KernelSignalSet SignalMask() {
  KernelSignalSet now = 0;
  (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, nullptr, &now, sizeof(now));
  return now;
}

void SetSignalMask(KernelSignalSet mask) {
  (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, nullptr, sizeof(mask));
}

// For a child that begins with the handlers of its parent: none of them must
// run in it, where it would act on the parent's descriptors, before the
// dispositions are reset.
class EverySignalHeld {
 public:
  EverySignalHeld() : before_(SignalMask()) { SetSignalMask(~uint64_t{0}); }
  EverySignalHeld(const EverySignalHeld&) = delete;
  EverySignalHeld& operator=(const EverySignalHeld&) = delete;
  ~EverySignalHeld() { SetSignalMask(before_); }

 private:
  const KernelSignalSet before_;
};

// What CLONE_CLEAR_SIGHAND does, for the way without it.
void ResetHandlers() {
  for (int signo = 1; signo < NSIG; ++signo) {
    struct sigaction action = {};
    (void)sigaction(signo, nullptr, &action);
    if (action.sa_handler == SIG_IGN || action.sa_handler == SIG_DFL) continue;
    action = {};
    action.sa_handler = SIG_DFL;
    (void)sigaction(signo, &action, nullptr);
  }
}

// For kernels without close_range(2), and for filters that do not know it.
void CloseOneByOne(int first, int last) {
  DIR* directory = opendir("/proc/self/fd");
  if (directory == nullptr) {
    rlimit limit = {};
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    const int end = static_cast<int>(std::min<rlim_t>(limit.rlim_cur, 1 << 20));
    for (int fd = first; fd <= std::min(last, end); ++fd) (void)close(fd);
    return;
  }
  while (const dirent* entry = readdir(directory)) {
    int fd = -1;
    if (absl::SimpleAtoi(entry->d_name, &fd) && fd >= first && fd <= last &&
        fd != dirfd(directory)) {
      (void)close(fd);
    }
  }
  (void)closedir(directory);
}

void CloseRange(int first, int last) {
  if (close_range(first, last, 0) == -1) CloseOneByOne(first, last);
}

// `keep` is sorted. The kernel walks the table once however many gaps there
// are.
void CloseAllBut(absl::Span<const int> keep) {
  int first = kFirstFdAfterStdio;
  for (const int fd : keep) {
    if (fd < first) continue;
    if (fd > first) CloseRange(first, fd - 1);
    first = fd + 1;
  }
  CloseRange(first, std::numeric_limits<int>::max());
}

// The first number above all that the child keeps.
int FirstNotKept(absl::Span<const int> keep) {
  return std::max(kFirstFdAfterStdio, keep.empty() ? 0 : keep.back() + 1);
}

// A descriptor table that parent and child share at first. fork(2) copies the
// table and the child then closes what it was not to keep, which for thousands
// of descriptors takes longer than all the rest. Sharing it, and leaving it
// with no more than the lowest numbers, does neither. But what the parent
// closes while it is shared is closed for the child too; so the parent waits.
class SharedTable {
 public:
  // Whether it pays: the table is large, and what is kept of it lies low. One
  // that is large has some of these; to ask the kernel how many there are takes
  // as long as the rest of a fork. One call asks for all of them.
  static bool Pays(absl::Span<const int> keep) {
    constexpr int kLow = 1024;
    if (FirstNotKept(keep) > kLow) return false;
    std::array<pollfd, 8> samples;
    constexpr std::array kNumbers = {512,  640,  800,  1000,
                                     1500, 2000, 4000, 8000};
    static_assert(samples.size() == kNumbers.size());
    for (size_t i = 0; i < samples.size(); ++i) {
      samples[i] = {.fd = kNumbers[i], .events = 0, .revents = 0};
    }
    if (poll(samples.data(), samples.size(), 0) == -1) return false;
    return std::ranges::any_of(samples, [](const pollfd& sample) {
      return (sample.revents & POLLNVAL) == 0;
    });
  }

  SharedTable()
      : word_(static_cast<std::atomic<uint32_t>*>(
            mmap(nullptr, sizeof(*word_), PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {
    if (word_ == MAP_FAILED) word_ = nullptr;
  }
  SharedTable(const SharedTable&) = delete;
  SharedTable& operator=(const SharedTable&) = delete;
  ~SharedTable() {
    if (word_ != nullptr) (void)munmap(word_, sizeof(*word_));
  }

  bool valid() const { return word_ != nullptr; }

  // In the child. Where the kernel refuses, the child ends: it can close
  // nothing without closing it for the parent.
  void LeaveAbove(int first) {
    const bool left = close_range(first, ~0U, CLOSE_RANGE_UNSHARE) == 0;
    word_->store(left ? kLeft : kRefused);
    (void)syscall(SYS_futex, word_, FUTEX_WAKE, 1, nullptr, nullptr, 0);
    if (!left) _exit(0);
  }

  // In the parent: true when the child has a table of its own, or has died;
  // false if it was refused one.
  bool WaitUntilLeft(pid_t pid) {
    // It needs but a moment, and to sleep and be woken takes longer than that.
    constexpr int kYields = 200;
    for (int i = 0; i < kYields && word_->load() == kTogether; ++i) {
      (void)sched_yield();
    }
    constexpr timespec kLookAgain = {.tv_sec = 0, .tv_nsec = 10'000'000};
    while (word_->load() == kTogether) {
      (void)syscall(SYS_futex, word_, FUTEX_WAIT, kTogether, &kLookAgain,
                    nullptr, 0);
      // Somebody may have killed it first.
      siginfo_t info = {};
      if (word_->load() == kTogether &&
          waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) ==
              0 &&
          info.si_pid == pid) {
        return true;
      }
    }
    return word_->load() == kLeft;
  }

 private:
  static constexpr uint32_t kTogether = 0;
  static constexpr uint32_t kLeft = 1;
  static constexpr uint32_t kRefused = 2;

  std::atomic<uint32_t>* word_;  // In memory that a fork does not copy.
};

// The child ends as it would have, had the signal been armed a moment earlier.
[[noreturn]] void DieOf(int signo) {
  (void)raise(signo);
  _exit(128 + signo);  // It is one that does not kill, such as SIGCHLD.
}

// noexcept: an exception must not unwind into the parent's frames, copied here.
[[noreturn]] void RunChild(const ForkOptions& options,
                           absl::Span<const int> keep_fds,
                           SharedTable* shared_table, pid_t parent,
                           absl::FunctionRef<int()> body) noexcept {
  // First of all: until then every descriptor is the parent's own.
  if (shared_table != nullptr) shared_table->LeaveAbove(FirstNotKept(keep_fds));
  if (options.new_process_group) (void)setpgid(0, 0);
  if (options.keep_fds.has_value()) CloseAllBut(keep_fds);
  if (options.parent_death_signal.has_value()) {
    (void)prctl(PR_SET_PDEATHSIG, *options.parent_death_signal);
  }
  SetSignalMask(0);
  // The kernel does not look back: a parent that died before the prctl sends
  // nothing. So look, after arming, whether it is still the one that forked.
  // 0 is a parent outside of the child's pid namespace, of which one cannot
  // tell.
  if (const pid_t now = getppid();
      options.parent_death_signal.has_value() && now != parent && now != 0) {
    DieOf(*options.parent_death_signal);
  }
  _exit(body());
}

// What a kernel or a filter that does not know a call answers.
bool WillNot(int error) {
  return error == ENOSYS || error == EPERM || error == EINVAL;
}

// What the kernel and glibc keep for each thread and a bare clone3 would not
// carry over: glibc's fork does the same two things.
class ThreadState {
 public:
  // Where glibc keeps the thread's id; without it, mutexes that record their
  // owner would record the parent. nullptr where the kernel does not tell
  // (CONFIG_CHECKPOINT_RESTORE).
  void* tid_address = nullptr;
  // The list by which the kernel releases robust mutexes when the thread dies.
  void* robust_list = nullptr;
  size_t robust_list_size = 0;

  // They stay the same, and are asked for once in each thread of a process.
  static const ThreadState& OfCaller(pid_t self) {
    thread_local ThreadState state;
    if (state.process_ == self) return state;
    state.process_ = self;
    state.tid_address = nullptr;
    (void)prctl(PR_GET_TID_ADDRESS, &state.tid_address);
    (void)syscall(SYS_get_robust_list, 0, &state.robust_list,
                  &state.robust_list_size);
    return state;
  }

 private:
  pid_t process_ = 0;
};

// fork(2), but without SIGCHLD, and the pidfd comes with the child or there is
// no child: to open it afterwards could fail, when the child may already have
// done half of its work. -1 with errno ENOSYS if this kernel, or a filter
// before it, will not. `extra` is what flags there are beside those of all.
// With CLONE_PIDFD `out` is for the descriptor, with CLONE_PARENT_SETTID for
// the pid.
pid_t Clone(pid_t self, uint64_t extra, int exit_signal, int* out) {
  const ThreadState& thread = ThreadState::OfCaller(self);
  if (thread.tid_address == nullptr) {
    errno = ENOSYS;
    return -1;
  }
  clone_args args = {};
  args.flags =
      CLONE_CLEAR_SIGHAND | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | extra;
  ((extra & CLONE_PIDFD) != 0 ? args.pidfd : args.parent_tid) =
      reinterpret_cast<uintptr_t>(out);
  args.child_tid = reinterpret_cast<uintptr_t>(thread.tid_address);
  args.exit_signal = exit_signal;
  pid_t pid = static_cast<pid_t>(syscall(SYS_clone3, &args, sizeof(args)));
  if (pid == -1 && WillNot(errno)) {
    const EverySignalHeld held;
    // The fourth and the fifth argument change places between architectures;
    // the other one is for CLONE_SETTLS, and is not looked at.
    pid = static_cast<pid_t>(
        syscall(SYS_clone, (args.flags & ~CLONE_CLEAR_SIGHAND) | exit_signal,
                nullptr, out, thread.tid_address, thread.tid_address));
    if (pid == 0) ResetHandlers();
  }
  if (pid == 0) {
    (void)syscall(SYS_set_robust_list, thread.robust_list,
                  thread.robust_list_size);
  } else if (pid == -1) {
    if ((extra & CLONE_PIDFD) != 0) *out = -1;  // It may have been there.
    if (WillNot(errno)) errno = ENOSYS;
  }
  return pid;
}

absl::Status CheckExitSignal(int signo) {
  if (signo < SIGRTMIN || signo > SIGRTMAX) {
    return absl::InvalidArgumentError(absl::StrCat(
        "fork: exit_signal ", signo, ": only a realtime signal, ", SIGRTMIN,
        " to ", SIGRTMAX, ", is queued for every child"));
  }
  if ((SignalMask() >> (signo - 1) & 1) == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("fork: exit_signal ", NameOfSignal(signo),
                     " is not blocked, and would strike the caller"));
  }
  return absl::OkStatus();
}

absl::Status Check(const ForkOptions& options) {
  if (!IsSingleThreaded()) {
    return absl::FailedPreconditionError(
        "fork: the process has more than one thread, and the child would have "
        "their locks without the threads that could release them");
  }
  if (options.exit_signal.has_value()) {
    absl::Status status = CheckExitSignal(*options.exit_signal);
    if (!status.ok()) return status;
  }
  if (options.parent_death_signal.has_value() &&
      (*options.parent_death_signal < 1 ||
       *options.parent_death_signal > SIGRTMAX)) {
    return absl::InvalidArgumentError(
        absl::StrCat("fork: parent_death_signal ", *options.parent_death_signal,
                     " is no signal; 1 to ", SIGRTMAX, " are"));
  }
  for (const int fd : options.keep_fds.value_or(absl::Span<const int>())) {
    if (fd < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("fork: keep_fds has ", fd, ", which is no descriptor"));
    }
    if (fcntl(fd, F_GETFD) == -1) {
      return ErrnoStatus(errno, absl::StrCat("fork: keep_fds has ", fd));
    }
  }
  return absl::OkStatus();
}

// What allocates, and so comes before the fork.
absl::InlinedVector<int, 8> SortedKeepFds(const ForkOptions& options) {
  absl::InlinedVector<int, 8> keep_fds;
  if (options.keep_fds.has_value()) {
    keep_fds.assign(options.keep_fds->begin(), options.keep_fds->end());
    std::sort(keep_fds.begin(), keep_fds.end());
  }
  return keep_fds;
}

}  // namespace

absl::StatusOr<Child> Fork(const ForkOptions& options,
                           absl::FunctionRef<int()> body) {
  if (absl::Status status = Check(options); !status.ok()) return status;
  (void)ReapDropped();
  const absl::InlinedVector<int, 8> keep_fds = SortedKeepFds(options);
  const pid_t parent = getpid();
  const int exit_signal = options.exit_signal.value_or(0);
  const uint64_t kind = exit_signal == 0 ? CLONE_PIDFD : 0;

  std::optional<SharedTable> shared_table;
  if (options.keep_fds.has_value() && SharedTable::Pays(keep_fds)) {
    shared_table.emplace();
    if (!shared_table->valid()) shared_table.reset();
  }

  int fd = -1;
  pid_t pid = Clone(parent, kind | (shared_table.has_value() ? CLONE_FILES : 0),
                    exit_signal, &fd);
  if (pid > 0 && shared_table.has_value() &&
      !shared_table->WaitUntilLeft(pid)) {
    (void)RetryOnEintr([&] { return waitpid(pid, nullptr, __WALL); });
    shared_table.reset();
    (void)UniqueFd(std::exchange(fd, -1)).Close();
    pid = Clone(parent, kind, exit_signal, &fd);
  }
  const bool plain = pid == -1 && errno == ENOSYS;
  if (plain) {
    shared_table.reset();
    const EverySignalHeld held;
    pid = fork();
    if (pid == 0) ResetHandlers();
  }
  if (pid == 0) {
    RunChild(options, keep_fds,
             shared_table.has_value() ? &*shared_table : nullptr, parent, body);
  }
  const int fork_errno = errno;
  // In both, so that whichever comes first finds that the group is there.
  if (pid > 0 && options.new_process_group) (void)setpgid(pid, pid);
  if (pid == -1) return ErrnoStatus(fork_errno, "fork");
  if (fd != -1) return Child(pid, UniqueFd(fd));
  if (exit_signal != 0 && !plain) return Child(pid, exit_signal);

  absl::StatusOr<Child> child = Child::Adopt(pid);
  if (!child.ok()) {
    // Without pidfds, a child by its number is all there is.
    if (WillNot(ErrnoOf(child.status()))) return Child(pid, SIGCHLD);
    // Nobody has waited for it, so the number is still its own.
    (void)kill(pid, SIGKILL);
    (void)RetryOnEintr([&] { return waitpid(pid, nullptr, __WALL); });
  }
  return child;
}

absl::StatusOr<pid_t> ForkSibling(const ForkOptions& options, pid_t& pid_too,
                                  absl::FunctionRef<int()> body) {
  if (options.exit_signal.has_value()) {
    return absl::InvalidArgumentError(
        "fork: a sibling ends by the signal that its caller ends by, and has "
        "no exit_signal of its own");
  }
  if (absl::Status status = Check(options); !status.ok()) return status;
  const absl::InlinedVector<int, 8> keep_fds = SortedKeepFds(options);
  // If that one has ended, and with it who would make a sibling, there is none.
  const pid_t parent = getppid();
  const pid_t pid = Clone(getpid(), CLONE_PARENT | CLONE_PARENT_SETTID,
                          /*exit_signal=*/0, &pid_too);
  if (pid == 0) {
    RunChild(options, keep_fds, /*shared_table=*/nullptr, parent, body);
  }
  if (pid == -1) return ErrnoStatus(errno, "fork a sibling");
  return pid;
}

}  // namespace brood
