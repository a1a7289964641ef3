// SPDX-License-Identifier: Apache-2.0
// What a pattern shows when the peer is not as good as it should be.
#include "brood/tests/pattern.h"

#include <sys/socket.h>

#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/log/check.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/fork.h"
#include "brood/proc/unique_fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;
using ::testing::HasSubstr;

absl::Time Soon() { return absl::Now() + absl::Seconds(60); }

std::pair<Stream, Stream> Pair() {
  std::array<int, 2> ends;
  CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  UniqueFd one(ends[0]);
  UniqueFd other(ends[1]);
  return {*Stream::Adopt(std::move(one)), *Stream::Adopt(std::move(other))};
}

absl::Status TalkToMyself(Stream& here, Stream& there) {
  const absl::Time soon = absl::Now() + absl::Minutes(1);
  const absl::StatusOr<Child> echo =
      Fork({}, [&] { return EchoPattern(there, soon).ok() ? 0 : 1; });
  if (!echo.ok()) return echo.status();
  return SendPattern(here, 1 << 20, soon);
}

// What is said of a peer that does this to what it reads before it sends it.
absl::Status Against(absl::FunctionRef<void(std::string&)> mangle) {
  auto [here, there] = Pair();
  absl::StatusOr<Child> peer = Fork({.keep_fds = {{there.fd()}}}, [&] {
    std::string all;
    std::array<char, 4096> buffer;
    for (;;) {
      const auto got = there.Read(absl::MakeSpan(buffer), Soon());
      if (!got.ok()) return 1;
      if (got->end()) break;
      all.append(buffer.data(), *got->bytes());
    }
    mangle(all);
    return there.WriteAll(all, Soon()).ok() ? 0 : 1;
  });
  CHECK_OK(peer);
  CHECK_OK(there.Close());
  return SendPattern(here, 10000, Soon());
}

TEST(PatternTest, HeaderExample) {
  auto [here, there] = Pair();
  EXPECT_THAT(TalkToMyself(here, there), IsOk());
}

TEST(PatternTest, ComesBackFromWhoeverChangesNothing) {
  EXPECT_THAT(Against([](std::string&) {}), IsOk());
}

TEST(PatternTest, ShowsEachByteThatIsLostChangedOrInAnothersPlace) {
  const auto loss = [](std::string_view text) {
    return StatusIs(absl::StatusCode::kDataLoss, HasSubstr(text));
  };
  EXPECT_THAT(Against([](std::string& s) { s.pop_back(); }),
              loss("the end came after 9999 of 10000 bytes"));
  EXPECT_THAT(Against([](std::string& s) { s.push_back('x'); }),
              loss("byte 10000 of 10000 came as 120"));
  EXPECT_THAT(Against([](std::string& s) { s[7000] ^= 1; }),
              loss("byte 7000 of 10000 came as "));
  EXPECT_THAT(Against([](std::string& s) { s.erase(5000, 1); }),
              loss(" of 10000 came as "));
  EXPECT_THAT(Against([](std::string& s) {
                s = s.substr(0, 4096) + s.substr(0, 4096) + s.substr(8192);
              }),
              loss("byte 4096 of 10000 came as "));
}

}  // namespace
}  // namespace brood
