// SPDX-License-Identifier: Apache-2.0
//
// SourceTree is the files of a checkout, by path from its root.
//
//   absl::StatusOr<size_t> CountSources(const std::string& root) {
//     absl::StatusOr<SourceTree> tree = SourceTree::Read(root);
//     if (!tree.ok()) return tree.status();
//     return absl::c_count_if(tree->files(), [](const auto& file) {
//       return absl::EndsWith(file.first, ".cc");
//     });
//   }
//
// What it is not: what Git has. It is what a person sees: a file that has not
// been added yet is in it, so that it is checked before it is committed.
// Symbolic links, of which Bazel makes some, and folders whose names begin with
// a dot, but for .ci, are not in it.
//
// Errors: of the file system, naming the path.
//
// Threads, signals, fork: a value.
#ifndef BROOD_TOOLS_CHECK_SOURCE_TREE_H_
#define BROOD_TOOLS_CHECK_SOURCE_TREE_H_

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace brood {

class SourceTree {
 public:
  // Path to content, in order of the paths, as in "net/address.h".
  using Files = std::map<std::string, std::string, std::less<>>;

  // Blocks until all files below `root` have been read.
  static absl::StatusOr<SourceTree> Read(const std::string& root);

  // Of files that are nowhere else.
  static SourceTree Of(Files files);

  const Files& files() const { return files_; }

  // Whether there is such a file, or a folder with files below it. The root is
  // "".
  bool Has(std::string_view path) const;

 private:
  explicit SourceTree(Files files);

  Files files_;
};

}  // namespace brood

#endif  // BROOD_TOOLS_CHECK_SOURCE_TREE_H_
