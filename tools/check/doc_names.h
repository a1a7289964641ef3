// SPDX-License-Identifier: Apache-2.0
//
// StaleNames is every target and every flag that the project's pages name, in
// what they show as code, and that is not there.
//
//   const SourceTree tree = SourceTree::Of({{"README.md", "`//net:adress` and `--modle`"}});
//   EXPECT_THAT(StaleNames(tree, *Labels::Parse("")),
//               ElementsAre(Finding{"README.md", 1, "//net:adress: no target"},
//                           Finding{"README.md", 1, "--modle: no flag"}));
//
// What it is not: a reader of sentences. A name that is not shown as code is
// not looked at.
//
// A flag is there if a program of ours has it in its table, .name = "flag", or
// if it is one of other people's programs that the pages run; those are listed
// in the source.
//
// Threads, signals, fork: a pure function.
#ifndef BROOD_TOOLS_CHECK_DOC_NAMES_H_
#define BROOD_TOOLS_CHECK_DOC_NAMES_H_

#include <vector>

#include "brood/tools/check/finding.h"
#include "brood/tools/check/labels.h"
#include "brood/tools/check/source_tree.h"

namespace brood {

std::vector<Finding> StaleNames(const SourceTree& tree, const Labels& labels);

}  // namespace brood

#endif  // BROOD_TOOLS_CHECK_DOC_NAMES_H_
