// SPDX-License-Identifier: Apache-2.0
#include "brood/server/control.h"

#include <poll.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <optional>
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
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/server/poll_loop.h"
#include "brood/tests/in_child.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// Where nothing of what is tested runs into its time limit.
constexpr Control::Options kPatient = {.patience = absl::Hours(1)};

void AnswerWhatTimeItIs(Control& control, PollLoop& loop) {
  control.Add({.name = "time",
               .help = "what time it is",
               .answer = [](std::string_view) {
                 return absl::FormatTime(absl::Now());
               }});
  control.Start(loop);
}

absl::Time Soon() { return absl::Now() + absl::Seconds(30); }

class ControlTest : public testing::Test {
 protected:
  // A unix path must be short, and that of testing::TempDir() is not.
  ControlTest() : folder_("/tmp/control.XXXXXX") {
    EXPECT_NE(mkdtemp(folder_.data()), nullptr);
    address_ = *Address::UnixPath(absl::StrCat(folder_, "/control"));
  }
  ~ControlTest() override {
    control_.reset();
    (void)rmdir(folder_.c_str());
  }

  // A control that repeats what comes after "say".
  void Open(const Control::Options& options = kPatient) {
    absl::StatusOr<std::unique_ptr<Control>> control =
        Control::Open(address_, options);
    ASSERT_THAT(control, IsOk());
    control_ = *std::move(control);
    control_->Add({.name = "say",
                   .argument = "WORDS",
                   .help = "the same again",
                   .answer = [this](std::string_view words) {
                     ++asked_;
                     return std::string(words);
                   }});
    control_->Add(
        {.name = "fail", .help = "always", .answer = [](std::string_view) {
           return absl::NotFoundError("there is nothing");
         }});
  }

  void Start() { control_->Start(loop_); }

  // Runs the loop until `condition` holds.
  void Await(absl::FunctionRef<bool()> condition) {
    while (!condition()) RunABit();
  }
  void RunABit() {
    loop_.CallAfter(absl::Milliseconds(1), [this] {
      loop_.Stop();
      return absl::OkStatus();
    });
    ASSERT_THAT(loop_.Run(), IsOk());
  }

  // How a child ends that runs `body` while the loop runs here.
  ExitStatus ResultOf(absl::FunctionRef<int()> body) {
    absl::StatusOr<Child> child = Fork({}, body);
    EXPECT_THAT(child, IsOk());
    Await([&] { return child->HasEnded().value_or(true); });
    return *child->Wait();
  }

  Stream Connect() {
    absl::StatusOr<Stream> stream = Stream::Connect(address_);
    EXPECT_THAT(stream, IsOk());
    return *std::move(stream);
  }

  // All that comes until the end. Nothing is added to it by a reset.
  std::string AnswerOn(Stream& stream) {
    std::string answer;
    bool ended = false;
    Await([&] {
      std::array<char, 4096> buffer;
      const absl::StatusOr<IoResult> got =
          stream.TryRead(absl::MakeSpan(buffer));
      EXPECT_THAT(got, IsOk());
      ended = !got.ok() || got->end();
      if (!ended && got->bytes().has_value()) {
        answer.append(buffer.data(), *got->bytes());
      }
      return ended;
    });
    return answer;
  }

  std::string Ask(std::string_view bytes) {
    Stream stream = Connect();
    EXPECT_THAT(stream.WriteAll(bytes), IsOk());
    return AnswerOn(stream);
  }

  std::string folder_;
  Address address_;
  PollLoop loop_;
  std::unique_ptr<Control> control_;
  int asked_ = 0;
};

TEST_F(ControlTest, HeaderExample) {
  Open();
  AnswerWhatTimeItIs(*control_, loop_);
  absl::Time time;
  std::string error;
  std::string answer = Ask("time\n");
  ASSERT_TRUE(absl::EndsWith(answer, "\n"));
  answer.pop_back();
  EXPECT_TRUE(absl::ParseTime(absl::RFC3339_full, answer, &time, &error))
      << answer << ": " << error;
}

TEST_F(ControlTest, AnswersAskControlFromAnotherProcess) {
  Open();
  Start();
  EXPECT_EQ(ResultOf([&] {
              const auto ask = [&](std::string_view request) {
                return AskControl(address_, request, Soon());
              };
              const absl::StatusOr<std::string> answer = ask("say hello you");
              if (!answer.ok() || *answer != "hello you\n") return 1;
              const absl::Status failed = ask("fail").status();
              if (!absl::IsFailedPrecondition(failed)) return 2;
              return failed.message() == "there is nothing" ? 0 : 3;
            }),
            ExitStatus::Exited(0));
}

TEST_F(ControlTest, SaysWhatIsAllowedWhereNothingIsKnown) {
  Open();
  Start();
  for (const char* request :
       {"", "sing", "say", "say ", "says hello", "fail now", "help me"}) {
    EXPECT_EQ(Ask(absl::StrCat(request, "\n")),
              absl::StrCat("error: request \"", request,
                           "\": allowed is say WORDS, fail, help\n"));
  }
  EXPECT_THAT(Ask("\x1b[2J\n"), StartsWith("error: request \"\\x1b[2J\""));
  EXPECT_EQ(Ask("help\n"),
            "say WORDS: the same again\nfail: always\n"
            "help: this\n");
  EXPECT_EQ(asked_, 0);
}

TEST_F(ControlTest, TakesALineOfTwoHundredAndFiftySixBytesAndNoLonger) {
  Open();
  Start();
  const std::string most(Control::kMaxRequest - 5, 'x');
  EXPECT_EQ(Ask(absl::StrCat("say ", most, "\n")), absl::StrCat(most, "\n"));
  EXPECT_EQ(Ask(absl::StrCat("say ", most, "x\n")),
            "error: request is too long: allowed are 256 bytes in a line\n");
  EXPECT_EQ(asked_, 1);
}

TEST_F(ControlTest, TakesARequestThatComesInPieces) {
  Open();
  Start();
  Stream stream = Connect();
  for (const char* piece : {"sa", "y hel", "lo", "\nsay more\n"}) {
    ASSERT_THAT(stream.WriteAll(piece), IsOk());
    for (int i = 0; i < 3; ++i) RunABit();
  }
  EXPECT_EQ(AnswerOn(stream), "hello\n");
  EXPECT_EQ(asked_, 1);
}

TEST_F(ControlTest, DoesNothingForHalfALine) {
  Open();
  Start();
  Stream stream = Connect();
  ASSERT_THAT(stream.WriteAll("say 10.0.0.1"), IsOk());
  ASSERT_THAT(stream.ShutdownWrite(), IsOk());
  EXPECT_EQ(AnswerOn(stream),
            "error: request \"say 10.0.0.1\": expected a newline after it\n");
  {
    const Stream silent = Connect();
    Await([&] { return control_->open() == 1; });
  }
  Await([&] { return control_->open() == 0; });
  EXPECT_EQ(asked_, 0);
}

TEST_F(ControlTest, LeavesTheNinthInTheKernelsQueueUntilOneHasLeft) {
  Open();
  Start();
  std::vector<Stream> silent;
  for (size_t i = 0; i < Control::kMaxOpen; ++i) silent.push_back(Connect());
  Stream ninth = Connect();
  ASSERT_THAT(ninth.WriteAll("say hello\n"), IsOk());
  Await([&] { return control_->open() == Control::kMaxOpen; });
  for (int i = 0; i < 20; ++i) RunABit();
  EXPECT_EQ(asked_, 0);
  silent.pop_back();
  EXPECT_EQ(AnswerOn(ninth), "hello\n");
}

TEST_F(ControlTest, LosesPatienceWithWhoSaysNothing) {
  Open({.patience = absl::Milliseconds(50)});
  Start();
  Stream silent = Connect();
  Stream dawdling = Connect();
  ASSERT_THAT(dawdling.WriteAll("say"), IsOk());
  EXPECT_EQ(AnswerOn(silent), "error: no request within 50ms\n");
  EXPECT_EQ(AnswerOn(dawdling), "error: no request within 50ms\n");
  Await([&] { return control_->open() == 0; });
}

// More than fits between two processes, and still the others are answered.
TEST_F(ControlTest, SendsALongAnswerWithoutWaitingForItsReader) {
  Open();
  const std::string longest(Control::kMaxAnswer - 1, 'x');
  control_->Add({.name = "long",
                 .help = "as long as may be",
                 .answer = [&](std::string_view) { return longest; }});
  control_->Add({.name = "longer",
                 .help = "too long",
                 .answer = [&](std::string_view) { return longest + "xx"; }});
  Start();
  Stream slow = Connect();
  ASSERT_THAT(slow.WriteAll("long\n"), IsOk());
  EXPECT_EQ(Ask("say hello\n"), "hello\n");
  EXPECT_EQ(control_->open(), 1);
  EXPECT_EQ(AnswerOn(slow), longest + "\n");
  EXPECT_THAT(Ask("longer\n"), AllOf(StartsWith("error: the answer has "),
                                     HasSubstr("allowed are 1048576")));
}

TEST_F(ControlTest, LosesPatienceWithWhoDoesNotRead) {
  Open({.patience = absl::Milliseconds(50)});
  control_->Add({.name = "long",
                 .help = "as long as may be",
                 .answer = [&](std::string_view) {
                   return std::string(Control::kMaxAnswer - 1, 'x');
                 }});
  Start();
  Stream deaf = Connect();
  ASSERT_THAT(deaf.WriteAll("long\n"), IsOk());
  Await([&] { return control_->open() == 1; });
  Await([&] { return control_->open() == 0; });
  EXPECT_FALSE(absl::EndsWith(AnswerOn(deaf), "\n"));
}

TEST_F(ControlTest, AnswersItsOwnUserAndRootAndNobodyElse) {
  constexpr uid_t kOther = 12345;
  if (InChild([&] { return seteuid(kOther) == 0 ? 0 : 1; }) != 0) {
    GTEST_SKIP() << "cannot become somebody else here";
  }
  address_ = *Address::UnixAbstract(absl::StrCat("brood.control.", getpid()));
  Open();
  Start();
  EXPECT_EQ(ResultOf([&] {
              if (seteuid(kOther) == -1) return 1;
              const absl::Status refused =
                  AskControl(address_, "say hello", Soon()).status();
              return refused.message() ==
                             "user 12345 may not ask: allowed is root"
                         ? 0
                         : 2;
            }),
            ExitStatus::Exited(0));
  EXPECT_EQ(asked_, 0);
}

TEST_F(ControlTest, HasAPathForItsOwnerThatIsGoneAtTheEnd) {
  const mode_t before = umask(0);
  Open();
  (void)umask(before);
  const std::string path(*address_.unix_path());
  struct stat found;
  ASSERT_EQ(stat(path.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777, 0600);
  EXPECT_THAT(Control::Open(address_).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("(EADDRINUSE)")));
  control_.reset();
  EXPECT_EQ(stat(path.c_str(), &found), -1);
}

TEST_F(ControlTest, TakesOverAPathThatNobodyAnswersAt) {
  // Who is killed leaves it behind.
  ASSERT_EQ(InChild([&] {
              absl::StatusOr<std::unique_ptr<Control>> control =
                  Control::Open(address_);
              if (!control.ok()) return 1;
              (void)control->release();
              return 0;
            }),
            0);
  struct stat found;
  ASSERT_EQ(stat(std::string(*address_.unix_path()).c_str(), &found), 0);
  Open();
  Start();
  EXPECT_EQ(Ask("say hello\n"), "hello\n");
}

TEST_F(ControlTest, IsAUnixSocketWithAName) {
  for (const Address& other :
       {*Address::Parse("127.0.0.1:0"), Address::Everywhere(0), Address()}) {
    EXPECT_THAT(Control::Open(other).status(),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("allowed is unix:/path or unix:@abstract")));
  }
}

TEST_F(ControlTest, AskingSaysWhyThereIsNoAnswer) {
  EXPECT_EQ(ErrnoOf(AskControl(address_, "help", Soon()).status()), ENOENT);
  // Somebody who takes the line and leaves.
  absl::StatusOr<Listener> listener = Listener::Open(address_);
  ASSERT_THAT(listener, IsOk());
  const pid_t child = StartInChild([&] {
    const absl::Status status = AskControl(address_, "help", Soon()).status();
    if (!absl::IsUnavailable(status)) return 1;
    return absl::StrContains(status.message(), "no whole answer") ? 0 : 2;
  });
  ASSERT_THAT(PollUntil(listener->fd(), POLLIN, absl::InfiniteFuture()),
              IsOkAndHolds(true));
  {
    absl::StatusOr<std::optional<Accepted>> asker = listener->Accept();
    ASSERT_THAT(asker, IsOk());
    std::array<char, 16> line;
    EXPECT_THAT((*asker)->stream.Read(absl::MakeSpan(line)),
                IsOkAndHolds(IoResult::Bytes(5)));
    EXPECT_THAT((*asker)->stream.WriteAll("half an"), IsOk());
  }
  EXPECT_EQ(WaitForChild(child), 0);
  // Somebody who says nothing.
  EXPECT_THAT(AskControl(address_, "help", absl::Now() + absl::Milliseconds(20))
                  .status(),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
}

}  // namespace
}  // namespace brood
