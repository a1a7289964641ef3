// SPDX-License-Identifier: Apache-2.0
// What only the fork model can: its limits, and programs.
#include "brood/server/fork_per_connection.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/address_range_set.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/limits.h"
#include "brood/proc/posix.h"
#include "brood/proc/process_table.h"
#include "brood/server/connection_handler.h"
#include "brood/server/connection_log.h"
#include "brood/server/echo.h"
#include "brood/server/exec_handler.h"
#include "brood/server/gate.h"
#include "brood/server/patience.h"
#include "brood/server/poll_loop.h"
#include "brood/server/spare_policy.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

// This process may have so many, until the end of the scope.
class DescriptorLimit {
 public:
  explicit DescriptorLimit(rlim_t most) {
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &before_), 0);
    const rlimit limit = {.rlim_cur = most, .rlim_max = before_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  }
  DescriptorLimit(const DescriptorLimit&) = delete;
  DescriptorLimit& operator=(const DescriptorLimit&) = delete;
  ~DescriptorLimit() { EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &before_), 0); }

 private:
  rlimit before_ = {};
};

class ForkPerConnectionTest : public testing::Test {
 protected:
  void Start(ConnectionHandler& handler,
             const ForkPerConnection::Options& options,
             std::string_view address = "127.0.0.1:0") {
    absl::StatusOr<Listener> listener =
        Listener::Open(*Address::Parse(address));
    ASSERT_THAT(listener, IsOk());
    auto model =
        ForkPerConnection::Create(*std::move(listener), handler, options);
    ASSERT_THAT(model, IsOk());
    model_ = *std::move(model);
    model_->OnConnectionEnd(
        [this](const ConnectionRecord& end) { ends_.push_back(end); });
    model_->OnEvent(
        [this](const LogEvent& event) { events_.push_back(event.sentence); });
    ASSERT_THAT(model_->Start(loop_), IsOk());
  }

  Stream Connect(std::string_view source = "127.0.0.1:0") {
    absl::StatusOr<Stream> client =
        Stream::Connect(model_->addresses().front(), absl::InfiniteFuture(),
                        {.source = *Address::Parse(source)});
    EXPECT_THAT(client, IsOk());
    return *std::move(client);
  }

  std::vector<Stream> ConnectMany(size_t count, std::string_view source) {
    std::vector<Stream> clients;
    clients.reserve(count);
    while (clients.size() < count) clients.push_back(Connect(source));
    return clients;
  }

  // Runs the loop until `condition` holds.
  void Await(absl::FunctionRef<bool()> condition) {
    while (!condition()) {
      loop_.CallAfter(absl::Milliseconds(1), [this] {
        loop_.Stop();
        return absl::OkStatus();
      });
      ASSERT_THAT(loop_.Run(), IsOk());
    }
  }
  void AwaitEnds(size_t count) {
    Await([&] { return ends_.size() >= count; });
  }

  // What the client has read so far.
  std::string AwaitText(Stream& client, size_t size) {
    std::string text;
    Await([&] {
      std::array<char, 4096> buffer;
      const absl::StatusOr<IoResult> got =
          client.TryRead(absl::MakeSpan(buffer));
      if (!got.ok() || got->end()) return true;
      if (got->bytes().has_value()) text.append(buffer.data(), *got->bytes());
      return text.size() >= size;
    });
    return text;
  }

  PollLoop loop_;
  std::unique_ptr<ForkPerConnection> model_;
  std::vector<ConnectionRecord> ends_;
  std::vector<std::string> events_;
};

std::unique_ptr<ExecHandler> Program(std::vector<std::string> argv) {
  absl::StatusOr<std::unique_ptr<ExecHandler>> handler =
      ExecHandler::Create(std::move(argv), {});
  EXPECT_THAT(handler, IsOk());
  return *std::move(handler);
}

TEST_F(ForkPerConnectionTest, RecordsWhatAConnectionWas) {
  EchoHandler echo;
  Start(echo, {});
  Stream client = Connect();
  const Address peer = *LocalAddressOf(client.fd());
  ASSERT_THAT(client.WriteAll("hello"), IsOk());
  EXPECT_EQ(AwaitText(client, 5), "hello");
  ASSERT_THAT(client.ShutdownWrite(), IsOk());
  AwaitEnds(1);
  const ConnectionRecord& end = ends_.at(0);
  EXPECT_EQ(end.id, 1);
  EXPECT_EQ(end.peer, peer);
  EXPECT_EQ(end.local, model_->addresses().front());
  EXPECT_EQ(end.model, "fork");
  EXPECT_EQ(end.service, "echo");
  EXPECT_EQ(end.status, ExitStatus::Exited(0));
  EXPECT_EQ(end.ended, std::nullopt);
  EXPECT_EQ(end.bytes_in, 5);
  EXPECT_EQ(end.bytes_out, 5);
  EXPECT_EQ(end.retransmits, 0);
  EXPECT_TRUE(end.status.usage().has_value());
}

TEST_F(ForkPerConnectionTest,
       KnowsWhereTheClientCameInWhenItListensEverywhere) {
  EchoHandler echo;
  Start(echo, {}, "0.0.0.0:0");
  absl::StatusOr<Stream> client = Stream::Connect(*Address::Parse(
      absl::StrCat("127.0.0.1:", *model_->addresses().front().port())));
  ASSERT_THAT(client, IsOk());
  const Address local = client->peer();
  ASSERT_THAT(client->Close(), IsOk());
  AwaitEnds(1);
  EXPECT_EQ(ends_.at(0).local, local);
}

TEST_F(ForkPerConnectionTest, EndsAHandlerThatTakesTooLong) {
  EchoHandler echo;
  Start(echo, {.patience = {.handler_timeout = absl::Milliseconds(30)}});
  Stream client = Connect();
  AwaitEnds(1);
  EXPECT_EQ(ends_.at(0).status, ExitStatus::Killed(SIGTERM));
  ASSERT_TRUE(ends_.at(0).ended.has_value());
  EXPECT_EQ(ends_.at(0).ended->cause, EndCause::kHandlerTimeout);
  EXPECT_GE(ends_.at(0).duration, absl::Milliseconds(30));
}

TEST_F(ForkPerConnectionTest, EndsAConnectionOnWhichBothAreSilent) {
  EchoHandler echo;
  Start(echo, {.patience = {.idle_timeout = absl::Milliseconds(50)}});
  Stream client = Connect();
  ASSERT_THAT(client.WriteAll("x"), IsOk());
  AwaitEnds(1);
  ASSERT_TRUE(ends_.at(0).ended.has_value());
  EXPECT_EQ(ends_.at(0).ended->cause, EndCause::kIdle);
  EXPECT_GE(ends_.at(0).bytes_in.value_or(0), 1);
}

TEST_F(ForkPerConnectionTest, EndsAConnectionThatIsTooSlow) {
  EchoHandler echo;
  Start(echo,
        {.patience = {.min_rate = Patience::MinRate{
                          .bytes = 1000, .period = absl::Milliseconds(50)}}});
  Stream client = Connect();
  ASSERT_THAT(client.WriteAll("x"), IsOk());
  AwaitEnds(1);
  ASSERT_TRUE(ends_.at(0).ended.has_value());
  EXPECT_EQ(ends_.at(0).ended->cause, EndCause::kTooSlow);
}

TEST_F(ForkPerConnectionTest, RunsAProgramForEachClient) {
  const std::unique_ptr<ExecHandler> cat = Program({"cat"});
  Start(*cat, {});
  Stream first = Connect();
  Stream second = Connect();
  ASSERT_THAT(first.WriteAll("first"), IsOk());
  ASSERT_THAT(second.WriteAll("second"), IsOk());
  EXPECT_EQ(AwaitText(second, 6), "second");
  EXPECT_EQ(AwaitText(first, 5), "first");
  ASSERT_THAT(first.ShutdownWrite(), IsOk());
  AwaitEnds(1);
  EXPECT_EQ(AwaitText(first, 1), "");  // The end: nobody holds it open.
  EXPECT_EQ(ends_.at(0).status, ExitStatus::Exited(0));
  EXPECT_EQ(ends_.at(0).program, *cat->program());
  EXPECT_EQ(ends_.at(0).bytes_in, 5);
  EXPECT_EQ(ends_.at(0).bytes_out, 5);
}

// A shell that waits for somebody else of its group, both deaf to the client.
TEST_F(ForkPerConnectionTest, TellsAProgramAndItsGroupThatTheClientIsGone) {
  const std::unique_ptr<ExecHandler> deaf = Program(
      {"sh", "-c", "(trap '' TERM; echo ready; exec sleep 1000) & wait"});
  Start(*deaf, {.patience = {.client_gone_grace = absl::ZeroDuration()}});
  Stream client = Connect();
  EXPECT_EQ(AwaitText(client, 6), "ready\n");
  ASSERT_THAT(client.Reset(), IsOk());
  AwaitEnds(1);
  EXPECT_EQ(ends_.at(0).status, ExitStatus::Killed(SIGTERM));
  ASSERT_TRUE(ends_.at(0).ended.has_value());
  EXPECT_EQ(ends_.at(0).ended->cause, EndCause::kClientGone);
  // Who was left is dead, and gone as soon as its new parent has reaped it.
  Await([&] { return killpg(*ends_.at(0).pid, 0) == -1 && errno == ESRCH; });
}

TEST_F(ForkPerConnectionTest, ServesMoreProgramsThanThereIsRoomToWatch) {
  const DescriptorLimit few(170);
  const std::unique_ptr<ExecHandler> cat = Program({"/bin/cat"});
  ForkPerConnection::Options options;
  options.gate.limits.max_connections = 25;  // Not all of them can be watched.
  Start(*cat, options);
  for (int round = 0; round < 2; ++round) {
    std::vector<Stream> clients;
    for (int i = 0; i < 25; ++i) {
      clients.push_back(Connect());
      ASSERT_THAT(clients.back().WriteAll("hello"), IsOk());
      EXPECT_EQ(AwaitText(clients.back(), 5), "hello") << i;
    }
    clients.clear();
    AwaitEnds(25 * static_cast<size_t>(round + 1));
  }
  EXPECT_THAT(events_, ElementsAre(HasSubstr(" clients are watched")));
}

TEST_F(ForkPerConnectionTest, LetsAProgramFinishForAClientThatOnlySaidTheEnd) {
  const std::unique_ptr<ExecHandler> slow =
      Program({"sh", "-c", "cat >/dev/null; echo done"});
  Start(*slow, {.patience = {.client_gone_grace = absl::ZeroDuration()}});
  Stream client = Connect();
  ASSERT_THAT(client.ShutdownWrite(), IsOk());
  EXPECT_EQ(AwaitText(client, 5), "done\n");
  AwaitEnds(1);
  EXPECT_EQ(ends_.at(0).ended, std::nullopt);
}

TEST_F(ForkPerConnectionTest, SaysWhyAProgramThatHasVanishedIsNotStarted) {
  const std::string path = absl::StrCat(testing::TempDir(), "/vanishing");
  std::ofstream(path) << "#!/bin/sh\necho here\n";
  ASSERT_EQ(chmod(path.c_str(), 0700), 0);
  const std::unique_ptr<ExecHandler> program = Program({path});
  Start(*program, {.gate = {.limits = {.max_connections = 1}}});
  ASSERT_EQ(unlink(path.c_str()), 0);
  for (size_t i = 1; i <= 3; ++i) {  // No slot is lost.
    Stream client = Connect();
    EXPECT_EQ(AwaitText(client, 1), "");
    EXPECT_THAT(events_, SizeIs(i));
    EXPECT_THAT(events_.back(), HasSubstr("(ENOENT)"));
  }
  EXPECT_EQ(model_->active(), 0);
  EXPECT_EQ(model_->admission().connections(), 0);
}

TEST_F(ForkPerConnectionTest, IsDrainedWhenTheLastToLeaveNeverHadAProcess) {
  EchoHandler echo;
  Start(echo, {.gate = {.trusted_proxies = *AddressRangeSet::Parse("127.0.0.1"),
                        .proxy_timeout = absl::Milliseconds(20)}});
  Stream silent = Connect();
  Await([&] { return std::get<uint64_t>(model_->State().at(1).value) == 1; });
  bool done = false;
  model_->Drain([&] { done = true; });
  Await([&] { return done; });
  EXPECT_EQ(ends_.size(), 0);
}

TEST_F(ForkPerConnectionTest, LimitsWhatAHandlerMayUse) {
  class Hungry : public ConnectionHandler {
   public:
    std::string_view name() const override { return "hungry"; }
    int Handle(Stream&, const ConnectionInfo&) override {
      const absl::StatusOr<Limit> limit = CurrentLimit(RLIMIT_NOFILE);
      return limit.ok() ? static_cast<int>(limit->soft) : 255;
    }
  } hungry;
  Start(hungry, {.limits = *Limits::Parse("NOFILE=17")});
  const Stream client = Connect();
  AwaitEnds(1);
  EXPECT_EQ(ends_.at(0).status, ExitStatus::Exited(17));
}

TEST_F(ForkPerConnectionTest, GivesEverySlotBackWhateverHappens) {
  class Moody : public ConnectionHandler {
   public:
    std::string_view name() const override { return "moody"; }
    int Handle(Stream&, const ConnectionInfo& info) override {
      if (info.id % 3 == 0) raise(SIGKILL);
      return static_cast<int>(info.id % 7);
    }
  } moody;
  Start(moody, {.gate = {.limits = {.max_connections = 3}, .max_waiting = 50}});
  std::vector<Stream> clients;
  for (int i = 0; i < 40; ++i) clients.push_back(Connect());
  AwaitEnds(40);
  EXPECT_EQ(model_->active(), 0);
  EXPECT_EQ(model_->admission().connections(), 0);
}

TEST_F(ForkPerConnectionTest, LetsNobodyWaitBehindTheCrowdOfAnother) {
  constexpr size_t kCrowd = 300;
  EchoHandler echo;
  Start(echo, {});
  std::vector<Stream> clients = ConnectMany(kCrowd, "127.0.0.2:0");
  clients.push_back(Connect("127.0.0.3:0"));
  const Address last = *LocalAddressOf(clients.back().fd());
  Await([&] { return model_->active() == kCrowd + 1; });
  for (Stream& client : clients) ASSERT_THAT(client.ShutdownWrite(), IsOk());
  AwaitEnds(kCrowd + 1);
  for (const ConnectionRecord& end : ends_) {
    EXPECT_EQ(end.status, ExitStatus::Exited(0));
    if (end.peer == last) {
      EXPECT_LT(end.id, kCrowd * 3 / 4);
    }
  }
}

// Whoever is in the kernel's queue waits for all before him, so it is emptied
// also if there is no place for more of those who were too many.
TEST_F(ForkPerConnectionTest,
       LetsNobodyWaitBehindACrowdForWhichThereIsNoPlace) {
  constexpr size_t kCrowd = 300;
  const DescriptorLimit few(2 * kCrowd + 100);  // An eighth of it may wait.
  EchoHandler echo;
  Start(echo,
        {.gate = {.flood_threshold = 0}});  // The kernel keeps nobody out.
  Stream early = Connect("127.0.0.3:0");
  const std::vector<Stream> clients = ConnectMany(kCrowd, "127.0.0.2:0");
  Stream late = Connect("127.0.0.3:0");
  ASSERT_THAT(late.WriteAll("x"), IsOk());
  EXPECT_EQ(AwaitText(late, 1), "x");
  EXPECT_THAT(events_, Contains(HasSubstr("turned away 127.0.0.2")));
  EXPECT_THAT(events_, Not(Contains(HasSubstr("turned away 127.0.0.3"))));
}

TEST_F(ForkPerConnectionTest, HoldsBackACrowdWhileOthersComeAndLetsItGo) {
  constexpr size_t kCrowd = 600;
  EchoHandler echo;
  Start(echo, {});
  Stream early = Connect("127.0.0.3:0");
  std::vector<Stream> clients = ConnectMany(kCrowd, "127.0.0.2:0");
  for (Stream& client : clients) ASSERT_THAT(client.ShutdownWrite(), IsOk());
  AwaitEnds(kCrowd);
  // By the filter, or by what is said of a kernel that will not have it.
  EXPECT_THAT(events_,
              ElementsAre(AnyOf(HasSubstr("held back 127.0.0.2"),
                                HasSubstr("floods cannot be shut out"))));
  Stream late = Connect("127.0.0.2:0");
  ASSERT_THAT(late.WriteAll("x"), IsOk());
  EXPECT_EQ(AwaitText(late, 1), "x");
}

// Nobody else is there for whom they would have to go.
TEST_F(ForkPerConnectionTest, LetsACrowdWaitInTheKernelsQueueIfItIsAlone) {
  constexpr size_t kCrowd = 300;
  const DescriptorLimit few(2 * kCrowd + 100);
  EchoHandler echo;
  Start(echo, {});
  std::vector<Stream> clients = ConnectMany(kCrowd, "127.0.0.2:0");
  for (Stream& client : clients) ASSERT_THAT(client.ShutdownWrite(), IsOk());
  AwaitEnds(kCrowd);
  EXPECT_THAT(events_, IsEmpty());
}

TEST_F(ForkPerConnectionTest, TellsOfEachThatHasNoProcessYetWhenItEnds) {
  constexpr size_t kCrowd = 300;
  EchoHandler echo;
  Start(echo, {});
  std::vector<Stream> clients;
  for (size_t i = 0; i < kCrowd; ++i) clients.push_back(Connect());
  bool done = false;
  model_->Drain([&] { done = true; });
  Await([&] { return model_->active() == kCrowd; });
  model_->SignalHandlers(SIGKILL, EndCause::kStop);
  Await([&] { return done; });
  uint64_t turned_away = 0;
  for (const LogField& field : model_->State()) {
    if (field.name != "turned_away") continue;
    turned_away = std::get<uint64_t>(field.value);
  }
  EXPECT_EQ(ends_.size() + turned_away, kCrowd);
  EXPECT_GT(turned_away, 0);
  EXPECT_THAT(events_, Contains(HasSubstr("the server ends")));
}

// Some have a process before anybody has to wait for one.
TEST_F(ForkPerConnectionTest, StartsNothingForAClientThatHasLeftInTheCrowd) {
  constexpr size_t kCrowd = 300;
  EchoHandler echo;
  Start(echo, {});
  for (size_t i = 0; i < kCrowd; ++i) ASSERT_THAT(Connect().Reset(), IsOk());
  Stream last = Connect();
  ASSERT_THAT(last.WriteAll("x"), IsOk());
  EXPECT_EQ(AwaitText(last, 1), "x");
  Await([&] { return model_->active() == 1; });
  EXPECT_EQ(model_->admission().connections(), 1);
  EXPECT_LT(ends_.size(), kCrowd / 2);
  EXPECT_THAT(events_, Contains(HasSubstr("left before it had a process")));
}

// What is kept here lies above; so no fork copies a table of many.
TEST_F(ForkPerConnectionTest, HandsOverConnectionsUnderLowNumbers) {
  class Teller : public ConnectionHandler {
   public:
    std::string_view name() const override { return "teller"; }
    int Handle(Stream& stream, const ConnectionInfo&) override {
      std::array<char, 1> end;
      return stream.Read(absl::MakeSpan(end)).ok() ? stream.fd() : 255;
    }
  } teller;
  Start(teller, {.patience = {.idle_timeout = absl::Hours(1)}});
  constexpr size_t kClients = 40;
  std::vector<Stream> clients;
  for (size_t i = 0; i < kClients; ++i) {
    clients.push_back(Connect());
    Await([&] { return model_->active() == i + 1; });
  }
  // The clients are of this process, and have numbers too.
  const int highest = clients.back().fd() + 1;
  for (Stream& client : clients) ASSERT_THAT(client.Close(), IsOk());
  AwaitEnds(kClients);
  for (const ConnectionRecord& end : ends_) {
    EXPECT_LE(*end.status.exit_code(), highest);
    EXPECT_TRUE(end.bytes_in.has_value());
  }
}

TEST_F(ForkPerConnectionTest, ServesAClientThatHasClosedAlready) {
  class Reader : public ConnectionHandler {
   public:
    std::string_view name() const override { return "reader"; }
    int Handle(Stream& stream, const ConnectionInfo&) override {
      std::array<char, 16> buffer;
      const absl::StatusOr<IoResult> got = stream.Read(absl::MakeSpan(buffer));
      return got.ok() ? static_cast<int>(got->bytes().value_or(0)) : 100;
    }
  } reader;
  Start(reader, {});
  {
    Stream client = Connect();
    ASSERT_THAT(client.WriteAll("hello"), IsOk());
    ASSERT_THAT(client.Close(), IsOk());
  }
  AwaitEnds(1);
  EXPECT_EQ(ends_.at(0).status, ExitStatus::Exited(5));
}

TEST_F(ForkPerConnectionTest, ChangesHowManyComeInWhenAsked) {
  EchoHandler echo;
  Start(echo, {.gate = {.limits = {.max_connections = 2}, .max_waiting = 10}});
  std::vector<Stream> clients;
  for (int i = 0; i < 4; ++i) clients.push_back(Connect());
  Await([&] { return model_->active() == 2; });
  EXPECT_EQ(model_->ChangeCapacity(1), 3);
  Await([&] { return model_->active() == 3; });
  EXPECT_EQ(model_->ChangeCapacity(-1), 2);
  EXPECT_EQ(model_->ChangeCapacity(-1), 1);
  EXPECT_EQ(model_->ChangeCapacity(-1), 1);
  EXPECT_EQ(model_->active(), 3);  // Nobody is sent away.
}

// ---- processes that are there ahead ----

class SparesTest : public ForkPerConnectionTest {
 protected:
  // Beside one client who has come before, and with so many spares ready.
  void StartWithSpares(ConnectionHandler& handler,
                       ForkPerConnection::Options options = {},
                       size_t spares = SparePolicy::kMost) {
    options.spares_from = 1;
    Start(handler, options);
    first_.emplace(Connect());
    Await([&] { return Spares().value_or(0) >= spares; });
  }

  std::optional<uint64_t> StateOf(std::string_view name) const {
    for (const LogField& field : model_->State()) {
      if (field.name == name) return std::get<uint64_t>(field.value);
    }
    return std::nullopt;
  }
  std::optional<uint64_t> Spares() const { return StateOf("spares"); }

  // Whom it forked after the process of the first client.
  static pid_t Zygote() {
    std::vector<Process> children;
    const std::vector<pid_t> found = *ProcessTable().ChildrenOf(getpid());
    for (const pid_t pid : found) {
      children.push_back(*ProcessTable().Read(pid));
    }
    std::ranges::stable_sort(children, {}, &Process::start);
    return children.at(1).pid;
  }

  std::optional<Stream> first_;
};

// Exits with what it finds in memory, when its client has said something.
class Rememberer : public ConnectionHandler {
 public:
  std::string_view name() const override { return "rememberer"; }
  int Handle(Stream& stream, const ConnectionInfo&) override {
    std::array<char, 8> buffer;
    while (true) {
      const absl::StatusOr<IoResult> got = stream.Read(absl::MakeSpan(buffer));
      if (!got.ok()) return 100;
      if (got->end()) return remembered;
    }
  }

  int remembered = 1;
};

TEST_F(SparesTest, ServeLikeProcessesThatAreForkedForTheirClient) {
  Rememberer handler;
  StartWithSpares(handler);
  handler.remembered = 2;  // What the spares do not know.
  constexpr size_t kClients = 20;
  std::vector<Stream> clients = ConnectMany(kClients, "127.0.0.2:0");
  Await([&] { return model_->active() == kClients + 1; });
  for (Stream& client : clients) {
    ASSERT_THAT(client.WriteAll("hello"), IsOk());
    ASSERT_THAT(client.ShutdownWrite(), IsOk());
  }
  AwaitEnds(kClients);
  for (const ConnectionRecord& end : ends_) {
    EXPECT_EQ(end.status, ExitStatus::Exited(1));
    EXPECT_EQ(end.peer.Unmapped().ToString().substr(0, 10), "127.0.0.2:");
    EXPECT_EQ(end.local, model_->addresses().front());
    EXPECT_EQ(end.bytes_in, 5);
    EXPECT_TRUE(end.status.usage().has_value());
    EXPECT_GE(end.id, 2);
    EXPECT_LE(end.id, kClients + 1);
  }
}

TEST_F(SparesTest, AreNotThereWhereThereIsNoCrowd) {
  Rememberer handler;
  Start(handler, {.spares_from = 3});
  std::vector<Stream> clients = ConnectMany(2, "127.0.0.2:0");
  Await([&] { return model_->active() == 2; });
  EXPECT_EQ(Spares(), std::nullopt);
  clients.push_back(Connect());
  Await([&] { return Spares().has_value(); });
  clients.clear();
  AwaitEnds(3);
  EXPECT_EQ(Spares(), std::nullopt);
}

TEST_F(SparesTest, EndWhenTheyTakeTooLong) {
  Rememberer handler;
  StartWithSpares(handler,
                  {.patience = {.handler_timeout = absl::Milliseconds(500)}},
                  /*spares=*/1);
  const Stream client = Connect();
  AwaitEnds(2);
  EXPECT_EQ(ends_.at(1).status, ExitStatus::Killed(SIGTERM));
  ASSERT_TRUE(ends_.at(1).ended.has_value());
  EXPECT_EQ(ends_.at(1).ended->cause, EndCause::kHandlerTimeout);
}

TEST_F(SparesTest, GiveEverySlotBackWhateverHappens) {
  class Moody : public ConnectionHandler {
   public:
    std::string_view name() const override { return "moody"; }
    int Handle(Stream& stream, const ConnectionInfo& info) override {
      std::array<char, 1> end;
      (void)stream.Read(absl::MakeSpan(end));
      if (info.id % 3 == 0) raise(SIGKILL);
      return static_cast<int>(info.id % 7);
    }
  } moody;
  StartWithSpares(
      moody, {.gate = {.limits = {.max_connections = 3}, .max_waiting = 50}});
  std::vector<Stream> clients = ConnectMany(40, "127.0.0.2:0");
  // Some have no client yet.
  const std::vector<pid_t> children = *ProcessTable().ChildrenOf(getpid());
  for (const pid_t child : children) {
    if (child % 2 == 0) (void)kill(child, SIGKILL);
  }
  first_.reset();
  clients.clear();
  AwaitEnds(41);
  EXPECT_EQ(model_->active(), 0);
  EXPECT_EQ(model_->admission().connections(), 0);
}

TEST_F(SparesTest, AreDoneWithoutIfTheyCannotBeHad) {
  Rememberer handler;
  StartWithSpares(handler);
  handler.remembered = 2;
  const pid_t zygote = Zygote();
  ASSERT_EQ(kill(zygote, SIGKILL), 0);
  Await([&] { return !model_->Owns(zygote); });
  Stream client = Connect();
  ASSERT_THAT(client.ShutdownWrite(), IsOk());
  AwaitEnds(1);
  EXPECT_EQ(ends_.at(0).status, ExitStatus::Exited(2));
}

TEST_F(SparesTest, ServeWhoHasConnectedBeforeADrain) {
  Rememberer handler;
  StartWithSpares(handler);
  constexpr size_t kClients = 100;
  std::vector<Stream> clients = ConnectMany(kClients, "127.0.0.2:0");
  bool done = false;
  model_->Drain([&] { done = true; });
  for (Stream& client : clients) ASSERT_THAT(client.ShutdownWrite(), IsOk());
  ASSERT_THAT(first_->ShutdownWrite(), IsOk());
  Await([&] { return done; });
  EXPECT_THAT(ends_, SizeIs(kClients + 1));
  EXPECT_THAT(ends_,
              Each(Field(&ConnectionRecord::status, ExitStatus::Exited(1))));
}

TEST_F(SparesTest, EndWithTheServer) {
  Rememberer handler;
  StartWithSpares(handler);
  bool done = false;
  model_->Drain([&] { done = true; });
  model_->SignalHandlers(SIGKILL, EndCause::kStop);
  Await([&] { return done; });
  model_.reset();
  // Those that take their time to die have been put aside.
  while (!ProcessTable().ChildrenOf(getpid())->empty()) (void)ReapDropped();
}

TEST_F(SparesTest, DoNotComeBackWhileTheServerEnds) {
  Rememberer handler;
  StartWithSpares(handler);
  constexpr size_t kClients = 20;
  const std::vector<Stream> clients = ConnectMany(kClients, "127.0.0.2:0");
  Await([&] { return StateOf("connections") == kClients + 1; });
  bool had_spares = false;
  size_t ended = 0;
  model_->OnConnectionEnd([&](const ConnectionRecord&) {
    had_spares |= Spares().has_value();
    ++ended;
  });
  model_->SignalHandlers(SIGTERM, EndCause::kStop);
  Await([&] { return ended == kClients + 1; });
  EXPECT_FALSE(had_spares);
}

}  // namespace
}  // namespace brood
