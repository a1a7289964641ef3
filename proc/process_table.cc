// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/process_table.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "brood/proc/posix.h"
#include "brood/proc/read_file.h"

namespace brood {
namespace {

// Where each field of /proc/PID/stat stands among those after the name.
// proc(5) counts from 1, and the state is its third.
enum StatField : size_t {
  kState = 0,
  kParentPid = 1,
  kProcessGroup = 2,
  kSession = 3,
  kUserTicks = 11,
  kSystemTicks = 12,
  kThreadCount = 17,
  kStartTicks = 19,
  kResidentPages = 21,
  kExitSignal = 35,
  kExitCode = 49,
  kFieldsNeeded = 50,
};

// The numbers of one line, and whether all that were asked for were numbers.
class Fields {
 public:
  explicit Fields(std::string_view text)
      : fields_(absl::StrSplit(absl::StripTrailingAsciiWhitespace(text), ' ')) {
  }

  bool ok() const { return ok_ && fields_.size() >= kFieldsNeeded; }

  template <typename Number>
  Number At(StatField field) {
    Number value = 0;
    if (field >= fields_.size() || !absl::SimpleAtoi(fields_[field], &value)) {
      ok_ = false;
    }
    return value;
  }

  char LetterAt(StatField field) {
    if (field < fields_.size() && fields_[field].size() == 1) {
      return fields_[field].front();
    }
    ok_ = false;
    return '?';
  }

 private:
  std::vector<std::string_view> fields_;
  bool ok_ = true;
};

absl::Duration FromTicks(uint64_t ticks) {
  static const uint64_t per_second =
      static_cast<uint64_t>(std::max(sysconf(_SC_CLK_TCK), 1L));
  // Seconds and rest apart: no number of ticks overflows.
  return absl::Seconds(static_cast<int64_t>(std::min<uint64_t>(
             ticks / per_second, std::numeric_limits<int64_t>::max()))) +
         absl::Seconds(static_cast<int64_t>(ticks % per_second)) /
             static_cast<int64_t>(per_second);
}

int64_t FromPages(uint64_t pages) {
  static const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();
  return static_cast<int64_t>(pages > kMost / page ? kMost : pages * page);
}

absl::Status NotStat(std::string_view text) {
  return absl::DataLossError(
      absl::StrCat("not a line of /proc/PID/stat: \"", text, "\""));
}

struct CloseDirectory {
  void operator()(DIR* directory) const { (void)closedir(directory); }
};

// Calls `visit` with the directory's descriptor and each entry that is a
// positive number.
absl::Status ForEachNumber(
    const std::string& path,
    absl::FunctionRef<absl::Status(int directory, pid_t number)> visit) {
  const std::unique_ptr<DIR, CloseDirectory> directory(opendir(path.c_str()));
  if (directory == nullptr) {
    return ErrnoStatus(errno, absl::StrCat("open ", path));
  }
  while (true) {
    errno = 0;
    const dirent* entry = readdir(directory.get());
    if (entry == nullptr) {
      // The directory of a process's threads goes with the process.
      if (errno == 0) return absl::OkStatus();
      return ErrnoStatus(errno, absl::StrCat("list ", path));
    }
    pid_t number;
    if (!absl::SimpleAtoi(entry->d_name, &number) || number <= 0) continue;
    const absl::Status status = visit(dirfd(directory.get()), number);
    if (!status.ok()) return status;
  }
}

absl::StatusOr<Process> ReadStat(int directory, const std::string& path) {
  absl::StatusOr<std::string> stat = ReadFile(directory, path);
  if (!stat.ok()) return stat.status();
  return Process::Parse(*stat);
}

}  // namespace

absl::StatusOr<Process> Process::Parse(std::string_view stat) {
  // The name may hold ") Z 1" and a newline, but only numbers follow it, so the
  // last parenthesis is the one that ends it.
  const size_t open = stat.find(" (");
  const size_t close = stat.rfind(") ");
  Process process;
  if (open == stat.npos || close == stat.npos || close < open + 2 ||
      !absl::SimpleAtoi(stat.substr(0, open), &process.pid) ||
      process.pid <= 0) {
    return NotStat(stat);
  }
  process.name = stat.substr(open + 2, close - open - 2);
  Fields fields(stat.substr(close + 2));
  process.state = static_cast<ProcessState>(fields.LetterAt(kState));
  process.parent_pid = fields.At<pid_t>(kParentPid);
  process.process_group = fields.At<pid_t>(kProcessGroup);
  process.session = fields.At<pid_t>(kSession);
  process.user_time = FromTicks(fields.At<uint64_t>(kUserTicks));
  process.system_time = FromTicks(fields.At<uint64_t>(kSystemTicks));
  process.thread_count = fields.At<int64_t>(kThreadCount);
  process.start = FromTicks(fields.At<uint64_t>(kStartTicks));
  process.resident_bytes = FromPages(fields.At<uint64_t>(kResidentPages));
  process.exit_signal = fields.At<int>(kExitSignal);
  process.wait_status = fields.At<int>(kExitCode);
  if (!fields.ok()) return NotStat(stat);
  return process;
}

absl::Duration SinceBoot() {
  timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);  // Cannot fail on Linux.
  return absl::DurationFromTimespec(now);
}

absl::Duration Process::Age() const { return SinceBoot() - start; }

absl::StatusOr<SignalState> SignalState::Parse(std::string_view status) {
  SignalState state;
  int found = 0;
  // The name comes first, and the kernel writes a newline in it as "\n", so no
  // name can look like a line.
  for (const std::string_view line : absl::StrSplit(status, '\n')) {
    const auto take = [&](std::string_view key, uint64_t& set) {
      std::string_view value = line;
      if (!absl::ConsumePrefix(&value, key)) return;
      uint64_t bits = 0;
      if (!absl::SimpleHexAtoi(value, &bits)) return;
      set |= bits;
      ++found;
    };
    take("SigPnd:", state.pending);
    take("ShdPnd:", state.pending);
    take("SigBlk:", state.blocked);
    take("SigIgn:", state.ignored);
    take("SigCgt:", state.handled);
  }
  if (found != 5) {
    return absl::DataLossError(
        "not the lines of /proc/PID/status: SigPnd, ShdPnd, SigBlk, SigIgn and "
        "SigCgt are not each there once");
  }
  return state;
}

absl::StatusOr<Process> ProcessTable::Read(pid_t pid) const {
  return ReadStat(AT_FDCWD, absl::StrCat(root_, "/", pid, "/stat"));
}

absl::StatusOr<SignalState> ProcessTable::Signals(pid_t pid) const {
  absl::StatusOr<std::string> text =
      ReadFile(AT_FDCWD, absl::StrCat(root_, "/", pid, "/status"));
  if (!text.ok()) return text.status();
  return SignalState::Parse(*text);
}

absl::StatusOr<std::vector<Process>> ProcessTable::List() const {
  std::vector<Process> processes;
  const absl::Status listed =
      ForEachNumber(root_, [&](int directory, pid_t pid) {
        absl::StatusOr<Process> process =
            ReadStat(directory, absl::StrCat(pid, "/stat"));
        if (process.ok()) {
          processes.push_back(*std::move(process));
        } else if (!absl::IsNotFound(process.status())) {
          return process.status();
        }
        return absl::OkStatus();
      });
  if (!listed.ok()) return listed;
  std::sort(processes.begin(), processes.end(),
            [](const Process& a, const Process& b) { return a.pid < b.pid; });
  return processes;
}

absl::StatusOr<std::vector<pid_t>> ProcessTable::ChildrenOf(pid_t pid) const {
  const std::string task = absl::StrCat(root_, "/", pid, "/task");
  std::vector<pid_t> children;
  // Each thread has the children that it started, but to wait for them is the
  // right of all.
  absl::Status read = ForEachNumber(task, [&](int directory, pid_t thread) {
    absl::StatusOr<std::string> text =
        ReadFile(directory, absl::StrCat(thread, "/children"));
    if (!text.ok()) {
      // A thread that ended meanwhile; the first one's directory stays until
      // the process is reaped.
      if (absl::IsNotFound(text.status()) && thread != pid) {
        return absl::OkStatus();
      }
      return text.status();
    }
    for (const std::string_view word :
         absl::StrSplit(*text, absl::ByAnyChar(" \n"), absl::SkipEmpty())) {
      pid_t child;
      if (!absl::SimpleAtoi(word, &child)) {
        return absl::DataLossError(
            absl::StrCat("not a pid in ", task, ": \"", word, "\""));
      }
      children.push_back(child);
    }
    return absl::OkStatus();
  });
  if (absl::IsNotFound(read)) {
    // Either the process is gone, or the kernel is without
    // CONFIG_PROC_CHILDREN.
    if (const absl::StatusOr<Process> self = Read(pid); !self.ok()) {
      return self.status();
    }
    absl::StatusOr<std::vector<Process>> all = List();
    if (!all.ok()) return all.status();
    children.clear();
    for (const Process& process : *all) {
      if (process.parent_pid == pid) children.push_back(process.pid);
    }
    return children;
  }
  if (!read.ok()) return read;
  // A child of a thread that ends meanwhile is read with its next parent again.
  std::sort(children.begin(), children.end());
  children.erase(std::unique(children.begin(), children.end()), children.end());
  return children;
}

absl::StatusOr<std::vector<ZombieFamily>> ProcessTable::Zombies() const {
  absl::StatusOr<std::vector<Process>> all = List();
  if (!all.ok()) return all.status();
  std::map<pid_t, ZombieFamily> families;
  for (const Process& process : *all) {
    if (process.zombie()) {
      families[process.parent_pid].zombies.push_back(process);
    }
  }
  for (const Process& process : *all) {
    const auto family = families.find(process.pid);
    if (family != families.end()) family->second.parent = process;
  }
  std::vector<ZombieFamily> result;
  result.reserve(families.size());
  for (auto& [pid, family] : families) {
    family.parent_pid = pid;
    if (absl::StatusOr<SignalState> signals = Signals(pid); signals.ok()) {
      family.signals = *signals;
    }
    result.push_back(std::move(family));
  }
  return result;
}

}  // namespace brood
