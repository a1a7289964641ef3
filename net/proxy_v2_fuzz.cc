// SPDX-License-Identifier: Apache-2.0
// The input is a stream that begins with a PROXY header of version 2, or not.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/log/check.h"
#include "brood/net/proxy_header_checks.h"
#include "brood/net/proxy_protocol.h"

namespace brood {
namespace {

constexpr size_t kLargest = 2048;

void Run(std::string_view bytes) {
  const std::optional<ProxyHeader> header =
      CheckProxyHeader(bytes, {.v1 = false, .max_size = kLargest}, kLargest);
  if (!header.has_value()) return;
  CHECK(header->version == ProxyHeader::Version::k2);
  // What has been checked is there to be read.
  CHECK_EQ(header->ssl().has_value(), header->Find(ProxyTlv::kSsl).has_value());
}

}  // namespace
}  // namespace brood

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  brood::Run(std::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
