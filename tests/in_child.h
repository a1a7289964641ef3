// SPDX-License-Identifier: Apache-2.0
//
// A function that runs in a forked child: for tests of packages that may not
// use //proc:fork, and for what a test would not survive itself.
//
//   EXPECT_EQ(InChild([] { return 7; }), 7);
//   EXPECT_EQ(InChild([] { return raise(SIGTERM); }), 128 + SIGTERM);
//
// What it is not: //proc:fork. This is fork(2) as it is: the child has the
// parent's handlers, mask and descriptors, which is what such tests are about.
//
// The child leaves by _exit(2) with what the function returns. GoogleTest's
// EXPECT in it prints but fails no test: return a number that tells which step
// went wrong.
//
// Errors: aborts the test program where there is no child to be had.
// Rests on: fork(2), waitpid(2).
#ifndef BROOD_TESTS_IN_CHILD_H_
#define BROOD_TESTS_IN_CHILD_H_

#include <sys/types.h>

#include "absl/functional/function_ref.h"

namespace brood {

// Runs `body` in a child and waits for it. What it returned; 128 and the
// signal if a signal killed it, as a shell would say.
int InChild(absl::FunctionRef<int()> body);

// The same in two steps, for a test that has something to do meanwhile.
pid_t StartInChild(absl::FunctionRef<int()> body);
int WaitForChild(pid_t child);

}  // namespace brood

#endif  // BROOD_TESTS_IN_CHILD_H_
