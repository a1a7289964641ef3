// SPDX-License-Identifier: Apache-2.0
#include "brood/server/connection_log.h"

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"
#include "absl/time/civil_time.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/proc/exit_status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Optional;
using ::testing::Pair;

std::string AfterOneClient(LogFormat format) {
  ConnectionRecord record;
  record.id = 1;
  record.pid = 4242;
  record.peer = *Address::Parse("127.0.0.1:50344");
  record.status = ExitStatus::Exited(0);
  record.duration = absl::Milliseconds(30'500);
  record.bytes_in = 5;
  record.ended = {.cause = EndCause::kIdle, .limit = absl::Seconds(30)};
  return ConnectionLine(record, format);
}

// Everything there is to say.
ConnectionRecord Whole() {
  ConnectionRecord record;
  record.time = absl::FromCivil(absl::CivilSecond(2024, 2, 29, 12, 0, 1),
                                absl::UTCTimeZone()) +
                absl::Microseconds(250);
  record.id = 17;
  record.pid = 4242;
  record.peer = *Address::Parse("10.0.0.1:50344");
  record.client = *Address::Parse("[2001:db8::7]:4711");
  record.local = *Address::Parse("10.0.0.2:7007");
  record.model = "fork";
  record.program = "/opt/a b";
  record.status = ExitStatus::Killed(SIGTERM);
  record.status.set_usage({.user_time = absl::Microseconds(1250),
                           .system_time = absl::Microseconds(300),
                           .max_resident_bytes = 3555328});
  record.duration = absl::Seconds(90) + absl::Nanoseconds(7);
  record.bytes_in = std::numeric_limits<uint64_t>::max();
  record.bytes_out = 0;
  record.retransmits = 2;
  record.ended = {.cause = EndCause::kHandlerTimeout,
                  .limit = absl::Seconds(90)};
  return record;
}

// A reader of what JsonObject may write, which is far less than JSON: one
// object of strings and numbers, without white space. nullopt for all else.
class Reader {
 public:
  using Members = std::vector<std::pair<std::string, std::string>>;

  explicit Reader(std::string_view text) : text_(text) {}

  std::optional<Members> Object() {
    Members members;
    if (!absl::ConsumePrefix(&text_, "{")) return std::nullopt;
    do {
      std::optional<std::string> name = String();
      if (!name.has_value() || !absl::ConsumePrefix(&text_, ":")) {
        return std::nullopt;
      }
      std::optional<std::string> value =
          absl::StartsWith(text_, "\"") ? String() : Number();
      if (!value.has_value()) return std::nullopt;
      members.emplace_back(*std::move(name), *std::move(value));
    } while (absl::ConsumePrefix(&text_, ","));
    if (text_ != "}") return std::nullopt;
    return members;
  }

 private:
  std::optional<std::string> String() {
    std::string value;
    if (!absl::ConsumePrefix(&text_, "\"")) return std::nullopt;
    while (!text_.empty()) {
      const char c = text_.front();
      text_.remove_prefix(1);
      if (c == '"') return value;
      if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) {
        return std::nullopt;
      }
      if (c != '\\') {
        value.push_back(c);
      } else if (absl::ConsumePrefix(&text_, "\"")) {
        value.push_back('"');
      } else if (absl::ConsumePrefix(&text_, "\\")) {
        value.push_back('\\');
      } else if (absl::ConsumePrefix(&text_, "u")) {
        uint32_t code;
        if (!absl::SimpleHexAtoi(text_.substr(0, 4), &code)) {
          return std::nullopt;
        }
        text_.remove_prefix(4);
        if (code < 0x80) {
          value.push_back(static_cast<char>(code));
        } else if (code < 0x800) {
          value.push_back(static_cast<char>(0xc0 | code >> 6));
          value.push_back(static_cast<char>(0x80 | (code & 0x3f)));
        } else {
          value.push_back(static_cast<char>(0xe0 | code >> 12));
          value.push_back(static_cast<char>(0x80 | (code >> 6 & 0x3f)));
          value.push_back(static_cast<char>(0x80 | (code & 0x3f)));
        }
      } else {
        return std::nullopt;
      }
    }
    return std::nullopt;
  }

  std::optional<std::string> Number() {
    const std::string number(
        text_.substr(0, text_.find_first_not_of("-.0123456789")));
    text_.remove_prefix(number.size());
    double value;
    if (!absl::SimpleAtod(number, &value)) return std::nullopt;
    return number;
  }

  std::string_view text_;
};

LogEvent Message(std::string_view sentence) {
  return {.name = "trouble", .sentence = std::string(sentence)};
}

// What the reader makes of `text`, which went through a line as a message.
std::string ThroughJson(std::string_view text) {
  const std::string line = EventLine(Message(text), LogFormat::kJson);
  const std::optional<Reader::Members> members = Reader(line).Object();
  if (!members.has_value() || members->size() != 2) return "not JSON: " + line;
  return members->back().second;
}

TEST(ConnectionLogTest, HeaderExample) {
  EXPECT_EQ(AfterOneClient(LogFormat::kText),
            "pid 4242 peer 127.0.0.1:50344 exited 0 after 30.5s id 1 "
            "bytes_in 5 because idle for 30s");
  EXPECT_EQ(AfterOneClient(LogFormat::kJson),
            R"({"event":"connection","id":1,"pid":4242,)"
            R"("peer":"127.0.0.1:50344","status":"exited 0","exit_code":0,)"
            R"("duration_seconds":30.5,"bytes_in":5,"because":"idle",)"
            R"("limit_seconds":30})");
}

TEST(ConnectionLogTest, LeavesOutWhatIsNotKnown) {
  EXPECT_EQ(ConnectionLine({}, LogFormat::kText),
            "peer unix:(unnamed) lost after 0");
  EXPECT_EQ(ConnectionLine({}, LogFormat::kJson),
            R"j({"event":"connection","peer":"unix:(unnamed)",)j"
            R"("status":"lost","duration_seconds":0})");
}

TEST(ConnectionLogTest, SaysEverythingInAnOrderThatStays) {
  EXPECT_EQ(ConnectionLine(Whole(), LogFormat::kText),
            "2024-02-29T12:00:01.000250Z pid 4242 peer 10.0.0.1:50344 "
            "killed by SIGTERM after 1m30s id 17 client [2001:db8::7]:4711 "
            "local 10.0.0.2:7007 model fork program \"/opt/a b\" "
            "bytes_in 18446744073709551615 bytes_out 0 retransmits 2 "
            "user 1.25ms system 300us max_resident_bytes 3555328 "
            "because handler timeout of 1m30s");
  EXPECT_EQ(ConnectionLine(Whole(), LogFormat::kJson),
            R"({"event":"connection","time":"2024-02-29T12:00:01.000250Z",)"
            R"("id":17,"pid":4242,"peer":"10.0.0.1:50344",)"
            R"("client":"[2001:db8::7]:4711","local":"10.0.0.2:7007",)"
            R"("model":"fork","program":"/opt/a b",)"
            R"("status":"killed by SIGTERM","signal":"SIGTERM",)"
            R"("duration_seconds":90.000000007,)"
            R"("bytes_in":18446744073709551615,"bytes_out":0,)"
            R"("retransmits":2,"user_seconds":0.00125,)"
            R"("system_seconds":0.0003,"max_resident_bytes":3555328,)"
            R"("because":"handler_timeout","limit_seconds":90})");
}

TEST(ConnectionLogTest, NamesEveryCause) {
  struct Case {
    Ended ended;
    std::string text;
    std::string json;
  };
  const std::vector<Case> cases = {
      {{EndCause::kIdle}, "because idle", R"("because":"idle"})"},
      {{EndCause::kHandlerTimeout},
       "because handler timeout",
       R"("because":"handler_timeout"})"},
      {{EndCause::kTooSlow, absl::Seconds(10)},
       "because too slow for 10s",
       R"("because":"too_slow","limit_seconds":10})"},
      {{EndCause::kClientGone, absl::Milliseconds(1500)},
       "because client gone for 1.5s",
       R"("because":"client_gone","limit_seconds":1.5})"},
      {{EndCause::kDrain, absl::Seconds(30)},
       "because drain of 30s",
       R"("because":"drain","limit_seconds":30})"},
      {{EndCause::kStop}, "because stop", R"("because":"stop"})"},
  };
  for (const Case& c : cases) {
    ConnectionRecord record;
    record.ended = c.ended;
    EXPECT_THAT(ConnectionLine(record, LogFormat::kText),
                testing::EndsWith(c.text));
    EXPECT_THAT(ConnectionLine(record, LogFormat::kJson),
                testing::EndsWith(c.json));
  }
}

TEST(ConnectionLogTest, ReadsTheEndBothInWordsAndAsANumber) {
  ConnectionRecord record;
  record.status = ExitStatus::Killed(SIGABRT, /*core_dumped=*/true);
  EXPECT_THAT(ConnectionLine(record, LogFormat::kJson),
              HasSubstr(R"j("status":"killed by SIGABRT (core dumped)",)j"
                        R"("signal":"SIGABRT",)"));
  record.status = ExitStatus::Exited(7);
  EXPECT_THAT(ConnectionLine(record, LogFormat::kJson),
              AllOf(HasSubstr(R"("exit_code":7,)"), Not(HasSubstr("signal"))));
}

// A path is the owner's choice, not the server's: it must not be able to say
// how a connection ended.
TEST(ConnectionLogTest, KeepsANameFromPassingForSomethingElse) {
  ConnectionRecord record;
  record.peer = *Address::UnixPath("/a exited 0 after 1ms\n\"");
  record.model = "";
  record.program = "a\nb";
  EXPECT_EQ(ConnectionLine(record, LogFormat::kText),
            "peer \"unix:/a exited 0 after 1ms\\\\x0a\\\"\" lost after 0 "
            "program \"a\\nb\"");
  const std::string json = ConnectionLine(record, LogFormat::kJson);
  EXPECT_THAT(
      Reader(json).Object(),
      Optional(ElementsAre(Pair("event", "connection"),
                           Pair("peer", "unix:/a exited 0 after 1ms\\x0a\""),
                           Pair("program", "a\nb"), Pair("status", "lost"),
                           Pair("duration_seconds", "0"))));
}

TEST(ConnectionLogTest, SaysAnEventInItsOwnWordsAndInNames) {
  const LogEvent event = {.name = "draining",
                          .sentence =
                              "draining on SIGTERM: 1 inside, at most "
                              "30s",
                          .fields = {{"signal", "SIGTERM"},
                                     {"inside", 1},
                                     {"at_most", absl::Seconds(30)}}};
  EXPECT_EQ(EventLine(event, LogFormat::kText),
            "draining on SIGTERM: 1 inside, at most 30s");
  EXPECT_EQ(EventLine(event, LogFormat::kJson),
            R"({"event":"draining",)"
            R"("message":"draining on SIGTERM: 1 inside, at most 30s",)"
            R"("signal":"SIGTERM","inside":1,"at_most_seconds":30})");
}

TEST(ConnectionLogTest, PutsTheTimeOfAnEventFirst) {
  LogEvent event = Message("clients come in again");
  event.time = absl::UnixEpoch();
  EXPECT_EQ(EventLine(event, LogFormat::kText),
            "1970-01-01T00:00:00.000000Z clients come in again");
  EXPECT_EQ(EventLine(event, LogFormat::kJson),
            R"({"event":"trouble","time":"1970-01-01T00:00:00.000000Z",)"
            R"("message":"clients come in again"})");
}

TEST(ConnectionLogTest, SaysFieldsAsNamesAndValues) {
  EXPECT_EQ(FieldsText({}), "");
  EXPECT_EQ(FieldsText({{"active", uint64_t{3}},
                        {"uptime", absl::Microseconds(1250)},
                        {"phase", "a b"}}),
            "active 3 uptime 1.25ms phase \"a b\"");
}

TEST(ConnectionLogTest, CountsLostLines) {
  EXPECT_EQ(EventLine(LinesLost(1), LogFormat::kText), "1 line lost");
  EXPECT_EQ(EventLine(LinesLost(3), LogFormat::kText), "3 lines lost");
  EXPECT_EQ(EventLine(LinesLost(3), LogFormat::kJson),
            R"({"event":"lines_lost","message":"3 lines lost","lines":3})");
}

TEST(ConnectionLogTest, KeepsASentenceInOneLine) {
  EXPECT_EQ(
      EventLine(Message("a\nb\x1b[2J\x7f \"c\" \xc3\xa9"), LogFormat::kText),
      "a\\x0ab\\x1b[2J\\x7f \"c\" \xc3\xa9");
}

TEST(ConnectionLogTest, RoundsToThreeDigits) {
  EXPECT_EQ(RoundedDuration(absl::ZeroDuration()), "0");
  EXPECT_EQ(RoundedDuration(absl::Nanoseconds(999)), "999ns");
  EXPECT_EQ(RoundedDuration(absl::Nanoseconds(1'259'999)), "1.25ms");
  EXPECT_EQ(RoundedDuration(absl::Seconds(30)), "30s");
  EXPECT_EQ(RoundedDuration(absl::Seconds(3661)), "1h1m");
  EXPECT_EQ(RoundedDuration(absl::InfiniteDuration()), "inf");
}

TEST(ConnectionLogTest, WritesSecondsExactly) {
  const auto seconds = [](absl::Duration duration) {
    ConnectionRecord record;
    record.duration = duration;
    const std::string line = ConnectionLine(record, LogFormat::kJson);
    return Reader(line).Object()->back().second;
  };
  EXPECT_EQ(seconds(absl::Nanoseconds(1)), "0.000000001");
  EXPECT_EQ(seconds(absl::Nanoseconds(-1'500'000'000)), "-1.5");
  EXPECT_EQ(seconds(absl::Hours(24)), "86400");
  EXPECT_EQ(seconds(absl::InfiniteDuration()), "9223372036.854775807");
  EXPECT_EQ(seconds(-absl::InfiniteDuration()), "-9223372036.854775808");
}

TEST(ConnectionLogTest, WritesUtf8AsItIsAndEscapesTheRest) {
  const auto json = [](std::string_view text) {
    std::string line = EventLine(Message(text), LogFormat::kJson);
    return line.substr(30, line.size() - 32);  // What is in the quotes.
  };
  EXPECT_EQ(json("a\"b\\c/\n\t\x7f"), R"(a\"b\\c/\u000a\u0009\u007f)");
  EXPECT_EQ(json(std::string_view("\0", 1)), R"(\u0000)");
  EXPECT_EQ(json("\xc2\x9b"
                 "31m"),
            R"(\u009b31m)");  // CSI of a terminal.
  EXPECT_EQ(json("\xc3\xa9 \xec\x95\x88 \xf0\x9f\x90\xa3"),
            "\xc3\xa9 \xec\x95\x88 \xf0\x9f\x90\xa3");
  // What is no UTF-8: a lone byte of either kind, an end too early, a form too
  // long, a surrogate, more than there are.
  EXPECT_EQ(json("\x80 \xff"), R"(\ufffd \ufffd)");
  EXPECT_EQ(json("\xec\x95"), R"(\ufffd\ufffd)");
  EXPECT_EQ(json("\xec\x95x"), R"(\ufffd\ufffdx)");
  EXPECT_EQ(json("\xc0\xaf"), R"(\ufffd\ufffd)");
  EXPECT_EQ(json("\xe0\x80\xaf"), R"(\ufffd\ufffd\ufffd)");
  EXPECT_EQ(json("\xed\xa0\x80"), R"(\ufffd\ufffd\ufffd)");
  EXPECT_EQ(json("\xf4\x90\x80\x80"), R"(\ufffd\ufffd\ufffd\ufffd)");
}

TEST(ConnectionLogTest, IsReadBackAsItWasWhateverTheCharacters) {
  std::mt19937 random(1);
  // All ASCII, and one character of each longer form.
  const std::vector<std::string> more = {"\xc2\x85", "\xdf\xbf", "\xef\xbf\xbf",
                                         "\xf4\x8f\xbf\xbf"};
  for (int i = 0; i < 1000; ++i) {
    std::string text;
    for (size_t length = random() % 20; length > 0; --length) {
      const size_t next = random() % (128 + more.size());
      if (next < 128) {
        text.push_back(static_cast<char>(next));
      } else {
        text += more[next - 128];
      }
    }
    EXPECT_EQ(ThroughJson(text), text);
  }
}

TEST(ConnectionLogTest, IsALineOfJsonWhateverTheBytes) {
  std::mt19937 random(2);
  const auto bytes = [&] {
    std::string text;
    for (size_t length = random() % 20; length > 0; --length) {
      text.push_back(static_cast<char>(random() % 256));
    }
    return text;
  };
  for (int i = 0; i < 1000; ++i) {
    ConnectionRecord record;
    record.peer = *Address::UnixAbstract(bytes());
    record.model = bytes();
    record.service = bytes();
    record.program = bytes();
    const std::string json = ConnectionLine(record, LogFormat::kJson);
    ASSERT_NE(Reader(json).Object(), std::nullopt) << json;
    const std::string text = ConnectionLine(record, LogFormat::kText);
    for (const char c : text) {
      ASSERT_TRUE(absl::ascii_isprint(static_cast<unsigned char>(c))) << text;
    }
  }
}

}  // namespace
}  // namespace brood
