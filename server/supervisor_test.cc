// SPDX-License-Identifier: Apache-2.0
// A server of one's own, in a process of its own, driven as an operator would.
#include "brood/server/supervisor.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/server/connection_handler.h"
#include "brood/server/connection_log.h"
#include "brood/server/echo.h"
#include "brood/server/fork_per_connection.h"
#include "brood/server/iterative.h"
#include "brood/server/notify.h"
#include "brood/server/poll_loop.h"
#include "brood/server/process_model.h"
#include "brood/server/rules.h"
#include "brood/signal/signal_set.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

int RunEchoServer() {
  EchoHandler handler;
  absl::StatusOr<Listener> listener =
      Listener::Open(*Address::Parse("127.0.0.1:0"), {});
  if (!listener.ok()) return 1;
  auto model = ForkPerConnection::Create(*std::move(listener), handler, {});
  return model.ok() && Supervise(**model, {}).ok() ? 0 : 1;
}

absl::Status ServeEcho(const Address& address) {
  absl::StatusOr<Listener> listener = Listener::Open(address, {});
  if (!listener.ok()) return listener.status();
  EchoHandler echo;
  absl::StatusOr<std::unique_ptr<ForkPerConnection>> model =
      ForkPerConnection::Create(*std::move(listener), echo, {});
  if (!model.ok()) return model.status();
  return Supervise(**model, {});
}

absl::Status ServeOneByOne(Listener listener, ConnectionHandler& handler) {
  absl::StatusOr<std::unique_ptr<ProcessModel>> model =
      MakeIterative(std::move(listener), handler);
  if (!model.ok()) return model.status();
  return Supervise(**model, {});
}

// What a server started as PID 1 exits with if that is not permitted here.
constexpr int kNotPermitted = 77;

struct Pipe {
  Pipe() {
    std::array<int, 2> ends;
    EXPECT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
    reader = UniqueFd(ends[0]);
    writer = UniqueFd(ends[1]);
  }
  // Up to the next newline, or what there is until the end.
  std::string NextLine() {
    std::string line;
    char byte;
    while (RetryOnEintr([&] { return read(reader.get(), &byte, 1); }) == 1 &&
           byte != '\n') {
      line.push_back(byte);
    }
    return line;
  }

  UniqueFd reader;
  UniqueFd writer;
};

// Does what its client says: "crash"; "ignore" SIGTERM and stay; leave an
// "orphan" behind that stays as long as the client; anything else.
class Moody : public ConnectionHandler {
 public:
  std::string_view name() const override { return "moody"; }
  int Handle(Stream& stream, const ConnectionInfo&) override {
    prctl(PR_SET_DUMPABLE, 0);  // No core file for a test.
    std::array<char, 64> buffer;
    while (true) {
      const absl::StatusOr<IoResult> got = stream.Read(absl::MakeSpan(buffer));
      if (!got.ok() || got->end()) return 0;
      const std::string_view order(buffer.data(), *got->bytes());
      if (order == "crash") abort();
      if (order == "ignore") (void)std::signal(SIGTERM, SIG_IGN);
      if (order == "orphan" && fork() != 0) return 0;
      if (!stream.WriteAll(order).ok()) return 1;
    }
  }
};

struct Setup {
  SuperviseOptions options = {};
  // How many clients are served at once.
  size_t max_children = std::numeric_limits<size_t>::max();
  // Runs in the server's process before it begins.
  absl::AnyInvocable<void()> before = [] {};
  bool as_pid_one = false;
};

// A server with that handler, in a child process; its log and the line that
// says it is ready come through one pipe.
class MoodyServer {
 public:
  explicit MoodyServer(Setup setup) {
    Start(setup);
    output_.writer = UniqueFd();
    setup.options.ready_fd = UniqueFd();  // It is the server's now.
    for (ready_line_ = NextLine();
         !absl::StartsWith(ready_line_, "listening on ");
         ready_line_ = NextLine()) {
      if (ready_line_.empty()) return;
      lines_before_ready_.push_back(ready_line_);
    }
    EXPECT_THAT(ready_line_, EndsWith(" (model fork, service moody)"));
    std::string_view ready = ready_line_;
    absl::ConsumePrefix(&ready, "listening on ");
    address_ = *Address::Parse(ready.substr(0, ready.find(' ')));
  }

  Child& child() { return *child_; }
  void Signal(int signo) { EXPECT_THAT(child_->Signal(signo), IsOk()); }
  const Address& address() const { return address_; }
  const std::string& ready_line() const { return ready_line_; }
  const std::vector<std::string>& lines_before_ready() const {
    return lines_before_ready_;
  }
  // Whether it could not become PID 1.
  bool NotPermitted() {
    return child_ == std::nullopt ||
           (ready_line_.empty() &&
            *child_->Wait() == ExitStatus::Exited(kNotPermitted));
  }

  std::string NextLine() { return output_.NextLine(); }
  // Makes its output hold a page at most until it is read.
  void ShrinkItsOutput() {
    ASSERT_NE(fcntl(output_.reader.get(), F_SETPIPE_SZ, 4096), -1);
  }

 private:
  void Start(Setup& setup) {
    absl::StatusOr<Child> child =
        setup.as_pid_one ? CloneAsPidOne([&] { return Serve(setup); })
                         : Fork({.parent_death_signal = SIGKILL},
                                [&] { return Serve(setup); });
    if (ErrnoOf(child.status()) == EPERM) return;
    EXPECT_THAT(child, IsOk());
    child_ = *std::move(child);
  }

  int Serve(Setup& setup) {
    setup.before();
    Moody moody;
    absl::StatusOr<Listener> listener =
        Listener::Open(*Address::Parse("127.0.0.1:0"));
    if (!listener.ok()) return 10;
    auto model = ForkPerConnection::Create(
        *std::move(listener), moody,
        {.gate = {.limits = {.max_connections = setup.max_children}}});
    if (!model.ok()) return 11;
    // The default, which was another where `setup` was made.
    setup.options.adopt_orphans = SuperviseOptions().adopt_orphans;
    setup.options.announce_fd = output_.writer.get();
    setup.options.log_fd = output_.writer.get();
    return Supervise(**model, std::move(setup.options)).ok() ? 0 : 12;
  }

  // In namespaces of its own, with a /proc of its own.
  static absl::StatusOr<Child> CloneAsPidOne(absl::FunctionRef<int()> body) {
    const pid_t pid = static_cast<pid_t>(
        syscall(SYS_clone, CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | SIGCHLD,
                nullptr, nullptr, nullptr, nullptr));
    if (pid == -1) return ErrnoStatus(errno, "clone into new namespaces");
    if (pid > 0) return Child::Adopt(pid);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (mount("proc", "/proc", "proc", 0, nullptr) == -1) _exit(kNotPermitted);
    _exit(getpid() == 1 ? body() : 13);
  }

  std::optional<Child> child_;
  Pipe output_;
  std::vector<std::string> lines_before_ready_;
  std::string ready_line_;
  Address address_;
};

std::string Ask(Stream& client, std::string_view order) {
  EXPECT_THAT(client.WriteAll(order), IsOk());
  std::array<char, 64> buffer;
  const absl::StatusOr<IoResult> got = client.Read(absl::MakeSpan(buffer));
  if (!got.ok() || got->end()) return "";
  return {buffer.data(), *got->bytes()};
}

Stream Connect(const MoodyServer& server) {
  absl::StatusOr<Stream> client = Stream::Connect(server.address());
  EXPECT_THAT(client, IsOk());
  return *std::move(client);
}

// Whoever started the server and wants to know how it does.
class Manager {
 public:
  Manager() : socket_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    // An abstract name that the kernel chooses.
    sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = {}};
    socklen_t length = sizeof name.sun_family;
    auto* address = reinterpret_cast<sockaddr*>(&name);
    EXPECT_EQ(bind(socket_.get(), address, length), 0);
    length = sizeof name;
    EXPECT_EQ(getsockname(socket_.get(), address, &length), 0);
    const size_t begin = offsetof(sockaddr_un, sun_path) + 1;
    absl::StatusOr<Notifier> notifier = Notifier::Create(
        {.notify_socket = absl::StrCat(
             "@", std::string_view(&name.sun_path[1], length - begin))});
    EXPECT_THAT(notifier, IsOk());
    notifier_ = *std::move(notifier);
  }

  const Notifier* notifier() const { return &*notifier_; }

  // Blocks for the next message.
  std::string Next() {
    std::array<char, 4096> buffer;
    const ssize_t n = RetryOnEintr(
        [&] { return recv(socket_.get(), buffer.data(), buffer.size(), 0); });
    EXPECT_GT(n, 0);
    return {buffer.data(), static_cast<size_t>(n)};
  }
  // Throws away what has come so far.
  void Forget() {
    while (*PollUntil(socket_.get(), POLLIN, absl::InfinitePast())) Next();
  }

 private:
  UniqueFd socket_;
  std::optional<Notifier> notifier_;
};

// A model without processes: one client is inside until SIGKILL.
class FakeModel : public ProcessModel {
 public:
  void OnStart(absl::AnyInvocable<void(PollLoop&)> action) {
    on_start_ = std::move(action);
  }
  void Own(pid_t pid) { own_ = pid; }
  void ComeIn() { active_ = 1; }

  bool started() const { return started_; }
  int observers_ever() const { return observers_ever_; }
  int observers_now() const { return observers_now_; }
  const std::vector<std::pair<int, EndCause>>& steps() const { return steps_; }

  std::string_view name() const override { return "fake"; }
  std::string_view service() const override { return "nothing"; }
  const std::vector<Address>& addresses() const override { return addresses_; }
  void OnConnectionEnd(
      absl::AnyInvocable<void(const ConnectionRecord&)> observer) override {
    Count(observer != nullptr);
  }
  void OnTrouble(
      absl::AnyInvocable<void(const absl::Status&)> observer) override {
    Count(observer != nullptr);
  }
  void OnEvent(absl::AnyInvocable<void(const LogEvent&)> observer) override {
    Count(observer != nullptr);
  }
  absl::Status Start(PollLoop& loop) override {
    started_ = true;
    if (on_start_ != nullptr) on_start_(loop);
    return absl::OkStatus();
  }
  void Drain(absl::AnyInvocable<void()> done) override {
    done_ = std::move(done);
    if (active_ == 0) done_();
  }
  size_t active() const override { return active_; }
  bool Owns(pid_t pid) const override { return pid == own_; }
  absl::StatusOr<std::string> Forget(const Address& /*peer*/) override {
    return "";
  }
  void SignalHandlers(int signo, EndCause cause) override {
    steps_.emplace_back(signo, cause);
    if (signo != SIGKILL) return;
    active_ = 0;
    done_();
  }
  void SetRules(Rules) override {}
  size_t ChangeCapacity(int) override { return 1; }
  std::vector<LogField> State() const override { return {}; }

 private:
  void Count(bool observer) {
    observers_ever_ += observer ? 1 : 0;
    observers_now_ += observer ? 1 : observers_now_ > 0 ? -1 : 0;
  }

  const std::vector<Address> addresses_ = {*Address::Parse("127.0.0.1:7")};
  absl::AnyInvocable<void(PollLoop&)> on_start_;
  absl::AnyInvocable<void()> done_;
  pid_t own_ = -1;
  size_t active_ = 0;
  bool started_ = false;
  int observers_ever_ = 0;
  int observers_now_ = 0;
  std::vector<std::pair<int, EndCause>> steps_;
};

// What a model with a client that does not leave is asked to do when all these
// signals come at once.
std::vector<std::pair<int, EndCause>> StepsOf(absl::Span<const int> signals,
                                              absl::Duration drain_timeout) {
  const UniqueFd nowhere(open("/dev/null", O_WRONLY | O_CLOEXEC));
  FakeModel model;
  model.ComeIn();
  model.OnStart([&](PollLoop&) {
    for (const int signo : signals) kill(getpid(), signo);
  });
  EXPECT_THAT(Supervise(model, {.drain_timeout = drain_timeout,
                                .announce_fd = nowhere.get(),
                                .log_fd = nowhere.get()}),
              IsOk());
  return model.steps();
}

// Runs `serve` as a server in a process of its own, and stops it once it is
// ready.
void ExpectReadyAndStoppable(absl::FunctionRef<int()> serve) {
  std::array<int, 2> ends;
  ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
  const UniqueFd reader(ends[0]);
  const UniqueFd writer(ends[1]);
  absl::StatusOr<Child> server = Fork({.parent_death_signal = SIGKILL}, [&] {
    dup2(writer.get(), STDOUT_FILENO);
    return serve();
  });
  ASSERT_THAT(server, IsOk());
  std::array<char, 128> ready = {};
  ASSERT_GT(read(reader.get(), ready.data(), ready.size() - 1), 0);
  EXPECT_THAT(std::string(ready.data()), StartsWith("listening on 127.0.0.1:"));
  ASSERT_THAT(server->Signal(SIGTERM), IsOk());
  EXPECT_THAT(server->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(SupervisorTest, HeaderExample) { ExpectReadyAndStoppable(RunEchoServer); }

TEST(ForkPerConnectionTest, HeaderExample) {
  ExpectReadyAndStoppable(
      [] { return ServeEcho(*Address::Parse("127.0.0.1:0")).ok() ? 0 : 1; });
}

TEST(IterativeTest, HeaderExample) {
  ExpectReadyAndStoppable([] {
    EchoHandler echo;
    absl::StatusOr<Listener> listener =
        Listener::Open(*Address::Parse("127.0.0.1:0"));
    if (!listener.ok()) return 2;
    return ServeOneByOne(*std::move(listener), echo).ok() ? 0 : 1;
  });
}

TEST(SupervisorTest, LogsACrashAndServesOn) {
  MoodyServer server({});
  Stream neighbour = Connect(server);
  EXPECT_EQ(Ask(neighbour, "before"), "before");
  Stream victim = Connect(server);
  EXPECT_EQ(Ask(victim, "crash"), "");
  EXPECT_THAT(server.NextLine(), HasSubstr(" killed by SIGABRT"));
  EXPECT_EQ(Ask(neighbour, "after"), "after");
}

// ---- Stopping ----

TEST(SupervisorTest, DrainsOnTheFirstRequestToStop) {
  for (const int signo : {SIGTERM, SIGINT}) {
    MoodyServer server({});
    Stream client = Connect(server);
    EXPECT_EQ(Ask(client, "before"), "before");
    server.Signal(signo);
    EXPECT_EQ(server.NextLine(),
              absl::StrCat("draining on ", NameOfSignal(signo),
                           ": 1 inside, at most 30s"));
    EXPECT_EQ(Ask(client, "after"), "after");
    ASSERT_THAT(client.Close(), IsOk());
    EXPECT_THAT(server.NextLine(), HasSubstr(" exited 0"));
    EXPECT_THAT(server.child().Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
  }
}

TEST(SupervisorTest, KillsAHandlerThatIgnoresSigterm) {
  MoodyServer server({.options = {.drain_timeout = absl::ZeroDuration()}});
  Stream client = Connect(server);
  EXPECT_EQ(Ask(client, "ignore"), "ignore");
  server.Signal(SIGTERM);
  EXPECT_EQ(server.NextLine(), "draining on SIGTERM: 1 inside, at most 0");
  EXPECT_EQ(server.NextLine(), "time is up: SIGTERM to 1");
  EXPECT_EQ(server.NextLine(), "ignored SIGTERM: SIGKILL to 1");
  EXPECT_THAT(server.NextLine(), HasSubstr(" killed by SIGKILL"));
  EXPECT_THAT(server.child().Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(SupervisorTest, EndsNowOnASecondRequestToStop) {
  MoodyServer server({.options = {.drain_timeout = absl::Hours(24)}});
  Stream client = Connect(server);
  EXPECT_EQ(Ask(client, "x"), "x");
  server.Signal(SIGTERM);
  EXPECT_EQ(server.NextLine(), "draining on SIGTERM: 1 inside, at most 24h");
  server.Signal(SIGINT);
  EXPECT_EQ(server.NextLine(), "a second SIGINT: SIGKILL to 1");
  EXPECT_THAT(server.NextLine(), HasSubstr(" killed by SIGKILL"));
  EXPECT_THAT(server.child().Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(SupervisorTest, EndsNowOnSigquitWhateverItWasDoing) {
  for (const bool draining : {false, true}) {
    MoodyServer server({.options = {.drain_timeout = absl::Hours(24)}});
    Stream client = Connect(server);
    EXPECT_EQ(Ask(client, "x"), "x");
    if (draining) {
      server.Signal(SIGTERM);
      EXPECT_THAT(server.NextLine(), StartsWith("draining on SIGTERM"));
    }
    server.Signal(SIGQUIT);
    EXPECT_EQ(server.NextLine(), "SIGQUIT: SIGKILL to 1");
    EXPECT_THAT(server.NextLine(), HasSubstr(" killed by SIGKILL"));
    EXPECT_THAT(server.child().Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
  }
}

TEST(SupervisorTest, EndsWellHoweverOftenItIsAsked) {
  MoodyServer server({.options = {.drain_timeout = absl::Hours(24)}});
  Stream client = Connect(server);
  EXPECT_EQ(Ask(client, "x"), "x");
  constexpr std::array<int, 5> kSignals = {SIGTERM, SIGHUP, SIGINT, SIGUSR1,
                                           SIGTTIN};
  for (size_t i = 0; i < 50; ++i) {
    // It may have ended by then, which is what was asked for.
    if (!server.child().Signal(kSignals[i % kSignals.size()]).ok()) break;
  }
  EXPECT_THAT(server.child().Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(SupervisorTest, TellsTheModelWhyAndTakesEachStepOnce) {
  using Steps = std::vector<std::pair<int, EndCause>>;
  EXPECT_EQ(StepsOf({SIGTERM}, absl::ZeroDuration()),
            (Steps{{SIGTERM, EndCause::kDrain}, {SIGKILL, EndCause::kDrain}}));
  EXPECT_EQ(StepsOf({SIGQUIT}, absl::Hours(24)),
            (Steps{{SIGKILL, EndCause::kStop}}));
  // Of two that are pending the one with the lower number comes first.
  EXPECT_EQ(StepsOf({SIGTERM, SIGINT}, absl::Hours(24)),
            (Steps{{SIGKILL, EndCause::kStop}}));
  EXPECT_EQ(StepsOf({SIGTERM, SIGINT, SIGQUIT}, absl::Hours(24)),
            (Steps{{SIGKILL, EndCause::kStop}}));
}

// ---- What else signals ask for ----

TEST(SupervisorTest, NamesEachOfItsSignalsOnceAndSaysWhatItDoes) {
  const SignalSet supervised = SupervisedSignals();
  std::set<int> seen;
  for (const SupervisorSignal& signal : SupervisorSignals()) {
    EXPECT_TRUE(seen.insert(signal.signo).second) << signal.signo;
    EXPECT_TRUE(supervised.Contains(signal.signo)) << signal.signo;
    EXPECT_NE(signal.help, "");
  }
  EXPECT_EQ(supervised.ToVector().size(), seen.size() + 1);
  EXPECT_TRUE(supervised.Contains(SIGPIPE));
  EXPECT_FALSE(supervised.Contains(SIGUSR2));
  EXPECT_FALSE(supervised.Contains(SIGWINCH));
}

TEST(SupervisorTest, ServesOneMoreOnSigttinAndOneFewerOnSigttou) {
  MoodyServer server({.max_children = 2});
  server.Signal(SIGTTOU);
  EXPECT_EQ(server.NextLine(), "capacity 1 on SIGTTOU");
  server.Signal(SIGTTOU);
  EXPECT_EQ(server.NextLine(), "capacity 1 on SIGTTOU");
  server.Signal(SIGTTIN);
  EXPECT_EQ(server.NextLine(), "capacity 2 on SIGTTIN");
}

TEST(SupervisorTest, SaysThatThereIsNoLimitToRaise) {
  MoodyServer server({});
  server.Signal(SIGTTIN);
  EXPECT_EQ(server.NextLine(), "no limit to capacity on SIGTTIN");
}

TEST(SupervisorTest, SaysHowThingsStandOnSigusr1) {
  MoodyServer server({});
  Stream client = Connect(server);
  EXPECT_EQ(Ask(client, "x"), "x");
  server.Signal(SIGUSR1);
  EXPECT_THAT(server.NextLine(),
              MatchesRegex("serving: uptime [0-9.]+.?s active 1 waiting 0 "
                           "connections 1 turned_away 0 lost_lines 0"));
  server.Signal(SIGTERM);
  EXPECT_THAT(server.NextLine(), StartsWith("draining on SIGTERM"));
  server.Signal(SIGUSR1);
  EXPECT_THAT(server.NextLine(), StartsWith("draining: uptime "));
}

TEST(SupervisorTest, LogsInJsonFromTheFirstLineToTheLast) {
  MoodyServer server({.options = {.log_format = LogFormat::kJson}});
  const std::string listening =
      absl::StrCat(R"("message":")", server.ready_line(), R"(","addresses":")",
                   server.address(), R"(","model":"fork","service":"moody"})");
  EXPECT_THAT(server.lines_before_ready(),
              ElementsAre(AllOf(StartsWith(R"({"event":"listening","time":"2)"),
                                EndsWith(listening))));
  Stream client = Connect(server);
  EXPECT_EQ(Ask(client, "x"), "x");
  server.Signal(SIGUSR1);
  EXPECT_THAT(server.NextLine(),
              AllOf(StartsWith(R"({"event":"state","time":"2)"),
                    HasSubstr(R"("phase":"serving","uptime_seconds":)"),
                    EndsWith(R"("active":1,"waiting":0,"connections":1,)"
                             R"("turned_away":0,"lost_lines":0})")));
  server.Signal(SIGTERM);
  EXPECT_THAT(server.NextLine(),
              AllOf(StartsWith(R"({"event":"draining","time":"2)"),
                    EndsWith(R"("signal":"SIGTERM","inside":1,)"
                             R"("at_most_seconds":30})")));
  server.Signal(SIGQUIT);
  EXPECT_THAT(server.NextLine(),
              AllOf(StartsWith(R"({"event":"signalled","time":"2)"),
                    EndsWith(R"("signal":"SIGKILL","to":1})")));
  EXPECT_THAT(server.NextLine(),
              AllOf(StartsWith(R"({"event":"connection","time":"2)"),
                    HasSubstr(R"("signal":"SIGKILL")")));
  EXPECT_EQ(server.NextLine(), "");
}

TEST(SupervisorTest, ReadsAgainOnSighupAndServesOnIfThatFails) {
  int times = 0;
  MoodyServer server({.options = {.on_hangup = [&times] {
                        return ++times == 1 ? absl::OkStatus()
                                            : absl::InvalidArgumentError(
                                                  "rules:3:1: what?");
                      }}});
  server.Signal(SIGHUP);
  EXPECT_EQ(server.NextLine(), "read again on SIGHUP");
  server.Signal(SIGHUP);
  EXPECT_EQ(server.NextLine(),
            "SIGHUP: rules:3:1: what?; what was read before stays");
  Stream client = Connect(server);
  EXPECT_EQ(Ask(client, "still here"), "still here");
  server.Signal(SIGTERM);
  EXPECT_THAT(server.NextLine(), StartsWith("draining on SIGTERM"));
  server.Signal(SIGHUP);
  EXPECT_EQ(server.NextLine(), "SIGHUP: nothing is read again while draining");
}

TEST(SupervisorTest, LivesThroughASighupThatHasNothingToDo) {
  MoodyServer server({});
  server.Signal(SIGHUP);
  EXPECT_EQ(server.NextLine(), "SIGHUP: there is nothing to read again");
}

TEST(SupervisorTest, LeavesSighupIgnoredAsNohupAsks) {
  MoodyServer server({.before = [] { (void)std::signal(SIGHUP, SIG_IGN); }});
  // The lower number would come first.
  server.Signal(SIGHUP);
  server.Signal(SIGUSR1);
  EXPECT_THAT(server.NextLine(), StartsWith("serving: "));
}

TEST(SupervisorTest, LetsItsCallerWatchWithTheSameLoopAndLog) {
  Pipe orders;
  MoodyServer server(
      {.options = {.prepare = [&orders](PollLoop& loop,
                                        SuperviseOptions::Log log,
                                        const SuperviseOptions::State&) {
         loop.Watch(orders.reader.get(), [&orders, log = std::move(log)] {
           log({.name = "order", .sentence = orders.NextLine()});
           return absl::OkStatus();
         });
         return absl::OkStatus();
       }}});
  ASSERT_EQ(write(orders.writer.get(), "hello\n", 6), 6);
  EXPECT_EQ(server.NextLine(), "hello");
}

TEST(SupervisorTest, TellsItsCallerWhatItWouldLog) {
  Pipe orders;
  MoodyServer server(
      {.options = {.prepare = [&orders](PollLoop& loop,
                                        SuperviseOptions::Log log,
                                        SuperviseOptions::State state) {
         loop.Watch(orders.reader.get(), [&orders, log = std::move(log),
                                          state = std::move(state)] {
           (void)orders.NextLine();
           const LogEvent event = state();
           const LogField& first = event.fields.front();
           log({.name = "told",
                .sentence = absl::StrCat(event.name, ", ", first.name, " ",
                                         std::get<std::string>(first.value),
                                         ", ", event.sentence)});
           return absl::OkStatus();
         });
         return absl::OkStatus();
       }}});
  ASSERT_EQ(write(orders.writer.get(), "tell\n", 5), 5);
  EXPECT_THAT(server.NextLine(),
              StartsWith("state, phase serving, serving: uptime "));
}

TEST(SupervisorTest, DoesNotStartWhatIsNotPrepared) {
  FakeModel model;
  EXPECT_THAT(Supervise(model, {.prepare =
                                    [](PollLoop&, const SuperviseOptions::Log&,
                                       const SuperviseOptions::State&) {
                                      return absl::NotFoundError("rules");
                                    }}),
              StatusIs(absl::StatusCode::kNotFound, "rules"));
  EXPECT_FALSE(model.started());
}

// ---- The log ----

TEST(SupervisorTest, LosesLinesAndNoClientsWhenNobodyReadsItsLog) {
  constexpr int kMoreThanAPageOfLines = 150;
  // One at a time: who is served knows that the end of the one before has been
  // logged, or lost.
  MoodyServer server({.max_children = 1});
  server.ShrinkItsOutput();
  for (int i = 0; i < kMoreThanAPageOfLines; ++i) {
    Stream client = Connect(server);
    ASSERT_EQ(Ask(client, "x"), "x");
  }
  Stream last = Connect(server);
  ASSERT_EQ(Ask(last, "x"), "x");
  int written = 0;
  int lost = 0;
  while (written + lost < kMoreThanAPageOfLines) {
    const std::string line = server.NextLine();
    std::string_view count = line;
    if (absl::ConsumeSuffix(&count, " lines lost")) {
      int more = 0;
      ASSERT_TRUE(absl::SimpleAtoi(count, &more)) << line;
      lost += more;
    } else {
      EXPECT_THAT(line, HasSubstr(" exited 0 after "));
      ++written;
    }
  }
  EXPECT_GT(lost, 0);
  EXPECT_GT(written, 0);
  server.Signal(SIGUSR1);
  EXPECT_THAT(server.NextLine(), EndsWith(absl::StrCat(" lost_lines ", lost)));
}

TEST(SupervisorTest, LogsNothingIfThereIsToBeNoLog) {
  MoodyServer server({.options = {.log_format = std::nullopt}});
  for (const int signo : {SIGHUP, SIGUSR1, SIGTTIN}) server.Signal(signo);
  Stream client = Connect(server);
  EXPECT_EQ(Ask(client, "crash"), "");
  server.Signal(SIGTERM);
  EXPECT_EQ(server.NextLine(), "");
  EXPECT_THAT(server.child().Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(SupervisorTest, ListensToTheModelOnlyForTheSakeOfALog) {
  for (const bool log : {false, true}) {
    const Pipe output;
    FakeModel model;
    model.OnStart([](PollLoop&) { kill(getpid(), SIGTERM); });
    SuperviseOptions options = {.announce_fd = output.writer.get(),
                                .log_fd = output.writer.get()};
    if (!log) options.log_format = std::nullopt;
    EXPECT_THAT(Supervise(model, std::move(options)), IsOk());
    EXPECT_EQ(model.observers_ever(), log ? 3 : 0);
    EXPECT_EQ(model.observers_now(), 0);
  }
}

TEST(SupervisorTest, RefusesADescriptorThatTakesNoLines) {
  FakeModel model;
  EXPECT_EQ(ErrnoOf(Supervise(model, {.log_fd = -1})), EBADF);
  EXPECT_EQ(ErrnoOf(Supervise(model, {.announce_fd = -1})), EBADF);
  EXPECT_FALSE(model.started());
}

// ---- Whoever waits for it to be ready ----

TEST(SupervisorTest, SaysOnceOnADescriptorThatItIsReadyAndClosesIt) {
  Pipe ready;
  const MoodyServer server({.options = {.ready_fd = std::move(ready.writer)}});
  EXPECT_EQ(ready.NextLine(), server.ready_line());
  EXPECT_EQ(ready.NextLine(), "");  // Its end, while the server lives.
}

TEST(SupervisorTest, TellsAManagerHowItIsDoing) {
  Manager manager;
  MoodyServer server({.options = {.notifier = manager.notifier()}});
  const auto serving = [&](int inside) {
    return absl::StrCat("STATUS=serving on ", server.address(), ": ", inside,
                        " inside\n");
  };
  EXPECT_EQ(manager.Next(), absl::StrCat("READY=1\n", serving(0)));
  Stream client = Connect(server);
  EXPECT_EQ(Ask(client, "x"), "x");
  EXPECT_EQ(manager.Next(), serving(1));
  server.Signal(SIGHUP);
  EXPECT_THAT(manager.Next(), MatchesRegex("RELOADING=1\n"
                                           "MONOTONIC_USEC=[0-9]+\n"
                                           "STATUS=reading again\n"));
  EXPECT_EQ(manager.Next(), absl::StrCat("READY=1\n", serving(1)));
  server.Signal(SIGTERM);
  EXPECT_EQ(manager.Next(), "STOPPING=1\nSTATUS=draining: 1 inside\n");
}

TEST(SupervisorTest, SaysThatItIsAliveUntilItsEnd) {
  Manager manager;
  MoodyServer server({.options = {.notifier = manager.notifier(),
                                  .watchdog = absl::Milliseconds(5)}});
  EXPECT_THAT(manager.Next(), StartsWith("READY=1\n"));
  Stream client = Connect(server);
  EXPECT_EQ(Ask(client, "x"), "x");
  for (int i = 0; i < 10; ++i) EXPECT_EQ(manager.Next(), "WATCHDOG=1\n");
  server.Signal(SIGTERM);
  EXPECT_THAT(server.NextLine(), StartsWith("draining on SIGTERM: 1 inside"));
  manager.Forget();
  EXPECT_EQ(manager.Next(), "WATCHDOG=1\n");
}

TEST(SupervisorTest, TellsAManagerAgainThatItIsReadyIfThereWasNoRoom) {
  Manager manager;
  while (manager.notifier()->Status("a backlog").ok()) {
  }
  MoodyServer server({.options = {.notifier = manager.notifier()}});
  EXPECT_THAT(server.NextLine(), StartsWith("NOTIFY_SOCKET: send to "));
  manager.Forget();
  EXPECT_THAT(manager.Next(), StartsWith("READY=1\n"));
}

TEST(SupervisorTest, ServesOnWhenItsManagerDoesNotListen) {
  const Manager manager;
  MoodyServer server({.options = {.notifier = manager.notifier(),
                                  .watchdog = absl::ZeroDuration()}});
  EXPECT_THAT(server.NextLine(),
              MatchesRegex("NOTIFY_SOCKET: send to .*\\(EAGAIN\\)"));
  Stream client = Connect(server);
  EXPECT_EQ(Ask(client, "x"), "x");
  server.Signal(SIGHUP);  // The trouble is said once, not each time.
  EXPECT_EQ(server.NextLine(), "SIGHUP: there is nothing to read again");
}

// ---- PID 1 ----

TEST(SupervisorTest, TakesNoChildOfTheModelForAnOrphan) {
  // As children of an ordinary library are, which any wait would see.
  const auto fork_and_exit = [](int code) {
    const pid_t pid = fork();
    if (pid == 0) _exit(code);
    return pid;
  };
  absl::StatusOr<Child> mine = Child::Adopt(fork_and_exit(7));
  ASSERT_THAT(mine, IsOk());
  const pid_t other = fork_and_exit(8);
  ASSERT_THAT(PollUntil(mine->fd(), POLLIN, absl::InfiniteFuture()),
              IsOkAndHolds(true));
  Pipe log;
  std::string line;
  FakeModel model;
  model.Own(mine->pid());
  model.OnStart([&](PollLoop& loop) {
    loop.Watch(log.reader.get(), [&] {
      line = log.NextLine();
      loop.Unwatch(log.reader.get());
      kill(getpid(), SIGTERM);
      return absl::OkStatus();
    });
  });
  const UniqueFd nowhere(open("/dev/null", O_WRONLY | O_CLOEXEC));
  EXPECT_THAT(Supervise(model, {.announce_fd = nowhere.get(),
                                .log_fd = log.writer.get(),
                                .adopt_orphans = true}),
              IsOk());
  EXPECT_EQ(line, absl::StrCat("orphan ", other, " exited 8"));
  EXPECT_THAT(mine->Wait(), IsOkAndHolds(ExitStatus::Exited(7)));
}

TEST(SupervisorAsPidOneTest, ReapsAnOrphanAndStillDrains) {
  MoodyServer server({.as_pid_one = true});
  if (server.NotPermitted()) {
    GTEST_SKIP() << "no pid namespace with a /proc of its own is to be had";
  }
  Stream inside = Connect(server);
  EXPECT_EQ(Ask(inside, "before"), "before");
  Stream client = Connect(server);
  EXPECT_EQ(Ask(client, "orphan"), "orphan");
  EXPECT_THAT(server.NextLine(), HasSubstr(" exited 0 after "));
  ASSERT_THAT(client.Close(), IsOk());
  EXPECT_THAT(server.NextLine(), MatchesRegex("orphan [0-9]+ exited 0"));
  for (const int signo : {SIGHUP, SIGTTIN, SIGUSR1}) server.Signal(signo);
  std::set<std::string> said;
  for (int i = 0; i < 3; ++i) said.insert(server.NextLine());
  EXPECT_THAT(
      said, ElementsAre("SIGHUP: there is nothing to read again",
                        "no limit to capacity on SIGTTIN",
                        AllOf(StartsWith("serving: "), HasSubstr(" active 1 "),
                              HasSubstr(" orphans 0 "))));
  server.Signal(SIGTERM);
  EXPECT_THAT(server.NextLine(), StartsWith("draining on SIGTERM: 1 inside"));
  EXPECT_EQ(Ask(inside, "after"), "after");
  ASSERT_THAT(inside.Close(), IsOk());
  EXPECT_THAT(server.NextLine(), HasSubstr(" exited 0 after "));
  EXPECT_THAT(server.child().Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(SupervisorAsPidOneTest, PassesTheRequestToStopOnToOrphans) {
  MoodyServer server({.as_pid_one = true});
  if (server.NotPermitted()) {
    GTEST_SKIP() << "no pid namespace with a /proc of its own is to be had";
  }
  Stream client = Connect(server);
  EXPECT_EQ(Ask(client, "orphan"), "orphan");
  EXPECT_THAT(server.NextLine(), HasSubstr(" exited 0 after "));
  server.Signal(SIGTERM);
  EXPECT_THAT(server.NextLine(), StartsWith("draining on SIGTERM: 0 inside"));
  EXPECT_EQ(server.NextLine(), "nobody is inside: SIGTERM to 1 orphans");
  EXPECT_THAT(server.NextLine(),
              MatchesRegex("orphan [0-9]+ killed by SIGTERM"));
  EXPECT_THAT(server.child().Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(SupervisorAsPidOneTest, DoesNotWaitForAnOrphanThatIgnoresSigterm) {
  MoodyServer server({.as_pid_one = true});
  if (server.NotPermitted()) {
    GTEST_SKIP() << "no pid namespace with a /proc of its own is to be had";
  }
  Stream client = Connect(server);
  EXPECT_EQ(Ask(client, "orphan"), "orphan");
  EXPECT_THAT(server.NextLine(), HasSubstr(" exited 0 after "));
  EXPECT_EQ(Ask(client, "ignore"), "ignore");
  server.Signal(SIGTERM);
  EXPECT_THAT(server.NextLine(), StartsWith("draining on SIGTERM: 0 inside"));
  EXPECT_EQ(server.NextLine(), "nobody is inside: SIGTERM to 1 orphans");
  EXPECT_EQ(server.NextLine(), "ignored SIGTERM: SIGKILL to 1 orphans");
  EXPECT_THAT(server.child().Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
  EXPECT_EQ(Ask(client, "x"), "");
}

}  // namespace
}  // namespace brood
