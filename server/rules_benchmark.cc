// SPDX-License-Identifier: Apache-2.0
// What it costs to look a client up among N rules, of one length of prefix or
// of twenty, and to read a file of them.
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "benchmark/benchmark.h"
#include "brood/net/address.h"
#include "brood/server/rules.h"

namespace brood {
namespace {

// `count` rules, none of which names who asks.
std::string Text(int64_t count, bool many_lengths) {
  std::string text;
  for (int64_t i = 0; i < count; ++i) {
    absl::StrAppend(&text, "deny ", 11 + (i >> 16), ".", (i >> 8) & 255, ".",
                    i & 255, ".0/24\n");
  }
  for (int length = 8; many_lengths && length < 28; ++length) {
    absl::StrAppend(&text, "deny 128.0.0.0/", length, "\n");
  }
  return text;
}

void BM_Lookup(benchmark::State& state) {
  const absl::StatusOr<Rules> rules =
      Rules::Parse(Text(state.range(0), state.range(1) != 0), "r");
  const Address peer = *Address::Parse("10.0.0.1:1");
  for (auto _ : state) {
    benchmark::DoNotOptimize(rules->Lookup(peer).allowed);
  }
}
BENCHMARK(BM_Lookup)
    ->ArgNames({"rules", "many_lengths"})
    ->ArgsProduct({{1, 100, 10'000, 1'000'000}, {0, 1}});

void BM_Parse(benchmark::State& state) {
  const std::string text = Text(state.range(0), false);
  for (auto _ : state) {
    benchmark::DoNotOptimize(Rules::Parse(text, "r").ok());
  }
}
BENCHMARK(BM_Parse)->ArgName("rules")->Arg(10'000);

}  // namespace
}  // namespace brood
