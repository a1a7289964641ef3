// SPDX-License-Identifier: Apache-2.0
//
// Measurer measures one running server, each thing for a short time.
//
//   absl::StatusOr<Figures> HowFast(const StartedServer& server,
//                                   const Contender& contender) {
//     const Measurer measurer({.quick = true, .go_on = [] { return true; }});
//     return measurer.Measure(server, contender, {"connections"});
//   }
//
// What it is not: a comparison, or a round; see bench_run.h.
//
// Errors: Cancelled once go_on() is false. What befalls one measure is the
// `failure` of its figure.
//
// Threads: one. Signals: none used. Fork: none; the server's children are
// watched, not touched.
// Rests on: load_run.h, idle_crowd.h, pidfd_open(2), proc(5).
#ifndef BROOD_TOOLS_BENCH_MEASURES_H_
#define BROOD_TOOLS_BENCH_MEASURES_H_

#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brood/tools/bench/contender.h"
#include "brood/tools/bench/started_server.h"
#include "brood/tools/load/load_plan.h"
#include "brood/tools/load/load_result.h"

namespace brood {

struct Figure {
  std::optional<double> value = std::nullopt;  // In its measure's unit.
  bool generator_was_busy = false;
  std::string failure = {};
};
using Figures = std::map<std::string, Figure>;  // By id of measure_list.h.

class Measurer {
 public:
  struct Effort {
    bool quick = false;
    // Asked about ten times a second.
    std::function<bool()> go_on;
  };

  explicit Measurer(Effort effort) : effort_(std::move(effort)) {}

  // Those of `ids` that can be measured while the server runs: all but
  // process_cpu and process_control. What does not apply to the contender says
  // so instead of a figure.
  absl::StatusOr<Figures> Measure(const StartedServer& server,
                                  const Contender& contender,
                                  const std::set<std::string>& ids) const;

  // The load of process_cpu; what it costs Stop() of the server says.
  absl::Status LoadForProcessCpu(const StartedServer& server) const;

 private:
  absl::StatusOr<LoadResult> Run(const LoadPlan& plan) const;
  LoadPlan PlanFor(const StartedServer& server) const;
  absl::Status Connections(const StartedServer& server, Figures& figures) const;
  absl::StatusOr<Figure> PingPong(const StartedServer& server, size_t size,
                                  bool bytes) const;
  absl::StatusOr<Figure> ReapLatency(const StartedServer& server) const;
  absl::StatusOr<Figure> Zombies(const StartedServer& server,
                                 size_t before) const;
  absl::Status Crowds(const StartedServer& server,
                      const std::set<std::string>& ids, Figures& figures) const;

  Effort effort_;
};

}  // namespace brood

#endif  // BROOD_TOOLS_BENCH_MEASURES_H_
