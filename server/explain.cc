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

std::string AtMost(size_t limit) {
  if (limit == ConnectionLimits::kNone) return "no limit";
  return absl::StrCat("at most ", limit);
}

}  // namespace

absl::StatusOr<std::string> Explain(std::string_view client, const Rules& rules,
                                    const Admission& admission,
                                    absl::Duration now,
                                    const SourceKey::Lengths& lengths) {
  const absl::StatusOr<Address> peer = ParseClient(client);
  if (!peer.ok()) return peer.status();
  const Rules::Match match = rules.Lookup(*peer);
  std::string lines = absl::StrCat(
      client, ": ", match.allowed ? "allowed" : "denied",
      match.rule != nullptr ? absl::StrCat(" by ", match.rule->ToString())
      : match.allowed       ? ", for no rule names it"
                      : ", for no rule names it and there are rules that allow",
      "\n");
  if (!match.allowed) return lines;

  const Admission::Answer answer =
      admission.Preview(Admission::Client::Of(*peer, lengths), now);
  const ConnectionLimits& limits = admission.limits();
  absl::StrAppend(&lines, "counts as ", answer.source, ": ",
                  admission.connections_of(answer.source), " connections, ",
                  AtMost(limits.max_connections_per_source), "; rate ",
                  limits.rate_per_source.ToString(), "\n");
  absl::StrAppend(&lines, "all together: ", admission.connections(),
                  " connections, ", AtMost(limits.max_connections), "\n");
  absl::StrAppend(&lines, "now: ", answer.ToString(), "\n");
  return lines;
}

}  // namespace brood
