// SPDX-License-Identifier: Apache-2.0
// The comparison: parse, measure, write.
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "brood/signal/mask.h"
#include "brood/signal/signal_event.h"
#include "brood/signal/signal_fd.h"
#include "brood/signal/signal_set.h"
#include "brood/tools/bench/bench_json.h"
#include "brood/tools/bench/bench_options.h"
#include "brood/tools/bench/bench_page.h"
#include "brood/tools/bench/bench_report.h"
#include "brood/tools/bench/bench_run.h"
#include "brood/tools/bench/bench_table.h"
#include "brood/tools/bench/bench_words.h"
#include "brood/tools/bench/contender.h"
#include "brood/tools/bench/machine.h"
#include "brood/tools/bench/measure_list.h"
#include "brood/tools/load/descriptor_limit.h"
#include "brood/tools/load/progress_line.h"

namespace brood {
namespace {

constexpr int kWorldRefuses = 1;
constexpr int kUsageError = 2;
constexpr int kStopped = 130;

#ifdef __OPTIMIZE__
constexpr bool kOptimised = true;
#else
constexpr bool kOptimised = false;
#endif

int Fail(int exit_code, std::string_view message) {
  std::cerr << "bench: " << message << std::endl;
  return exit_code;
}

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// Where its own servers are: here, as `bazel run` has it, or in the runfiles
// beside the program. Nothing if they are nowhere.
std::optional<std::filesystem::path> FindOwnServers(
    const std::filesystem::path& program) {
  std::vector<std::filesystem::path> places = {"."};
  std::error_code error;
  for (const std::filesystem::path& beside :
       {program, std::filesystem::read_symlink("/proc/self/exe", error)}) {
    const std::filesystem::path runfiles = beside.string() + ".runfiles";
    for (std::filesystem::directory_iterator entry(runfiles, error), end;
         !error && entry != end; entry.increment(error)) {
      places.push_back(entry->path());
    }
  }
  for (const std::filesystem::path& place : places) {
    for (const Contender& contender : AllContenders()) {
      if (contender.package.empty() &&
          std::filesystem::exists(place / contender.program, error)) {
        return place;
      }
    }
  }
  return std::nullopt;
}

int List() {
  for (const Contender& contender : AllContenders()) {
    std::cout << contender.name << ": " << NameOf(contender.design) << "\n";
  }
  std::cout << "\n";
  for (const MeasureKind& kind : AllMeasures()) {
    std::cout << kind.id << ": " << kind.title << "\n";
  }
  return 0;
}

// A folder that is gone with its scope.
class TemporaryFolder {
 public:
  // In $TMPDIR, which may be relative to `here`.
  explicit TemporaryFolder(const std::filesystem::path& here) {
    const std::string base = Variable("TMPDIR");
    path_ = here / (base.empty() ? "/tmp" : base) / "brood-bench.XXXXXX";
    made_ = mkdtemp(path_.data()) != nullptr;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    if (made_) std::filesystem::remove_all(path_, ignored);
  }

  bool made() const { return made_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  bool made_ = false;
};

// Under a temporary name first, so that nobody ever sees a part of it.
absl::Status WriteWhole(const std::filesystem::path& path,
                        std::string_view text) {
  const std::filesystem::path part = path.string() + ".part";
  std::ofstream file(part);
  file << text;
  file.close();
  std::error_code error;
  if (file) std::filesystem::rename(part, path, error);
  if (!file || error) {
    return absl::UnavailableError(absl::StrCat("cannot write ", path.string()));
  }
  return absl::OkStatus();
}

// Before anything is measured, which would be lost.
absl::Status MakeFolder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (!error && access(folder.c_str(), W_OK | X_OK) == -1) {
    error = std::error_code(errno, std::generic_category());
  }
  if (!error) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("--output_dir: ", folder.string(), ": ", error.message()));
}

absl::Status Write(const std::filesystem::path& folder,
                   const BenchReport& report) {
  if (absl::Status s = WriteWhole(folder / "index.html", PageOf(report));
      !s.ok()) {
    return s;
  }
  if (absl::Status s = WriteWhole(folder / "report.md", MarkdownOf(report));
      !s.ok()) {
    return s;
  }
  return WriteWhole(folder / "report.json", JsonOf(report));
}

absl::StatusOr<BenchReport> Measure(const BenchOptions& options,
                                    const std::filesystem::path& here) {
  // A terminal that is closed ends none of the servers by itself.
  const SignalSet stops = {SIGHUP, SIGINT, SIGTERM};
  const absl::StatusOr<SignalMask> mask = SignalMask::Block(stops);
  if (!mask.ok()) return mask.status();
  absl::StatusOr<SignalFd> stop = SignalFd::Create(stops);
  if (!stop.ok()) return stop.status();
  const TemporaryFolder folder(here);
  if (!folder.made()) {
    return absl::UnavailableError(absl::StrCat("mkdtemp ", folder.path()));
  }
  ProgressLine line(STDERR_FILENO);
  bool stopped = false;
  const BenchWatch watch = {
      .go_on =
          [&] {
            const absl::StatusOr<std::optional<SignalEvent>> asked =
                stop->Next();
            stopped = stopped || !asked.ok() || asked->has_value();
            return !stopped;
          },
      .say = [&line](std::string_view text) { line.Show(text); }};
  return RunBench(options, folder.path(), watch);
}

int Run(const std::string& program, absl::Span<const std::string_view> args) {
  const absl::StatusOr<BenchOptions> options = ParseBenchOptions(args);
  if (!options.ok()) return Fail(kUsageError, options.status().message());
  if (options->help) {
    std::cout << BenchUsage() << std::flush;
    return 0;
  }
  if (options->list) return List();
  std::error_code error;
  const std::filesystem::path here = std::filesystem::current_path(error);
  const std::optional<std::filesystem::path> servers = FindOwnServers(program);
  if (servers.has_value()) std::filesystem::current_path(*servers, error);
  if (!servers.has_value() || error) {
    return Fail(kUsageError,
                absl::StrCat("none of its own servers is in ", program,
                             ".runfiles; `bazel run //tools:bench` builds and "
                             "finds them"));
  }
  if (!kOptimised) {
    std::cerr << "bench: built without optimisation: the figures mean little; "
                 "`bazel run` builds it with\n";
  }
  // As far as it goes: a crowd that does not fit says so in its row.
  (void)RaiseDescriptorLimit(11'000);
  const std::filesystem::path folder =
      here / Variable("BUILD_WORKING_DIRECTORY") / options->output_dir;
  if (absl::Status s = MakeFolder(folder); !s.ok()) {
    return Fail(kWorldRefuses, s.message());
  }
  const BenchReport::Machine::Load before = LoadOfThisMachine();
  absl::StatusOr<BenchReport> report = Measure(*options, here);
  if (!report.ok()) {
    std::error_code not_empty;
    std::filesystem::remove(folder, not_empty);
  }
  if (absl::IsCancelled(report.status())) {
    return Fail(kStopped, "stopped: nothing is written");
  }
  if (!report.ok()) return Fail(kWorldRefuses, report.status().message());
  report->machine = ThisMachine(
      Variable("BUILD_WORKSPACE_DIRECTORY"),
      absl::StrCat("bazel run //tools:bench -- ", absl::StrJoin(args, " ")));
  report->machine.before = before;
  report->machine.after = LoadOfThisMachine();
  if (absl::Status s = Write(folder, *report); !s.ok()) {
    return Fail(kWorldRefuses, s.message());
  }
  // On the terminal the first measure is enough.
  report->measures.resize(1);
  std::cout << MarkdownOf(*report) << "\n";
  if (WasBusy(report->machine)) {
    std::cout << "the machine was busy with other things before this began; "
                 "the figures are theirs, too\n";
  }
  for (const std::string& what : report->left_out) {
    std::cout << "left out: " << what << ": no time left\n";
  }
  for (const BenchReport::Absent& absent : report->absent) {
    std::cout << "absent: " << absent.name << ": " << absent.why << "\n";
  }
  std::cout << "all of it: " << (folder / "index.html").string()
            << ", report.md and report.json beside it" << std::endl;
  return 0;
}

}  // namespace
}  // namespace brood

int main(int argc, char** argv) {
  return brood::Run(argv[0],
                    std::vector<std::string_view>(argv + 1, argv + argc));
}
