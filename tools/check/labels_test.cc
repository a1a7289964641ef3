// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/check/labels.h"

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "brood/tools/check/finding.h"
#include "brood/tools/check/source_tree.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(LabelsTest, AreThoseThatAQueryNames) {
  const absl::StatusOr<Labels> labels = Labels::Parse(
      "cc_library rule //net:address\n"
      "source file //net:address.cc\n");
  ASSERT_THAT(labels, IsOk());
  EXPECT_TRUE(labels->Has("//net:address"));
  EXPECT_TRUE(labels->Has("//net:address.cc"));
  EXPECT_FALSE(labels->Has("//net:addres"));
  EXPECT_THAT(labels->NotIn(SourceTree::Of({{"net/gone.cc", ""}})),
              ElementsAre(Finding{"net/gone.cc", 0, "is in no target"}));
}

TEST(LabelsTest, MeanPackagesToo) {
  const absl::StatusOr<Labels> labels =
      Labels::Parse("cc_binary rule //docs/tour/a:a\n");
  ASSERT_THAT(labels, IsOk());
  for (const char* known : {"//docs/tour/a", "//docs/tour/a:all", "//docs/...",
                            "//docs/tour/...", "//docs/tour/a/...", "//..."}) {
    EXPECT_TRUE(labels->Has(known)) << known;
  }
  for (const char* unknown : {"//docs", "//docs:all", "//doc/...", "//doc...",
                              "//docs/tour/a:b", "//"}) {
    EXPECT_FALSE(labels->Has(unknown)) << unknown;
  }
}

TEST(LabelsTest, BelongToTheNearestPackage) {
  const absl::StatusOr<Labels> labels = Labels::Parse(
      "source file //net:a.cc\n"
      "source file //net:deep/b.cc\n"
      "source file //net/own:c.h\n"
      "source file //:root.cc\n");
  ASSERT_THAT(labels, IsOk());
  const SourceTree tree = SourceTree::Of({{"net/a.cc", ""},
                                          {"net/deep/b.cc", ""},
                                          {"net/own/c.h", ""},
                                          {"root.cc", ""},
                                          {"net/own/d.h", ""},
                                          {"lost/e.cc", ""},
                                          {"net/notes.md", ""},
                                          {"tests/consumer/f.cc", ""}});
  EXPECT_THAT(labels->NotIn(tree),
              ElementsAre(Finding{"lost/e.cc", 0, "is in no target"},
                          Finding{"net/own/d.h", 0, "is in no target"}));
  EXPECT_THAT(labels->NotIn(SourceTree::Of({{"net/a.cc", ""}})), IsEmpty());
}

TEST(LabelsTest, RefusesWhatIsNoAnswerOfAQuery) {
  EXPECT_THAT(Labels::Parse("ERROR: no such package\n"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("no such package")));
}

}  // namespace
}  // namespace brood
