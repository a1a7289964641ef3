// SPDX-License-Identifier: Apache-2.0
#include "brood/server/explain.h"

#include <sys/socket.h>

#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/source_key.h"
#include "brood/server/admission.h"
#include "brood/server/rules.h"

namespace brood {
namespace {

std::string AtMost(size_t limit) {
  if (limit == ConnectionLimits::kNone) return "no limit";
  return absl::StrCat("at most ", limit);
}

}  // namespace

absl::StatusOr<Address> ParseClient(std::string_view text) {
  if (text == "unix") return Address();
  // The port counts nowhere. (A unix path would take it for its own.)
  for (const std::string& attempt :
       {std::string(text), absl::StrCat(text, ":0"),
        absl::StrCat("[", text, "]:0")}) {
    const absl::StatusOr<Address> address = Address::Parse(attempt);
    if (!address.ok() || address->both_families()) continue;
    if (address->family() == AF_UNIX && attempt != text) continue;
    return address;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "client \"", absl::CHexEscape(text),
      "\": expected an address, as 203.0.113.7, 2001:db8::7 or unix"));
}

std::string ExplainRule(std::string_view client, const Rules::Match& match) {
  return absl::StrCat(
      client, ": ", match.allowed ? "allowed" : "denied",
      match.rule != nullptr ? absl::StrCat(" by ", match.rule->ToString())
      : match.allowed       ? ", for no rule names it"
                      : ", for no rule names it and there are rules that allow",
      "\n");
}

std::string ExplainLimits(const Admission::Client& client,
                          const Admission& admission, absl::Duration now) {
  const Admission::Answer answer = admission.Preview(client, now);
  const ConnectionLimits& limits = admission.limits();
  const bool known = admission.counts_sources() || admission.connections() == 0;
  return absl::StrCat(
      "counts as ", answer.source, ": ",
      known ? absl::StrCat(admission.connections_of(answer.source),
                           " connections, ")
            : "connections not counted, ",
      AtMost(limits.max_connections_per_source), "; rate ",
      limits.rate_per_source.ToString(),
      "\nall together: ", admission.connections(), " connections, ",
      AtMost(limits.max_connections), "\nnow: ", answer.ToString(), "\n");
}

absl::StatusOr<std::string> Explain(std::string_view client, const Rules& rules,
                                    const Admission& admission,
                                    absl::Duration now,
                                    const SourceKey::Lengths& lengths) {
  const absl::StatusOr<Address> peer = ParseClient(client);
  if (!peer.ok()) return peer.status();
  const Rules::Match match = rules.Lookup(*peer);
  std::string lines = ExplainRule(client, match);
  if (!match.allowed) return lines;
  return absl::StrCat(
      lines,
      ExplainLimits(Admission::Client::Of(*peer, lengths), admission, now));
}

absl::StatusOr<std::string> ExplainForgotten(const Forgotten& forgotten) {
  const std::string source = forgotten.source.ToString();
  if (!forgotten.before.has_value() || !forgotten.now.has_value()) {
    if (forgotten.heard_again) return absl::StrCat(source, ": heard again\n");
    return absl::FailedPreconditionError(
        "no rate is limited, so there is nothing to forget");
  }
  return absl::StrCat(source, ": ", *forgotten.before,
                      " left of its rate, now ", *forgotten.now,
                      forgotten.heard_again ? "; heard again\n" : "\n");
}

}  // namespace brood
