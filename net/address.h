// SPDX-License-Identifier: Apache-2.0
//
// An Address is where a stream socket is, or where it is to be: an IPv4 or IPv6
// address with a port, a unix path, a unix abstract name, or no name at all.
//
//   absl::StatusOr<std::string> Describe(std::string_view flag) {
//     const absl::StatusOr<Address> address = Address::Parse(flag);
//     if (!address.ok()) return address.status();  // Quotes `flag`.
//     switch (address->family()) {
//       case AF_INET:
//         return absl::StrCat("v4, port ", *address->port());
//       case AF_INET6:
//         return absl::StrCat("v6, port ", *address->port());
//     }
//     return absl::StrCat("on this machine: ", *address);
//   }
//
// What it is not: a host name. Nothing is looked up in any name service.
//
// The text form, which ToString writes and Parse reads:
//
//   127.0.0.1:7007        IPv4
//   [::1]:7007            IPv6
//   [fe80::1%2]:7007      IPv6 in the scope of interface 2; Parse also reads
//                         the interface's name, as in %lo
//   :7007                 every address of this machine, of both families
//   unix:/run/x           unix, a path of 1 to 108 bytes; it may be relative
//   unix:@name            unix, an abstract name of 0 to 107 bytes
//   unix:(unnamed)        unix, without a name, as most clients are
//
// In a path and in a name, NUL, the backslash and whatever is not printable
// ASCII is written \xNN, and so is an @ that begins a path; Parse takes every
// byte but the backslash as it is, too. Parse(a.ToString()) == a, always: that
// is why ToString writes a scope as its number, for interfaces come and go.
//
// :7007 is a place to listen. For the kernel it is [::]:7007 on a socket that
// takes IPv4 as well; no sockaddr can say that, so the Address does, and is
// another than [::]:7007, which is IPv6 alone. A client that comes to such a
// socket by IPv4 has a mapped address, as in [::ffff:192.0.2.1]:1; Unmapped()
// is the one it has itself.
//
// A path of 108 bytes fills sun_path and leaves no room for a NUL. Linux
// accepts that, therefore so does this class; pass sockaddr_length() along.
//
// Errors: malformed text is InvalidArgument, one line that quotes the text, or
// the beginning of a long one, and says what was expected at which character,
// counted in bytes from 1. Looking up an interface needs a descriptor:
// ResourceExhausted (EMFILE, ENFILE).
//
// Threads, signals, fork: a value; compare, hash and copy it anywhere.
// Rests on: ip(7), ipv6(7), unix(7), inet_ntop(3), netdevice(7).
#ifndef BROOD_NET_ADDRESS_H_
#define BROOD_NET_ADDRESS_H_

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "absl/status/statusor.h"

namespace brood {

class Address {
 public:
  static constexpr size_t kMaxUnixPath = sizeof(sockaddr_un::sun_path);
  static constexpr size_t kMaxAbstractName = kMaxUnixPath - 1;

  // The unnamed unix address.
  Address();

  static absl::StatusOr<Address> Parse(std::string_view text);
  // The path as it is, nothing escaped: not empty, without NUL.
  static absl::StatusOr<Address> UnixPath(std::string_view path);
  // The name without the NUL that marks it in sun_path; any bytes will do.
  static absl::StatusOr<Address> UnixAbstract(std::string_view name);
  // Every address of this machine, of both families.
  static Address Everywhere(uint16_t port);
  // From what the kernel wrote, `length` being what it stored as the length. An
  // IPv6 flow label, which is not part of where a socket is, is dropped.
  static absl::StatusOr<Address> FromSockaddr(const struct sockaddr* address,
                                              socklen_t length);

  // For bind(2) and connect(2). Borrowed.
  const struct sockaddr* sockaddr() const { return &storage_.generic; }
  socklen_t sockaddr_length() const { return length_; }

  // AF_INET, AF_INET6 or AF_UNIX.
  sa_family_t family() const { return storage_.generic.sa_family; }
  // True only of what Everywhere() makes, whose family is AF_INET6: what binds
  // it clears IPV6_V6ONLY.
  bool both_families() const { return both_families_; }
  // The IPv4 address that this is the IPv6 form of, with the same port; itself
  // if it is no such form.
  Address Unmapped() const;
  // The port, if the family has ports.
  std::optional<uint16_t> port() const;
  // The number of the interface in whose scope it is; 0 if in none.
  uint32_t scope() const;
  // The path, borrowed and not NUL-terminated, if this is one.
  std::optional<std::string_view> unix_path() const;
  // The name without its leading NUL, borrowed, if this is an abstract one.
  std::optional<std::string_view> unix_abstract_name() const;

  std::string ToString() const;

  friend bool operator==(const Address& a, const Address& b) {
    return a.Key() == b.Key();
  }
  // By family, then host or name, then scope, then port; Everywhere() comes
  // after all of [::].
  friend std::strong_ordering operator<=>(const Address& a, const Address& b) {
    return a.Key() <=> b.Key();
  }
  template <typename H>
  friend H AbslHashValue(H h, const Address& address) {
    return H::combine(std::move(h), address.Key());
  }
  template <typename Sink>
  friend void AbslStringify(Sink& sink, const Address& address) {
    sink.Append(address.ToString());
  }
  friend std::ostream& operator<<(std::ostream& os, const Address& address) {
    return os << address.ToString();
  }

 private:
  explicit Address(const sockaddr_in& address);
  explicit Address(const sockaddr_in6& address);
  // `name` is what goes into sun_path, a leading NUL included.
  static Address FromUnixName(std::string_view name);

  // Family; host or unix name, in network order; scope; whether IPv4 too; port
  // in host order.
  std::tuple<sa_family_t, std::string_view, uint32_t, bool, uint16_t> Key()
      const;
  // The bytes of sun_path that count. REQUIRES: AF_UNIX.
  std::string_view UnixName() const;

  union {
    struct sockaddr generic;
    sockaddr_in v4;
    sockaddr_in6 v6;
    sockaddr_un local;
  } storage_;
  socklen_t length_;
  bool both_families_ = false;
};

// Where the socket `fd` is bound. Asks an IPv6 socket whether it takes IPv4.
absl::StatusOr<Address> LocalAddressOf(int fd);
// Where the socket at the other end of `fd` is bound. A connection that was
// reset has no other end any more: FailedPrecondition (ENOTCONN).
absl::StatusOr<Address> PeerAddressOf(int fd);

}  // namespace brood

#endif  // BROOD_NET_ADDRESS_H_
