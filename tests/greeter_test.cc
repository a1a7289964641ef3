// SPDX-License-Identifier: Apache-2.0
//
// The server of one's own that README.md shows does what a server does.
#include <array>
#include <csignal>
#include <string>

#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/stream.h"
#include "brood/proc/exit_status.h"
#include "brood/tests/server_process.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Optional;

TEST(GreeterTest, GreetsEachClientAndStopsWhenAsked) {
  ServerProcess greeter({});
  EXPECT_THAT(greeter.ready_line(), EndsWith("(model fork, service greeter)"));
  for (int i = 0; i < 3; ++i) {
    absl::StatusOr<Stream> client = Stream::Connect(greeter.address());
    ASSERT_THAT(client, IsOk());
    std::string said;
    std::array<char, 64> buffer;
    while (true) {
      absl::StatusOr<IoResult> got = client->Read(absl::MakeSpan(buffer));
      ASSERT_THAT(got, IsOk());
      if (got->end()) break;
      said.append(buffer.data(), *got->bytes());
    }
    EXPECT_EQ(said,
              absl::StrCat("hello ", *LocalAddressOf(client->fd()), "\n"));
    EXPECT_THAT(greeter.NextLogLine(), Optional(HasSubstr(" exited 0 after ")));
  }
  greeter.Signal(SIGTERM);
  EXPECT_EQ(greeter.Wait(), ExitStatus::Exited(0));
}

}  // namespace
}  // namespace brood
