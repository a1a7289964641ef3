// SPDX-License-Identifier: Apache-2.0
#include "brood/tests/server_drain.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "brood/net/address.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/tests/server_clients.h"
#include "brood/tests/server_process.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::testing::HasSubstr;
using ::testing::Optional;

// What the server needs beside a descriptor for each client.
constexpr rlim_t kOthers = 100;

void TakeAllDescriptors() {
  rlimit limit;
  (void)getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

// Clients of a forked crowd connect, say that they have, and ask only once the
// server has been told to stop: it owes each of them an answer.
void ExpectNobodyLostInADrain(const std::vector<std::string>& flags,
                              int clients) {
  constexpr int kProcesses = 4;
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  if (limit.rlim_max < static_cast<rlim_t>(clients) + kOthers) {
    GTEST_SKIP() << "a process may have no more than " << limit.rlim_max
                 << " descriptors here";
  }
  std::vector<std::string> all = flags;
  all.insert(all.begin(), "--listen=127.0.0.1:0");
  ServerProcess server(all, TakeAllDescriptors);
  const Address address = server.address();
  std::array<int, 2> connected;
  std::array<int, 2> go;
  ASSERT_EQ(pipe2(connected.data(), O_CLOEXEC), 0);
  ASSERT_EQ(pipe2(go.data(), O_CLOEXEC), 0);
  std::vector<Child> crowd;
  for (int i = 0; i < kProcesses; ++i) {
    absl::StatusOr<Child> child = Fork({}, [&] {
      (void)close(go[1]);
      TakeAllDescriptors();
      std::vector<Stream> inside;
      for (int k = 0; k < clients / kProcesses; ++k) {
        absl::StatusOr<Stream> stream = Stream::Connect(address);
        if (!stream.ok()) return 2;
        inside.push_back(*std::move(stream));
      }
      (void)!write(connected[1], "x", 1);
      char byte;
      (void)!read(go[0], &byte, 1);
      for (Stream& client : inside) {
        if (!Echoes(client)) return 1;
        if (!client.Close().ok()) return 3;
      }
      return 0;
    });
    ASSERT_THAT(child, IsOk());
    crowd.push_back(*std::move(child));
  }
  for (int i = 0; i < kProcesses; ++i) {
    char byte;
    ASSERT_EQ(read(connected[0], &byte, 1), 1);
  }
  server.Signal(SIGTERM);
  EXPECT_THAT(server.NextLogLineWith("draining"), Optional(HasSubstr("TERM")));
  (void)close(go[1]);
  for (Child& child : crowd) {
    EXPECT_THAT(child.Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
  }
  EXPECT_EQ(ErrnoOf(Stream::Connect(address).status()), ECONNREFUSED);
  server.CloseItsOutput();
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
  (void)close(go[0]);
  (void)close(connected[0]);
  (void)close(connected[1]);
}

}  // namespace brood
