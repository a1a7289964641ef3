// SPDX-License-Identifier: Apache-2.0
#include "brood/server/flag_values.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;

absl::Status ParsePort(std::string_view text, int& port) {
  return AllowedIf(ReadNumber(text, 1, 65'535, port));
}

TEST(FlagValuesTest, HeaderExample) {
  int port = 0;
  EXPECT_THAT(ParsePort("80", port), IsOk());
  EXPECT_EQ(port, 80);
  EXPECT_THAT(ParsePort("0", port),
              StatusIs(absl::StatusCode::kInvalidArgument, ""));
}

TEST(FlagValuesTest, ANumberIsDigitsWithinItsRange) {
  uint64_t number = 7;
  EXPECT_TRUE(ReadNumber("18446744073709551615", 0, UINT64_MAX, number));
  EXPECT_EQ(number, UINT64_MAX);
  for (const char* text :
       {"", "-1", "+1", " 1", "1 ", "0x1", "1e1", "18446744073709551616"}) {
    EXPECT_FALSE(ReadNumber(text, 0, UINT64_MAX, number)) << text;
  }
  EXPECT_EQ(number, UINT64_MAX);
  std::optional<int> maybe;
  EXPECT_TRUE(ReadNumber("5", 5, 5, maybe));
  EXPECT_EQ(maybe, 5);
  EXPECT_FALSE(ReadNumber("4", 5, 5, maybe));
  EXPECT_FALSE(ReadNumber("6", 5, 5, maybe));
}

TEST(FlagValuesTest, ADurationHasAUnitAndIsAMultipleOfWhatIsAsked) {
  constexpr absl::Duration kSecond = absl::Seconds(1);
  absl::Duration time;
  EXPECT_TRUE(ReadDuration("1m30s", kSecond, absl::Minutes(2), kSecond, time));
  EXPECT_EQ(time, absl::Seconds(90));
  for (const char* text :
       {"", "30", "1.5s", "0s", "121s", "inf", "-1s", "1 s"}) {
    EXPECT_FALSE(ReadDuration(text, kSecond, absl::Minutes(2), kSecond, time))
        << text;
  }
  EXPECT_TRUE(ReadDuration("1.5s", kSecond, absl::Minutes(2), time));
  EXPECT_EQ(time, absl::Milliseconds(1500));
  std::optional<absl::Duration> maybe;
  EXPECT_TRUE(ReadDuration("1ns", absl::ZeroDuration(), kSecond, maybe));
  EXPECT_EQ(maybe, absl::Nanoseconds(1));
}

TEST(FlagValuesTest, AWordIsOneOfThoseAndItsCaseMatters) {
  int value = 0;
  EXPECT_TRUE(ReadWord("two", {{"one", 1}, {"two", 2}}, value));
  EXPECT_EQ(value, 2);
  EXPECT_FALSE(ReadWord("Two", {{"one", 1}, {"two", 2}}, value));
  EXPECT_EQ(value, 2);
  bool yes = false;
  EXPECT_TRUE(ReadBool("true", yes) && yes);
  EXPECT_TRUE(ReadBool("false", yes) && !yes);
  EXPECT_FALSE(ReadBool("1", yes));
}

TEST(FlagValuesTest, ATextIsWhateverHasNoControlCharacters) {
  std::string text;
  EXPECT_TRUE(ReadText("a b\xed\x92\x80", text));
  EXPECT_EQ(text, "a b\xed\x92\x80");
  std::optional<std::string> maybe;
  EXPECT_TRUE(ReadText("x", maybe));
  EXPECT_EQ(maybe, "x");
  EXPECT_FALSE(ReadText("a\nb", text));
  EXPECT_FALSE(ReadText(std::string(1, '\0'), text));
}

TEST(FlagValuesTest, AQuotedArgumentIsPrintableAndShort) {
  EXPECT_EQ(QuotedArgument("a\n\"\xff"), R"("a\n\"\xff")");
  EXPECT_EQ(QuotedArgument(std::string(64, 'x')),
            "\"" + std::string(64, 'x') + "\"");
  EXPECT_EQ(QuotedArgument(std::string(65, 'x')),
            "\"" + std::string(64, 'x') + "...\"");
}

}  // namespace
}  // namespace brood
