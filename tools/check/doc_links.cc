// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/check/doc_links.h"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "brood/tools/check/finding.h"
#include "brood/tools/check/markdown.h"
#include "brood/tools/check/source_tree.h"

namespace brood {
namespace {

// "https:" or "mailto:" of a link to elsewhere, else nothing.
std::string_view SchemeOf(std::string_view link) {
  const size_t colon = link.find_first_of(":/#?");
  if (colon == link.npos || colon == 0 || link[colon] != ':') return {};
  return link.substr(0, colon + 1);
}

// A host with a dot in it, after two slashes.
bool IsWellFormed(std::string_view scheme, std::string_view link) {
  if (scheme == "mailto:") return absl::StrContains(link, '@');
  if (scheme != "https:" && scheme != "http:") return false;
  link.remove_prefix(scheme.size());
  if (!absl::ConsumePrefix(&link, "//")) return false;
  const std::string_view host = link.substr(0, link.find_first_of("/?#:"));
  return absl::StrContains(host, '.') && host.front() != '.' &&
         absl::c_all_of(host, [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
                  c == '.' || c == '-';
         });
}

// "L12", or "L12-L14", of a file that has as many lines.
bool HasLines(std::string_view text, std::string_view anchor) {
  anchor = anchor.substr(anchor.rfind('L') + 1);
  size_t line = 0;
  return absl::SimpleAtoi(anchor, &line) && line > 0 &&
         line <= static_cast<size_t>(absl::c_count(text, '\n'));
}

// What is wrong with a link that stands in the page at `path`; nothing if
// nothing is.
std::string_view WhatIsWrong(const SourceTree& tree, const std::string& path,
                             std::string_view link) {
  if (link.empty()) return "empty";
  if (const std::string_view scheme = SchemeOf(link); !scheme.empty()) {
    return IsWellFormed(scheme, link) ? "" : "no well-formed address";
  }
  if (link.front() == '/') return "not relative, so it depends on the reader";
  const size_t hash = std::min(link.find('#'), link.size());
  const std::string_view anchor = link.substr(std::min(hash + 1, link.size()));
  const std::string target =
      hash == 0
          ? path
          : (std::filesystem::path(path).parent_path() / link.substr(0, hash))
                .lexically_normal()
                .string();
  if (absl::StartsWith(target, "..")) return "outside of the project";
  const std::string_view bare = absl::StripSuffix(target, "/");
  if (!tree.Has(bare == "." ? "" : bare)) return "not there";
  if (hash == link.size()) return "";
  const auto file = tree.files().find(target);
  if (file == tree.files().end()) return "a folder has no anchors";
  const bool found =
      absl::EndsWith(target, ".md")
          ? ReadMarkdown(file->second).anchors.contains(std::string(anchor))
          : HasLines(file->second, anchor);
  return found ? "" : "the page is there, the anchor is not";
}

}  // namespace

std::vector<Finding> DeadLinks(const SourceTree& tree) {
  std::vector<Finding> findings;
  for (const auto& [path, text] : tree.files()) {
    if (!absl::EndsWith(path, ".md")) continue;
    for (const Markdown::Piece& link : ReadMarkdown(text).links) {
      const std::string_view wrong = WhatIsWrong(tree, path, link.text);
      if (wrong.empty()) continue;
      findings.push_back(
          {path, link.line, absl::StrCat("links to ", link.text, ": ", wrong)});
    }
  }
  return findings;
}

}  // namespace brood
