// SPDX-License-Identifier: Apache-2.0
//
// A Gate holds processes until it is opened: the way for a test to wait for an
// event and never for time.
//
//   Gate gate;
//   Child child = *Fork({}, [&] { gate.Wait(); return 7; });
//   // The child is alive here, however slow the machine.
//   gate.Open();
//   EXPECT_EQ(*child.Wait(), ExitStatus::Exited(7));
//
// What it is not: a lock. It opens once and for everyone.
//
// Readiness: a pipe whose last writing end has been closed reads as end of
// file, in every process that holds the reading end. A gate also opens when the
// process that made it dies, so a failed test strands nobody.
//
// Fork: make the gate before the fork; Wait() in the child gives up the child's
// own copy of the writing end. Rests on: pipe(7).
#ifndef BROOD_TESTS_GATE_H_
#define BROOD_TESTS_GATE_H_

#include "brood/proc/unique_fd.h"

namespace brood {

class Gate {
 public:
  Gate();  // Aborts the test program if there is no pipe to be had.

  void Open();
  // Blocks until the gate is open. For a forked child, not for the opener.
  void Wait();
  // The two ends, borrowed: for a child that keeps only the descriptors it
  // names.
  int read_fd() const { return read_end_.get(); }
  int write_fd() const { return write_end_.get(); }

 private:
  UniqueFd read_end_;
  UniqueFd write_end_;
};

}  // namespace brood

#endif  // BROOD_TESTS_GATE_H_
