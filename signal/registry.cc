// SPDX-License-Identifier: Apache-2.0
#include "brood/signal/registry.h"

#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/posix.h"
#include "brood/signal/signal_source.h"

namespace brood {

absl::StatusOr<SignalRegistry> SignalRegistry::Create(
    const SignalSourceOptions& options) {
  absl::StatusOr<SignalSource> source = SignalSource::Create({}, options);
  if (!source.ok()) return source.status();
  return SignalRegistry(*std::move(source));
}

absl::Status SignalRegistry::Add(int signo, Callback callback) {
  if (callback == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the callback for ", NameOfSignal(signo), " must be a function"));
  }
  const absl::Status added = source_.Add(signo);
  if (!added.ok()) return added;
  if (source_.signals().Contains(signo)) {
    callbacks_[signo] = std::make_shared<Callback>(std::move(callback));
  }
  return absl::OkStatus();
}

void SignalRegistry::Remove(int signo) {
  source_.Remove(signo);
  callbacks_.erase(signo);
}

absl::StatusOr<int> SignalRegistry::Dispatch() {
  int ran = 0;
  while (ran < kBatch) {
    const absl::StatusOr<std::optional<SignalSource::Event>> event =
        source_.Next();
    if (!event.ok()) return event.status();
    if (!event->has_value()) break;
    const auto entry = callbacks_.find((*event)->signal.signo);
    if (entry == callbacks_.end()) continue;
    const std::shared_ptr<Callback> callback = entry->second;
    (*callback)(**event);
    ++ran;
  }
  return ran;
}

}  // namespace brood
