// SPDX-License-Identifier: Apache-2.0
//
// SyscallFaults make system calls of another program fail, from when a test
// wants it to when it does not any more.
//
//   SyscallFaults forks({SYS_clone, SYS_clone3, SYS_fork, SYS_vfork});
//   ServerProcess server({"--listen=127.0.0.1:0"}, [&] { forks.Install(); });
//   forks.Begin(EAGAIN);
//   const Stream waiting = Come(server);
//   forks.AwaitFailures(3);
//   forks.End();
//
// What it is not: DenySyscalls (see deny_syscalls.h), which is for ever. Here
// each such call waits until a process of the test's has been asked, so make
// these before the program and let them live longer.
//
// Ownership: that process is this one's child until the destructor, which kills
// it; a program that still runs has no such calls then (ENOSYS).
//
// Errors: aborts the program where seccomp is not to be had; permitted() tells
// beforehand. Threads: one. Fork: Install() is for the process that is to
// become the program, and what it forks inherits it.
// Rests on: seccomp_unotify(2), with SECCOMP_USER_NOTIF_FLAG_CONTINUE (Linux
// 5.5); no privilege, but no_new_privs.
#ifndef BROOD_TESTS_SYSCALL_FAULTS_H_
#define BROOD_TESTS_SYSCALL_FAULTS_H_

#include <atomic>
#include <initializer_list>
#include <optional>
#include <vector>

#include "brood/net/stream.h"
#include "brood/proc/child.h"

namespace brood {

class SyscallFaults {
 public:
  static bool permitted();

  explicit SyscallFaults(std::initializer_list<long> numbers);
  SyscallFaults(const SyscallFaults&) = delete;
  SyscallFaults& operator=(const SyscallFaults&) = delete;
  ~SyscallFaults();

  void Install();

  // From here on such a call fails with `error`,
  void Begin(int error) { shared_->error = error; }
  // or goes well again.
  void End() { shared_->error = 0; }

  // How many have failed so far.
  int failures() const { return shared_->failures; }
  // Blocks until so many more have.
  void AwaitFailures(int more) const;

 private:
  struct Shared {
    std::atomic<int> error;
    std::atomic<int> failures;
  };

  int Judge();

  std::vector<long> numbers_;
  Shared* shared_;  // With the process that answers.
  std::optional<Stream> ours_;
  std::optional<Stream> theirs_;
  std::optional<Child> judge_;
};

}  // namespace brood

#endif  // BROOD_TESTS_SYSCALL_FAULTS_H_
