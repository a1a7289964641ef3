// SPDX-License-Identifier: Apache-2.0
//
// Somebody floods the real server, and is not even heard by it any more; until
// his time is over, or the server is told to forget.
#include <stdlib.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/stream.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/posix.h"
#include "brood/tests/own_network.h"
#include "brood/tests/server_clients.h"
#include "brood/tests/server_process.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Optional;

constexpr int kThreshold = 50;

// Comes until it is not heard any more. How often it was.
int Flood(const ServerProcess& server) {
  constexpr int kMost = 10'000;
  for (int i = 0; i < kMost; ++i) {
    const absl::Status status =
        Knock(server, 2, absl::Milliseconds(200)).status();
    if (absl::IsDeadlineExceeded(status)) return i;
  }
  return kMost;
}

class ServerFloodTest : public testing::TestWithParam<std::string_view> {
 protected:
  static void SetUpTestSuite() { no_network_ = EnterOwnNetwork(); }
  void SetUp() override {
    if (no_network_ != 0) {
      GTEST_SKIP()
          << ErrnoStatus(no_network_, "no network of one's own").message();
    }
  }

  static std::vector<std::string> Flags(std::vector<std::string> more = {}) {
    std::vector<std::string> flags = {
        "--listen=127.0.0.1:0", absl::StrCat("--model=", GetParam()),
        "--connection_rate_per_source=1/h,5", "--at_limit=reset",
        absl::StrCat("--flood_threshold=", kThreshold)};
    if (GetParam() == "prefork") flags.push_back("--workers=2");
    flags.insert(flags.end(), more.begin(), more.end());
    return flags;
  }

 private:
  static int no_network_;
};

int ServerFloodTest::no_network_ = 0;

TEST_P(ServerFloodTest, IsNotHeardUntilItsTimeIsOver) {
  ServerProcess server(Flags());
  // Each worker counts for itself, and some come while the filter is put in
  // place.
  EXPECT_LE(Flood(server), 20 * kThreshold);
  EXPECT_THAT(server.NextLogLineWith("shut out"),
              Optional(HasSubstr("shut out 127.0.0.2 for 900ms: 50 turned away "
                                 "within a second")));
  Stream other = Come(server, 3);
  EXPECT_TRUE(Echoes(other));
  // Turned away all the same, but not by silence.
  EXPECT_TRUE(IsReset(Knock(server, 2, absl::Seconds(30))));
  server.Signal(SIGQUIT);
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
}

// Without any limit nobody is one too many; but who comes only to leave would
// have to be let in before all others.
TEST_P(ServerFloodTest, OfThoseWhoOnlyLeaveIsNotHeardEither) {
  if (GetParam() == "prefork") {
    GTEST_SKIP() << "a worker lets nobody in before it has a turn for him";
  }
  constexpr int kMost = 100'000;
  ServerProcess server(
      {"--listen=127.0.0.1:0", absl::StrCat("--model=", GetParam()),
       "--log_format=none", absl::StrCat("--flood_threshold=", kThreshold)});
  absl::Status heard;
  for (int i = 0; i < kMost && !absl::IsDeadlineExceeded(heard); ++i) {
    absl::StatusOr<Stream> client = Knock(server, 2, absl::Milliseconds(200));
    heard = client.status();
    if (client.ok()) (void)client->Reset();
  }
  EXPECT_TRUE(absl::IsDeadlineExceeded(heard)) << heard;
  Stream other = Come(server, 3);
  EXPECT_TRUE(Echoes(other));
  server.Signal(SIGQUIT);
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
}

TEST_P(ServerFloodTest, IsExplainedAndForgotten) {
  std::string folder = "/tmp/server_flood.XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const std::string control = absl::StrCat("--control=unix:", folder, "/c");
  ServerProcess server(Flags({control}));
  const auto ask = [&](std::string_view request) {
    ServerProcess asker({control, absl::StrCat("--ask=", request)});
    return absl::StrCat(asker.ready_line(), "\n", asker.RestOfOutput());
  };
  std::string answer;
  do {  // Whoever asks may be slower than the flood's time.
    ASSERT_LE(Flood(server), 20 * kThreshold);
    answer = ask("explain 127.0.0.2");
  } while (!absl::StrContains(answer, "shut out: for "));
  EXPECT_THAT(answer, AnyOf(HasSubstr("more: 50 turned away within a second"),
                            HasSubstr("more: it went on")));
  EXPECT_THAT(ask("explain 127.0.0.3"), Not(HasSubstr("shut out")));
  do {
    (void)Flood(server);
    answer = ask("forget 127.0.0.2");
  } while (!absl::StrContains(answer, "heard again"));
  // With its rate as new, it is also let in.
  EXPECT_TRUE(Echoes(Knock(server, 2, absl::Seconds(30))));
  server.Signal(SIGQUIT);
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
  std::filesystem::remove_all(folder);
}

INSTANTIATE_TEST_SUITE_P(EachModel, ServerFloodTest,
                         testing::Values("fork", "iterative", "prefork"),
                         [](const auto& test) {
                           return std::string(test.param);
                         });

}  // namespace
}  // namespace brood
