// SPDX-License-Identifier: Apache-2.0
#include "brood/server/acceptor.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <iterator>
#include <optional>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/address_range.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/net/syn_filter.h"
#include "brood/proc/posix.h"
#include "brood/server/poll_loop.h"

namespace brood {
namespace {

bool IsEverywhere(const Address& address) {
  if (address.family() == AF_INET) {
    return reinterpret_cast<const sockaddr_in*>(address.sockaddr())
               ->sin_addr.s_addr == INADDR_ANY;
  }
  if (address.family() != AF_INET6) return false;
  return IN6_IS_ADDR_UNSPECIFIED(
      &reinterpret_cast<const sockaddr_in6*>(address.sockaddr())->sin6_addr);
}

}  // namespace

void LearnLocal(const Stream& client, Address& local) {
  if (!IsEverywhere(local)) return;
  const absl::StatusOr<Address> learnt = LocalAddressOf(client.fd());
  if (learnt.ok()) local = learnt->Unmapped();
}
namespace {

// How many clients one wake-up lets in before exits and signals are looked at.
constexpr int kBatch = 64;

// How often to look, while draining, whether those on their way have arrived,
// and how long to wait for them: a second is when a lost packet is sent again.
constexpr absl::Duration kLookAgain = absl::Milliseconds(10);
constexpr absl::Duration kHandshakes = absl::Seconds(3);

std::vector<Address> AddressesOf(absl::Span<const Listener> listeners) {
  std::vector<Address> addresses;
  addresses.reserve(listeners.size());
  for (const Listener& listener : listeners) {
    addresses.push_back(listener.address());
  }
  return addresses;
}

std::vector<Listener> ListOf(Listener listener) {
  std::vector<Listener> listeners;
  listeners.push_back(std::move(listener));
  return listeners;
}

}  // namespace

Acceptor::Acceptor(Listener listener) : Acceptor(ListOf(std::move(listener))) {}

Acceptor::Acceptor(std::vector<Listener> listeners)
    : listeners_(std::make_move_iterator(listeners.begin()),
                 std::make_move_iterator(listeners.end())),
      open_(listeners_.size()),
      addresses_(AddressesOf(listeners_)),
      trouble_observer_([](const absl::Status&) {}) {}

void Acceptor::Start(PollLoop& loop, Take take) {
  loop_ = &loop;
  take_ = std::move(take);
  UpdateWatch();
}

void Acceptor::Want() {
  wanted_ = true;
  UpdateWatch();
}

void Acceptor::TryAgain() {
  paused_ = false;
  UpdateWatch();
}

absl::Status Acceptor::DropSynsFrom(absl::Span<const AddressRange> sources) {
  return brood::DropSynsFrom(listeners_, sources);
}

uint32_t Acceptor::PacketsDropped() const {
  return PacketsDroppedAt(listeners_);
}

void Acceptor::UpdateWatch() {
  const bool wanted = wanted_ && !paused_;
  if (wanted == std::exchange(watching_, wanted)) return;
  for (Listener& listener : listeners_) {
    if (listener.fd() == -1) continue;
    if (wanted) {
      loop_->Watch(listener.fd(),
                   [this, &listener] { return LetIn(listener); });
    } else {
      loop_->Unwatch(listener.fd());
    }
  }
}

absl::Status Acceptor::LetIn(Listener& listener) {
  const Listener::Batch batch =
      listener.AcceptBatch(kBatch, [&](Accepted&& client) {
        wanted_ = take_(std::move(client), listener.address());
        return wanted_;
      });
  if (!batch.trouble.ok()) {
    if (!batch.pause.has_value()) return batch.trouble;
    Tell(batch.trouble);
    PauseFor(*batch.pause);
  } else {
    Tell(absl::OkStatus());
  }
  UpdateWatch();
  return absl::OkStatus();
}

void Acceptor::PauseFor(absl::Duration time) {
  paused_ = true;
  // A timer of an earlier pause, which was cut short, must not end this one.
  loop_->CallAfter(time, [this, pause = ++pauses_] {
    if (pause == pauses_) TryAgain();
    return absl::OkStatus();
  });
}

void Acceptor::Tell(const absl::Status& status) {
  if (in_trouble_ == !status.ok()) return;
  in_trouble_ = !status.ok();
  trouble_observer_(status);
}

void Acceptor::Drain(absl::AnyInvocable<void()> done) {
  done_ = std::move(done);
  handshakes_until_ = MonotonicNow() + kHandshakes;
  // Where the door cannot be shut, there will be a moment when nobody waits.
  for (Listener& listener : listeners_) (void)listener.Drain();
  loop_->CallAfter(absl::ZeroDuration(), [this] { return CloseDrained(); });
}

absl::Status Acceptor::CloseDrained() {
  for (Listener& listener : listeners_) {
    // Who is let in last may stop the wanting, or close all doors.
    if (listener.fd() != -1 && wanted_ && !paused_) {
      if (absl::Status s = LetIn(listener); !s.ok()) return s;
    }
    if (listener.fd() != -1 && IsDrained(listener)) Shut(listener);
  }
  if (open_ > 0) {
    loop_->CallAfter(kLookAgain, [this] { return CloseDrained(); });
  } else if (done_ != nullptr) {
    std::exchange(done_, nullptr)();
  }
  return absl::OkStatus();
}

bool Acceptor::IsDrained(const Listener& listener) const {
  if (listener.Drained().value_or(false)) return true;
  // Handshakes that do not end, or of which the kernel does not tell.
  return MonotonicNow() >= handshakes_until_ &&
         !PollUntil(listener.fd(), POLLIN, absl::InfinitePast())
              .value_or(false);
}

void Acceptor::Shut(Listener& listener) {
  if (watching_) loop_->Unwatch(listener.fd());
  (void)listener.Close();
  --open_;
}

void Acceptor::Close() {
  done_ = nullptr;
  for (Listener& listener : listeners_) {
    if (listener.fd() != -1) Shut(listener);
  }
}

}  // namespace brood
