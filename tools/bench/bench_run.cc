// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/bench_run.h"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "brood/proc/posix.h"
#include "brood/tests/find_program.h"
#include "brood/tools/bench/bench_options.h"
#include "brood/tools/bench/bench_report.h"
#include "brood/tools/bench/contender.h"
#include "brood/tools/bench/measure_list.h"
#include "brood/tools/bench/measures.h"
#include "brood/tools/bench/started_server.h"
#include "brood/tools/bench/turn_times.h"
#include "brood/tools/check/run_program.h"

namespace brood {
namespace {

// What Stop() of a server says, for whose clients there is a run of its own.
constexpr std::string_view kProcessCpu = "process_cpu";
constexpr std::string_view kProcessControl = "process_control";
constexpr std::string_view kWithoutProcesses = "floor-iterative";

struct Located {
  Contender contender;
  std::string program;
};

std::optional<std::string> Locate(const Contender& contender) {
  if (!contender.package.empty()) return FindProgram(contender.program);
  std::error_code error;
  if (!std::filesystem::exists(contender.program, error)) return std::nullopt;
  return contender.program;
}

// The first line it says that has a number with a point in it, of what it is;
// empty if there is none.
std::string VersionOf(const Contender& contender, const std::string& program) {
  if (contender.asked_for_version.empty()) return "";
  const absl::StatusOr<ProgramRun> run =
      RunProgram({program, contender.asked_for_version}, "/");
  if (!run.ok()) return "";
  return VersionIn(absl::StrCat(run->out, "\n", run->err));
}

class Bench {
 public:
  Bench(const BenchOptions& options, std::string folder,
        const BenchWatch& watch)
      : options_(options),
        folder_(std::move(folder)),
        watch_(watch),
        measurer_({.quick = options.quick, .go_on = watch.go_on}) {}

  absl::StatusOr<BenchReport> Run() {
    Choose();
    if (chosen_.empty()) {
      return absl::NotFoundError(
          "none of the contenders is on this machine, nor beside this program; "
          "`bazel run //tools:bench` builds and finds those of this project");
    }
    std::mt19937_64 random(options_.seed);
    for (int round = 0; round < options_.rounds; ++round) {
      std::vector<size_t> order(chosen_.size());
      for (size_t i = 0; i < order.size(); ++i) order[i] = i;
      std::shuffle(order.begin(), order.end(), random);
      for (size_t i = 0; i < order.size(); ++i) {
        Say(round, chosen_[order[i]].contender.name);
        if (absl::Status s = MeasureOne(round, order[i]); !s.ok()) return s;
      }
      if (MeasuresCpu()) {
        std::shuffle(order.begin(), order.end(), random);
        if (absl::Status s = ProcessCpu(round, order); !s.ok()) return s;
      }
    }
    return std::move(report_);
  }

 private:
  void Choose() {
    report_.rounds = options_.rounds;
    report_.seed = options_.seed;
    report_.quick = options_.quick;
    for (const Contender& contender : AllContenders()) {
      const std::optional<std::string> program = Locate(contender);
      if (!options_.only.empty() &&
          !absl::c_linear_search(options_.only, contender.name)) {
        continue;
      }
      if (!program.has_value()) {
        report_.absent.push_back(
            {.name = contender.name,
             .why = contender.package.empty()
                        ? absl::StrCat("there is no ", contender.program)
                        : absl::StrCat("not installed; Debian has it in ",
                                       contender.package)});
        continue;
      }
      const Places places = {.program = *program};
      report_.servers.push_back(
          {.name = contender.name,
           .origin = contender.origin,
           .design = contender.design,
           .command = absl::StrJoin(CommandOf(contender, places), " "),
           .config = ConfigOf(contender, places),
           .version = VersionOf(contender, *program)});
      chosen_.push_back({contender, *program});
    }
    for (const MeasureKind& kind : AllMeasures()) {
      const std::string id(kind.id);
      if (!options_.measures.empty() &&
          !absl::c_linear_search(options_.measures, id)) {
        continue;
      }
      ids_.insert(id);
      BenchReport::Measure measure = {.id = id,
                                      .title = std::string(kind.title),
                                      .how = std::string(kind.how),
                                      .unit = kind.unit,
                                      .better = kind.better};
      for (const Located& located : chosen_) {
        measure.rows.push_back(
            {.server = located.contender.name,
             .samples = Samples(static_cast<size_t>(options_.rounds))});
      }
      report_.measures.push_back(std::move(measure));
    }
    began_ = MonotonicNow();
  }

  void Say(int round, std::string_view what) {
    const auto ours = static_cast<size_t>(
        absl::c_count_if(chosen_, [](const Located& located) {
          return located.contender.origin != Origin::kPeer;
        }));
    const size_t all = static_cast<size_t>(options_.rounds) *
                       (chosen_.size() + (MeasuresCpu() ? ours : 0));
    std::string left;
    if (turn_ > 0) {
      const absl::Duration each = (MonotonicNow() - began_) / turn_;
      left = absl::StrCat(", ",
                          absl::FormatDuration(absl::Ceil(each * (all - turn_),
                                                          absl::Seconds(1))),
                          " left");
    }
    watch_.say(absl::StrCat("round ", round + 1, " of ", options_.rounds, ": ",
                            what, " (", turn_, " of ", all, left, ")"));
    ++turn_;
  }

  void Put(int round, size_t who, std::string_view id, const Figure& figure) {
    for (BenchReport::Measure& measure : report_.measures) {
      if (measure.id != id) continue;
      BenchReport::Row& row = measure.rows[who];
      row.samples[static_cast<size_t>(round)] = figure.value;
      row.generator_was_busy += figure.generator_was_busy ? 1 : 0;
      if (!figure.failure.empty()) row.failure = figure.failure;
    }
  }

  absl::StatusOr<StartedServer> Start(const Located& located) {
    const std::string folder = absl::StrCat(folder_, "/", ++started_);
    std::error_code error;
    std::filesystem::create_directory(folder, error);
    if (error) return absl::UnavailableError(error.message());
    return StartedServer::Start(located.contender, located.program, folder);
  }

  absl::Status MeasureOne(int round, size_t who) {
    const auto fail = [&](std::string_view why) {
      for (const std::string& id : ids_) {
        if (id == kProcessCpu || id == kProcessControl) continue;
        Put(round, who, id, {.failure = std::string(why)});
      }
    };
    if (!watch_.go_on()) return absl::CancelledError("stopped");
    if (absl::c_all_of(ids_, [](std::string_view id) {
          return id == kProcessCpu || id == kProcessControl;
        })) {
      return absl::OkStatus();
    }
    absl::StatusOr<StartedServer> server = Start(chosen_[who]);
    if (!server.ok()) {
      fail(server.status().message());
      return absl::OkStatus();
    }
    std::set<std::string> ids = ids_;
    // A crowd takes most of the time, so a quick run has one figure of it.
    if (options_.quick && round > 0) {
      ids.erase("with_1000_idle");
      ids.erase("idle_memory");
    }
    const absl::StatusOr<Figures> figures =
        measurer_.Measure(*server, chosen_[who].contender, ids);
    const absl::StatusOr<absl::Duration> stopped = std::move(*server).Stop();
    if (!figures.ok()) {
      if (absl::IsCancelled(figures.status())) return figures.status();
      fail(figures.status().message());
      return absl::OkStatus();
    }
    for (const auto& [id, figure] : *figures) Put(round, who, id, figure);
    if (!stopped.ok()) fail(stopped.status().message());
    return absl::OkStatus();
  }

  bool MeasuresCpu() const {
    return ids_.contains(std::string(kProcessCpu)) ||
           ids_.contains(std::string(kProcessControl));
  }

  absl::StatusOr<absl::Duration> CpuOf(const Located& located) {
    absl::StatusOr<StartedServer> server = Start(located);
    if (!server.ok()) return server.status();
    const absl::Status loaded = measurer_.LoadForProcessCpu(*server);
    const absl::StatusOr<absl::Duration> cpu = std::move(*server).Stop();
    return loaded.ok() ? cpu : loaded;
  }

  absl::Status ProcessCpu(int round, const std::vector<size_t>& order) {
    std::map<size_t, double> used;
    std::optional<double> without;
    for (const size_t who : order) {
      if (chosen_[who].contender.origin == Origin::kPeer) continue;
      if (!watch_.go_on()) return absl::CancelledError("stopped");
      Say(round, absl::StrCat("what it costs ", chosen_[who].contender.name));
      const absl::StatusOr<absl::Duration> cpu = CpuOf(chosen_[who]);
      if (absl::IsCancelled(cpu.status())) return cpu.status();
      if (!cpu.ok()) {
        const std::string why(cpu.status().message());
        Put(round, who, kProcessCpu, {.failure = why});
        Put(round, who, kProcessControl, {.failure = why});
        continue;
      }
      used[who] = absl::ToDoubleSeconds(*cpu);
      Put(round, who, kProcessCpu, {.value = used[who]});
      if (chosen_[who].contender.name == kWithoutProcesses) {
        without = used[who];
      }
    }
    for (const auto& [who, seconds] : used) {
      Put(round, who, kProcessControl, Beyond(who, seconds, without));
    }
    return absl::OkStatus();
  }

  Figure Beyond(size_t who, double seconds, std::optional<double> without) {
    if (chosen_[who].contender.name == kWithoutProcesses) return {};
    if (!without.has_value()) {
      return {.failure = absl::StrCat(kWithoutProcesses, " has no figure")};
    }
    return {.value = std::max(0.0, seconds - *without)};
  }

  const BenchOptions& options_;
  std::string folder_;
  const BenchWatch& watch_;
  Measurer measurer_;
  BenchReport report_;
  std::vector<Located> chosen_;
  std::set<std::string> ids_;
  absl::Duration began_;
  int started_ = 0;
  size_t turn_ = 0;
};

}  // namespace

absl::StatusOr<BenchReport> RunBench(const BenchOptions& options,
                                     const std::string& folder,
                                     const BenchWatch& watch) {
  return Bench(options, folder, watch).Run();
}

}  // namespace brood
