// SPDX-License-Identifier: Apache-2.0
//
// Rules say who may come at all: the first rule that names a client decides.
//
//   absl::StatusOr<std::string> Judge(std::string_view text,
//                                     const Address& peer) {
//     const absl::StatusOr<Rules> rules = Rules::Parse(text, "office.rules");
//     if (!rules.ok()) return rules.status();
//     const Rules::Match match = rules->Lookup(peer);
//     return absl::StrCat(match.allowed ? "welcome: " : "go away: ",
//                         match.rule == nullptr ? "nobody named you"
//                                               : match.rule->ToString());
//   }
//
// What it is not: a limit. How many of those who may come can be inside, and
// how fast they may come, is admission.h.
//
// The text form, a rule a line:
//
//   # The office, but not its printer.
//   deny 192.0.2.9
//   allow 192.0.2.0/24, 2001:db8::/32
//   allow unix                        # whoever comes by a unix socket
//   deny all                          # of whatever family
//
// A rule is "allow" or "deny", and then ranges, as address_range.h reads them,
// with commas between; blanks do not matter, nor empty lines, and # begins a
// comment.
//
// Whom no rule names is let in if every rule is a deny, as in a list of those
// to keep out, and is denied if any rule is an allow: where some are let in by
// name, the others are not. "allow all" at the end says otherwise. So no rules
// at all let everybody in.
//
// Of flags: --deny comes before --allow, in whatever order they were given, so
// that one may be kept out of a range that is let in.
//
// Lookup is one step in a hash table for each length of a prefix that the rules
// know, however many rules there are.
//
// Errors: malformed text is InvalidArgument, one line: "office.rules:3:7: ",
// which is the line, and the column where the word begins, in bytes, both from
// 1; then the word, and what may stand there.
//
// Threads, signals, fork: a value; does not change, ask it from anywhere.
// Rests on: address_range.h.
#ifndef BROOD_SERVER_RULES_H_
#define BROOD_SERVER_RULES_H_

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/address_range.h"

namespace brood {

class Rules {
 public:
  struct Rule {
    bool allows;
    // "office.rules:3"; empty for a flag.
    std::string where;
    // "deny 192.0.2.9", as it was written; "--deny=192.0.2.9".
    std::string text;

    // "office.rules:3: deny 192.0.2.9"; "--deny=192.0.2.9".
    std::string ToString() const;
  };

  struct Match {
    bool allowed;
    // Which rule says so, borrowed from the Rules; null if none names it.
    const Rule* rule;
  };

  // No rules.
  Rules() = default;

  // `name` is what the text is called in errors, as the path of a file.
  static absl::StatusOr<Rules> Parse(std::string_view text,
                                     std::string_view name);
  // Of the values of --allow and --deny, each a list of ranges. An error names
  // the flag.
  static absl::StatusOr<Rules> FromFlags(
      absl::Span<const std::string_view> allow,
      absl::Span<const std::string_view> deny);

  Match Lookup(const Address& peer) const;

  // In their order.
  absl::Span<const Rule> rules() const { return rules_; }
  // What becomes of those whom no rule names.
  bool allows_others() const { return allows_others_; }

 private:
  // The place of the first rule that names them.
  using First = std::optional<size_t>;

  // Adds the rule for who is in `list`. `at` says where something in the list
  // is, for the beginning of an error.
  absl::Status Add(
      Rule rule, std::string_view list,
      absl::FunctionRef<std::string(std::string_view something)> at);

  std::vector<Rule> rules_;
  bool allows_others_ = true;
  First all_;
  First unix_;
  absl::flat_hash_map<AddressRange, size_t> ranges_;
  // The lengths of the prefixes in ranges_: of IPv4, of IPv6.
  std::array<std::vector<int>, 2> lengths_;
};

}  // namespace brood

#endif  // BROOD_SERVER_RULES_H_
