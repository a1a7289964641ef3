// SPDX-License-Identifier: Apache-2.0
#include "brood/server/rules.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/address_range.h"

namespace brood {
namespace {

constexpr std::string_view kAll = "all";
constexpr std::string_view kUnix = "unix";

size_t FamilyIndex(sa_family_t family) { return family == AF_INET ? 0 : 1; }

// The first word of a line that has one.
std::string_view FirstWord(std::string_view line) {
  const auto blank =
      std::find_if(line.begin(), line.end(), absl::ascii_isspace);
  return line.substr(0, blank - line.begin());
}

// What AddressRange says, which does not know the two words.
absl::Status NoRange(std::string_view place, std::string_view text,
                     const absl::Status& why) {
  const bool is_word =
      std::all_of(text.begin(), text.end(), absl::ascii_isalpha);
  return absl::InvalidArgumentError(
      absl::StrCat(place, ": ", why.message(),
                   is_word ? "; or the word \"all\" or \"unix\"" : ""));
}

}  // namespace

std::string Rules::Rule::ToString() const {
  return where.empty() ? text : absl::StrCat(where, ": ", text);
}

absl::StatusOr<Rules> Rules::Parse(std::string_view text,
                                   std::string_view name) {
  Rules rules;
  size_t number = 0;
  for (const std::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    const std::string_view rule =
        absl::StripAsciiWhitespace(line.substr(0, line.find('#')));
    if (rule.empty()) continue;
    const std::string where = absl::StrCat(name, ":", number);
    const auto at = [&](std::string_view something) {
      return absl::StrCat(where, ":", something.data() - line.data() + 1);
    };
    const std::string_view verb = FirstWord(rule);
    if (verb != "allow" && verb != "deny") {
      return absl::InvalidArgumentError(
          absl::StrCat(at(rule), ": \"", absl::CHexEscape(verb),
                       "\": expected \"allow\" or \"deny\", then ranges, as in "
                       "allow 10.0.0.0/8, 2001:db8::/32"));
    }
    const absl::Status added = rules.Add(
        {.allows = verb == "allow", .where = where, .text = std::string(rule)},
        rule.substr(verb.size()), at);
    if (!added.ok()) return added;
  }
  return rules;
}

absl::StatusOr<Rules> Rules::FromFlags(
    absl::Span<const std::string_view> allow,
    absl::Span<const std::string_view> deny) {
  Rules rules;
  for (const bool allows : {false, true}) {
    const std::string_view flag = allows ? "--allow" : "--deny";
    for (const std::string_view list : allows ? allow : deny) {
      const absl::Status added =
          rules.Add({.allows = allows,
                     .where = "",
                     .text = absl::StrCat(flag, "=", list)},
                    list, [&](std::string_view) { return std::string(flag); });
      if (!added.ok()) return added;
    }
  }
  return rules;
}

absl::Status Rules::Add(
    Rule rule, std::string_view list,
    absl::FunctionRef<std::string(std::string_view something)> at) {
  const size_t place = rules_.size();
  for (const std::string_view part : absl::StrSplit(list, ',')) {
    const std::string_view text = absl::StripAsciiWhitespace(part);
    if (text == kAll) {
      all_ = all_.value_or(place);
      continue;
    }
    if (text == kUnix) {
      unix_ = unix_.value_or(place);
      continue;
    }
    const absl::StatusOr<AddressRange> range = AddressRange::Parse(text);
    if (!range.ok()) return NoRange(at(text), text, range.status());
    // A range that is here already keeps its first rule.
    if (!ranges_.try_emplace(*range, place).second) continue;
    std::vector<int>& lengths = lengths_[FamilyIndex(range->family())];
    if (std::find(lengths.begin(), lengths.end(), range->prefix_length()) ==
        lengths.end()) {
      lengths.push_back(range->prefix_length());
    }
  }
  if (rule.allows) allows_others_ = false;
  rules_.push_back(std::move(rule));
  return absl::OkStatus();
}

Rules::Match Rules::Lookup(const Address& peer) const {
  const Address unmapped = peer.Unmapped();
  size_t first = all_.value_or(rules_.size());
  if (unmapped.family() == AF_UNIX) {
    first = std::min(first, unix_.value_or(first));
  } else {
    for (const int length : lengths_[FamilyIndex(unmapped.family())]) {
      // Cannot fail: the length is one of this family.
      const auto found = ranges_.find(*AddressRange::Around(unmapped, length));
      if (found != ranges_.end()) first = std::min(first, found->second);
    }
  }
  if (first == rules_.size())
    return {.allowed = allows_others_, .rule = nullptr};
  return {.allowed = rules_[first].allows, .rule = &rules_[first]};
}

}  // namespace brood
