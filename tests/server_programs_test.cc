// SPDX-License-Identifier: Apache-2.0
//
// The real server runs programs that people have, unchanged.
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/posix.h"
#include "brood/proc/spawn.h"
#include "brood/tests/find_program.h"
#include "brood/tests/server_process.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Optional;

ServerProcess StartServer(std::vector<std::string> more) {
  std::vector<std::string> args = {"--listen=127.0.0.1:0"};
  args.insert(args.end(), more.begin(), more.end());
  return ServerProcess(args);
}

Stream Connect(const ServerProcess& server) {
  absl::StatusOr<Stream> stream = Stream::Connect(server.address());
  EXPECT_THAT(stream, IsOk());
  return *std::move(stream);
}

std::string ReadAll(Stream& stream) {
  std::string all;
  std::array<char, 65536> buffer;
  for (;;) {
    const absl::StatusOr<IoResult> got = stream.Read(absl::MakeSpan(buffer));
    if (!got.ok() || got->end()) return all;
    all.append(buffer.data(), *got->bytes());
  }
}

// What the server answers to `text` and an end.
std::string Answer(const ServerProcess& server, std::string_view text) {
  Stream client = Connect(server);
  EXPECT_THAT(client.WriteAll(text), IsOk());
  EXPECT_THAT(client.ShutdownWrite(), IsOk());
  return ReadAll(client);
}

TEST(ServerProgramsTest, CatEchoes) {
  ServerProcess server = StartServer({"--", "cat"});
  EXPECT_EQ(Answer(server, "meow"), "meow");
  EXPECT_THAT(server.NextLogLine(),
              Optional(AllOf(HasSubstr("exited 0"), HasSubstr("/cat"),
                             HasSubstr("bytes_in 4 bytes_out 4"))));
}

TEST(ServerProgramsTest, AShellKnowsWhoItTalksTo) {
  ServerProcess server = StartServer(
      {"--keep_env=KEPT", "--", "sh", "-c",
       "read line; echo \"$PROTO $TCPREMOTEIP $TCPCONNNUM $line $HOME\""});
  EXPECT_EQ(Answer(server, "hello\n"), "TCP 127.0.0.1 1 hello \n");
}

TEST(ServerProgramsTest, ACrashIsToldByItsSignal) {
  ServerProcess server = StartServer({"--", "sh", "-c", "kill -SEGV $$"});
  EXPECT_EQ(Answer(server, ""), "");
  EXPECT_THAT(server.NextLogLine(), Optional(HasSubstr("killed by SIGSEGV")));
}

TEST(ServerProgramsTest, PythonWritesToTheClient) {
  const std::optional<std::string> python = FindProgram("python3");
  if (!python.has_value()) GTEST_SKIP() << NoProgram("python3");
  ServerProcess server =
      StartServer({"--", *python, "-c",
                   "import sys; print(sys.stdin.readline().upper(), end='')"});
  EXPECT_EQ(Answer(server, "shout\n"), "SHOUT\n");
}

// Runs a program to its end, quietly.
int RunToItsEnd(const std::vector<std::string>& argv,
                const std::vector<std::string>& env) {
  absl::StatusOr<Child> child = Spawn(argv, {.env = env});
  EXPECT_THAT(child, IsOk());
  if (!child.ok()) return -1;
  const absl::StatusOr<ExitStatus> status = child->Wait();
  EXPECT_THAT(status, IsOk());
  return status.ok() ? status->exit_code().value_or(-1) : -1;
}

TEST(ServerProgramsTest, ARepositoryIsClonedThroughGitDaemon) {
  const std::optional<std::string> git = FindProgram("git");
  if (!git.has_value()) GTEST_SKIP() << NoProgram("git");
  std::string folder = absl::StrCat(testing::TempDir(), "/git.XXXXXX");
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const std::vector<std::string> env = {absl::StrCat("HOME=", folder),
                                        absl::StrCat("PATH=", getenv("PATH")),
                                        "GIT_CONFIG_NOSYSTEM=1",
                                        "GIT_AUTHOR_NAME=a",
                                        "GIT_AUTHOR_EMAIL=a@example.org",
                                        "GIT_COMMITTER_NAME=a",
                                        "GIT_COMMITTER_EMAIL=a@example.org"};
  const std::string origin = absl::StrCat(folder, "/origin");
  ASSERT_EQ(RunToItsEnd({*git, "init", "--quiet", origin}, env), 0);
  std::ofstream(absl::StrCat(origin, "/file")) << std::string(100'000, 'x');
  ASSERT_EQ(RunToItsEnd({*git, "-C", origin, "add", "file"}, env), 0);
  ASSERT_EQ(
      RunToItsEnd({*git, "-C", origin, "commit", "--quiet", "-m", "one"}, env),
      0);
  ServerProcess server = StartServer(
      {"--", *git, "-c", "safe.directory=*", "daemon", "--inetd",
       "--export-all", absl::StrCat("--base-path=", folder), folder});
  const std::string clone = absl::StrCat(folder, "/clone");
  EXPECT_EQ(RunToItsEnd({*git, "clone", "--quiet",
                         absl::StrCat("git://127.0.0.1:",
                                      *server.address().port(), "/origin"),
                         clone},
                        env),
            0);
  EXPECT_EQ(std::filesystem::file_size(absl::StrCat(clone, "/file")), 100'000);
  std::filesystem::remove_all(folder);
}

// recordio of ucspi-tcp tells what passes, and runs the next of the chain.
TEST(ServerProgramsTest, AUcspiChainRunsUnchanged) {
  const std::optional<std::string> recordio = FindProgram("recordio");
  if (!recordio.has_value()) GTEST_SKIP() << NoProgram("recordio");
  ServerProcess server = StartServer({"--", *recordio, "cat"});
  EXPECT_EQ(Answer(server, "chained\n"), "chained\n");
  EXPECT_THAT(server.NextLogLineWith(" < "), Optional(HasSubstr("chained")));
}

TEST(ServerProgramsTest, AProgramThatIsNotThereIsFoundAtTheStart) {
  ServerProcess server = StartServer({"--", "/no/such/program"});
  EXPECT_EQ(server.ready_line(), "");
  EXPECT_EQ(server.RestOfLog(),
            "server: program \"/no/such/program\": No such file or directory "
            "(ENOENT)\n");
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(1));
}

TEST(ServerProgramsTest, AProgramEndsWithTheServer) {
  ServerProcess server = StartServer({"--drain_timeout=0s", "--", "cat"});
  Stream client = Connect(server);
  ASSERT_THAT(client.WriteAll("x"), IsOk());
  std::array<char, 1> byte;
  ASSERT_THAT(client.Read(absl::MakeSpan(byte)), IsOk());
  server.Signal(SIGTERM);
  EXPECT_EQ(ReadAll(client), "");
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
}

}  // namespace
}  // namespace brood
