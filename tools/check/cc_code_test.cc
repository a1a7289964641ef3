// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/check/cc_code.h"

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> CallsIn(std::string_view source) {
  std::vector<std::string> names;
  const std::string code = CodeOnly(source);
  for (const Call& call : FindCalls(code)) names.emplace_back(call.name);
  return names;
}

TEST(CodeOnlyTest, KeepsWhatIsCode) {
  const std::string code = CodeOnly("read(fd);  // not open(fd)");
  for (const Call& call : FindCalls(code)) {
    EXPECT_EQ(call.name, "read");
    EXPECT_EQ(call.arguments, "fd");
  }
  EXPECT_EQ(code, "read(fd);                 ");
}

TEST(CodeOnlyTest, KnowsBothKindsOfComment) {
  EXPECT_THAT(CallsIn("a(); /* b();\nc(); */ d(); // e();\nf();"),
              ElementsAre("a", "d", "f"));
  EXPECT_THAT(CallsIn("/* b();"), IsEmpty());
  EXPECT_THAT(CallsIn("/*"), IsEmpty());
}

TEST(CodeOnlyTest, KnowsStringsAndWhatIsEscapedInThem) {
  EXPECT_EQ(CodeOnly(R"(f("a \" // b", '"', '\'');)"),
            R"(f("         ", ' ', '  ');)");
}

TEST(CodeOnlyTest, KnowsRawStrings) {
  EXPECT_THAT(CallsIn("a(R\"x(b() \" c() )\" d() )x\"); e();"),
              ElementsAre("a", "e"));
}

TEST(CodeOnlyTest, TakesTheMarkInANumberForNoQuote) {
  EXPECT_THAT(CallsIn("a(1'000, 0xff'ff); b('x');"), ElementsAre("a", "b"));
}

TEST(CodeOnlyTest, KeepsTheLines) {
  const std::string_view source = "a\n\"b\"\n/* c\nd */\nR\"(\n)\"\n";
  const std::string code = CodeOnly(source);
  ASSERT_EQ(code.size(), source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    EXPECT_EQ(code[i] == '\n', source[i] == '\n') << i;
  }
}

TEST(FindCallsTest, SaysHowTheNameIsReachedAndWhere) {
  const std::vector<Call> calls =
      FindCalls("std::f(1);\n::g (h(2), 3);\nx.i();\ny()->j();\nif (k) l;");
  ASSERT_EQ(calls.size(), 7);
  EXPECT_EQ(calls[0].name, "f");
  EXPECT_EQ(calls[0].qualifier, "std::");
  EXPECT_EQ(calls[0].line, 1);
  EXPECT_EQ(calls[1].name, "g");
  EXPECT_EQ(calls[1].qualifier, "::");
  EXPECT_EQ(calls[1].arguments, "h(2), 3");
  EXPECT_EQ(calls[1].line, 2);
  EXPECT_EQ(calls[2].name, "h");
  EXPECT_EQ(calls[2].qualifier, "");
  EXPECT_EQ(calls[3].name, "i");
  EXPECT_EQ(calls[3].qualifier, "x.");
  EXPECT_EQ(calls[4].name, "y");
  EXPECT_EQ(calls[5].name, "j");
  EXPECT_EQ(calls[5].qualifier, ")->");
  EXPECT_EQ(calls[5].line, 4);
  EXPECT_EQ(calls[6].name, "if");
}

TEST(FindCallsTest, TakesACastForNoQualifier) {
  const std::string code = "(void)std::f(1); (void)g(2);";
  const std::vector<Call> calls = FindCalls(code);
  ASSERT_EQ(calls.size(), 2);
  EXPECT_EQ(calls[0].qualifier, "std::");
  EXPECT_EQ(calls[1].qualifier, "");
}

TEST(FindCallsTest, TakesAllThatFollowsWhereBracketsDoNotClose) {
  const std::vector<Call> calls = FindCalls("f(1, 2");
  ASSERT_EQ(calls.size(), 1);
  EXPECT_EQ(calls[0].arguments, "1, 2");
}

TEST(FindWordTest, FindsWholeWordsOnly) {
  EXPECT_THAT(FindWord("try retry try_it entry; try", "try"),
              ElementsAre(0, 24));
}

TEST(LineOfTest, CountsFromOne) {
  EXPECT_EQ(LineOf("a\nb\n", 0), 1);
  EXPECT_EQ(LineOf("a\nb\n", 2), 2);
}

}  // namespace
}  // namespace brood
