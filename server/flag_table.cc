// SPDX-License-Identifier: Apache-2.0
#include "brood/server/flag_table.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/types/span.h"
#include "brood/server/flag_values.h"
#include "brood/server/wrapped_text.h"

namespace brood {
namespace {

constexpr std::string_view kHelp = "help";

// How many bytes to change, add or leave out to make the one of the other. An
// underscore may be written as a dash.
size_t Distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const bool same = a[i] == b[j] || (a[i] == '-' && b[j] == '_');
      const size_t change = diagonal + (same ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({change, diagonal + 1, row[j] + 1});
    }
  }
  return row.back();
}

void AppendHelp(const Flag& flag, std::string& text) {
  constexpr Wrapping kWords = {.indent = 6};
  const std::string value = flag.is_switch() ? ""
                            : flag.bare.empty()
                                ? absl::StrCat("=", flag.value_name)
                                : absl::StrCat("[=", flag.value_name, "]");
  absl::StrAppend(&text, "  --", flag.is_switch() ? "[no]" : "", flag.name,
                  value, "\n");
  AppendWrapped(
      absl::StrCat(flag.what,
                   flag.adds_up ? "; may be given more than once" : "",
                   flag.more.empty() ? "" : ". ", flag.more),
      kWords, text);
  AppendWrapped(
      absl::StrCat("allowed: ", flag.allowed, "; default: ", flag.by_default),
      kWords, text);
}

}  // namespace

std::optional<std::string_view> GivenFlags::Value(std::string_view name) const {
  const auto found = absl::c_find_if(
      given_, [&](const Given& given) { return given.name == name; });
  if (found == given_.end() || (found->is_switch && found->value == "false")) {
    return std::nullopt;
  }
  return found->value;
}

absl::Status GivenFlags::Refuse(absl::Span<const std::string_view> names,
                                std::string_view why) const {
  for (const std::string_view name : names) {
    if (!Value(name).has_value()) continue;
    return absl::InvalidArgumentError(absl::StrCat("--", name, " ", why));
  }
  return absl::OkStatus();
}

absl::Status GivenFlags::RefuseAllBut(absl::Span<const std::string_view> names,
                                      std::string_view why) const {
  for (const Given& given : given_) {
    if (absl::c_linear_search(names, given.name)) continue;
    if (absl::Status s = Refuse({given.name}, why); !s.ok()) return s;
  }
  return absl::OkStatus();
}

FlagTable::FlagTable(std::vector<Flag> flags, Words words)
    : flags_(std::move(flags)), words_(words) {
  flags_.push_back(
      {.name = kHelp,
       .group = flags_.empty() ? Flag().group : flags_.back().group,
       .what = "print this, and do nothing else",
       .parse = [](std::string_view) { return absl::OkStatus(); }});
  for (Flag& flag : flags_) {
    if (!flag.is_switch()) continue;
    flag.allowed = "true or false";
    flag.by_default = "false";
  }
}

const Flag* FlagTable::Find(std::string_view name) const {
  const auto flag =
      absl::c_find_if(flags_, [&](const Flag& f) { return f.name == name; });
  return flag == flags_.end() ? nullptr : &*flag;
}

absl::Status FlagTable::UnknownFlag(std::string_view name) const {
  constexpr size_t kNear = 2;
  constexpr size_t kLongestName = 64;
  std::string_view nearest;
  size_t distance = kNear + 1;
  if (name.size() <= kLongestName) {
    for (const Flag& flag : flags_) {
      const size_t d = Distance(name, flag.name);
      // Any two short words are near each other.
      if (d >= distance || 2 * d > flag.name.size()) continue;
      nearest = flag.name;
      distance = d;
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "unknown flag ", QuotedArgument(absl::StrCat("--", name)), ": ",
      nearest.empty() ? "" : absl::StrCat("did you mean --", nearest, "? "),
      "--help lists all"));
}

// Goes through the arguments once.
class FlagTable::Reader {
 public:
  Reader(const FlagTable& table, absl::Span<const std::string_view> args)
      : table_(table), args_(args) {
    for (const Flag& flag : table.flags_) {
      given_.given_.push_back({flag.name, flag.is_switch(), std::nullopt});
    }
  }

  absl::StatusOr<GivenFlags> Read() {
    while (next_ < args_.size()) {
      if (args_[next_] == "--" && !table_.words_.rest.empty()) {
        given_.rest_.emplace(args_.begin() + next_ + 1, args_.end());
        break;
      }
      const absl::StatusOr<Written> written = ReadOne();
      if (!written.ok()) return written.status();
      if (absl::Status s = Take(*written); !s.ok()) return s;
    }
    given_.help_ = given_.Value(kHelp).has_value();
    return std::move(given_);
  }

 private:
  // One flag on the command line.
  struct Written {
    const Flag* flag;
    std::string_view value;
  };

  // The flag that begins at `next_`, which moves beyond it.
  absl::StatusOr<Written> ReadOne() {
    const std::string_view arg = args_[next_++];
    if (arg == "-h") return Written{table_.Find(kHelp), "true"};
    std::string_view name = arg;
    if (arg == "--" || !absl::ConsumePrefix(&name, "--")) {
      const FlagTable::Words& words = table_.words_;
      return absl::InvalidArgumentError(absl::StrCat(
          "argument ", QuotedArgument(arg), ": a flag begins with --, as in ",
          words.example, words.rest.empty() ? "" : ", and ", words.rest,
          words.rest.empty() ? "" : " comes after a lone --"));
    }
    const size_t equals = name.find('=');
    const bool has_value = equals != std::string_view::npos;
    const std::string_view value =
        has_value ? name.substr(equals + 1) : std::string_view();
    name = name.substr(0, equals);
    const Flag* flag = table_.Find(name);
    if (flag == nullptr) {
      std::string_view positive = name;
      const Flag* negated = absl::ConsumePrefix(&positive, "no")
                                ? table_.Find(positive)
                                : nullptr;
      if (negated == nullptr || !negated->is_switch()) {
        return table_.UnknownFlag(name);
      }
      if (has_value) {
        return absl::InvalidArgumentError(absl::StrCat(
            "--", name, "=", QuotedArgument(value), ": allowed is --", name,
            ", or --", negated->name, "=true or false"));
      }
      return Written{negated, "false"};
    }
    if (has_value) return Written{flag, value};
    if (flag->is_switch()) return Written{flag, "true"};
    if (!flag->bare.empty()) return Written{flag, flag->bare};
    // What looks like a flag is one: else a value forgotten would take it.
    if (next_ == args_.size() || absl::StartsWith(args_[next_], "--")) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--", name, " needs a value: --", name, "=", flag->value_name));
    }
    return Written{flag, args_[next_++]};
  }

  absl::Status Take(const Written& written) {
    const Flag& flag = *written.flag;
    std::optional<std::string_view>& given =
        given_.given_[&flag - table_.flags_.data()].value;
    if (given.has_value() && !flag.adds_up) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--", flag.name, " is given twice, as ", QuotedArgument(*given),
          " and as ", QuotedArgument(written.value), ": allowed is once"));
    }
    given = written.value;
    const bool is_switch_value =
        written.value == "true" || written.value == "false";
    const absl::Status status =
        written.value.empty() || (flag.is_switch() && !is_switch_value)
            ? AllowedIf(false)
            : flag.parse(written.value);
    if (status.ok()) return status;
    if (!status.message().empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", flag.name, ": ", status.message()));
    }
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag.name, "=", QuotedArgument(written.value),
                     ": allowed is ", flag.allowed));
  }

  const FlagTable& table_;
  absl::Span<const std::string_view> args_;
  size_t next_ = 0;
  GivenFlags given_;
};

absl::StatusOr<GivenFlags> FlagTable::Parse(
    absl::Span<const std::string_view> args) const {
  return Reader(*this, args).Read();
}

std::string FlagTable::Help() const {
  std::vector<std::string_view> groups;
  for (const Flag& flag : flags_) {
    if (!absl::c_linear_search(groups, flag.group))
      groups.push_back(flag.group);
  }
  std::string text;
  for (const std::string_view group : groups) {
    absl::StrAppend(&text, "\n", group, ":\n");
    for (const Flag& flag : flags_) {
      if (flag.group == group) AppendHelp(flag, text);
    }
  }
  return text;
}

}  // namespace brood
