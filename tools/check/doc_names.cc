// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/check/doc_names.h"

#include <array>
#include <cstddef>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "brood/tools/check/finding.h"
#include "brood/tools/check/labels.h"
#include "brood/tools/check/markdown.h"
#include "brood/tools/check/source_tree.h"

namespace brood {
namespace {

using Names = std::set<std::string, std::less<>>;

// What the pages hand to programs that are not ours.
constexpr auto kFlagsOfOthers = std::to_array<std::string_view>({
    "benchmark_enable_random_interleaving",  // Google Benchmark
    "benchmark_filter",
    "benchmark_repetitions",
    "benchmark_report_aggregates_only",
    "compilation_mode",  // Bazel
    "config",
    "cxxopt",
    "jobs",
    "runs_per_test",
    "test_filter",
    "forest",  // ps
    "ppid",
    "no-install-recommends",  // apt-get
    "yes",
    "exec",  // ncat
    "keep-open",
    "max-conns",
    "accept",  // systemd-socket-activate
    "inetd",
});

bool IsAnyOf(char c, std::string_view more) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
         absl::StrContains(more, c);
}

// The texts in `code` that begin with `start` and a small letter, or a ":" or
// "." if `more` has it, and go on with what `more` has. What stands before one
// must be none of `not_before`.
std::vector<std::string_view> FindNames(std::string_view code,
                                        std::string_view start,
                                        std::string_view more,
                                        std::string_view not_before) {
  std::vector<std::string_view> names;
  for (size_t at = code.find(start); at != code.npos;
       at = code.find(start, at)) {
    const size_t begin = at;
    at += start.size();
    if (begin > 0 && IsAnyOf(code[begin - 1], not_before)) continue;
    if (at == code.size() ||
        !(absl::ascii_islower(static_cast<unsigned char>(code[at])) ||
          (absl::StrContains(".:", code[at]) &&
           absl::StrContains(more, code[at])))) {
      continue;
    }
    while (at < code.size() && IsAnyOf(code[at], more)) ++at;
    names.push_back(code.substr(begin, at - begin));
  }
  return names;
}

std::vector<std::string_view> FindLabels(std::string_view code) {
  std::vector<std::string_view> labels =
      // "https://x" is none, nor is "@other//x".
      FindNames(code, "//", "_/:.*-", ":/_.");
  for (std::string_view& label : labels) {
    // The end of a sentence is not part of the name.
    if (!absl::EndsWith(label, "...")) {
      while (absl::ConsumeSuffix(&label, ".") ||
             absl::ConsumeSuffix(&label, ":")) {
      }
    }
  }
  return labels;
}

// The names in the flag tables of our programs.
Names FlagsOf(const SourceTree& tree) {
  constexpr std::string_view kEntry = ".name = \"";
  Names flags(kFlagsOfOthers.begin(), kFlagsOfOthers.end());
  flags.insert("help");  // Every FlagTable has it by itself.
  for (const auto& [path, text] : tree.files()) {
    if (!absl::EndsWith(path, ".cc") || absl::EndsWith(path, "_test.cc")) {
      continue;
    }
    for (size_t at = text.find(kEntry); at != text.npos;
         at = text.find(kEntry, at)) {
      at += kEntry.size();
      flags.insert(text.substr(at, text.find('"', at) - at));
    }
  }
  return flags;
}

bool IsFlag(const Names& flags, std::string_view flag) {
  // --noname is the other form of one that is true or false.
  return flags.contains(flag) ||
         (absl::ConsumePrefix(&flag, "no") && flags.contains(flag));
}

}  // namespace

std::vector<Finding> StaleNames(const SourceTree& tree, const Labels& labels) {
  const Names flags = FlagsOf(tree);
  std::vector<Finding> findings;
  for (const auto& [path, text] : tree.files()) {
    if (!absl::EndsWith(path, ".md")) continue;
    for (const Markdown::Piece& code : ReadMarkdown(text).code) {
      for (const std::string_view label : FindLabels(code.text)) {
        if (labels.Has(label)) continue;
        findings.push_back(
            {path, code.line, absl::StrCat(label, ": no target")});
      }
      for (std::string_view flag : FindNames(code.text, "--", "_-", "_-")) {
        flag.remove_prefix(2);
        if (IsFlag(flags, flag)) continue;
        findings.push_back(
            {path, code.line, absl::StrCat("--", flag, ": no flag")});
      }
    }
  }
  return findings;
}

}  // namespace brood
