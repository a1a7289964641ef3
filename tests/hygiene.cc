// SPDX-License-Identifier: Apache-2.0
#include "brood/tests/hygiene.h"

#include <dirent.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <map>
#include <string>

#include "absl/log/check.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/posix.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

// What each descriptor refers to, as the kernel names it.
std::map<int, std::string> OpenDescriptors() {
  std::map<int, std::string> open;
  DIR* directory = opendir("/proc/self/fd");
  CHECK(directory != nullptr) << ErrnoStatus(errno, "open /proc/self/fd");
  while (const dirent* entry = readdir(directory)) {
    int fd;
    if (!absl::SimpleAtoi(entry->d_name, &fd)) continue;
    if (fd == dirfd(directory)) continue;
    std::array<char, 4096> target;
    const ssize_t length = readlinkat(dirfd(directory), entry->d_name,
                                      target.data(), target.size());
    if (length >= 0) open.emplace(fd, std::string(target.data(), length));
  }
  closedir(directory);
  return open;
}

// glibc adds this to the flags of whatever it registers, even of a disposition
// that it read without; <asm/signal.h> has the name and clashes with
// <signal.h>.
constexpr int kSaRestorer = 0x04000000;

struct Disposition {
  uintptr_t handler;
  int flags;
  bool operator==(const Disposition&) const = default;
};

struct Snapshot {
  static Snapshot Take() {
    Snapshot now;
    now.descriptors = OpenDescriptors();
    sigset_t mask;
    sigprocmask(SIG_BLOCK, nullptr, &mask);
    for (int signo = 1; signo < NSIG; ++signo) {
      now.blocked[signo] = sigismember(&mask, signo) == 1;
      struct sigaction action = {};
      (void)sigaction(signo, nullptr, &action);
      now.dispositions[signo] = {reinterpret_cast<uintptr_t>(action.sa_handler),
                                 action.sa_flags & ~kSaRestorer};
    }
    return now;
  }

  std::map<int, std::string> descriptors;
  std::array<bool, NSIG> blocked = {};
  std::array<Disposition, NSIG> dispositions = {};
};

// The first child that is left, dead or alive; "" if there is none.
std::string LeftoverChild() {
  siginfo_t info = {};
  if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == -1) {
    return errno == ECHILD ? "" : ErrnoStatus(errno, "waitid").ToString();
  }
  return info.si_pid == 0 ? "a child that is still running"
                          : absl::StrCat("the zombie ", info.si_pid);
}

class HygieneListener : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo&) override {
    before_ = Snapshot::Take();
  }

  void OnTestEnd(const testing::TestInfo&) override {
    const Snapshot after = Snapshot::Take();
    for (const auto& [fd, target] : after.descriptors) {
      if (!before_.descriptors.contains(fd)) {
        ADD_FAILURE() << "left descriptor " << fd << " open: " << target;
      }
    }
    for (const auto& [fd, target] : before_.descriptors) {
      const auto now = after.descriptors.find(fd);
      if (now == after.descriptors.end() || now->second != target) {
        ADD_FAILURE() << "closed a descriptor not its own: " << fd << ", "
                      << target;
      }
    }
    for (int signo = 1; signo < NSIG; ++signo) {
      if (after.blocked[signo] != before_.blocked[signo]) {
        ADD_FAILURE() << "left " << NameOfSignal(signo)
                      << (after.blocked[signo] ? " blocked" : " unblocked");
      }
      if (after.dispositions[signo] != before_.dispositions[signo]) {
        ADD_FAILURE() << "left the disposition of " << NameOfSignal(signo)
                      << " changed";
      }
    }
    const std::string child = LeftoverChild();
    if (!child.empty()) ADD_FAILURE() << "left " << child;
  }

  Snapshot before_;
};

}  // namespace

void CheckHygieneOfEveryTest() {
  testing::UnitTest::GetInstance()->listeners().Append(new HygieneListener);
}

}  // namespace brood
