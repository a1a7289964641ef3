// SPDX-License-Identifier: Apache-2.0
#include "brood/net/address.h"

#include <arpa/inet.h>
#include <net/if.h>
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
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
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

int HexDigit(char c) {
  if (absl::ascii_isdigit(c)) return c - '0';
  return absl::ascii_tolower(c) - 'a' + 10;
}

// Reads an address from left to right. It is not inet_pton's business to say
// where a mistake is, and that is what a person needs; so we walk ourselves,
// and a test holds us to inet_pton's verdict.
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  bool AtEnd() const { return at_ == text_.size(); }
  // Digits and a dot.
  bool AtDottedNumber() const {
    const size_t digits = CountWhile(absl::ascii_isdigit);
    return digits > 0 && absl::StartsWith(Rest().substr(digits), ".");
  }
  // Groups and at least two colons, but no bracket before them.
  bool AtBareIPv6() const {
    return absl::StartsWith(Rest().substr(CountWhile(absl::ascii_isxdigit)),
                            ":") &&
           std::count(text_.begin(), text_.end(), ':') > 1;
  }
  std::string_view Rest() const { return text_.substr(at_); }

  bool Skip(std::string_view token) {
    if (!absl::StartsWith(Rest(), token)) return false;
    at_ += token.size();
    return true;
  }

  absl::Status Expected(std::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat(
        "address \"", absl::CHexEscape(text_), "\": expected ", what,
        " at character ", at_ + 1, AtEnd() ? ", where it ends" : ""));
  }

  // A decimal number of at most `max`, without leading zeros: some read those
  // as octal. Stays where it is if there is none.
  std::optional<uint32_t> Decimal(uint32_t max) {
    const size_t length = CountWhile(absl::ascii_isdigit);
    if (length == 0 || (length > 1 && Rest().front() == '0')) {
      return std::nullopt;
    }
    uint64_t value = 0;
    for (const char digit : Rest().substr(0, length)) {
      value = value * 10 + (digit - '0');
      if (value > max) return std::nullopt;
    }
    at_ += length;
    return static_cast<uint32_t>(value);
  }

  absl::Status IPv4(uint8_t* bytes) {
    for (int i = 0; i < 4; ++i) {
      if (i > 0 && !Skip(".")) return Expected("\".\"");
      const std::optional<uint32_t> byte = Decimal(255);
      if (!byte.has_value()) return Expected("a number from 0 to 255");
      bytes[i] = static_cast<uint8_t>(*byte);
    }
    return absl::OkStatus();
  }

  absl::Status IPv6(in6_addr& address) {
    std::array<uint8_t, 16> bytes = {};
    size_t size = 0;
    std::optional<size_t> gap;  // How many bytes stand before the "::".
    if (Skip("::")) gap = 0;
    bool more = !gap.has_value();  // A group must follow.
    while (size < bytes.size() && (more || CountWhile(absl::ascii_isxdigit))) {
      if (size <= bytes.size() - 4 && AtDottedNumber()) {
        if (absl::Status s = IPv4(&bytes[size]); !s.ok()) return s;
        size += 4;
        more = false;
        break;
      }
      const size_t digits = CountWhile(absl::ascii_isxdigit);
      if (digits == 0 || digits > 4) {
        return Expected("a group of 1 to 4 hexadecimal digits");
      }
      unsigned group = 0;
      for (const char c : Rest().substr(0, digits)) {
        group = group * 16 + HexDigit(c);
      }
      at_ += digits;
      bytes[size++] = static_cast<uint8_t>(group >> 8);
      bytes[size++] = static_cast<uint8_t>(group);
      more = false;
      if (size == bytes.size()) break;
      if (absl::StartsWith(Rest(), "::")) {
        if (gap.has_value()) return Expected("no second \"::\"");
        gap = size;
        Skip("::");
      } else if (Skip(":")) {
        more = true;
      } else {
        break;
      }
    }
    if (more) return Expected("a group of 1 to 4 hexadecimal digits");
    if (!gap.has_value() && size < bytes.size()) return Expected("\":\"");
    if (gap.has_value() && size == bytes.size()) {
      return Expected("fewer groups beside \"::\"");
    }
    // What came after the gap moves to the end; zeros take its place.
    if (gap.has_value()) {
      std::rotate(bytes.begin() + *gap, bytes.begin() + size, bytes.end());
    }
    std::memcpy(&address, bytes.data(), bytes.size());
    return absl::OkStatus();
  }

  // An interface, up to the bracket that ends the host.
  absl::Status Scope(uint32_t& scope) {
    const std::string name(Rest().substr(0, Rest().rfind(']')));
    if (!name.empty() &&
        std::all_of(name.begin(), name.end(), absl::ascii_isdigit)) {
      const std::optional<uint32_t> number = Decimal(UINT32_MAX);
      if (!number.has_value()) return Expected("an interface number");
      scope = *number;
      return absl::OkStatus();
    }
    // A NUL would end the name early for the kernel, but not for us.
    const bool whole = !absl::StrContains(name, '\0');
    scope = whole ? if_nametoindex(name.c_str()) : 0;
    if (scope == 0) return Expected("an interface of this machine");
    at_ += name.size();
    return absl::OkStatus();
  }

  // All that is left, after a host.
  absl::Status Port(in_port_t& port) {
    if (!Skip(":")) return Expected("\":\" and a port");
    const std::optional<uint32_t> number = Decimal(65535);
    if (!number.has_value()) return Expected("a port from 0 to 65535");
    if (!AtEnd()) return Expected("nothing more");
    port = htons(static_cast<uint16_t>(*number));
    return absl::OkStatus();
  }

  // All that is left, unescaped.
  absl::Status UnixName(size_t max, bool may_have_nul, std::string& name) {
    const Reader start = *this;
    while (!AtEnd()) {
      const Reader here = *this;
      char byte = Rest().front();
      ++at_;
      if (byte == '\\') {
        const std::string_view code = Rest().substr(0, 3);
        if (code.size() < 3 || code[0] != 'x' ||
            !absl::ascii_isxdigit(code[1]) || !absl::ascii_isxdigit(code[2])) {
          return here.Expected("\\x and two hexadecimal digits");
        }
        byte = static_cast<char>(HexDigit(code[1]) * 16 + HexDigit(code[2]));
        at_ += code.size();
      }
      if (byte == '\0' && !may_have_nul) {
        return here.Expected("a byte other than NUL");
      }
      name.push_back(byte);
    }
    if (name.size() > max) {
      return start.Expected(
          absl::StrCat("at most ", max, " bytes, not ", name.size(), ","));
    }
    return absl::OkStatus();
  }

 private:
  template <typename Predicate>
  size_t CountWhile(Predicate predicate) const {
    const std::string_view rest = Rest();
    const auto end = std::find_if_not(rest.begin(), rest.end(), predicate);
    return end - rest.begin();
  }

  std::string_view text_;
  size_t at_ = 0;
};

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
  Reader reader(text);
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
  if (!reader.AtDottedNumber()) {
    return reader.Expected(
        "an IPv4 address, an IPv6 address in brackets, or \"unix:\" (names of "
        "hosts are not looked up)");
  }
  sockaddr_in v4 = {};
  std::array<uint8_t, 4> bytes;
  if (absl::Status s = reader.IPv4(bytes.data()); !s.ok()) return s;
  std::memcpy(&v4.sin_addr, bytes.data(), bytes.size());
  if (absl::Status s = reader.Port(v4.sin_port); !s.ok()) return s;
  return Address(v4);
}

absl::StatusOr<Address> Address::UnixPath(std::string_view path) {
  if (path.empty() || path.size() > kMaxUnixPath ||
      absl::StrContains(path, '\0')) {
    return absl::InvalidArgumentError(absl::StrCat(
        "unix path \"", absl::CHexEscape(path), "\": expected 1 to ",
        kMaxUnixPath, " bytes without NUL, not ", path.size(), " bytes"));
  }
  return FromUnixName(path);
}

absl::StatusOr<Address> Address::UnixAbstract(std::string_view name) {
  if (name.size() > kMaxAbstractName) {
    return absl::InvalidArgumentError(
        absl::StrCat("unix abstract name \"", absl::CHexEscape(name),
                     "\": expected at most ", kMaxAbstractName, " bytes, not ",
                     name.size()));
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

std::optional<uint16_t> Address::port() const {
  if (family() == AF_INET) return ntohs(storage_.v4.sin_port);
  if (family() == AF_INET6) return ntohs(storage_.v6.sin6_port);
  return std::nullopt;
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
  if (family() == AF_INET6) {
    std::array<char, INET6_ADDRSTRLEN> host;
    inet_ntop(AF_INET6, &storage_.v6.sin6_addr, host.data(), host.size());
    const uint32_t scope = storage_.v6.sin6_scope_id;
    return absl::StrCat("[", host.data(), scope == 0 ? "" : "%",
                        scope == 0 ? "" : absl::StrCat(scope), "]:", *port());
  }
  if (const auto path = unix_path()) {
    return absl::StrCat(kUnixPrefix, EscapePath(*path));
  }
  if (const auto name = unix_abstract_name()) {
    return absl::StrCat(kUnixPrefix, "@", EscapeName(*name));
  }
  return absl::StrCat(kUnixPrefix, kUnnamed);
}

std::tuple<sa_family_t, std::string_view, uint32_t, uint16_t> Address::Key()
    const {
  const auto bytes = [](const auto& host) {
    return std::string_view(reinterpret_cast<const char*>(&host), sizeof(host));
  };
  switch (family()) {
    case AF_INET:
      return {AF_INET, bytes(storage_.v4.sin_addr), 0,
              ntohs(storage_.v4.sin_port)};
    case AF_INET6:
      return {AF_INET6, bytes(storage_.v6.sin6_addr), storage_.v6.sin6_scope_id,
              ntohs(storage_.v6.sin6_port)};
  }
  return {AF_UNIX, UnixName(), 0, 0};
}

std::string_view Address::UnixName() const {
  const std::string_view name(storage_.local.sun_path, length_ - kUnixHeader);
  const bool counts_nul =
      !name.empty() && name.front() != '\0' && name.back() == '\0';
  return name.substr(0, name.size() - (counts_nul ? 1 : 0));
}

absl::StatusOr<Address> LocalAddressOf(int fd) {
  return AddressOf(fd, "getsockname", getsockname);
}

absl::StatusOr<Address> PeerAddressOf(int fd) {
  return AddressOf(fd, "getpeername", getpeername);
}

}  // namespace brood
