// SPDX-License-Identifier: Apache-2.0
#include "brood/net/activation.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/tests/find_program.h"
#include "brood/tests/in_child.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::Eq;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr pid_t kSelf = 4711;

absl::Time Soon() { return absl::Now() + absl::Seconds(20); }

ActivationVariables Variables(std::optional<std::string> pid,
                              std::optional<std::string> fds,
                              std::optional<std::string> names = std::nullopt) {
  return {.listen_pid = std::move(pid),
          .listen_fds = std::move(fds),
          .listen_fdnames = std::move(names)};
}

TEST(ActivatedNamesTest, NamesEachDescriptor) {
  EXPECT_THAT(ActivatedNames(Variables("4711", "2", "web:admin"), kSelf),
              IsOkAndHolds(ElementsAre("web", "admin")));
  EXPECT_THAT(ActivatedNames(Variables("4711", "1", "web"), kSelf),
              IsOkAndHolds(ElementsAre("web")));
  EXPECT_THAT(ActivatedNames(Variables("4711", "3", "a::a"), kSelf),
              IsOkAndHolds(ElementsAre("a", "", "a")));
  EXPECT_THAT(ActivatedNames(Variables("4711", "1", ""), kSelf),
              IsOkAndHolds(ElementsAre("")));
  EXPECT_THAT(ActivatedNames(Variables("4711", "2"), kSelf),
              IsOkAndHolds(ElementsAre("unknown", "unknown")));
  EXPECT_THAT(ActivatedNames(Variables("4711", "4096"), kSelf),
              IsOkAndHolds(SizeIs(4096)));
  EXPECT_THAT(
      ActivatedNames(Variables("4711", "1", std::string(255, 'x')), kSelf),
      IsOkAndHolds(ElementsAre(std::string(255, 'x'))));
}

TEST(ActivatedNamesTest, IgnoresWhatIsForNobodyOrForAnother) {
  for (const ActivationVariables& variables :
       {Variables(std::nullopt, std::nullopt), Variables(std::nullopt, "1"),
        Variables(std::nullopt, "nonsense", "x"),
        Variables("4711", std::nullopt), Variables("4712", "1"),
        Variables("4712", "nonsense"), Variables("4712", "1", "a:b"),
        Variables("4711", "0"), Variables("4711", "0", "")}) {
    EXPECT_THAT(ActivatedNames(variables, kSelf), IsOkAndHolds(IsEmpty()));
  }
}

TEST(ActivatedNamesTest, QuotesWhatMeansNothing) {
  const std::string pid = "expected a number from 1 to 2147483647";
  const std::string fds = "expected a number from 0 to 4096";
  const struct {
    ActivationVariables variables;
    std::string message;
  } kCases[] = {
      {Variables("", "1"), "LISTEN_PID=\"\": " + pid},
      {Variables("0", "1"), "LISTEN_PID=\"0\": " + pid},
      {Variables("-1", "1"), "LISTEN_PID=\"-1\": " + pid},
      {Variables("+4711", "1"), "LISTEN_PID=\"+4711\": " + pid},
      {Variables(" 4711", "1"), "LISTEN_PID=\" 4711\": " + pid},
      {Variables("4711\n", "1"), "LISTEN_PID=\"4711\\n\": " + pid},
      {Variables("04711", "1"), "LISTEN_PID=\"04711\": " + pid},
      {Variables("0x1267", "1"), "LISTEN_PID=\"0x1267\": " + pid},
      {Variables("4294972007", "1"), "LISTEN_PID=\"4294972007\": " + pid},
      {Variables("4711", ""), "LISTEN_FDS=\"\": " + fds},
      {Variables("4711", "-1"), "LISTEN_FDS=\"-1\": " + fds},
      {Variables("4711", "01"), "LISTEN_FDS=\"01\": " + fds},
      {Variables("4711", "4097"), "LISTEN_FDS=\"4097\": " + fds},
      {Variables("4711", "2147483647"), "LISTEN_FDS=\"2147483647\": " + fds},
      {Variables("4711", "4294967297"), "LISTEN_FDS=\"4294967297\": " + fds},
      {Variables("4711", "99999999999999999999"),
       "LISTEN_FDS=\"99999999999999999999\": " + fds},
      {Variables("4711", "1 "), "LISTEN_FDS=\"1 \": " + fds},
      {Variables("4711", "2", "web"),
       "LISTEN_FDNAMES=\"web\": expected as many names as LISTEN_FDS says, 2, "
       "not 1"},
      {Variables("4711", "2", ""),
       "LISTEN_FDNAMES=\"\": expected as many names as LISTEN_FDS says, 2, "
       "not 0"},
      {Variables("4711", "1", "web:admin"),
       "LISTEN_FDNAMES=\"web:admin\": expected as many names as LISTEN_FDS "
       "says, 1, not 2"},
      {Variables("4711", "0", "web"),
       "LISTEN_FDNAMES=\"web\": expected as many names as LISTEN_FDS says, 0, "
       "not 1"},
      {Variables("4711", "1", "w\xc3\xa9z"),
       "LISTEN_FDNAMES=\"w\\xc3\\xa9z\": expected names of at most 255 "
       "characters of printable ASCII"},
  };
  for (const auto& [variables, message] : kCases) {
    EXPECT_THAT(ActivatedNames(variables, kSelf),
                StatusIs(absl::StatusCode::kInvalidArgument, Eq(message)));
  }
  EXPECT_THAT(
      ActivatedNames(Variables("4711", "1", std::string(256, 'x')), kSelf),
      StatusIs(absl::StatusCode::kInvalidArgument,
               EndsWith("expected names of at most 255 characters of printable "
                        "ASCII")));
}

TEST(ActivationVariablesTest, TellNotSetFromEmpty) {
  // The environment is the process's, so a child's is changed.
  EXPECT_EQ(InChild([] {
              UnsetActivationVariables();
              setenv("LISTEN_FDS", "", 1);
              setenv("LISTEN_FDNAMES", "a:b", 1);
              const auto set = ActivationVariables::FromEnvironment();
              EXPECT_EQ(set.listen_pid, std::nullopt);
              EXPECT_EQ(set.listen_fds, "");
              EXPECT_EQ(set.listen_fdnames, "a:b");
              UnsetActivationVariables();
              EXPECT_EQ(getenv("LISTEN_FDS"), nullptr);
              EXPECT_EQ(getenv("LISTEN_FDNAMES"), nullptr);
              return testing::Test::HasFailure() ? 1 : 0;
            }),
            0);
}

// ---- In a child, whose descriptors from 3 on are what a starter leaves ----

// Leaves a copy of each of `fds`, or nothing for -1, at 3 and up.
void HandOver(const std::vector<int>& fds) {
  std::vector<int> copies;
  for (const int fd : fds) {
    copies.push_back(fd == -1 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 100));
  }
  int next = kFirstActivatedFd;
  for (const int fd : copies) {
    (void)close(next);
    if (fd != -1) {
      EXPECT_EQ(dup2(fd, next), next);
    }
    ++next;
  }
}

ActivationVariables ForMe(std::string fds,
                          std::optional<std::string> names = std::nullopt) {
  return Variables(absl::StrCat(getpid()), std::move(fds), std::move(names));
}

int InChildThatMayFail(absl::FunctionRef<void()> body) {
  return InChild([&] {
    body();
    return testing::Test::HasFailure() ? 1 : 0;
  });
}

Listener AnyListener() {
  return *Listener::Open(*Address::Parse("127.0.0.1:0"));
}

absl::StatusOr<UniqueFd> HttpSocket() {
  absl::StatusOr<std::vector<ActivatedSocket>> sockets =
      AdoptActivatedSockets(ActivationVariables::FromEnvironment());
  if (!sockets.ok()) return sockets.status();
  for (ActivatedSocket& socket : *sockets) {
    if (socket.name == "http" && socket.listening) {
      return std::move(socket.fd);
    }
  }
  return absl::NotFoundError("nobody has opened a socket named http");
}

TEST(AdoptActivatedSocketsTest, HeaderExample) {
  const Listener listener = AnyListener();
  EXPECT_EQ(InChildThatMayFail([&] {
              EXPECT_THAT(HttpSocket(), StatusIs(absl::StatusCode::kNotFound));
              HandOver({listener.fd()});
              setenv("LISTEN_PID", absl::StrCat(getpid()).c_str(), 1);
              setenv("LISTEN_FDS", "1", 1);
              setenv("LISTEN_FDNAMES", "http", 1);
              const absl::StatusOr<UniqueFd> http = HttpSocket();
              ASSERT_THAT(http, IsOk());
              EXPECT_THAT(LocalAddressOf(http->get()),
                          IsOkAndHolds(listener.address()));
            }),
            0);
}

TEST(AdoptActivatedSocketsTest, OwnsEachOfThemAndMakesItCloseOnExec) {
  const Listener listener = AnyListener();
  absl::StatusOr<Stream> client = Stream::Connect(listener.address());
  ASSERT_THAT(client, IsOk());
  const UniqueFd datagrams(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(InChildThatMayFail([&] {
              HandOver({listener.fd(), client->fd(), datagrams.get()});
              {
                const absl::StatusOr<std::vector<ActivatedSocket>> sockets =
                    AdoptActivatedSockets(ForMe("3", "web:client:dns"));
                ASSERT_THAT(sockets, IsOkAndHolds(SizeIs(3)));
                EXPECT_EQ((*sockets)[0].name, "web");
                EXPECT_TRUE((*sockets)[0].listening);
                EXPECT_EQ((*sockets)[1].name, "client");
                EXPECT_FALSE((*sockets)[1].listening);
                EXPECT_EQ((*sockets)[2].name, "dns");
                EXPECT_FALSE((*sockets)[2].listening);
                for (int fd = 3; fd < 6; ++fd) {
                  EXPECT_EQ((*sockets)[fd - 3].fd.get(), fd);
                  EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
                }
                // The starter's own.
                EXPECT_NE(fcntl(3, F_GETFL) & O_NONBLOCK, 0);
                EXPECT_EQ(fcntl(4, F_GETFL) & O_NONBLOCK, 0);
              }
              for (int fd = 3; fd < 6; ++fd) EXPECT_EQ(fcntl(fd, F_GETFD), -1);
            }),
            0);
}

TEST(AdoptActivatedSocketsTest, TakesNothingIfOneOfThemIsWrong) {
  const Listener listener = AnyListener();
  const UniqueFd file(open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(InChildThatMayFail([&] {
              HandOver({listener.fd(), -1});
              const absl::Status closed =
                  AdoptActivatedSockets(ForMe("2", "web:admin")).status();
              EXPECT_THAT(
                  closed,
                  StatusIs(absl::StatusCode::kFailedPrecondition,
                           "activated descriptor 4 (\"admin\"): Bad file "
                           "descriptor (EBADF)"));
              EXPECT_EQ(ErrnoOf(closed), EBADF);
              EXPECT_EQ(fcntl(3, F_GETFD), 0);
            }),
            0);
  EXPECT_EQ(InChildThatMayFail([&] {
              HandOver({listener.fd(), file.get()});
              const absl::Status no_socket =
                  AdoptActivatedSockets(ForMe("2")).status();
              EXPECT_EQ(ErrnoOf(no_socket), ENOTSOCK);
              EXPECT_THAT(no_socket.message(),
                          HasSubstr("activated descriptor 4 (\"unknown\")"));
              EXPECT_EQ(fcntl(3, F_GETFD), 0);
              EXPECT_EQ(fcntl(4, F_GETFD), 0);
              EXPECT_EQ(ErrnoOf(AdoptActivatedSockets(ForMe("4096")).status()),
                        ENOTSOCK);
            }),
            0);
}

TEST(AdoptActivatedSocketsTest, MakesNobodyASecondOwner) {
  const Listener listener = AnyListener();
  EXPECT_EQ(InChildThatMayFail([&] {
              HandOver({listener.fd()});
              const auto first = AdoptActivatedSockets(ForMe("1"));
              EXPECT_THAT(first, IsOkAndHolds(SizeIs(1)));
              EXPECT_THAT(AdoptActivatedSockets(ForMe("1")),
                          StatusIs(absl::StatusCode::kFailedPrecondition,
                                   EndsWith("it has been adopted already, or "
                                            "opened since")));
              EXPECT_EQ(fcntl(3, F_GETFD), FD_CLOEXEC);
            }),
            0);
}

TEST(AdoptActivatedSocketsTest, TakesNothingThatIsForAnotherProcess) {
  const Listener listener = AnyListener();
  EXPECT_EQ(InChildThatMayFail([&] {
              HandOver({listener.fd()});
              const ActivationVariables parents =
                  Variables(absl::StrCat(getppid()), "1");
              EXPECT_THAT(AdoptActivatedSockets(parents),
                          IsOkAndHolds(IsEmpty()));
              EXPECT_EQ(fcntl(3, F_GETFD), 0);
            }),
            0);
}

// ---- A real starter ----

constexpr std::string_view kStarter = "systemd-socket-activate";

class SystemdSocketActivateTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!program_.has_value()) GTEST_SKIP() << NoProgram(kStarter);
  }
  void TearDown() override {
    if (pid_ == -1) return;
    kill(pid_, SIGKILL);
    WaitForChild(pid_);
  }

  // Starts it with `arguments` and the program that answers; returns once it
  // has said `ready`.
  void Start(std::vector<std::string> arguments, std::string_view ready) {
    arguments.insert(arguments.begin(), *program_);
    arguments.push_back(getenv("ACTIVATED"));
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    std::array<int, 2> ends;
    ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
    log_ = UniqueFd(ends[0]);
    const UniqueFd writer(ends[1]);
    pid_ = StartInChild([&] {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (dup2(writer.get(), STDERR_FILENO) == -1) return 126;
      execv(program_->c_str(), argv.data());
      return 127;
    });
    std::string log;
    while (!absl::StrContains(log, ready)) {
      ASSERT_THAT(PollUntil(log_.get(), POLLIN, Soon()), IsOkAndHolds(true));
      std::array<char, 256> buffer;
      const ssize_t n = read(log_.get(), buffer.data(), buffer.size());
      ASSERT_GT(n, 0) << log;
      log.append(buffer.data(), n);
    }
  }

  // All that whoever listens at `address` has to say.
  static std::string Hear(const Address& address) {
    absl::StatusOr<Stream> stream = Stream::Connect(address, Soon());
    if (!stream.ok()) return stream.status().ToString();
    std::string text;
    std::array<char, 256> buffer;
    for (;;) {
      const absl::StatusOr<IoResult> got =
          stream->Read(absl::MakeSpan(buffer), Soon());
      if (!got.ok()) return got.status().ToString();
      if (got->end()) return text;
      text.append(buffer.data(), *got->bytes());
    }
  }

  static Address Abstract() {
    std::random_device random;
    return *Address::UnixAbstract(
        absl::StrCat("brood/activation_test/", random(), "/", random()));
  }
  static std::string Listen(const Address& address) {
    return absl::StrCat("--listen=@", *address.unix_abstract_name());
  }

  std::optional<std::string> program_ = FindProgram(kStarter);
  UniqueFd log_;  // Kept open: it may have more to say.
  pid_t pid_ = -1;
};

TEST_F(SystemdSocketActivateTest, HandsListenersOverWithTheirNames) {
  const Address web = Abstract();
  const Address admin = Abstract();
  Start({Listen(web), Listen(admin), "--fdname=web:admin"}, "as 4.");
  EXPECT_EQ(Hear(web), "web listens\nadmin listens\n");
  EXPECT_EQ(WaitForChild(std::exchange(pid_, -1)), 0);
}

TEST_F(SystemdSocketActivateTest, HandsAConnectionOverWhereItAccepts) {
  const Address web = Abstract();
  Start({Listen(web), "--accept"}, "as 3.");
  // Which name it has depends on the version.
  EXPECT_THAT(Hear(web), EndsWith(" is connected\n"));
}

}  // namespace
}  // namespace brood
