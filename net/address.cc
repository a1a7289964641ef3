// SPDX-License-Identifier: Apache-2.0
#include "brood/net/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "brood/net/address_reader.h"
#include "brood/net/quoted.h"
#include "brood/proc/posix.h"

namespace brood {
namespace {

constexpr std::string_view kUnixPrefix = "unix:";
constexpr std::string_view kUnnamed = "(unnamed)";
constexpr size_t kUnixHeader = offsetof(sockaddr_un, sun_path);

std::string EscapeByte(char byte) {
  return absl::StrFormat("\\x%02x", static_cast<unsigned char>(byte));
}

std::string EscapeName(std::string_view name) {
  std::string escaped;
  for (const char c : name) {
    if (absl::ascii_isprint(c) && c != '\\') {
      escaped.push_back(c);
    } else {
      escaped += EscapeByte(c);
    }
  }
  return escaped;
}

// A path that would read as something else needs its first byte escaped.
std::string EscapePath(std::string_view path) {
  if (path.front() != '@' && path != kUnnamed) return EscapeName(path);
  return absl::StrCat(EscapeByte(path.front()), EscapeName(path.substr(1)));
}

absl::StatusOr<Address> AddressOf(int fd, std::string_view what,
                                  int (*ask)(int, struct sockaddr*,
                                             socklen_t*)) {
  sockaddr_storage storage = {};
  socklen_t length = sizeof(storage);
  auto* address = reinterpret_cast<struct sockaddr*>(&storage);
  if (ask(fd, address, &length) == -1) {
    return ErrnoStatus(errno, absl::StrCat(what, " of descriptor ", fd));
  }
  return Address::FromSockaddr(address, length);
}

// [::], of whatever port, and of no scope: a socket that has one of those is
// bound to less than everything.
bool IsIPv6Wildcard(const Address& address) {
  if (address.family() != AF_INET6 || address.scope() != 0) return false;
  sockaddr_in6 v6;
  std::memcpy(&v6, address.sockaddr(), sizeof(v6));
  return IN6_IS_ADDR_UNSPECIFIED(&v6.sin6_addr);
}

}  // namespace

Address::Address() : length_(kUnixHeader) {
  std::memset(&storage_, 0, sizeof(storage_));
  storage_.local.sun_family = AF_UNIX;
}

Address::Address(const sockaddr_in& address) : length_(sizeof(address)) {
  std::memset(&storage_, 0, sizeof(storage_));
  storage_.v4.sin_family = AF_INET;
  storage_.v4.sin_port = address.sin_port;
  storage_.v4.sin_addr = address.sin_addr;
}

Address::Address(const sockaddr_in6& address) : length_(sizeof(address)) {
  std::memset(&storage_, 0, sizeof(storage_));
  storage_.v6.sin6_family = AF_INET6;
  storage_.v6.sin6_port = address.sin6_port;
  storage_.v6.sin6_addr = address.sin6_addr;
  storage_.v6.sin6_scope_id = address.sin6_scope_id;
}

Address Address::FromUnixName(std::string_view name) {
  Address address;
  name.copy(address.storage_.local.sun_path, kMaxUnixPath);
  // A path is counted with its NUL, where there is room for one; in an abstract
  // name every byte counts.
  const bool counts_nul = name.front() != '\0' && name.size() < kMaxUnixPath;
  address.length_ =
      static_cast<socklen_t>(kUnixHeader + name.size() + (counts_nul ? 1 : 0));
  return address;
}

absl::StatusOr<Address> Address::Parse(std::string_view text) {
  AddressReader reader("address", text);
  if (reader.Skip(kUnixPrefix)) {
    if (reader.Rest() == kUnnamed) return Address();
    if (reader.AtEnd()) return reader.Expected("a path, or \"@\" and a name,");
    const bool abstract = reader.Skip("@");
    std::string name;
    const absl::Status status = reader.UnixName(
        abstract ? kMaxAbstractName : kMaxUnixPath, abstract, name);
    if (!status.ok()) return status;
    if (abstract) name.insert(name.begin(), '\0');
    return FromUnixName(name);
  }
  if (reader.Skip("[")) {
    sockaddr_in6 v6 = {};
    if (absl::Status s = reader.IPv6(v6.sin6_addr); !s.ok()) return s;
    if (reader.Skip("%")) {
      if (absl::Status s = reader.Scope(v6.sin6_scope_id); !s.ok()) return s;
    }
    if (!reader.Skip("]")) return reader.Expected("\"]\"");
    if (absl::Status s = reader.Port(v6.sin6_port); !s.ok()) return s;
    return Address(v6);
  }
  if (reader.AtBareIPv6()) {
    return reader.Expected("an IPv6 address in brackets, as in [::1]:7007,");
  }
  if (absl::StartsWith(text, ":")) {
    in_port_t port = 0;
    if (absl::Status s = reader.Port(port); !s.ok()) return s;
    return Everywhere(ntohs(port));
  }
  if (!reader.AtDottedNumber()) {
    return reader.Expected(
        "an IPv4 address, an IPv6 address in brackets, \":\" and a port, or "
        "\"unix:\" (names of hosts are not looked up)");
  }
  sockaddr_in v4 = {};
  if (absl::Status s = reader.IPv4(v4.sin_addr); !s.ok()) return s;
  if (absl::Status s = reader.Port(v4.sin_port); !s.ok()) return s;
  return Address(v4);
}

Address Address::Everywhere(uint16_t port) {
  sockaddr_in6 v6 = {};
  v6.sin6_addr = in6addr_any;
  v6.sin6_port = htons(port);
  Address address(v6);
  address.both_families_ = true;
  return address;
}

absl::StatusOr<Address> Address::UnixPath(std::string_view path) {
  if (path.empty() || path.size() > kMaxUnixPath ||
      absl::StrContains(path, '\0')) {
    return absl::InvalidArgumentError(absl::StrCat(
        "unix path ", Quoted(path), ": expected 1 to ", kMaxUnixPath,
        " bytes without NUL, not ", path.size(), " bytes"));
  }
  return FromUnixName(path);
}

absl::StatusOr<Address> Address::UnixAbstract(std::string_view name) {
  if (name.size() > kMaxAbstractName) {
    return absl::InvalidArgumentError(
        absl::StrCat("unix abstract name ", Quoted(name), ": expected at most ",
                     kMaxAbstractName, " bytes, not ", name.size()));
  }
  return FromUnixName(absl::StrCat(std::string_view("\0", 1), name));
}

absl::StatusOr<Address> Address::FromSockaddr(const struct sockaddr* address,
                                              socklen_t length) {
  // `address` may be aligned for a sockaddr only: copy, then look.
  sa_family_t family = AF_UNSPEC;
  if (length >= sizeof(family)) {
    std::memcpy(&family, &address->sa_family, sizeof(family));
  }
  if (family == AF_INET && length >= sizeof(sockaddr_in)) {
    sockaddr_in v4;
    std::memcpy(&v4, address, sizeof(v4));
    return Address(v4);
  }
  if (family == AF_INET6 && length >= sizeof(sockaddr_in6)) {
    sockaddr_in6 v6;
    std::memcpy(&v6, address, sizeof(v6));
    return Address(v6);
  }
  if (family == AF_UNIX) {
    const char* path = reinterpret_cast<const char*>(address) + kUnixHeader;
    // For a path of 108 bytes the kernel stores a length that counts a NUL
    // which sockaddr_un has no room for.
    const size_t size = std::min<size_t>(length - kUnixHeader, kMaxUnixPath);
    if (size == 0) return Address();
    if (path[0] == '\0') return FromUnixName(std::string_view(path, size));
    return FromUnixName(std::string_view(path, strnlen(path, size)));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("socket address of family ", family, " and ", length,
                   " bytes: expected AF_INET, AF_INET6 or AF_UNIX, whole"));
}

Address Address::Unmapped() const {
  if (family() != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&storage_.v6.sin6_addr)) {
    return *this;
  }
  sockaddr_in v4 = {};
  v4.sin_port = storage_.v6.sin6_port;
  std::memcpy(&v4.sin_addr, &storage_.v6.sin6_addr.s6_addr[12],
              sizeof(v4.sin_addr));
  return Address(v4);
}

std::optional<uint16_t> Address::port() const {
  if (family() == AF_INET) return ntohs(storage_.v4.sin_port);
  if (family() == AF_INET6) return ntohs(storage_.v6.sin6_port);
  return std::nullopt;
}

uint32_t Address::scope() const {
  return family() == AF_INET6 ? storage_.v6.sin6_scope_id : 0;
}

std::optional<std::string_view> Address::unix_path() const {
  if (family() != AF_UNIX || UnixName().empty() || UnixName()[0] == '\0') {
    return std::nullopt;
  }
  return UnixName();
}

std::optional<std::string_view> Address::unix_abstract_name() const {
  if (family() != AF_UNIX || UnixName().empty() || UnixName()[0] != '\0') {
    return std::nullopt;
  }
  return UnixName().substr(1);
}

std::string Address::ToString() const {
  if (family() == AF_INET) {
    std::array<char, INET_ADDRSTRLEN> host;
    inet_ntop(AF_INET, &storage_.v4.sin_addr, host.data(), host.size());
    return absl::StrCat(host.data(), ":", *port());
  }
  if (both_families_) return absl::StrCat(":", *port());
  if (family() == AF_INET6) {
    std::array<char, INET6_ADDRSTRLEN> host;
    inet_ntop(AF_INET6, &storage_.v6.sin6_addr, host.data(), host.size());
    const std::string suffix = scope() == 0 ? "" : absl::StrCat("%", scope());
    return absl::StrCat("[", host.data(), suffix, "]:", *port());
  }
  if (const auto path = unix_path()) {
    return absl::StrCat(kUnixPrefix, EscapePath(*path));
  }
  if (const auto name = unix_abstract_name()) {
    return absl::StrCat(kUnixPrefix, "@", EscapeName(*name));
  }
  return absl::StrCat(kUnixPrefix, kUnnamed);
}

std::tuple<sa_family_t, std::string_view, uint32_t, bool, uint16_t>
Address::Key() const {
  const auto bytes = [](const auto& host) {
    return std::string_view(reinterpret_cast<const char*>(&host), sizeof(host));
  };
  switch (family()) {
    case AF_INET:
      return {AF_INET, bytes(storage_.v4.sin_addr), 0, false, *port()};
    case AF_INET6:
      return {AF_INET6, bytes(storage_.v6.sin6_addr), scope(), both_families_,
              *port()};
  }
  return {AF_UNIX, UnixName(), 0, false, 0};
}

std::string_view Address::UnixName() const {
  const std::string_view name(storage_.local.sun_path, length_ - kUnixHeader);
  const bool counts_nul =
      !name.empty() && name.front() != '\0' && name.back() == '\0';
  return name.substr(0, name.size() - (counts_nul ? 1 : 0));
}

absl::StatusOr<Address> LocalAddressOf(int fd) {
  absl::StatusOr<Address> address = AddressOf(fd, "getsockname", getsockname);
  if (!address.ok() || !IsIPv6Wildcard(*address)) return address;
  int v6_only = 1;
  socklen_t length = sizeof(v6_only);
  if (getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, &length) == -1) {
    return ErrnoStatus(errno, absl::StrCat("IPV6_V6ONLY of descriptor ", fd));
  }
  return v6_only == 0 ? Address::Everywhere(*address->port()) : *address;
}

absl::StatusOr<Address> PeerAddressOf(int fd) {
  return AddressOf(fd, "getpeername", getpeername);
}

}  // namespace brood
