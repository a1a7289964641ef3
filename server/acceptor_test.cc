// SPDX-License-Identifier: Apache-2.0
#include "brood/server/acceptor.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/proc/posix.h"
#include "brood/server/poll_loop.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace {
int accept_error = 0;  // What accept4 fails with; 0 for nothing.
}  // namespace

// Takes the place of libc's for the whole test program.
extern "C" int accept4(int fd, struct sockaddr* address, socklen_t* length,
                       int flags) {
  if (accept_error != 0) {
    errno = accept_error;
    return -1;
  }
  return static_cast<int>(syscall(SYS_accept4, fd, address, length, flags));
}

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

void CountClients(Acceptor& acceptor, PollLoop& loop, int& count) {
  acceptor.Start(loop, [&count](Accepted, const Address&) {
    ++count;
    return true;
  });
}

Listener MustListen() {
  absl::StatusOr<Listener> listener =
      Listener::Open(*Address::Parse("127.0.0.1:0"));
  EXPECT_THAT(listener, IsOk());
  return *std::move(listener);
}

Stream MustConnect(const Address& address) {
  absl::StatusOr<Stream> stream = Stream::Connect(address);
  EXPECT_THAT(stream, IsOk());
  return *std::move(stream);
}

// Runs `loop` until nothing more happens by itself.
void Settle(PollLoop& loop) {
  loop.CallAfter(absl::Milliseconds(5), [&] {
    loop.Stop();
    return absl::OkStatus();
  });
  EXPECT_THAT(loop.Run(), IsOk());
}

TEST(AcceptorTest, HeaderExample) {
  Acceptor acceptor(MustListen());
  PollLoop loop;
  int count = 0;
  CountClients(acceptor, loop, count);
  const Stream first = MustConnect(acceptor.addresses().front());
  const Stream second = MustConnect(acceptor.addresses().front());
  while (count < 2) Settle(loop);
}

TEST(AcceptorTest, LetsClientsInByAllDoorsAndSaysByWhich) {
  std::vector<Listener> listeners;
  listeners.push_back(MustListen());
  listeners.push_back(MustListen());
  Acceptor acceptor(std::move(listeners));
  PollLoop loop;
  std::vector<Address> seen;
  acceptor.Start(loop, [&](Accepted, const Address& local) {
    seen.push_back(local);
    return true;
  });
  const Stream first = MustConnect(acceptor.addresses().at(0));
  const Stream second = MustConnect(acceptor.addresses().at(1));
  while (seen.size() < 2) Settle(loop);
  EXPECT_THAT(seen, UnorderedElementsAre(acceptor.addresses().at(0),
                                         acceptor.addresses().at(1)));
}

TEST(AcceptorTest, LetsNobodyInWhoIsNotWanted) {
  Acceptor acceptor(MustListen());
  PollLoop loop;
  int count = 0;
  acceptor.Start(loop, [&](Accepted, const Address&) {
    ++count;
    return false;
  });
  const Stream first = MustConnect(acceptor.addresses().front());
  const Stream second = MustConnect(acceptor.addresses().front());
  while (count == 0) Settle(loop);
  Settle(loop);
  EXPECT_EQ(count, 1);
  acceptor.Want();
  while (count == 1) Settle(loop);
  EXPECT_EQ(count, 2);
}

TEST(AcceptorTest, WaitsWhileDescriptorsAreShortAndSaysSoOnce) {
  Acceptor acceptor(MustListen());
  PollLoop loop;
  int count = 0;
  std::vector<int> troubles;
  acceptor.OnTrouble(
      [&](const absl::Status& status) { troubles.push_back(ErrnoOf(status)); });
  CountClients(acceptor, loop, count);
  const Stream client = MustConnect(acceptor.addresses().front());
  accept_error = ENOBUFS;
  while (troubles.empty()) Settle(loop);
  for (int i = 0; i < 10; ++i) Settle(loop);
  EXPECT_EQ(count, 0);
  accept_error = 0;
  acceptor.TryAgain();
  while (count == 0) Settle(loop);
  EXPECT_THAT(troubles, ElementsAre(ENOBUFS, 0));
}

TEST(AcceptorTest, EndsTheLoopWhenItHasNoListenerAnyMore) {
  Acceptor acceptor(MustListen());
  PollLoop loop;
  int count = 0;
  CountClients(acceptor, loop, count);
  const Stream client = MustConnect(acceptor.addresses().front());
  accept_error = EINVAL;
  EXPECT_EQ(ErrnoOf(loop.Run()), EINVAL);
  accept_error = 0;
}

TEST(AcceptorTest, DrainsAllDoorsAndLosesNobody) {
  std::vector<Listener> listeners;
  listeners.push_back(MustListen());
  listeners.push_back(MustListen());
  Acceptor acceptor(std::move(listeners));
  PollLoop loop;
  int count = 0;
  // One at a time, as an iterative server wants them.
  acceptor.Start(loop, [&](Accepted, const Address&) {
    ++count;
    return false;
  });
  std::vector<Stream> clients;
  for (int i = 0; i < 10; ++i) {
    clients.push_back(MustConnect(acceptor.addresses().at(i % 2)));
  }
  bool done = false;
  acceptor.Drain([&] { done = true; });
  for (const Address& address : acceptor.addresses()) {
    EXPECT_EQ(ErrnoOf(Stream::Connect(address).status()), ECONNREFUSED);
  }
  for (int i = 1; i <= 10; ++i) {
    while (count < i) Settle(loop);
    EXPECT_FALSE(acceptor.closed());
    EXPECT_FALSE(done);
    acceptor.Want();
  }
  while (!done) Settle(loop);
  EXPECT_TRUE(acceptor.closed());
  EXPECT_EQ(count, 10);
}

TEST(AcceptorTest, ClosesOnThoseWhoWait) {
  Acceptor acceptor(MustListen());
  PollLoop loop;
  int count = 0;
  CountClients(acceptor, loop, count);
  Stream client = MustConnect(acceptor.addresses().front());
  acceptor.Drain([] { ADD_FAILURE() << "it was not drained"; });
  acceptor.Close();
  EXPECT_TRUE(acceptor.closed());
  std::array<char, 1> byte;
  EXPECT_EQ(ErrnoOf(client.Read(absl::MakeSpan(byte)).status()), ECONNRESET);
  Settle(loop);
  EXPECT_EQ(count, 0);
}

}  // namespace
}  // namespace brood
