// SPDX-License-Identifier: Apache-2.0
//
// A log line is what the server says of one thing that has happened, for a
// person (kText) or for a program (kJson).
//
//   std::string AfterOneClient(LogFormat format) {
//     ConnectionRecord record;
//     record.id = 1;
//     record.pid = 4242;
//     record.peer = *Address::Parse("127.0.0.1:50344");
//     record.status = ExitStatus::Exited(0);
//     record.duration = absl::Milliseconds(30'500);
//     record.bytes_in = 5;
//     record.ended = {.cause = EndCause::kIdle, .limit = absl::Seconds(30)};
//     return ConnectionLine(record, format);
//   }
//
// What it is not: written anywhere; see log_writer.h. A line comes without its
// newline, and has none inside, whatever bytes the names in it have.
//
// The text of a connection begins with who, how and how long. What else is
// known follows as names and values, in this order, and what is not known is
// not there:
//
//   pid 4242 peer 127.0.0.1:50344 exited 0 after 30.5s id 1
//   client 192.0.2.1:4711 local 127.0.0.1:7007 model fork service echo
//   bytes_in 5 bytes_out 5 retransmits 0 user 1.25ms system 300us
//   max_resident_bytes 3555328 because idle for 30s
//
// (in one line). A value with a space, a quote, or a byte that is not printable
// ASCII stands in quotes, \" and \xNN within. Durations have three digits and a
// unit. "because" is the last name, and what follows it is not quoted.
//
// The same as JSON is one object: "event":"connection", then the names above,
// numbers as numbers. A duration is in seconds, exact to the nanosecond, and
// its name says so: "duration_seconds", "user_seconds", "system_seconds". The
// end is in "status" in words, and as "exit_code" or "signal". What ended it is
// "because":"idle" and "limit_seconds":30. A byte that is no UTF-8 becomes
// U+FFFD; control characters, of either range, are escaped.
//
// An event's text is its sentence, and nothing else; its JSON has its name, the
// sentence as "message", and its fields in their order.
//
// A time, where one is given, comes first: in text as it is, in JSON as "time";
// RFC 3339, UTC, microseconds.
//
// Ownership, errors: none; pure functions of values. Threads, signals, fork: as
// any function that allocates. Rests on: RFC 8259, RFC 3339.
#ifndef BROOD_SERVER_CONNECTION_LOG_H_
#define BROOD_SERVER_CONNECTION_LOG_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/proc/exit_status.h"

namespace brood {

enum class LogFormat { kText, kJson };

// Why the server ended a connection that did not end by itself. In JSON: idle,
// handler_timeout, too_slow, client_gone, drain, stop.
enum class EndCause {
  kIdle,            // Neither side said anything.
  kHandlerTimeout,  // It took longer than any connection may.
  kTooSlow,         // Less than the least rate went through.
  kClientGone,      // The client had left and the handler had not noticed.
  kDrain,           // The server was asked to stop, and the time was up.
  kStop,            // The server was asked to stop at once.
};

struct Ended {
  EndCause cause = EndCause::kStop;
  // How long the server had waited; it is the setting, not a measurement.
  std::optional<absl::Duration> limit = std::nullopt;
};

// One connection that has ended.
struct ConnectionRecord {
  // When it ended.
  std::optional<absl::Time> time = std::nullopt;
  // Counts the connections of this server, from 1; 0 for none.
  uint64_t id = 0;
  // Whose exit it was.
  std::optional<pid_t> pid = std::nullopt;
  // The other end of the socket.
  Address peer;
  // Whom `peer` speaks for, if it is a proxy that said so.
  std::optional<Address> client = std::nullopt;
  // Where it came in.
  std::optional<Address> local = std::nullopt;
  // "fork"; empty for none. So are the next two, one of which is the handler:
  // a service's name, or the path of a program.
  std::string model = {};
  std::string service = {};
  std::string program = {};
  // How it ended, and what it had used: user_time, system_time (durations) and
  // max_resident_bytes are taken from status.usage().
  ExitStatus status = ExitStatus::Lost();
  // From the accept to the exit.
  absl::Duration duration = absl::ZeroDuration();
  // Bytes from the client that arrived, bytes to it that it acknowledged, and
  // segments that were sent again.
  std::optional<uint64_t> bytes_in = std::nullopt;
  std::optional<uint64_t> bytes_out = std::nullopt;
  std::optional<uint64_t> retransmits = std::nullopt;
  // Nothing if it ended by itself.
  std::optional<Ended> ended = std::nullopt;
};

std::string ConnectionLine(const ConnectionRecord& record, LogFormat format);

// A field of an event. The name is lower_case, and none of event, time and
// message; that of a duration is without its unit.
struct LogField {
  std::string name;
  std::variant<int64_t, uint64_t, std::string, absl::Duration> value;
};

// Fields as text has them: "active 3 uptime 1.25s".
std::string FieldsText(absl::Span<const LogField> fields);

// Something else that has happened: the server listens, or drains, or reports.
struct LogEvent {
  std::optional<absl::Time> time = std::nullopt;
  // For programs, and always the same: "draining".
  std::string name;
  // For persons: "draining on SIGTERM: 1 inside, at most 30s".
  std::string sentence;
  // For programs: {"signal", "SIGTERM"}, {"inside", 1}.
  std::vector<LogField> fields = {};
};

std::string EventLine(const LogEvent& event, LogFormat format);

// What log_writer.h says when lines were lost: "3 lines lost".
LogEvent LinesLost(uint64_t lines);

// "1.25ms": three digits are all that anyone reads.
std::string RoundedDuration(absl::Duration duration);

}  // namespace brood

#endif  // BROOD_SERVER_CONNECTION_LOG_H_
