// SPDX-License-Identifier: Apache-2.0
//
// IsSingleThreaded says whether the calling thread is the only one there is.
//
//   if (!IsSingleThreaded()) {
//     return absl::FailedPreconditionError("more than one thread");
//   }
//
// What it is not: a promise for later. Only the thread that asks can make it
// untrue, if it is alone.
//
// Threads, signals, fork: no state; async-signal-safe.
// Rests on: __libc_single_threaded(3) (glibc 2.32), /proc/self/task in proc(5).
#ifndef BROOD_PROC_SINGLE_THREADED_H_
#define BROOD_PROC_SINGLE_THREADED_H_

namespace brood {

bool IsSingleThreaded();

}  // namespace brood

#endif  // BROOD_PROC_SINGLE_THREADED_H_
