// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/machine.h"

#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "brood/tools/bench/bench_report.h"

namespace brood {
namespace {

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string Processor() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (!absl::StartsWith(line, "model name")) continue;
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    return std::string(
        absl::StripAsciiWhitespace(std::string_view(line).substr(colon + 1)));
  }
  return "";
}

// Where git has put many branches into one file: "5c1cbdd... refs/heads/main".
std::string PackedCommit(const std::string& common, std::string_view branch) {
  std::ifstream file(absl::StrCat(common, "/packed-refs"));
  std::string line;
  while (std::getline(file, line)) {
    std::string_view commit = line;
    if (absl::ConsumeSuffix(&commit, absl::StrCat(" ", branch))) {
      return std::string(commit);
    }
  }
  return "";
}

// In a linked worktree .git is a file that says where, and branches are where
// `commondir` there says.
std::string Commit(const std::string& sources) {
  std::string git = absl::StrCat(sources, "/.git");
  const std::string link = FirstLine(git);
  if (absl::StartsWith(link, "gitdir: ")) git = link.substr(8);
  const std::string head = FirstLine(absl::StrCat(git, "/HEAD"));
  std::string_view branch = head;
  if (!absl::ConsumePrefix(&branch, "ref: ")) return head;
  const std::string common =
      absl::StrCat(git, "/", FirstLine(absl::StrCat(git, "/commondir")));
  const std::string commit = FirstLine(absl::StrCat(common, "/", branch));
  return commit.empty() ? PackedCommit(common, branch) : commit;
}

}  // namespace

BenchReport::Machine::Load LoadIn(const std::string& loadavg,
                                  const std::string& pressure) {
  BenchReport::Machine::Load load;
  double number = 0;
  if (absl::SimpleAtod(loadavg.substr(0, loadavg.find(' ')), &number)) {
    load.average = number;
  }
  constexpr std::string_view kSome = "some avg10=";
  std::string_view some = pressure;
  if (absl::ConsumePrefix(&some, kSome) &&
      absl::SimpleAtod(some.substr(0, some.find(' ')), &number)) {
    load.pressure = number;
  }
  return load;
}

BenchReport::Machine::Load LoadOfThisMachine() {
  return LoadIn(FirstLine("/proc/loadavg"), FirstLine("/proc/pressure/cpu"));
}

BenchReport::Machine ThisMachine(const std::string& sources,
                                 const std::string& command) {
  BenchReport::Machine machine = {
      .processor = Processor(),
      .processors = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)),
      .date = absl::FormatTime("%Y-%m-%d %H:%M UTC", absl::Now(),
                               absl::UTCTimeZone()),
      .commit = Commit(sources),
      .command = command};
  struct sysinfo memory = {};
  if (sysinfo(&memory) == 0) {
    machine.memory_bytes = uint64_t{memory.totalram} * memory.mem_unit;
  }
  utsname kernel = {};
  if (uname(&kernel) == 0) {
    machine.kernel = absl::StrCat(kernel.sysname, " ", kernel.release);
  }
  return machine;
}

}  // namespace brood
