// SPDX-License-Identifier: Apache-2.0
#include "brood/server/connection_log.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/posix.h"
#include "brood/server/json_string.h"

namespace brood {
namespace {

// ---- Text ----

void AppendTextValue(std::string_view value, std::string& out) {
  const bool plain =
      !value.empty() &&
      std::all_of(value.begin(), value.end(), [](unsigned char c) {
        return absl::ascii_isgraph(c) && c != '"';
      });
  if (plain) {
    absl::StrAppend(&out, value);
  } else {
    absl::StrAppend(&out, "\"", absl::CHexEscape(value), "\"");
  }
}

void AppendText(const LogField& field, std::string& out) {
  absl::StrAppend(&out, " ", field.name, " ");
  if (const auto* number = std::get_if<int64_t>(&field.value)) {
    absl::StrAppend(&out, *number);
  } else if (const auto* size = std::get_if<uint64_t>(&field.value)) {
    absl::StrAppend(&out, *size);
  } else if (const auto* duration = std::get_if<absl::Duration>(&field.value)) {
    absl::StrAppend(&out, RoundedDuration(*duration));
  } else {
    AppendTextValue(std::get<std::string>(field.value), out);
  }
}

// The sentence as it is, but in one line, and harmless to a terminal.
std::string WithoutControls(std::string_view sentence) {
  std::string out;
  for (const char c : sentence) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) {
      absl::StrAppendFormat(&out, "\\x%02x", static_cast<unsigned char>(c));
    } else {
      out.push_back(c);
    }
  }
  return out;
}

// ---- JSON ----

// By hand, for a double would round it and could be written 1e-06.
void AppendSeconds(absl::Duration duration, std::string& out) {
  constexpr uint64_t kNanosecondsPerSecond = 1'000'000'000;
  // More than 292 years are 292 years.
  const int64_t whole = absl::ToInt64Nanoseconds(duration);
  const uint64_t nanoseconds = whole < 0
                                   ? uint64_t{0} - static_cast<uint64_t>(whole)
                                   : static_cast<uint64_t>(whole);
  if (whole < 0) out.push_back('-');
  absl::StrAppend(&out, nanoseconds / kNanosecondsPerSecond);
  uint64_t rest = nanoseconds % kNanosecondsPerSecond;
  if (rest != 0) out.push_back('.');
  for (uint64_t place = kNanosecondsPerSecond / 10; rest != 0; place /= 10) {
    out.push_back(static_cast<char>('0' + rest / place));
    rest %= place;
  }
}

void AppendJson(const LogField& field, std::string& out) {
  if (out.back() != '{') out.push_back(',');
  const auto* duration = std::get_if<absl::Duration>(&field.value);
  AppendJsonString(
      duration == nullptr ? field.name : absl::StrCat(field.name, "_seconds"),
      out);
  out.push_back(':');
  if (duration != nullptr) {
    AppendSeconds(*duration, out);
  } else if (const auto* number = std::get_if<int64_t>(&field.value)) {
    absl::StrAppend(&out, *number);
  } else if (const auto* size = std::get_if<uint64_t>(&field.value)) {
    absl::StrAppend(&out, *size);
  } else {
    AppendJsonString(std::get<std::string>(field.value), out);
  }
}

std::string JsonObject(const std::vector<LogField>& fields) {
  std::string out = "{";
  for (const LogField& field : fields) AppendJson(field, out);
  out.push_back('}');
  return out;
}

// ---- What is in a line ----

std::string Rfc3339(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", time, absl::UTCTimeZone());
}

struct CauseNames {
  std::string_view name;      // In JSON.
  std::string_view sentence;  // In text,
  std::string_view unit;      // and what comes between it and the limit.
};

CauseNames NamesOf(EndCause cause) {
  switch (cause) {
    case EndCause::kIdle:
      return {"idle", "idle", "for"};
    case EndCause::kHandlerTimeout:
      return {"handler_timeout", "handler timeout", "of"};
    case EndCause::kTooSlow:
      return {"too_slow", "too slow", "for"};
    case EndCause::kClientGone:
      return {"client_gone", "client gone", "for"};
    case EndCause::kDrain:
      return {"drain", "drain", "of"};
    case EndCause::kStop:
      break;
  }
  return {"stop", "stop", "after"};
}

// The same in both formats, as what follows.
std::vector<LogField> Whose(const ConnectionRecord& record) {
  std::vector<LogField> fields;
  if (record.client.has_value()) {
    fields.push_back({"client", record.client->ToString()});
  }
  if (record.local.has_value()) {
    fields.push_back({"local", record.local->ToString()});
  }
  if (!record.model.empty()) fields.push_back({"model", record.model});
  if (!record.service.empty()) fields.push_back({"service", record.service});
  if (!record.program.empty()) fields.push_back({"program", record.program});
  return fields;
}

std::vector<LogField> Used(const ConnectionRecord& record) {
  std::vector<LogField> fields;
  if (record.bytes_in.has_value()) {
    fields.push_back({"bytes_in", *record.bytes_in});
  }
  if (record.bytes_out.has_value()) {
    fields.push_back({"bytes_out", *record.bytes_out});
  }
  if (record.retransmits.has_value()) {
    fields.push_back({"retransmits", *record.retransmits});
  }
  if (const std::optional<ResourceUsage>& usage = record.status.usage()) {
    fields.push_back({"user", usage->user_time});
    fields.push_back({"system", usage->system_time});
    fields.push_back({"max_resident_bytes", usage->max_resident_bytes});
  }
  return fields;
}

std::string ConnectionText(const ConnectionRecord& record) {
  std::string out;
  if (record.time.has_value()) {
    absl::StrAppend(&out, Rfc3339(*record.time), " ");
  }
  if (record.pid.has_value()) {
    absl::StrAppend(&out, "pid ", *record.pid, " ");
  }
  absl::StrAppend(&out, "peer ");
  AppendTextValue(record.peer.ToString(), out);
  absl::StrAppend(&out, " ", record.status.ToString(), " after ",
                  RoundedDuration(record.duration));
  if (record.id != 0) AppendText({"id", record.id}, out);
  for (const LogField& field : Whose(record)) AppendText(field, out);
  for (const LogField& field : Used(record)) AppendText(field, out);
  if (record.ended.has_value()) {
    const CauseNames names = NamesOf(record.ended->cause);
    absl::StrAppend(&out, " because ", names.sentence);
    if (record.ended->limit.has_value()) {
      absl::StrAppend(&out, " ", names.unit, " ",
                      RoundedDuration(*record.ended->limit));
    }
  }
  return out;
}

std::string ConnectionJson(const ConnectionRecord& record) {
  std::vector<LogField> fields = {{"event", "connection"}};
  const auto append = [&](std::vector<LogField> more) {
    for (LogField& field : more) fields.push_back(std::move(field));
  };
  if (record.time.has_value()) {
    fields.push_back({"time", Rfc3339(*record.time)});
  }
  if (record.id != 0) fields.push_back({"id", record.id});
  if (record.pid.has_value()) fields.push_back({"pid", *record.pid});
  fields.push_back({"peer", record.peer.ToString()});
  append(Whose(record));
  fields.push_back({"status", record.status.ToString()});
  if (const std::optional<int> code = record.status.exit_code()) {
    fields.push_back({"exit_code", *code});
  }
  if (const std::optional<int> signo = record.status.term_signal()) {
    fields.push_back({"signal", NameOfSignal(*signo)});
  }
  fields.push_back({"duration", record.duration});
  append(Used(record));
  if (record.ended.has_value()) {
    fields.push_back(
        {"because", std::string(NamesOf(record.ended->cause).name)});
    if (record.ended->limit.has_value()) {
      fields.push_back({"limit", *record.ended->limit});
    }
  }
  return JsonObject(fields);
}

}  // namespace

std::string RoundedDuration(absl::Duration duration) {
  if (duration == absl::InfiniteDuration()) return "inf";
  absl::Duration unit = absl::Nanoseconds(1);
  while (unit * 1000 <= duration) unit *= 10;
  return absl::FormatDuration(absl::Trunc(duration, unit));
}

std::string ConnectionLine(const ConnectionRecord& record, LogFormat format) {
  return format == LogFormat::kText ? ConnectionText(record)
                                    : ConnectionJson(record);
}

std::string FieldsText(absl::Span<const LogField> fields) {
  std::string out;
  for (const LogField& field : fields) AppendText(field, out);
  if (!out.empty()) out.erase(0, 1);  // Each comes after a space.
  return out;
}

std::string EventLine(const LogEvent& event, LogFormat format) {
  if (format == LogFormat::kText) {
    std::string out;
    if (event.time.has_value()) out = absl::StrCat(Rfc3339(*event.time), " ");
    return absl::StrCat(out, WithoutControls(event.sentence));
  }
  std::vector<LogField> fields = {{"event", event.name}};
  if (event.time.has_value()) {
    fields.push_back({"time", Rfc3339(*event.time)});
  }
  fields.push_back({"message", event.sentence});
  fields.insert(fields.end(), event.fields.begin(), event.fields.end());
  return JsonObject(fields);
}

LogEvent LinesLost(uint64_t lines) {
  return {.name = "lines_lost",
          .sentence =
              absl::StrCat(lines, lines == 1 ? " line lost" : " lines lost"),
          .fields = {{"lines", lines}}};
}

}  // namespace brood
