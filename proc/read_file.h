// SPDX-License-Identifier: Apache-2.0
//
// ReadFile reads a file to its end, also one of /proc, which has no size to ask
// for beforehand.
//
//   absl::StatusOr<std::string> OwnLimits() {
//     return ReadFile(AT_FDCWD, "/proc/self/limits");
//   }
//
// What it is not: for what strangers write. There is no limit to the size, and
// a FIFO makes it wait.
//
// Ownership: none; the descriptor is close-on-exec and closed again. Errors:
// what openat(2) and read(2) say, with the path; ESRCH comes from reading
// /proc, where the process has gone after the open.
//
// Threads: safe. Signals: none. Fork: no state. Rests on: openat(2), proc(5).
#ifndef BROOD_PROC_READ_FILE_H_
#define BROOD_PROC_READ_FILE_H_

#include <string>

#include "absl/status/statusor.h"

namespace brood {

// `path` is relative to `directory`, as in openat(2).
absl::StatusOr<std::string> ReadFile(int directory, const std::string& path);

}  // namespace brood

#endif  // BROOD_PROC_READ_FILE_H_
