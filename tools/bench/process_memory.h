// SPDX-License-Identifier: Apache-2.0
//
// MemoryOf says how many bytes processes have for themselves.
//
//   absl::StatusOr<int64_t> OfMine() {
//     return MemoryOf({getpid()});
//   }
//
// What it is not: all that a process costs. Counted are Pss_Anon, which is each
// page of its own data and stack, and of those that it shares after a fork its
// part; VmPTE, its page tables; and 16 KiB for each of its threads, which is
// the kernel's stack on x86-64 and arm64. Not counted are files, which are the
// same for all that run them, sockets, and the kernel's small objects.
//
// Errors: NotFound where the kernel says less than this needs; else what it
// says of the files, as for somebody else's process. One that is gone, or has
// ended and is not reaped, has nothing and is no error.
//
// Threads, signals, fork: reads files, keeps nothing.
// Rests on: proc(5): smaps_rollup, with Pss_Anon from Linux 5.4 on, and status.
#ifndef BROOD_TOOLS_BENCH_PROCESS_MEMORY_H_
#define BROOD_TOOLS_BENCH_PROCESS_MEMORY_H_

#include <sys/types.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "brood/proc/process_table.h"

namespace brood {

// Of one process, from the texts of these two files.
absl::StatusOr<int64_t> MemoryIn(std::string_view smaps_rollup,
                                 std::string_view status);

// Of all of them together.
absl::StatusOr<int64_t> MemoryOf(const std::vector<pid_t>& pids);

// Those of `processes` that descend from `ancestor`, which is not among them.
std::vector<pid_t> DescendantsOf(pid_t ancestor,
                                 const std::vector<Process>& processes);

}  // namespace brood

#endif  // BROOD_TOOLS_BENCH_PROCESS_MEMORY_H_
