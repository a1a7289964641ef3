// SPDX-License-Identifier: Apache-2.0
#include "brood/server/services.h"

#include <poll.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/civil_time.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/stream.h"
#include "brood/proc/posix.h"
#include "brood/server/connection_handler.h"
#include "brood/server/echo.h"

namespace brood {
namespace {

constexpr absl::Duration kLinger = absl::Seconds(2);

// Reads to the end, for nothing. Not zeroed: see echo.cc.
absl::Status ThrowAway(Stream& stream, absl::Time deadline) {
  std::array<char, 65536> buffer;
  while (true) {
    const absl::StatusOr<IoResult> got =
        stream.Read(absl::MakeSpan(buffer), deadline);
    if (!got.ok()) return got.status();
    if (got->end()) return absl::OkStatus();
  }
}

class DiscardHandler : public ConnectionHandler {
 public:
  std::string_view name() const override { return "discard"; }
  int Handle(Stream& stream, const ConnectionInfo& /*info*/) override {
    return ThrowAway(stream, absl::InfiniteFuture()).ok() ? 0 : 1;
  }
};

class ChargenHandler : public ConnectionHandler {
 public:
  ChargenHandler() {
    while (text_.size() < kPeriod + kMost) {
      for (size_t line = 0; line < kPrintable; ++line) {
        for (size_t i = 0; i < kLineLength; ++i) {
          text_.push_back(static_cast<char>(' ' + (line + i) % kPrintable));
        }
        text_ += "\r\n";
      }
    }
  }

  std::string_view name() const override { return "chargen"; }

  int Handle(Stream& stream, const ConnectionInfo& /*info*/) override {
    size_t begin = 0;  // Of what comes next, in one period.
    bool finished = false;
    while (true) {
      const std::string_view next =
          std::string_view(text_).substr(begin, kMost);
      const absl::StatusOr<IoResult> sent = stream.TryWrite(next);
      if (!sent.ok()) return HasLeft(sent.status()) ? 0 : 1;
      if (sent->bytes().has_value()) {
        begin = (begin + *sent->bytes()) % kPeriod;
        continue;
      }
      // A client that writes before it reads must not wait for us while we wait
      // for it, so read what it has to say whenever there is no room.
      pollfd item = {
          .fd = stream.fd(),
          .events = static_cast<short>(finished ? POLLOUT : POLLIN | POLLOUT),
          .revents = 0};
      if (RetryOnEintr([&] { return poll(&item, 1, -1); }) == -1) return 1;
      if ((item.revents & POLLIN) == 0) continue;
      std::array<char, 4096> unwanted;
      const absl::StatusOr<IoResult> got =
          stream.TryRead(absl::MakeSpan(unwanted));
      if (!got.ok()) return HasLeft(got.status()) ? 0 : 1;
      finished = got->end();
    }
  }

 private:
  static constexpr size_t kPrintable = 95;
  static constexpr size_t kLineLength = 72;
  // After so many bytes it begins again.
  static constexpr size_t kPeriod = kPrintable * (kLineLength + 2);
  // What is offered to the kernel at once.
  static constexpr size_t kMost = 65536;

  static bool HasLeft(const absl::Status& status) {
    return ErrnoOf(status) == EPIPE || ErrnoOf(status) == ECONNRESET;
  }

  std::string text_;
};

// Says one thing and closes.
class AnswerHandler : public ConnectionHandler {
 public:
  using Answer = std::string (*)(absl::Time now);

  AnswerHandler(std::string_view name, Answer answer)
      : name_(name), answer_(answer) {}

  std::string_view name() const override { return name_; }

  int Handle(Stream& stream, const ConnectionInfo& /*info*/) override {
    if (!stream.WriteAll(answer_(absl::Now())).ok()) return 1;
    if (!stream.ShutdownWrite().ok()) return 1;
    const absl::Status status = ThrowAway(stream, absl::Now() + kLinger);
    // It has had its answer, whether it says so or not.
    return status.ok() || absl::IsDeadlineExceeded(status) ? 0 : 1;
  }

 private:
  std::string_view name_;
  Answer answer_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ConnectionHandler>> MakeService(
    std::string_view name) {
  if (name == "echo") return std::make_unique<EchoHandler>();
  if (name == "discard") return std::make_unique<DiscardHandler>();
  if (name == "chargen") return std::make_unique<ChargenHandler>();
  if (name == "daytime") {
    return std::make_unique<AnswerHandler>("daytime", DaytimeAnswer);
  }
  if (name == "time") {
    return std::make_unique<AnswerHandler>("time", TimeAnswer);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("service \"", absl::CHexEscape(name), "\": allowed are ",
                   absl::StrJoin(kServiceNames, ", ")));
}

// By hand, for strftime's names of days and months follow the locale.
std::string DaytimeAnswer(absl::Time now) {
  constexpr std::array<std::string_view, 7> kDays = {
      "Monday", "Tuesday",  "Wednesday", "Thursday",
      "Friday", "Saturday", "Sunday"};
  constexpr std::array<std::string_view, 12> kMonths = {
      "January", "February", "March",     "April",   "May",      "June",
      "July",    "August",   "September", "October", "November", "December"};
  const absl::CivilSecond c = absl::ToCivilSecond(now, absl::UTCTimeZone());
  return absl::StrFormat("%s, %s %02d, %d %02d:%02d:%02d-UTC\r\n",
                         kDays[static_cast<size_t>(absl::GetWeekday(c))],
                         kMonths[c.month() - 1], c.day(), c.year(), c.hour(),
                         c.minute(), c.second());
}

std::string TimeAnswer(absl::Time now) {
  // From 1900 to 1970: 70 years, of which 17 were leap years.
  constexpr int64_t kUnixEpoch = int64_t{70 * 365 + 17} * 24 * 60 * 60;
  const auto seconds =
      static_cast<uint64_t>(absl::ToUnixSeconds(now) + kUnixEpoch);
  std::string answer;
  for (const int shift : {24, 16, 8, 0}) {
    answer.push_back(static_cast<char>(seconds >> shift & 0xff));
  }
  return answer;
}

}  // namespace brood
