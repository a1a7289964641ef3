// SPDX-License-Identifier: Apache-2.0
//
// RaiseDescriptorLimit() makes room for so many descriptors in this process.
//
//   absl::Status MakeRoomFor(const LoadPlan& plan) {
//     return RaiseDescriptorLimit(plan.concurrency);
//   }
//
// What it is not: undone. It raises the soft limit to the hard one, for this
// process and those it starts later.
//
// Errors: ResourceExhausted, one line, if even that is not enough.
//
// Threads: the limit is the process's. Signals: none. Fork: inherited.
// Rests on: getrlimit(2) RLIMIT_NOFILE.
#ifndef BROOD_TOOLS_LOAD_DESCRIPTOR_LIMIT_H_
#define BROOD_TOOLS_LOAD_DESCRIPTOR_LIMIT_H_

#include <cstddef>

#include "absl/status/status.h"

namespace brood {

// For `connections`, and those few that a program has beside them.
absl::Status RaiseDescriptorLimit(size_t connections);

}  // namespace brood

#endif  // BROOD_TOOLS_LOAD_DESCRIPTOR_LIMIT_H_
