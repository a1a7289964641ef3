// SPDX-License-Identifier: Apache-2.0
//
// What everyone who calls the kernel needs: retry on EINTR, turn an errno into
// a Status, wait for a descriptor until a deadline. No other place in the
// project does any of them.
//
//   absl::StatusOr<char> ReadByte(int fd) {
//     char byte;
//     const ssize_t n = RetryOnEintr([&] { return read(fd, &byte, 1); });
//     if (n == -1) return ErrnoStatus(errno, "read the barrier");
//     if (n == 0) return absl::OutOfRangeError("the barrier was closed");
//     return byte;
//   }
//
// What it is not: a wrapper of the system calls, which are called by their own
// names, nor an event loop, which waits for many descriptors at once.
//
// Errors: the code is absl::ErrnoToStatusCode's (ENOENT is NotFound, EACCES is
// PermissionDenied, EMFILE is ResourceExhausted, ...). Because several errnos
// share a code, the number itself travels along; ErrnoOf() gives it back.
//
// Threads: safe. Signals: RetryOnEintr is async-signal-safe if its call is; the
// others allocate and are not. Fork: no state.
// Rests on: signal(7) "Interruption of system calls", errno(3),
// strerrorname_np(3) and sigabbrev_np(3) (glibc 2.32).
#ifndef BROOD_PROC_POSIX_H_
#define BROOD_PROC_POSIX_H_

#include <cerrno>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace brood {

// Calls `call` until it returns something other than -1 with errno EINTR. For
// read, write, accept and wait; never for close (see unique_fd.h), nor for
// connect, which after EINTR goes on by itself (see net/stream.cc).
template <typename Call>
auto RetryOnEintr(Call&& call) {
  decltype(call()) result;
  do {
    result = call();
  } while (result == -1 && errno == EINTR);
  return result;
}

// A Status that reads "`what`: No such file or directory (ENOENT)". `what`
// names the call and its object, as in "bind 127.0.0.1:80". `error` must not be
// 0.
absl::Status ErrnoStatus(int error, std::string_view what);

// The errno that `status` was made from; 0 if it was not made by ErrnoStatus.
int ErrnoOf(const absl::Status& status);

// The time on the clock that no step of the wall clock moves: only differences
// mean anything. For measuring durations and for deadlines that have to hold.
absl::Duration MonotonicNow();

// A moment to wait for at most. It is given as a time of day and kept on the
// monotonic clock, so that a step of the wall clock neither cuts nor stretches
// a wait that has begun. Make one where the wait begins.
class Deadline {
 public:
  // Implicit: what waits takes an absl::Time. absl::InfiniteFuture() never
  // comes.
  Deadline(absl::Time when)  // NOLINT(google-explicit-constructor)
      : end_(when == absl::InfiniteFuture() ? absl::InfiniteDuration()
                                            : Monotonic(when)) {}

  bool never() const { return end_ == absl::InfiniteDuration(); }
  // How long it is until then; zero if it has passed.
  absl::Duration Left() const;

 private:
  static absl::Duration Monotonic(absl::Time when);

  absl::Duration end_;  // As MonotonicNow() counts.
};

// Waits until poll(2) reports one of `events`, an error or a hang-up on `fd`,
// or until `deadline`; true in the first case, false in the second. A deadline
// that has passed asks without waiting.
absl::StatusOr<bool> PollUntil(int fd, short events, const Deadline& deadline);

// "SIGCHLD", "SIGRTMIN+3"; "signal 99" for a number that is no signal. Lives
// here because a wait status needs it below the signal package, whose names.h
// is the place to look for the way back.
std::string NameOfSignal(int signo);

}  // namespace brood

#endif  // BROOD_PROC_POSIX_H_
