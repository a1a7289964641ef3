// SPDX-License-Identifier: Apache-2.0
#include "brood/net/fd_passing.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/tests/deny_syscalls.h"
#include "brood/tests/in_child.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

// What is left open by mistake, tests/hygiene reports after each test.
namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

absl::Time Soon() { return absl::Now() + absl::Seconds(20); }

struct Ends {
  Stream sender;
  Stream receiver;
};

Ends Connected() {
  std::array<int, 2> ends;
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  return {.sender = Stream(UniqueFd(ends[0]), Address()),
          .receiver = Stream(UniqueFd(ends[1]), Address())};
}

UniqueFd AnyFile() { return UniqueFd(open("/dev/null", O_RDWR | O_CLOEXEC)); }

// `count` times the same.
std::vector<int> Times(const UniqueFd& file, size_t count) {
  return std::vector<int>(count, file.get());
}

// One read of at most 64 bytes.
struct Heard {
  std::string text;
  std::vector<UniqueFd> fds;
};

absl::StatusOr<Heard> Hear(Stream& stream, size_t max_fds) {
  std::array<char, 64> buffer;
  absl::StatusOr<ReceivedFds> got =
      ReceiveFds(stream, absl::MakeSpan(buffer), max_fds, Soon());
  if (!got.ok()) return got.status();
  return Heard{
      .text = std::string(buffer.data(), got->data.bytes().value_or(0)),
      .fds = std::move(got->fds)};
}

bool SameFile(int a, int b) {
  struct stat first;
  struct stat second;
  return fstat(a, &first) == 0 && fstat(b, &second) == 0 &&
         first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

size_t CountOpen() {
  size_t open = 0;
  for (int fd = 0; fd < 1024; ++fd) open += fcntl(fd, F_GETFD) != -1;
  return open;
}

absl::StatusOr<UniqueFd> ReceiveFile(Stream& stream, std::string& name) {
  std::array<char, 256> buffer;
  absl::StatusOr<ReceivedFds> got =
      ReceiveFds(stream, absl::MakeSpan(buffer), /*max_fds=*/1);
  if (!got.ok()) return got.status();
  if (got->data.end()) return absl::OutOfRangeError("no more files");
  name.assign(buffer.data(), *got->data.bytes());
  if (got->fds.empty()) return absl::NotFoundError(name);
  return std::move(got->fds.front());
}

TEST(FdPassingTest, HeaderExample) {
  auto [sender, receiver] = Connected();
  std::string name;
  {
    const UniqueFd file = AnyFile();
    EXPECT_THAT(SendFds(sender, "null", {file.get()}), IsOk());
  }  // The message holds on to it.
  const absl::StatusOr<UniqueFd> file = ReceiveFile(receiver, name);
  ASSERT_THAT(file, IsOk());
  EXPECT_TRUE(SameFile(file->get(), AnyFile().get()));
  EXPECT_EQ(name, "null");
  EXPECT_EQ(fcntl(file->get(), F_GETFD), FD_CLOEXEC);

  EXPECT_THAT(SendFds(sender, "nothing", {}), IsOk());
  EXPECT_THAT(ReceiveFile(receiver, name),
              StatusIs(absl::StatusCode::kNotFound, "nothing"));
  EXPECT_THAT(sender.Close(), IsOk());
  EXPECT_THAT(ReceiveFile(receiver, name),
              StatusIs(absl::StatusCode::kOutOfRange));
}

TEST(FdPassingTest, PassesAsManyAsTheKernelLetsTravelAndInOrder) {
  auto [sender, receiver] = Connected();
  const UniqueFd file = AnyFile();
  std::vector<int> fds = Times(file, kMaxPassedFds);
  fds.back() = sender.fd();
  EXPECT_THAT(SendFds(sender, "x", fds), IsOk());
  const absl::StatusOr<Heard> heard = Hear(receiver, kMaxPassedFds);
  ASSERT_THAT(heard, IsOk());
  ASSERT_THAT(heard->fds, SizeIs(kMaxPassedFds));
  for (size_t i = 0; i < fds.size(); ++i) {
    EXPECT_TRUE(SameFile(heard->fds[i].get(), fds[i]));
    EXPECT_EQ(fcntl(heard->fds[i].get(), F_GETFD), FD_CLOEXEC);
  }
}

TEST(FdPassingTest, KeepsWhatEachSendHadApart) {
  auto [sender, receiver] = Connected();
  const UniqueFd file = AnyFile();
  EXPECT_THAT(SendFds(sender, "one", Times(file, 1)), IsOk());
  EXPECT_THAT(SendFds(sender, "two", Times(file, 2)), IsOk());
  EXPECT_THAT(sender.WriteAll("none"), IsOk());
  const absl::StatusOr<Heard> one = Hear(receiver, 4);
  ASSERT_THAT(one, IsOk());
  EXPECT_EQ(one->text, "one");
  EXPECT_THAT(one->fds, SizeIs(1));
  const absl::StatusOr<Heard> two = Hear(receiver, 4);
  ASSERT_THAT(two, IsOk());
  EXPECT_EQ(two->text, "two");
  EXPECT_THAT(two->fds, SizeIs(2));
  const absl::StatusOr<Heard> none = Hear(receiver, 4);
  ASSERT_THAT(none, IsOk());
  EXPECT_EQ(none->text, "none");
  EXPECT_THAT(none->fds, IsEmpty());
}

TEST(FdPassingTest, ClosesAllIfThereIsOneTooMany) {
  const UniqueFd file = AnyFile();
  // By one, where a rounded-up buffer has room for it, and by many.
  for (const size_t max : {0, 1, 2, 3, 252}) {
    for (const size_t sent : {max + 1, kMaxPassedFds}) {
      auto [sender, receiver] = Connected();
      const size_t before = CountOpen();
      EXPECT_THAT(SendFds(sender, "x", Times(file, sent)), IsOk());
      EXPECT_THAT(Hear(receiver, max).status(),
                  StatusIs(absl::StatusCode::kResourceExhausted,
                           EndsWith("none was kept")))
          << sent << " where " << max << " may be";
      EXPECT_EQ(CountOpen(), before);
    }
  }
}

TEST(FdPassingTest, ClosesAllIfTheProcessMayNotHaveSoManyOpen) {
  EXPECT_EQ(InChild([] {
              auto [sender, receiver] = Connected();
              const UniqueFd file = AnyFile();
              EXPECT_THAT(SendFds(sender, "x", Times(file, 8)), IsOk());
              const size_t before = CountOpen();
              // Room for two, at the lowest numbers that are free.
              UniqueFd first = AnyFile();
              UniqueFd second = AnyFile();
              rlimit limit;
              EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
              limit.rlim_cur = static_cast<rlim_t>(second.get() + 1);
              first = UniqueFd();
              second = UniqueFd();
              EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
              EXPECT_THAT(Hear(receiver, 8).status(),
                          StatusIs(absl::StatusCode::kResourceExhausted));
              EXPECT_EQ(CountOpen(), before);
              return testing::Test::HasFailure() ? 1 : 0;
            }),
            0);
}

TEST(FdPassingTest, LosesNothingToCredentialsThatTheHostAskedFor) {
  constexpr int kPasspidfd = 76;  // SO_PASSPIDFD, Linux 6.5.
  const UniqueFd file = AnyFile();
  for (const int option : {SO_PASSCRED, kPasspidfd}) {
    auto [sender, receiver] = Connected();
    const int on = 1;
    if (setsockopt(receiver.fd(), SOL_SOCKET, option, &on, sizeof(on)) == -1) {
      EXPECT_EQ(errno, ENOPROTOOPT);
      continue;
    }
    EXPECT_THAT(SendFds(sender, "x", Times(file, 2)), IsOk());
    const absl::StatusOr<Heard> heard = Hear(receiver, 2);
    ASSERT_THAT(heard, IsOk());
    EXPECT_THAT(heard->fds, SizeIs(2));
    EXPECT_THAT(SendFds(sender, "x", Times(file, 3)), IsOk());
    EXPECT_THAT(Hear(receiver, 2).status(),
                StatusIs(absl::StatusCode::kResourceExhausted));
    EXPECT_THAT(sender.WriteAll("x"), IsOk());
    EXPECT_THAT(Hear(receiver, 0), IsOk());
  }
}

TEST(FdPassingTest, LeavesNothingToAReaderThatAsksForNone) {
  auto [sender, receiver] = Connected();
  const UniqueFd file = AnyFile();
  const size_t before = CountOpen();
  EXPECT_THAT(SendFds(sender, "x", Times(file, 2)), IsOk());
  std::array<char, 8> buffer;
  EXPECT_THAT(receiver.Read(absl::MakeSpan(buffer)),
              IsOkAndHolds(IoResult::Bytes(1)));
  EXPECT_EQ(CountOpen(), before);
}

TEST(FdPassingTest, SendsAllBytesAndTheDescriptorsOnce) {
  auto [sender, receiver] = Connected();
  const UniqueFd file = AnyFile();
  const std::string much(size_t{1} << 20, 'x');
  // The reader is a child, so that neither waits for the other in vain.
  const pid_t child = StartInChild([&, &peer = receiver, &own = sender] {
    EXPECT_THAT(own.Close(), IsOk());
    std::vector<char> buffer(1 << 16);
    size_t bytes = 0;
    size_t fds = 0;
    for (;;) {
      const absl::StatusOr<ReceivedFds> got =
          ReceiveFds(peer, absl::MakeSpan(buffer), 2, Soon());
      if (!got.ok() || got->data.end()) break;
      bytes += *got->data.bytes();
      fds += got->fds.size();
    }
    return bytes == much.size() && fds == 1 ? 0 : 1;
  });
  EXPECT_THAT(SendFds(sender, much, Times(file, 1), Soon()), IsOk());
  EXPECT_THAT(sender.Close(), IsOk());
  EXPECT_EQ(WaitForChild(child), 0);
}

TEST(FdPassingTest, WaitsForRoomAndForBytesUntilTheDeadline) {
  auto [sender, receiver] = Connected();
  const UniqueFd file = AnyFile();
  std::array<char, 8> buffer;
  const absl::StatusOr<ReceivedFds> nothing =
      TryReceiveFds(receiver, absl::MakeSpan(buffer), 1);
  ASSERT_THAT(nothing, IsOk());
  EXPECT_TRUE(nothing->data.would_block());
  EXPECT_THAT(ReceiveFds(receiver, absl::MakeSpan(buffer), 1,
                         absl::Now() + absl::Milliseconds(1)),
              StatusIs(absl::StatusCode::kDeadlineExceeded,
                       "recvmsg from unix:(unnamed) with at most 1 "
                       "descriptors: deadline exceeded"));
  const std::string much(size_t{1} << 16, 'x');
  for (;;) {
    const absl::StatusOr<IoResult> sent = sender.TryWrite(much);
    ASSERT_THAT(sent, IsOk());
    if (sent->would_block()) break;
  }
  EXPECT_THAT(TrySendFds(sender, "x", Times(file, 1)),
              IsOkAndHolds(IoResult::WouldBlock()));
  EXPECT_THAT(
      SendFds(sender, "x", Times(file, 1), absl::Now() + absl::Milliseconds(1)),
      StatusIs(absl::StatusCode::kDeadlineExceeded,
               "sendmsg to unix:(unnamed) with 1 descriptors: "
               "deadline exceeded"));
}

// The kernel tells of a reset once; then it says end.
TEST(FdPassingTest, NeverTakesAResetForTheEndWhoeverWasToldOfIt) {
  std::array<char, 1> byte;
  for (const bool told_the_stream : {false, true}) {
    auto [sender, receiver] = Connected();
    EXPECT_THAT(receiver.WriteAll("never read"), IsOk());
    EXPECT_THAT(sender.Close(), IsOk());
    const absl::Status told =
        told_the_stream ? receiver.TryRead(absl::MakeSpan(byte)).status()
                        : Hear(receiver, 1).status();
    EXPECT_EQ(ErrnoOf(told), ECONNRESET) << told;
    EXPECT_EQ(ErrnoOf(receiver.TryRead(absl::MakeSpan(byte)).status()),
              ECONNRESET);
    EXPECT_EQ(
        ErrnoOf(TryReceiveFds(receiver, absl::MakeSpan(byte), 1).status()),
        ECONNRESET);
    EXPECT_EQ(ErrnoOf(Hear(receiver, 1).status()), ECONNRESET);
    EXPECT_EQ(ErrnoOf(TrySendFds(receiver, "x", {}).status()), EPIPE);
    EXPECT_EQ(ErrnoOf(Hear(receiver, 1).status()), ECONNRESET);
  }
}

TEST(FdPassingTest, RemembersAResetThatASendWasTold) {
  EXPECT_EQ(
      InChild([] {
        auto [sender, receiver] = Connected();
        DenySyscalls({SYS_sendmsg}, ECONNRESET);
        if (TrySendFds(receiver, "x", {}).ok()) return 1;
        if (!sender.ShutdownWrite().ok()) return 2;
        char byte;
        return ErrnoOf(receiver.TryRead(absl::MakeSpan(&byte, 1)).status()) ==
                       ECONNRESET
                   ? 0
                   : 3;
      }),
      0);
}

TEST(FdPassingTest, SaysForWhatItCouldNotWait) {
  EXPECT_EQ(InChild([] {
              auto [sender, receiver] = Connected();
              DenySyscalls({SYS_ppoll}, EINVAL);
              if (Hear(receiver, 1).status() !=
                  ErrnoStatus(EINVAL,
                              "poll to recvmsg from unix:(unnamed) with at "
                              "most 1 descriptors")) {
                return 1;
              }
              while (sender.TryWrite("x")->bytes().has_value()) {
              }
              return SendFds(sender, "x", {}, Soon()) ==
                             ErrnoStatus(EINVAL,
                                         "poll to sendmsg to unix:(unnamed) "
                                         "with 0 descriptors")
                         ? 0
                         : 2;
            }),
            0);
}

TEST(FdPassingTest, SaysWhatCannotBeSent) {
  auto [sender, receiver] = Connected();
  const UniqueFd file = AnyFile();
  const absl::Status closed = SendFds(sender, "x", {file.get(), 1023});
  EXPECT_EQ(ErrnoOf(closed), EBADF);
  EXPECT_THAT(closed.message(),
              HasSubstr("sendmsg to unix:(unnamed) with 2 descriptors: "));
  EXPECT_THAT(SendFds(sender, "", Times(file, 1)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       EndsWith("expected at least one byte")));
  EXPECT_THAT(SendFds(sender, "x", Times(file, kMaxPassedFds + 1)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       EndsWith("expected at most 253 descriptors")));
  EXPECT_THAT(Hear(receiver, kMaxPassedFds + 1).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       EndsWith("expected at most 253 descriptors")));
  EXPECT_THAT(TryReceiveFds(receiver, {}, 1).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       EndsWith("expected at least one byte")));
  EXPECT_THAT(receiver.Close(), IsOk());
  EXPECT_EQ(ErrnoOf(SendFds(sender, "x", Times(file, 1))), EPIPE);
  EXPECT_EQ(ErrnoOf(Hear(receiver, 1).status()), EBADF);
}

TEST(FdPassingTest, RefusesTcpWhichWouldDropThemWithoutAWord) {
  const absl::StatusOr<Listener> listener =
      Listener::Open(*Address::Parse("127.0.0.1:0"));
  ASSERT_THAT(listener, IsOk());
  absl::StatusOr<Stream> tcp = Stream::Connect(listener->address());
  ASSERT_THAT(tcp, IsOk());
  const UniqueFd file = AnyFile();
  EXPECT_THAT(SendFds(*tcp, "x", Times(file, 1)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       EndsWith("expected a unix stream")));
  EXPECT_THAT(Hear(*tcp, 1).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       EndsWith("expected a unix stream")));
}

}  // namespace
}  // namespace brood
