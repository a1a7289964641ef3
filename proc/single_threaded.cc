// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/single_threaded.h"

#include <sys/single_threaded.h>
#include <sys/stat.h>

namespace brood {
namespace {

// ThreadSanitizer has a thread of its own, which sleeps.
#if defined(__SANITIZE_THREAD__)
constexpr nlink_t kThreads = 2;
#else
constexpr nlink_t kThreads = 1;
#endif

}  // namespace

// glibc clears its flag when a thread is made and need not set it again, so a
// false answer is only a reason to ask the kernel: a directory's link count is
// its subdirectories plus two, and /proc/self/task has one for each thread.
bool IsSingleThreaded() {
  if (__libc_single_threaded) return true;
  struct stat task;
  return stat("/proc/self/task", &task) == 0 && task.st_nlink <= kThreads + 2;
}

}  // namespace brood
