// SPDX-License-Identifier: Apache-2.0
#include "brood/server/fair_queue.h"

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "brood/net/address.h"
#include "brood/net/source_key.h"
#include "brood/net/stream.h"
#include "brood/proc/unique_fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

SourceKey Source(std::string_view host) {
  return SourceKey::Of(*Address::Parse(std::string(host) + ":1"));
}

std::vector<std::string> PopAll(FairQueue<std::string>& queue) {
  std::vector<std::string> items;
  while (!queue.empty()) items.push_back(queue.Pop());
  return items;
}

// Starts one of each source, whoever has most.
void StartOneOfEach(FairQueue<Stream>& queue,
                    absl::FunctionRef<void(Stream)> start) {
  for (size_t n = queue.sources(); n > 0; --n) start(queue.Pop());
}

TEST(FairQueueTest, HeaderExample) {
  FairQueue<Stream> queue;
  std::vector<Stream> others;
  others.reserve(3);
  for (const std::string_view host : {"192.0.2.1", "192.0.2.1", "192.0.2.2"}) {
    std::array<int, 2> ends;
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()),
              0);
    queue.Push(Source(host), *Stream::Adopt(UniqueFd(ends[0])));
    others.push_back(*Stream::Adopt(UniqueFd(ends[1])));
  }
  std::vector<Stream> started;
  StartOneOfEach(queue,
                 [&](Stream stream) { started.push_back(std::move(stream)); });
  EXPECT_THAT(started, SizeIs(2));
  EXPECT_EQ(queue.size(), 1);
}

TEST(FairQueueTest, IsAQueueForOneSource) {
  FairQueue<std::string> queue;
  for (const char* const item : {"1", "2", "3"}) {
    queue.Push(Source("192.0.2.1"), item);
  }
  EXPECT_EQ(queue.Front(), "1");
  EXPECT_EQ(queue.size(), 3);
  EXPECT_EQ(queue.sources(), 1);
  EXPECT_THAT(PopAll(queue), ElementsAre("1", "2", "3"));
  EXPECT_EQ(queue.sources(), 0);
}

TEST(FairQueueTest, PutsNobodyBehindTheManyOfAnother) {
  FairQueue<std::string> queue;
  for (const char* const item : {"a1", "a2", "a3", "a4"}) {
    queue.Push(Source("192.0.2.1"), item);
  }
  EXPECT_EQ(queue.Pop(), "a1");
  queue.Push(Source("192.0.2.2"), "b1");
  queue.Push(Source("192.0.2.3"), "c1");
  queue.Push(Source("192.0.2.2"), "b2");
  EXPECT_EQ(queue.size_of(Source("192.0.2.1")), 3);
  EXPECT_EQ(queue.size_of(Source("192.0.2.2")), 2);
  EXPECT_EQ(queue.size_of(Source("192.0.2.4")), 0);
  EXPECT_THAT(PopAll(queue), ElementsAre("a2", "b1", "c1", "a3", "b2", "a4"));
}

TEST(FairQueueTest, SendsWhoComesAgainToTheEnd) {
  FairQueue<std::string> queue;
  queue.Push(Source("192.0.2.1"), "a1");
  queue.Push(Source("192.0.2.2"), "b1");
  EXPECT_EQ(queue.Pop(), "a1");
  queue.Push(Source("192.0.2.1"), "a2");
  EXPECT_THAT(PopAll(queue), ElementsAre("b1", "a2"));
}

TEST(FairQueueTest, LetsOthersGoFirstWhoPassesItsTurn) {
  FairQueue<std::string> queue;
  queue.Push(Source("192.0.2.1"), "a1");
  queue.PassTurn();  // To itself.
  EXPECT_EQ(queue.Front(), "a1");
  queue.Push(Source("192.0.2.1"), "a2");
  queue.Push(Source("192.0.2.2"), "b1");
  queue.Push(Source("192.0.2.3"), "c1");
  queue.PassTurn();
  EXPECT_EQ(queue.size(), 4);
  EXPECT_THAT(PopAll(queue), ElementsAre("b1", "c1", "a1", "a2"));
}

}  // namespace
}  // namespace brood
