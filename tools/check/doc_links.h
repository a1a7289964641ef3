// SPDX-License-Identifier: Apache-2.0
//
// DeadLinks is every link of the project's pages that leads nowhere.
//
//   const SourceTree tree = SourceTree::Of({{"README.md", "[notes](docs/notes.md)"}});
//   EXPECT_THAT(DeadLinks(tree),
//               ElementsAre(Finding{"README.md", 1,
//                                   "links to docs/notes.md: not there"}));
//
// What it is not: a visitor of other people's pages. Of a link to another site
// only the form is looked at, so that a check says the same without a network.
//
// Threads, signals, fork: a pure function.
#ifndef BROOD_TOOLS_CHECK_DOC_LINKS_H_
#define BROOD_TOOLS_CHECK_DOC_LINKS_H_

#include <vector>

#include "brood/tools/check/finding.h"
#include "brood/tools/check/source_tree.h"

namespace brood {

std::vector<Finding> DeadLinks(const SourceTree& tree);

}  // namespace brood

#endif  // BROOD_TOOLS_CHECK_DOC_LINKS_H_
