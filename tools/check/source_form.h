// SPDX-License-Identifier: Apache-2.0
//
// FormMistakes is what a reviewer should not have to see in a file: a header
// guard that is not its path, an include of another kind, no licence, a path of
// somebody's machine.
//
//   const SourceTree tree = SourceTree::Of({{"net/a.h", "#ifndef A_H\n"}});
//   EXPECT_THAT(FormMistakes(tree),
//               ElementsAre(Finding{"net/a.h", 1,
//                                   "is not // SPDX-License-Identifier: "
//                                   "Apache-2.0"},
//                           Finding{"net/a.h", 0,
//                                   "has no guard BROOD_NET_A_H_"}));
//
// What it is not: a formatter; clang-format knows about spaces.
//
// tests/consumer is a stranger's workspace, and only its paths are looked at.
//
// Threads, signals, fork: a pure function.
#ifndef BROOD_TOOLS_CHECK_SOURCE_FORM_H_
#define BROOD_TOOLS_CHECK_SOURCE_FORM_H_

#include <vector>

#include "brood/tools/check/finding.h"
#include "brood/tools/check/source_tree.h"

namespace brood {

std::vector<Finding> FormMistakes(const SourceTree& tree);

}  // namespace brood

#endif  // BROOD_TOOLS_CHECK_SOURCE_FORM_H_
