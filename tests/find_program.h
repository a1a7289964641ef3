// SPDX-License-Identifier: Apache-2.0
//
// FindProgram(name) is the path of a program of somebody else's, or nothing.
//
//   const std::optional<std::string> socat = FindProgram("socat");
//   if (!socat.has_value()) GTEST_SKIP() << NoProgram("socat");
//
// What it is not: only the PATH, which an ordinary user's shell and Bazel keep
// without the folders of the administrator's programs; those are looked into as
// well.
// Rests on: hier(7).
#ifndef BROOD_TESTS_FIND_PROGRAM_H_
#define BROOD_TESTS_FIND_PROGRAM_H_

#include <optional>
#include <string>
#include <string_view>

namespace brood {

std::optional<std::string> FindProgram(std::string_view name);

// Why a test is skipped that cannot do without it.
std::string NoProgram(std::string_view name);

}  // namespace brood

#endif  // BROOD_TESTS_FIND_PROGRAM_H_
