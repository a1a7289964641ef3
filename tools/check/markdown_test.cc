// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/check/markdown.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> Texts(const std::vector<Markdown::Piece>& pieces) {
  std::vector<std::string> texts;
  for (const Markdown::Piece& piece : pieces) texts.push_back(piece.text);
  return texts;
}

TEST(MarkdownTest, TakesAPageApart) {
  const Markdown page = ReadMarkdown("# One\n\n[two](b.md#three) `//four`\n");
  EXPECT_THAT(page.anchors, ElementsAre("one"));
  EXPECT_EQ(page.links[0].text, "b.md#three");
  EXPECT_EQ(page.code[0].text, "//four");
  EXPECT_EQ(page.links[0].line, 3);
  EXPECT_EQ(page.code[0].line, 3);
}

TEST(MarkdownTest, MakesAnchorsOfHeadingsAsGitHubDoes) {
  EXPECT_THAT(ReadMarkdown("# Two commands, `and` more!\n").anchors,
              ElementsAre("two-commands-and-more"));
  EXPECT_THAT(ReadMarkdown("## recv and [read](a.md)\n").anchors,
              ElementsAre("recv-and-read"));
  EXPECT_THAT(ReadMarkdown("### 한국어 제목\n").anchors,
              ElementsAre("한국어-제목"));
  EXPECT_THAT(ReadMarkdown("# a_b\n# a_b\n# a_b\n").anchors,
              ElementsAre("a_b", "a_b-1", "a_b-2"));
  EXPECT_THAT(ReadMarkdown("#include\n####### seven\n#\n").anchors, IsEmpty());
}

TEST(MarkdownTest, TakesAnchorsOfHtml) {
  EXPECT_THAT(ReadMarkdown("<a id=\"here\"></a>\n").anchors,
              ElementsAre("here"));
}

TEST(MarkdownTest, FindsEveryKindOfLink) {
  EXPECT_THAT(
      Texts(ReadMarkdown("[a](1) and ![b](2 \"title\")\n[`c`](3)\n[d]: 4\n"
                         "<a href=\"5\"><img src=\"6\"></a>\n")
                .links),
      ElementsAre("1", "2", "3", "4", "5", "6"));
}

TEST(MarkdownTest, TakesWhatIsCodeForNoLinkAndNoHeading) {
  const Markdown page = ReadMarkdown(
      "```sh\n# install\na[0](1)\n```\n`b[0](2)` ``c ` d`` `open\n");
  EXPECT_THAT(page.links, IsEmpty());
  EXPECT_THAT(page.anchors, IsEmpty());
  EXPECT_THAT(Texts(page.code),
              ElementsAre("# install", "a[0](1)", "b[0](2)", "c ` d"));
}

}  // namespace
}  // namespace brood
