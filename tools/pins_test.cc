// SPDX-License-Identifier: Apache-2.0
// tools/dependencies.bzl (for WORKSPACE) and MODULE.bazel (for bzlmod) are two
// lists of one thing.
#include <cstddef>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <string>

#include "gtest/gtest.h"

namespace brood {
namespace {

using Versions = std::map<std::string, std::string>;

// `path` is relative to the root of the repository: a test starts in its
// runfiles.
std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file.is_open()) << path;
  return {std::istreambuf_iterator<char>(file),
          std::istreambuf_iterator<char>()};
}

// What the two groups of `pattern` match, all through `text`.
Versions FindVersions(const std::string& text, const std::regex& pattern) {
  Versions versions;
  for (std::sregex_iterator match(text.begin(), text.end(), pattern), end;
       match != end; ++match) {
    const bool is_new = versions.emplace((*match)[1], (*match)[2]).second;
    EXPECT_TRUE(is_new) << (*match)[1] << " is listed twice";
  }
  return versions;
}

std::size_t Count(const std::string& text, const std::string& word) {
  std::size_t count = 0;
  for (auto at = text.find(word); at != text.npos; at = text.find(word, at + 1))
    ++count;
  return count;
}

TEST(PinsTest, WorkspaceAndModuleNameTheSameVersions) {
  const std::string workspace = ReadFile("tools/dependencies.bzl");
  const std::string module = ReadFile("MODULE.bazel");

  const Versions in_workspace = FindVersions(
      workspace,
      std::regex(R"re("([^"]+)": struct\(\s*version = "([^"]+)")re"));
  const Versions in_module = FindVersions(
      module,
      std::regex(
          R"re(bazel_dep\(\s*name = "([^"]+)",\s*version = "([^"]+)")re"));

  EXPECT_EQ(in_workspace, in_module);
  // An entry written in another style must not go unread.
  EXPECT_EQ(in_workspace.size(), Count(workspace, ": struct("));
  EXPECT_EQ(in_module.size(), Count(module, "bazel_dep("));
  EXPECT_FALSE(in_workspace.empty());
}

}  // namespace
}  // namespace brood
