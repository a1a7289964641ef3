// SPDX-License-Identifier: Apache-2.0
//
// Two verbs for everyone who calls the kernel: retry on EINTR, and turn an errno
// into a Status. No other place in the project does either.
//
//   absl::StatusOr<char> ReadByte(int fd) {
//     char byte;
//     const ssize_t n = RetryOnEintr([&] { return read(fd, &byte, 1); });
//     if (n == -1) return ErrnoStatus(errno, "read the barrier");
//     if (n == 0) return absl::OutOfRangeError("the barrier was closed");
//     return byte;
//   }
//
// What it is not: a wrapper of the system calls. Call them by their names.
//
// Errors: the code is absl::ErrnoToStatusCode's (ENOENT is NotFound, EACCES is
// PermissionDenied, EMFILE is ResourceExhausted, ...). Because several errnos
// share a code, the number itself travels along; ErrnoOf() gives it back.
//
// Threads: safe. Signals: RetryOnEintr is async-signal-safe if its call is;
// ErrnoStatus allocates and is not. Fork: no state.
// Rests on: signal(7) "Interruption of system calls", errno(3),
// strerrorname_np(3) and sigabbrev_np(3) (glibc 2.32).
#ifndef BROOD_PROC_POSIX_H_
#define BROOD_PROC_POSIX_H_

#include <cerrno>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"

namespace brood {

// Calls `call` until it returns something other than -1 with errno EINTR. For
// read, write, accept and wait; never for close (see unique_fd.h), nor for
// connect, which goes on by itself after EINTR.
template <typename Call>
auto RetryOnEintr(Call&& call) {
  decltype(call()) result;
  do {
    result = call();
  } while (result == -1 && errno == EINTR);
  return result;
}

// A Status that reads "`what`: No such file or directory (ENOENT)". `what` names
// the call and its object, as in "bind 127.0.0.1:80". `error` must not be 0.
absl::Status ErrnoStatus(int error, std::string_view what);

// The errno that `status` was made from; 0 if it was not made by ErrnoStatus.
int ErrnoOf(const absl::Status& status);

// "SIGCHLD", "SIGRTMIN+3"; "signal 99" for a number that is no signal. Lives
// here because a wait status needs it below the signal package, whose names.h
// is the place to look for the way back.
std::string NameOfSignal(int signo);

}  // namespace brood

#endif  // BROOD_PROC_POSIX_H_
