// SPDX-License-Identifier: Apache-2.0
//
// ParseHosts() reads hosts as somebody writes many of them.
//
//   absl::StatusOr<size_t> HowMany(std::string_view flag) {
//     const absl::StatusOr<std::vector<Address>> hosts = ParseHosts(flag);
//     if (!hosts.ok()) return hosts.status();  // Quotes what is no host.
//     return hosts->size();
//   }
//
// What it is not: a set. Each host comes as often as it is written, in that
// order.
//
// With commas between them, each is an address without a port, as in 127.0.0.1
// or ::1; the first and the last of several, as in 127.0.0.1-127.0.0.50; or a
// range, as in 127.0.0.0/28, of which each host is one. Together they are at
// most kMaxHosts.
//
// Errors: InvalidArgument, one line that quotes what is wrong.
//
// Threads, signals, fork: a pure function. Rests on: RFC 4632.
#ifndef BROOD_TOOLS_LOAD_HOST_LIST_H_
#define BROOD_TOOLS_LOAD_HOST_LIST_H_

#include <cstddef>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "brood/net/address.h"

namespace brood {

inline constexpr size_t kMaxHosts = 65'536;

// Each with port 0.
absl::StatusOr<std::vector<Address>> ParseHosts(std::string_view text);

}  // namespace brood

#endif  // BROOD_TOOLS_LOAD_HOST_LIST_H_
