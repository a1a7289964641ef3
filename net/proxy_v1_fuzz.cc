// SPDX-License-Identifier: Apache-2.0
// The input is a stream that begins with a PROXY header of version 1, or not.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/log/check.h"
#include "brood/net/proxy_header_checks.h"
#include "brood/net/proxy_protocol.h"

namespace brood {
namespace {

constexpr size_t kLongestLine = 107;

void Run(std::string_view bytes) {
  const std::optional<ProxyHeader> header =
      CheckProxyHeader(bytes, {.v2 = false}, kLongestLine);
  if (!header.has_value()) return;
  CHECK(header->version == ProxyHeader::Version::k1);
}

}  // namespace
}  // namespace brood

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  brood::Run(std::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
