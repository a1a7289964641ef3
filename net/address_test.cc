// SPDX-License-Identifier: Apache-2.0
#include "brood/net/address.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "absl/hash/hash_testing.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::StrEq;

using Random = std::mt19937_64;

int Below(int limit, Random& random) {
  return std::uniform_int_distribution<int>(0, limit - 1)(random);
}

template <typename Sockaddr>
Address FromKernel(const Sockaddr& address, size_t length) {
  const absl::StatusOr<Address> result =
      Address::FromSockaddr(reinterpret_cast<const struct sockaddr*>(&address),
                            static_cast<socklen_t>(length));
  EXPECT_THAT(result, IsOk());
  return result.value_or(Address());
}

Address V4(uint32_t host, uint16_t port) {
  sockaddr_in v4 = {};
  v4.sin_family = AF_INET;
  v4.sin_addr.s_addr = htonl(host);
  v4.sin_port = htons(port);
  return FromKernel(v4, sizeof(v4));
}

Address RandomV6(Random& random) {
  sockaddr_in6 v6 = {};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = static_cast<in_port_t>(Below(1 << 16, random));
  v6.sin6_flowinfo = static_cast<uint32_t>(random());
  if (Below(2, random) == 0) {
    v6.sin6_scope_id = static_cast<uint32_t>(random());
  }
  for (size_t i = 0; i < sizeof(v6.sin6_addr); ++i) {
    // Zeros are what the text form treats specially, so there are many.
    const int byte = Below(2, random) == 0 ? 0 : Below(256, random);
    v6.sin6_addr.s6_addr[i] = static_cast<uint8_t>(byte);
  }
  return FromKernel(v6, sizeof(v6));
}

Address RandomUnix(Random& random) {
  sockaddr_un local = {};
  local.sun_family = AF_UNIX;
  const int size = Below(sizeof(local.sun_path) + 1, random);
  // A NUL at the front makes an abstract name.
  const int lowest = size > 0 && Below(2, random) == 0 ? 0 : 1;
  for (int i = 0; i < size; ++i) {
    local.sun_path[i] = static_cast<char>(lowest + Below(256 - lowest, random));
  }
  if (lowest == 0) local.sun_path[0] = '\0';
  return FromKernel(
      local, offsetof(sockaddr_un, sun_path) + static_cast<size_t>(size));
}

Address RandomAddress(Random& random) {
  switch (Below(4, random)) {
    case 0:
      return V4(static_cast<uint32_t>(random()),
                static_cast<uint16_t>(Below(1 << 16, random)));
    case 1:
      return RandomV6(random);
    case 2:
      return RandomUnix(random);
  }
  return Address::Everywhere(static_cast<uint16_t>(Below(1 << 16, random)));
}

absl::StatusOr<std::string> Describe(std::string_view flag) {
  const absl::StatusOr<Address> address = Address::Parse(flag);
  if (!address.ok()) return address.status();  // Quotes `flag`, says where.
  switch (address->family()) {
    case AF_INET:
      return absl::StrCat("v4, port ", *address->port());
    case AF_INET6:
      return absl::StrCat("v6, port ", *address->port());
  }
  return absl::StrCat("on this machine: ", *address);
}

TEST(AddressTest, HeaderExample) {
  EXPECT_THAT(Describe("127.0.0.1:7007"), IsOkAndHolds("v4, port 7007"));
  EXPECT_THAT(Describe("[::1]:80"), IsOkAndHolds("v6, port 80"));
  EXPECT_THAT(Describe("unix:/run/x"),
              IsOkAndHolds("on this machine: unix:/run/x"));
  EXPECT_THAT(Describe("x"), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(AddressTest, ReadsEachFormAndWritesItBack) {
  const std::string longest(108, 'x');
  const struct {
    std::string text;
    std::string written;
  } kCases[] = {
      {"127.0.0.1:7007", "127.0.0.1:7007"},
      {"0.0.0.0:0", "0.0.0.0:0"},
      {"255.255.255.255:65535", "255.255.255.255:65535"},
      {"[::1]:7007", "[::1]:7007"},
      {"[::]:0", "[::]:0"},
      {":7007", ":7007"},
      {":0", ":0"},
      {"[2001:DB8:0:0:0:0:0:1]:1", "[2001:db8::1]:1"},
      {"[1:2:3:4:5:6:7:8]:1", "[1:2:3:4:5:6:7:8]:1"},
      {"[1:2:3:4:5:6:7::]:1", "[1:2:3:4:5:6:7:0]:1"},
      {"[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.1]:1"},
      {"[1:2:3:4:5:6:1.2.3.4]:1", "[1:2:3:4:5:6:102:304]:1"},
      {"[fe80::1%7]:7007", "[fe80::1%7]:7007"},
      {"[fe80::1%0]:7007", "[fe80::1]:7007"},
      {"[fe80::1%4294967295]:7007", "[fe80::1%4294967295]:7007"},
      {"unix:/run/x", "unix:/run/x"},
      {"unix:relative path", "unix:relative path"},
      {R"(unix:/a\x5cb\x0A\xff)", R"(unix:/a\x5cb\x0a\xff)"},
      {"unix:/\xed\x95\x9c", R"(unix:/\xed\x95\x9c)"},
      {R"(unix:\x40at)", R"(unix:\x40at)"},
      {R"(unix:\x28unnamed))", R"(unix:\x28unnamed))"},
      {"unix:(unnamed) no more", "unix:(unnamed) no more"},
      {"unix:" + longest, "unix:" + longest},
      {"unix:@", "unix:@"},
      {"unix:@name", "unix:@name"},
      {"unix:@@name", "unix:@@name"},
      {R"(unix:@\x00a\x00)", R"(unix:@\x00a\x00)"},
      {"unix:@" + longest.substr(1), "unix:@" + longest.substr(1)},
      {"unix:(unnamed)", "unix:(unnamed)"},
  };
  for (const auto& test : kCases) {
    SCOPED_TRACE(test.text);
    const absl::StatusOr<Address> address = Address::Parse(test.text);
    ASSERT_THAT(address, IsOk());
    EXPECT_EQ(address->ToString(), test.written);
    EXPECT_EQ(absl::StrCat(*address), test.written);
    EXPECT_THAT(Address::Parse(test.written), IsOkAndHolds(*address));
  }
}

TEST(AddressTest, ReadsAnInterfaceByNameAndWritesItsNumber) {
  const unsigned lo = if_nametoindex("lo");
  if (lo == 0) GTEST_SKIP() << "this machine has no interface lo";
  const absl::StatusOr<Address> address = Address::Parse("[fe80::1%lo]:7007");
  ASSERT_THAT(address, IsOk());
  EXPECT_EQ(address->ToString(), absl::StrCat("[fe80::1%", lo, "]:7007"));
}

TEST(AddressTest, SaysWhatIsWrongWithAMalformedTextAndWhere) {
  const std::string no_host =
      "an IPv4 address, an IPv6 address in brackets, \":\" and a port, or "
      "\"unix:\" (names of hosts are not looked up)";
  const std::string no_bracket =
      "an IPv6 address in brackets, as in [::1]:7007,";
  const std::string no_group = "a group of 1 to 4 hexadecimal digits";
  const std::string no_escape = "\\x and two hexadecimal digits";
  const struct {
    std::string text;
    std::string expected;
    int at;
  } kCases[] = {
      {"", no_host, 1},
      {" 127.0.0.1:1", no_host, 1},
      {"localhost:7007", no_host, 1},
      {"UNIX:/x", no_host, 1},
      {"*:7007", no_host, 1},
      {"7007", no_host, 1},
      {"7007:", no_host, 1},
      {"2130706433:80", no_host, 1},
      {"0x7f.0.0.1:80", no_host, 1},
      {".1.2.3:80", no_host, 1},
      {"tcp://127.0.0.1:80", no_host, 1},
      {"127", no_host, 1},
      {"%lo:80", no_host, 1},
      {"]:80", no_host, 1},
      {"unix", no_host, 1},
      {" unix:/x", no_host, 1},
      {"\"unix:/x\"", no_host, 1},
      {"\xed\x95\x9c:80", no_host, 1},
      {std::string("\0", 1), no_host, 1},
      {":", "a port from 0 to 65535", 2},
      {":http", "a port from 0 to 65535", 2},
      {": 80", "a port from 0 to 65535", 2},
      {":\xef\xbc\x98\xef\xbc\x90", "a port from 0 to 65535", 2},
      {":00", "a port from 0 to 65535", 2},
      {":4294967376", "a port from 0 to 65535", 2},
      {":18446744073709551696", "a port from 0 to 65535", 2},
      {":65536", "a port from 0 to 65535", 2},
      {":7007/", "nothing more", 6},
      {"127.", "a number from 0 to 255", 5},
      {"127.1:80", "\".\"", 6},
      {"127.0.0:1", "\".\"", 8},
      {"127..0.1:1", "a number from 0 to 255", 5},
      {"127.-1.0.1:1", "a number from 0 to 255", 5},
      {"256.0.0.1:1", "a number from 0 to 255", 1},
      {"00.0.0.1:1", "a number from 0 to 255", 1},
      {"1.2.3.4294967297:1", "a number from 0 to 255", 7},
      {"1.2.3.*:1", "a number from 0 to 255", 7},
      {"1.2.3.0/24", "\":\" and a port", 8},
      {"127.0.0.:1", "a number from 0 to 255", 9},
      {"127.0.0.256:1", "a number from 0 to 255", 9},
      {"127.0.0.01:1", "a number from 0 to 255", 9},
      {"127.0.0.1", "\":\" and a port", 10},
      {"127.0.0.1.2:1", "\":\" and a port", 10},
      {"127.0.0.1 :1", "\":\" and a port", 10},
      {"127.0.0.1:", "a port from 0 to 65535", 11},
      {"127.0.0.1:-1", "a port from 0 to 65535", 11},
      {"127.0.0.1:+1", "a port from 0 to 65535", 11},
      {"127.0.0.1:http", "a port from 0 to 65535", 11},
      {"127.0.0.1:65536", "a port from 0 to 65535", 11},
      {"127.0.0.1:99999999999999999999999", "a port from 0 to 65535", 11},
      {"127.0.0.1:0080", "a port from 0 to 65535", 11},
      {"127.0.0.1:70o7", "nothing more", 13},
      {"127.0.0.1:80 ", "nothing more", 13},
      {"127.0.0.1:80:81", "nothing more", 13},
      {std::string("127.0.0.1:80\0", 13), "nothing more", 13},
      {"127.0.0.1:80\n", "nothing more", 13},
      {"::1:7007", no_bracket, 1},
      {"fe80::1", no_bracket, 1},
      {"::", no_bracket, 1},
      {":80:80", no_bracket, 1},
      {"2001:db8::1%lo:80", no_bracket, 1},
      {"[", no_group, 2},
      {"[]:1", no_group, 2},
      {"[:1]:1", no_group, 2},
      {"[g::]:1", no_group, 2},
      {"[[::1]]:1", no_group, 2},
      {"[ ::1]:1", no_group, 2},
      {"[%lo]:1", no_group, 2},
      {"[1::12345]:1", no_group, 5},
      {"[1:2::3:x]:1", no_group, 9},
      {"[::ffff:1.2.3.256]:1", "a number from 0 to 255", 15},
      {"[::ffff:1.2.3.04]:1", "a number from 0 to 255", 15},
      {"[::1]]:1", "\":\" and a port", 6},
      {"[::1/64]:1", "\"]\"", 5},
      {std::string("[::1\0]:1", 8), "\"]\"", 5},
      {"[12345::]:1", no_group, 2},
      {"[127.0.0.1]:1", "\":\"", 11},
      {"[1:]:1", no_group, 4},
      {"[1:2:3]:1", "\":\"", 7},
      {"[1:2:3:4:5:6:7:8:9]:1", "\"]\"", 17},
      {"[1:2:3:4:5:6:7:1.2.3.4]:1", "\"]\"", 17},
      {"[1::2::3]:1", "no second \"::\"", 6},
      {"[:::]:1", "\"]\"", 4},
      {"[1:2:3:4::5:6:7:8]:1", "fewer groups beside \"::\"", 18},
      {"[::1.2.3]:1", "\".\"", 9},
      {"[::1.2.3.4:5]:1", "\"]\"", 11},
      {"[::1", "\"]\"", 5},
      {"[::1:80", "\"]\"", 8},
      {"[::1]", "\":\" and a port", 6},
      {"[::1]7007", "\":\" and a port", 6},
      {"[::1]:", "a port from 0 to 65535", 7},
      {"[::1%]:1", "an interface of this machine", 6},
      {"[::1%no such]:1", "an interface of this machine", 6},
      {"[::1%-1]:1", "an interface of this machine", 6},
      {"[::1%1x]:1", "an interface of this machine", 6},
      {"[::1%%1]:1", "an interface of this machine", 6},
      {"[::1%18446744073709551617]:1", "an interface number", 6},
      {std::string("[::1%lo\0]:1", 11), "an interface of this machine", 6},
      {"[::1%lo:1]:1", "an interface of this machine", 6},
      {"[::1%lo/..]:1", "an interface of this machine", 6},
      {"[::1%" + std::string(16, 'x') + "]:1", "an interface of this machine",
       6},
      {"[::1%1]:80]", "nothing more", 11},
      {"[::1%1]", "\":\" and a port", 8},
      {"[::1%1", "\"]\"", 7},
      {"[::1%4294967296]:1", "an interface number", 6},
      {"[::1%01]:1", "an interface number", 6},
      {"unix:", "a path, or \"@\" and a name,", 6},
      {R"(unix:/a\)", no_escape, 8},
      {R"(unix:/a\n)", no_escape, 8},
      {R"(unix:/a\x4)", no_escape, 8},
      {R"(unix:/a\x4g)", no_escape, 8},
      {R"(unix:@\X41)", no_escape, 7},
      {R"(unix:\)", no_escape, 6},
      {R"(unix:/a\x)", no_escape, 8},
      {R"(unix:/a\\b)", no_escape, 8},
      {R"(unix:/a\x 41)", no_escape, 8},
      {R"(unix:@\x41\101)", no_escape, 11},
      {R"(unix:\x00)", "a byte other than NUL", 6},
      {R"(unix:/a\x00b)", "a byte other than NUL", 8},
      {std::string("unix:/a\0", 8), "a byte other than NUL", 8},
      {"unix:" + std::string(109, 'x'), "at most 108 bytes, not 109,", 6},
      {"unix:@" + std::string(108, 'x'), "at most 107 bytes, not 108,", 7},
  };
  for (const auto& test : kCases) {
    SCOPED_TRACE(absl::CHexEscape(test.text));
    const size_t at = static_cast<size_t>(test.at);
    const absl::StatusOr<Address> address = Address::Parse(test.text);
    EXPECT_THAT(
        address,
        StatusIs(
            absl::StatusCode::kInvalidArgument,
            absl::StrCat("address \"", absl::CHexEscape(test.text),
                         "\": expected ", test.expected, " at character ", at,
                         at > test.text.size() ? ", where it ends" : "")));
  }
}

TEST(AddressTest,
     QuotesTheBeginningOfALongTextAndSaysWhereItIsWrongAllTheSame) {
  const std::string x(200, 'x');
  const std::string nines(1 << 20, '9');
  const struct {
    std::string text;
    std::string message;
  } kCases[] = {
      {x, absl::StrCat("address \"", x.substr(0, 128),
                       "\"... (200 bytes): expected an IPv4 address, an IPv6 "
                       "address in brackets, \":\" and a port, or \"unix:\" "
                       "(names of hosts are not looked up) at character 1")},
      {"1.2.3.4:" + nines,
       absl::StrCat("address \"1.2.3.4:", nines.substr(0, 120),
                    "\"... (1048584 bytes): expected a port from 0 to 65535 at "
                    "character 9")},
      {"unix:@" + x, absl::StrCat("address \"unix:@", x.substr(0, 122),
                                  "\"... (206 bytes): expected at most 107 "
                                  "bytes, not 200, at character 7")},
      {"unix:/" + x + "\\",
       absl::StrCat(
           "address \"unix:/", x.substr(0, 122),
           "\"... (207 bytes): expected \\x and two hexadecimal digits "
           "at character 207")},
      {"[::1%" + x, absl::StrCat("address \"[::1%", x.substr(0, 123),
                                 "\"... (205 bytes): expected an interface of "
                                 "this machine at character 6")},
  };
  for (const auto& test : kCases) {
    EXPECT_THAT(
        Address::Parse(test.text),
        StatusIs(absl::StatusCode::kInvalidArgument, StrEq(test.message)));
  }
  EXPECT_THAT(
      Address::UnixPath(x),
      StatusIs(absl::StatusCode::kInvalidArgument,
               absl::StrCat("unix path \"", x.substr(0, 128),
                            "\"... (200 bytes): expected 1 to 108 bytes "
                            "without NUL, not 200 bytes")));
  EXPECT_THAT(Address::UnixAbstract(x),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       absl::StrCat("unix abstract name \"", x.substr(0, 128),
                                    "\"... (200 bytes): expected at most 107 "
                                    "bytes, not 200")));
}

TEST(AddressTest, LooksAnInterfaceUpOnlyWithADescriptorToSpare) {
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit none = {.rlim_cur = 0, .rlim_max = limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const absl::Status by_name = Address::Parse("[fe80::1%lo]:1").status();
  const absl::Status by_number = Address::Parse("[fe80::1%1]:1").status();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(ErrnoOf(by_name), EMFILE);
  EXPECT_THAT(by_name, StatusIs(absl::StatusCode::kResourceExhausted,
                                HasSubstr("address \"[fe80::1%lo]:1\": ")));
  EXPECT_THAT(by_number, IsOk());
}

TEST(AddressTest, ParsesWhatItHasWritten) {
  Random random(20240607);
  for (int i = 0; i < 20000; ++i) {
    const Address address = RandomAddress(random);
    const std::string text = address.ToString();
    ASSERT_TRUE(std::all_of(text.begin(), text.end(),
                            [](char c) { return c >= ' ' && c <= '~'; }));
    const absl::StatusOr<Address> again = Address::Parse(text);
    ASSERT_THAT(again, IsOkAndHolds(address));
    ASSERT_EQ(again->sockaddr_length(), address.sockaddr_length());
    ASSERT_EQ(std::memcmp(again->sockaddr(), address.sockaddr(),
                          address.sockaddr_length()),
              0);
  }
}

// Texts that are nearly IPv6 addresses, and some that are.
std::string NearlyIPv6(Random& random) {
  std::string text;
  for (int groups = 1 + Below(9, random); groups > 0; --groups) {
    switch (Below(8, random)) {
      case 0:
        text += ":";
        break;
      case 1:
        text += absl::StrCat(Below(260, random), ".", Below(260, random), ".0.",
                             Below(20, random));
        break;
      default:
        text += absl::StrCat(absl::Hex(Below(0x10010, random)));
    }
    if (groups > 1) text += Below(6, random) == 0 ? "::" : ":";
  }
  return text;
}

TEST(AddressTest, AgreesWithInetPtonOnWhatAnIPv6AddressIs) {
  Random random(20240608);
  int well_formed = 0;
  for (int i = 0; i < 50000; ++i) {
    const std::string host = NearlyIPv6(random);
    SCOPED_TRACE(host);
    in6_addr expected;
    const bool good = inet_pton(AF_INET6, host.c_str(), &expected) == 1;
    const absl::StatusOr<Address> address =
        Address::Parse(absl::StrCat("[", host, "]:1"));
    ASSERT_EQ(address.ok(), good) << address.status();
    if (!good) continue;
    ++well_formed;
    sockaddr_in6 v6;
    ASSERT_EQ(address->sockaddr_length(), sizeof(v6));
    std::memcpy(&v6, address->sockaddr(), sizeof(v6));
    ASSERT_EQ(std::memcmp(&v6.sin6_addr, &expected, sizeof(expected)), 0);
  }
  EXPECT_GT(well_formed, 1000);
}

TEST(AddressTest, AgreesWithInetPtonOnWhatAnIPv4AddressIs) {
  Random random(20240609);
  constexpr std::string_view kBytes = "0011225.";
  for (int i = 0; i < 50000; ++i) {
    std::string host = "1";
    for (int more = Below(12, random); more > 0; --more) {
      host += kBytes[static_cast<size_t>(Below(kBytes.size(), random))];
    }
    SCOPED_TRACE(host);
    in_addr expected;
    const bool good = inet_pton(AF_INET, host.c_str(), &expected) == 1;
    const absl::StatusOr<Address> address =
        Address::Parse(absl::StrCat(host, ":1"));
    ASSERT_EQ(address.ok(), good) << address.status();
    if (!good) continue;
    ASSERT_EQ(*address, V4(ntohl(expected.s_addr), 1));
  }
}

TEST(AddressTest, IsWhatItsSockaddrSaysButForBothFamilies) {
  Random random(20240612);
  for (int i = 0; i < 20000; ++i) {
    const Address address = RandomAddress(random);
    const absl::StatusOr<Address> again =
        Address::FromSockaddr(address.sockaddr(), address.sockaddr_length());
    ASSERT_THAT(again, IsOk());
    if (address.both_families()) {
      ASSERT_EQ(again->ToString(), absl::StrCat("[::]:", *address.port()));
    } else {
      ASSERT_EQ(*again, address);
    }
  }
}

TEST(AddressTest, OfEverywhereIsAnotherThanTheOneOfAllIPv6) {
  const absl::StatusOr<Address> both = Address::Parse(":7007");
  const absl::StatusOr<Address> v6 = Address::Parse("[::]:7007");
  EXPECT_THAT(both, IsOkAndHolds(Address::Everywhere(7007)));
  ASSERT_THAT(v6, IsOk());
  EXPECT_TRUE(both->both_families());
  EXPECT_FALSE(v6->both_families());
  EXPECT_NE(*both, *v6);
  EXPECT_EQ(both->port(), 7007);
  EXPECT_EQ(both->family(), AF_INET6);
  ASSERT_EQ(both->sockaddr_length(), v6->sockaddr_length());
  EXPECT_EQ(
      std::memcmp(both->sockaddr(), v6->sockaddr(), v6->sockaddr_length()), 0);
}

TEST(AddressTest, UnmappedIsIPv4WhereThatIsMeantAndElseItself) {
  const struct {
    std::string mapped;
    std::string unmapped;
  } kCases[] = {
      {"[::ffff:192.0.2.1]:80", "192.0.2.1:80"},
      {"[::ffff:192.0.2.1%2]:80", "192.0.2.1:80"},
      {"[::ffff:0.0.0.0]:0", "0.0.0.0:0"},
      {"[::192.0.2.1]:80", "[::192.0.2.1]:80"},
      {"[::fffe:192.0.2.1]:80", "[::fffe:c000:201]:80"},
      {"[fe80::1%2]:80", "[fe80::1%2]:80"},
      {"192.0.2.1:80", "192.0.2.1:80"},
      {":80", ":80"},
      {"unix:@", "unix:@"},
  };
  for (const auto& test : kCases) {
    SCOPED_TRACE(test.mapped);
    const absl::StatusOr<Address> address = Address::Parse(test.mapped);
    ASSERT_THAT(address, IsOk());
    EXPECT_EQ(address->Unmapped().ToString(), test.unmapped);
    EXPECT_EQ(address->Unmapped(), *Address::Parse(test.unmapped));
  }
}

TEST(AddressTest, HasAScopeOnlyIfItIsIPv6AndInOne) {
  EXPECT_EQ(Address::Parse("[fe80::1%7]:80")->scope(), 7u);
  EXPECT_EQ(Address::Parse("[fe80::1]:80")->scope(), 0u);
  EXPECT_EQ(Address::Parse("127.0.0.1:80")->scope(), 0u);
  EXPECT_EQ(Address().scope(), 0u);
}

TEST(AddressTest, HasPathNameAndPortOnlyWhereTheyBelong) {
  const Address v4 = V4(INADDR_LOOPBACK, 80);
  EXPECT_EQ(v4.family(), AF_INET);
  EXPECT_EQ(v4.port(), 80);
  EXPECT_EQ(v4.unix_path(), std::nullopt);
  EXPECT_EQ(v4.unix_abstract_name(), std::nullopt);

  const absl::StatusOr<Address> path = Address::UnixPath("/run/x");
  ASSERT_THAT(path, IsOk());
  EXPECT_EQ(path->family(), AF_UNIX);
  EXPECT_EQ(path->port(), std::nullopt);
  EXPECT_EQ(path->unix_path(), "/run/x");
  EXPECT_EQ(path->unix_abstract_name(), std::nullopt);

  const std::string_view name("a\0b", 3);
  const absl::StatusOr<Address> abstract = Address::UnixAbstract(name);
  ASSERT_THAT(abstract, IsOk());
  EXPECT_EQ(abstract->port(), std::nullopt);
  EXPECT_EQ(abstract->unix_path(), std::nullopt);
  EXPECT_EQ(abstract->unix_abstract_name(), name);

  const Address unnamed;
  EXPECT_EQ(unnamed.family(), AF_UNIX);
  EXPECT_EQ(unnamed.port(), std::nullopt);
  EXPECT_EQ(unnamed.unix_path(), std::nullopt);
  EXPECT_EQ(unnamed.unix_abstract_name(), std::nullopt);
}

TEST(AddressTest, RefusesWhatIsNoUnixName) {
  const std::string too_long(109, 'x');
  const std::string_view with_nul("a\0b", 3);
  for (const std::string_view path :
       {std::string_view(), with_nul, std::string_view(too_long)}) {
    EXPECT_THAT(
        Address::UnixPath(path),
        StatusIs(absl::StatusCode::kInvalidArgument,
                 absl::StrCat("unix path \"", absl::CHexEscape(path),
                              "\": expected 1 to 108 bytes without NUL, not ",
                              path.size(), " bytes")));
  }
  EXPECT_THAT(Address::UnixAbstract(too_long.substr(1)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("expected at most 107 bytes, not 108")));
}

TEST(AddressTest, RefusesASockaddrThatIsForeignOrCutShort) {
  sockaddr_storage storage = {};
  const auto* address = reinterpret_cast<const struct sockaddr*>(&storage);
  const struct {
    int family;
    socklen_t length;
  } kCases[] = {
      {AF_UNIX, 0},
      {AF_UNIX, sizeof(sa_family_t) - 1},
      {AF_UNSPEC, sizeof(sockaddr_un)},
      {AF_NETLINK, sizeof(sockaddr_un)},
      {AF_INET, sizeof(sockaddr_in) - 1},
      {AF_INET6, sizeof(sockaddr_in6) - 1},
  };
  for (const auto& test : kCases) {
    storage.ss_family = static_cast<sa_family_t>(test.family);
    EXPECT_THAT(Address::FromSockaddr(address, test.length),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << test.family << ", " << test.length << " bytes";
  }
}

TEST(AddressTest, HashesAndComparesByValue) {
  Random random(20240610);
  std::vector<Address> addresses = {Address(), V4(1, 2), V4(1, 3), V4(2, 1)};
  for (int i = 0; i < 100; ++i) addresses.push_back(RandomAddress(random));
  EXPECT_TRUE(absl::VerifyTypeImplementsAbslHashCorrectly(addresses));

  EXPECT_EQ(V4(1, 2), V4(1, 2));
  EXPECT_NE(V4(1, 2), V4(1, 3));
}

TEST(AddressTest, OrdersByHostBeforePort) {
  const std::vector<std::string> sorted = {"unix:(unnamed)",
                                           "unix:@",
                                           "unix:@a",
                                           "unix:/a",
                                           "unix:/a/b",
                                           "unix:/b",
                                           "1.2.3.4:9",
                                           "1.2.3.5:7",
                                           "1.2.3.5:8",
                                           "200.2.3.4:1",
                                           "[::]:8",
                                           ":7",
                                           ":8",
                                           "[::1]:9",
                                           "[fe80::1]:8",
                                           "[fe80::1%2]:7",
                                           "[fe80::1%2]:8",
                                           "[fe80::1%3]:1"};
  for (size_t i = 1; i < sorted.size(); ++i) {
    EXPECT_LT(*Address::Parse(sorted[i - 1]), *Address::Parse(sorted[i]))
        << sorted[i - 1] << " and " << sorted[i];
  }
}

TEST(AddressTest, OfASocketIsWhereItIsBound) {
  const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_TRUE(socket.valid());
  const Address wish = V4(INADDR_LOOPBACK, 0);
  ASSERT_EQ(bind(socket.get(), wish.sockaddr(), wish.sockaddr_length()), 0);
  const absl::StatusOr<Address> bound = LocalAddressOf(socket.get());
  ASSERT_THAT(bound, IsOk());
  EXPECT_NE(bound->port(), 0);
  EXPECT_EQ(*bound, V4(INADDR_LOOPBACK, *bound->port()));

  const absl::Status unconnected = PeerAddressOf(socket.get()).status();
  EXPECT_EQ(ErrnoOf(unconnected), ENOTCONN);
  EXPECT_THAT(unconnected.message(), HasSubstr("getpeername of descriptor"));
}

TEST(AddressTest, OfASocketIsTheNameTheKernelChose) {
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_TRUE(socket.valid());
  EXPECT_THAT(LocalAddressOf(socket.get()), IsOkAndHolds(Address()));
  ASSERT_EQ(
      bind(socket.get(), Address().sockaddr(), Address().sockaddr_length()), 0);
  const absl::StatusOr<Address> bound = LocalAddressOf(socket.get());
  ASSERT_THAT(bound, IsOk());
  EXPECT_TRUE(bound->unix_abstract_name().has_value());
  EXPECT_THAT(Address::Parse(bound->ToString()), IsOkAndHolds(*bound));
}

TEST(AddressTest, OfASocketSaysWhetherItTakesBothFamilies) {
  for (const int v6_only : {0, 1}) {
    const UniqueFd socket(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!socket.valid() && errno == EAFNOSUPPORT) {
      GTEST_SKIP() << "this machine has no IPv6";
    }
    ASSERT_TRUE(socket.valid());
    ASSERT_EQ(setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &v6_only,
                         sizeof(v6_only)),
              0);
    const Address wish = Address::Everywhere(0);
    ASSERT_EQ(bind(socket.get(), wish.sockaddr(), wish.sockaddr_length()), 0);
    const absl::StatusOr<Address> bound = LocalAddressOf(socket.get());
    ASSERT_THAT(bound, IsOk());
    EXPECT_EQ(bound->ToString(),
              absl::StrCat(v6_only == 0 ? ":" : "[::]:", *bound->port()));
    EXPECT_THAT(Address::Parse(bound->ToString()), IsOkAndHolds(*bound));
  }
}

TEST(AddressTest, OfAUnixSocketIsTheNameItWasGivenToTheLastByte) {
  const UniqueFd folder(
      open(testing::TempDir().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  ASSERT_TRUE(folder.valid());
  std::string longest = absl::StrCat("/proc/self/fd/", folder.get(), "/");
  longest.resize(Address::kMaxUnixPath, 'x');
  const std::string shorter = longest.substr(0, longest.size() - 1);
  const std::string nuls = absl::StrCat(getpid(), std::string(1, '\0'), "brood",
                                        std::string(10, '\0'));
  std::string longest_name = nuls;
  longest_name.resize(Address::kMaxAbstractName, '\0');
  for (const absl::StatusOr<Address>& name :
       {Address::UnixPath(longest), Address::UnixPath(shorter),
        Address::UnixAbstract(nuls), Address::UnixAbstract(longest_name)}) {
    ASSERT_THAT(name, IsOk());
    SCOPED_TRACE(*name);
    const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_TRUE(socket.valid());
    ASSERT_EQ(bind(socket.get(), name->sockaddr(), name->sockaddr_length()), 0);
    EXPECT_THAT(LocalAddressOf(socket.get()), IsOkAndHolds(*name));
    if (const auto path = name->unix_path()) {
      EXPECT_EQ(unlink(std::string(*path).c_str()), 0);
    }
  }
}

TEST(AddressTest, OfWhatIsNoSocketIsAnError) {
  EXPECT_EQ(ErrnoOf(LocalAddressOf(-1).status()), EBADF);
  std::array<int, 2> ends;
  ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
  const UniqueFd reading(ends[0]);
  const UniqueFd writing(ends[1]);
  EXPECT_EQ(ErrnoOf(LocalAddressOf(reading.get()).status()), ENOTSOCK);
}

}  // namespace
}  // namespace brood
