// SPDX-License-Identifier: Apache-2.0
//
// Explain says which rule and which limits would speak if a client came, in
// lines that a person reads.
//
//   int PrintExplanation(std::string_view flag, const Rules& rules,
//                        const Admission& admission) {
//     const absl::StatusOr<std::string> lines =
//         Explain(flag, rules, admission, MonotonicNow());
//     if (!lines.ok()) std::cerr << lines.status().message() << "\n";
//     if (lines.ok()) std::cout << *lines;
//     return lines.ok() ? 0 : 2;
//   }
//
// What it is not: an arrival. Nothing is counted and no token is taken. Of an
// Admission that was just made it tells what the flags mean, and of one that a
// server runs on, how things stand.
//
//   203.0.113.7: denied by office.rules:3: deny 203.0.113.0/24
//
//   192.0.2.7: allowed by office.rules:4: allow 192.0.2.0/24
//   counts as 192.0.2.7: 2 connections, at most 8; rate 5/s,10
//   all together: 100 connections, at most 100
//   now: 192.0.2.7: 100 of 100 connections
//
// A client is written as 203.0.113.7, 2001:db8::7, unix, or as an address.h
// with its port. A network is none: which of its hosts is meant?
//
// Errors: InvalidArgument, one line that quotes what is no client.
//
// Threads, signals, fork: a pure function.
#ifndef BROOD_SERVER_EXPLAIN_H_
#define BROOD_SERVER_EXPLAIN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/source_key.h"
#include "brood/server/admission.h"
#include "brood/server/rules.h"

namespace brood {

absl::StatusOr<Address> ParseClient(std::string_view text);

// Each line ends in a newline.
absl::StatusOr<std::string> Explain(
    std::string_view client, const Rules& rules, const Admission& admission,
    absl::Duration now,
    const SourceKey::Lengths& lengths = SourceKey::Lengths());

// The same in its two parts: which rule speaks, of `client` as it was written,
// and of who is allowed, which limits would.
std::string ExplainRule(std::string_view client, const Rules::Match& match);
std::string ExplainLimits(const Admission::Client& client,
                          const Admission& admission, absl::Duration now);

// What it meant that a source was forgotten: how many were left of its rate
// before and are now, if there is one, and whether it had been shut out.
// FailedPrecondition where there was nothing to forget.
struct Forgotten {
  SourceKey source;
  std::optional<uint32_t> before;
  std::optional<uint32_t> now;
  bool heard_again;
};
absl::StatusOr<std::string> ExplainForgotten(const Forgotten& forgotten);

}  // namespace brood

#endif  // BROOD_SERVER_EXPLAIN_H_
