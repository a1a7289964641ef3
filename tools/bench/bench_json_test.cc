// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/bench_json.h"

#include <cmath>
#include <fstream>
#include <optional>
#include <string>

#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/spawn.h"
#include "brood/tests/find_program.h"
#include "brood/tools/bench/bench_report.h"
#include "brood/tools/bench/contender.h"
#include "brood/tools/bench/made_up_report.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;

bool WriteJson(const BenchReport& report, const std::string& path) {
  return static_cast<bool>(std::ofstream(path) << JsonOf(report));
}

// Reads it with a stranger's parser, and asks it a few things.
constexpr char kReader[] = R"(
import json, sys
r = json.load(open(sys.argv[1], encoding='utf-8'))
assert r['seed'] == '18446744073709551615'
assert r['machine']['processor'].startswith('Processor <script>')
m = r['measures'][0]
assert m['rows'][5]['samples'] == [900, None, 1200, 950, 980]
assert m['rows'][5]['median'] == 965
assert m['rows'][8]['median'] is None
assert m['rows'][8]['failure'] == 'xinetd: <fatal> "cannot" bind\n'
assert r['measures'][1]['rows'][0]['samples'][0] == 0.000146
of = {(c['first'], c['second']): c for c in m['comparisons']}
assert not of[('brood-fork', 'floor-fork')]['too_close']
assert of[('brood-cat', 'tcpserver')]['too_close']
assert ('brood-fork', 'brood-cat') not in of
assert len(m['comparisons']) == 15 + 1 + 1
)";

TEST(BenchJsonTest, HeaderExampleIsReadByAnotherProgram) {
  const std::string path = absl::StrCat(testing::TempDir(), "/report.json");
  ASSERT_TRUE(WriteJson(MadeUpReport(), path));
  const std::optional<std::string> python = FindProgram("python3");
  if (!python.has_value()) GTEST_SKIP() << NoProgram("python3");
  absl::StatusOr<Child> reader =
      Spawn({*python, "-E", "-S", "-c", kReader, path});
  ASSERT_THAT(reader, IsOk());
  EXPECT_THAT(reader->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(BenchJsonTest, ALittleReportInFull) {
  BenchReport report = {
      .machine = {.kernel = "Linux 6.18"}, .rounds = 3, .seed = 7};
  report.servers = {{.name = "a", .origin = Origin::kBrood, .command = "a -x"},
                    {.name = "b", .config = "c\n", .version = "1.0"}};
  report.left_out = {"e"};
  report.machine.before.average = 0.5;
  report.machine.after.pressure = 7;
  report.absent = {{.name = "d", .why = "\"no\""}};
  report.measures = {{.id = "zombies",
                      .title = "Zombies",
                      .how = "Counted.",
                      .unit = Unit::kCount,
                      .better = Better::kLess}};
  report.measures[0].rows = {
      {.server = "a", .samples = {0.1, std::nullopt, HUGE_VAL}},
      {.server = "b", .generator_was_busy = 1, .failure = "gone"}};
  EXPECT_EQ(JsonOf(report),
            R"({"machine":{"processor":"","processors":0,"memory_bytes":0,)"
            R"("kernel":"Linux 6.18","date":"","commit":"","command":"",)"
            R"("load_before":{"average":0.5,"pressure_percent":null},)"
            R"("load_after":{"average":null,"pressure_percent":7}},)"
            R"("rounds":3,"seed":"7","quick":false,"servers":[
{"name":"a","origin":"brood","design":"a process for each connection","command":"a -x","config":"","version":""},
{"name":"b","origin":"peer","design":"a process for each connection","command":"","config":"c\u000a","version":"1.0"}
],"absent":[
{"name":"d","why":"\"no\""}
],"left_out":[
"e"
],"measures":[
{"id":"zombies","title":"Zombies","how":"Counted.","unit":"count","better":"less",)"
            R"("finding":"a: unknown, and nobody to compare it with","rows":[
{"server":"a","samples":[0.1,null,null],"median":null,"least":0.1,"greatest":null,"generator_was_busy":0,"failure":""},
{"server":"b","samples":[],"median":null,"least":null,"greatest":null,"generator_was_busy":1,"failure":"gone"}
],"comparisons":[

]}
]}
)");
}

TEST(BenchJsonTest, NoneAgainstSomeIsARatioThatIsNotKnown) {
  BenchReport report;
  report.servers = {{.name = "a"}, {.name = "b"}};
  report.measures = {{.id = "zombies"}};
  report.measures[0].rows = {{.server = "a", .samples = {9, 8, 9}},
                             {.server = "b", .samples = {0, 0, 0}}};
  EXPECT_TRUE(absl::StrContains(JsonOf(report),
                                R"("ratio":null,"too_few_rounds":false,)"
                                R"("too_close":false)"));
}

}  // namespace
}  // namespace brood
