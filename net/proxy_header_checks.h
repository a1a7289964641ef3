// SPDX-License-Identifier: Apache-2.0
//
// CheckProxyHeader holds a ProxyHeaderParser to what it promises of any bytes.
//
//   void Run(std::string_view bytes) {
//     const std::optional<ProxyHeader> header =
//         CheckProxyHeader(bytes, {.v2 = false}, kLongestLine);
//     if (!header.has_value()) return;
//     CHECK(header->version == ProxyHeader::Version::k1);
//   }
//
// What it is not: public, or a test of its own. It is what the fuzz targets of
// the two versions have in common.
//
// Errors: aborts where a promise is broken, which is what a fuzzer looks for.
#ifndef BROOD_NET_PROXY_HEADER_CHECKS_H_
#define BROOD_NET_PROXY_HEADER_CHECKS_H_

#include <cstddef>
#include <optional>
#include <string_view>

#include "brood/net/proxy_protocol.h"

namespace brood {

// Feeds `bytes` to a parser with `options`, whole and in pieces: the outcome is
// the same, at most `most_held` bytes are held meanwhile, a refusal says what
// was expected, and a header that is written and read again is the same. The
// header, if they begin with one.
std::optional<ProxyHeader> CheckProxyHeader(std::string_view bytes,
                                            const ProxyHeaderOptions& options,
                                            size_t most_held);

}  // namespace brood

#endif  // BROOD_NET_PROXY_HEADER_CHECKS_H_
