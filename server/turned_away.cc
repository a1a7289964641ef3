// SPDX-License-Identifier: Apache-2.0
#include "brood/server/turned_away.h"

#include <array>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/stream.h"
#include "brood/proc/posix.h"
#include "brood/server/admission.h"
#include "brood/server/connection_log.h"

namespace brood {

void TurnedAway::Tell(const Address& peer, std::string_view why) {
  ++count_;
  if (observer_ == nullptr) return;
  const absl::Duration now = MonotonicNow();
  if (now - since_ >= absl::Seconds(1)) {
    if (not_told_ > 0) {
      observer_({.name = "turned_away",
                 .sentence = absl::StrCat(not_told_, " more turned away"),
                 .fields = {{"count", not_told_}}});
    }
    since_ = now;
    told_ = 0;
    not_told_ = 0;
  }
  if (told_ >= kToldPerSecond) {
    ++not_told_;
    return;
  }
  ++told_;
  const std::string who = peer.ToString();
  observer_({.name = "turned_away",
             .sentence = absl::StrCat("turned away ", who, ": ", why),
             .fields = {{"peer", who}, {"why", std::string(why)}}});
}

void SayGoodbye(Stream& stream, std::string_view message, AtLimit how) {
  if (how == AtLimit::kReset) {
    (void)stream.Reset();
    return;
  }
  if (!message.empty()) {
    (void)stream.TryWrite(absl::StrCat(message, "\n"));
  }
  (void)stream.ShutdownWrite();
  // To close with bytes unread would reset the connection, and the line could
  // be lost. What comes later is lost to this all the same, for there is no
  // waiting here for who has to go.
  std::array<char, 4096> unread;
  (void)stream.TryRead(absl::MakeSpan(unread));
}

}  // namespace brood
