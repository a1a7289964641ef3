// SPDX-License-Identifier: Apache-2.0
//
// A ProxyHeader is what a proxy says about a connection before it passes on the
// first byte: from where to where it really goes.
//
//   absl::StatusOr<Address> WhoIsIt(int fd, const Address& peer,
//                                   const std::set<Address>& proxies) {
//     const absl::StatusOr<std::optional<ProxyHeader>> header =
//         ReadProxyHeader(
//             fd, peer, [&](const Address& a) { return proxies.contains(a); },
//             absl::Now() + absl::Seconds(3));
//     if (!header.ok()) return header.status();  // Hang up.
//     if (!header->has_value()) return peer;     // Came by itself.
//     return (*header)->SourceOr(peer);
//   }
//
// What it is not: a proof. Whoever may send a header may claim to be anybody;
// that is why reading one takes a predicate that says whom to believe, and why
// nothing here guesses whether there is a header or not.
//
// The bytes after the header belong to the stream, and none of them is taken
// away. ReadProxyHeader looks with MSG_PEEK and then takes exactly what it has
// understood, so a header that dribbles in neither spins nor is read twice. A
// caller with a buffer of its own gives it to ProxyHeaderParser::Feed, which
// says how many of its bytes were the header's; the rest is the first of the
// stream.
//
// What a stranger can make a parser hold: 107 bytes of version 1, for that is
// the longest line there is, and ProxyHeaderOptions::max_size of version 2,
// which is refused by its 16th byte if it announces more. What begins like no
// header is refused by its first byte that does; the addresses and ports of a
// line are looked at once CR LF has come.
//
// Ownership: a ProxyHeader is a value and borrows nothing; what its accessors
// return is borrowed from it. Descriptors are borrowed.
//
// Errors: a malformed header is InvalidArgument, one line that says what was
// expected at which byte, counted from 1; one longer than is allowed is
// ResourceExhausted, a checksum that is wrong DataLoss, a peer that ends
// before its header does OutOfRange. All of them leave the connection without
// a known place in it: close it. The others name the call and the peer and
// carry their errno (see ErrnoOf), but for DeadlineExceeded, which is ours.
//
// Threads: one at a time. Signals: EINTR is retried. Fork: values.
// Rests on: HAProxy's proxy-protocol.txt, versions 1 and 2; recv(2).
#ifndef BROOD_NET_PROXY_PROTOCOL_H_
#define BROOD_NET_PROXY_PROTOCOL_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/net/address.h"

namespace brood {

// A type, a length and a value, as version 2 appends them. Types that nobody
// here knows are kept as they are.
struct ProxyTlv {
  static constexpr uint8_t kAlpn = 0x01;
  static constexpr uint8_t kAuthority = 0x02;
  static constexpr uint8_t kCrc32c = 0x03;
  static constexpr uint8_t kNoop = 0x04;
  static constexpr uint8_t kUniqueId = 0x05;
  static constexpr uint8_t kSsl = 0x20;
  static constexpr uint8_t kNetns = 0x30;
  // Within kSsl.
  static constexpr uint8_t kSslVersion = 0x21;
  static constexpr uint8_t kSslCommonName = 0x22;
  static constexpr uint8_t kSslCipher = 0x23;
  static constexpr uint8_t kSslSignature = 0x24;
  static constexpr uint8_t kSslKey = 0x25;

  uint8_t type = kNoop;
  std::string value = {};

  friend bool operator==(const ProxyTlv&, const ProxyTlv&) = default;
};

// What the proxy knows of the client's TLS.
struct ProxySsl {
  static constexpr uint8_t kOverTls = 0x01;
  static constexpr uint8_t kCertificateOnConnection = 0x02;
  static constexpr uint8_t kCertificateInSession = 0x04;

  uint8_t client = 0;  // The bits above; others are kept.
  uint32_t verify = 0;
  std::vector<ProxyTlv> tlvs = {};

  bool over_tls() const { return (client & kOverTls) != 0; }
  // The client has shown a certificate, and it was found good. `verify` alone
  // does not say so: it is 0 as well for a client that showed none.
  bool verified() const {
    return (client & (kCertificateOnConnection | kCertificateInSession)) != 0 &&
           verify == 0;
  }
  std::optional<std::string_view> version() const;      // "TLSv1.3"
  std::optional<std::string_view> common_name() const;  // "example.com"
  std::optional<std::string_view> cipher() const;
  std::optional<std::string_view> signature_algorithm() const;
  std::optional<std::string_view> key_algorithm() const;

  // As one TLV, to be sent.
  ProxyTlv ToTlv() const;

  friend bool operator==(const ProxySsl&, const ProxySsl&) = default;
};

enum class ProxyTransport { kStream, kDatagram };

// Both of one family.
struct ProxyEndpoints {
  Address source;
  Address destination;
  ProxyTransport transport = ProxyTransport::kStream;

  friend bool operator==(const ProxyEndpoints&,
                         const ProxyEndpoints&) = default;
};

struct ProxyHeader {
  enum class Version { k1 = 1, k2 = 2 };

  Version version = Version::k2;
  // Version 2: the proxy speaks for itself, as in a health check. What else
  // such a header has is skipped, TLVs and a checksum too.
  bool local = false;
  // None if it is local, or if the proxy does not know (UNKNOWN in version 1,
  // UNSPEC in version 2): then the connection's own addresses are all there is.
  std::optional<ProxyEndpoints> endpoints = std::nullopt;
  // Version 2: it carries a CRC32C, which was right. Never among the TLVs.
  bool checksum = false;
  // Version 2: the others, in order, and of equals the first counts.
  std::vector<ProxyTlv> tlvs = {};

  const Address& SourceOr(const Address& peer) const {
    return endpoints.has_value() ? endpoints->source : peer;
  }

  // The value of the first TLV of this type.
  std::optional<std::string_view> Find(uint8_t type) const;
  // As the proxy has sent them; nobody has looked for text in them.
  std::optional<std::string_view> alpn() const;
  std::optional<std::string_view> authority() const;
  std::optional<std::string_view> unique_id() const;
  std::optional<std::string_view> netns() const;
  // Of a header that was parsed, always there if the TLV is.
  std::optional<ProxySsl> ssl() const;

  friend bool operator==(const ProxyHeader&, const ProxyHeader&) = default;
};

struct ProxyHeaderOptions {
  // Which versions to understand; configure it where the proxy's is known.
  bool v1 = true;
  bool v2 = true;
  // The longest header in bytes, all included. The longest addresses, those of
  // unix sockets, take 232; the protocol itself would allow 65551.
  size_t max_size = 1024;
};

// Reads one header, however its bytes come.
class ProxyHeaderParser {
 public:
  explicit ProxyHeaderParser(const ProxyHeaderOptions& options = {})
      : options_(options) {}

  // Takes what belongs to the header off the front of `bytes` and says how much
  // that was: all of it while the header is not complete, and nothing once it
  // is. An error stays the answer for good.
  absl::StatusOr<size_t> Feed(std::string_view bytes);

  bool done() const { return header_.has_value(); }
  // REQUIRES: done().
  const ProxyHeader& header() const { return *header_; }
  // How many bytes of the header have been taken.
  size_t size() const { return text_.size(); }

 private:
  absl::Status Advance();
  absl::Status CheckV1();
  absl::Status CheckV2();

  ProxyHeaderOptions options_;
  std::string text_;      // The header so far.
  size_t announced_ = 0;  // Of version 2: its size, once known.
  absl::Status error_;
  std::optional<ProxyHeader> header_;
};

// The bytes to send. Parsing them yields `header` again, but for the scopes of
// IPv6 addresses, which mean nothing elsewhere and are left out.
// InvalidArgument for what its version has no words for: a unix socket in
// version 1 (leave the endpoints out: UNKNOWN), two families at once, what
// Address::Everywhere makes, more than 65535 bytes, anything but `local` in a
// local one, a unix abstract name that is empty or ends in NUL.
absl::StatusOr<std::string> FormatProxyHeader(const ProxyHeader& header);

// Takes what there is of the header from the socket `fd`, and not a byte more;
// true once the parser is done. Never blocks. `peer` is for messages.
absl::StatusOr<bool> TryReadProxyHeader(int fd, const Address& peer,
                                        ProxyHeaderParser& parser);

// Blocks for the header of a peer that is trusted to send one, but not beyond
// `deadline`. Of any other peer nothing is read, and the answer is nullopt: it
// is for the caller to serve it as it is, or not.
absl::StatusOr<std::optional<ProxyHeader>> ReadProxyHeader(
    int fd, const Address& peer,
    absl::FunctionRef<bool(const Address&)> trusted, absl::Time deadline,
    const ProxyHeaderOptions& options = {});

}  // namespace brood

#endif  // BROOD_NET_PROXY_PROTOCOL_H_
