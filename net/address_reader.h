// SPDX-License-Identifier: Apache-2.0
//
// An AddressReader walks through the text of an address once, from left to
// right, and knows at every moment where it is.
//
//   absl::StatusOr<in_addr> ReadHost(std::string_view text) {
//     AddressReader reader("host", text);
//     in_addr host;
//     if (absl::Status s = reader.IPv4(host); !s.ok()) return s;
//     if (!reader.AtEnd()) return reader.Expected("nothing more");
//     return host;
//   }
//
// What it is not: public. It is what the classes of this package that read
// addresses have in common.
//
// inet_pton(3) says whether a text is an address, but not where the mistake is,
// and that is what a person needs. So it is not called; a test holds this class
// to its verdict.
//
// Errors: InvalidArgument, one line that names the kind of thing, quotes the
// text (see quoted.h) and says what was expected at which character. After an
// error the reader stands where the mistake is.
//
// Threads, signals, fork: a value that borrows the text.
#ifndef BROOD_NET_ADDRESS_READER_H_
#define BROOD_NET_ADDRESS_READER_H_

#include <netinet/in.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace brood {

class AddressReader {
 public:
  // `kind` is what the text should be, as in "address".
  AddressReader(std::string_view kind, std::string_view text)
      : kind_(kind), text_(text) {}

  bool AtEnd() const { return at_ == text_.size(); }
  // At digits and a dot.
  bool AtDottedNumber() const;
  // At a colon, or at hexadecimal digits and a colon.
  bool AtGroup() const;
  // At that, and there is another colon.
  bool AtBareIPv6() const;
  std::string_view Rest() const { return text_.substr(at_); }

  // Steps over `token`, if it is here.
  bool Skip(std::string_view token);
  // Steps over a decimal number of at most `max` and without leading zeros,
  // which some read as octal; nullopt if there is none.
  std::optional<uint32_t> Decimal(uint32_t max);

  absl::Status IPv4(in_addr& address);
  absl::Status IPv6(in6_addr& address);
  // An interface's name or number, up to the bracket that ends the host.
  absl::Status Scope(uint32_t& scope);
  // A colon, a port in network order, and the end.
  absl::Status Port(in_port_t& port);
  // All that is left, unescaped.
  absl::Status UnixName(size_t max, bool may_have_nul, std::string& name);

  // The error that `what` is not here.
  absl::Status Expected(std::string_view what) const;

 private:
  template <typename Predicate>
  size_t CountWhile(Predicate predicate) const {
    const std::string_view rest = Rest();
    const auto end = std::find_if_not(rest.begin(), rest.end(), predicate);
    return end - rest.begin();
  }

  std::string_view kind_;
  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace brood

#endif  // BROOD_NET_ADDRESS_READER_H_
