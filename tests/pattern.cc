// SPDX-License-Identifier: Apache-2.0
#include "brood/tests/pattern.h"

#include <poll.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/stream.h"
#include "brood/proc/posix.h"

namespace brood {
namespace {

constexpr size_t kChunk = 1 << 14;

// Of all values, and with no period that a buffer's size could hide.
char PatternAt(size_t place) {
  uint64_t mixed = (place + 1) * 0x9e3779b97f4a7c15;
  mixed ^= mixed >> 29;
  return static_cast<char>(mixed * 0xbf58476d1ce4e5b9 >> 56);
}

class Exchange {
 public:
  Exchange(Stream& stream, size_t size, SayEnd say_end)
      : stream_(stream), size_(size), say_end_(say_end) {}

  bool over() const { return ended_; }
  short awaited() const { return sent_ < size_ ? POLLIN | POLLOUT : POLLIN; }

  absl::Status Send() {
    if (sent_ == size_) return absl::OkStatus();
    std::string chunk(std::min(kChunk, size_ - sent_), '\0');
    for (size_t i = 0; i < chunk.size(); ++i) chunk[i] = PatternAt(sent_ + i);
    const absl::StatusOr<IoResult> sent = stream_.TryWrite(chunk);
    if (!sent.ok()) return sent.status();
    sent_ += sent->bytes().value_or(0);
    return absl::OkStatus();
  }

  absl::Status Receive() {
    const absl::StatusOr<IoResult> got =
        stream_.TryRead(absl::MakeSpan(buffer_));
    if (!got.ok()) return got.status();
    for (size_t i = 0; i < got->bytes().value_or(0); ++i, ++received_) {
      if (received_ == size_ || buffer_[i] != PatternAt(received_)) {
        return absl::DataLossError(absl::StrCat("byte ", received_, " of ",
                                                size_, " came as ",
                                                static_cast<int>(buffer_[i])));
      }
    }
    ended_ = got->end();
    if (!ended_ || received_ == size_) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat("the end came after ", received_,
                                            " of ", size_, " bytes"));
  }

  absl::Status SayEndIfDue() {
    const bool due =
        (say_end_ == SayEnd::kWhenAllIsSent ? sent_ : received_) == size_;
    if (!due || std::exchange(said_end_, true)) return absl::OkStatus();
    return stream_.ShutdownWrite();
  }

 private:
  Stream& stream_;
  size_t size_;
  SayEnd say_end_;
  std::vector<char> buffer_ = std::vector<char>(kChunk);
  size_t sent_ = 0;
  size_t received_ = 0;
  bool said_end_ = false;
  bool ended_ = false;
};

}  // namespace

absl::Status SendPattern(Stream& stream, size_t size, absl::Time deadline,
                         SayEnd say_end) {
  Exchange exchange(stream, size, say_end);
  while (!exchange.over()) {
    const absl::StatusOr<bool> ready =
        PollUntil(stream.fd(), exchange.awaited(), deadline);
    if (!ready.ok()) return ready.status();
    if (!*ready) return absl::DeadlineExceededError("send the pattern");
    if (absl::Status s = exchange.Send(); !s.ok()) return s;
    if (absl::Status s = exchange.Receive(); !s.ok()) return s;
    if (absl::Status s = exchange.SayEndIfDue(); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status EchoPattern(Stream& stream, absl::Time deadline) {
  std::vector<char> buffer(kChunk);
  for (;;) {
    const absl::StatusOr<IoResult> got =
        stream.Read(absl::MakeSpan(buffer), deadline);
    if (!got.ok()) return got.status();
    if (got->end()) return stream.ShutdownWrite();
    const std::string_view bytes(buffer.data(), *got->bytes());
    if (absl::Status s = stream.WriteAll(bytes, deadline); !s.ok()) return s;
  }
}

}  // namespace brood
