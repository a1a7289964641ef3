// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/limits.h"

#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "brood/proc/posix.h"

namespace brood {
namespace {

struct Resource {
  int number;
  std::string_view name;
};

constexpr auto kResources = std::to_array<Resource>({
    {RLIMIT_AS, "AS"},
    {RLIMIT_CORE, "CORE"},
    {RLIMIT_CPU, "CPU"},
    {RLIMIT_DATA, "DATA"},
    {RLIMIT_FSIZE, "FSIZE"},
    {RLIMIT_LOCKS, "LOCKS"},
    {RLIMIT_MEMLOCK, "MEMLOCK"},
    {RLIMIT_MSGQUEUE, "MSGQUEUE"},
    {RLIMIT_NICE, "NICE"},
    {RLIMIT_NOFILE, "NOFILE"},
    {RLIMIT_NPROC, "NPROC"},
    {RLIMIT_RSS, "RSS"},
    {RLIMIT_RTPRIO, "RTPRIO"},
    {RLIMIT_RTTIME, "RTTIME"},
    {RLIMIT_SIGPENDING, "SIGPENDING"},
    {RLIMIT_STACK, "STACK"},
});

constexpr std::string_view kUnlimited = "unlimited";

std::string NameOfAmount(rlim_t amount) {
  return amount == RLIM_INFINITY ? std::string(kUnlimited)
                                 : absl::StrCat(amount);
}

bool ParseAmount(std::string_view text, rlim_t& amount) {
  if (absl::EqualsIgnoreCase(text, kUnlimited)) {
    amount = RLIM_INFINITY;
    return true;
  }
  // Not what SimpleAtoi allows beside digits: white space and a plus.
  return !text.empty() && std::ranges::all_of(text, absl::ascii_isdigit) &&
         absl::SimpleAtoi(text, &amount) && amount != RLIM_INFINITY;
}

absl::Status UnknownResource(std::string_view name) {
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", name, "\" is no resource; there are ",
      absl::StrJoin(kResources, ", ", [](std::string* out, const Resource& r) {
        absl::StrAppend(out, r.name);
      })));
}

absl::Status NotALimit(std::string_view text) {
  return absl::InvalidArgumentError(
      absl::StrCat("\"", text, "\" is no limit; one is RESOURCE=SOFT:HARD or ",
                   "RESOURCE=BOTH, each a number or \"", kUnlimited, "\""));
}

absl::StatusOr<Limit> ParseLimit(std::string_view text) {
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos) return NotALimit(text);
  const std::vector<std::string_view> amounts =
      absl::StrSplit(text.substr(equals + 1), ':');
  Limit limit;
  if (amounts.size() > 2 || !ParseAmount(amounts.front(), limit.soft) ||
      !ParseAmount(amounts.back(), limit.hard)) {
    return NotALimit(text);
  }
  const absl::StatusOr<int> resource = ParseResource(text.substr(0, equals));
  if (!resource.ok()) return resource.status();
  limit.resource = *resource;
  return limit;
}

}  // namespace

std::string Limit::ToString() const {
  const std::string text =
      absl::StrCat(NameOfResource(resource), "=", NameOfAmount(soft));
  return soft == hard ? text : absl::StrCat(text, ":", NameOfAmount(hard));
}

std::string NameOfResource(int resource) {
  for (const Resource& known : kResources) {
    if (known.number == resource) return std::string(known.name);
  }
  return absl::StrCat("resource ", resource);
}

absl::StatusOr<int> ParseResource(std::string_view name) {
  std::string_view bare = name;
  if (absl::StartsWithIgnoreCase(bare, "RLIMIT_")) bare.remove_prefix(7);
  for (const Resource& known : kResources) {
    if (absl::EqualsIgnoreCase(bare, known.name)) return known.number;
  }
  return UnknownResource(name);
}

absl::StatusOr<Limit> CurrentLimit(int resource) {
  rlimit value;
  // prlimit and not getrlimit, whose first argument glibc makes an enum in C++.
  if (prlimit(0, static_cast<__rlimit_resource>(resource), nullptr, &value) ==
      -1) {
    return ErrnoStatus(errno,
                       absl::StrCat("get limit ", NameOfResource(resource)));
  }
  return Limit{resource, value.rlim_cur, value.rlim_max};
}

absl::StatusOr<Limits> Limits::Parse(std::string_view text) {
  Limits limits;
  if (text.empty()) return limits;
  for (const std::string_view part : absl::StrSplit(text, ',')) {
    const absl::StatusOr<Limit> limit = ParseLimit(part);
    if (!limit.ok()) return limit.status();
    if (absl::Status set = limits.Set(*limit); !set.ok()) return set;
  }
  return limits;
}

absl::Status Limits::Set(const Limit& limit) {
  const std::string name = NameOfResource(limit.resource);
  if (!ParseResource(name).ok()) return UnknownResource(name);
  // RLIM_INFINITY is the largest of all numbers.
  if (limit.soft > limit.hard) {
    return absl::InvalidArgumentError(
        absl::StrCat(limit.ToString(), ": the soft limit is above the hard"));
  }
  for (Limit& entry : entries_) {
    if (entry.resource == limit.resource) {
      entry = limit;
      return absl::OkStatus();
    }
  }
  entries_.push_back(limit);
  return absl::OkStatus();
}

std::string Limits::ToString() const {
  return absl::StrJoin(entries_, ",", [](std::string* out, const Limit& limit) {
    absl::StrAppend(out, limit.ToString());
  });
}

absl::Status Limits::Apply() const {
  for (const Limit& limit : entries_) {
    const rlimit value = {.rlim_cur = limit.soft, .rlim_max = limit.hard};
    if (prlimit(0, static_cast<__rlimit_resource>(limit.resource), &value,
                nullptr) == -1) {
      return ErrnoStatus(errno, absl::StrCat("set limit ", limit.ToString()));
    }
  }
  return absl::OkStatus();
}

}  // namespace brood
