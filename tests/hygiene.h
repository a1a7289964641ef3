// SPDX-License-Identifier: Apache-2.0
//
// Hygiene checks that a test leaves its process as it found it: the descriptor
// table, the signal mask, the signal dispositions, the children.
//
//   int main(int argc, char** argv) {
//     testing::InitGoogleTest(&argc, argv);
//     CheckHygieneOfEveryTest();
//     return RUN_ALL_TESTS();
//   }
//
// What it is not: something a test asks for. //tests:test_main installs it, so
// no test can forget it.
//
// Errors: each difference is a failure of the test that made it, in words.
// Rests on: proc(5), sigaction(2), waitid(2) with WNOWAIT, which takes nothing.
#ifndef BROOD_TESTS_HYGIENE_H_
#define BROOD_TESTS_HYGIENE_H_

namespace brood {

void CheckHygieneOfEveryTest();

}  // namespace brood

#endif  // BROOD_TESTS_HYGIENE_H_
