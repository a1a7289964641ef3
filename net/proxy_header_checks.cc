// SPDX-License-Identifier: Apache-2.0
#include "brood/net/proxy_header_checks.h"

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "absl/log/check.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "brood/net/proxy_protocol.h"

namespace brood {
namespace {

struct Outcome {
  absl::StatusOr<ProxyHeader> header = absl::UnavailableError("more");
  size_t taken = 0;
};

// What becomes of `bytes` if they come in pieces of `size`.
Outcome Parse(std::string_view bytes, size_t size,
              const ProxyHeaderOptions& options, size_t most_held) {
  ProxyHeaderParser parser(options);
  Outcome outcome;
  for (; !bytes.empty(); bytes.remove_prefix(size)) {
    if (size > bytes.size()) size = bytes.size();
    const absl::StatusOr<size_t> taken = parser.Feed(bytes.substr(0, size));
    CHECK_LE(parser.size(), most_held);
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

}  // namespace

std::optional<ProxyHeader> CheckProxyHeader(std::string_view bytes,
                                            const ProxyHeaderOptions& options,
                                            size_t most_held) {
  const Outcome whole = Parse(bytes, bytes.size(), options, most_held);
  for (const size_t size : {1, 7}) {
    const Outcome pieces = Parse(bytes, size, options, most_held);
    CHECK_EQ(pieces.header.status(), whole.header.status());
    if (!whole.header.ok()) continue;
    CHECK(*pieces.header == *whole.header);
    CHECK_EQ(pieces.taken, whole.taken);
  }
  if (!whole.header.ok()) {
    CHECK(absl::IsUnavailable(whole.header.status()) ||
          absl::StrContains(whole.header.status().message(), ": expected "))
        << whole.header.status();
    return std::nullopt;
  }
  const absl::StatusOr<std::string> written = FormatProxyHeader(*whole.header);
  CHECK_OK(written);
  const Outcome again = Parse(*written, written->size(), options, most_held);
  CHECK_OK(again.header);
  CHECK(*again.header == *whole.header);
  CHECK_EQ(again.taken, written->size());
  return *whole.header;
}

}  // namespace brood
