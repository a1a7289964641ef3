// SPDX-License-Identifier: Apache-2.0
//
// DenySyscalls makes system calls fail in the calling process for the rest of
// its life, as an old kernel or a sandbox would: the way for a test to meet
// ENOSYS, EPERM or EMFILE where the machine has no such fault.
//
//   Child child = *Fork({}, [] {
//     DenySyscalls({SYS_pidfd_open}, ENOSYS);
//     return Child::Adopt(getppid()).ok() ? 1 : 0;
//   });
//
// What it is not: undone. Call it in a forked child. Children of that child
// inherit it, and it survives exec.
//
// Errors: aborts the test program where seccomp(2) itself is missing.
// Rests on: seccomp(2) with SECCOMP_SET_MODE_FILTER, which PR_SET_NO_NEW_PRIVS
// opens to everybody.
#ifndef BROOD_TESTS_DENY_SYSCALLS_H_
#define BROOD_TESTS_DENY_SYSCALLS_H_

#include <initializer_list>

namespace brood {

// Each of `numbers` (SYS_clone3, ...) fails with `error` from here on.
void DenySyscalls(std::initializer_list<long> numbers, int error);

// Each of `numbers` kills the calling process by SIGSYS, as strict sandboxes
// have it.
void TrapSyscalls(std::initializer_list<long> numbers);

}  // namespace brood

#endif  // BROOD_TESTS_DENY_SYSCALLS_H_
