// SPDX-License-Identifier: Apache-2.0
// What one arrival and its end cost beside 10,000 live connections: with one
// number for all, with sources counted, with a rate, and with a rate while the
// table is full of sources that came once.
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "benchmark/benchmark.h"
#include "brood/net/address.h"
#include "brood/server/admission.h"

namespace brood {
namespace {

constexpr absl::Duration kNow = absl::Hours(1);
constexpr int64_t kFast = 1'000'000;

Admission::Client Source(int64_t n) {
  return Admission::Client::Of(*Address::Parse(absl::StrCat(
      "[2001:db8:", absl::Hex(n >> 16), ":", absl::Hex(n & 0xffff), "::1]:1")));
}

void ArriveAndEnd(benchmark::State& state, const ConnectionLimits& limits,
                  int64_t others) {
  Admission admission(limits);
  std::vector<Admission::Slot> slots;
  for (int64_t i = 0; i < 10'000; ++i) {
    slots.push_back(std::move(admission.Arrive(Source(i), kNow).slot));
  }
  for (int64_t i = 0; i < others; ++i) {
    admission.Arrive(Source(10'000 + i), kNow);
  }
  const Admission::Client client = Source(5);
  absl::Duration now = kNow;
  for (auto _ : state) {
    now += absl::Microseconds(10);
    benchmark::DoNotOptimize(admission.Arrive(client, now).slot.held());
  }
}

void BM_OneNumber(benchmark::State& state) {
  ArriveAndEnd(state, {.max_connections = 20'000}, 0);
}
BENCHMARK(BM_OneNumber);

void BM_Sources(benchmark::State& state) {
  ArriveAndEnd(state, {.max_connections_per_source = 8}, 0);
}
BENCHMARK(BM_Sources);

void BM_Rate(benchmark::State& state) {
  ArriveAndEnd(state, {.rate_per_source = {.connections = kFast, .burst = 9}},
               0);
}
BENCHMARK(BM_Rate);

void BM_RateInASpray(benchmark::State& state) {
  // So slow that none of them can be forgotten.
  ArriveAndEnd(state,
               {.rate_per_source = {.connections = 1,
                                    .period = absl::Hours(1),
                                    .burst = UINT32_MAX}},
               100'000);
}
BENCHMARK(BM_RateInASpray);

}  // namespace
}  // namespace brood
