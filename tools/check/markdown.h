// SPDX-License-Identifier: Apache-2.0
//
// ReadMarkdown takes a page apart into its headings, its links and its code.
//
//   const Markdown page = ReadMarkdown("# One\n\n[two](b.md#three) `//four`\n");
//   EXPECT_THAT(page.anchors, ElementsAre("one"));
//   EXPECT_EQ(page.links[0].text, "b.md#three");
//   EXPECT_EQ(page.code[0].text, "//four");
//
// What it is not: a renderer. It knows what the project's pages use: headings
// that begin with #, inline links and images, references, links and anchors in
// HTML, code between backticks and between fences.
//
// Threads, signals, fork: a pure function.
#ifndef BROOD_TOOLS_CHECK_MARKDOWN_H_
#define BROOD_TOOLS_CHECK_MARKDOWN_H_

#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace brood {

struct Markdown {
  struct Piece {
    std::string text = {};
    size_t line = 0;  // From 1.
  };

  // What "#..." may name, as GitHub makes it of headings.
  std::set<std::string> anchors = {};
  // Where links lead, as they are written.
  std::vector<Piece> links = {};
  // Each line between fences, and each text between backticks.
  std::vector<Piece> code = {};
};

Markdown ReadMarkdown(std::string_view page);

}  // namespace brood

#endif  // BROOD_TOOLS_CHECK_MARKDOWN_H_
