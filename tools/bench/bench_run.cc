// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/bench_run.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <iterator>
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

// What only a crowd tells. One of ten is none.
constexpr auto kOfCrowds = std::to_array<std::string_view>(
    {"with_1000_idle", "with_10000_idle", "idle_memory"});

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
        measurer_({.quick = options.quick,
                   .go_on =
                       [this] {
                         return watch_.go_on() && Left() > absl::ZeroDuration();
                       }}),
        times_(options.quick) {}
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  absl::StatusOr<BenchReport> Run() {
    Choose();
    if (chosen_.empty()) {
      return absl::NotFoundError(
          "none of the contenders is on this machine, nor beside this program; "
          "`bazel run //tools:bench` builds and finds those of this project");
    }
    Plan();
    for (next_ = 0; next_ < turns_.size(); ++next_) {
      if (!watch_.go_on()) return absl::CancelledError("stopped");
      const Turn& turn = turns_[next_];
      if (Left() < times_.Of(turn.who, turn.kind)) {
        LeaveOut(turn);
        continue;
      }
      Say(turn);
      const absl::Duration began = MonotonicNow();
      const absl::Status status =
          turn.kind == TurnKind::kCost ? MeasureCost(turn) : MeasureOne(turn);
      if (absl::IsCancelled(status) && watch_.go_on()) {
        LeaveOut(turn);
        continue;
      }
      if (!status.ok()) return status;
      times_.Add(turn.who, turn.kind, MonotonicNow() - began);
    }
    if (ids_.contains(kProcessControl)) PutProcessControl();
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
  }

  struct Turn {
    int round;
    size_t who;
    TurnKind kind;
    std::set<std::string, std::less<>> ids;
  };

  // In each round everybody in a new order. A quick one has the crowds last of
  // all, and each once: they cost most, and if time is short they are what does
  // not fit.
  void Plan() {
    std::mt19937_64 random(options_.seed);
    std::vector<size_t> order(chosen_.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::vector<Turn> last;
    for (int round = 0; round < options_.rounds; ++round) {
      std::shuffle(order.begin(), order.end(), random);
      for (const size_t who : order) {
        Turn plain = {round, who, TurnKind::kPlain, {}};
        Turn crowd = {round, who, TurnKind::kCrowd, {}};
        for (const std::string& id : ids_) {
          if (id == kProcessCpu || id == kProcessControl) continue;
          const bool of_crowd = absl::c_linear_search(kOfCrowds, id) &&
                                !chosen_[who].contender.at_once.has_value();
          (of_crowd ? crowd : plain).ids.insert(id);
        }
        if (!options_.quick && !crowd.ids.empty()) {
          crowd.ids.merge(plain.ids);
          plain.ids.clear();
          turns_.push_back(crowd);
        }
        if (!plain.ids.empty()) turns_.push_back(plain);
        if (options_.quick && round == 0 && !crowd.ids.empty()) {
          last.push_back(crowd);
        }
      }
      if (!MeasuresCost()) continue;
      std::shuffle(order.begin(), order.end(), random);
      for (const size_t who : order) {
        if (chosen_[who].contender.origin == Origin::kPeer) continue;
        turns_.push_back(
            {round,
             who,
             TurnKind::kCost,
             {std::string(kProcessCpu), std::string(kProcessControl)}});
      }
    }
    absl::c_move(last, std::back_inserter(turns_));
  }

  absl::Duration Left() const {
    return options_.time_limit - (MonotonicNow() - began_);
  }

  std::string NameOf(const Turn& turn) const {
    const std::string& name = chosen_[turn.who].contender.name;
    switch (turn.kind) {
      case TurnKind::kPlain:
        return name;
      case TurnKind::kCrowd:
        return options_.quick ? absl::StrCat("a crowd at ", name) : name;
      case TurnKind::kCost:
        return absl::StrCat("what it costs ", name);
    }
    return name;
  }

  void LeaveOut(const Turn& turn) {
    report_.left_out.push_back(
        turn.kind == TurnKind::kCrowd && options_.quick
            ? NameOf(turn)
            : absl::StrCat(NameOf(turn), " in round ", turn.round + 1));
    Fail(turn, "left out, for there was no time left");
  }

  void Fail(const Turn& turn, std::string_view why) {
    for (const std::string& id : turn.ids) {
      Put(turn.round, turn.who, id, {.failure = std::string(why)});
    }
  }

  void Say(const Turn& turn) {
    std::string left;
    if (next_ > 0) {
      absl::Duration all = absl::ZeroDuration();
      for (size_t i = next_; i < turns_.size(); ++i) {
        all += times_.Of(turns_[i].who, turns_[i].kind);
      }
      all = absl::Ceil(std::min(all, Left()), absl::Seconds(1));
      left = absl::StrCat(", ", absl::FormatDuration(all), " left");
    }
    watch_.say(absl::StrCat("round ", turn.round + 1, " of ", options_.rounds,
                            ": ", NameOf(turn), " (", next_, " of ",
                            turns_.size(), left, ")"));
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

  absl::StatusOr<StartedServer> Start(size_t who) {
    const std::string folder = absl::StrCat(folder_, "/", ++started_);
    std::error_code error;
    std::filesystem::create_directory(folder, error);
    if (error) return absl::UnavailableError(error.message());
    const Located& located = chosen_[who];
    absl::StatusOr<StartedServer> server =
        StartedServer::Start(located.contender, located.program, folder);
    if (server.ok() && was_started_.insert(who).second) {
      report_.servers[who].command = absl::StrJoin(server->command(), " ");
      report_.servers[who].config = server->config();
    }
    return server;
  }

  absl::Status MeasureOne(const Turn& turn) {
    absl::StatusOr<StartedServer> server = Start(turn.who);
    if (!server.ok()) {
      Fail(turn, server.status().message());
      return absl::OkStatus();
    }
    const absl::StatusOr<Figures> figures =
        measurer_.Measure(*server, chosen_[turn.who].contender,
                          {turn.ids.begin(), turn.ids.end()});
    const absl::StatusOr<absl::Duration> stopped = std::move(*server).Stop();
    if (!figures.ok()) {
      if (absl::IsCancelled(figures.status())) return figures.status();
      Fail(turn, figures.status().message());
      return absl::OkStatus();
    }
    for (const auto& [id, figure] : *figures) {
      Put(turn.round, turn.who, id, figure);
    }
    if (!stopped.ok()) Fail(turn, stopped.status().message());
    return absl::OkStatus();
  }

  bool MeasuresCost() const {
    return ids_.contains(kProcessCpu) || ids_.contains(kProcessControl);
  }

  absl::StatusOr<absl::Duration> CostOf(size_t who) {
    absl::StatusOr<StartedServer> server = Start(who);
    if (!server.ok()) return server.status();
    const absl::Status loaded = measurer_.LoadForProcessCpu(*server);
    const absl::StatusOr<absl::Duration> cpu = std::move(*server).Stop();
    return loaded.ok() ? cpu : loaded;
  }

  absl::Status MeasureCost(const Turn& turn) {
    const absl::StatusOr<absl::Duration> cpu = CostOf(turn.who);
    if (absl::IsCancelled(cpu.status())) return cpu.status();
    if (!cpu.ok()) {
      Fail(turn, cpu.status().message());
      return absl::OkStatus();
    }
    const double seconds = absl::ToDoubleSeconds(*cpu);
    Put(turn.round, turn.who, kProcessCpu, {.value = seconds});
    costs_[turn.round][turn.who] = seconds;
    return absl::OkStatus();
  }

  void PutProcessControl() {
    for (const auto& [round, costs] : costs_) {
      std::optional<double> without;
      for (const auto& [who, seconds] : costs) {
        if (chosen_[who].contender.name == kWithoutProcesses) without = seconds;
      }
      for (const auto& [who, seconds] : costs) {
        Put(round, who, kProcessControl, Beyond(who, seconds, without));
      }
    }
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
  std::set<std::string, std::less<>> ids_;
  std::vector<Turn> turns_;
  size_t next_ = 0;  // The one of `turns_` that is on.
  TurnTimes times_;
  absl::Duration began_ = MonotonicNow();
  std::map<int, std::map<size_t, double>> costs_;  // By round and contender.
  std::set<size_t> was_started_;
  int started_ = 0;
};

}  // namespace

absl::StatusOr<BenchReport> RunBench(const BenchOptions& options,
                                     const std::string& folder,
                                     const BenchWatch& watch) {
  return Bench(options, folder, watch).Run();
}

}  // namespace brood
