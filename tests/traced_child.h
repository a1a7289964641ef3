// SPDX-License-Identifier: Apache-2.0
//
// A TracedChild is a child that can die while a tracer holds it: dead to
// everyone, and yet not to be reaped until the tracer lets go.
//
//   TracedChild traced;
//   if (!traced.permitted()) GTEST_SKIP() << "ptrace is not permitted";
//   traced.Die();    // Exits 9; its parent's waits say "not yet" ...
//   traced.LetGo();  // ... until here.
//   EXPECT_EQ(*traced.child().Wait(), ExitStatus::Exited(9));
//
// Rests on: ptrace(2) with PTRACE_SEIZE.
#ifndef BROOD_TESTS_TRACED_CHILD_H_
#define BROOD_TESTS_TRACED_CHILD_H_

#include <optional>

#include "brood/proc/child.h"
#include "brood/proc/fork.h"
#include "brood/tests/gate.h"

namespace brood {

class TracedChild {
 public:
  explicit TracedChild(const ForkOptions& options = {});

  bool permitted() const { return permitted_; }
  // For whoever is to own it.
  Child& child() { return *child_; }

  void Die();    // Returns when it is dead.
  void LetGo();  // Returns when it can be reaped.

 private:
  Gate life_;
  Gate grip_;
  std::optional<Child> child_;
  std::optional<Child> tracer_;
  bool permitted_ = false;
};

}  // namespace brood

#endif  // BROOD_TESTS_TRACED_CHILD_H_
