// SPDX-License-Identifier: Apache-2.0
//
// A UniqueFd owns one descriptor, or none.
//
//   absl::Status CountLines(const char* path) {
//     UniqueFd file(open(path, O_RDONLY | O_CLOEXEC));
//     if (!file.valid()) return ErrnoStatus(errno, path);
//     // ... read(file.get(), ...) ...
//     return file.Close();  // Leave it out and the destructor closes.
//   }
//
// What it is not: a stream, a file, or a way to share a descriptor. It knows
// nothing of what the number refers to.
//
// Ownership: a `UniqueFd` parameter or result passes ownership; a plain `int
// fd` is borrowed. Zero is a descriptor like any other; only negative is
// "none".
//
// Errors: Close() reports what close(2) reported, once, and never retries. On
// Linux the number is free again even after EINTR, and by then may be somebody
// else's, so a second close could only harm a stranger. EINTR is therefore no
// error. The destructor has nobody to tell and drops the report.
//
// Threads: as an int. Signals: Close() is async-signal-safe up to its Status.
// Fork: the child owns a copy of the descriptor and must close its own.
// Rests on: close(2), "Dealing with error returns from close()".
#ifndef BROOD_PROC_UNIQUE_FD_H_
#define BROOD_PROC_UNIQUE_FD_H_

#include <utility>

#include "absl/status/status.h"

namespace brood {

class UniqueFd {
 public:
  UniqueFd() = default;
  // Takes ownership of `fd`; a negative number is "none", so the result of a
  // failed system call may be passed as it is, with errno still to be read.
  explicit UniqueFd(int fd) : fd_(fd < 0 ? kNone : fd) {}

  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, kNone)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept;
  ~UniqueFd();

  bool valid() const { return fd_ != kNone; }
  // The descriptor, borrowed; -1 if there is none.
  int get() const { return fd_; }
  // The descriptor, which the caller now owns; -1 if there was none.
  [[nodiscard]] int Release() && { return std::exchange(fd_, kNone); }
  // Closes the descriptor now. Afterwards there is none, whatever the result.
  absl::Status Close();

 private:
  static constexpr int kNone = -1;
  int fd_ = kNone;
};

}  // namespace brood

#endif  // BROOD_PROC_UNIQUE_FD_H_
