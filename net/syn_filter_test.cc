// SPDX-License-Identifier: Apache-2.0
#include "brood/net/syn_filter.h"

#include <poll.h>

#include <cerrno>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/address_range.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/proc/posix.h"
#include "brood/tests/own_network.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;

Listener Open(std::string_view address = "127.0.0.1:0") {
  return *Listener::Open(*Address::Parse(address));
}

std::vector<AddressRange> Ranges(const std::vector<std::string>& texts) {
  std::vector<AddressRange> ranges;
  for (const std::string& text : texts) {
    ranges.push_back(*AddressRange::Parse(text));
  }
  return ranges;
}

// By loopback whoever is heard is connected before connect(2) returns; so a
// short while is enough to know that nobody answers.
absl::StatusOr<Stream> Knock(const Address& at, std::string_view from,
                             absl::Duration patience = absl::Milliseconds(50)) {
  return Stream::Connect(at, absl::Now() + patience,
                         {.source = *Address::Parse(from)});
}

bool IsHeard(const Address& at, std::string_view from) {
  const absl::StatusOr<Stream> stream = Knock(at, from);
  if (!stream.ok()) {
    EXPECT_EQ(stream.status().code(), absl::StatusCode::kDeadlineExceeded)
        << stream.status();
  }
  return stream.ok();
}

// Some kernels ask for CAP_NET_ADMIN.
class SynFilterTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { no_network_ = EnterOwnNetwork(); }
  void SetUp() override {
    if (no_network_ != 0) {
      GTEST_SKIP()
          << ErrnoStatus(no_network_, "no network of one's own").message();
    }
  }

 private:
  static int no_network_;
};

int SynFilterTest::no_network_ = 0;

absl::Status Ignore(const Listener& listener, const Address& flooder) {
  absl::StatusOr<AddressRange> source =
      AddressRange::Around(flooder, AddressRange::kMaxPrefixIPv4);
  if (!source.ok()) return source.status();
  return DropSynsFrom(listener.fd(), {*source});
}

TEST_F(SynFilterTest, DropsWhoeverIsNamed) {
  const Listener listener = Open();
  ASSERT_THAT(Ignore(listener, *Address::Parse("127.0.0.2:7")), IsOk());
  EXPECT_FALSE(IsHeard(listener.address(), "127.0.0.2:0"));
  EXPECT_TRUE(IsHeard(listener.address(), "127.0.0.3:0"));
}

TEST_F(SynFilterTest, DropsTheSynsOfItsSourcesAndOfNobodyElse) {
  const Listener listener = Open();
  const Address& at = listener.address();
  ASSERT_THAT(
      DropSynsFrom(listener.fd(), Ranges({"127.0.0.2", "127.0.1.0/25",
                                          "2001:db8::/32", "127.64.0.0/10"})),
      IsOk());
  EXPECT_TRUE(IsHeard(at, "127.0.0.1:0"));
  EXPECT_TRUE(IsHeard(at, "127.0.0.3:0"));
  EXPECT_FALSE(IsHeard(at, "127.0.0.2:0"));
  EXPECT_FALSE(IsHeard(at, "127.0.1.127:0"));
  EXPECT_TRUE(IsHeard(at, "127.0.1.128:0"));
  EXPECT_FALSE(IsHeard(at, "127.127.255.254:0"));
  EXPECT_TRUE(IsHeard(at, "127.128.0.1:0"));
}

TEST_F(SynFilterTest, IsAsLongAsItMayBe) {
  const Listener listener = Open();
  std::vector<AddressRange> many;
  for (size_t i = 0; i < kMaxFilteredSources; ++i) {
    many.push_back(*AddressRange::Parse("2001:db8::7"));
  }
  many.back() = *AddressRange::Parse("127.0.0.2");
  ASSERT_THAT(DropSynsFrom(listener.fd(), many), IsOk());
  EXPECT_FALSE(IsHeard(listener.address(), "127.0.0.2:0"));
  EXPECT_TRUE(IsHeard(listener.address(), "127.0.0.3:0"));
  many.push_back(many.back());
  EXPECT_THAT(DropSynsFrom(listener.fd(), many),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "filter 33 sources: at most 32 are allowed"));
}

TEST_F(SynFilterTest, IsReplacedByTheNextAndTakenAwayByAnEmptyOne) {
  const Listener listener = Open();
  const Address& at = listener.address();
  EXPECT_THAT(DropSynsFrom(listener.fd(), {}), IsOk());
  ASSERT_THAT(DropSynsFrom(listener.fd(), Ranges({"127.0.0.2"})), IsOk());
  ASSERT_THAT(DropSynsFrom(listener.fd(), Ranges({"127.0.0.3"})), IsOk());
  EXPECT_TRUE(IsHeard(at, "127.0.0.2:0"));
  EXPECT_FALSE(IsHeard(at, "127.0.0.3:0"));
  ASSERT_THAT(DropSynsFrom(listener.fd(), {}), IsOk());
  EXPECT_TRUE(IsHeard(at, "127.0.0.3:0"));
}

TEST_F(SynFilterTest, IsSeenToDrop) {
  std::vector<Listener> listeners;
  listeners.push_back(Open());
  listeners.push_back(Open());
  ASSERT_THAT(DropSynsFrom(listeners, Ranges({"127.0.0.2"})), IsOk());
  const uint32_t before = PacketsDroppedAt(listeners);
  EXPECT_TRUE(IsHeard(listeners[1].address(), "127.0.0.3:0"));
  EXPECT_EQ(PacketsDroppedAt(listeners), before);
  for (const Listener& listener : listeners) {
    EXPECT_FALSE(IsHeard(listener.address(), "127.0.0.2:0"));
  }
  // As many as there were, or more, if a client has asked again.
  EXPECT_GE(PacketsDroppedAt(listeners) - before, 2U);
  (void)listeners[0].Close();
  EXPECT_GE(PacketsDroppedAt(listeners), 1U);
}

TEST_F(SynFilterTest, LetsAClientInThatStillKnocksWhenItIsTakenAway) {
  const Listener listener = Open();
  ASSERT_THAT(DropSynsFrom(listener.fd(), Ranges({"127.0.0.2"})), IsOk());
  ASSERT_FALSE(IsHeard(listener.address(), "127.0.0.2:0"));
  // Its first SYN may come before the filter goes; then the second, which the
  // kernel sends after one second, is the one that is heard.
  ASSERT_THAT(DropSynsFrom(listener.fd(), {}), IsOk());
  EXPECT_THAT(Knock(listener.address(), "127.0.0.2:0", absl::Seconds(10)),
              IsOk());
}

TEST_F(SynFilterTest, LeavesThoseAloneWhoAreConnected) {
  Listener listener = Open();
  absl::StatusOr<Stream> before =
      Knock(listener.address(), "127.0.0.2:0", absl::Seconds(10));
  ASSERT_THAT(before, IsOk());
  ASSERT_THAT(DropSynsFrom(listener.fd(), Ranges({"127.0.0.2"})), IsOk());
  // In the kernel's queue until now.
  absl::StatusOr<std::optional<Accepted>> served = listener.Accept();
  ASSERT_THAT(served, IsOk());
  ASSERT_TRUE(served->has_value());
  // One who comes in now inherits the filter, and is not harmed by it either.
  absl::StatusOr<Stream> after =
      Knock(listener.address(), "127.0.0.3:0", absl::Seconds(10));
  ASSERT_THAT(after, IsOk());
  absl::StatusOr<std::optional<Accepted>> inheritor = listener.Accept();
  ASSERT_THAT(inheritor, IsOk());
  ASSERT_TRUE(inheritor->has_value());
  for (const auto& [client, server] :
       {std::pair(&*before, &(*served)->stream),
        std::pair(&*after, &(*inheritor)->stream)}) {
    ASSERT_THAT(client->WriteAll("hello"), IsOk());
    std::string text(5, ' ');
    ASSERT_THAT(server->Read(absl::MakeSpan(text)), IsOk());
    EXPECT_EQ(text, "hello");
    ASSERT_THAT(client->ShutdownWrite(), IsOk());
    absl::StatusOr<IoResult> end = server->Read(absl::MakeSpan(text));
    ASSERT_THAT(end, IsOk());
    EXPECT_TRUE(end->end());
  }
}

TEST_F(SynFilterTest, KnowsIPv6AndIPv4ThatComesByIt) {
  absl::StatusOr<Listener> everywhere = Listener::Open(Address::Everywhere(0));
  ASSERT_THAT(everywhere, IsOk());
  if (!Listener::Open(*Address::Parse("[::1]:0")).ok()) {
    GTEST_SKIP() << "this machine has no ::1";
  }
  const int port = *everywhere->address().port();
  const Address ipv4 = *Address::Parse("127.0.0.1:" + std::to_string(port));
  const Address ipv6 = *Address::Parse("[::1]:" + std::to_string(port));
  ASSERT_THAT(DropSynsFrom(everywhere->fd(), Ranges({"127.0.0.2"})), IsOk());
  EXPECT_FALSE(IsHeard(ipv4, "127.0.0.2:0"));
  EXPECT_TRUE(IsHeard(ipv4, "127.0.0.3:0"));
  EXPECT_TRUE(IsHeard(ipv6, "[::1]:0"));
  ASSERT_THAT(DropSynsFrom(everywhere->fd(), Ranges({"::/64"})), IsOk());
  EXPECT_TRUE(IsHeard(ipv4, "127.0.0.2:0"));
  EXPECT_FALSE(IsHeard(ipv6, "[::1]:0"));
  ASSERT_THAT(DropSynsFrom(everywhere->fd(), Ranges({"::2", "::1:0:0:0/80"})),
              IsOk());
  EXPECT_TRUE(IsHeard(ipv6, "[::1]:0"));
}

TEST_F(SynFilterTest, SaysWhatTheKernelSays) {
  EXPECT_EQ(ErrnoOf(DropSynsFrom(-1, {})), EBADF);
  const absl::Status status = DropSynsFrom(-1, Ranges({"127.0.0.2"}));
  EXPECT_EQ(ErrnoOf(status), EBADF);
  EXPECT_THAT(status.message(),
              testing::HasSubstr("setsockopt(SO_ATTACH_FILTER)"));
}

}  // namespace
}  // namespace brood
