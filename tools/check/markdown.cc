// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/check/markdown.h"

#include <cstddef>
#include <map>
#include <string>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace brood {
namespace {

constexpr std::string_view kFence = "```";

// What GitHub's pages call a heading: letters small, spaces hyphens, and
// nothing else but digits, hyphens, underscores and what is not ASCII.
std::string AnchorOf(std::string_view heading) {
  std::string anchor;
  for (const char c : heading) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == ' ') {
      anchor.push_back('-');
    } else if (absl::ascii_isalnum(byte) || c == '-' || c == '_' ||
               byte >= 0x80) {
      anchor.push_back(absl::ascii_tolower(byte));
    }
  }
  return anchor;
}

// The text of a heading without where its links lead.
std::string WithoutLinks(std::string_view heading) {
  std::string text;
  while (!heading.empty()) {
    const size_t target = heading.find("](");
    const size_t end =
        target == heading.npos ? target : heading.find(')', target);
    if (end == heading.npos) break;
    absl::StrAppend(&text, heading.substr(0, target));
    heading.remove_prefix(end + 1);
  }
  return absl::StrCat(text, heading);
}

// Takes the code between backticks out of `line`, which then has blanks there.
void TakeCode(std::string& line, size_t number, Markdown& page) {
  size_t begin = line.find('`');
  while (begin != line.npos) {
    const size_t after = line.find_first_not_of('`', begin);
    if (after == line.npos) return;
    const std::string ticks(after - begin, '`');
    const size_t end = line.find(ticks, after);
    if (end == line.npos) return;
    page.code.push_back({line.substr(after, end - after), number});
    line.replace(begin, end + ticks.size() - begin,
                 std::string(end + ticks.size() - begin, ' '));
    begin = line.find('`', end);
  }
}

// Every text of `line` between `open` and the next character of `close`.
template <typename Take>
void ForEachBetween(std::string_view line, std::string_view open, char close,
                    Take take) {
  for (size_t at = line.find(open); at != line.npos; at = line.find(open, at)) {
    at += open.size();
    const size_t end = line.find(close, at);
    if (end == line.npos) return;
    take(line.substr(at, end - at));
  }
}

void TakeLinks(std::string_view line, size_t number, Markdown& page) {
  const auto take = [&](std::string_view target) {
    // The rest of [text](target "title") is the title.
    page.links.push_back(
        {std::string(target.substr(0, target.find(' '))), number});
  };
  ForEachBetween(line, "](", ')', take);
  for (const std::string_view attribute : {"href=\"", "src=\"", "srcset=\""}) {
    ForEachBetween(line, attribute, '"', take);
  }
  const size_t colon = line.find("]: ");
  if (absl::StartsWith(line, "[") && colon != line.npos) {
    take(absl::StripAsciiWhitespace(line.substr(colon + 3)));
  }
}

}  // namespace

Markdown ReadMarkdown(std::string_view text) {
  Markdown page;
  std::map<std::string, int> seen;
  bool fenced = false;
  size_t number = 0;
  for (std::string_view original : absl::StrSplit(text, '\n')) {
    ++number;
    const std::string_view trimmed =
        absl::StripLeadingAsciiWhitespace(original);
    if (absl::StartsWith(trimmed, kFence)) {
      fenced = !fenced;
      continue;
    }
    if (fenced) {
      page.code.push_back({std::string(original), number});
      continue;
    }
    const size_t level = original.find_first_not_of('#');
    if (level > 0 && level <= 6 && level < original.size() &&
        original[level] == ' ') {
      const std::string anchor = AnchorOf(
          absl::StripAsciiWhitespace(WithoutLinks(original.substr(level))));
      const int again = seen[anchor]++;
      page.anchors.insert(again == 0 ? anchor
                                     : absl::StrCat(anchor, "-", again));
    }
    std::string line(original);
    TakeCode(line, number, page);
    TakeLinks(line, number, page);
    for (const std::string_view attribute : {"id=\"", "name=\""}) {
      ForEachBetween(line, attribute, '"', [&](std::string_view anchor) {
        page.anchors.emplace(anchor);
      });
    }
  }
  return page;
}

}  // namespace brood
