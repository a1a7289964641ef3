// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/check/doc_links.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "brood/tools/check/finding.h"
#include "brood/tools/check/source_tree.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// What is wrong with one link in docs/tour/page.md of a small project.
std::vector<Finding> Try(const std::string& link) {
  return DeadLinks(SourceTree::Of(
      {{"docs/tour/page.md",
        absl::StrCat("# First\n\n## 둘째 부분\n\n[x](", link, ")\n")},
       {"docs/other.md", "# Else, where\n"},
       {"docs/code.cc", "one\ntwo\n"},
       {"docs/README.md", "no links"}}));
}

std::vector<Finding> Wrong(const std::string& link, const std::string& why) {
  return {{"docs/tour/page.md", 5, absl::StrCat("links to ", link, ": ", why)}};
}

TEST(DeadLinksTest, NamesThePageTheLineAndTheLink) {
  const SourceTree tree =
      SourceTree::Of({{"README.md", "[notes](docs/notes.md)"}});
  EXPECT_THAT(DeadLinks(tree),
              ElementsAre(Finding{"README.md", 1,
                                  "links to docs/notes.md: not there"}));
}

TEST(DeadLinksTest, FollowsPathsFromWhereThePageIs) {
  EXPECT_THAT(Try("../other.md"), IsEmpty());
  EXPECT_THAT(Try(".."), IsEmpty());
  EXPECT_THAT(Try("../../docs/"), IsEmpty());
  EXPECT_THAT(Try("../.."), IsEmpty());
  EXPECT_EQ(Try("other.md"), Wrong("other.md", "not there"));
  EXPECT_EQ(Try("../../../x.md"),
            Wrong("../../../x.md", "outside of the project"));
  EXPECT_EQ(
      Try("/docs/other.md"),
      Wrong("/docs/other.md", "not relative, so it depends on the reader"));
}

TEST(DeadLinksTest, LooksForAnchorsInTheirPage) {
  EXPECT_THAT(Try("#first"), IsEmpty());
  EXPECT_THAT(Try("#둘째-부분"), IsEmpty());
  EXPECT_THAT(Try("../other.md#else-where"), IsEmpty());
  EXPECT_EQ(Try("#second"),
            Wrong("#second", "the page is there, the anchor is not"));
  EXPECT_EQ(Try("../other.md#first"),
            Wrong("../other.md#first", "the page is there, the anchor is not"));
  EXPECT_EQ(Try("..#first"), Wrong("..#first", "a folder has no anchors"));
}

TEST(DeadLinksTest, LooksForLinesInSources) {
  EXPECT_THAT(Try("../code.cc#L2"), IsEmpty());
  EXPECT_EQ(Try("../code.cc#L3"),
            Wrong("../code.cc#L3", "the page is there, the anchor is not"));
}

TEST(DeadLinksTest, LooksAtTheFormOfLinksToElsewhere) {
  EXPECT_THAT(Try("https://example.org/a#b"), IsEmpty());
  EXPECT_THAT(Try("mailto:someone@example.org"), IsEmpty());
  for (const char* link :
       {"https:/example.org", "https://", "https://example", "htps://a.org"}) {
    EXPECT_EQ(Try(link), Wrong(link, "no well-formed address"));
  }
}

TEST(DeadLinksTest, LooksAtPagesOnly) {
  EXPECT_THAT(DeadLinks(SourceTree::Of({{"a.cc", "[x](nowhere)"}})), IsEmpty());
}

}  // namespace
}  // namespace brood
