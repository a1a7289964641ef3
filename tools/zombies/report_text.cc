// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/zombies/report_text.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/process_table.h"
#include "brood/server/json_string.h"
#include "brood/server/wrapped_text.h"
#include "brood/tools/zombies/cure.h"
#include "brood/tools/zombies/zombie_watch.h"

namespace brood {
namespace {

constexpr size_t kMostRows = 10;

std::string Count(size_t n, std::string_view one, std::string_view many) {
  return absl::StrCat(n, " ", n == 1 ? one : many);
}

std::string Name(const Process& process) {
  return absl::CHexEscape(process.name);
}

std::string InUtc(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", time, absl::UTCTimeZone());
}

// To two units: nobody asks for the seconds of a day.
std::string InWords(absl::Duration time) {
  time = std::max(time, absl::ZeroDuration());
  if (time < absl::Seconds(1)) {
    return absl::FormatDuration(absl::Trunc(time, absl::Milliseconds(1)));
  }
  const int64_t seconds = absl::ToInt64Seconds(time);
  if (seconds < 60) return absl::StrCat(seconds, "s");
  if (seconds < 3600) return absl::StrCat(seconds / 60, "m", seconds % 60, "s");
  const int64_t hours = seconds / 3600;
  if (hours < 24) return absl::StrCat(hours, "h", seconds % 3600 / 60, "m");
  return absl::StrCat(hours / 24, "d", hours % 24, "h");
}

std::string Ending(const Process& zombie, const ReportStyle& style) {
  if (zombie.wait_status == 0 && !style.endings_known)
    return "exited 0, or hidden";
  return ExitStatus::FromWaitStatus(zombie.wait_status).ToString();
}

// How long it has been one; nothing of one that was seen once.
std::string Age(const FoundZombie& zombie) {
  if (zombie.age == absl::ZeroDuration()) return "";
  return absl::StrCat("at least ", InWords(zombie.age));
}

std::string Heading(const ZombieParent& parent, absl::Duration now) {
  if (!parent.process.has_value()) {
    return parent.pid == 0
               ? "a parent outside of this pid namespace"
               : absl::StrCat("a parent that is not seen, pid ", parent.pid);
  }
  return absl::StrCat(Name(*parent.process), ", pid ", parent.pid, ", started ",
                      InWords(now - parent.process->start), " ago");
}

void AppendSummary(const ZombieReport& report, std::string& text) {
  if (report.zombies == 0) {
    absl::StrAppend(&text, "no zombie among ",
                    Count(report.processes, "process", "processes"), "\n");
    return;
  }
  absl::StrAppend(&text, Count(report.zombies, "zombie", "zombies"), " of ",
                  Count(report.parents.size(), "parent", "parents"), ", among ",
                  Count(report.processes, "process", "processes"), "\n");
}

void AppendCure(const ZombieParent& parent, size_t indent,
                const ReportStyle& style, std::string& text) {
  if (parent.signals.has_value()) {
    absl::StrAppend(&text, std::string(indent, ' '),
                    "SIGCHLD: ", SigchldInWords(parent), "\n");
  }
  AppendWrapped(CureInWords(parent), {.indent = indent, .width = style.width},
                text);
}

void AppendMore(const ZombieParent& parent, std::string_view indent,
                std::string& text) {
  if (parent.zombies.size() <= kMostRows) return;
  absl::StrAppend(&text, indent, "and ", parent.zombies.size() - kMostRows,
                  " more (--output=json has all)\n");
}

void AppendTable(const ZombieReport& report, const ReportStyle& style,
                 std::string& text) {
  for (const ZombieParent& parent : report.parents) {
    absl::StrAppend(&text, "\n", Heading(parent, report.now), ": ",
                    Count(parent.zombies.size(), "zombie", "zombies"), "\n");
    AppendCure(parent, 2, style, text);
    absl::StrAppendFormat(&text, "\n  %8s  %-15s  %-12s  %-16s  %s\n", "PID",
                          "NAME", "STARTED", "ZOMBIE", "ENDED");
    for (size_t i = 0; i < std::min(kMostRows, parent.zombies.size()); ++i) {
      const FoundZombie& zombie = parent.zombies[i];
      const Process& process = zombie.process;
      absl::StrAppendFormat(
          &text, "  %8d  %-15s  %-12s  %-16s  %s\n", process.pid, Name(process),
          absl::StrCat(InWords(report.now - process.start), " ago"),
          zombie.age == absl::ZeroDuration() ? "seen once" : Age(zombie),
          Ending(process, style));
    }
    AppendMore(parent, "            ", text);
  }
}

// Draws the ancestors, and below each parent its zombies.
class Tree {
 public:
  Tree(const ZombieReport& report, const ReportStyle& style)
      : report_(report), style_(style) {
    for (const Process& process : report.ancestors) Add(process);
    for (const ZombieParent& parent : report.parents) {
      parents_[parent.pid] = &parent;
      if (parent.process.has_value()) Add(*parent.process);
    }
  }

  std::string Draw() {
    for (const auto& [pid, process] : nodes_) {
      if (!nodes_.contains(process->parent_pid)) DrawNode(*process, "", "");
    }
    for (const auto& [pid, parent] : parents_) {
      if (parent->process.has_value()) continue;
      absl::StrAppend(&text_, Heading(*parent, report_.now), "\n");
      DrawZombies(*parent, "");
    }
    return text_;
  }

 private:
  void Add(const Process& process) { nodes_[process.pid] = &process; }

  // `first` is before its own line, `rest` before those below.
  void DrawNode(const Process& process, const std::string& first,
                const std::string& rest) {
    absl::StrAppend(&text_, first, Name(process), " (", process.pid, ")");
    const auto parent = parents_.find(process.pid);
    if (parent != parents_.end()) {
      absl::StrAppend(
          &text_, ": ",
          Count(parent->second->zombies.size(), "zombie", "zombies"));
    }
    absl::StrAppend(&text_, "\n");
    std::vector<const Process*> below;
    for (const auto& [pid, node] : nodes_) {
      if (node->parent_pid == process.pid) below.push_back(node);
    }
    const bool has_zombies = parent != parents_.end();
    for (size_t i = 0; i < below.size(); ++i) {
      const bool last = i + 1 == below.size() && !has_zombies;
      DrawNode(*below[i], absl::StrCat(rest, last ? "`- " : "|- "),
               absl::StrCat(rest, last ? "   " : "|  "));
    }
    if (has_zombies) DrawZombies(*parent->second, rest);
  }

  void DrawZombies(const ZombieParent& parent, const std::string& indent) {
    const size_t shown = std::min(kMostRows, parent.zombies.size());
    for (size_t i = 0; i < shown; ++i) {
      const FoundZombie& zombie = parent.zombies[i];
      const bool last = i + 1 == parent.zombies.size();
      const std::string age = Age(zombie);
      absl::StrAppend(&text_, indent, last ? "`- " : "|- ",
                      Name(zombie.process), " (", zombie.process.pid,
                      "): zombie", age.empty() ? "" : " for ", age, ", ",
                      Ending(zombie.process, style_), "\n");
    }
    AppendMore(parent, absl::StrCat(indent, "`- "), text_);
  }

  const ZombieReport& report_;
  const ReportStyle& style_;
  std::map<pid_t, const Process*> nodes_;
  std::map<pid_t, const ZombieParent*> parents_;
  std::string text_;
};

void AppendTree(const ZombieReport& report, const ReportStyle& style,
                std::string& text) {
  if (report.zombies == 0) return;
  absl::StrAppend(&text, "\n", Tree(report, style).Draw());
  for (const ZombieParent& parent : report.parents) {
    absl::StrAppend(&text, "\n", Heading(parent, report.now), ":\n");
    AppendCure(parent, 2, style, text);
  }
}

// What the reader should know besides, a paragraph each.
std::vector<std::string> Remarks(const ZombieReport& report) {
  std::vector<std::string> remarks;
  if (report.young > 0) {
    remarks.push_back(absl::StrCat(
        Count(report.young, "zombie is", "zombies are"),
        " not counted: not seen for --min_age yet, and perhaps about to be "
        "reaped."));
  }
  for (const Process& process : report.headless) {
    remarks.push_back(absl::StrCat(
        Name(process), ", pid ", process.pid,
        ", looks like a zombie and is none: its first thread has ended, and ",
        process.thread_count - 1,
        process.thread_count == 2 ? " other runs on." : " others run on."));
  }
  if (report.some_hidden) {
    remarks.push_back(
        "Processes of other users are hidden from this one (/proc is mounted "
        "with hidepid). Look as root to see all.");
  }
  return remarks;
}

// Writes objects and arrays; each value comes after its comma.
class Json {
 public:
  Json& Key(std::string_view name) {
    Comma();
    AppendJsonString(name, text_);
    text_.push_back(':');
    return *this;
  }
  void String(std::string_view value) { AppendJsonString(value, text_); }
  void Number(int64_t value) { absl::StrAppend(&text_, value); }
  void Bool(bool value) { absl::StrAppend(&text_, value ? "true" : "false"); }
  void Null() { absl::StrAppend(&text_, "null"); }
  void Seconds(absl::Duration value) {
    absl::StrAppendFormat(&text_, "%.3f", absl::ToDoubleSeconds(value));
  }
  void Open(char bracket) {
    if (bracket == '{') Comma();
    text_.push_back(bracket);
  }
  void Close(char bracket) { text_.push_back(bracket); }
  std::string Take() { return std::move(text_); }

 private:
  void Comma() {
    if (text_.empty() || text_.back() == '{' || text_.back() == '[' ||
        text_.back() == ':') {
      return;
    }
    text_.push_back(',');
  }

  std::string text_;
};

void AppendProcess(const Process& process, absl::Duration now, Json& json) {
  json.Key("pid").Number(process.pid);
  json.Key("name").String(process.name);
  json.Key("started_seconds_ago").Seconds(now - process.start);
}

void AppendParent(const ZombieParent& parent, const ZombieReport& report,
                  const ReportStyle& style, Json& json) {
  json.Open('{');
  if (parent.process.has_value()) {
    AppendProcess(*parent.process, report.now, json);
    json.Key("parent_pid").Number(parent.process->parent_pid);
  } else {
    json.Key("pid").Number(parent.pid);
    json.Key("name").Null();
    json.Key("started_seconds_ago").Null();
    json.Key("parent_pid").Null();
  }
  json.Key("sigchld").String(SigchldInWords(parent));
  json.Key("cure").String(CureInWords(parent));
  json.Key("zombies").Open('[');
  for (const FoundZombie& zombie : parent.zombies) {
    json.Open('{');
    AppendProcess(zombie.process, report.now, json);
    json.Key("zombie_for_at_least_seconds").Seconds(zombie.age);
    json.Key("ended").String(Ending(zombie.process, style));
    json.Close('}');
  }
  json.Close(']');
  json.Close('}');
}

}  // namespace

std::string ReportText(const ZombieReport& report, const ReportStyle& style) {
  std::string text;
  AppendSummary(report, text);
  if (style.tree) {
    AppendTree(report, style, text);
  } else {
    AppendTable(report, style, text);
  }
  for (const std::string& remark : Remarks(report)) {
    text.push_back('\n');
    AppendWrapped(remark, {.width = style.width}, text);
  }
  return text;
}

std::string ReportLine(const ZombieReport& report) {
  std::string line = absl::StrCat(InUtc(report.time), " ",
                                  Count(report.zombies, "zombie", "zombies"));
  std::string_view separator = ": ";
  for (const ZombieParent& parent : report.parents) {
    absl::StrAppend(
        &line, separator, parent.zombies.size(), " of ",
        parent.process.has_value() ? Name(*parent.process) : "(not seen)", " (",
        parent.pid, ")");
    separator = ", ";
  }
  if (report.young > 0) {
    absl::StrAppend(&line, "; ", report.young, " not counted yet");
  }
  if (report.some_hidden) {
    absl::StrAppend(&line, "; other users' processes are hidden");
  }
  return line;
}

std::string ReportJson(const ZombieReport& report, const ReportStyle& style) {
  Json json;
  json.Open('{');
  json.Key("time").String(InUtc(report.time));
  json.Key("zombies").Number(static_cast<int64_t>(report.zombies));
  json.Key("too_young").Number(static_cast<int64_t>(report.young));
  json.Key("processes").Number(static_cast<int64_t>(report.processes));
  json.Key("others_hidden").Bool(report.some_hidden);
  json.Key("parents").Open('[');
  for (const ZombieParent& parent : report.parents) {
    AppendParent(parent, report, style, json);
  }
  json.Close(']');
  json.Key("first_thread_ended").Open('[');
  for (const Process& process : report.headless) {
    json.Open('{');
    AppendProcess(process, report.now, json);
    json.Key("threads").Number(process.thread_count);
    json.Close('}');
  }
  json.Close(']');
  json.Close('}');
  return json.Take();
}

}  // namespace brood
