// SPDX-License-Identifier: Apache-2.0
//
// Two clients of programs that neither read nor write say that they send no
// more. One has closed and the other waits for an answer, and the real server
// tells them apart: where a kernel forgets soon, so that nobody has to wait for
// a minute.
#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <string>
#include <string_view>

#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "brood/net/stream.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/tests/own_network.h"
#include "brood/tests/server_clients.h"
#include "brood/tests/server_process.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Optional;

// 0, or the errno that says why a kernel does not forget sooner here.
int ForgetSoon() {
  if (const int error = EnterOwnNetwork(); error != 0) return error;
  const UniqueFd file(
      open("/proc/sys/net/ipv4/tcp_fin_timeout", O_WRONLY | O_CLOEXEC));
  return file.valid() && write(file.get(), "1", 1) == 1 ? 0 : errno;
}

// What stands in the first line that comes; 0 if that is no number.
pid_t NumberFrom(Stream& stream) {
  std::string line;
  std::array<char, 1> byte;
  while (true) {
    const absl::StatusOr<IoResult> got = stream.Read(absl::MakeSpan(byte));
    if (!got.ok() || got->end() || byte[0] == '\n') break;
    line.push_back(byte[0]);
  }
  pid_t number = 0;
  return absl::SimpleAtoi(line, &number) ? number : 0;
}

class ServerHalfClosedTest : public testing::TestWithParam<std::string_view> {
 protected:
  static void SetUpTestSuite() { error_ = ForgetSoon(); }
  void SetUp() override {
    if (error_ != 0) {
      GTEST_SKIP() << ErrnoStatus(error_, "no network of one's own").message();
    }
  }

 private:
  static int error_;
};

int ServerHalfClosedTest::error_ = 0;

INSTANTIATE_TEST_SUITE_P(Models, ServerHalfClosedTest,
                         testing::Values("fork", "prefork"),
                         [](const auto& test) {
                           return std::string(test.param);
                         });

TEST_P(ServerHalfClosedTest, WhoHasClosedIsGoneAndWhoSendsNoMoreIsServed) {
  ServerProcess server({"--listen=127.0.0.1:0",
                        absl::StrCat("--model=", GetParam()),
                        "--client_gone_grace=0s", "--", "sh", "-c",
                        "trap 'echo answer; kill $!; exit 0' USR1; echo $$; "
                        "while :; do sleep 1000 & wait; done"});
  Stream waits = Come(server);
  const pid_t program = NumberFrom(waits);
  ASSERT_GT(program, 0);
  ASSERT_THAT(waits.ShutdownWrite(), IsOk());
  {
    Stream closes = Come(server);
    ASSERT_GT(NumberFrom(closes), 0);
  }
  EXPECT_THAT(server.NextLogLine(),
              Optional(AllOf(HasSubstr(" killed by SIGTERM "),
                             HasSubstr("because client gone"))));
  // It was asked as well, and before.
  ASSERT_EQ(kill(program, SIGUSR1), 0);
  EXPECT_EQ(ReadAll(waits), "answer\n");
  server.Signal(SIGTERM);
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
}

}  // namespace
}  // namespace brood
