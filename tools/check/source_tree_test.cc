// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/check/source_tree.h"

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

namespace fs = std::filesystem;

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

absl::StatusOr<size_t> CountSources(const std::string& root) {
  absl::StatusOr<SourceTree> tree = SourceTree::Read(root);
  if (!tree.ok()) return tree.status();
  return absl::c_count_if(tree->files(), [](const auto& file) {
    return absl::EndsWith(file.first, ".cc");
  });
}

class SourceTreeTest : public testing::Test {
 protected:
  SourceTreeTest() : root_(testing::TempDir() + "/tree") {
    fs::create_directories(root_);
  }
  ~SourceTreeTest() override { fs::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }

  fs::path root_;
};

TEST_F(SourceTreeTest, HasEveryFileByItsPathFromTheRoot) {
  Write("README.md", "read me");
  Write("net/a.cc", "int a;");
  Write(".ci/run", "run");
  const absl::StatusOr<SourceTree> tree = SourceTree::Read(root_);
  ASSERT_THAT(tree, IsOk());
  EXPECT_THAT(tree->files(), UnorderedElementsAre(Pair("README.md", "read me"),
                                                  Pair("net/a.cc", "int a;"),
                                                  Pair(".ci/run", "run")));
  EXPECT_THAT(CountSources(root_), IsOkAndHolds(1));
}

TEST_F(SourceTreeTest, LeavesOutHiddenFoldersAndWhatLinksPointTo) {
  Write(".git/HEAD", "ref");
  Write("net/a.cc", "int a;");
  fs::create_directory_symlink(root_ / "net", root_ / "bazel-out");
  const absl::StatusOr<SourceTree> tree = SourceTree::Read(root_);
  ASSERT_THAT(tree, IsOk());
  EXPECT_THAT(tree->files(), UnorderedElementsAre(Pair("net/a.cc", "int a;")));
}

TEST_F(SourceTreeTest, KnowsFilesAndTheFoldersTheyAreIn) {
  const SourceTree tree =
      SourceTree::Of({{"docs/tour/README.md", ""}, {"docs.txt", ""}});
  EXPECT_TRUE(tree.Has("docs/tour/README.md"));
  EXPECT_TRUE(tree.Has("docs/tour"));
  EXPECT_TRUE(tree.Has("docs"));
  EXPECT_TRUE(tree.Has(""));
  EXPECT_FALSE(tree.Has("doc"));
  EXPECT_FALSE(tree.Has("docs/tou"));
  EXPECT_FALSE(tree.Has("docs/tour/README"));
}

TEST_F(SourceTreeTest, NamesTheFolderThatIsNotThere) {
  EXPECT_THAT(SourceTree::Read(root_ / "nowhere"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("nowhere")));
}

}  // namespace
}  // namespace brood
