// SPDX-License-Identifier: Apache-2.0
#include "brood/server/exec_handler.h"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/posix.h"
#include "brood/server/connection_handler.h"
#include "brood/server/fork_per_connection.h"
#include "brood/server/program_run.h"
#include "brood/server/supervisor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::testing::AllOf;
using ::testing::HasSubstr;

absl::Status ServeCat(const Address& address) {
  absl::StatusOr<Listener> listener = Listener::Open(address, {});
  if (!listener.ok()) return listener.status();
  absl::StatusOr<std::unique_ptr<ExecHandler>> cat =
      ExecHandler::Create({"cat"}, {});
  if (!cat.ok()) return cat.status();  // There is none, and why.
  auto model = ForkPerConnection::Create(*std::move(listener), **cat, {});
  if (!model.ok()) return model.status();
  return Supervise(**model, {});
}

absl::StatusOr<ExitStatus> RunFor(Stream& client, ConnectionHandler& cat) {
  absl::StatusOr<ProgramRun> run = ProgramRun::Create();
  if (!run.ok()) return run.status();
  absl::StatusOr<ProgramRun::End> end = run->Run(cat, client, {}, {});
  if (!end.ok()) return end.status();  // It has not run, and why.
  return end->status;
}

// Two ends of a TCP connection.
struct Pair {
  Pair() {
    absl::StatusOr<Listener> listener =
        Listener::Open(*Address::Parse("127.0.0.1:0"));
    EXPECT_THAT(listener, IsOk());
    absl::StatusOr<Stream> connected = Stream::Connect(listener->address());
    EXPECT_THAT(connected, IsOk());
    client = std::make_unique<Stream>(*std::move(connected));
    absl::StatusOr<std::optional<Accepted>> accepted = listener->Accept();
    EXPECT_THAT(accepted, IsOk());
    server = std::make_unique<Stream>((**std::move(accepted)).stream);
    info = {.local = listener->address(), .peer = server->peer(), .id = 7};
  }
  std::unique_ptr<Stream> client;
  std::unique_ptr<Stream> server;
  ConnectionInfo info;
};

std::string ReadAll(Stream& stream) {
  std::string all;
  std::array<char, 4096> buffer;
  for (;;) {
    const absl::StatusOr<IoResult> got = stream.Read(absl::MakeSpan(buffer));
    if (!got.ok() || got->end()) return all;
    all.append(buffer.data(), *got->bytes());
  }
}

std::unique_ptr<ExecHandler> MustCreate(std::vector<std::string> argv,
                                        const ExecHandler::Options& options) {
  absl::StatusOr<std::unique_ptr<ExecHandler>> handler =
      ExecHandler::Create(std::move(argv), options);
  EXPECT_THAT(handler, IsOk());
  return *std::move(handler);
}

TEST(ExecHandlerTest, HeaderExampleNeedsAnAddress) {
  EXPECT_EQ(ErrnoOf(ServeCat(*Address::Parse("192.0.2.1:0"))), EADDRNOTAVAIL);
}

TEST(ExecHandlerTest, GivesTheConnectionToTheProgram) {
  const std::unique_ptr<ExecHandler> cat = MustCreate({"cat"}, {});
  EXPECT_EQ(cat->name(), "cat");
  EXPECT_THAT(*cat->program(), testing::EndsWith("/cat"));
  Pair pair;
  absl::StatusOr<Child> child = cat->Start(*pair.server, pair.info, {});
  ASSERT_THAT(child, IsOk());
  ASSERT_THAT(pair.server->Close(), IsOk());
  ASSERT_THAT(pair.client->WriteAll("meow"), IsOk());
  ASSERT_THAT(pair.client->ShutdownWrite(), IsOk());
  EXPECT_EQ(ReadAll(*pair.client), "meow");
  EXPECT_THAT(child->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(ExecHandlerTest, TellsTheProgramOfTheConnectionAndNothingElse) {
  ASSERT_EQ(setenv("KEPT", "yes", 1), 0);
  ASSERT_EQ(setenv("SECRET", "no", 1), 0);
  const std::unique_ptr<ExecHandler> env =
      MustCreate({"env"}, {.keep_env = "KEPT"});
  Pair pair;
  pair.info.connections_of_source = 3;
  EXPECT_EQ(env->Handle(*pair.server, pair.info), 0);
  ASSERT_THAT(pair.server->Close(), IsOk());
  EXPECT_THAT(
      ReadAll(*pair.client),
      AllOf(HasSubstr("PROTO=TCP\n"), HasSubstr("TCPREMOTEIP=127.0.0.1\n"),
            HasSubstr("TCPCONNNUM=3\n"), HasSubstr("KEPT=yes\n"),
            testing::Not(HasSubstr("SECRET"))));
}

TEST(ExecHandlerTest, SendsStandardErrorToTheClientIfAsked) {
  const std::unique_ptr<ExecHandler> shell = MustCreate(
      {"sh", "-c", "echo out; echo err >&2"}, {.stderr_to_socket = true});
  Pair pair;
  EXPECT_EQ(shell->Handle(*pair.server, pair.info), 0);
  ASSERT_THAT(pair.server->Close(), IsOk());
  EXPECT_EQ(ReadAll(*pair.client), "out\nerr\n");
}

TEST(ExecHandlerTest, SaysHowTheProgramEnded) {
  Pair pair;
  EXPECT_EQ(
      MustCreate({"sh", "-c", "exit 7"}, {})->Handle(*pair.server, pair.info),
      7);
  EXPECT_EQ(MustCreate({"sh", "-c", "kill -9 $$"}, {})
                ->Handle(*pair.server, pair.info),
            128 + 9);
}

TEST(ExecHandlerTest, RefusesAProgramThatCannotBeRun) {
  EXPECT_EQ(ErrnoOf(ExecHandler::Create({"/no/such/program"}, {}).status()),
            ENOENT);
  EXPECT_EQ(ErrnoOf(ExecHandler::Create({"/"}, {}).status()), EACCES);
  EXPECT_FALSE(ExecHandler::Create({"cat"}, {.keep_env = "A=B"}).ok());
  EXPECT_FALSE(ExecHandler::Create({}, {}).ok());
}

TEST(ProgramRunTest, HeaderExample) {
  const std::unique_ptr<ExecHandler> killed =
      *ExecHandler::Create({"sh", "-c", "kill -SEGV $$"}, {});
  Pair pair;
  EXPECT_THAT(RunFor(*pair.server, *killed),
              IsOkAndHolds(ExitStatus::Killed(SIGSEGV)));
}

}  // namespace
}  // namespace brood
