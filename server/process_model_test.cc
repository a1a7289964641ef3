// SPDX-License-Identifier: Apache-2.0
// What holds for every process model, seen from within.
#include "brood/server/process_model.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/posix.h"
#include "brood/server/connection_handler.h"
#include "brood/server/connection_log.h"
#include "brood/server/echo.h"
#include "brood/server/fork_per_connection.h"
#include "brood/server/iterative.h"
#include "brood/server/poll_loop.h"
#include "brood/server/prefork.h"
#include "brood/server/worker_policy.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

void LogTo(std::ostream& log, ProcessModel& model) {
  model.OnConnectionEnd([&log](const ConnectionRecord& record) {
    log << ConnectionLine(record, LogFormat::kText) << "\n";
  });
}

// Ends as its client says: "exit 7" or "kill 9".
class Obedient : public ConnectionHandler {
 public:
  std::string_view name() const override { return "obedient"; }
  int Handle(Stream& stream, const ConnectionInfo&) override {
    std::array<char, 64> buffer;
    const absl::StatusOr<IoResult> got = stream.Read(absl::MakeSpan(buffer));
    if (!got.ok() || got->end()) return 0;
    const std::string order(buffer.data(), *got->bytes());
    const int number = std::stoi(order.substr(5));
    if (order.substr(0, 4) == "kill") raise(number);
    return number;
  }
};

enum class Model { kFork, kIterative, kPrefork, kForkAhead };

std::vector<Listener> ListOf(Listener listener) {
  std::vector<Listener> listeners;
  listeners.push_back(std::move(listener));
  return listeners;
}

absl::StatusOr<std::unique_ptr<ProcessModel>> Make(Model model,
                                                   Listener listener,
                                                   ConnectionHandler& handler) {
  switch (model) {
    case Model::kFork:
      return ForkPerConnection::Create(std::move(listener), handler, {});
    case Model::kIterative:
      return MakeIterative(std::move(listener), handler);
    case Model::kPrefork:
      return Prefork::Create(ListOf(std::move(listener)), handler,
                             {.workers = WorkerPolicy::Options::Static(4)});
    case Model::kForkAhead:
      return Prefork::Create(
          ListOf(std::move(listener)), handler,
          {.workers = WorkerPolicy::Options::ForkAhead(2, 100)});
  }
  return absl::InvalidArgumentError("no such model");
}

class ProcessModelTest : public testing::TestWithParam<Model> {
 protected:
  std::unique_ptr<ProcessModel> Start(ConnectionHandler& handler) {
    absl::StatusOr<Listener> listener =
        Listener::Open(*Address::Parse("127.0.0.1:0"));
    EXPECT_THAT(listener, IsOk());
    absl::StatusOr<std::unique_ptr<ProcessModel>> model =
        Make(GetParam(), *std::move(listener), handler);
    EXPECT_THAT(model, IsOk());
    (*model)->OnConnectionEnd([this](const ConnectionRecord& end) {
      ends_.push_back(end);
      if (ends_.size() == awaited_) loop_.Stop();
    });
    EXPECT_THAT((*model)->Start(loop_), IsOk());
    return *std::move(model);
  }

  // Runs the loop until `count` connections have ended.
  void AwaitEnds(size_t count) {
    awaited_ = count;
    if (ends_.size() < count) {
      EXPECT_THAT(loop_.Run(), IsOk());
    }
  }

  // Runs the loop for about so long, for what has no end to wait for.
  void RunFor(absl::Duration time) {
    loop_.CallAfter(time, [this] {
      loop_.Stop();
      return absl::OkStatus();
    });
    EXPECT_THAT(loop_.Run(), IsOk());
  }

  static Stream Connect(const ProcessModel& model) {
    absl::StatusOr<Stream> client = Stream::Connect(model.addresses().front());
    EXPECT_THAT(client, IsOk());
    return *std::move(client);
  }

  // How many connections a process handles. Who has only been taken in counts
  // as active() too.
  static uint64_t Handled(const ProcessModel& model) {
    for (const LogField& field : model.State()) {
      if (field.name == "active") return std::get<uint64_t>(field.value);
    }
    ADD_FAILURE() << "the state does not say";
    return 0;
  }

  static std::string ReadSome(Stream& stream) {
    std::array<char, 4096> buffer;
    const absl::StatusOr<IoResult> got = stream.Read(absl::MakeSpan(buffer));
    EXPECT_THAT(got, IsOk());
    if (!got.ok() || got->end()) return "";
    return {buffer.data(), *got->bytes()};
  }

  PollLoop loop_;
  std::vector<ConnectionRecord> ends_;
  size_t awaited_ = 0;
};

std::string NameOf(const testing::TestParamInfo<Model>& model) {
  switch (model.param) {
    case Model::kFork:
      return "Fork";
    case Model::kIterative:
      return "Iterative";
    case Model::kPrefork:
      return "Prefork";
    case Model::kForkAhead:
      return "ForkAhead";
  }
  return "";
}

INSTANTIATE_TEST_SUITE_P(Models, ProcessModelTest,
                         testing::Values(Model::kFork, Model::kIterative,
                                         Model::kPrefork, Model::kForkAhead),
                         NameOf);

TEST_P(ProcessModelTest, HeaderExample) {
  EchoHandler echo;
  std::unique_ptr<ProcessModel> model = Start(echo);
  std::ostringstream log;
  LogTo(log, *model);
  Stream client = Connect(*model);
  ASSERT_THAT(client.Close(), IsOk());
  while (log.str().empty()) RunFor(absl::Milliseconds(1));
  EXPECT_THAT(log.str(),
              MatchesRegex("pid [0-9]+ peer 127\\.0\\.0\\.1:[0-9]+ exited 0 "
                           "after .*\n"));
}

TEST_P(ProcessModelTest, SaysOfEachConnectionHowItEnded) {
  Obedient obedient;
  std::unique_ptr<ProcessModel> model = Start(obedient);
  EXPECT_EQ(model->service(), "obedient");
  const std::vector<std::pair<std::string, ExitStatus>> orders = {
      {"exit 0", ExitStatus::Exited(0)},
      {"exit 7", ExitStatus::Exited(7)},
      {"kill 9", ExitStatus::Killed(SIGKILL)},
      {"kill 15", ExitStatus::Killed(SIGTERM)}};
  for (const auto& [order, expected] : orders) {
    Stream client = Connect(*model);
    ASSERT_THAT(client.WriteAll(order), IsOk());
    AwaitEnds(ends_.size() + 1);
    EXPECT_EQ(ends_.back().status, expected);
    EXPECT_EQ(ends_.back().peer, *LocalAddressOf(client.fd()));
    EXPECT_GT(ends_.back().duration, absl::ZeroDuration());
    EXPECT_EQ(model->active(), 0);
  }
}

TEST_P(ProcessModelTest, ServesWhoHasConnectedBeforeItDrains) {
  EchoHandler echo;
  std::unique_ptr<ProcessModel> model = Start(echo);
  // Unless there are workers, nobody has been let in yet: the loop has not run.
  std::vector<Stream> clients;
  for (int i = 0; i < 20; ++i) {
    clients.push_back(Connect(*model));
    ASSERT_THAT(clients.back().WriteAll(absl::StrCat("client ", i)), IsOk());
    ASSERT_THAT(clients.back().ShutdownWrite(), IsOk());
  }
  model->Drain([this] { loop_.Stop(); });
  EXPECT_EQ(ErrnoOf(Stream::Connect(model->addresses().front()).status()),
            ECONNREFUSED);
  EXPECT_THAT(loop_.Run(), IsOk());
  ASSERT_EQ(ends_.size(), 20);
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(ReadSome(clients[i]), absl::StrCat("client ", i));
    EXPECT_EQ(ends_[i].status, ExitStatus::Exited(0));
  }
  EXPECT_EQ(model->active(), 0);
}

TEST_P(ProcessModelTest, IsDrainedWhenNobodyIsThere) {
  EchoHandler echo;
  std::unique_ptr<ProcessModel> model = Start(echo);
  model->Drain([this] { loop_.Stop(); });
  EXPECT_THAT(loop_.Run(), IsOk());
  EXPECT_EQ(ends_.size(), 0);
}

TEST_P(ProcessModelTest, ResetsWhoWaitsWhenItSignalsTheHandlers) {
  EchoHandler echo;
  std::unique_ptr<ProcessModel> model = Start(echo);
  Stream first = Connect(*model);
  Stream second = Connect(*model);
  model->Drain([this] { loop_.Stop(); });
  const size_t live = GetParam() == Model::kIterative ? 1 : 2;
  while (Handled(*model) < live) RunFor(absl::Milliseconds(1));
  model->SignalHandlers(SIGKILL, EndCause::kStop);
  EXPECT_THAT(loop_.Run(), IsOk());
  EXPECT_EQ(ends_.size(), live);
  for (const ConnectionRecord& end : ends_) {
    EXPECT_EQ(end.status, ExitStatus::Killed(SIGKILL));
  }
  EXPECT_EQ(model->active(), 0);
  if (GetParam() == Model::kIterative) {
    std::array<char, 1> byte;
    EXPECT_EQ(ErrnoOf(second.Read(absl::MakeSpan(byte)).status()), ECONNRESET);
  }
}

TEST_P(ProcessModelTest, KeepsItsClientsWaitingWhileDescriptorsRunOut) {
  if (GetParam() == Model::kPrefork || GetParam() == Model::kForkAhead) {
    GTEST_SKIP() << "the limit is each worker's own: see prefork_test.cc";
  }
  EchoHandler echo;
  std::unique_ptr<ProcessModel> model = Start(echo);
  std::vector<absl::Status> troubles;
  model->OnTrouble(
      [&](const absl::Status& status) { troubles.push_back(status); });
  Stream client = Connect(*model);
  ASSERT_THAT(client.WriteAll("patience"), IsOk());
  rlimit old;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
  const int next = dup(client.fd());
  ASSERT_NE(next, -1);
  close(next);
  // First nothing can be accepted; then a client can, but no child be watched.
  for (const int spare : {0, 1}) {
    const rlimit tight = {.rlim_cur = static_cast<rlim_t>(next + spare),
                          .rlim_max = old.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
    RunFor(absl::Milliseconds(10));
    EXPECT_EQ(ends_.size(), 0);
  }
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
  ASSERT_THAT(client.ShutdownWrite(), IsOk());
  AwaitEnds(1);
  EXPECT_EQ(ReadSome(client), "patience");
  EXPECT_EQ(ends_[0].status, ExitStatus::Exited(0));
  // Said once, and once that it is over.
  ASSERT_EQ(troubles.size(), 2);
  EXPECT_THAT(troubles[0], StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(troubles[1], IsOk());
  EXPECT_EQ(model->active(), 0);
}

TEST_P(ProcessModelTest, KillsAndReapsItsHandlersWhenDestroyed) {
  EchoHandler echo;
  std::unique_ptr<ProcessModel> model = Start(echo);
  Stream client = Connect(*model);
  ASSERT_THAT(client.WriteAll("x"), IsOk());
  while (model->active() == 0) RunFor(absl::Milliseconds(1));
  EXPECT_EQ(ReadSome(client), "x");
  model.reset();
  EXPECT_EQ(ReadSome(client), "");
}

TEST(ForkPerConnectionTest, NeedsRoomForOneChild) {
  absl::StatusOr<Listener> listener =
      Listener::Open(*Address::Parse("127.0.0.1:0"));
  ASSERT_THAT(listener, IsOk());
  EchoHandler echo;
  EXPECT_THAT(
      ForkPerConnection::Create(*std::move(listener), echo,
                                {.gate = {.limits = {.max_connections = 0}}}),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("max_connections")));
}

}  // namespace
}  // namespace brood
