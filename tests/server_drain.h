// SPDX-License-Identifier: Apache-2.0
//
// A drain of the real server loses none of the clients that had connected.
//
//   ExpectNobodyLostInADrain({"--backlog=4096"}, 1000);
//
// What it is not: a drain of clients that were served already. None of these
// has said a word when the server is told to stop.
//
// Errors: each client that is lost is a failure of the test; there are more
// than a process may have descriptors for, and it is skipped aloud.
// Threads: one. Fork: the clients are children of the test.
#ifndef BROOD_TESTS_SERVER_DRAIN_H_
#define BROOD_TESTS_SERVER_DRAIN_H_

#include <string>
#include <vector>

namespace brood {

// Starts the server with `flags`. REQUIRES: `clients` is a multiple of four.
void ExpectNobodyLostInADrain(const std::vector<std::string>& flags,
                              int clients);

}  // namespace brood

#endif  // BROOD_TESTS_SERVER_DRAIN_H_
