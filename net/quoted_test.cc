// SPDX-License-Identifier: Apache-2.0
#include "brood/net/quoted.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::StatusIs;

absl::Status NotAWeekday(std::string_view text) {
  return absl::InvalidArgumentError(absl::StrCat(
      "weekday ", Quoted(text), ": expected one from \"Mon\" to \"Sun\""));
}

TEST(QuotedTest, HeaderExample) {
  EXPECT_THAT(NotAWeekday("Man"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       R"(weekday "Man": expected one from "Mon" to "Sun")"));
}

TEST(QuotedTest, IsOnePrintableLineWhateverTheTextIs) {
  EXPECT_EQ(Quoted(""), R"("")");
  EXPECT_EQ(Quoted("a\"b\\c\n\r\t"), R"("a\"b\\c\n\r\t")");
  EXPECT_EQ(Quoted(std::string_view("\0\x7f\xff", 3)), R"("\x00\x7f\xff")");
}

TEST(QuotedTest, HasTheBeginningOfALongTextAndItsLength) {
  const std::string longest(kMaxQuoted, 'x');
  EXPECT_EQ(Quoted(longest), absl::StrCat("\"", longest, "\""));
  EXPECT_EQ(Quoted(longest + "y"),
            absl::StrCat("\"", longest, "\"... (129 bytes)"));
}

TEST(QuotedTest, IsBoundedWhateverTheTextIs) {
  const std::string quoted = Quoted(std::string(1 << 20, '\xff'));
  EXPECT_EQ(quoted.size(), std::string_view("\"\"... (1048576 bytes)").size() +
                               4 * kMaxQuoted);
  EXPECT_EQ(std::ranges::count(quoted, '\\'), kMaxQuoted);
}

}  // namespace
}  // namespace brood
