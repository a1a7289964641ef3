// SPDX-License-Identifier: Apache-2.0
// What the reader makes of each part of an address is told by the tests of
// those who use it; here is what they have in common.
#include "brood/net/address_reader.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;

absl::StatusOr<in_addr> ReadHost(std::string_view text) {
  AddressReader reader("host", text);
  in_addr host;
  if (absl::Status s = reader.IPv4(host); !s.ok()) return s;
  if (!reader.AtEnd()) return reader.Expected("nothing more");
  return host;
}

TEST(AddressReaderTest, HeaderExample) {
  const absl::StatusOr<in_addr> host = ReadHost("127.0.0.1");
  ASSERT_THAT(host, IsOk());
  EXPECT_EQ(host->s_addr, htonl(INADDR_LOOPBACK));
  EXPECT_THAT(ReadHost("127.0.0.1:80"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "host \"127.0.0.1:80\": expected nothing more at "
                       "character 10"));
}

TEST(AddressReaderTest, CountsCharactersFromOneAndSaysWhereTheTextEnds) {
  AddressReader reader("word", "a\n");
  EXPECT_EQ(reader.Expected("b").message(),
            R"(word "a\n": expected b at character 1)");
  EXPECT_TRUE(reader.Skip("a\n"));
  EXPECT_EQ(reader.Expected("b").message(),
            R"(word "a\n": expected b at character 3, where it ends)");
}

TEST(AddressReaderTest, StaysWhereItIsIfWhatIsWantedIsNotThere) {
  AddressReader reader("number", "256x");
  EXPECT_FALSE(reader.Skip("26"));
  EXPECT_EQ(reader.Decimal(255), std::nullopt);
  EXPECT_EQ(reader.Rest(), "256x");
  EXPECT_EQ(reader.Decimal(256), 256u);
  EXPECT_EQ(reader.Rest(), "x");
  EXPECT_EQ(reader.Decimal(256), std::nullopt);
}

TEST(AddressReaderTest, TellsByTheFirstCharactersWhatFollows) {
  EXPECT_TRUE(AddressReader("", "10.").AtDottedNumber());
  EXPECT_FALSE(AddressReader("", "10").AtDottedNumber());
  EXPECT_FALSE(AddressReader("", ".1").AtDottedNumber());
  EXPECT_TRUE(AddressReader("", "fe80:").AtGroup());
  EXPECT_TRUE(AddressReader("", ":").AtGroup());
  EXPECT_FALSE(AddressReader("", "fe80").AtGroup());
  EXPECT_TRUE(AddressReader("", "fe80::1").AtBareIPv6());
  EXPECT_FALSE(AddressReader("", "fe80:1").AtBareIPv6());
  EXPECT_FALSE(AddressReader("", "[fe80::1]").AtBareIPv6());
}

}  // namespace
}  // namespace brood
