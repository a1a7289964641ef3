// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/check/checks.h"

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/types/span.h"
#include "brood/tools/check/doc_links.h"
#include "brood/tools/check/doc_names.h"
#include "brood/tools/check/finding.h"
#include "brood/tools/check/forbidden_calls.h"
#include "brood/tools/check/labels.h"
#include "brood/tools/check/run_program.h"
#include "brood/tools/check/source_form.h"
#include "brood/tools/check/source_tree.h"

namespace brood {
namespace {

using Lines = std::vector<std::string>;

// ---- those that only read ----

void Append(const std::vector<Finding>& findings, Lines& lines) {
  for (const Finding& finding : findings)
    lines.push_back(absl::StrCat(finding));
}

absl::StatusOr<Lines> CheckLinks(const CheckedTree& tree) {
  Lines lines;
  Append(DeadLinks(tree.files), lines);
  return lines;
}

absl::StatusOr<Lines> CheckCalls(const CheckedTree& tree) {
  Lines lines;
  Append(ForbiddenCalls(tree.files), lines);
  Append(StaleExceptions(tree.files), lines);
  return lines;
}

absl::StatusOr<Lines> CheckForm(const CheckedTree& tree) {
  Lines lines;
  Append(FormMistakes(tree.files), lines);
  return lines;
}

// ---- those that run programs ----

// What a program said, by line; nothing if it ended well.
absl::StatusOr<Lines> Complaints(const CheckedTree& tree, const Lines& argv,
                                 std::string_view package) {
  const absl::StatusOr<ProgramRun> run = RunProgram(argv, tree.root);
  if (absl::IsNotFound(run.status())) {
    return absl::UnavailableError(absl::StrCat(
        "there is no ", argv[0],
        " here; on Debian: ", "sudo apt-get install --yes ", package));
  }
  if (!run.ok()) return run.status();
  if (run->status.success()) return Lines();
  Lines lines = absl::StrSplit(absl::StrCat(run->out, run->err), '\n',
                               absl::SkipWhitespace());
  lines.push_back(absl::StrCat(argv[0], ": ", run->status.ToString()));
  return lines;
}

template <typename Wanted>
void AppendPaths(const SourceTree& tree, Wanted wanted, Lines& argv) {
  for (const auto& [path, text] : tree.files()) {
    if (wanted(path)) argv.push_back(path);
  }
}

bool IsCode(std::string_view path) {
  return absl::EndsWith(path, ".h") || absl::EndsWith(path, ".cc");
}

absl::StatusOr<Lines> CheckFormat(const CheckedTree& tree) {
  Lines argv = {"clang-format"};
  if (tree.fix) {
    argv.push_back("-i");
  } else {
    argv.insert(argv.end(), {"--dry-run", "-Werror"});
  }
  AppendPaths(tree.files, IsCode, argv);
  return Complaints(tree, argv, "clang-format");
}

absl::StatusOr<Lines> CheckBuildFormat(const CheckedTree& tree) {
  const absl::StatusOr<ProgramRun> found = RunProgram(
      {absl::StrCat(tree.root, "/tools/bootstrap/buildifier.sh")}, tree.root);
  if (!found.ok()) return found.status();
  if (!found->status.success())
    return absl::UnavailableError(absl::StripSuffix(found->err, "\n"));
  Lines argv = {std::string(absl::StripSuffix(found->out, "\n")), "--lint=off",
                tree.fix ? "--mode=fix" : "--mode=check"};
  AppendPaths(
      tree.files,
      [](std::string_view path) {
        return absl::EndsWith(path, ".bzl") || absl::EndsWith(path, ".bazel") ||
               absl::EndsWith(path, "WORKSPACE");
      },
      argv);
  return Complaints(tree, argv, "npm");
}

constexpr std::string_view kExecRoot = "/execroot/";

// What Bazel and clang-tidy say besides what was found.
bool IsAside(std::string_view line) {
  return absl::StartsWith(line, "INFO: ") || absl::StartsWith(line, "Use --") ||
         absl::EndsWith(line, " warnings generated.");
}

absl::StatusOr<Lines> CheckTidy(const CheckedTree& tree) {
  const absl::StatusOr<ProgramRun> version =
      RunProgram({"clang-tidy-16", "--version"}, tree.root);
  if (absl::IsNotFound(version.status())) {
    return absl::UnavailableError(
        "there is no clang-tidy-16 here; on Debian: sudo apt-get install --yes "
        "clang-tidy-16");
  }
  const absl::StatusOr<Lines> lines =
      Complaints(tree,
                 {absl::StrCat(tree.root, "/bazelw"), "build", "--config=tidy",
                  "--color=no", "--curses=no", "--noshow_progress", "//..."},
                 "clang-tidy-16");
  if (!lines.ok()) return lines;
  Lines findings;
  for (const std::string& line : *lines) {
    if (IsAside(line)) continue;
    // What stands before a path in Bazel's sandbox, which is gone by now.
    const size_t root = line.find(kExecRoot);
    findings.push_back(
        root == line.npos
            ? line
            : line.substr(line.find('/', root + kExecRoot.size()) + 1));
  }
  return findings;
}

absl::StatusOr<Labels> AskForLabels(const CheckedTree& tree,
                                    std::string_view which) {
  const absl::StatusOr<ProgramRun> query =
      RunProgram({absl::StrCat(tree.root, "/bazelw"), "query",
                  "--output=label_kind", std::string(which)},
                 tree.root);
  if (!query.ok()) return query.status();
  if (!query->status.success()) {
    return absl::FailedPreconditionError(
        absl::StrCat("bazel query: ", query->err));
  }
  return Labels::Parse(query->out);
}

absl::StatusOr<Lines> CheckNames(const CheckedTree& tree) {
  const absl::StatusOr<Labels> labels = AskForLabels(tree, "//...:*");
  if (!labels.ok()) return labels.status();
  Lines lines;
  Append(StaleNames(tree.files, *labels), lines);
  return lines;
}

// What a rule that compiles takes. A filegroup may glob every file there is, as
// those for //tools:examples_test do, and compiles none. The packages are known
// by the BUILD files.
constexpr std::string_view kWhatIsCompiled =
    "labels(srcs, kind(\"cc_.* rule\", //...)) + "
    "labels(hdrs, kind(\"cc_.* rule\", //...)) + "
    "labels(textual_hdrs, kind(\"cc_.* rule\", //...)) + //...";

absl::StatusOr<Lines> CheckFiles(const CheckedTree& tree) {
  const absl::StatusOr<Labels> labels = AskForLabels(tree, kWhatIsCompiled);
  if (!labels.ok()) return labels.status();
  Lines lines;
  Append(labels->NotIn(tree.files), lines);
  return lines;
}

// Whom a layer may use, as Bazel's query language has it. That a target of
// another may not be used is held by visibility; here is what it has to hold.
struct Layer {
  std::string_view folder;
  std::string_view may_use;
};
constexpr auto kLayers = std::to_array<Layer>({
    {"proc", "//proc/..."},
    {"net", "//net/... + //proc:posix + //proc:unique_fd"},
    {"signal", "//signal/... + //proc:posix + //proc:unique_fd"},
    {"server", "//server/... + //net/... + //signal/... + //proc/..."},
});

absl::StatusOr<Lines> CheckArrows(const CheckedTree& tree) {
  Lines lines;
  for (const Layer& layer : kLayers) {
    const std::string used = absl::StrCat(
        "kind(cc_library, deps(kind(\"cc_library|cc_binary\", "
        "attr(testonly, 0, //",
        layer.folder, "/...)), 1)) intersect //...");
    const absl::StatusOr<ProgramRun> query =
        RunProgram({absl::StrCat(tree.root, "/bazelw"), "query",
                    absl::StrCat("(", used, ") except (", layer.may_use, ")")},
                   tree.root);
    if (!query.ok()) return query.status();
    if (!query->status.success()) {
      return absl::FailedPreconditionError(
          absl::StrCat("bazel query: ", query->err));
    }
    for (const std::string_view target :
         absl::StrSplit(query->out, '\n', absl::SkipWhitespace())) {
      lines.push_back(absl::StrCat("//", layer.folder, " uses ", target,
                                   "; it may use ", layer.may_use));
    }
  }
  return lines;
}

absl::StatusOr<Lines> CheckPins(const CheckedTree& tree) {
  return Complaints(tree,
                    {absl::StrCat(tree.root, "/bazelw"), "test",
                     "--noshow_progress", "//tools:pins_test"},
                    "g++");
}

absl::StatusOr<Lines> CheckExamples(const CheckedTree& tree) {
  return Complaints(tree,
                    {absl::StrCat(tree.root, "/bazelw"), "test",
                     "--noshow_progress", "//tools:examples_test"},
                    "g++");
}

constexpr auto kChecks = std::to_array<Check>({
    {"format", "every C++ file is as clang-format writes it", CheckFormat},
    {"build_format", "every BUILD file is as buildifier writes it",
     CheckBuildFormat},
    {"links", "no link of a page leads nowhere", CheckLinks},
    {"calls", "nothing calls what the rules forbid", CheckCalls},
    {"form", "guards, includes and licences are in order", CheckForm},
    {"names", "targets and flags that the pages name are there", CheckNames},
    {"files", "every C++ file is in a target", CheckFiles},
    {"arrows", "no layer uses what is above or beside it", CheckArrows},
    {"pins", "both lists of dependencies name the same versions", CheckPins},
    {"examples", "what headers and pages show is compiled", CheckExamples},
    {"tidy", "clang-tidy finds nothing in what ships", CheckTidy},
});

}  // namespace

absl::Span<const Check> AllChecks() { return kChecks; }

}  // namespace brood
