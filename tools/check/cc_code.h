// SPDX-License-Identifier: Apache-2.0
//
// CodeOnly is a C++ source without what is not code: comments, and what stands
// in strings. FindCalls is what it calls.
//
//   const std::string code = CodeOnly("read(fd);  // not open(fd)");
//   for (const Call& call : FindCalls(code)) {
//     EXPECT_EQ(call.name, "read");
//     EXPECT_EQ(call.arguments, "fd");
//   }
//
// What it is not: a compiler. It sees no types and follows no macros: a
// function that is declared, or a variable with brackets, is a call to it.
//
// Threads, signals, fork: pure functions.
#ifndef BROOD_TOOLS_CHECK_CC_CODE_H_
#define BROOD_TOOLS_CHECK_CC_CODE_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace brood {

// As long as `source` and with the same lines: everything else is blank. The
// quotes of strings and of characters are left.
std::string CodeOnly(std::string_view source);

struct Call {
  std::string_view name;
  // What stands before `name`: "std::", "::", "file.", "child->", or nothing.
  std::string_view qualifier;
  // All between the brackets; to the end of the code if they do not close.
  std::string_view arguments;
  size_t line = 0;  // From 1.
};

// Every name in `code` that brackets follow. They point into `code`.
std::vector<Call> FindCalls(std::string_view code);

// Where `word` stands in `text`, and not as a part of a longer one.
std::vector<size_t> FindWord(std::string_view text, std::string_view word);

// The line of the character at `at`, from 1.
size_t LineOf(std::string_view text, size_t at);

}  // namespace brood

#endif  // BROOD_TOOLS_CHECK_CC_CODE_H_
