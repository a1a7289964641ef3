// SPDX-License-Identifier: Apache-2.0
#include "brood/net/proxy_protocol.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/tests/find_program.h"
#include "brood/tests/in_child.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::EndsWith;
using ::testing::Eq;
using ::testing::HasSubstr;
using ::testing::Optional;

using Version = ProxyHeader::Version;
using Transport = ProxyTransport;

Address A(std::string_view text) { return *Address::Parse(text); }
absl::Time Soon() { return absl::Now() + absl::Seconds(20); }
bool Everybody(const Address&) { return true; }

// "0d 0a" and the like, spaces and all.
std::string Hex(std::string_view digits) {
  std::string bytes;
  EXPECT_TRUE(absl::HexStringToBytes(
      absl::StrJoin(absl::StrSplit(digits, ' ', absl::SkipEmpty()), ""),
      &bytes))
      << digits;
  return bytes;
}

std::string V2(std::string_view digits) {
  return Hex(absl::StrCat("0d0a0d0a000d0a515549540a ", digits));
}

// What a parser makes of `bytes` that come in pieces of these sizes, the last
// of which repeats.
struct Parsed {
  absl::StatusOr<ProxyHeader> header = absl::UnavailableError("more");
  size_t taken = 0;
};

Parsed ParseTwoPieces(std::string_view bytes, size_t first,
                      const ProxyHeaderOptions& options = {}) {
  ProxyHeaderParser parser(options);
  Parsed result;
  for (const std::string_view piece :
       {bytes.substr(0, first), bytes.substr(first)}) {
    const absl::StatusOr<size_t> taken = parser.Feed(piece);
    if (!taken.ok()) {
      result.header = taken.status();
      break;
    }
    result.taken += *taken;
  }
  EXPECT_LE(parser.size(), std::max<size_t>(options.max_size, 107));
  if (parser.done()) result.header = parser.header();
  return result;
}

Parsed Parse(std::string_view bytes, const ProxyHeaderOptions& options = {}) {
  return ParseTwoPieces(bytes, bytes.size(), options);
}

Parsed ParseByteByByte(std::string_view bytes) {
  ProxyHeaderParser parser;
  Parsed result;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const absl::StatusOr<size_t> taken = parser.Feed(bytes.substr(i, 1));
    if (!taken.ok()) {
      result.header = taken.status();
      return result;
    }
    result.taken += *taken;
  }
  if (parser.done()) result.header = parser.header();
  return result;
}

ProxyHeader Tcp(Version version, std::string_view source,
                std::string_view destination) {
  return {.version = version,
          .endpoints = {{.source = A(source), .destination = A(destination)}}};
}

ProxyHeader Unknown(Version version) { return {.version = version}; }

ProxyHeader Everything() {
  ProxyHeader header =
      Tcp(Version::k2, "[2001:db8::1]:56324", "[2001:db8::2]:443");
  header.checksum = true;
  ProxySsl ssl = {
      .client = ProxySsl::kOverTls | ProxySsl::kCertificateOnConnection,
      .tlvs = {{ProxyTlv::kSslVersion, "TLSv1.3"},
               {ProxyTlv::kSslCommonName, "example.com"},
               {ProxyTlv::kSslCipher, "AES128-GCM-SHA256"},
               {ProxyTlv::kSslSignature, "RSA-SHA256"},
               {ProxyTlv::kSslKey, "RSA2048"},
               {0x7f, "a stranger"}}};
  header.tlvs = {{ProxyTlv::kAlpn, "h2"},
                 {ProxyTlv::kAuthority, "example.com"},
                 {ProxyTlv::kNoop, std::string(5, '\0')},
                 {ProxyTlv::kUniqueId, std::string("id\0\xff", 4)},
                 ssl.ToTlv(),
                 {ProxyTlv::kNetns, "blue"},
                 {0xe0, "our own"},
                 {0xe0, "again"},
                 {0xff, ""}};
  return header;
}

struct Example {
  std::string bytes;
  ProxyHeader header;
};

// Headers as others write them; the bytes are spelled out, not formatted.
std::vector<Example> Examples() {
  const std::string v4 = "c0a80001 c0a8000b dc04 01bb";
  ProxyHeader udp = Tcp(Version::k2, "192.168.0.1:56324", "192.168.0.11:443");
  udp.endpoints->transport = Transport::kDatagram;
  ProxyHeader unix_stream = Tcp(Version::k2, "unix:/run/c", "unix:@srv");
  ProxyHeader unix_unnamed = Tcp(Version::k2, "unix:(unnamed)", "unix:/");
  unix_unnamed.endpoints->transport = Transport::kDatagram;
  ProxyHeader tlvs = Tcp(Version::k2, "192.168.0.1:56324", "192.168.0.11:443");
  tlvs.tlvs = {{ProxyTlv::kAuthority, "a.b"}, {0xe3, ""}};
  ProxyHeader unknown_tlvs = Unknown(Version::k2);
  unknown_tlvs.tlvs = {{ProxyTlv::kUniqueId, "7"}};
  ProxyHeader haproxy = Tcp(Version::k2, "127.0.0.1:43272", "127.0.0.1:18181");
  haproxy.checksum = true;
  haproxy.tlvs = {{ProxyTlv::kUniqueId, "id-25430-0"}};
  const auto path = [](std::string_view digits, size_t used) {
    return absl::StrCat(digits, std::string((108 - used) * 2, '0'));
  };
  return {
      {"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
       Tcp(Version::k1, "192.168.0.1:56324", "192.168.0.11:443")},
      {"PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n",
       Tcp(Version::k1, "255.255.255.255:65535", "0.0.0.0:0")},
      {"PROXY TCP6 2001:DB8::1 ::1 1 65535\r\n",
       Tcp(Version::k1, "[2001:db8::1]:1", "[::1]:65535")},
      {"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
       "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
       Tcp(Version::k1, "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
           "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535")},
      {"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 2\r\n",
       Tcp(Version::k1, "[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:2")},
      {"PROXY UNKNOWN\r\n", Unknown(Version::k1)},
      {"PROXY UNKNOWN ffff:f:f anything at all\r\n", Unknown(Version::k1)},
      {absl::StrCat("PROXY UNKNOWN ", std::string(91, 'f'), "\r\n"),
       Unknown(Version::k1)},
      // LOCAL: bare, as HAProxy checks health, with nonsense to be skipped.
      {V2("20 00 0000"), {.local = true}},
      {V2("20 00 0007 030004a9b87e8f"), {.local = true}},
      {V2("20 ff 0003 ffffff"), {.local = true}},
      {V2("21 00 0000"), Unknown(Version::k2)},
      {V2("21 00 0004 05000137"), unknown_tlvs},
      {V2("21 00 0004 ffffffff"), Unknown(Version::k2)},  // No TLVs: skipped.
      {V2("21 10 0003 ffffff"), Unknown(Version::k2)},
      {V2("21 02 0003 ffffff"), Unknown(Version::k2)},
      {V2("21 11 000c" + v4),
       Tcp(Version::k2, "192.168.0.1:56324", "192.168.0.11:443")},
      {V2("21 12 000c" + v4), udp},
      {V2("21 21 0024 20010db8000000000000000000000001"
          "00000000000000000000000000000001 0001 ffff"),
       Tcp(Version::k2, "[2001:db8::1]:1", "[::1]:65535")},
      {V2(absl::StrCat("21 31 00d8", path("2f72756e2f63", 6),
                       path("00737276", 4))),
       unix_stream},
      {V2(absl::StrCat("21 32 00d8", path("", 0), path("2f", 1))),
       unix_unnamed},
      {V2("21 11 0015" + v4 + "020003612e62 e30000"), tlvs},
      // Written by HAProxy 2.6.
      {V2("21 11 0020 7f000001 7f000001 a908 4705 030004e36eaf35"
          "05000a69642d32353433302d30"),
       haproxy},
  };
}

absl::StatusOr<Address> WhoIsIt(int fd, const Address& peer,
                                const std::set<Address>& proxies) {
  const absl::StatusOr<std::optional<ProxyHeader>> header = ReadProxyHeader(
      fd, peer, [&](const Address& a) { return proxies.contains(a); },
      absl::Now() + absl::Seconds(3));
  if (!header.ok()) return header.status();  // Hang up.
  if (!header->has_value()) return peer;     // Came by itself.
  return (*header)->SourceOr(peer);
}

TEST(ProxyProtocolTest, ReadsEveryExampleHoweverItIsSplit) {
  const std::string stream = "PROXY and other first bytes of the stream\r\n";
  for (const auto& [bytes, header] : Examples()) {
    SCOPED_TRACE(absl::CHexEscape(bytes));
    const std::string all = bytes + stream;
    for (size_t first = 0; first <= all.size(); ++first) {
      SCOPED_TRACE(first);
      const Parsed parsed = ParseTwoPieces(all, first);
      ASSERT_THAT(parsed.header, IsOkAndHolds(header));
      ASSERT_EQ(parsed.taken, bytes.size());
    }
    const Parsed slowly = ParseByteByByte(all);
    EXPECT_THAT(slowly.header, IsOkAndHolds(header));
    EXPECT_EQ(slowly.taken, bytes.size());
  }
}

TEST(ProxyProtocolTest, WantsMoreOfEveryHeaderThatIsNotWhole) {
  for (const auto& [bytes, header] : Examples()) {
    for (size_t size = 0; size < bytes.size(); ++size) {
      const Parsed parsed = Parse(bytes.substr(0, size));
      EXPECT_THAT(parsed.header, StatusIs(absl::StatusCode::kUnavailable));
      EXPECT_EQ(parsed.taken, size);
    }
  }
}

TEST(ProxyProtocolTest, WritesWhatItReadsBack) {
  std::vector<ProxyHeader> headers = {Everything()};
  for (const Example& example : Examples()) headers.push_back(example.header);
  for (const ProxyHeader& header : headers) {
    const absl::StatusOr<std::string> bytes = FormatProxyHeader(header);
    ASSERT_THAT(bytes, IsOk());
    SCOPED_TRACE(absl::CHexEscape(*bytes));
    EXPECT_THAT(Parse(*bytes).header, IsOkAndHolds(header));
    EXPECT_EQ(Parse(*bytes).taken, bytes->size());
  }
}

TEST(ProxyProtocolTest, WritesByteForByteWhatTheSpecificationShows) {
  EXPECT_THAT(
      FormatProxyHeader(
          Tcp(Version::k1, "192.168.0.1:56324", "192.168.0.11:443")),
      IsOkAndHolds(Eq("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n")));
  EXPECT_THAT(FormatProxyHeader(Unknown(Version::k1)),
              IsOkAndHolds(Eq("PROXY UNKNOWN\r\n")));
  EXPECT_THAT(FormatProxyHeader({.local = true}),
              IsOkAndHolds(Eq(V2("20 00 0000"))));
  EXPECT_THAT(FormatProxyHeader(Tcp(Version::k2, "1.2.3.4:5", "6.7.8.9:10")),
              IsOkAndHolds(Eq(V2("21 11 000c 01020304 06070809 0005 000a"))));
  EXPECT_THAT(FormatProxyHeader(Tcp(Version::k1, "[fe80::1%1]:1", "[::1]:2")),
              IsOkAndHolds(Eq("PROXY TCP6 fe80::1 ::1 1 2\r\n")));
}

TEST(ProxyProtocolTest, GivesWhatItKnowsByName) {
  const Parsed parsed = Parse(*FormatProxyHeader(Everything()));
  ASSERT_THAT(parsed.header, IsOk());
  const ProxyHeader& header = *parsed.header;
  EXPECT_THAT(header.alpn(), Optional(Eq("h2")));
  EXPECT_THAT(header.authority(), Optional(Eq("example.com")));
  EXPECT_THAT(header.unique_id(),
              Optional(Eq(std::string_view("id\0\xff", 4))));
  EXPECT_THAT(header.netns(), Optional(Eq("blue")));
  EXPECT_THAT(header.Find(0xe0), Optional(Eq("our own")));
  EXPECT_THAT(header.Find(0xe1), Eq(std::nullopt));
  const std::optional<ProxySsl> ssl = header.ssl();
  ASSERT_TRUE(ssl.has_value());
  EXPECT_TRUE(ssl->over_tls());
  EXPECT_TRUE(ssl->verified());
  EXPECT_THAT(ssl->version(), Optional(Eq("TLSv1.3")));
  EXPECT_THAT(ssl->common_name(), Optional(Eq("example.com")));
  EXPECT_THAT(ssl->cipher(), Optional(Eq("AES128-GCM-SHA256")));
  EXPECT_THAT(ssl->signature_algorithm(), Optional(Eq("RSA-SHA256")));
  EXPECT_THAT(ssl->key_algorithm(), Optional(Eq("RSA2048")));
  EXPECT_EQ(Unknown(Version::k2).ssl(), std::nullopt);
}

TEST(ProxyProtocolTest, CallsNoClientVerifiedThatShowedNoCertificate) {
  EXPECT_FALSE(
      (ProxySsl{.client = ProxySsl::kOverTls, .verify = 0}).verified());
  EXPECT_TRUE((ProxySsl{.client = ProxySsl::kCertificateInSession, .verify = 0})
                  .verified());
  EXPECT_FALSE(
      (ProxySsl{.client = ProxySsl::kCertificateOnConnection, .verify = 10})
          .verified());
}

TEST(ProxyProtocolTest, SaysWhereAndWhyALineIsMalformed) {
  const struct {
    std::string line;
    std::string expected;
  } kCases[] = {
      {"GET / HTTP/1.1\r\n",
       "PROXY header \"G\": expected \"PROXY \" or the signature of version 2 "
       "at byte 1"},
      {"PROXX", "PROXY header \"PROXX\": expected \"PROXY \" at byte 5"},
      {"PROXY\t", "expected \"PROXY \" at byte 6"},
      {"PROXY  TCP4", "expected TCP4, TCP6 or UNKNOWN at byte 7"},
      {"PROXY TCP5 ", "expected TCP4, TCP6 or UNKNOWN at byte 10"},
      {"PROXY TCP4\r\n", "expected TCP4, TCP6 or UNKNOWN at byte 11"},
      {"PROXY UNKNOWNX", "expected TCP4, TCP6 or UNKNOWN at byte 14"},
      {"PROXY UNKNOWN\n", "expected TCP4, TCP6 or UNKNOWN at byte 14"},
      {"PROXY UNKNOWN x\n", "expected CR before LF at byte 16"},
      {"PROXY UNKNOWN \rx", "expected LF after CR at byte 16"},
      {"PROXY UNKNOWN\r\r\n", "expected LF after CR at byte 15"},
      {"PROXY TCP4 1.2.3 4.5.6.7 1 2\r\n",
       "expected an IPv4 address at byte 12"},
      {"PROXY TCP4 1.2.3.04 4.5.6.7 1 2\r\n",
       "expected an IPv4 address at byte 12"},
      {"PROXY TCP4 1.2.3.256 4.5.6.7 1 2\r\n",
       "expected an IPv4 address at byte 12"},
      {"PROXY TCP4 ::1 ::1 1 2\r\n", "expected an IPv4 address at byte 12"},
      {"PROXY TCP4  1.2.3.4 4.5.6.7 1 2\r\n",
       "expected an IPv4 address at byte 12"},
      {"PROXY TCP4 1.2.3.4  4.5.6.7 1 2\r\n",
       "expected an IPv4 address at byte 20"},
      {"PROXY TCP4 1.2.3.4\r\n", "expected a space at byte 19"},
      {"PROXY TCP4 1.2.3.4 4.5.6.7\r\n", "expected a space at byte 27"},
      {"PROXY TCP4 1.2.3.4 4.5.6.7 1\r\n", "expected a space at byte 29"},
      {"PROXY TCP4 1.2.3.4 4.5.6.7 1 \r\n",
       "expected a port from 0 to 65535 at byte 30"},
      {"PROXY TCP4 1.2.3.4 4.5.6.7 1 65536\r\n",
       "expected a port from 0 to 65535 at byte 30"},
      {"PROXY TCP4 1.2.3.4 4.5.6.7 1 4294967297\r\n",
       "expected a port from 0 to 65535 at byte 30"},
      {"PROXY TCP4 1.2.3.4 4.5.6.7 01 2\r\n",
       "expected a port from 0 to 65535 at byte 28"},
      {"PROXY TCP4 1.2.3.4 4.5.6.7 -1 2\r\n",
       "expected a port from 0 to 65535 at byte 28"},
      {"PROXY TCP4 1.2.3.4 4.5.6.7 1 2 \r\n", "expected CR LF at byte 31"},
      {"PROXY TCP4 1.2.3.4 4.5.6.7 1 2 3\r\n", "expected CR LF at byte 31"},
      {"PROXY TCP6 1.2.3.4 ::1 1 2\r\n", "expected an IPv6 address at byte 12"},
      {"PROXY TCP6 fe80::1%1 ::1 1 2\r\n",
       "expected an IPv6 address at byte 12"},
      {"PROXY TCP6 ::1 [::1] 1 2\r\n", "expected an IPv6 address at byte 16"},
      {std::string("PROXY TCP4 1.2.3.4\0 4.5.6.7 1 2\r\n", 33),
       "expected an IPv4 address at byte 12"},
  };
  for (const auto& [line, expected] : kCases) {
    SCOPED_TRACE(absl::CHexEscape(line));
    EXPECT_THAT(Parse(line).header, StatusIs(absl::StatusCode::kInvalidArgument,
                                             EndsWith(expected)));
    for (size_t first = 0; first < line.size(); ++first) {
      EXPECT_EQ(ParseTwoPieces(line, first).header.status(),
                Parse(line).header.status());
    }
  }
}

TEST(ProxyProtocolTest, SaysWhereAndWhyVersionTwoIsMalformed) {
  const std::string v4 = "01020304 05060708 0001 0002";
  const struct {
    std::string bytes;
    absl::StatusCode code;
    std::string expected;
  } kCases[] = {
      {Hex("0d0a0d0a 01"), absl::StatusCode::kInvalidArgument,
       "expected the signature of version 2 at byte 5"},
      {"\r\n\r\nGET", absl::StatusCode::kInvalidArgument,
       "expected the signature of version 2 at byte 5"},
      {V2("11"), absl::StatusCode::kInvalidArgument,
       "expected version 2 and LOCAL or PROXY (0x20, 0x21), not 0x11, at byte "
       "13"},
      {V2("22"), absl::StatusCode::kInvalidArgument, "not 0x22, at byte 13"},
      {V2("21 41"), absl::StatusCode::kInvalidArgument,
       "expected a family from 0 to 3 and a transport from 0 to 2, not 0x41, "
       "at byte 14"},
      {V2("21 13"), absl::StatusCode::kInvalidArgument, "at byte 14"},
      {V2("21 11 0000"), absl::StatusCode::kInvalidArgument,
       "expected a length of at least 12, not 0, at byte 15"},
      {V2("21 11 000b 01020304 05060708 0001 00"),
       absl::StatusCode::kInvalidArgument,
       "expected a length of at least 12, not 11, at byte 15"},
      {V2("21 21 000c" + v4), absl::StatusCode::kInvalidArgument,
       "expected a length of at least 36, not 12, at byte 15"},
      {V2("21 31 000c" + v4), absl::StatusCode::kInvalidArgument,
       "expected a length of at least 216, not 12, at byte 15"},
      {V2("21 11 000e" + v4 + "0200"), absl::StatusCode::kInvalidArgument,
       "expected a type and a length of 3 bytes at byte 29"},
      {V2("21 11 0010" + v4 + "02000200"), absl::StatusCode::kInvalidArgument,
       "expected a TLV of at most 1 bytes, not 2, at byte 29"},
      {V2("21 11 0013" + v4 + "04000100 02ffff"),
       absl::StatusCode::kInvalidArgument,
       "expected a TLV of at most 0 bytes, not 65535, at byte 33"},
      {V2("21 11 0012" + v4 + "030003 000000"),
       absl::StatusCode::kInvalidArgument,
       "expected one checksum of 4 bytes at byte 29"},
      {V2("21 11 0013" + v4 + "030004 00000000"), absl::StatusCode::kDataLoss,
       "at byte 32, not 0x00000000"},
      {V2("21 00 0007 030004 00000000"), absl::StatusCode::kDataLoss,
       "at byte 20, not 0x00000000"},
      {V2("21 11 0013" + v4 + "200004 01000000"),
       absl::StatusCode::kInvalidArgument,
       "expected an SSL TLV of at least 5 bytes at byte 32"},
      {V2("21 11 0017" + v4 + "200008 0100000000 210001"),
       absl::StatusCode::kInvalidArgument,
       "expected a TLV of at most 0 bytes, not 1, at byte 37"},
      {V2(absl::StrCat("21 11 0090", v4, "050081", std::string(258, '0'))),
       absl::StatusCode::kInvalidArgument,
       "expected a unique id of at most 128 bytes at byte 29"},
  };
  for (const auto& [bytes, code, expected] : kCases) {
    SCOPED_TRACE(absl::CHexEscape(bytes));
    EXPECT_THAT(Parse(bytes).header, StatusIs(code, EndsWith(expected)));
    for (size_t first = 0; first < bytes.size(); ++first) {
      EXPECT_EQ(ParseTwoPieces(bytes, first).header.status(),
                Parse(bytes).header.status());
    }
  }
}

TEST(ProxyProtocolTest, RefusesAHeaderWithAnyOneBitOfItTurned) {
  const std::string good = *FormatProxyHeader(Everything());
  // But for the byte that says that this is a checksum, the 7th from the end.
  const size_t checksum = good.size() - 7;
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    if (bit / 8 == checksum) continue;
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << bit % 8);
    // PROXY turned into LOCAL, TCP into UNSPEC: nothing of it is believed.
    const Parsed parsed = Parse(bad);
    if (parsed.header.ok()) {
      EXPECT_EQ(parsed.header->endpoints, std::nullopt) << "bit " << bit;
    }
  }
}

TEST(ProxyProtocolTest, HoldsNoMoreThanItMay) {
  EXPECT_THAT(
      Parse(absl::StrCat("PROXY UNKNOWN ", std::string(1000, 'f'))).header,
      StatusIs(absl::StatusCode::kResourceExhausted,
               EndsWith("expected CR LF within 107 bytes")));
  // Refused by its head, before anything else of it has come.
  EXPECT_THAT(Parse(V2("21 11 03f1")).header,
              StatusIs(absl::StatusCode::kResourceExhausted,
                       EndsWith("expected at most 1024 bytes, not 1025")));
  EXPECT_THAT(Parse(V2("21 11 03f0")).header,
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(Parse(V2("21 11 000c"), {.max_size = 27}).header,
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(Parse(V2("20 00 ffff"), {.max_size = 65551}).header,
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(Parse("PROXY UNKNOWN\r\n", {.max_size = 14}).header,
              StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST(ProxyProtocolTest, UnderstandsOnlyTheVersionsItIsToldTo) {
  const ProxyHeaderOptions only_v1 = {.v2 = false};
  const ProxyHeaderOptions only_v2 = {.v1 = false};
  EXPECT_THAT(Parse("PROXY UNKNOWN\r\n", only_v1).header, IsOk());
  EXPECT_THAT(Parse(V2("20 00 0000"), only_v2).header, IsOk());
  EXPECT_THAT(Parse(V2("20 00 0000"), only_v1).header,
              StatusIs(absl::StatusCode::kInvalidArgument,
                       EndsWith("expected \"PROXY \" at byte 1")));
  EXPECT_THAT(
      Parse("PROXY UNKNOWN\r\n", only_v2).header,
      StatusIs(absl::StatusCode::kInvalidArgument,
               EndsWith("expected the signature of version 2 at byte 1")));
}

TEST(ProxyProtocolTest, StaysWithItsFirstAnswer) {
  ProxyHeaderParser done;
  EXPECT_THAT(done.Feed("PROXY UNKNOWN\r\n"), IsOkAndHolds(15));
  EXPECT_THAT(done.Feed("PROXY UNKNOWN\r\n"), IsOkAndHolds(0));
  EXPECT_THAT(done.Feed(""), IsOkAndHolds(0));
  ProxyHeaderParser failed;
  const absl::Status error = failed.Feed("x").status();
  EXPECT_THAT(error, StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(failed.Feed("PROXY UNKNOWN\r\n").status(), error);
}

TEST(ProxyProtocolTest, WritesNothingThatItsVersionHasNoWordsFor) {
  ProxyHeader udp = Tcp(Version::k1, "1.2.3.4:5", "1.2.3.4:5");
  udp.endpoints->transport = Transport::kDatagram;
  ProxyHeader long_tlv = Unknown(Version::k2);
  long_tlv.tlvs = {{0xe0, std::string(65536, 'x')}};
  ProxyHeader many_tlvs = Unknown(Version::k2);
  many_tlvs.tlvs = {{0xe0, std::string(65530, 'x')}, {0xe0, ""}};
  ProxyHeader most_tlvs = Unknown(Version::k2);
  most_tlvs.tlvs = {{0xe0, std::string(65529, 'x')}, {0xe0, ""}};
  const struct {
    ProxyHeader header;
    std::string expected;
  } kCases[] = {
      {Tcp(Version::k1, ":5", "[::1]:5"),
       "expected addresses of one family each, not :5"},
      {Tcp(Version::k2, "[::1]:5", ":5"),
       "expected addresses of one family each, not :5"},
      {Tcp(Version::k2, "1.2.3.4:5", "[::1]:5"),
       "expected both addresses of one family, not 1.2.3.4:5 and [::1]:5"},
      {Tcp(Version::k1, "unix:/x", "unix:/y"),
       "expected version 2 for what is not TCP"},
      {udp, "expected version 2 for what is not TCP"},
      {{.version = Version::k1, .local = true}, "expected version 2 for LOCAL"},
      {{.version = Version::k1, .checksum = true}, "expected version 2 for"},
      {{.version = Version::k1, .tlvs = {{}}}, "expected version 2 for"},
      {{.local = true, .checksum = true}, "expected nothing else in one"},
      {{.tlvs = {{ProxyTlv::kCrc32c, "1234"}}}, "expected `checksum`"},
      {{.tlvs = {{ProxyTlv::kUniqueId, std::string(129, 'x')}}},
       "expected a unique id of at most 128 bytes"},
      {{.tlvs = {{ProxyTlv::kSsl, "1234"}}}, "expected an SSL TLV"},
      {long_tlv, "expected at most 65535 bytes"},
      {many_tlvs, "expected at most 65535 bytes"},
      {Tcp(Version::k2, "unix:@", "unix:/x"), "not unix:@"},
      {Tcp(Version::k2, "unix:/x", "unix:@a\\x00"), "not unix:@a\\x00"},
  };
  for (const auto& [header, expected] : kCases) {
    EXPECT_THAT(
        FormatProxyHeader(header),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(expected)));
  }
  const absl::StatusOr<std::string> most = FormatProxyHeader(most_tlvs);
  ASSERT_THAT(most, IsOk());
  EXPECT_EQ(most->size(), 65551u);
  EXPECT_THAT(Parse(*most, {.max_size = 65551}).header,
              IsOkAndHolds(most_tlvs));
}

TEST(ProxyProtocolTest, KeepsUnixPathsThatFillTheirField) {
  const ProxyHeader header =
      Tcp(Version::k2, absl::StrCat("unix:", std::string(108, 'x')),
          absl::StrCat("unix:@", std::string(107, 'y')));
  EXPECT_THAT(Parse(*FormatProxyHeader(header)).header, IsOkAndHolds(header));
}

// ---- On sockets ----

struct Pair {
  UniqueFd proxy;
  UniqueFd server;
};

Pair SocketPair() {
  std::array<int, 2> ends;
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

void Say(const UniqueFd& fd, std::string_view text) {
  ASSERT_EQ(send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(text.size()));
}

// What has come by now.
std::string Hear(int fd) {
  std::array<char, 4096> buffer;
  const ssize_t n = recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
  return n < 0 ? "(nothing)" : std::string(buffer.data(), n);
}

TEST(ReadProxyHeaderTest, HeaderExample) {
  const Address proxy = A("192.0.2.1:1");
  Pair pair = SocketPair();
  Say(pair.proxy, "PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\nhello");
  EXPECT_THAT(WhoIsIt(pair.server.get(), A("192.0.2.2:1"), {proxy}),
              IsOkAndHolds(A("192.0.2.2:1")));
  EXPECT_THAT(WhoIsIt(pair.server.get(), proxy, {proxy}),
              IsOkAndHolds(A("1.2.3.4:9")));
  EXPECT_EQ(Hear(pair.server.get()), "hello");
  Say(pair.proxy, "PROXY UNKNOWN\r\n");
  EXPECT_THAT(WhoIsIt(pair.server.get(), proxy, {proxy}), IsOkAndHolds(proxy));
  Say(pair.proxy, "hello");
  EXPECT_THAT(WhoIsIt(pair.server.get(), proxy, {proxy}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(ReadProxyHeaderTest, ReadsNothingFromWhoIsNotTrusted) {
  Pair pair = SocketPair();
  Say(pair.proxy, "PROXY UNKNOWN\r\n");
  EXPECT_THAT(ReadProxyHeader(
                  pair.server.get(), Address(),
                  [](const Address&) { return false; }, absl::InfinitePast()),
              IsOkAndHolds(Eq(std::nullopt)));
  EXPECT_EQ(Hear(pair.server.get()), "PROXY UNKNOWN\r\n");
}

TEST(ReadProxyHeaderTest, LeavesTheStreamAsItIsHoweverTheBytesCome) {
  for (const auto& [bytes, header] : Examples()) {
    SCOPED_TRACE(absl::CHexEscape(bytes));
    const std::string all = bytes + "hello";
    for (size_t first = 1; first < bytes.size(); first += 7) {
      Pair pair = SocketPair();
      ProxyHeaderParser parser;
      Say(pair.proxy, all.substr(0, first));
      EXPECT_THAT(TryReadProxyHeader(pair.server.get(), Address(), parser),
                  IsOkAndHolds(false));
      // Taken, so that a loop that polls does not spin.
      EXPECT_EQ(Hear(pair.server.get()), "(nothing)");
      Say(pair.proxy, all.substr(first));
      EXPECT_THAT(TryReadProxyHeader(pair.server.get(), Address(), parser),
                  IsOkAndHolds(true));
      EXPECT_EQ(parser.header(), header);
      EXPECT_EQ(Hear(pair.server.get()), "hello");
    }
  }
}

TEST(ReadProxyHeaderTest, ReadsAHeaderLongerThanAnyBufferOfItsOwn) {
  ProxyHeader header = Unknown(Version::k2);
  header.tlvs = {{0xe0, std::string(3000, 'x')}, {0xe1, "last"}};
  Pair pair = SocketPair();
  Say(pair.proxy, *FormatProxyHeader(header) + "hello");
  EXPECT_THAT(ReadProxyHeader(pair.server.get(), Address(), Everybody, Soon(),
                              {.max_size = 4096}),
              IsOkAndHolds(Optional(header)));
  EXPECT_EQ(Hear(pair.server.get()), "hello");
}

TEST(ReadProxyHeaderTest, TellsALateHeaderFromOneThatEnds) {
  Pair pair = SocketPair();
  Say(pair.proxy, "PROXY ");
  EXPECT_THAT(ReadProxyHeader(pair.server.get(), A("1.2.3.4:5"), Everybody,
                              absl::Now() + absl::Milliseconds(1)),
              StatusIs(absl::StatusCode::kDeadlineExceeded,
                       "recv the PROXY header from 1.2.3.4:5 after 6 bytes: "
                       "deadline exceeded"));
  Say(pair.proxy, "PROXY");
  EXPECT_THAT(pair.proxy.Close(), IsOk());
  EXPECT_THAT(
      ReadProxyHeader(pair.server.get(), A("1.2.3.4:5"), Everybody, Soon()),
      StatusIs(absl::StatusCode::kOutOfRange,
               "recv the PROXY header from 1.2.3.4:5: it ended after 5 bytes"));
  EXPECT_EQ(ErrnoOf(ReadProxyHeader(-1, Address(), Everybody, Soon()).status()),
            EBADF);
}

TEST(ReadProxyHeaderTest, NamesThePeerOfAMalformedHeader) {
  Pair pair = SocketPair();
  Say(pair.proxy, "SSH-2.0-x\r\n");
  EXPECT_THAT(
      ReadProxyHeader(pair.server.get(), A("1.2.3.4:5"), Everybody, Soon()),
      StatusIs(absl::StatusCode::kInvalidArgument,
               "from 1.2.3.4:5: PROXY header \"S\": expected \"PROXY \" or the "
               "signature of version 2 at byte 1"));
}

// ---- A real peer ----

// HAProxy, between a listener of ours, which it inherits, and another.
class Haproxy {
 public:
  Haproxy(const std::string& program, const Listener& front,
          std::string_view bind, const Listener& back,
          std::string_view server) {
    const char* scratch = getenv("TEST_TMPDIR");
    path_ =
        absl::StrCat(scratch == nullptr ? "/tmp" : scratch, "/haproxy_XXXXXX");
    const UniqueFd file(mkostemp(path_.data(), O_CLOEXEC));
    EXPECT_TRUE(file.valid());
    std::ofstream(path_) << "global\n  maxconn 10\n  nbthread 1\n"
                            "defaults\n  mode tcp\n  timeout connect 60s\n"
                            "  timeout client 60s\n  timeout server 60s\n"
                            "frontend front\n  unique-id-format conn-%rt\n"
                            "  default_backend back\n  bind fd@"
                         << front.fd() << " " << bind
                         << "\nbackend back\n  server back " << back.address()
                         << " " << server << "\n";
    pid_ = StartInChild([&] {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      fcntl(front.fd(), F_SETFD, 0);
      execl(program.c_str(), program.c_str(), "-db", "-f", path_.c_str(),
            nullptr);
      return 127;
    });
  }
  ~Haproxy() {
    kill(pid_, SIGKILL);
    WaitForChild(pid_);
    unlink(path_.c_str());
  }

 private:
  std::string path_;
  pid_t pid_ = -1;
};

class HaproxyTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!program_.has_value()) GTEST_SKIP() << NoProgram("haproxy");
  }

  // Blocks for the next connection to `back_`.
  std::optional<Accepted> Next() {
    EXPECT_THAT(PollUntil(back_.fd(), POLLIN, Soon()), IsOkAndHolds(true));
    absl::StatusOr<std::optional<Accepted>> accepted = back_.Accept();
    EXPECT_THAT(accepted, IsOkAndHolds(testing::Ne(std::nullopt)));
    return accepted.ok() ? *std::move(accepted) : std::nullopt;
  }

  static ProxyHeader HeaderOf(const Accepted& accepted) {
    const absl::StatusOr<std::optional<ProxyHeader>> header =
        ReadProxyHeader(accepted.stream.fd(), accepted.peer, Everybody, Soon());
    EXPECT_THAT(header, IsOkAndHolds(testing::Ne(std::nullopt)));
    return header.ok() && header->has_value() ? **header : ProxyHeader();
  }

  static std::string Five(Stream& stream) {
    std::string text;
    std::array<char, 5> buffer;
    while (text.size() < 5) {
      const absl::StatusOr<IoResult> got =
          stream.Read(absl::MakeSpan(buffer).first(5 - text.size()), Soon());
      if (!got.ok() || !got->bytes().has_value()) return text + " and no more";
      text.append(buffer.data(), *got->bytes());
    }
    return text;
  }

  std::optional<std::string> program_ = FindProgram("haproxy");
  Listener front_ = *Listener::Open(A("127.0.0.1:0"));
  Listener back_ = *Listener::Open(A("127.0.0.1:0"));
};

TEST_F(HaproxyTest, SendsVersionOne) {
  Haproxy haproxy(*program_, front_, "", back_, "send-proxy");
  absl::StatusOr<Stream> client = Stream::Connect(front_.address());
  ASSERT_THAT(client, IsOk());
  EXPECT_THAT(client->WriteAll("hello"), IsOk());
  std::optional<Accepted> accepted = Next();
  ASSERT_TRUE(accepted.has_value());
  ProxyHeader expected = {.version = Version::k1};
  expected.endpoints = {.source = *LocalAddressOf(client->fd()),
                        .destination = front_.address()};
  EXPECT_EQ(HeaderOf(*accepted), expected);
  EXPECT_EQ(Five(accepted->stream), "hello");
}

TEST_F(HaproxyTest, SendsVersionTwoWithAChecksumAndAUniqueId) {
  Haproxy haproxy(*program_, front_, "", back_,
                  "send-proxy-v2 proxy-v2-options crc32c,unique-id");
  absl::StatusOr<Stream> client = Stream::Connect(front_.address());
  ASSERT_THAT(client, IsOk());
  EXPECT_THAT(client->WriteAll("hello"), IsOk());
  std::optional<Accepted> accepted = Next();
  ASSERT_TRUE(accepted.has_value());
  ProxyHeader expected = {.checksum = true};
  expected.endpoints = {.source = *LocalAddressOf(client->fd()),
                        .destination = front_.address()};
  expected.tlvs = {{ProxyTlv::kUniqueId, "conn-0"}};
  EXPECT_EQ(HeaderOf(*accepted), expected);
  EXPECT_EQ(Five(accepted->stream), "hello");
}

TEST_F(HaproxyTest, ChecksHealthWithALocalHeader) {
  Haproxy haproxy(*program_, front_, "", back_,
                  "send-proxy-v2 check check-send-proxy");
  std::optional<Accepted> accepted = Next();
  ASSERT_TRUE(accepted.has_value());
  EXPECT_EQ(HeaderOf(*accepted), ProxyHeader{.local = true});
}

TEST_F(HaproxyTest, ReadsWhatWeWriteAndPassesItOn) {
  ProxyHeader v1 = Tcp(Version::k1, "192.0.2.1:56324", "192.0.2.2:443");
  ProxyHeader v1_v6 =
      Tcp(Version::k1, "[2001:db8::1]:56324", "[2001:db8::2]:443");
  ProxyHeader v2 = Tcp(Version::k2, "192.0.2.1:56324", "192.0.2.2:443");
  v2.checksum = true;
  Haproxy haproxy(*program_, front_, "accept-proxy", back_, "send-proxy-v2");
  for (const ProxyHeader& sent : {v1, v1_v6, v2, Everything()}) {
    absl::StatusOr<Stream> client = Stream::Connect(front_.address());
    ASSERT_THAT(client, IsOk());
    EXPECT_THAT(client->WriteAll(*FormatProxyHeader(sent) + "hello"), IsOk());
    std::optional<Accepted> accepted = Next();
    ASSERT_TRUE(accepted.has_value());
    EXPECT_EQ(HeaderOf(*accepted).endpoints, sent.endpoints);
    EXPECT_EQ(Five(accepted->stream), "hello");
  }
}

}  // namespace
}  // namespace brood
