// SPDX-License-Identifier: Apache-2.0
//
// ForbiddenCalls is every call in the project's C++ that its rules forbid: what
// would take a host's children, leak a descriptor, end a process that is not
// ours to end, wait for time instead of an event.
//
//   const SourceTree tree = SourceTree::Of({{"net/a.cc", "int n = system(\"ls\");\n"}});
//   EXPECT_THAT(ForbiddenCalls(tree),
//               ElementsAre(Finding{
//                   "net/a.cc", 1,
//                   "system(): a shell stands between; see proc/spawn.h"}));
//
// What it is not: a compiler, which would also see a call behind a macro or
// through a pointer. Nor is there a way to say "not here" in the file itself:
// the exceptions stand in the source of this check, each with its reason.
//
// Threads, signals, fork: a pure function.
#ifndef BROOD_TOOLS_CHECK_FORBIDDEN_CALLS_H_
#define BROOD_TOOLS_CHECK_FORBIDDEN_CALLS_H_

#include <vector>

#include "brood/tools/check/finding.h"
#include "brood/tools/check/source_tree.h"

namespace brood {

std::vector<Finding> ForbiddenCalls(const SourceTree& tree);

// The exceptions of files of `tree` that no longer make the call.
std::vector<Finding> StaleExceptions(const SourceTree& tree);

}  // namespace brood

#endif  // BROOD_TOOLS_CHECK_FORBIDDEN_CALLS_H_
