// SPDX-License-Identifier: Apache-2.0
// The input is read twice: as the text of an address, and as a sockaddr.
#include <sys/socket.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "absl/log/check.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "brood/net/address.h"
#include "brood/net/quoted.h"

namespace brood {
namespace {

void CheckRoundTrips(const Address& address) {
  const std::string text = address.ToString();
  CHECK(std::all_of(text.begin(), text.end(), absl::ascii_isprint)) << text;
  const absl::StatusOr<Address> parsed = Address::Parse(text);
  CHECK(parsed.ok()) << parsed.status();
  CHECK(*parsed == address) << *parsed << " and " << address;
  CHECK((*parsed <=> address) == 0);

  const absl::StatusOr<Address> native =
      Address::FromSockaddr(address.sockaddr(), address.sockaddr_length());
  CHECK(native.ok()) << native.status();
  // That a socket takes both families is not for a sockaddr to say.
  CHECK(*native == address || address.both_families())
      << *native << " and " << address;
}

void ReadAsText(std::string_view text) {
  const absl::StatusOr<Address> address = Address::Parse(text);
  if (address.ok()) return CheckRoundTrips(*address);
  const std::string_view message = address.status().message();
  CHECK(absl::StartsWith(message,
                         absl::StrCat("address ", Quoted(text), ": expected ")))
      << message;
  CHECK(absl::StrContains(message, " at character ")) << message;
}

void ReadAsSockaddr(std::string_view bytes) {
  sockaddr_storage storage = {};
  const size_t size = std::min(bytes.size(), sizeof(storage));
  std::memcpy(&storage, bytes.data(), size);
  const absl::StatusOr<Address> address =
      Address::FromSockaddr(reinterpret_cast<const sockaddr*>(&storage),
                            static_cast<socklen_t>(size));
  if (address.ok()) CheckRoundTrips(*address);
}

}  // namespace
}  // namespace brood

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  brood::ReadAsText(input);
  brood::ReadAsSockaddr(input);
  return 0;
}
