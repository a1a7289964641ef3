// SPDX-License-Identifier: Apache-2.0
// The input is a stream that begins with a PROXY header of version 2, or not.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/log/check.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "brood/net/proxy_protocol.h"

namespace brood {
namespace {

constexpr ProxyHeaderOptions kOptions = {.v1 = false, .max_size = 2048};
constexpr size_t kMostHeld = kOptions.max_size;

struct Outcome {
  absl::StatusOr<ProxyHeader> header = absl::UnavailableError("more");
  size_t taken = 0;
};

// What becomes of `bytes` if they come in pieces of `size`.
Outcome Parse(std::string_view bytes, size_t size) {
  ProxyHeaderParser parser(kOptions);
  Outcome outcome;
  for (; !bytes.empty(); bytes.remove_prefix(size)) {
    if (size > bytes.size()) size = bytes.size();
    const absl::StatusOr<size_t> taken = parser.Feed(bytes.substr(0, size));
    CHECK_LE(parser.size(), kMostHeld);
    if (!taken.ok()) {
      outcome.header = taken.status();
      return outcome;
    }
    CHECK(parser.done() ? *taken <= size : *taken == size);
    outcome.taken += *taken;
  }
  CHECK_EQ(outcome.taken, parser.size());
  if (parser.done()) outcome.header = parser.header();
  return outcome;
}

void Run(std::string_view bytes) {
  const Outcome whole = Parse(bytes, bytes.size());
  for (const size_t size : {1, 7}) {
    const Outcome pieces = Parse(bytes, size);
    CHECK_EQ(pieces.header.status(), whole.header.status());
    if (!whole.header.ok()) continue;
    CHECK(*pieces.header == *whole.header);
    CHECK_EQ(pieces.taken, whole.taken);
  }
  if (!whole.header.ok()) {
    CHECK(absl::IsUnavailable(whole.header.status()) ||
          absl::StrContains(whole.header.status().message(), ": expected "))
        << whole.header.status();
    return;
  }
  CHECK(whole.header->version == ProxyHeader::Version::k2);
  // What has been checked is there to be read.
  CHECK_EQ(whole.header->ssl().has_value(),
           whole.header->Find(ProxyTlv::kSsl).has_value());
  const absl::StatusOr<std::string> written = FormatProxyHeader(*whole.header);
  CHECK_OK(written);
  const Outcome again = Parse(*written, written->size());
  CHECK_OK(again.header);
  CHECK(*again.header == *whole.header);
  CHECK_EQ(again.taken, written->size());
}

}  // namespace
}  // namespace brood

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  brood::Run(std::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
