// SPDX-License-Identifier: Apache-2.0
//
// What a LoadResult is to a person, to a program, and to a shell.
//
//   int Report(const LoadPlan& plan, const LoadResult& result, bool json) {
//     std::cout << (json ? JsonReport(plan, result) : TextReport(plan, result));
//     return ExitCodeOf(result);
//   }
//
// What it is not: a judge. It repeats what was measured, and says where that is
// the generator's own and not the server's.
//
// Threads, signals, fork: pure functions.
#ifndef BROOD_TOOLS_LOAD_LOAD_REPORT_H_
#define BROOD_TOOLS_LOAD_LOAD_REPORT_H_

#include <string>

#include "brood/tools/load/load_plan.h"
#include "brood/tools/load/load_result.h"

namespace brood {

// 0 if every connection was whole. Else that of the worst that happened.
int ExitCodeOf(const LoadResult& result);
int ExitCodeOf(LoadFailure kind);
// "closed before the answer was whole".
std::string DescriptionOf(LoadFailure kind);

// Something was whole, and it used more than nine tenths of the processors it could use: how fast it was
// says nothing of the server but that this is not its limit.
bool GeneratorWasBottleneck(const LoadResult& result);

// Several lines, each with its newline.
std::string TextReport(const LoadPlan& plan, const LoadResult& result);
// One object on one line, with its newline.
std::string JsonReport(const LoadPlan& plan, const LoadResult& result);
// One line without a newline: how far, how fast, how long it will take.
std::string ProgressReport(const LoadPlan& plan, const LoadProgress& progress);

}  // namespace brood

#endif  // BROOD_TOOLS_LOAD_LOAD_REPORT_H_
