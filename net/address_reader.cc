// SPDX-License-Identifier: Apache-2.0
#include "brood/net/address_reader.h"

#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "brood/net/quoted.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

int HexDigit(char c) {
  if (absl::ascii_isdigit(c)) return c - '0';
  return absl::ascii_tolower(c) - 'a' + 10;
}

// The number of the interface `name`, 0 if there is none of this name.
//
// Not if_nametoindex(3): without a descriptor to spare it, too, says that there
// is no such interface. Nor is every name handed to the kernel, which takes
// what follows a colon for an alias and forgets it, so that lo:1 would be lo.
absl::StatusOr<uint32_t> InterfaceNumber(std::string_view name) {
  ifreq request = {};
  if (name.empty() || name.size() >= sizeof(request.ifr_name) ||
      absl::StrContains(name, ':') || absl::StrContains(name, '\0')) {
    return 0;
  }
  const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return ErrnoStatus(errno, "socket");
  name.copy(request.ifr_name, sizeof(request.ifr_name) - 1);
  if (ioctl(socket.get(), SIOCGIFINDEX, &request) == 0) {
    return static_cast<uint32_t>(request.ifr_ifindex);
  }
  if (errno == ENODEV) return 0;
  return ErrnoStatus(errno, "SIOCGIFINDEX");
}

}  // namespace

bool AddressReader::AtDottedNumber() const {
  const size_t digits = CountWhile(absl::ascii_isdigit);
  return digits > 0 && absl::StartsWith(Rest().substr(digits), ".");
}

bool AddressReader::AtGroup() const {
  return absl::StartsWith(Rest().substr(CountWhile(absl::ascii_isxdigit)), ":");
}

bool AddressReader::AtBareIPv6() const {
  const std::string_view rest = Rest();
  return AtGroup() && std::count(rest.begin(), rest.end(), ':') > 1;
}

bool AddressReader::Skip(std::string_view token) {
  if (!absl::StartsWith(Rest(), token)) return false;
  at_ += token.size();
  return true;
}

std::optional<uint32_t> AddressReader::Decimal(uint32_t max) {
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

absl::Status AddressReader::IPv4(in_addr& address) {
  std::array<uint8_t, sizeof(address)> bytes;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i > 0 && !Skip(".")) return Expected("\".\"");
    const std::optional<uint32_t> byte = Decimal(255);
    if (!byte.has_value()) return Expected("a number from 0 to 255");
    bytes[i] = static_cast<uint8_t>(*byte);
  }
  std::memcpy(&address, bytes.data(), bytes.size());
  return absl::OkStatus();
}

absl::Status AddressReader::IPv6(in6_addr& address) {
  std::array<uint8_t, sizeof(address)> bytes = {};
  size_t size = 0;
  std::optional<size_t> gap;  // How many bytes stand before the "::".
  if (Skip("::")) gap = 0;
  bool more = !gap.has_value();  // A group must follow.
  while (size < bytes.size() && (more || CountWhile(absl::ascii_isxdigit))) {
    if (size <= bytes.size() - sizeof(in_addr) && AtDottedNumber()) {
      in_addr v4;
      if (absl::Status s = IPv4(v4); !s.ok()) return s;
      std::memcpy(&bytes[size], &v4, sizeof(v4));
      size += sizeof(v4);
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

absl::Status AddressReader::Scope(uint32_t& scope) {
  // A name has no colon, but it may have a bracket.
  const std::string_view name =
      Rest().substr(0, std::min(Rest().find("]:"), Rest().rfind(']')));
  if (!name.empty() &&
      std::all_of(name.begin(), name.end(), absl::ascii_isdigit)) {
    const std::optional<uint32_t> number = Decimal(UINT32_MAX);
    if (!number.has_value()) return Expected("an interface number");
    scope = *number;
    return absl::OkStatus();
  }
  const absl::StatusOr<uint32_t> number = InterfaceNumber(name);
  if (!number.ok()) {
    return ErrnoStatus(ErrnoOf(number.status()),
                       absl::StrCat(kind_, " ", Quoted(text_),
                                    ": the interface cannot be looked up"));
  }
  if (*number == 0) return Expected("an interface of this machine");
  scope = *number;
  at_ += name.size();
  return absl::OkStatus();
}

absl::Status AddressReader::Port(in_port_t& port) {
  if (!Skip(":")) return Expected("\":\" and a port");
  const std::optional<uint32_t> number = Decimal(65535);
  if (!number.has_value()) return Expected("a port from 0 to 65535");
  if (!AtEnd()) return Expected("nothing more");
  port = htons(static_cast<uint16_t>(*number));
  return absl::OkStatus();
}

absl::Status AddressReader::UnixName(size_t max, bool may_have_nul,
                                     std::string& name) {
  const AddressReader start = *this;
  while (!AtEnd()) {
    const AddressReader here = *this;
    char byte = Rest().front();
    ++at_;
    if (byte == '\\') {
      const std::string_view code = Rest().substr(0, 3);
      if (code.size() < 3 || code[0] != 'x' || !absl::ascii_isxdigit(code[1]) ||
          !absl::ascii_isxdigit(code[2])) {
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

absl::Status AddressReader::Expected(std::string_view what) const {
  return absl::InvalidArgumentError(absl::StrCat(
      kind_, " ", Quoted(text_), ": expected ", what, " at character ", at_ + 1,
      AtEnd() ? ", where it ends" : ""));
}

}  // namespace brood
