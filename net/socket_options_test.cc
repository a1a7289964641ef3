// SPDX-License-Identifier: Apache-2.0
#include "brood/net/socket_options.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/proc/posix.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;

absl::StatusOr<Stream> ConnectPromptly(const Address& address) {
  absl::StatusOr<Stream> stream = Stream::Connect(address);
  if (!stream.ok()) return stream;
  const absl::Status set =
      SetSocketOptions(stream->fd(), {.no_delay = true}, address);
  if (!set.ok()) return set;
  return stream;
}

TEST(SocketOptionsTest, HeaderExample) {
  absl::StatusOr<Listener> listener =
      Listener::Open(*Address::Parse("127.0.0.1:0"));
  ASSERT_THAT(listener, IsOk());
  const absl::StatusOr<Stream> stream = ConnectPromptly(listener->address());
  ASSERT_THAT(stream, IsOk());
  int value = 0;
  socklen_t length = sizeof(value);
  ASSERT_EQ(getsockopt(stream->fd(), IPPROTO_TCP, TCP_NODELAY, &value, &length),
            0);
  EXPECT_EQ(value, 1);
}

// Values and ranges are tested where people set them, in listener_test.cc.
TEST(SocketOptionsTest, NameTheOptionAndTheAddressThatTheKernelRefuses) {
  const absl::Status status = SetSocketOptions(-1, {.send_buffer = 4096},
                                               *Address::Parse("127.0.0.1:80"));
  EXPECT_EQ(ErrnoOf(status), EBADF);
  EXPECT_EQ(status.message(),
            "SO_SNDBUF for 127.0.0.1:80: Bad file descriptor (EBADF)");
}

}  // namespace
}  // namespace brood
