// SPDX-License-Identifier: Apache-2.0
#include "brood/net/proxy_protocol.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/crc/crc32c.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/quoted.h"
#include "brood/proc/posix.h"

namespace brood {
namespace {

constexpr size_t kLongestLine = 107;
constexpr size_t kUnixField = 108;  // Of the protocol, whatever sun_path is.
constexpr size_t kLongestUniqueId = 128;
constexpr size_t kChecksumSize = 4;
constexpr size_t kTlvHead = 3;
constexpr size_t kSslHead = 5;

constexpr std::string_view kV1Greeting = "PROXY ";
// Every line begins with one of these.
constexpr std::string_view kTcp4 = "PROXY TCP4 ";
constexpr std::string_view kTcp6 = "PROXY TCP6 ";
constexpr std::string_view kUnknown = "PROXY UNKNOWN\r";
constexpr std::string_view kUnknownAndMore = "PROXY UNKNOWN ";
constexpr std::string_view kV1Starts[] = {kTcp4, kTcp6, kUnknown,
                                          kUnknownAndMore};
constexpr std::string_view kLineEnd = "\r\n";

constexpr std::string_view kV2Signature("\r\n\r\n\0\r\nQUIT\n", 12);
constexpr size_t kVersionAt = 12;
constexpr size_t kFamilyAt = 13;
constexpr size_t kV2Head = 16;
constexpr uint8_t kV2Local = 0x20;
constexpr uint8_t kV2Proxy = 0x21;

// The family is the upper half of its byte, the transport the lower.
constexpr uint8_t kUnspec = 0x0;
constexpr uint8_t kInet = 0x1;
constexpr uint8_t kInet6 = 0x2;
constexpr uint8_t kUnix = 0x3;
constexpr uint8_t kStream = 0x1;
constexpr uint8_t kDatagram = 0x2;

uint8_t ByteAt(std::string_view bytes, size_t at) {
  return static_cast<uint8_t>(bytes[at]);
}

uint16_t Read16(std::string_view bytes, size_t at) {
  return static_cast<uint16_t>(ByteAt(bytes, at) << 8 | ByteAt(bytes, at + 1));
}

uint32_t Read32(std::string_view bytes, size_t at) {
  return uint32_t{Read16(bytes, at)} << 16 | Read16(bytes, at + 2);
}

std::string Write16(size_t value) {
  return {static_cast<char>(value >> 8 & 0xff),
          static_cast<char>(value & 0xff)};
}

std::string Write32(uint32_t value) {
  return Write16(value >> 16) + Write16(value & 0xffff);
}

absl::Status ExpectedInLine(std::string_view line, std::string_view what,
                            size_t at) {
  return absl::InvalidArgumentError(absl::StrCat(
      "PROXY header ", Quoted(line), ": expected ", what, " at byte ", at + 1));
}

absl::Status ExpectedInV2(std::string_view what, size_t at) {
  return absl::InvalidArgumentError(absl::StrCat(
      "PROXY version 2 header: expected ", what, " at byte ", at + 1));
}

std::string Found(uint8_t byte) { return absl::StrFormat("not 0x%02x,", byte); }

absl::Status Unwritable(std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("PROXY header to be written: expected ", what));
}

// From four or sixteen bytes in network order.
Address FromHost(std::string_view host, uint16_t port) {
  if (host.size() == sizeof(in_addr)) {
    sockaddr_in v4 = {};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    std::memcpy(&v4.sin_addr, host.data(), host.size());
    return *Address::FromSockaddr(reinterpret_cast<const struct sockaddr*>(&v4),
                                  sizeof(v4));
  }
  sockaddr_in6 v6 = {};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  std::memcpy(&v6.sin6_addr, host.data(), sizeof(v6.sin6_addr));
  return *Address::FromSockaddr(reinterpret_cast<const struct sockaddr*>(&v6),
                                sizeof(v6));
}

// The way back. REQUIRES: an address of IPv4 or IPv6.
std::string HostOf(const Address& address) {
  if (address.family() == AF_INET) {
    sockaddr_in v4;
    std::memcpy(&v4, address.sockaddr(), sizeof(v4));
    return {reinterpret_cast<const char*>(&v4.sin_addr), sizeof(v4.sin_addr)};
  }
  sockaddr_in6 v6;
  std::memcpy(&v6, address.sockaddr(), sizeof(v6));
  return {reinterpret_cast<const char*>(&v6.sin6_addr), sizeof(v6.sin6_addr)};
}

// The field has no length: an abstract name is taken to end before the NULs
// that fill it up.
Address FromUnixField(std::string_view field) {
  const size_t last = field.find_last_not_of('\0');
  if (last == std::string_view::npos) return Address();
  if (field.front() == '\0')
    return *Address::UnixAbstract(field.substr(1, last));
  return *Address::UnixPath(field.substr(0, field.find('\0')));
}

absl::StatusOr<std::string> UnixFieldOf(const Address& address) {
  std::string field;
  if (const auto path = address.unix_path()) field = *path;
  if (const auto name = address.unix_abstract_name()) {
    if (name->empty() || name->back() == '\0') {
      return Unwritable(absl::StrCat(
          "a unix abstract name that ends in a byte other than NUL, not ",
          address));
    }
    field = absl::StrCat(std::string_view("\0", 1), *name);
  }
  field.resize(kUnixField);
  return field;
}

// ---- Version 1 ----

// Reads the fields between the greeting and the end of the line.
class LineReader {
 public:
  LineReader(std::string_view line, size_t at) : line_(line), at_(at) {}

  // A host as inet_pton knows it; "::ffff:192.0.2.1" too, though the
  // specification speaks of hexadecimal only: that is how inet_ntop, and so
  // many a proxy, writes a client that came by IPv4 to an IPv6 listener.
  absl::StatusOr<std::string> Host(int family) {
    const std::string text = Field();
    std::string host(family == AF_INET ? sizeof(in_addr) : sizeof(in6_addr),
                     '\0');
    if (absl::StrContains(text, '\0') ||
        inet_pton(family, text.c_str(), host.data()) != 1) {
      return ExpectedInLine(
          line_, family == AF_INET ? "an IPv4 address" : "an IPv6 address",
          at_);
    }
    at_ += text.size();
    return host;
  }

  // Decimal, without leading zeros.
  absl::StatusOr<uint16_t> Port() {
    const std::string text = Field();
    uint32_t port = 0;
    if (text.empty() || text.size() > 5 ||
        !std::all_of(text.begin(), text.end(), absl::ascii_isdigit) ||
        (text.size() > 1 && text.front() == '0') ||
        !absl::SimpleAtoi(text, &port) || port > UINT16_MAX) {
      return ExpectedInLine(line_, "a port from 0 to 65535", at_);
    }
    at_ += text.size();
    return static_cast<uint16_t>(port);
  }

  absl::Status Skip(std::string_view token, std::string_view name) {
    if (!absl::StartsWith(line_.substr(at_), token)) {
      return ExpectedInLine(line_, name, at_);
    }
    at_ += token.size();
    return absl::OkStatus();
  }

 private:
  // Up to a space or the end.
  std::string Field() const {
    const std::string_view rest = line_.substr(at_);
    return std::string(rest.substr(0, rest.find_first_of(" \r")));
  }

  std::string_view line_;
  size_t at_;
};

// REQUIRES: `line` begins as one of kV1Starts and ends in CR LF.
absl::StatusOr<ProxyHeader> ParseLine(std::string_view line) {
  ProxyHeader header;
  header.version = ProxyHeader::Version::k1;
  // What follows UNKNOWN is to be ignored.
  if (absl::StartsWith(line, kUnknown) ||
      absl::StartsWith(line, kUnknownAndMore)) {
    return header;
  }
  const int family = absl::StartsWith(line, kTcp4) ? AF_INET : AF_INET6;
  LineReader reader(line, kTcp4.size());
  const absl::StatusOr<std::string> source = reader.Host(family);
  if (!source.ok()) return source.status();
  if (absl::Status s = reader.Skip(" ", "a space"); !s.ok()) return s;
  const absl::StatusOr<std::string> destination = reader.Host(family);
  if (!destination.ok()) return destination.status();
  if (absl::Status s = reader.Skip(" ", "a space"); !s.ok()) return s;
  const absl::StatusOr<uint16_t> source_port = reader.Port();
  if (!source_port.ok()) return source_port.status();
  if (absl::Status s = reader.Skip(" ", "a space"); !s.ok()) return s;
  const absl::StatusOr<uint16_t> destination_port = reader.Port();
  if (!destination_port.ok()) return destination_port.status();
  if (absl::Status s = reader.Skip(kLineEnd, "CR LF"); !s.ok()) return s;
  header.endpoints = {.source = FromHost(*source, *source_port),
                      .destination = FromHost(*destination, *destination_port)};
  return header;
}

absl::StatusOr<std::string> FormatLine(const ProxyHeader& header) {
  if (header.local || header.checksum || !header.tlvs.empty()) {
    return Unwritable("version 2 for LOCAL, a checksum or TLVs");
  }
  if (!header.endpoints.has_value()) return absl::StrCat(kUnknown, "\n");
  const auto& [source, destination, transport] = *header.endpoints;
  const int family = source.family();
  if (family == AF_UNIX || transport != ProxyTransport::kStream) {
    return Unwritable("version 2 for what is not TCP");
  }
  std::array<char, INET6_ADDRSTRLEN> from;
  std::array<char, INET6_ADDRSTRLEN> to;
  inet_ntop(family, HostOf(source).data(), from.data(), from.size());
  inet_ntop(family, HostOf(destination).data(), to.data(), to.size());
  return absl::StrCat(family == AF_INET ? kTcp4 : kTcp6, from.data(), " ",
                      to.data(), " ", *source.port(), " ", *destination.port(),
                      kLineEnd);
}

// ---- Version 2 ----

// Reads bytes [at, end) as TLVs, whole ones.
absl::StatusOr<std::vector<ProxyTlv>> ParseTlvs(std::string_view header,
                                                size_t at, size_t end) {
  std::vector<ProxyTlv> tlvs;
  while (at < end) {
    if (end - at < kTlvHead) {
      return ExpectedInV2("a type and a length of 3 bytes", at);
    }
    const size_t size = Read16(header, at + 1);
    if (end - at - kTlvHead < size) {
      return ExpectedInV2(absl::StrCat("a TLV of at most ", end - at - kTlvHead,
                                       " bytes, not ", size, ","),
                          at);
    }
    tlvs.push_back({.type = ByteAt(header, at),
                    .value = std::string(header.substr(at + kTlvHead, size))});
    at += kTlvHead + size;
  }
  return tlvs;
}

std::string FormatTlv(const ProxyTlv& tlv) {
  std::string bytes(1, static_cast<char>(tlv.type));
  absl::StrAppend(&bytes, Write16(tlv.value.size()), tlv.value);
  return bytes;
}

std::optional<std::string_view> FindTlv(const std::vector<ProxyTlv>& tlvs,
                                        uint8_t type) {
  for (const ProxyTlv& tlv : tlvs) {
    if (tlv.type == type) return tlv.value;
  }
  return std::nullopt;
}

absl::StatusOr<ProxySsl> ParseSsl(std::string_view header, size_t at,
                                  size_t end) {
  if (end - at < kSslHead) {
    return ExpectedInV2("an SSL TLV of at least 5 bytes", at);
  }
  ProxySsl ssl;
  ssl.client = ByteAt(header, at);
  ssl.verify = Read32(header, at + 1);
  absl::StatusOr<std::vector<ProxyTlv>> tlvs =
      ParseTlvs(header, at + kSslHead, end);
  if (!tlvs.ok()) return tlvs.status();
  ssl.tlvs = *std::move(tlvs);
  return ssl;
}

// The checksum of a header whose own field, at `field`, counts as zeros.
uint32_t ChecksumOf(std::string_view header, size_t field) {
  const absl::crc32c_t before = absl::ComputeCrc32c(header.substr(0, field));
  const absl::crc32c_t zeros =
      absl::ExtendCrc32cByZeroes(before, kChecksumSize);
  return static_cast<uint32_t>(
      absl::ExtendCrc32c(zeros, header.substr(field + kChecksumSize)));
}

// Reads the TLVs from `at` to the end of the header, and holds those it knows
// to what they have to be.
absl::Status ParseAllTlvs(std::string_view bytes, size_t at,
                          ProxyHeader& header) {
  absl::StatusOr<std::vector<ProxyTlv>> tlvs =
      ParseTlvs(bytes, at, bytes.size());
  if (!tlvs.ok()) return tlvs.status();
  for (ProxyTlv& tlv : *tlvs) {
    const size_t value = at + kTlvHead;
    const size_t end = value + tlv.value.size();
    if (tlv.type == ProxyTlv::kCrc32c) {
      if (tlv.value.size() != kChecksumSize || header.checksum) {
        return ExpectedInV2("one checksum of 4 bytes", at);
      }
      const uint32_t right = ChecksumOf(bytes, value);
      if (Read32(bytes, value) != right) {
        return absl::DataLossError(absl::StrFormat(
            "PROXY version 2 header: expected the checksum 0x%08x at byte %d, "
            "not 0x%08x",
            right, value + 1, Read32(bytes, value)));
      }
      header.checksum = true;
    } else {
      if (tlv.type == ProxyTlv::kUniqueId &&
          tlv.value.size() > kLongestUniqueId) {
        return ExpectedInV2("a unique id of at most 128 bytes", at);
      }
      if (tlv.type == ProxyTlv::kSsl) {
        if (absl::Status s = ParseSsl(bytes, value, end).status(); !s.ok()) {
          return s;
        }
      }
      header.tlvs.push_back(std::move(tlv));
    }
    at = end;
  }
  return absl::OkStatus();
}

// REQUIRES: CheckV2 has found nothing wrong, and `bytes` is whole.
absl::StatusOr<ProxyHeader> ParseBinary(std::string_view bytes) {
  ProxyHeader header;
  if (ByteAt(bytes, kVersionAt) == kV2Local) {
    header.local = true;
    return header;  // Whatever else it has is to be ignored.
  }
  const uint8_t family = ByteAt(bytes, kFamilyAt) >> 4;
  const uint8_t transport = ByteAt(bytes, kFamilyAt) & 0xf;
  if (family == kUnspec && transport == kUnspec) {
    // Nobody says how long the addresses are that are to be ignored. Usually
    // there are none; where what follows does not read as TLVs, there were.
    if (ParseTlvs(bytes, kV2Head, bytes.size()).ok()) {
      if (absl::Status s = ParseAllTlvs(bytes, kV2Head, header); !s.ok()) {
        return s;
      }
    }
    return header;
  }
  if (family == kUnspec || transport == kUnspec) return header;

  const size_t host = family == kInet    ? sizeof(in_addr)
                      : family == kInet6 ? sizeof(in6_addr)
                                         : kUnixField;
  const size_t ports = family == kUnix ? 0 : 2 * sizeof(in_port_t);
  const size_t addresses_end = kV2Head + 2 * host + ports;
  if (bytes.size() < addresses_end) {
    return ExpectedInV2(
        absl::StrCat("a length of at least ", addresses_end - kV2Head, ", not ",
                     bytes.size() - kV2Head, ","),
        kV2Head - 2);
  }
  const std::string_view source = bytes.substr(kV2Head, host);
  const std::string_view destination = bytes.substr(kV2Head + host, host);
  ProxyEndpoints& endpoints = header.endpoints.emplace();
  if (family == kUnix) {
    endpoints.source = FromUnixField(source);
    endpoints.destination = FromUnixField(destination);
  } else {
    const size_t port = kV2Head + 2 * host;
    endpoints.source = FromHost(source, Read16(bytes, port));
    endpoints.destination = FromHost(destination, Read16(bytes, port + 2));
  }
  if (transport == kDatagram) {
    endpoints.transport = ProxyTransport::kDatagram;
  }
  if (absl::Status s = ParseAllTlvs(bytes, addresses_end, header); !s.ok()) {
    return s;
  }
  return header;
}

absl::StatusOr<std::string> FormatAddresses(const ProxyEndpoints& endpoints) {
  const auto& [source, destination, transport] = endpoints;
  if (source.family() == AF_UNIX) {
    const absl::StatusOr<std::string> from = UnixFieldOf(source);
    if (!from.ok()) return from.status();
    const absl::StatusOr<std::string> to = UnixFieldOf(destination);
    if (!to.ok()) return to.status();
    return *from + *to;
  }
  return absl::StrCat(HostOf(source), HostOf(destination),
                      Write16(*source.port()), Write16(*destination.port()));
}

uint8_t FamilyByte(const ProxyHeader& header) {
  if (!header.endpoints.has_value()) return kUnspec;
  const int family = header.endpoints->source.family();
  const bool stream = header.endpoints->transport == ProxyTransport::kStream;
  const int upper = family == AF_INET    ? kInet
                    : family == AF_INET6 ? kInet6
                                         : kUnix;
  return static_cast<uint8_t>(upper << 4 | (stream ? kStream : kDatagram));
}

absl::StatusOr<std::string> FormatBinary(const ProxyHeader& header) {
  if (header.local && (header.endpoints.has_value() || header.checksum ||
                       !header.tlvs.empty())) {
    return Unwritable("nothing else in one that is local");
  }
  std::string body;
  if (header.endpoints.has_value()) {
    absl::StatusOr<std::string> addresses = FormatAddresses(*header.endpoints);
    if (!addresses.ok()) return addresses.status();
    body = *std::move(addresses);
  }
  for (const ProxyTlv& tlv : header.tlvs) {
    if (tlv.type == ProxyTlv::kCrc32c) {
      return Unwritable("`checksum`, and no checksum among the TLVs");
    }
    if (tlv.type == ProxyTlv::kUniqueId &&
        tlv.value.size() > kLongestUniqueId) {
      return Unwritable("a unique id of at most 128 bytes");
    }
    if (tlv.type == ProxyTlv::kSsl &&
        !ParseSsl(tlv.value, 0, tlv.value.size()).ok()) {
      return Unwritable("an SSL TLV as ProxySsl::ToTlv() makes it");
    }
    if (tlv.value.size() > UINT16_MAX) break;  // Too long in any case.
    body += FormatTlv(tlv);
  }
  if (header.checksum) {
    body += FormatTlv(
        {.type = ProxyTlv::kCrc32c, .value = std::string(kChecksumSize, '\0')});
  }
  const bool whole = std::all_of(
      header.tlvs.begin(), header.tlvs.end(),
      [](const ProxyTlv& tlv) { return tlv.value.size() <= UINT16_MAX; });
  if (!whole || body.size() > UINT16_MAX) {
    return Unwritable("at most 65535 bytes of addresses and TLVs");
  }
  std::string bytes(kV2Signature);
  bytes.push_back(static_cast<char>(header.local ? kV2Local : kV2Proxy));
  bytes.push_back(static_cast<char>(FamilyByte(header)));
  absl::StrAppend(&bytes, Write16(body.size()), body);
  if (header.checksum) {
    const size_t field = bytes.size() - kChecksumSize;
    bytes.replace(field, kChecksumSize, Write32(ChecksumOf(bytes, field)));
  }
  return bytes;
}

}  // namespace

std::optional<std::string_view> ProxySsl::version() const {
  return FindTlv(tlvs, ProxyTlv::kSslVersion);
}
std::optional<std::string_view> ProxySsl::common_name() const {
  return FindTlv(tlvs, ProxyTlv::kSslCommonName);
}
std::optional<std::string_view> ProxySsl::cipher() const {
  return FindTlv(tlvs, ProxyTlv::kSslCipher);
}
std::optional<std::string_view> ProxySsl::signature_algorithm() const {
  return FindTlv(tlvs, ProxyTlv::kSslSignature);
}
std::optional<std::string_view> ProxySsl::key_algorithm() const {
  return FindTlv(tlvs, ProxyTlv::kSslKey);
}

ProxyTlv ProxySsl::ToTlv() const {
  ProxyTlv tlv{.type = ProxyTlv::kSsl,
               .value = std::string(1, static_cast<char>(client))};
  tlv.value += Write32(verify);
  for (const ProxyTlv& inner : tlvs) tlv.value += FormatTlv(inner);
  return tlv;
}

std::optional<std::string_view> ProxyHeader::Find(uint8_t type) const {
  return FindTlv(tlvs, type);
}
std::optional<std::string_view> ProxyHeader::alpn() const {
  return Find(ProxyTlv::kAlpn);
}
std::optional<std::string_view> ProxyHeader::authority() const {
  return Find(ProxyTlv::kAuthority);
}
std::optional<std::string_view> ProxyHeader::unique_id() const {
  return Find(ProxyTlv::kUniqueId);
}
std::optional<std::string_view> ProxyHeader::netns() const {
  return Find(ProxyTlv::kNetns);
}

std::optional<ProxySsl> ProxyHeader::ssl() const {
  const std::optional<std::string_view> value = Find(ProxyTlv::kSsl);
  if (!value.has_value()) return std::nullopt;
  absl::StatusOr<ProxySsl> ssl = ParseSsl(*value, 0, value->size());
  if (!ssl.ok()) return std::nullopt;
  return *std::move(ssl);
}

absl::StatusOr<size_t> ProxyHeaderParser::Feed(std::string_view bytes) {
  size_t taken = 0;
  while (error_.ok() && !done() && taken < bytes.size()) {
    // One byte at a time while any of them may be the last or the one too
    // many, so that how they were split makes no difference; the rest at once.
    const size_t next =
        announced_ == 0 ? 1
                        : std::min(announced_ - size(), bytes.size() - taken);
    text_.append(bytes.substr(taken, next));
    taken += next;
    error_ = Advance();
  }
  if (!error_.ok()) return error_;
  return taken;
}

absl::Status ProxyHeaderParser::Advance() {
  const bool may_be_v1 =
      options_.v1 && absl::StartsWith(kV1Greeting, text_.substr(0, 1));
  return may_be_v1 ? CheckV1() : CheckV2();
}

absl::Status ProxyHeaderParser::CheckV1() {
  const std::string_view line = text_;
  const size_t last = size() - 1;
  const bool known = std::any_of(
      std::begin(kV1Starts), std::end(kV1Starts), [&](std::string_view start) {
        return line.substr(0, start.size()) == start.substr(0, line.size());
      });
  if (!known) {
    return ExpectedInLine(
        line,
        last < kV1Greeting.size() ? "\"PROXY \"" : "TCP4, TCP6 or UNKNOWN",
        last);
  }
  const bool after_cr = last > 0 && line[last - 1] == '\r';
  if (after_cr != (line[last] == '\n')) {
    return ExpectedInLine(line, after_cr ? "LF after CR" : "CR before LF",
                          last);
  }
  if (absl::EndsWith(line, kLineEnd)) {
    absl::StatusOr<ProxyHeader> header = ParseLine(line);
    if (!header.ok()) return header.status();
    header_ = *std::move(header);
    return absl::OkStatus();
  }
  const size_t longest = std::min(kLongestLine, options_.max_size);
  if (size() >= longest) {
    return absl::ResourceExhaustedError(
        absl::StrCat("PROXY header ", Quoted(line), ": expected CR LF within ",
                     longest, " bytes"));
  }
  return absl::OkStatus();
}

absl::Status ProxyHeaderParser::CheckV2() {
  const std::string_view bytes = text_;
  const size_t last = size() - 1;
  if (last < kV2Signature.size()) {
    if (options_.v2 && bytes[last] == kV2Signature[last]) {
      return absl::OkStatus();
    }
    const std::string_view expected =
        !options_.v2               ? "\"PROXY \""
        : options_.v1 && last == 0 ? "\"PROXY \" or the signature of version 2"
                                   : "the signature of version 2";
    return ExpectedInLine(bytes, expected, last);
  }
  const uint8_t byte = ByteAt(bytes, last);
  if (last == kVersionAt && byte != kV2Local && byte != kV2Proxy) {
    return ExpectedInV2(
        absl::StrCat("version 2 and LOCAL or PROXY (0x20, 0x21), ",
                     Found(byte)),
        last);
  }
  // The family of a local header is to be ignored.
  if (last == kFamilyAt && ByteAt(bytes, kVersionAt) == kV2Proxy &&
      (byte >> 4 > kUnix || (byte & 0xf) > kDatagram)) {
    return ExpectedInV2(
        absl::StrCat("a family from 0 to 3 and a transport from 0 to 2, ",
                     Found(byte)),
        last);
  }
  if (size() == kV2Head) {
    announced_ = kV2Head + Read16(bytes, kV2Head - 2);
    if (announced_ > options_.max_size) {
      return absl::ResourceExhaustedError(
          absl::StrCat("PROXY version 2 header: expected at most ",
                       options_.max_size, " bytes, not ", announced_));
    }
  }
  if (size() == announced_) {
    absl::StatusOr<ProxyHeader> header = ParseBinary(bytes);
    if (!header.ok()) return header.status();
    header_ = *std::move(header);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> FormatProxyHeader(const ProxyHeader& header) {
  if (header.endpoints.has_value()) {
    for (const Address& end :
         {header.endpoints->source, header.endpoints->destination}) {
      if (end.both_families()) {
        return Unwritable(
            absl::StrCat("addresses of one family each, not ", end));
      }
    }
  }
  if (header.endpoints.has_value() &&
      header.endpoints->source.family() !=
          header.endpoints->destination.family()) {
    return Unwritable(absl::StrCat("both addresses of one family, not ",
                                   header.endpoints->source, " and ",
                                   header.endpoints->destination));
  }
  return header.version == ProxyHeader::Version::k1 ? FormatLine(header)
                                                    : FormatBinary(header);
}

absl::StatusOr<bool> TryReadProxyHeader(int fd, const Address& peer,
                                        ProxyHeaderParser& parser) {
  const auto describe = [&] {
    return absl::StrCat("recv the PROXY header from ", peer);
  };
  std::array<char, 512> buffer;
  while (!parser.done()) {
    const ssize_t seen = RetryOnEintr([&] {
      return recv(fd, buffer.data(), buffer.size(), MSG_PEEK | MSG_DONTWAIT);
    });
    if (seen == -1 && errno == EAGAIN) return false;
    if (seen == -1) return ErrnoStatus(errno, describe());
    if (seen == 0) {
      return absl::OutOfRangeError(absl::StrCat(describe(), ": it ended after ",
                                                parser.size(), " bytes"));
    }
    const absl::StatusOr<size_t> taken =
        parser.Feed(std::string_view(buffer.data(), static_cast<size_t>(seen)));
    if (!taken.ok()) {
      return absl::Status(
          taken.status().code(),
          absl::StrCat("from ", peer, ": ", taken.status().message()));
    }
    // What has been peeked at is there; nobody else reads.
    for (size_t left = *taken; left > 0;) {
      const ssize_t n = RetryOnEintr(
          [&] { return recv(fd, buffer.data(), left, MSG_DONTWAIT); });
      if (n <= 0) return ErrnoStatus(n == 0 ? EIO : errno, describe());
      left -= static_cast<size_t>(n);
    }
  }
  return true;
}

absl::StatusOr<std::optional<ProxyHeader>> ReadProxyHeader(
    int fd, const Address& peer,
    absl::FunctionRef<bool(const Address&)> trusted, absl::Time deadline,
    const ProxyHeaderOptions& options) {
  if (!trusted(peer)) return std::nullopt;
  const Deadline end = deadline;
  ProxyHeaderParser parser(options);
  for (;;) {
    const absl::StatusOr<bool> done = TryReadProxyHeader(fd, peer, parser);
    if (!done.ok()) return done.status();
    if (*done) return parser.header();
    const absl::StatusOr<bool> ready = PollUntil(fd, POLLIN, end);
    if (!ready.ok()) return ready.status();
    if (!*ready) {
      return absl::DeadlineExceededError(
          absl::StrCat("recv the PROXY header from ", peer, " after ",
                       parser.size(), " bytes: deadline exceeded"));
    }
  }
}

}  // namespace brood
