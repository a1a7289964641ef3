// SPDX-License-Identifier: Apache-2.0
#include "brood/server/options.h"

#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;
using ::testing::HasSubstr;

int PrintPort(absl::Span<const std::string_view> args) {
  absl::StatusOr<ServerOptions> options = ParseOptions(args);
  if (!options.ok()) {
    std::cerr << options.status().message() << "\n";
    return 2;
  }
  std::cout << options->listen << "\n";
  return 0;
}

TEST(OptionsTest, HeaderExample) {
  testing::internal::CaptureStdout();
  EXPECT_EQ(PrintPort({"--listen=[::1]:80"}), 0);
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "[::1]:80\n");
  testing::internal::CaptureStderr();
  EXPECT_EQ(PrintPort({"--listen"}), 2);
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "--listen needs a value: --listen=ADDRESS\n");
}

TEST(OptionsTest, HasADefaultForEverything) {
  const absl::StatusOr<ServerOptions> options = ParseOptions({});
  ASSERT_THAT(options, IsOk());
  EXPECT_EQ(options->listen.ToString(), "127.0.0.1:7007");
  EXPECT_EQ(options->model, ServerOptions::Model::kFork);
  EXPECT_EQ(options->drain_timeout, absl::Seconds(30));
  EXPECT_FALSE(options->help);
}

TEST(OptionsTest, TakesValuesInEitherForm) {
  for (const std::vector<std::string_view>& args :
       {std::vector<std::string_view>{"--listen=unix:/run/x",
                                      "--model=iterative",
                                      "--drain_timeout=1m30s"},
        {"--listen", "unix:/run/x", "--model", "iterative", "--drain_timeout",
         "1m30s"}}) {
    const absl::StatusOr<ServerOptions> options = ParseOptions(args);
    ASSERT_THAT(options, IsOk());
    EXPECT_EQ(options->listen.ToString(), "unix:/run/x");
    EXPECT_EQ(options->model, ServerOptions::Model::kIterative);
    EXPECT_EQ(options->drain_timeout, absl::Seconds(90));
  }
}

TEST(OptionsTest, LetsTheLastOneCount) {
  const absl::StatusOr<ServerOptions> options =
      ParseOptions({"--model=iterative", "--model=fork"});
  ASSERT_THAT(options, IsOk());
  EXPECT_EQ(options->model, ServerOptions::Model::kFork);
}

TEST(OptionsTest, TakesTheLimitsOfADurationThemselves) {
  EXPECT_THAT(ParseOptions({"--drain_timeout=0s"}), IsOk());
  EXPECT_THAT(ParseOptions({"--drain_timeout=24h"}), IsOk());
}

TEST(OptionsTest, NamesTheFlagTheValueAndWhatIsAllowed) {
  struct Case {
    std::vector<std::string_view> args;
    std::vector<std::string> says;
  };
  const std::vector<Case> cases = {
      {{"--speed=11"}, {"\"--speed\"", "--listen, --model, --drain_timeout"}},
      {{"-x"}, {"\"-x\"", "--listen"}},
      {{"echo"}, {"\"echo\"", "only flags"}},
      {{""}, {"\"\"", "only flags"}},
      {{"--"}, {"\"--\"", "--listen"}},
      {{"--help=1"}, {"\"--help=1\"", "takes no value"}},
      {{"--listen=unix:(unnamed)"}, {"unix:(unnamed)", "with a name"}},
      {{"--model"}, {"--model needs a value"}},
      {{"--model="}, {"--model=\"\"", "fork and iterative"}},
      {{"--model=Fork"}, {"--model=\"Fork\"", "fork and iterative"}},
      {{"--drain_timeout=30"}, {"--drain_timeout=\"30\"", "0s to 24h"}},
      {{"--drain_timeout=-1ns"}, {"--drain_timeout=\"-1ns\"", "0s to 24h"}},
      {{"--drain_timeout=24h1ns"}, {"24h1ns", "0s to 24h"}},
      {{"--drain_timeout=inf"}, {"\"inf\"", "0s to 24h"}},
      {{"--listen=1.2.3.4:70000"}, {"--listen: ", "\"1.2.3.4:70000\""}},
      {{"--listen=localhost:80"}, {"--listen: ", "\"localhost:80\""}},
      {{"--model=a\nb"}, {"a\\nb"}},
  };
  for (const Case& c : cases) {
    const absl::Status status = ParseOptions(c.args).status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument));
    EXPECT_FALSE(absl::StrContains(status.message(), '\n')) << status;
    for (const std::string& part : c.says) {
      EXPECT_THAT(std::string(status.message()), HasSubstr(part));
    }
  }
}

TEST(OptionsTest, ExplainsEveryFlag) {
  const absl::StatusOr<ServerOptions> options = ParseOptions({"--help"});
  ASSERT_THAT(options, IsOk());
  EXPECT_TRUE(options->help);
  for (const char* word : {"--listen", "--model", "--drain_timeout", "--help",
                           "SIGTERM", "SIGINT"}) {
    EXPECT_THAT(Usage(), HasSubstr(word));
  }
}

}  // namespace
}  // namespace brood
