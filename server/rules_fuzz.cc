// SPDX-License-Identifier: Apache-2.0
// The input is read as a file of rules; what comes of it is written again, rule
// by rule, and must mean the same.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/log/check.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "brood/net/address.h"
#include "brood/server/rules.h"

namespace brood {
namespace {

void ReadAsFile(std::string_view text) {
  const absl::StatusOr<Rules> rules = Rules::Parse(text, "file");
  if (!rules.ok()) {
    const std::string_view message = rules.status().message();
    CHECK(absl::StartsWith(message, "file:")) << message;
    CHECK(absl::StrContains(message, ": expected ")) << message;
    CHECK(!absl::StrContains(message, '\n')) << message;
    return;
  }
  std::string again;
  for (const Rules::Rule& rule : rules->rules()) {
    absl::StrAppend(&again, rule.text, "\n");
  }
  const absl::StatusOr<Rules> same = Rules::Parse(again, "again");
  CHECK(same.ok()) << same.status();
  CHECK_EQ(same->rules().size(), rules->rules().size());
  CHECK_EQ(same->allows_others(), rules->allows_others());
  for (const char* peer : {"0.0.0.0:0", "10.0.0.1:1", "192.0.2.9:1",
                           "[2001:db8::1]:1", "[::]:1", "unix:/x"}) {
    const Address address = *Address::Parse(peer);
    const Rules::Match a = rules->Lookup(address);
    const Rules::Match b = same->Lookup(address);
    CHECK_EQ(a.allowed, b.allowed) << peer;
    CHECK_EQ(a.rule == nullptr, b.rule == nullptr) << peer;
    if (a.rule == nullptr) continue;
    CHECK_EQ(a.allowed, a.rule->allows) << peer;
    CHECK_EQ(a.rule - rules->rules().data(), b.rule - same->rules().data())
        << peer;
  }
}

}  // namespace
}  // namespace brood

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  brood::ReadAsFile({reinterpret_cast<const char*>(data), size});
  return 0;
}
