// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/load/load_report.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/server/json_string.h"
#include "brood/tools/load/histogram.h"
#include "brood/tools/load/load_plan.h"
#include "brood/tools/load/load_result.h"

namespace brood {
namespace {

constexpr int kFirstFailureCode = 10;
constexpr double kBusy = 0.9;

constexpr std::array<std::pair<std::string_view, double>, 5> kQuantiles = {
    {{"p50", 0.5},
     {"p90", 0.9},
     {"p99", 0.99},
     {"p99.9", 0.999},
     {"p99.99", 0.9999}}};

// With three digits that count: "412us", "1.23ms".
std::string Short(absl::Duration duration) {
  constexpr std::array<std::pair<double, std::string_view>, 4> kUnits = {
      {{1, "ns"}, {1e3, "us"}, {1e6, "ms"}, {1e9, "s"}}};
  const double ns = absl::ToDoubleNanoseconds(duration);
  size_t unit = 0;
  // What would be rounded to 1000 is one of the next.
  while (unit + 1 < kUnits.size() && ns >= 999.5 * kUnits[unit].first) ++unit;
  const double value = ns / kUnits[unit].first;
  const int decimals = unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return absl::StrFormat("%.*f%s", decimals, value, kUnits[unit].second);
}

double PerSecond(uint64_t count, absl::Duration elapsed) {
  const double seconds = absl::ToDoubleSeconds(elapsed);
  return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

// With a rate the next connection would be due a while after the last one: ten
// at 10/s take a second, however soon the tenth was answered.
absl::Duration TimeOf(const LoadPlan& plan, const LoadResult& result) {
  if (!plan.rate.has_value()) return result.elapsed;
  const uint64_t begun = result.whole + result.failed() + result.abandoned;
  return std::max(result.elapsed,
                  absl::Seconds(static_cast<double>(begun) / *plan.rate));
}

// Of all the processors it could have used.
double ShareOf(absl::Duration part, const LoadResult& result) {
  const absl::Duration all = result.elapsed * result.processes;
  return all > absl::ZeroDuration() ? absl::FDivDuration(part, all) : 0;
}

std::string Plural(uint64_t count, std::string_view noun) {
  return absl::StrCat(count, " ", noun, count == 1 ? "" : "s");
}

std::string_view NameOf(LoadPlan::Service service) {
  switch (service) {
    case LoadPlan::Service::kEcho:
      return "echo";
    case LoadPlan::Service::kDiscard:
      return "discard";
    case LoadPlan::Service::kNone:
      return "none";
  }
  return "";
}

std::string Headline(const LoadPlan& plan) {
  std::string line = absl::StrCat(absl::StrJoin(plan.to, ","), ": ");
  if (plan.connections.has_value()) {
    absl::StrAppend(&line, Plural(*plan.connections, "connection"));
  } else {
    absl::StrAppend(&line, "connections");
  }
  if (plan.duration.has_value()) {
    absl::StrAppend(&line, " for ", absl::FormatDuration(*plan.duration));
  }
  if (plan.rate.has_value()) absl::StrAppend(&line, ", ", *plan.rate, "/s");
  absl::StrAppend(&line, ", at most ", plan.concurrency, " at once, ");
  if (plan.service == LoadPlan::Service::kNone) {
    return absl::StrCat(line, "nothing said\n");
  }
  return absl::StrCat(
      line,
      plan.messages.has_value() ? Plural(*plan.messages, "message")
                                : std::string("messages"),
      " of ", Plural(plan.message_size, "byte"), " each, ",
      plan.service == LoadPlan::Service::kEcho ? "echoed" : "discarded", "\n");
}

void AppendLatency(std::string_view name, const Histogram& histogram,
                   std::string& text) {
  if (histogram.count() == 0) return;
  absl::StrAppendFormat(&text, "%-12s", name);
  for (const auto& [label, q] : kQuantiles) {
    absl::StrAppendFormat(&text, "%10s", Short(histogram.Quantile(q)));
  }
  absl::StrAppendFormat(&text, "%10s\n", Short(histogram.max()));
}

std::string_view AdviceOn(LoadFailure kind) {
  switch (kind) {
    case LoadFailure::kNoRoom:
      return "each address has some 28,000 ports, and a closed connection "
             "keeps its own for a while: more addresses "
             "(--from=127.0.0.1-127.0.0.50) have more";
    case LoadFailure::kReset:
      return "a server that ends with bytes of ours unread resets, too";
    case LoadFailure::kNotBegun:
      return "the server, or --concurrency, was too small for the rate";
    case LoadFailure::kRefused:
    case LoadFailure::kClosed:
    case LoadFailure::kTimeout:
    case LoadFailure::kWrongBytes:
    case LoadFailure::kUnanswered:
    case LoadFailure::kOther:
      return "";
  }
  return "";
}

void AppendFailures(const LoadResult& result, std::string& text) {
  for (const auto& [kind, failure] : result.failures) {
    absl::StrAppendFormat(&text, "failed      %10d %s; the first: %s\n",
                          failure.count, DescriptionOf(kind), failure.first);
    if (!AdviceOn(kind).empty()) {
      absl::StrAppend(&text, "                       (", AdviceOn(kind), ")\n");
    }
  }
}

// Whether the kernel has to search long for a port that no connection has or
// had a moment ago.
bool FewPorts(const LoadPlan& plan, const LoadResult& result) {
  constexpr double kManyOfOneAddress = 10'000;
  const size_t sources = std::max<size_t>(plan.from.size(), 1);
  return plan.to.front().family() != AF_UNIX &&
         PerSecond(result.whole, TimeOf(plan, result)) >
             kManyOfOneAddress * static_cast<double>(sources);
}

void AppendGenerator(const LoadPlan& plan, const LoadResult& result,
                     std::string& text) {
  const double used = 100 * ShareOf(result.cpu, result);
  const double waited = 100 * ShareOf(result.waited_for_cpu, result);
  const std::string processors =
      result.processes == 1 ? "one processor"
                            : absl::StrCat(result.processes, " processors");
  if (GeneratorWasBottleneck(result)) {
    absl::StrAppendFormat(&text,
                          "the generator was the bottleneck: it used %.0f %% "
                          "of %s; the figures are its own, not the server's\n",
                          used, processors);
  } else {
    absl::StrAppendFormat(&text, "generator   used %.0f %% of %s", used,
                          processors);
    if (used + waited > 100 * kBusy) {
      absl::StrAppendFormat(&text,
                            ", and waited for one %.0f %% of the time: others, "
                            "perhaps the server, had them\n",
                            waited);
    } else {
      absl::StrAppendFormat(&text, ", waited for one %.0f %%\n", waited);
    }
  }
  if (FewPorts(plan, result)) {
    absl::StrAppend(&text,
                    "at this rate the kernel searches long for a free port: "
                    "more addresses (--from=127.0.0.1-127.0.0.50) have more\n");
  }
  if (plan.rate.has_value() && result.lateness.count() > 0) {
    absl::StrAppend(&text, "connections began ",
                    Short(result.lateness.Quantile(0.99)),
                    " late at p99, which their latency includes\n");
  }
}

void AppendJson(std::string_view name, const Histogram& histogram,
                std::string& json) {
  // Of nothing there is no least, and zero would be the best there can be.
  const auto us = [&](absl::Duration duration) -> std::string {
    if (histogram.count() == 0) return "null";
    return absl::StrFormat("%.3f", absl::ToDoubleMicroseconds(duration));
  };
  absl::StrAppend(&json, ",\"", name, "_us\":{\"count\":", histogram.count(),
                  ",\"min\":", us(histogram.min()),
                  ",\"mean\":", us(histogram.mean()));
  for (const auto& [label, q] : kQuantiles) {
    absl::StrAppend(&json, ",\"", label, "\":", us(histogram.Quantile(q)));
  }
  absl::StrAppend(&json, ",\"max\":", us(histogram.max()), "}");
}

std::string_view Bool(bool value) { return value ? "true" : "false"; }

std::string JsonPlan(const LoadPlan& plan) {
  std::string json = "{\"to\":[";
  for (const Address& to : plan.to) {
    if (json.back() != '[') json.push_back(',');
    AppendJsonString(to.ToString(), json);
  }
  const auto optional = [](const auto& value) {
    return value.has_value() ? absl::StrCat(*value) : std::string("null");
  };
  absl::StrAppend(
      &json, "],\"sources\":", plan.from.size(),
      ",\"concurrency\":", plan.concurrency,
      ",\"connections\":", optional(plan.connections), ",\"duration_s\":",
      plan.duration.has_value()
          ? absl::StrCat(absl::ToDoubleSeconds(*plan.duration))
          : "null",
      ",\"rate\":", optional(plan.rate), ",\"service\":\"",
      NameOf(plan.service), "\",\"messages\":", optional(plan.messages),
      ",\"message_size\":", plan.message_size,
      ",\"think_time_s\":", absl::ToDoubleSeconds(plan.think_time),
      ",\"proxy_protocol\":", Bool(plan.proxy.has_value()),
      ",\"timeout_s\":", absl::ToDoubleSeconds(plan.timeout), "}");
  return json;
}

}  // namespace

int ExitCodeOf(LoadFailure kind) {
  return kFirstFailureCode + static_cast<int>(kind);
}

int ExitCodeOf(const LoadResult& result) {
  return result.failures.empty() ? 0
                                 : ExitCodeOf(result.failures.begin()->first);
}

std::string DescriptionOf(LoadFailure kind) {
  switch (kind) {
    case LoadFailure::kWrongBytes:
      return "answered with wrong bytes";
    case LoadFailure::kReset:
      return "reset in the middle";
    case LoadFailure::kClosed:
      return "closed before the answer was whole";
    case LoadFailure::kTimeout:
      return "timed out";
    case LoadFailure::kRefused:
      return "refused: nothing listens there";
    case LoadFailure::kNoRoom:
      return "had no port or no descriptor left on this machine";
    case LoadFailure::kNotBegun:
      return "were due and never begun";
    case LoadFailure::kUnanswered:
      return "closed or reset without a byte of an answer";
    case LoadFailure::kOther:
      return "failed otherwise";
  }
  return "";
}

bool GeneratorWasBottleneck(const LoadResult& result) {
  return result.whole > 0 && ShareOf(result.cpu, result) > kBusy;
}

std::string TextReport(const LoadPlan& plan, const LoadResult& result) {
  std::string text = Headline(plan);
  absl::StrAppendFormat(
      &text, "connections %10d whole, %.1f/s in %s\n", result.whole,
      PerSecond(result.whole, TimeOf(plan, result)), Short(result.elapsed));
  if (plan.service != LoadPlan::Service::kNone) {
    const bool echo = plan.service == LoadPlan::Service::kEcho;
    const uint64_t bytes = echo ? result.bytes_received : result.bytes_sent;
    absl::StrAppendFormat(
        &text, "messages    %10d whole, %.1f/s, %.2f MB/s%s\n", result.messages,
        PerSecond(result.messages, TimeOf(plan, result)),
        PerSecond(bytes, TimeOf(plan, result)) / 1e6, echo ? " each way" : "");
  }
  AppendFailures(result, text);
  if (result.stopped) {
    absl::StrAppend(&text, "stopped; ", result.abandoned, " were open\n");
  }
  if (result.gave_up) {
    absl::StrAppend(&text, "gave up: of so many not one was whole\n");
  }
  if (result.connection.count() > 0 || result.connect.count() > 0) {
    absl::StrAppendFormat(&text, "\n%-12s", "latency");
    for (const auto& [label, q] : kQuantiles) {
      absl::StrAppendFormat(&text, "%10s", label);
    }
    absl::StrAppendFormat(&text, "%10s\n", "max");
    AppendLatency("connection", result.connection, text);
    AppendLatency("connect", result.connect, text);
    AppendLatency("round trip", result.round_trip, text);
    absl::StrAppend(&text, "\n");
  }
  AppendGenerator(plan, result, text);
  return text;
}

std::string JsonReport(const LoadPlan& plan, const LoadResult& result) {
  std::string json = absl::StrCat(
      "{\"plan\":", JsonPlan(plan), ",\"elapsed_s\":",
      absl::StrFormat("%.6f", absl::ToDoubleSeconds(result.elapsed)),
      ",\"whole\":", result.whole, ",\"failed\":", result.failed(),
      ",\"abandoned\":", result.abandoned,
      ",\"stopped\":", Bool(result.stopped),
      ",\"gave_up\":", Bool(result.gave_up), ",\"failures\":{");
  for (const auto& [kind, failure] : result.failures) {
    if (json.back() != '{') json.push_back(',');
    absl::StrAppend(&json, "\"", NameOf(kind), "\":{\"count\":", failure.count,
                    ",\"first\":");
    AppendJsonString(failure.first, json);
    json.push_back('}');
  }
  const auto number = [](double value) {
    return absl::StrFormat("%.3f", value);
  };
  absl::StrAppend(&json, "},\"connections_per_second\":",
                  number(PerSecond(result.whole, TimeOf(plan, result))),
                  ",\"messages\":", result.messages,
                  ",\"messages_per_second\":",
                  number(PerSecond(result.messages, TimeOf(plan, result))),
                  ",\"bytes_sent\":", result.bytes_sent,
                  ",\"bytes_received\":", result.bytes_received);
  AppendJson("connection", result.connection, json);
  AppendJson("connect", result.connect, json);
  AppendJson("round_trip", result.round_trip, json);
  AppendJson("lateness", result.lateness, json);
  absl::StrAppend(&json, ",\"generator\":{\"processes\":", result.processes,
                  ",\"cpu_s\":", number(absl::ToDoubleSeconds(result.cpu)),
                  ",\"cpu_share\":", number(ShareOf(result.cpu, result)),
                  ",\"waited_for_cpu_share\":",
                  number(ShareOf(result.waited_for_cpu, result)),
                  ",\"was_bottleneck\":", Bool(GeneratorWasBottleneck(result)),
                  "},\"exit_code\":", ExitCodeOf(result), "}\n");
  return json;
}

std::string ProgressReport(const LoadPlan& plan, const LoadProgress& progress) {
  const uint64_t over = progress.whole + progress.failed;
  const double rate = PerSecond(over, progress.elapsed);
  absl::Duration left = absl::InfiniteDuration();
  if (plan.duration.has_value()) left = *plan.duration - progress.elapsed;
  if (plan.connections.has_value() && rate > 0) {
    const uint64_t to_come =
        *plan.connections - std::min(*plan.connections, over);
    left = std::min(left, absl::Seconds(static_cast<double>(to_come) / rate));
  }
  left = std::max(left, absl::ZeroDuration());
  std::string text =
      absl::StrFormat("%d connections, %.0f/s, %d failed, %d open", over, rate,
                      progress.failed, progress.open);
  if (left == absl::InfiniteDuration()) return text;
  return absl::StrCat(text, ", ",
                      absl::FormatDuration(absl::Ceil(left, absl::Seconds(1))),
                      " to go");
}

}  // namespace brood
