// SPDX-License-Identifier: Apache-2.0
// The main() of every test: GoogleTest's own, and a check that each test leaves
// its process as it found it.
#include "brood/tests/hygiene.h"
#include "gtest/gtest.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  // A death test forks a process that starts anew instead of one that goes on
  // from the middle of another test's state.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  brood::CheckHygieneOfEveryTest();
  return RUN_ALL_TESTS();
}
