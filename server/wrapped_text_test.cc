// SPDX-License-Identifier: Apache-2.0
#include "brood/server/wrapped_text.h"

#include <string>
#include <string_view>

#include "gtest/gtest.h"

namespace brood {
namespace {

std::string Indented(std::string_view sentence) {
  std::string text;
  AppendWrapped(sentence, {.indent = 4, .width = 20}, text);
  return text;
}

TEST(WrappedTextTest, HeaderExample) {
  EXPECT_EQ(Indented("one parent, many children"),
            "    one parent, many\n    children\n");
}

TEST(WrappedTextTest, ALineIsAsWideAsIsAllowedAndNoWider) {
  EXPECT_EQ(Indented("1234567 90123456 x"), "    1234567 90123456\n    x\n");
  EXPECT_EQ(Indented("1234567 901234567"), "    1234567\n    901234567\n");
  EXPECT_EQ(Indented("  two   spaces "), "    two spaces\n");
}

TEST(WrappedTextTest, AWordThatIsTooLongHasALineOfItsOwn) {
  EXPECT_EQ(Indented("a 12345678901234567890 b"),
            "    a\n    12345678901234567890\n    b\n");
  EXPECT_EQ(Indented(""), "\n");
}

}  // namespace
}  // namespace brood
