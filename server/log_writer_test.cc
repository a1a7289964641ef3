// SPDX-License-Identifier: Apache-2.0
#include "brood/server/log_writer.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
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
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/signal/mask.h"
#include "brood/tests/deny_syscalls.h"
#include "brood/tests/in_child.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

// Where a LogWriter would wait, these tests would wait with it, for ever, and
// the time limit of the test says so.
namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;
using ::testing::StartsWith;

absl::Status LogStartAndEnd(int fd) {
  absl::StatusOr<LogWriter> log = LogWriter::Create(fd);
  if (!log.ok()) return log.status();
  log->Write("begins");
  log->Write("ends");
  log->Flush();
  if (log->lost() == 0) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(log->lost(), " lines lost"));
}

struct Ends {
  UniqueFd reader;
  UniqueFd writer;
};

Ends Pipe() {
  std::array<int, 2> ends;
  EXPECT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
  return {.reader = UniqueFd(ends[0]), .writer = UniqueFd(ends[1])};
}

// With little room, so that it is full as soon as a pipe.
Ends SocketPair(int type = SOCK_STREAM) {
  std::array<int, 2> ends;
  EXPECT_EQ(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends.data()), 0);
  const int room = 1 << 15;
  EXPECT_EQ(setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
  return {.reader = UniqueFd(ends[0]), .writer = UniqueFd(ends[1])};
}

// Nothing is changed on the way: neither newlines nor anything else.
Ends Terminal() {
  termios raw = {};
  cfmakeraw(&raw);
  int master;
  int slave;
  EXPECT_EQ(openpty(&master, &slave, nullptr, &raw, nullptr), 0);
  return {.reader = UniqueFd(master), .writer = UniqueFd(slave)};
}

class Folder {
 public:
  Folder() : path_(absl::StrCat(testing::TempDir(), "/log.XXXXXX")) {
    EXPECT_NE(mkdtemp(path_.data()), nullptr);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    unlink(file().c_str());
    rmdir(path_.c_str());
  }
  std::string file() const { return absl::StrCat(path_, "/file"); }

 private:
  std::string path_;
};

// Through an open file description that nobody else has, by a name.
Ends Fifo(const Folder& folder) {
  EXPECT_EQ(mkfifo(folder.file().c_str(), 0600), 0);
  UniqueFd reader(
      open(folder.file().c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  UniqueFd writer(open(folder.file().c_str(), O_WRONLY | O_CLOEXEC));
  EXPECT_TRUE(writer.valid());
  return {.reader = std::move(reader), .writer = std::move(writer)};
}

LogWriter WriterTo(const UniqueFd& fd) {
  absl::StatusOr<LogWriter> log = LogWriter::Create(fd.get());
  EXPECT_THAT(log, IsOk());
  return *std::move(log);
}

// What is there now, at most `limit` bytes of it.
std::string ReadNow(const UniqueFd& fd, size_t limit = size_t{1} << 24) {
  std::string text;
  pollfd ready = {.fd = fd.get(), .events = POLLIN, .revents = 0};
  while (text.size() < limit && poll(&ready, 1, 0) == 1 &&
         (ready.revents & POLLIN) != 0) {
    std::array<char, 4096> buffer;
    const ssize_t n = RetryOnEintr([&] {
      return read(fd.get(), buffer.data(),
                  std::min(buffer.size(), limit - text.size()));
    });
    if (n <= 0) break;
    text.append(buffer.data(), static_cast<size_t>(n));
  }
  return text;
}

std::vector<std::string> Lines(std::string_view text) {
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  EXPECT_EQ(lines.back(), "") << "a line without its end";
  lines.pop_back();
  return lines;
}

// Writes lines "0 xxx" on, of `size` bytes with their newlines, until some are
// lost; says how many were written, the lost ones included.
int WriteUntilLost(LogWriter& log, size_t size) {
  int count = 0;
  while (log.lost() == 0) {
    std::string line = absl::StrCat(count++, " ");
    line.resize(size - 1, 'x');
    log.Write(line);
  }
  return count;
}

bool IsNonBlocking(const UniqueFd& fd) {
  return (fcntl(fd.get(), F_GETFL) & O_NONBLOCK) != 0;
}

TEST(LogWriterTest, HeaderExample) {
  const Ends ends = Pipe();
  EXPECT_THAT(LogStartAndEnd(ends.writer.get()), IsOk());
  EXPECT_EQ(ReadNow(ends.reader), "begins\nends\n");
  const UniqueFd full(open("/dev/full", O_WRONLY | O_CLOEXEC));
  ASSERT_TRUE(full.valid());
  EXPECT_THAT(LogStartAndEnd(full.get()),
              StatusIs(absl::StatusCode::kDataLoss, "2 lines lost"));
}

TEST(LogWriterTest, RefusesWhatCannotBeWrittenTo) {
  const Ends ends = Pipe();
  EXPECT_EQ(ErrnoOf(LogWriter::Create(1023).status()), EBADF);
  EXPECT_THAT(LogWriter::Create(ends.reader.get()),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       absl::StrCat("log to descriptor ", ends.reader.get(),
                                    ": expected one that is open for "
                                    "writing")));
}

// ---- Whatever it is, a reader who does not read costs lines only ----

class StuckReaderTest : public testing::TestWithParam<const char*> {
 protected:
  Ends Make() {
    const std::string_view name = GetParam();
    if (name == "pipe") return Pipe();
    if (name == "fifo") return Fifo(folder_);
    if (name == "terminal") return Terminal();
    return SocketPair();
  }

  Folder folder_;
};

INSTANTIATE_TEST_SUITE_P(Of, StuckReaderTest,
                         testing::Values("pipe", "fifo", "terminal", "socket"),
                         [](const auto& kind) { return kind.param; });

TEST_P(StuckReaderTest, CostsLinesThatAreCounted) {
  const Ends ends = Make();
  LogWriter log = WriterTo(ends.writer);
  const int written = WriteUntilLost(log, 100);
  log.Write(std::string(99, 'y'));
  log.Write(std::string(99, 'y'));
  EXPECT_EQ(log.lost(), 3);

  std::string text = ReadNow(ends.reader);
  log.Write("again");
  EXPECT_EQ(log.lost(), 0);
  absl::StrAppend(&text, ReadNow(ends.reader));
  const std::vector<std::string> lines = Lines(text);
  ASSERT_EQ(lines.size(), written + 1);
  for (int i = 0; i < written - 1; ++i) {
    EXPECT_THAT(lines[i], StartsWith(absl::StrCat(i, " x")));
    EXPECT_EQ(lines[i].size(), 99);
  }
  EXPECT_EQ(lines[written - 1], "3 lines lost");
  EXPECT_EQ(lines[written], "again");
}

TEST_P(StuckReaderTest, LeavesTheDescriptionOfOthersAsItIs) {
  const Ends ends = Make();
  LogWriter log = WriterTo(ends.writer);
  WriteUntilLost(log, 100);
  EXPECT_FALSE(IsNonBlocking(ends.writer));
}

// Lines of every length, read in pieces of every length: what arrives are whole
// lines, in their order, and each missing one is in a count.
TEST_P(StuckReaderTest, TearsNoLine) {
  const Ends ends = Make();
  LogWriter log = WriterTo(ends.writer);
  std::mt19937 random(1);
  const auto line = [](int number, size_t length) {
    std::string text = absl::StrCat("line ", number, " ");
    text.resize(text.size() + length, static_cast<char>('a' + number % 26));
    return absl::StrCat(text, " ", number);
  };
  std::vector<size_t> lengths;
  std::string text;
  for (int i = 0; i < 2000; ++i) {
    lengths.push_back(random() % 10 == 0 ? random() % 20000 : random() % 200);
    log.Write(line(i, lengths.back()));
    if (random() % 10 == 0) {
      absl::StrAppend(&text, ReadNow(ends.reader, random() % 50000));
    }
  }
  for (int i = 0; i < 100; ++i) {  // What is kept needs room, too.
    absl::StrAppend(&text, ReadNow(ends.reader));
    log.Flush();
  }
  EXPECT_EQ(log.lost(), 0);
  int next = 0;
  int lost_in_all = 0;
  for (const std::string& got : Lines(text)) {
    std::string_view count = got;
    int lost;
    if (absl::ConsumeSuffix(&count, " lines lost") ||
        absl::ConsumeSuffix(&count, " line lost")) {
      ASSERT_TRUE(absl::SimpleAtoi(count, &lost)) << got;
      next += lost;
      lost_in_all += lost;
    } else {
      ASSERT_LT(next, 2000);
      EXPECT_EQ(got, line(next, lengths[next]));
      ++next;
    }
  }
  EXPECT_EQ(next, 2000);
  EXPECT_GT(lost_in_all, 0);  // Else this test has shown nothing.
}

// ---- Each kind's own ----

TEST(LogWriterTest, SaysWhatWasLostInTheWordsItIsGiven) {
  const Ends ends = Pipe();
  absl::StatusOr<LogWriter> log = LogWriter::Create(
      ends.writer.get(),
      [](uint64_t lines) { return absl::StrCat("{\"lost\":", lines, "}"); });
  ASSERT_THAT(log, IsOk());
  WriteUntilLost(*log, PIPE_BUF);
  ReadNow(ends.reader);
  log->Flush();
  EXPECT_EQ(ReadNow(ends.reader), "{\"lost\":1}\n");
}

TEST(LogWriterTest, LivesOnWhenTheReaderHasLeft) {
  for (Ends& ends : std::array{Pipe(), SocketPair()}) {
    LogWriter log = WriterTo(ends.writer);
    log.Write("read or not");
    ends.reader = UniqueFd();
    log.Write("not read");
    log.Write("not read");
    EXPECT_EQ(log.lost(), 2);
  }
}

TEST(LogWriterTest, LivesOnWhenNobodyEverRead) {
  Ends ends = Pipe();
  ends.reader = UniqueFd();
  LogWriter log = WriterTo(ends.writer);
  log.Write("not read");
  EXPECT_EQ(log.lost(), 1);
}

TEST(LogWriterTest, LeavesNoSignalPendingForThoseWhoBlockIt) {
  const absl::StatusOr<SignalMask> mask = SignalMask::Block({SIGPIPE});
  ASSERT_THAT(mask, IsOk());
  Ends ends = Pipe();
  LogWriter log = WriterTo(ends.writer);
  ends.reader = UniqueFd();
  log.Write("not read");
  sigset_t pending;
  ASSERT_EQ(sigpending(&pending), 0);
  EXPECT_EQ(sigismember(&pending, SIGPIPE), 0);
}

// What nobody has read a FIFO keeps for whoever comes next.
TEST(LogWriterTest, FinishesALineForTheNextReaderOfAFifo) {
  const Folder folder;
  Ends ends = Fifo(folder);
  LogWriter log = WriterTo(ends.writer);
  const std::string more_than_fits(size_t{1} << 20, 'x');
  log.Write(more_than_fits);
  EXPECT_EQ(log.lost(), 0);
  ends.reader = UniqueFd();
  log.Write("in between");
  ends.reader =
      UniqueFd(open(folder.file().c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  ASSERT_TRUE(ends.reader.valid());
  std::string text;
  while (log.lost() > 0) {
    absl::StrAppend(&text, ReadNow(ends.reader));
    log.Flush();
  }
  absl::StrAppend(&text, ReadNow(ends.reader));
  EXPECT_TRUE(text == more_than_fits + "\n1 line lost\n");
}

TEST(LogWriterTest, WritesAFileAtTheOffsetThatAllShare) {
  const Folder folder;
  const UniqueFd file(
      open(folder.file().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_TRUE(file.valid());
  LogWriter log = WriterTo(file);
  log.Write("ours");
  ASSERT_EQ(write(file.get(), "theirs\n", 7), 7);
  log.Write("ours");
  ASSERT_EQ(lseek(file.get(), 0, SEEK_SET), 0);
  EXPECT_EQ(ReadNow(file), "ours\ntheirs\nours\n");
}

TEST(LogWriterTest, LosesWhatAFullDeviceDoesNotTake) {
  const UniqueFd full(open("/dev/full", O_WRONLY | O_CLOEXEC));
  ASSERT_TRUE(full.valid());
  LogWriter log = WriterTo(full);
  log.Write("no space");
  log.Write("no space");
  EXPECT_EQ(log.lost(), 2);
  log.Flush();
  EXPECT_EQ(log.lost(), 2);
}

TEST(LogWriterTest, SendsEachLineAsOneDatagram) {
  const Ends ends = SocketPair(SOCK_DGRAM);
  LogWriter log = WriterTo(ends.writer);
  log.Write("one");
  log.Write("two");
  std::array<char, 64> buffer;
  EXPECT_EQ(read(ends.reader.get(), buffer.data(), buffer.size()), 4);
  EXPECT_EQ(read(ends.reader.get(), buffer.data(), buffer.size()), 4);
  log.Write(std::string(size_t{1} << 22, 'x'));  // More than one can be.
  EXPECT_EQ(log.lost(), 1);
  log.Write("three");
  EXPECT_EQ(ReadNow(ends.reader), "1 line lost\nthree\n");
}

// Two processes write what one slow reader reads.
TEST(LogWriterTest, MixesWithNoLineOfAnotherProcess) {
  Ends ends = Pipe();
  std::vector<pid_t> children;
  for (const char letter : {'a', 'b'}) {
    children.push_back(StartInChild([&] {
      LogWriter log = WriterTo(ends.writer);
      for (size_t i = 0; i < 5000; ++i) {
        log.Write(std::string(1 + i % (PIPE_BUF - 1), letter));
      }
      return 0;
    }));
  }
  ends.writer = UniqueFd();
  std::string text;
  std::array<char, 1000> buffer;
  while (true) {
    const ssize_t n = RetryOnEintr(
        [&] { return read(ends.reader.get(), buffer.data(), buffer.size()); });
    if (n <= 0) break;
    text.append(buffer.data(), static_cast<size_t>(n));
  }
  for (const pid_t child : children) EXPECT_EQ(WaitForChild(child), 0);
  for (const std::string& line : Lines(text)) {
    const bool whole = line.find_first_not_of('a') == std::string::npos ||
                       line.find_first_not_of('b') == std::string::npos ||
                       absl::EndsWith(line, " lost");
    ASSERT_TRUE(whole) << line;
  }
}

// ---- Where it cannot be opened once more ----

TEST_P(StuckReaderTest, CostsLinesEvenWhereNothingCanBeOpened) {
  const Ends ends = Make();
  EXPECT_EQ(InChild([&] {
              DenySyscalls({SYS_openat, SYS_open}, EACCES);
              LogWriter log = WriterTo(ends.writer);
              const int written = WriteUntilLost(log, 100);
              std::string text = ReadNow(ends.reader);
              log.Write("again");
              absl::StrAppend(&text, ReadNow(ends.reader));
              const std::vector<std::string> lines = Lines(text);
              EXPECT_EQ(lines.size(), written + 1);
              EXPECT_EQ(lines.back(), "again");
              EXPECT_FALSE(IsNonBlocking(ends.writer));
              return testing::Test::HasFailure() ? 1 : 0;
            }),
            0);
}

// Opening its name would make another terminal.
TEST(LogWriterTest, WritesToTheMasterOfATerminal) {
  const Ends ends = Terminal();
  LogWriter log = WriterTo(ends.reader);
  log.Write("typed");
  EXPECT_EQ(ReadNow(ends.writer), "typed\n");
  WriteUntilLost(log, 100);
}

// ---- From the background ----

// How `body` ended or stopped, run in the background of a terminal that stops
// those who write from there.
int InBackground(absl::FunctionRef<void(const UniqueFd& terminal)> body) {
  return InChild([&] {
    const Ends ends = Terminal();
    termios settings;
    std::signal(SIGHUP, SIG_IGN);  // Sent when the terminal goes.
    EXPECT_EQ(setsid(), getpid());
    EXPECT_EQ(ioctl(ends.writer.get(), TIOCSCTTY, 0), 0);
    EXPECT_EQ(tcgetattr(ends.writer.get(), &settings), 0);
    settings.c_lflag |= TOSTOP;
    EXPECT_EQ(tcsetattr(ends.writer.get(), TCSANOW, &settings), 0);
    const pid_t child = fork();
    if (child == 0) {
      setpgid(0, 0);
      body(ends.writer);
      _exit(0);
    }
    int status;
    RetryOnEintr([&] { return waitpid(child, &status, WUNTRACED); });
    if (!WIFSTOPPED(status)) return status;
    kill(child, SIGKILL);
    RetryOnEintr([&] { return waitpid(child, nullptr, 0); });
    return WSTOPSIG(status);
  });
}

TEST(LogWriterTest, IsNotStoppedByATerminalThatStopsTheBackground) {
  EXPECT_EQ(InBackground([](const UniqueFd& terminal) {
              (void)!write(terminal.get(), "x\n", 2);
            }),
            SIGTTOU);
  EXPECT_EQ(InBackground([](const UniqueFd& terminal) {
              LogWriter log = WriterTo(terminal);
              log.Write("x");
              if (log.lost() != 0) _exit(2);
            }),
            0);
}

}  // namespace
}  // namespace brood
