// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/load/idle_crowd.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/stream.h"
#include "brood/proc/unique_fd.h"
#include "brood/tools/load/load_engine.h"
#include "brood/tools/load/load_plan.h"
#include "brood/tools/load/load_result.h"
#include "brood/tools/load/small_server.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;

absl::StatusOr<size_t> HowManyItHolds(const LoadPlan& plan) {
  const absl::StatusOr<IdleCrowd> crowd = IdleCrowd::Gather(plan);
  if (!crowd.ok()) return crowd.status();
  // ... measure the server ...
  return crowd->StillConnected();
}

absl::StatusOr<std::vector<UniqueFd>> Connected(const LoadPlan& plan) {
  absl::StatusOr<LoadEngine> engine = LoadEngine::Create(plan);
  if (!engine.ok()) return engine.status();
  std::vector<UniqueFd> kept;
  engine->KeepIn(kept);
  const absl::StatusOr<LoadResult> result =
      engine->Run([](const LoadProgress&) { return true; });
  if (!result.ok()) return result.status();
  return kept;
}

absl::StatusOr<LoadPlan> TenThousandToThisMachine() {
  const absl::StatusOr<Address> to = Address::Parse("127.0.0.1:7007");
  if (!to.ok()) return to.status();
  LoadPlan plan = {.to = {*to}, .concurrency = 64};
  plan.connections = 10'000;
  plan.rate = 500;
  if (absl::Status s = CheckPlan(plan); !s.ok()) return s;
  return plan;
}

LoadPlan PlanTo(const Address& to, uint64_t connections) {
  LoadPlan plan = {.to = {to}, .concurrency = 4};
  plan.connections = connections;
  return plan;
}

// Answers each once and holds it; `most` at most.
class Holder {
 public:
  explicit Holder(size_t most = SIZE_MAX)
      : server_([&, most](Stream client, int) {
          std::vector<char> buffer(64);
          const absl::StatusOr<IoResult> got =
              client.Read(absl::MakeSpan(buffer));
          if (!got.ok() || got->end() || held_.size() >= most) return;
          (void)client.WriteAll(std::string(buffer.data(), *got->bytes()));
          held_.push_back(std::move(client));
        }) {}

  const Address& address() const { return server_.address(); }

 private:
  std::vector<Stream> held_;  // The server's.
  SmallServer server_;
};

TEST(IdleCrowdTest, AllAreConnectedAndSayNothing) {
  Holder holder;
  const absl::StatusOr<IdleCrowd> crowd =
      IdleCrowd::Gather(PlanTo(holder.address(), 100));
  ASSERT_THAT(crowd, IsOk());
  EXPECT_EQ(crowd->size(), 100);
  EXPECT_THAT(crowd->StillConnected(), IsOkAndHolds(100));
  EXPECT_THAT(HowManyItHolds(PlanTo(holder.address(), 3)), IsOkAndHolds(3));
  EXPECT_THAT(Connected(PlanTo(holder.address(), 5)), IsOkAndHolds(SizeIs(5)));
}

TEST(IdleCrowdTest, ThoseWhoAreSentAwayAreMissed) {
  std::optional<Holder> holder(std::in_place);
  const absl::StatusOr<IdleCrowd> crowd =
      IdleCrowd::Gather(PlanTo(holder->address(), 10));
  ASSERT_THAT(crowd, IsOk());
  holder.reset();
  EXPECT_THAT(crowd->StillConnected(), IsOkAndHolds(0));
  EXPECT_EQ(crowd->size(), 10);
}

TEST(IdleCrowdTest, ACrowdThatIsNotCompleteIsNone) {
  Holder holder(7);
  EXPECT_THAT(IdleCrowd::Gather(PlanTo(holder.address(), 10)),
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr("of 10 idle connections there are 7"),
                             HasSubstr("ended connection"))));
}

TEST(IdleCrowdTest, ItHasToBeSaidHowManyAreToCome) {
  LoadPlan plan = PlanTo(Nowhere(), 1);
  plan.connections.reset();
  plan.duration = absl::Seconds(1);
  EXPECT_THAT(IdleCrowd::Gather(plan),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(LoadPlanTest, SharesAreTheWholePlan) {
  absl::StatusOr<LoadPlan> plan = TenThousandToThisMachine();
  ASSERT_THAT(plan, IsOk());
  for (const size_t of : {1, 3, 7, 64}) {
    uint64_t connections = 0;
    size_t concurrency = 0;
    for (size_t index = 0; index < of; ++index) {
      plan->share = {.index = index, .of = of};
      EXPECT_THAT(CheckPlan(*plan), IsOk());
      connections += *ConnectionsOfShare(*plan);
      concurrency += ConcurrencyOfShare(*plan);
      EXPECT_GE(ConcurrencyOfShare(*plan), 1);
    }
    EXPECT_EQ(connections, 10'000);
    EXPECT_EQ(concurrency, 64);
  }
}

}  // namespace
}  // namespace brood
