// SPDX-License-Identifier: Apache-2.0
//
// A network of one's own: no other process is in it, and the caller may do in
// it as root does, whoever he is.
//
//   void SetUp() override {
//     if (const int error = EnterOwnNetwork(); error != 0) {
//       GTEST_SKIP() << "no network of one's own: " << strerror(error);
//     }
//   }
//
// What it is not: undone. The process stays there until it ends, and so do its
// children. It begins with a loopback interface that is up, and nothing else.
//
// Errors: 0, or the errno that says why not; then the process is where it was.
// Threads: one. Rests on: network_namespaces(7), user_namespaces(7).
#ifndef BROOD_TESTS_OWN_NETWORK_H_
#define BROOD_TESTS_OWN_NETWORK_H_

namespace brood {

int EnterOwnNetwork();

}  // namespace brood

#endif  // BROOD_TESTS_OWN_NETWORK_H_
