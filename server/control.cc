// SPDX-License-Identifier: Apache-2.0
#include "brood/server/control.h"

#include <unistd.h>

#include <array>
#include <cstddef>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/peer_credentials.h"
#include "brood/net/stream.h"
#include "brood/proc/posix.h"
#include "brood/server/acceptor.h"
#include "brood/server/poll_loop.h"

namespace brood {
namespace {

// How many may wait in the kernel's queue.
constexpr int kBacklog = 16;

// How often to look whose time is up, and who has read enough of an answer to
// be sent more: an answer fits into the kernel's buffer, most often, and else
// it is not worth a watcher of its own.
constexpr absl::Duration kClockTick = absl::Milliseconds(20);

// How much goes out in one piece.
constexpr size_t kPiece = size_t{64} * 1024;

constexpr std::string_view kError = "error: ";

std::string ErrorLine(std::string_view why) {
  return absl::StrCat(kError, why, "\n");
}

// "explain ADDRESS".
std::string UsageOf(const Control::Command& command) {
  return command.argument.empty()
             ? command.name
             : absl::StrCat(command.name, " ", command.argument);
}

// Why who is at the other end may not ask; OK if it may.
absl::Status MayAsk(int fd) {
  const absl::StatusOr<PeerCredentials> peer = PeerCredentialsOf(fd);
  if (!peer.ok()) return peer.status();
  if (peer->uid == 0 || peer->uid == geteuid()) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat(
      "user ", peer->uid, " may not ask: allowed is ",
      geteuid() == 0 ? "" : absl::StrCat("user ", geteuid(), " and "), "root"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Control>> Control::Open(const Address& address,
                                                       const Options& options) {
  const bool has_path = address.unix_path().has_value();
  if (!has_path && !address.unix_abstract_name().has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat(address, ": allowed is unix:/path or unix:@abstract"));
  }
  Listener::Options listening = {.backlog = kBacklog};
  if (has_path) listening.access.mode = 0600;
  absl::StatusOr<Listener> listener = Listener::Open(address, listening);
  if (!listener.ok()) return listener.status();
  return absl::WrapUnique(new Control(*std::move(listener), options));
}

absl::StatusOr<std::unique_ptr<Control>> Control::Open(const Address& address) {
  return Open(address, Options());
}

void Control::Start(PollLoop& loop) {
  loop_ = &loop;
  acceptor_.Start(loop, [this](Accepted asker, const Address&) {
    return Arrive(std::move(asker.stream));
  });
}

bool Control::Arrive(Stream stream) {
  askers_.push_back({.stream = std::move(stream),
                     .until = MonotonicNow() + options_.patience});
  const Askers::iterator asker = std::prev(askers_.end());
  const absl::Status may_ask = MayAsk(asker->stream.fd());
  if (may_ask.ok()) {
    loop_->Watch(asker->stream.fd(), [this, asker] { return Listen(asker); });
    LookSoon();
  } else {
    Reply(asker, ErrorLine(may_ask.message()));
  }
  return askers_.size() < kMaxOpen;
}

absl::Status Control::Listen(Askers::iterator asker) {
  std::array<char, kMaxRequest> buffer;
  const absl::StatusOr<IoResult> got = asker->stream.TryRead(
      absl::MakeSpan(buffer).first(kMaxRequest - asker->request.size()));
  if (!got.ok() || (got->end() && asker->request.empty())) {
    Leave(asker);  // Somebody looked whether anybody listens.
    return absl::OkStatus();
  }
  if (got->would_block()) return absl::OkStatus();
  if (got->end()) {
    // Half a line may be half an address.
    Reply(asker,
          ErrorLine(absl::StrCat("request \"", absl::CHexEscape(asker->request),
                                 "\": expected a newline after it")));
    return absl::OkStatus();
  }
  asker->request.append(buffer.data(), *got->bytes());
  const size_t newline = asker->request.find('\n');
  if (newline != std::string::npos) {
    Reply(asker, AnswerTo(std::string_view(asker->request).substr(0, newline)));
  } else if (asker->request.size() == kMaxRequest) {
    Reply(asker, ErrorLine(absl::StrCat("request is too long: allowed are ",
                                        kMaxRequest, " bytes in a line")));
  }
  return absl::OkStatus();
}

std::string Control::AnswerTo(std::string_view request) {
  if (request == "help") return Help();
  for (Command& command : commands_) {
    std::string_view argument = request;
    if (!absl::ConsumePrefix(&argument, command.name)) continue;
    if (command.argument.empty()) {
      if (!argument.empty()) continue;
    } else if (!absl::ConsumePrefix(&argument, " ") || argument.empty()) {
      continue;
    }
    absl::StatusOr<std::string> answer = command.answer(argument);
    if (!answer.ok()) return ErrorLine(answer.status().message());
    if (!absl::EndsWith(*answer, "\n")) answer->push_back('\n');
    if (answer->size() <= kMaxAnswer) return *std::move(answer);
    return ErrorLine(absl::StrCat("the answer has ", answer->size(),
                                  " bytes: allowed are ", kMaxAnswer));
  }
  std::string allowed;
  for (const Command& command : commands_) {
    absl::StrAppend(&allowed, UsageOf(command), ", ");
  }
  return ErrorLine(absl::StrCat("request \"", absl::CHexEscape(request),
                                "\": allowed is ", allowed, "help"));
}

std::string Control::Help() const {
  std::string help;
  for (const Command& command : commands_) {
    absl::StrAppend(&help, UsageOf(command), ": ", command.help, "\n");
  }
  absl::StrAppend(&help, "help: this\n");
  return help;
}

void Control::Reply(Askers::iterator asker, std::string answer) {
  // What else it says, or that it leaves, is of no interest any more.
  loop_->Unwatch(asker->stream.fd());
  asker->answer = std::move(answer);
  Send(asker);
}

void Control::Send(Askers::iterator asker) {
  std::string_view left = asker->answer;
  while (!left.empty()) {
    const absl::StatusOr<IoResult> sent =
        asker->stream.TryWrite(left.substr(0, kPiece));
    if (!sent.ok()) return Leave(asker);
    if (sent->would_block()) {
      asker->answer = std::string(left);
      return LookSoon();
    }
    left.remove_prefix(*sent->bytes());
  }
  // To close with bytes unread would tell of a reset after the answer.
  std::array<char, 4096> unread;
  (void)asker->stream.TryRead(absl::MakeSpan(unread));
  Leave(asker);
}

void Control::Leave(Askers::iterator asker) {
  loop_->Unwatch(asker->stream.fd());
  askers_.erase(asker);
  acceptor_.Want();
}

void Control::LookAtTheClock() {
  const absl::Duration now = MonotonicNow();
  for (Askers::iterator next = askers_.begin(); next != askers_.end();) {
    const Askers::iterator asker = next++;
    const bool late = asker->until <= now;
    if (late && asker->answer.empty()) {
      (void)asker->stream.TryWrite(ErrorLine(absl::StrCat(
          "no request within ", absl::FormatDuration(options_.patience))));
    }
    if (late) {
      Leave(asker);
    } else if (!asker->answer.empty()) {
      Send(asker);
    }
  }
}

void Control::LookSoon() {
  if (std::exchange(looking_soon_, true)) return;
  loop_->CallAfter(kClockTick, [this] {
    looking_soon_ = false;
    LookAtTheClock();
    if (!askers_.empty()) LookSoon();
    return absl::OkStatus();
  });
}

absl::StatusOr<std::string> AskControl(const Address& address,
                                       std::string_view request,
                                       absl::Time deadline) {
  absl::StatusOr<Stream> stream = Stream::Connect(address, deadline);
  if (!stream.ok()) return stream.status();
  // Who may not ask is answered before he has spoken, and perhaps left alone
  // with what he says then. The answer tells why.
  const absl::Status told =
      stream->WriteAll(absl::StrCat(request, "\n"), deadline);
  std::string answer;
  std::array<char, 4096> buffer;
  for (;;) {
    const absl::StatusOr<IoResult> got =
        stream->Read(absl::MakeSpan(buffer), deadline);
    if (!got.ok() && answer.empty()) {
      return told.ok() ? got.status() : told;
    }
    if (!got.ok() || got->end()) break;
    answer.append(buffer.data(), *got->bytes());
    if (answer.size() > Control::kMaxAnswer) break;
  }
  if (!absl::EndsWith(answer, "\n") || answer.size() > Control::kMaxAnswer) {
    return absl::UnavailableError(
        absl::StrCat("no whole answer from ", address, " to \"",
                     absl::CHexEscape(request), "\""));
  }
  if (absl::StartsWith(answer, kError)) {
    return absl::FailedPreconditionError(absl::StripSuffix(
        std::string_view(answer).substr(kError.size()), "\n"));
  }
  return answer;
}

}  // namespace brood
