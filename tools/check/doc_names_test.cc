// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/check/doc_names.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "brood/tools/check/finding.h"
#include "brood/tools/check/labels.h"
#include "brood/tools/check/source_tree.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// What is stale in a page that shows `code`, where there are //net:address,
// //server and --model.
std::vector<std::string> Try(const std::string& code) {
  const SourceTree tree =
      SourceTree::Of({{"README.md", absl::StrCat("```\n", code, "\n```\n")},
                      {"server/options.cc", "{.name = \"model\",\n"}});
  std::vector<std::string> stale;
  for (const Finding& finding :
       StaleNames(tree, *Labels::Parse("cc_library rule //net:address\n"
                                       "cc_binary rule //server:server\n"))) {
    EXPECT_EQ(finding.path, "README.md");
    EXPECT_EQ(finding.line, 2);
    stale.push_back(finding.what);
  }
  return stale;
}

TEST(StaleNamesTest, NamesThePageTheLineAndTheName) {
  const SourceTree tree =
      SourceTree::Of({{"README.md", "`//net:adress` and `--modle`"}});
  EXPECT_THAT(StaleNames(tree, *Labels::Parse("")),
              ElementsAre(Finding{"README.md", 1, "//net:adress: no target"},
                          Finding{"README.md", 1, "--modle: no flag"}));
}

TEST(StaleNamesTest, KnowsWhatIsThere) {
  EXPECT_THAT(Try("bazel run //server -- --model=fork --config=opt"),
              IsEmpty());
  EXPECT_THAT(Try("deps = [\"//net:address\", \"@brood//net:address\"]"),
              IsEmpty());
  EXPECT_THAT(Try("bazel test //... //net/... //net:all"), IsEmpty());
  EXPECT_THAT(Try("--nomodel"), IsEmpty());
}

TEST(StaleNamesTest, FindsWhatIsNot) {
  EXPECT_THAT(Try("bazel test //nett/... //net:stream"),
              ElementsAre("//nett/...: no target", "//net:stream: no target"));
  EXPECT_THAT(Try("server --listn=:7007 --model-x"),
              ElementsAre("--listn: no flag", "--model-x: no flag"));
  EXPECT_THAT(Try("see //net:stream."), ElementsAre("//net:stream: no target"));
  EXPECT_THAT(Try("--noise"), ElementsAre("--noise: no flag"));
}

TEST(StaleNamesTest, TakesOtherThingsForNoNames) {
  EXPECT_THAT(Try("https://example.org/a @other//pkg:x  // a comment"),
              IsEmpty());
  EXPECT_THAT(Try("a---b -- PROGRAM i-- x--y"), IsEmpty());
}

TEST(StaleNamesTest, LeavesSentencesAlone) {
  const SourceTree tree =
      SourceTree::Of({{"a.md", "not //code, not --code\n"}});
  EXPECT_THAT(StaleNames(tree, *Labels::Parse("")), IsEmpty());
}

}  // namespace
}  // namespace brood
