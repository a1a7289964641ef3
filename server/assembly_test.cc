// SPDX-License-Identifier: Apache-2.0
#include "brood/server/assembly.h"

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/server/options.h"
#include "brood/tests/in_child.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

int Serve(ServerOptions options) {
  absl::StatusOr<std::unique_ptr<Assembly>> server =
      Assembly::Create(std::move(options));
  if (!server.ok()) {
    std::cerr << server.status().message() << "\n";
    return 1;
  }
  return (*server)->Run().ok() ? 0 : 1;
}

// What keeps a server with these flags from being put together.
absl::Status WhyNot(std::vector<std::string_view> flags) {
  absl::StatusOr<ServerOptions> options = ParseOptions(flags);
  EXPECT_THAT(options, IsOk());
  if (!options.ok()) return options.status();
  return Assembly::Create(*std::move(options)).status();
}

TEST(AssemblyTest, HeaderExampleFailsWhereTheAddressIsTaken) {
  const absl::StatusOr<Listener> taken =
      Listener::Open(*Address::Parse("127.0.0.1:0"));
  ASSERT_THAT(taken, IsOk());
  const std::string flag =
      absl::StrCat("--listen=", taken->address().ToString());
  absl::StatusOr<ServerOptions> options =
      ParseOptions(std::vector<std::string_view>{flag});
  ASSERT_THAT(options, IsOk());
  testing::internal::CaptureStderr();
  EXPECT_EQ(Serve(*std::move(options)), 1);
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              AllOf(StartsWith(flag), HasSubstr("stop who has it")));
}

TEST(AssemblyTest, NamesTheFlagThatTheWorldRefuses) {
  const std::string listen = "--listen=127.0.0.1:0";
  EXPECT_THAT(
      WhyNot({listen, "--user=no-such-user"}).message(),
      AllOf(StartsWith("--user=no-such-user: "), HasSubstr("no-such-user")));
  EXPECT_THAT(
      WhyNot({listen, "--rules=/no/such/file"}).message(),
      AllOf(StartsWith("--rules=/no/such/file: "), HasSubstr("(ENOENT)")));
  EXPECT_THAT(WhyNot({listen, "--", "/no/such/program"}).message(),
              AllOf(HasSubstr("/no/such/program"), HasSubstr("(ENOENT)")));
  EXPECT_THAT(WhyNot({listen, "--", "/"}).message(), HasSubstr("(EACCES)"));
  EXPECT_THAT(WhyNot({"--listen=unix:/no/such/folder/x"}).message(),
              HasSubstr("choose a path in a folder that exists"));
}

TEST(AssemblyTest, NamesTheLineAndColumnOfARuleThatIsNone) {
  const std::string path = absl::StrCat(testing::TempDir(), "/wrong.rules");
  std::ofstream(path) << "allow all\ndney 192.0.2.0/24\n";
  const std::string flag = absl::StrCat("--rules=", path);
  EXPECT_THAT(WhyNot({"--listen=127.0.0.1:0", flag}).message(),
              HasSubstr(absl::StrCat(path, ":2:1: ")));
}

TEST(AssemblyTest, TakesWhatIsForItFromTheEnvironmentAndLeavesNothing) {
  EXPECT_EQ(InChild([] {
              setenv("NOTIFY_SOCKET", "relative", 1);
              if (WhyNot({"--listen=127.0.0.1:0"}).ok()) return 1;
              setenv("NOTIFY_SOCKET", "@brood/assembly_test", 1);
              setenv("LISTEN_PID", "1", 1);
              setenv("LISTEN_FDS", "1", 1);
              (void)WhyNot({"--listen=127.0.0.1:0"});
              return getenv("LISTEN_FDS") == nullptr ? 0 : 2;
            }),
            0);
}

}  // namespace
}  // namespace brood
