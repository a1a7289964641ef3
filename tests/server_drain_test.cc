// SPDX-License-Identifier: Apache-2.0
//
// What server_limits_test.cc shows of a thousand clients, of five thousand.
#include "brood/tests/server_drain.h"

#include "gtest/gtest.h"

namespace brood {
namespace {

// Most of them have never had a process when the server is told to stop, and
// wait for one of a few hundred places.
TEST(ServerDrainTest, LosesNobodyOfFiveThousandWhoHadConnected) {
  ExpectNobodyLostInADrain({"--backlog=8192", "--max_connections=500",
                            "--max_waiting=5000", "--drain_timeout=10m"},
                           5000);
}

}  // namespace
}  // namespace brood
