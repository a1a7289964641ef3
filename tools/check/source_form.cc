// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/check/source_form.h"

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "brood/tools/check/cc_code.h"
#include "brood/tools/check/finding.h"
#include "brood/tools/check/source_tree.h"

namespace brood {
namespace {

constexpr std::string_view kLicence = "// SPDX-License-Identifier: Apache-2.0";

// Between quotes, because they are built with the project.
constexpr auto kQuoted = std::to_array<std::string_view>(
    {"brood/", "absl/", "gtest/", "gmock/", "benchmark/"});

// Where people's folders are. Two pieces each, or this file would be one that
// names them.
constexpr auto kHomes = std::to_array<std::array<std::string_view, 2>>(
    {{"/home", "/"}, {"/root", "/"}, {"/Users", "/"}});

// In two pieces for the same reason.
constexpr auto kUnfinished = std::to_array<std::array<std::string_view, 2>>(
    {{"TO", "DO"}, {"FIX", "ME"}, {"XX", "X"}});

std::string GuardOf(std::string_view path) {
  return absl::StrCat("BROOD_",
                      absl::AsciiStrToUpper(
                          absl::StrReplaceAll(path, {{"/", "_"}, {".", "_"}})),
                      "_");
}

// What is wrong with a line that includes something; nothing if nothing is.
std::string_view WrongInclude(const SourceTree& tree, std::string_view line) {
  if (!absl::ConsumePrefix(&line, "#include ")) return {};
  const bool quoted = absl::ConsumePrefix(&line, "\"");
  if (!quoted) line.remove_prefix(1);
  const std::string_view path = line.substr(0, line.find_first_of("\">"));
  const bool built = absl::c_any_of(kQuoted, [&](std::string_view folder) {
    return absl::StartsWith(path, folder);
  });
  if (built && !quoted) return "is built with the project, so it is in quotes";
  if (quoted && !built) return "is not \"brood/...\" nor a dependency's";
  if (absl::StartsWith(path, "brood/") && !tree.Has(path.substr(6))) {
    return "is not there";
  }
  return {};
}

void LookAtCode(const SourceTree& tree, const std::string& path,
                const std::string& text, std::vector<Finding>& findings) {
  if (!absl::StartsWith(text, kLicence)) {
    findings.push_back({path, 1, absl::StrCat("is not ", kLicence)});
  }
  const std::string guard = GuardOf(path);
  const bool is_header = absl::EndsWith(path, ".h");
  if (is_header &&
      (!absl::StrContains(text, absl::StrCat("\n#ifndef ", guard, "\n#define ",
                                             guard, "\n")) ||
       !absl::EndsWith(text, absl::StrCat("\n#endif  // ", guard, "\n")))) {
    findings.push_back({path, 0, absl::StrCat("has no guard ", guard)});
  }
  size_t number = 0;
  for (const std::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    if (const std::string_view wrong = WrongInclude(tree, line);
        !wrong.empty()) {
      findings.push_back({path, number, absl::StrCat(line, " ", wrong)});
    }
    if (absl::StartsWith(line, "#define ") &&
        !(is_header && absl::EndsWith(line, guard))) {
      findings.push_back({path, number, "defines a macro"});
    }
  }
  for (const auto& [first, second] : kUnfinished) {
    const std::string word = absl::StrCat(first, second);
    for (const size_t at : FindWord(text, word)) {
      findings.push_back({path, LineOf(text, at),
                          absl::StrCat(word, ": is an issue, not a comment")});
    }
  }
}

// A path that names one person's folder. One that speaks of all of them, or of a
// home that a program is given, is no such path.
void LookForHomes(const std::string& path, const std::string& text,
                  std::vector<Finding>& findings) {
  for (const auto& [first, second] : kHomes) {
    const std::string home = absl::StrCat(first, second);
    for (size_t at = text.find(home); at != text.npos;
         at = text.find(home, at + 1)) {
      const size_t end = at + home.size();
      if ((at > 0 &&
           (absl::ascii_isalnum(static_cast<unsigned char>(text[at - 1])) ||
            absl::StrContains("_.-}", text[at - 1]))) ||
          end == text.size() ||
          !absl::ascii_isalnum(static_cast<unsigned char>(text[end]))) {
        continue;
      }
      findings.push_back(
          {path, LineOf(text, at), "names a folder of one machine"});
    }
  }
}

}  // namespace

std::vector<Finding> FormMistakes(const SourceTree& tree) {
  std::vector<Finding> findings;
  for (const auto& [path, text] : tree.files()) {
    // Inputs of fuzz targets may be anything, and two files are for one machine.
    if (absl::StrContains(path, "corpus/")) continue;
    if (path == ".git" || path == "user.bazelrc") continue;
    const bool code = absl::EndsWith(path, ".cc") || absl::EndsWith(path, ".h");
    if (code && !absl::StartsWith(path, "tests/consumer/")) {
      LookAtCode(tree, path, text, findings);
    }
    LookForHomes(path, text, findings);
  }
  return findings;
}

}  // namespace brood
