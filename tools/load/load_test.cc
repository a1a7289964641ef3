// SPDX-License-Identifier: Apache-2.0
//
// The real load generator, as a person or a script sees it.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/log/check.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/tests/find_program.h"
#include "brood/tools/load/small_server.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

std::pair<UniqueFd, UniqueFd> MakePipe() {
  std::array<int, 2> ends;
  CHECK_EQ(pipe2(ends.data(), O_CLOEXEC), 0) << ErrnoStatus(errno, "pipe2");
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

std::string ReadAll(const UniqueFd& fd) {
  std::string text;
  std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t n = RetryOnEintr(
        [&] { return read(fd.get(), buffer.data(), buffer.size()); });
    CHECK_GE(n, 0) << ErrnoStatus(errno, "read");
    if (n == 0) return text;
    text.append(buffer.data(), static_cast<size_t>(n));
  }
}

// A program with its output in pipes, of which none holds more than fits.
class Program {
 public:
  Program(
      std::string path, const std::vector<std::string>& args,
      absl::FunctionRef<void()> before_exec = [] {})
      : out_(MakePipe()), err_(MakePipe()) {
    std::vector<const char*> argv = {path.c_str()};
    for (const std::string& arg : args) argv.push_back(arg.c_str());
    argv.push_back(nullptr);
    absl::StatusOr<Child> child = Fork({.parent_death_signal = SIGKILL}, [&] {
      if (dup2(out_.second.get(), STDOUT_FILENO) == -1 ||
          dup2(err_.second.get(), STDERR_FILENO) == -1) {
        return 127;
      }
      before_exec();
      execv(argv[0], const_cast<char* const*>(argv.data()));
      return 127;
    });
    CHECK_OK(child);
    child_ = *std::move(child);
    out_.second = UniqueFd();
    err_.second = UniqueFd();
  }

  void Signal(int signo) { CHECK_OK(child_->Signal(signo)); }

  struct End {
    std::string out;
    std::string err;
    std::optional<int> exit_code;
  };
  End Wait() {
    End end = {.out = ReadAll(out_.first),
               .err = ReadAll(err_.first),
               .exit_code = std::nullopt};
    const absl::StatusOr<ExitStatus> status = child_->Wait();
    CHECK_OK(status);
    end.exit_code = status->exit_code();
    return end;
  }

 private:
  std::pair<UniqueFd, UniqueFd> out_;
  std::pair<UniqueFd, UniqueFd> err_;
  std::optional<Child> child_;
};

std::string LoadBinary() {
  const char* binary = std::getenv("LOAD");
  CHECK(binary != nullptr) << "LOAD does not name the load generator's binary";
  return binary;
}

Program::End Load(std::vector<std::string> args) {
  return Program(LoadBinary(), args).Wait();
}

std::string To(const Address& address) {
  return absl::StrCat("--to=", address);
}

std::string ReadMessage(Stream& client) {
  std::string text(64, '\0');
  size_t have = 0;
  while (have < text.size()) {
    const absl::StatusOr<IoResult> got =
        client.Read(absl::MakeSpan(text).subspan(have));
    if (!got.ok() || got->end()) break;
    have += *got->bytes();
  }
  text.resize(have);
  return text;
}

TEST(LoadTest, AServerThatEchoesIsExitCode0AndASummary) {
  SmallServer server([](Stream client, int) { EchoAll(client); });
  const Program::End end = Load({To(server.address()), "--connections=100"});
  EXPECT_EQ(end.exit_code, 0) << end.out << end.err;
  EXPECT_THAT(end.out,
              AllOf(HasSubstr("connections        100 whole, "),
                    HasSubstr("messages           100 whole, "),
                    HasSubstr("\nround trip "), Not(HasSubstr("failed"))));
  EXPECT_THAT(end.err, IsEmpty());  // No terminal, no progress.
}

TEST(LoadTest, SeveralProcessesAndARateAreExitCode0) {
  SmallServer server([](Stream client, int) { EchoAll(client); });
  const Program::End end =
      Load({To(server.address()), "--connections=100", "--rate=1000",
            "--processes=2", "--from=127.0.0.2-127.0.0.9"});
  EXPECT_EQ(end.exit_code, 0) << end.out << end.err;
  EXPECT_THAT(end.out,
              AllOf(HasSubstr("of 2 processors"), HasSubstr("late at p99")));
}

TEST(LoadTest, NobodyListeningIsExitCode14) {
  const Program::End end = Load({To(Nowhere()), "--connections=5"});
  EXPECT_EQ(end.exit_code, 14);
  EXPECT_THAT(end.out, HasSubstr(" 5 refused: nothing listens there"));
}

TEST(LoadTest, AServerThatClosesInTheMiddleIsExitCode12) {
  SmallServer server([](Stream client, int) {
    const std::string message = ReadMessage(client);
    CHECK_OK(client.WriteAll(std::string_view(message).substr(0, 10)));
  });
  const Program::End end = Load({To(server.address()), "--connections=5"});
  EXPECT_EQ(end.exit_code, 12);
  EXPECT_THAT(end.out, HasSubstr(" 5 closed before the answer was whole"));
}

TEST(LoadTest, AServerThatClosesAtOnceIsExitCode17) {
  SmallServer server([](Stream, int) {});
  const Program::End end = Load({To(server.address()), "--connections=5"});
  EXPECT_EQ(end.exit_code, 17);
  EXPECT_THAT(end.out,
              HasSubstr(" 5 closed or reset without a byte of an answer"));
}

TEST(LoadTest, AServerThatResetsIsExitCode11) {
  SmallServer server([](Stream client, int) {
    const std::string message = ReadMessage(client);
    CHECK_OK(client.WriteAll(message));
    (void)ReadMessage(client);
    CHECK_OK(client.Reset());
  });
  const Program::End end =
      Load({To(server.address()), "--connections=5", "--messages=2"});
  EXPECT_EQ(end.exit_code, 11);
  EXPECT_THAT(end.out, HasSubstr(" 5 reset in the middle"));
}

TEST(LoadTest, AServerThatNeverAnswersIsExitCode13) {
  std::vector<Stream> held;
  SmallServer server(
      [&](Stream client, int) { held.push_back(std::move(client)); });
  const Program::End end =
      Load({To(server.address()), "--connections=5", "--timeout=50ms"});
  EXPECT_EQ(end.exit_code, 13);
  EXPECT_THAT(end.out, HasSubstr(" 5 timed out"));
}

TEST(LoadTest, AServerThatEchoesWrongBytesIsExitCode10) {
  SmallServer server([](Stream client, int) {
    EchoAll(client, [](char* begin, char*) { *begin ^= 1; });
  });
  const Program::End end = Load({To(server.address()), "--connections=5"});
  EXPECT_EQ(end.exit_code, 10);
  EXPECT_THAT(end.out, HasSubstr(" 5 answered with wrong bytes"));
}

TEST(LoadTest, WithoutRoomForAllAtOnceItIsExitCode1) {
  const Address nowhere = Nowhere();
  const Program::End end =
      Program(LoadBinary(), {To(nowhere), "--connections=5"}, [] {
        const rlimit few = {.rlim_cur = 40, .rlim_max = 40};
        (void)setrlimit(RLIMIT_NOFILE, &few);
      }).Wait();
  EXPECT_EQ(end.exit_code, 1);
  EXPECT_THAT(end.err, AllOf(StartsWith("load: 16 connections at once: this "
                                        "process may have 40 descriptors"),
                             HasSubstr("\n")));
}

TEST(LoadTest, AMistakeInTheFlagsIsExitCode2AndOneLine) {
  const Program::End end = Load({"--size=0"});
  EXPECT_EQ(end.exit_code, 2);
  EXPECT_EQ(end.err,
            "load: --size=\"0\": allowed is a number from 1 to 1073741824\n");
  EXPECT_THAT(end.out, IsEmpty());
}

TEST(LoadTest, ASourceThatIsNotOfThisMachineIsExitCode1) {
  const Program::End end = Load({To(Nowhere()), "--from=192.0.2.1"});
  EXPECT_EQ(end.exit_code, 1);
  EXPECT_THAT(end.err, StartsWith("load: come from 192.0.2.1:0: "));
}

TEST(LoadTest, HelpIsExitCode0) {
  const Program::End end = Load({"--help"});
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_THAT(end.out, HasSubstr("usage: load [flags]"));
}

TEST(LoadTest, ASignalEndsItWithASummary) {
  for (const char* processes : {"--processes=1", "--processes=2"}) {
    auto [came, come] = MakePipe();
    std::vector<Stream> held;
    SmallServer server([&, fd = come.get()](Stream client, int) {
      held.push_back(std::move(client));
      CHECK_EQ(write(fd, "x", 1), 1);
    });
    Program load(LoadBinary(), {To(server.address()), "--duration=1h",
                                "--timeout=1h", "--concurrency=2", processes});
    char byte;
    for (int i = 0; i < 2; ++i) CHECK_EQ(read(came.get(), &byte, 1), 1);
    load.Signal(SIGINT);
    const Program::End end = load.Wait();
    EXPECT_THAT(end.out, HasSubstr("stopped; 2 were open"));
    EXPECT_EQ(end.exit_code, 0) << end.err;
  }
}

TEST(LoadTest, JsonIsWhatAParserTakes) {
  const std::optional<std::string> python = FindProgram("python3");
  if (!python.has_value()) GTEST_SKIP() << NoProgram("python3");
  SmallServer server([](Stream client, int number) {
    if (number < 10) EchoAll(client);
  });
  const Program::End load = Load({To(server.address()), "--connections=12",
                                  "--concurrency=1", "--output=json"});
  EXPECT_EQ(load.exit_code, 17);
  const Program::End parsed =
      Program(*python,
              {"-c",
               "import json, sys\n"
               "load = json.loads(sys.argv[1])\n"
               "print(load['whole'], load['failed'], load['plan']['to'][0],\n"
               "      load['connection_us']['count'],\n"
               "      load['connection_us']['p99.99'] > 0,\n"
               "      load['exit_code'], load['generator']['processes'])\n",
               load.out})
          .Wait();
  EXPECT_EQ(parsed.out, absl::StrCat("10 2 ", server.address(), " 10 True ",
                                     *load.exit_code, " 1\n"))
      << parsed.err;
}

}  // namespace
}  // namespace brood
