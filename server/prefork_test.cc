// SPDX-License-Identifier: Apache-2.0
// What holds for prefork and for no other model; see process_model_test.cc.
#include "brood/server/prefork.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/address_range_set.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/limits.h"
#include "brood/proc/posix.h"
#include "brood/proc/process_table.h"
#include "brood/proc/unique_fd.h"
#include "brood/server/admission.h"
#include "brood/server/common_door.h"
#include "brood/server/connection_handler.h"
#include "brood/server/connection_log.h"
#include "brood/server/echo.h"
#include "brood/server/exec_handler.h"
#include "brood/server/patience.h"
#include "brood/server/poll_loop.h"
#include "brood/server/prefork_board.h"
#include "brood/server/prefork_worker.h"
#include "brood/server/process_model.h"
#include "brood/server/rules.h"
#include "brood/server/supervisor.h"
#include "brood/server/worker_policy.h"
#include "brood/signal/wakeup_fd.h"
#include "brood/tests/deny_syscalls.h"
#include "brood/tests/in_child.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Workers = WorkerPolicy::Options;

absl::Status ServeByEight(std::vector<Listener> listeners,
                          ConnectionHandler& handler) {
  absl::StatusOr<std::unique_ptr<Prefork>> model =
      Prefork::Create(std::move(listeners), handler,
                      {.workers = WorkerPolicy::Options::Static(8)});
  if (!model.ok()) return model.status();
  return Supervise(**model, {});
}

size_t ClientsTaken(const PreforkBoard& board, size_t slots) {
  size_t taken = 0;
  for (size_t i = 0; i < slots; ++i) taken += board.slot(i).begun;
  return taken;
}

absl::StatusOr<Child> StartWorker(PreforkWorker::Share share,
                                  const PreforkWorker::Task& task) {
  const std::array<int, 3> keep = {share.listeners[0].fd(),
                                   share.messages.get(), share.bell.fd()};
  return Fork({.parent_death_signal = SIGKILL, .keep_fds = keep},
              [&] { return PreforkWorker(share, task).Run(); });
}

// The parent holds a copy of each connection, and never finds fault with any.
const Patience kWatched = {.idle_timeout = absl::Hours(1)};

// Ends as its client says, "exit 7" or "kill 9", or answers "who" with the
// worker's pid and goes on.
class Obedient : public ConnectionHandler {
 public:
  std::string_view name() const override { return "obedient"; }
  int Handle(Stream& stream, const ConnectionInfo&) override {
    ++clients_;
    while (true) {
      std::array<char, 64> buffer;
      const absl::StatusOr<IoResult> got = stream.Read(absl::MakeSpan(buffer));
      if (!got.ok() || got->end()) return 0;
      const std::string order(buffer.data(), *got->bytes());
      if (order == "who") {
        if (!stream.WriteAll(absl::StrCat(getpid())).ok()) return 1;
      } else if (order == "clients") {
        if (!stream.WriteAll(absl::StrCat(clients_)).ok()) return 1;
      } else {
        const int number = std::stoi(order.substr(5));
        if (order.substr(0, 4) == "kill") raise(number);
        return number;
      }
    }
  }

 private:
  int clients_ = 0;
};

std::vector<Listener> Listen(const std::vector<std::string>& addresses) {
  std::vector<Listener> listeners;
  for (const std::string& address : addresses) {
    absl::StatusOr<Listener> listener =
        Listener::Open(*Address::Parse(address));
    EXPECT_THAT(listener, IsOk());
    listeners.push_back(*std::move(listener));
  }
  return listeners;
}

std::string Ask(Stream& stream, std::string_view question) {
  EXPECT_THAT(stream.WriteAll(question), IsOk());
  std::array<char, 64> buffer;
  const absl::StatusOr<IoResult> got =
      stream.Read(absl::MakeSpan(buffer), absl::Now() + absl::Seconds(30));
  EXPECT_THAT(got, IsOk());
  if (!got.ok() || got->end()) return "";
  return {buffer.data(), *got->bytes()};
}

std::vector<pid_t> Children() {
  const absl::StatusOr<std::vector<pid_t>> children =
      ProcessTable().ChildrenOf(getpid());
  EXPECT_THAT(children, IsOk());
  return children.value_or(std::vector<pid_t>());
}

class PreforkTest : public testing::Test {
 protected:
  // A model that is destroyed does not wait for workers that are long in dying.
  void TearDown() override {
    if (model_ == nullptr || Children().empty()) return;
    model_->SignalHandlers(SIGKILL, EndCause::kStop);
    RunUntil([] { return Children().empty(); });
  }

  void Start(Workers workers, ConnectionHandler& handler,
             std::vector<Listener> listeners = Listen({"127.0.0.1:0"}),
             bool records = true) {
    StartWith({.workers = workers}, handler, std::move(listeners), records);
  }

  void StartWith(const Prefork::Options& options, ConnectionHandler& handler,
                 std::vector<Listener> listeners = Listen({"127.0.0.1:0"}),
                 bool records = true) {
    absl::StatusOr<std::unique_ptr<Prefork>> model =
        Prefork::Create(std::move(listeners), handler, options);
    ASSERT_THAT(model, IsOk());
    model_ = *std::move(model);
    loop_.emplace();
    ends_.clear();
    if (records) {
      model_->OnConnectionEnd(
          [this](const ConnectionRecord& end) { ends_.push_back(end); });
    }
    model_->OnTrouble(
        [this](const absl::Status& status) { troubles_.push_back(status); });
    model_->OnEvent(
        [this](const LogEvent& event) { events_.push_back(event.sentence); });
    ASSERT_THAT(model_->Start(*loop_), IsOk());
  }

  void RunFor(absl::Duration time) {
    loop_->CallAfter(time, [this] {
      loop_->Stop();
      return absl::OkStatus();
    });
    EXPECT_THAT(loop_->Run(), IsOk());
  }

  void RunUntil(absl::FunctionRef<bool()> done) {
    const absl::Duration deadline = MonotonicNow() + absl::Seconds(30);
    while (!done()) {
      ASSERT_LT(MonotonicNow(), deadline);
      RunFor(absl::Milliseconds(1));
    }
  }
  void AwaitEnds(size_t count) {
    RunUntil([&] { return ends_.size() >= count; });
  }

  void DrainNow() {
    model_->Drain([this] { loop_->Stop(); });
    EXPECT_THAT(loop_->Run(), IsOk());
  }

  Stream Connect(size_t listener = 0) {
    absl::StatusOr<Stream> client =
        Stream::Connect(model_->addresses()[listener]);
    EXPECT_THAT(client, IsOk());
    return *std::move(client);
  }

  // Serves one client, which says no more than this.
  void ServeOne(std::string_view order) {
    const size_t before = ends_.size();
    Stream client = Connect();
    ASSERT_THAT(client.WriteAll(order), IsOk());
    AwaitEnds(before + 1);
  }

  uint64_t StateOf(std::string_view name) {
    for (const LogField& field : model_->State()) {
      if (field.name == name) return std::get<uint64_t>(field.value);
    }
    ADD_FAILURE() << "no " << name;
    return 0;
  }

  Obedient obedient_;
  EchoHandler echo_;
  std::optional<PollLoop> loop_;
  std::vector<ConnectionRecord> ends_;
  std::vector<absl::Status> troubles_;
  std::vector<std::string> events_;
  std::unique_ptr<Prefork> model_;
};

TEST_F(PreforkTest, HeaderExample) {
  std::vector<Listener> listeners = Listen({"127.0.0.1:0"});
  const Address address = listeners[0].address();
  absl::StatusOr<Child> server = Fork({}, [&] {
    return ServeByEight(std::move(listeners), echo_).ok() ? 0 : 1;
  });
  ASSERT_THAT(server, IsOk());
  absl::StatusOr<Stream> client = Stream::Connect(address);
  ASSERT_THAT(client, IsOk());
  EXPECT_EQ(Ask(*client, "hello"), "hello");
  ASSERT_THAT(client->Close(), IsOk());
  ASSERT_THAT(server->Signal(SIGTERM), IsOk());
  EXPECT_EQ(*server->Wait(), ExitStatus::Exited(0));
}

TEST_F(PreforkTest, HasWorkersThatNeedNoModel) {
  std::vector<Listener> listeners = Listen({"127.0.0.1:0"});
  absl::StatusOr<PreforkBoard> board = PreforkBoard::Create(2);
  ASSERT_THAT(board, IsOk());
  std::array<int, 2> pipe;
  ASSERT_EQ(pipe2(pipe.data(), O_CLOEXEC | O_NONBLOCK), 0);
  UniqueFd in(pipe[0]);
  UniqueFd out(pipe[1]);
  absl::StatusOr<WakeupFd> bell = WakeupFd::Create();
  ASSERT_THAT(bell, IsOk());
  const PreforkWorker::Terms terms;
  absl::StatusOr<Child> worker = StartWorker({.listeners = listeners,
                                              .handler = echo_,
                                              .board = *board,
                                              .messages = out,
                                              .bell = *bell,
                                              .terms = terms},
                                             {.slot = 1});
  ASSERT_THAT(worker, IsOk());
  for (int i = 0; i < 3; ++i) {
    absl::StatusOr<Stream> client = Stream::Connect(listeners[0].address());
    ASSERT_THAT(client, IsOk());
    EXPECT_EQ(Ask(*client, "hello"), "hello");
  }
  EXPECT_EQ(ClientsTaken(*board, 2), 3);
  board->slot(1).retire = true;
  bell->Wake();
  EXPECT_EQ(*worker->Wait(), ExitStatus::Exited(0));
  EXPECT_EQ(board->slot(1).unreported, 0);
}

// How many descriptors a process watches with epoll.
int WatchedBy(pid_t pid) {
  int watched = 0;
  for (const auto& entry : std::filesystem::directory_iterator(
           absl::StrCat("/proc/", pid, "/fdinfo"))) {
    std::ifstream info(entry.path());
    for (std::string line; std::getline(info, line);) {
      if (absl::StartsWith(line, "tfd:")) ++watched;
    }
  }
  return watched;
}

// For each that does, the kernel has to find out that it has no time.
TEST_F(PreforkTest, WatchesNoDoorWhileItServesIfThereAreMany) {
  std::vector<Listener> listeners = Listen({"127.0.0.1:0", "127.0.0.1:0"});
  absl::StatusOr<PreforkBoard> board = PreforkBoard::Create(1);
  ASSERT_THAT(board, IsOk());
  std::array<int, 2> pipe;
  ASSERT_EQ(pipe2(pipe.data(), O_CLOEXEC | O_NONBLOCK), 0);
  const UniqueFd in(pipe[0]);
  UniqueFd out(pipe[1]);
  absl::StatusOr<WakeupFd> bell = WakeupFd::Create();
  ASSERT_THAT(bell, IsOk());
  const PreforkWorker::Terms terms;
  const std::vector<int> keep = {listeners[0].fd(), listeners[1].fd(),
                                 out.get(), bell->fd()};
  absl::StatusOr<Child> worker =
      Fork({.parent_death_signal = SIGKILL, .keep_fds = keep}, [&] {
        return PreforkWorker({.listeners = listeners,
                              .handler = obedient_,
                              .board = *board,
                              .messages = out,
                              .bell = *bell,
                              .terms = terms},
                             {.slot = 0})
            .Run();
      });
  ASSERT_THAT(worker, IsOk());
  for (const bool many : {false, true, true, false}) {
    board->shared().many = many;
    for (const Listener& listener : listeners) {
      absl::StatusOr<Stream> client = Stream::Connect(listener.address());
      ASSERT_THAT(client, IsOk());
      EXPECT_EQ(Ask(*client, "who"), absl::StrCat(worker->pid()));
      EXPECT_EQ(WatchedBy(worker->pid()), many ? 1 : 3);  // The bell, too.
    }
  }
  board->slot(0).retire = true;
  bell->Wake();
  EXPECT_EQ(*worker->Wait(), ExitStatus::Exited(0));
}

// Its parent has not looked for so long that there is no room for more.
TEST_F(PreforkTest, HasTheParentRoomMadeForTheNewsOfItsClient) {
  std::vector<Listener> listeners = Listen({"127.0.0.1:0"});
  absl::StatusOr<PreforkBoard> board = PreforkBoard::Create(4);
  ASSERT_THAT(board, IsOk());
  std::array<int, 4> pipes;
  ASSERT_EQ(pipe2(pipes.data(), O_CLOEXEC | O_NONBLOCK), 0);
  ASSERT_EQ(pipe2(pipes.data() + 2, O_CLOEXEC | O_NONBLOCK), 0);
  const UniqueFd messages_in(pipes[0]);
  UniqueFd messages_out(pipes[1]);
  const UniqueFd news_in(pipes[2]);
  UniqueFd news_out(pipes[3]);
  const PreforkMessage old = {.kind = PreforkMessage::Kind::kState, .slot = 1};
  while (write(news_out.get(), &old, sizeof(old)) == sizeof(old)) {
  }
  absl::StatusOr<WakeupFd> bell = WakeupFd::Create();
  ASSERT_THAT(bell, IsOk());
  absl::StatusOr<CommonDoor> door = CommonDoor::Create(listeners);
  ASSERT_THAT(door, IsOk());
  const PreforkWorker::Terms terms;
  absl::StatusOr<Child> worker = Fork({.parent_death_signal = SIGKILL}, [&] {
    return PreforkWorker({.listeners = listeners,
                          .handler = obedient_,
                          .board = *board,
                          .messages = messages_out,
                          .bell = *bell,
                          .door = &*door,
                          .news = &news_out,
                          .terms = terms},
                         {.slot = 3, .connections = 1, .begun = 7})
        .Run();
  });
  ASSERT_THAT(worker, IsOk());
  absl::StatusOr<Stream> client = Stream::Connect(listeners[0].address());
  ASSERT_THAT(client, IsOk());
  ASSERT_THAT(client->WriteAll("exit 9"), IsOk());
  EXPECT_EQ(*PollUntil(messages_in.get(), POLLIN, absl::InfiniteFuture()),
            true);
  PreforkMessage message;
  ASSERT_EQ(read(messages_in.get(), &message, sizeof(message)),
            sizeof(message));
  EXPECT_EQ(message.kind, PreforkMessage::Kind::kTooFew);
  EXPECT_EQ(message.slot, 3);
  EXPECT_EQ(*worker->TryWait(), std::nullopt);
  while (message.slot != 3 || message.kind != PreforkMessage::Kind::kState) {
    ASSERT_EQ(*PollUntil(news_in.get(), POLLIN, absl::InfiniteFuture()), true);
    ASSERT_EQ(read(news_in.get(), &message, sizeof(message)), sizeof(message));
  }
  EXPECT_EQ(message.flags, PreforkMessage::kBusy);
  EXPECT_EQ(message.Peer(), *LocalAddressOf(client->fd()));
  EXPECT_EQ(*worker->Wait(), ExitStatus::Exited(9));
  board->slot(3).begun = 7;
  board->Note(message);
  EXPECT_EQ(board->slot(3).begun, 8);
  board->Note(message);  // Its program has been started, say.
  EXPECT_EQ(board->slot(3).begun, 8);
}

TEST_F(PreforkTest, SaysWhichNumbersCannotBe) {
  EXPECT_THAT(
      Prefork::Create({}, echo_, {}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("0 listeners")));
  EXPECT_THAT(Prefork::Create(Listen({"127.0.0.1:0"}), echo_,
                              {.workers = Workers::Static(0)}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("max_workers is 0")));
}

// How often processes have gone to sleep.
int64_t Sleeps(const std::vector<pid_t>& pids) {
  int64_t sleeps = 0;
  for (const pid_t pid : pids) {
    std::ifstream status(absl::StrCat("/proc/", pid, "/status"));
    for (std::string line; std::getline(status, line);) {
      std::string_view rest = line;
      int64_t count = 0;
      if (absl::ConsumePrefix(&rest, "voluntary_ctxt_switches:") &&
          absl::SimpleAtoi(rest, &count)) {
        sleeps += count;
      }
    }
  }
  return sleeps;
}

// A worker that was woken for nothing would go back to sleep; who is served
// lets its worker sleep at most for its two reads and for the next client.
TEST_F(PreforkTest, WakesOneWorkerForOneClient) {
  constexpr int kClients = 50;
  Start(Workers::Static(16), echo_);
  RunUntil([&] { return StateOf("idle") == 16; });
  const std::vector<pid_t> workers = Children();
  ASSERT_THAT(workers, SizeIs(16));
  const int64_t before = Sleeps(workers);
  for (int i = 0; i < kClients; ++i) {
    Stream client = Connect();
    EXPECT_EQ(Ask(client, "x"), "x");
    ASSERT_THAT(client.Close(), IsOk());
    AwaitEnds(ends_.size() + 1);
  }
  EXPECT_LE(Sleeps(workers) - before, 5 * kClients + 16);
  DrainNow();
}

TEST_F(PreforkTest, ServesTheClientsOfAllItsListeners) {
  Start(Workers::Static(1), obedient_,
        Listen({"127.0.0.1:0", "[::1]:0", "127.0.0.1:0"}));
  for (size_t listener = 0; listener < 3; ++listener) {
    Stream client = Connect(listener);
    ASSERT_THAT(client.WriteAll("exit 3"), IsOk());
    AwaitEnds(listener + 1);
    EXPECT_EQ(ends_.back().local, model_->addresses()[listener]);
    EXPECT_EQ(ends_.back().peer, *LocalAddressOf(client.fd()));
    EXPECT_EQ(ends_.back().status, ExitStatus::Exited(3));
    ASSERT_TRUE(ends_.back().status.usage().has_value());
    EXPECT_GT(ends_.back().status.usage()->max_resident_bytes, 0);
  }
  DrainNow();
}

TEST_F(PreforkTest, ReplacesWorkersThatHaveServedTheirNumber) {
  Workers workers = Workers::Static(2);
  workers.connections_per_worker = 5;
  Start(workers, obedient_);
  std::map<pid_t, int> served;
  for (int i = 0; i < 100; ++i) {
    ServeOne("exit 0");
    ++served[*ends_.back().pid];
    EXPECT_LE(StateOf("workers"), 3);
  }
  EXPECT_GE(served.size(), 8);
  EXPECT_THAT(events_, IsEmpty());
  DrainNow();
}

// Some are to serve 1, some 2 and some 3.
TEST_F(PreforkTest, ReplacesWorkersAfterNumbersAsSmallAsThereAre) {
  Workers workers = Workers::Static(2);
  workers.connections_per_worker = 2;
  Start(workers, obedient_);
  for (int i = 0; i < 30; ++i) ServeOne("exit 3");
  EXPECT_THAT(events_, IsEmpty());
  for (const ConnectionRecord& end : ends_) {
    EXPECT_EQ(end.status, ExitStatus::Exited(3));
  }
  DrainNow();
}

TEST_F(PreforkTest, ReplacesACrashedWorkerLaterAndServesByTheOthersMeanwhile) {
  Start(Workers::Static(2), obedient_);
  // One worker is kept busy, so that it is the other that crashes.
  Stream held = Connect();
  const std::string who = Ask(held, "who");
  for (int i = 0; i < 3; ++i) ServeOne("kill 11");
  EXPECT_EQ(ends_.back().status, ExitStatus::Killed(SIGSEGV));
  ASSERT_THAT(events_, SizeIs(3));
  EXPECT_THAT(events_[0], HasSubstr("SIGSEGV: another starts in 100ms"));
  EXPECT_THAT(events_[1], HasSubstr("another starts in 200ms"));
  EXPECT_THAT(events_[2], HasSubstr("another starts in 400ms"));
  EXPECT_EQ(StateOf("backing_off"), 1);
  EXPECT_EQ(Ask(held, "who"), who);
  ASSERT_THAT(held.Close(), IsOk());
  ServeOne("exit 0");
  EXPECT_EQ(absl::StrCat(*ends_.back().pid), who);
  EXPECT_EQ(StateOf("backing_off"), 1);
  DrainNow();
}

TEST_F(PreforkTest, GrowsWithItsClientsAndShrinksAfterThem) {
  Start(Workers::Dynamic(2, 4, 200), echo_);
  RunUntil([&] { return StateOf("idle") == 2; });
  std::vector<Stream> clients;
  for (int i = 0; i < 30; ++i) clients.push_back(Connect());
  RunUntil([&] { return model_->active() == 30; });
  for (Stream& client : clients) EXPECT_EQ(Ask(client, "x"), "x");
  RunUntil([&] { return StateOf("idle") >= 2; });
  EXPECT_LE(StateOf("workers"), 34);
  clients.clear();
  AwaitEnds(30);
  RunUntil([&] { return StateOf("workers") <= 4; });
  EXPECT_THAT(events_, IsEmpty());
  DrainNow();
}

TEST_F(PreforkTest, LetsClientsWaitWhenAllWorkersAreBusy) {
  Start(Workers::Static(2), obedient_);
  Stream first = Connect();
  Stream second = Connect();
  Ask(first, "who");
  Ask(second, "who");
  Stream third = Connect();
  ASSERT_THAT(third.WriteAll("who"), IsOk());
  EXPECT_EQ(
      *PollUntil(third.fd(), POLLIN, absl::Now() + absl::Milliseconds(50)),
      false);
  EXPECT_EQ(model_->active(), 2);
  EXPECT_EQ(model_->ChangeCapacity(1), 3);
  EXPECT_EQ(*PollUntil(third.fd(), POLLIN, absl::Now() + absl::Seconds(30)),
            true);
  EXPECT_EQ(model_->ChangeCapacity(-1), 2);
  EXPECT_EQ(model_->ChangeCapacity(-1), 1);
  EXPECT_EQ(Ask(first, "who").empty(), false);
  EXPECT_EQ(Ask(second, "who").empty(), false);
  for (Stream* client : {&first, &second, &third}) {
    ASSERT_THAT(client->Close(), IsOk());
  }
  AwaitEnds(3);
  RunUntil([&] { return StateOf("workers") == 1; });
  DrainNow();
}

// ---- Fork ahead ----

TEST_F(PreforkTest, HasASpareReadyWhenOneTakesItsOnlyClient) {
  Start(Workers::ForkAhead(1, 20), obedient_);
  std::vector<Stream> clients;
  std::set<std::string> pids;
  for (int i = 0; i < 5; ++i) {
    RunUntil([&] { return StateOf("idle") == 1; });
    clients.push_back(Connect());
    pids.insert(Ask(clients.back(), "who"));
    EXPECT_EQ(Ask(clients.back(), "clients"), "1");
  }
  EXPECT_EQ(pids.size(), 5);
  RunUntil([&] { return StateOf("workers") == 6; });
  EXPECT_EQ(model_->active(), 5);
  for (Stream& client : clients) {
    ASSERT_THAT(client.WriteAll("kill 9"), IsOk());
  }
  AwaitEnds(5);
  for (const ConnectionRecord& end : ends_) {
    EXPECT_EQ(end.status, ExitStatus::Killed(SIGKILL));
  }
  EXPECT_EQ(StateOf("workers"), 1);
  EXPECT_THAT(events_, IsEmpty());
  DrainNow();
}

TEST_F(PreforkTest, NeverHasMoreProcessesThanAllowed) {
  Start(Workers::ForkAhead(2, 3), obedient_);
  std::vector<Stream> clients;
  for (int i = 0; i < 6; ++i) clients.push_back(Connect());
  RunUntil([&] { return model_->active() == 3; });
  RunFor(absl::Milliseconds(20));
  EXPECT_EQ(model_->active(), 3);
  EXPECT_EQ(StateOf("workers"), 3);
  clients.clear();
  AwaitEnds(6);
  DrainNow();
}

// Says which descriptors there are, which signals are blocked, which are not as
// they were born, and what memory it shares that it can write to.
class Witness : public ConnectionHandler {
 public:
  std::string_view name() const override { return "witness"; }
  int Handle(Stream& stream, const ConnectionInfo&) override {
    int others = 0;
    DIR* directory = opendir("/proc/self/fd");
    while (const dirent* entry = readdir(directory)) {
      int fd = 0;
      if (!absl::SimpleAtoi(entry->d_name, &fd)) continue;
      others += fd > 2 && fd != stream.fd() && fd != dirfd(directory) ? 1 : 0;
    }
    closedir(directory);
    int changed = 0;
    sigset_t mask;
    sigprocmask(SIG_BLOCK, nullptr, &mask);
    for (int signo = 1; signo < SIGRTMIN; ++signo) {
      struct sigaction action = {};
      (void)sigaction(signo, nullptr, &action);
      changed += sigismember(&mask, signo) == 1 ? 1 : 0;
      changed += action.sa_handler != SIG_DFL ? 1 : 0;
    }
    const bool leads = getpgrp() == getpid();
    int shared = 0;
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
      shared += absl::StrContains(line, " rw-s ") ? 1 : 0;
    }
    return stream.WriteAll(absl::StrCat(others, " ", changed, " ", leads, " ",
                                        shared))
                   .ok()
               ? 0
               : 1;
  }
};

TEST_F(PreforkTest, GivesAHandlerWhatItWouldFindInAChildOfItsOwn) {
  Witness witness;
  Start(Workers::ForkAhead(1, 2), witness);
  Stream client = Connect();
  EXPECT_EQ(Ask(client, "?"), "0 0 1 0");
  AwaitEnds(1);
  DrainNow();
  // Whoever is to accept again keeps: epoll, listener and its reserve, pipe,
  // bell; and the board.
  Start(Workers::Static(1), witness);
  client = Connect();
  EXPECT_EQ(Ask(client, "?"), "5 0 1 1");
  AwaitEnds(1);
  DrainNow();
}

// ---- Failures ----

TEST_F(PreforkTest, CountsExactlyWhoeverIsKilled) {
  for (const Prefork::Options& options : std::vector<Prefork::Options>{
           {.workers = Workers::Static(8)},
           {.workers = Workers::ForkAhead(4, 20)},
           {.workers = Workers::Static(8), .patience = kWatched},
           {.workers = Workers::ForkAhead(4, 20), .patience = kWatched}}) {
    StartWith(options, obedient_);
    std::map<Address, ExitStatus> expected;
    for (int round = 0; round < 12; ++round) {
      std::vector<Stream> clients;
      for (int i = 0; i < 8; ++i) {
        clients.push_back(Connect());
        const int number = 1 + i;
        const bool kill = i == round % 8;
        ASSERT_THAT(clients.back().WriteAll(absl::StrCat(
                        kill ? "kill " : "exit ", kill ? 9 : number)),
                    IsOk());
        expected.insert_or_assign(
            *LocalAddressOf(clients.back().fd()),
            kill ? ExitStatus::Killed(SIGKILL) : ExitStatus::Exited(number));
      }
      AwaitEnds(8 * (round + 1));
      EXPECT_EQ(model_->active(), 0);
    }
    EXPECT_EQ(ends_.size(), 96);
    std::map<Address, ExitStatus> ended;
    for (const ConnectionRecord& end : ends_) {
      ended.insert_or_assign(end.peer, end.status);
    }
    EXPECT_EQ(ended, expected);
    DrainNow();
    EXPECT_EQ(ends_.size(), 96);
  }
}

TEST_F(PreforkTest, LosesNoClientWhenAnIdleWorkerIsKilled) {
  for (const Workers& workers :
       {Workers::Static(3), Workers::ForkAhead(3, 6)}) {
    Start(workers, obedient_);
    RunUntil([&] { return StateOf("idle") == 3; });
    events_.clear();
    for (const pid_t pid : Children()) kill(pid, SIGKILL);
    ServeOne("exit 5");
    EXPECT_EQ(ends_.back().status, ExitStatus::Exited(5));
    EXPECT_EQ(ends_.size(), 1);
    EXPECT_EQ(events_.size(), 3);
    DrainNow();
  }
}

// One after another is killed that may have been woken for somebody.
TEST_F(PreforkTest, LosesNoClientWhoseWorkerIsKilledOnTheWay) {
  Start(Workers::ForkAhead(4, 8), obedient_);
  RunUntil([&] { return StateOf("idle") == 4; });
  std::vector<Stream> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(Connect());
    for (const pid_t pid : Children()) kill(pid, SIGKILL);
  }
  // Whoever had a client has been reset; all others are served.
  size_t served = 0;
  for (Stream& client : clients) {
    (void)client.WriteAll("who");
    std::array<char, 16> answer;
    std::optional<IoResult> got;
    RunUntil([&] {
      const auto read =
          client.Read(absl::MakeSpan(answer), absl::InfinitePast());
      if (absl::IsDeadlineExceeded(read.status())) return false;
      got = read.value_or(IoResult::End());
      return true;
    });
    served += got.has_value() && !got->end() ? 1 : 0;
  }
  EXPECT_EQ(served + ends_.size(), clients.size());
  clients.clear();
  DrainNow();
}

// Nothing can be forked any more, and then workers die one after another.
TEST_F(PreforkTest, ServesOnWithWhatWorkersThereAreWhenNoneCanBeForked) {
  absl::StatusOr<Child> all = Fork({}, [this] {
    Start(Workers::Static(3), obedient_);
    RunUntil([&] { return StateOf("idle") == 3; });
    DenySyscalls({SYS_clone3, SYS_clone, SYS_fork, SYS_vfork}, EAGAIN);
    for (int i = 0; i < 2; ++i) {
      ServeOne("kill 9");
      RunUntil([&] { return StateOf("backing_off") == 0; });
      ServeOne("exit 4");
      if (ends_.back().status != ExitStatus::Exited(4)) return 1;
    }
    RunFor(absl::Milliseconds(250));
    if (StateOf("workers") != 1 || model_->active() != 0) return 2;
    if (ends_.size() != 4) return 3;
    if (troubles_.size() != 1) return 4;
    if (!absl::IsUnavailable(troubles_[0])) return 5;
    DrainNow();
    model_.reset();
    return HasFailure() ? 6 : 0;
  });
  ASSERT_THAT(all, IsOk());
  EXPECT_EQ(*all->Wait(), ExitStatus::Exited(0));
}

TEST_F(PreforkTest, DrainsWithWhatSparesThereAreWhenNoneCanBeForked) {
  absl::StatusOr<Child> all = Fork({}, [this] {
    Start(Workers::ForkAhead(3, 6), obedient_);
    RunUntil([&] { return StateOf("idle") == 3; });
    DenySyscalls({SYS_clone3, SYS_clone, SYS_fork, SYS_vfork}, EAGAIN);
    std::vector<Stream> clients;
    for (int i = 0; i < 2; ++i) {
      clients.push_back(Connect());
      (void)clients.back().WriteAll("exit 3");
    }
    DrainNow();
    for (const ConnectionRecord& end : ends_) {
      if (end.status != ExitStatus::Exited(3)) return 1;
    }
    return HasFailure() || ends_.size() != 2 ? 1 : 0;
  });
  ASSERT_THAT(all, IsOk());
  EXPECT_EQ(*all->Wait(), ExitStatus::Exited(0));
}

TEST_F(PreforkTest, KeepsItsClientsWaitingWhileDescriptorsRunOut) {
  std::vector<Listener> listeners;
  listeners.push_back(*Listener::Open(*Address::Parse("127.0.0.1:0"),
                                      {.shed_after = absl::Hours(1)}));
  Start(Workers::Static(1), echo_, std::move(listeners));
  RunUntil([&] { return StateOf("idle") == 1; });
  const std::vector<pid_t> workers = Children();
  ASSERT_THAT(workers, SizeIs(1));
  const pid_t worker = workers[0];
  rlimit old;
  const rlimit tight = {.rlim_cur = 3, .rlim_max = 4096};
  ASSERT_EQ(prlimit(worker, RLIMIT_NOFILE, nullptr, &old), 0);
  ASSERT_EQ(prlimit(worker, RLIMIT_NOFILE, &tight, nullptr), 0);
  Stream client = Connect();
  ASSERT_THAT(client.WriteAll("patience"), IsOk());
  RunUntil([&] { return !troubles_.empty(); });
  EXPECT_THAT(troubles_, ElementsAre(StatusIs(
                             absl::StatusCode::kResourceExhausted,
                             HasSubstr(absl::StrCat("worker ", worker)))));
  EXPECT_EQ(model_->active(), 0);
  const rlimit wide = {.rlim_cur = 4096, .rlim_max = 4096};
  ASSERT_EQ(prlimit(worker, RLIMIT_NOFILE, &wide, nullptr), 0);
  EXPECT_EQ(Ask(client, "!"), "patience!");
  ASSERT_THAT(client.ShutdownWrite(), IsOk());
  AwaitEnds(1);
  ASSERT_EQ(troubles_.size(), 2);
  EXPECT_THAT(troubles_[1], IsOk());
  EXPECT_THAT(events_, IsEmpty());
  DrainNow();
}

TEST_F(PreforkTest, LosesRecordsAndNotClientsWhenItDoesNotKeepUp) {
  constexpr int kClients = 7000;
  Start(Workers::Static(2), obedient_);
  // The loop does not run: nobody reads what the workers tell.
  for (int i = 0; i < kClients; ++i) {
    Stream client = Connect();
    ASSERT_THAT(client.WriteAll("exit 0"), IsOk());
    std::array<char, 1> byte;
    const absl::StatusOr<IoResult> got = client.Read(absl::MakeSpan(byte));
    ASSERT_THAT(got, IsOk());
    ASSERT_TRUE(got->end());
  }
  RunUntil([&] { return model_->active() == 0; });
  EXPECT_GT(StateOf("records_lost"), 0);
  EXPECT_EQ(StateOf("records_lost") + ends_.size(), kClients);
  DrainNow();
}

TEST_F(PreforkTest, TellsOfNoConnectionIfNobodyWantsToKnow) {
  Start(Workers::Static(2), obedient_, Listen({"127.0.0.1:0"}),
        /*records=*/false);
  for (const std::string_view order : {"exit 0", "kill 9", "exit 0"}) {
    Stream client = Connect();
    ASSERT_THAT(client.WriteAll(order), IsOk());
    std::array<char, 1> byte;
    (void)client.Read(absl::MakeSpan(byte));
    RunUntil([&] { return model_->active() == 0; });
  }
  EXPECT_THAT(ends_, IsEmpty());
  EXPECT_EQ(StateOf("records_lost"), 0);
  DrainNow();
}

TEST_F(PreforkTest, LeavesTheOtherChildrenOfItsProcessAlone) {
  const pid_t stranger = StartInChild([] { return 7; });
  Start(Workers::Static(2), obedient_);
  for (int i = 0; i < 5; ++i) ServeOne(i == 2 ? "kill 9" : "exit 0");
  DrainNow();
  EXPECT_EQ(ends_.size(), 5);
  EXPECT_EQ(WaitForChild(stranger), 7);
}

// ---- Drain ----

// Connects, asks and waits for the answer until it is refused. 0 if nothing
// else ever goes wrong.
int Storm(const Address& address) {
  for (;;) {
    absl::StatusOr<Stream> client = Stream::Connect(address);
    if (!client.ok()) {
      return ErrnoOf(client.status()) == ECONNREFUSED ? 0 : 1;
    }
    if (!client->WriteAll("ping").ok()) return 2;
    std::array<char, 4> answer;
    const absl::StatusOr<IoResult> got = client->Read(absl::MakeSpan(answer));
    if (!got.ok() || got->bytes() != answer.size()) return 3;
  }
}

TEST_F(PreforkTest, ServesEveryoneInAStormWhoHasConnectedBeforeItDrains) {
  for (const Workers& workers : {Workers::Static(3), Workers::Dynamic(1, 2, 6),
                                 Workers::ForkAhead(3, 50)}) {
    Start(workers, echo_);
    const Address address = model_->addresses().front();
    std::vector<Child> storm;
    for (int i = 0; i < 12; ++i) {
      absl::StatusOr<Child> child = Fork({.keep_fds = absl::Span<const int>()},
                                         [&] { return Storm(address); });
      ASSERT_THAT(child, IsOk());
      storm.push_back(*std::move(child));
    }
    AwaitEnds(300);
    DrainNow();
    EXPECT_EQ(model_->active(), 0);
    for (Child& child : storm) EXPECT_EQ(*child.Wait(), ExitStatus::Exited(0));
    EXPECT_THAT(events_, IsEmpty());
  }
}

TEST_F(PreforkTest, ReplacesAWorkerThatCrashesWhileClientsAreLeft) {
  Start(Workers::Static(1), obedient_);
  Stream first = Connect();
  Ask(first, "who");
  Stream second = Connect();
  Stream third = Connect();
  ASSERT_THAT(first.WriteAll("kill 9"), IsOk());
  ASSERT_THAT(second.WriteAll("kill 9"), IsOk());
  ASSERT_THAT(third.WriteAll("exit 6"), IsOk());
  DrainNow();
  ASSERT_EQ(ends_.size(), 3);
  EXPECT_EQ(ends_.back().status, ExitStatus::Exited(6));
  EXPECT_EQ(events_.size(), 2);
}

TEST_F(PreforkTest, RemovesItsUnixPathWhenItHasDrained) {
  std::string folder = "/tmp/prefork.XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const std::string path = absl::StrCat(folder, "/socket");
  Start(Workers::Static(2), echo_, Listen({absl::StrCat("unix:", path)}));
  Stream client = Connect();
  EXPECT_EQ(Ask(client, "x"), "x");
  model_->Drain([this] { loop_->Stop(); });
  EXPECT_EQ(ErrnoOf(Stream::Connect(model_->addresses()[0]).status()),
            ECONNREFUSED);
  EXPECT_EQ(Ask(client, "y"), "y");
  ASSERT_THAT(client.Close(), IsOk());
  EXPECT_THAT(loop_->Run(), IsOk());
  // With anything in it, this would fail.
  EXPECT_EQ(rmdir(folder.c_str()), 0);
  EXPECT_EQ(ends_.size(), 1);
}

TEST_F(PreforkTest, TurnsAwayWhomTheRulesDenyAndLearnsNewOnes) {
  for (const Workers& workers :
       {Workers::Static(2), Workers::ForkAhead(2, 4)}) {
    StartWith({.workers = workers,
               .terms = {.rules = *Rules::Parse("deny 127.0.0.0/8", "rules")}},
              echo_);
    events_.clear();
    Stream denied = Connect();
    std::array<char, 1> byte;
    EXPECT_EQ(*denied.Read(absl::MakeSpan(byte)), IoResult::End());
    RunUntil([&] { return !events_.empty(); });
    RunUntil([&] { return StateOf("turned_away") == 1; });
    EXPECT_THAT(events_, ElementsAre(AllOf(HasSubstr("turned away 127.0.0.1:"),
                                           HasSubstr("127.0.0.0/8"))));
    const std::vector<pid_t> before = Children();
    model_->SetRules(Rules());
    RunUntil([&] {
      for (const pid_t pid : Children()) {
        if (absl::c_linear_search(before, pid)) return false;
      }
      return StateOf("idle") == 2;
    });
    Stream allowed = Connect();
    EXPECT_EQ(Ask(allowed, "x"), "x");
    ASSERT_THAT(allowed.Close(), IsOk());
    DrainNow();
  }
}

// One that has only just been forked may miss it the first time.
TEST_F(PreforkTest, CallsOffWorkersAsOftenAsTheRulesChange) {
  Start(Workers::ForkAhead(3, 6), echo_);
  for (int i = 0; i < 10; ++i) {
    const std::vector<pid_t> before = Children();
    model_->SetRules(
        *Rules::Parse(i % 2 == 0 ? "deny 127.0.0.0/8" : "allow all", "rules"));
    RunUntil([&] {
      return absl::c_none_of(Children(), [&](pid_t pid) {
        return absl::c_linear_search(before, pid);
      });
    });
  }
  RunUntil([&] { return StateOf("idle") == 3; });
  Stream allowed = Connect();
  EXPECT_EQ(Ask(allowed, "x"), "x");
  ASSERT_THAT(allowed.Close(), IsOk());
  AwaitEnds(1);
  DrainNow();
}

TEST_F(PreforkTest, TellsOfAFloodWithoutTellingOfEachClient) {
  for (const Workers& workers :
       {Workers::Static(1), Workers::ForkAhead(1, 2)}) {
    constexpr size_t kFlood = 300;
    StartWith({.workers = workers,
               .terms = {.rules = *Rules::Parse("deny 127.0.0.0/8", "rules")}},
              echo_);
    events_.clear();
    for (size_t i = 0; i < kFlood; ++i) {
      Stream denied = Connect();
      std::array<char, 1> byte;
      (void)denied.Read(absl::MakeSpan(byte));
    }
    RunUntil([&] { return StateOf("turned_away") == kFlood; });
    // A slow machine takes more than a second for this, and has more to say.
    RunUntil([&] { return events_.size() >= 20; });
    EXPECT_LT(events_.size(), kFlood / 2);
    EXPECT_THAT(events_[0], HasSubstr("127.0.0.0/8"));
    RunFor(absl::Milliseconds(1100));
    Stream late = Connect();
    RunUntil([&] {
      return absl::c_any_of(events_, [](const std::string& event) {
        return absl::EndsWith(event, " more turned away");
      });
    });
    DrainNow();
  }
}

TEST_F(PreforkTest, BelievesATrustedProxy) {
  StartWith(
      {.workers = Workers::Static(1),
       .terms = {.trusted_proxies = *AddressRangeSet::Parse("127.0.0.1")}},
      echo_);
  Stream proxy = Connect();
  EXPECT_EQ(Ask(proxy, "PROXY TCP4 198.51.100.7 203.0.113.1 4711 80\r\nhi"),
            "hi");
  ASSERT_THAT(proxy.Close(), IsOk());
  AwaitEnds(1);
  EXPECT_EQ(ends_[0].peer.ToString().substr(0, 10), "127.0.0.1:");
  EXPECT_EQ(ends_[0].client, *Address::Parse("198.51.100.7:4711"));
  EXPECT_EQ(ends_[0].local, *Address::Parse("203.0.113.1:80"));
  Stream liar = Connect();
  ASSERT_THAT(liar.WriteAll("PROXY TCP7 198.51.100.7"), IsOk());
  RunUntil([&] { return !events_.empty(); });
  EXPECT_THAT(events_[0],
              AllOf(HasSubstr("turned away 127.0.0.1:"), HasSubstr("byte")));
}

TEST_F(PreforkTest, EndsAConnectionThatTakesTooLong) {
  StartWith({.workers = Workers::Static(2),
             .patience = {.handler_timeout = absl::Milliseconds(40)}},
            echo_);
  Stream client = Connect();
  EXPECT_EQ(Ask(client, "x"), "x");
  AwaitEnds(1);
  EXPECT_EQ(ends_[0].status, ExitStatus::Killed(SIGTERM));
  ASSERT_TRUE(ends_[0].ended.has_value());
  EXPECT_EQ(ends_[0].ended->cause, EndCause::kHandlerTimeout);
  RunUntil([&] { return StateOf("idle") == 2; });  // Replaced at once.
  EXPECT_THAT(events_, IsEmpty());
}

// ---- What the parent watches ----

TEST_F(PreforkTest, EndsAConnectionOnWhichBothAreSilent) {
  for (const Workers& workers :
       {Workers::Static(2), Workers::ForkAhead(2, 4)}) {
    StartWith({.workers = workers,
               .patience = {.idle_timeout = absl::Milliseconds(60)}},
              echo_);
    Stream client = Connect();
    EXPECT_EQ(Ask(client, "x"), "x");
    AwaitEnds(1);
    EXPECT_EQ(ends_[0].status, ExitStatus::Killed(SIGTERM));
    ASSERT_TRUE(ends_[0].ended.has_value());
    EXPECT_EQ(ends_[0].ended->cause, EndCause::kIdle);
    EXPECT_EQ(ends_[0].bytes_in, 1);
    EXPECT_EQ(ends_[0].bytes_out, 1);
    RunUntil([&] { return StateOf("idle") == 2; });  // Replaced at once.
    EXPECT_EQ(StateOf("backing_off"), 0);
    EXPECT_THAT(events_, IsEmpty());
    DrainNow();
  }
}

TEST_F(PreforkTest, EndsAConnectionThatIsTooSlow) {
  StartWith(
      {.workers = Workers::Static(1),
       .patience = {.min_rate =
                        Patience::MinRate{.bytes = 1000,
                                          .period = absl::Milliseconds(60)}}},
      echo_);
  Stream client = Connect();
  EXPECT_EQ(Ask(client, "x"), "x");
  AwaitEnds(1);
  ASSERT_TRUE(ends_[0].ended.has_value());
  EXPECT_EQ(ends_[0].ended->cause, EndCause::kTooSlow);
  EXPECT_GE(ends_[0].duration, absl::Milliseconds(60));
  DrainNow();
}

// One worker, and one client behind the other: the second has all its time,
// whatever the first has used.
TEST_F(PreforkTest, MeasuresEachConnectionForItself) {
  constexpr absl::Duration kTimeout = absl::Milliseconds(30);
  StartWith({.workers = Workers::Static(1),
             .patience = {.handler_timeout = kTimeout}},
            obedient_);
  for (size_t i = 0; i < 40; ++i) {
    Stream first = Connect();
    Stream second = Connect();
    EXPECT_NE(Ask(first, "who"), "");
    // Around the moment at which its time is up.
    RunFor(kTimeout - absl::Milliseconds(5) +
           absl::Microseconds(500) * (i % 20));
    (void)first.WriteAll("exit 0");
    ASSERT_THAT(second.WriteAll("exit 7"), IsOk());
    AwaitEnds(2 * i + 2);
    EXPECT_EQ(ends_[2 * i + 1].status, ExitStatus::Exited(7));
    if (ends_[2 * i].ended.has_value()) {
      EXPECT_GE(ends_[2 * i].duration, kTimeout);
    } else {
      EXPECT_EQ(ends_[2 * i].status, ExitStatus::Exited(0));
    }
  }
  EXPECT_THAT(events_, IsEmpty());
  DrainNow();
}

TEST_F(PreforkTest, LetsGoOfEachConnectionThatItHasWatched) {
  const auto open = [] {
    int count = 0;
    DIR* directory = opendir("/proc/self/fd");
    while (readdir(directory) != nullptr) ++count;
    closedir(directory);
    return count;
  };
  for (const bool records : {true, false}) {
    StartWith({.workers = Workers::Static(3), .patience = kWatched}, obedient_,
              Listen({"127.0.0.1:0"}), records);
    RunUntil([&] { return StateOf("idle") == 3; });
    const int before = open();
    for (const std::string_view order :
         {"exit 0", "kill 9", "exit 1", "exit 0", "kill 11", "exit 0"}) {
      Stream client = Connect();
      ASSERT_THAT(client.WriteAll(order), IsOk());
      bool gone = false;
      RunUntil([&] {
        std::array<char, 1> byte;
        const absl::StatusOr<IoResult> got =
            client.TryRead(absl::MakeSpan(byte));
        gone = gone || !got.ok() || got->end();
        return gone && model_->active() == 0;
      });
    }
    RunUntil([&] { return open() <= before; });
    DrainNow();
  }
}

TEST_F(PreforkTest, TellsAProgramAndItsGroupThatTheClientIsGone) {
  absl::StatusOr<std::unique_ptr<ExecHandler>> deaf = ExecHandler::Create(
      {"sh", "-c", "(trap '' TERM; echo $$; exec sleep 1000) & wait"}, {});
  ASSERT_THAT(deaf, IsOk());
  for (const Workers& workers :
       {Workers::Static(1), Workers::ForkAhead(1, 2)}) {
    StartWith({.workers = workers,
               .patience = {.client_gone_grace = absl::ZeroDuration()}},
              **deaf);
    Stream client = Connect();
    pid_t leader = 0;
    ASSERT_TRUE(absl::SimpleAtoi(Ask(client, "\n"), &leader));
    ASSERT_EQ(killpg(leader, 0), 0);
    ASSERT_THAT(client.Reset(), IsOk());
    AwaitEnds(1);
    EXPECT_EQ(ends_[0].status, ExitStatus::Killed(SIGTERM));
    ASSERT_TRUE(ends_[0].ended.has_value());
    EXPECT_EQ(ends_[0].ended->cause, EndCause::kClientGone);
    RunUntil([&] { return killpg(leader, 0) == -1 && errno == ESRCH; });
    EXPECT_THAT(events_, IsEmpty());
    DrainNow();
  }
}

// ---- Sources ----

class PreforkSourcesTest : public PreforkTest {
 protected:
  static PreforkWorker::Terms AtMost(size_t connections) {
    return {.sources = {.max_connections_per_source = connections},
            .message = "full"};
  }

  // What a client from 127.0.0.`host` is told when it asks who serves it:
  // a pid, "full", or nothing after a reset. It stays if it was let in.
  std::string Come(int host, std::vector<Stream>& clients) {
    absl::StatusOr<Stream> client = Stream::Connect(
        model_->addresses()[0], absl::InfiniteFuture(),
        {.source = *Address::Parse(absl::StrCat("127.0.0.", host, ":0"))});
    EXPECT_THAT(client, IsOk());
    (void)client->WriteAll("who");
    std::array<char, 64> buffer;
    const absl::StatusOr<IoResult> got =
        client->Read(absl::MakeSpan(buffer), absl::Now() + absl::Seconds(30));
    if (!got.ok() || got->end()) return "";
    std::string answer(buffer.data(), *got->bytes());
    if (answer != "full\n") clients.push_back(*std::move(client));
    return answer;
  }
  bool IsLetIn(int host, std::vector<Stream>& clients) {
    const size_t before = clients.size();
    (void)Come(host, clients);
    return clients.size() > before;
  }
};

TEST_F(PreforkSourcesTest, KeepsEachSourceToItsLimit) {
  StartWith({.workers = Workers::Static(6), .terms = AtMost(2)}, obedient_);
  std::vector<Stream> clients;
  EXPECT_TRUE(IsLetIn(2, clients));
  EXPECT_TRUE(IsLetIn(2, clients));
  EXPECT_EQ(Come(2, clients), "full\n");
  EXPECT_TRUE(IsLetIn(3, clients));
  RunUntil([&] { return !events_.empty(); });
  EXPECT_THAT(events_[0],
              HasSubstr("127.0.0.2: 2 of 2 connections of this source"));
  // The place of one who goes is another's.
  clients.erase(clients.begin());
  RunUntil([&] { return IsLetIn(2, clients); });
  EXPECT_EQ(Come(2, clients), "full\n");
  clients.clear();
  DrainNow();
}

TEST_F(PreforkSourcesTest, KeepsEachSourceToItsRate) {
  StartWith({.workers = Workers::Static(2),
             .terms = {.sources = {.rate_per_source = {.connections = 1,
                                                       .period = absl::Hours(1),
                                                       .burst = 3}},
                       .at_limit = AtLimit::kReset}},
            obedient_);
  for (int i = 0; i < 3; ++i) {
    std::vector<Stream> clients;
    EXPECT_TRUE(IsLetIn(2, clients));
    clients.clear();
    AwaitEnds(ends_.size() + 1);
  }
  std::vector<Stream> clients;
  EXPECT_EQ(Come(2, clients), "");
  EXPECT_TRUE(IsLetIn(3, clients));
  RunUntil([&] { return !events_.empty(); });
  EXPECT_THAT(events_[0], HasSubstr("127.0.0.2: more than 1/h,3"));
  clients.clear();
  DrainNow();
}

TEST_F(PreforkSourcesTest, GivesEachPlaceBackOnceWhoeverIsKilled) {
  constexpr size_t kLimit = 3;
  for (const Workers& workers :
       {Workers::Static(8), Workers::ForkAhead(8, 16)}) {
    StartWith({.workers = workers, .terms = AtMost(kLimit)}, obedient_);
    const auto fill = [&](std::vector<Stream>& clients) {
      // While a client waits here, nobody starts a worker.
      RunUntil([&] {
        return StateOf("backing_off") == 0 && StateOf("idle") > kLimit;
      });
      RunUntil([&] {
        (void)IsLetIn(2, clients);
        return clients.size() == kLimit;
      });
    };
    for (int round = 0; round < 3; ++round) {
      std::vector<Stream> clients;
      fill(clients);
      EXPECT_EQ(Come(2, clients), "full\n");
      // One ends, one dies of what it does, one is killed from outside.
      pid_t pid = 0;
      ASSERT_TRUE(absl::SimpleAtoi(Ask(clients[2], "who"), &pid));
      ASSERT_THAT(clients[0].WriteAll("exit 0"), IsOk());
      ASSERT_THAT(clients[1].WriteAll("kill 9"), IsOk());
      ASSERT_EQ(kill(pid, SIGKILL), 0);
      AwaitEnds(static_cast<size_t>(round + 1) * kLimit);
      EXPECT_EQ(model_->active(), 0);
    }
    std::vector<Stream> clients;
    fill(clients);
    for (int i = 0; i < 5; ++i) EXPECT_EQ(Come(2, clients), "full\n");
    clients.clear();
    DrainNow();
  }
}

TEST_F(PreforkSourcesTest, TellsAHandlerHowManyItsSourceHas) {
  class Counter : public ConnectionHandler {
   public:
    std::string_view name() const override { return "counter"; }
    int Handle(Stream& stream, const ConnectionInfo& info) override {
      const std::string count =
          absl::StrCat(info.connections_of_source.value_or(0));
      if (!stream.WriteAll(count).ok()) return 1;
      std::array<char, 16> buffer;
      while (true) {
        const absl::StatusOr<IoResult> got =
            stream.Read(absl::MakeSpan(buffer));
        if (!got.ok() || got->end()) return 0;
      }
    }
  } counter;
  for (const Workers& workers :
       {Workers::Static(3), Workers::ForkAhead(3, 6)}) {
    StartWith({.workers = workers, .terms = AtMost(5)}, counter);
    std::vector<Stream> clients;
    EXPECT_EQ(Come(2, clients), "1");
    EXPECT_EQ(Come(2, clients), "2");
    EXPECT_EQ(Come(3, clients), "1");
    clients.clear();
    DrainNow();
  }
}

TEST_F(PreforkTest, LimitsItsWorkers) {
  class Asker : public ConnectionHandler {
   public:
    std::string_view name() const override { return "asker"; }
    int Handle(Stream&, const ConnectionInfo&) override {
      const absl::StatusOr<Limit> limit = CurrentLimit(RLIMIT_CORE);
      return limit.ok() ? static_cast<int>(limit->soft) : 255;
    }
  } asker;
  StartWith({.workers = Workers::Static(1),
             .terms = {.limits = *Limits::Parse("CORE=17")}},
            asker);
  const Stream client = Connect();
  AwaitEnds(1);
  EXPECT_EQ(ends_[0].status, ExitStatus::Exited(17));
}

}  // namespace
}  // namespace brood
