// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/check/labels.h"

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "brood/tools/check/finding.h"
#include "brood/tools/check/source_tree.h"

namespace brood {

absl::StatusOr<Labels> Labels::Parse(std::string_view query_output) {
  Labels labels;
  for (const std::string_view line :
       absl::StrSplit(query_output, '\n', absl::SkipEmpty())) {
    const std::string_view label = line.substr(line.rfind(' ') + 1);
    const size_t colon = label.find(':');
    if (!absl::StartsWith(label, "//") || colon == label.npos) {
      return absl::InvalidArgumentError(absl::StrCat(
          "bazel query: \"", line, "\": allowed is a kind and a label"));
    }
    labels.labels_.emplace(label);
    labels.packages_.emplace(label.substr(0, colon));
  }
  return labels;
}

bool Labels::Has(std::string_view label) const {
  if (absl::ConsumeSuffix(&label, "...")) {
    if (label == "//") return true;
    if (!absl::ConsumeSuffix(&label, "/")) return false;
    return absl::c_any_of(packages_, [&](std::string_view package) {
      return absl::ConsumePrefix(&package, label) &&
             (package.empty() || package.front() == '/');
    });
  }
  const size_t colon = label.find(':');
  if (colon == label.npos) return packages_.contains(label);
  const std::string_view name = label.substr(colon + 1);
  if (name == "all" || name == "*") {
    return packages_.contains(label.substr(0, colon));
  }
  return labels_.contains(label);
}

std::vector<Finding> Labels::NotIn(const SourceTree& tree) const {
  std::vector<Finding> findings;
  for (const auto& [path, text] : tree.files()) {
    if (!absl::EndsWith(path, ".cc") && !absl::EndsWith(path, ".h")) continue;
    if (absl::StartsWith(path, "tests/consumer/")) continue;
    // A file belongs to the nearest package above it.
    std::string label;
    std::string_view package = path;
    do {
      const size_t slash = package.rfind('/');
      package = package.substr(0, slash == package.npos ? 0 : slash);
      const std::string candidate = absl::StrCat("//", package);
      if (packages_.contains(candidate)) {
        label =
            absl::StrCat(candidate, ":",
                         path.substr(package.empty() ? 0 : package.size() + 1));
      }
    } while (label.empty() && !package.empty());
    if (!labels_.contains(label)) {
      findings.push_back({path, 0, "is in no target"});
    }
  }
  return findings;
}

}  // namespace brood
