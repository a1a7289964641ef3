// SPDX-License-Identifier: Apache-2.0
#include "brood/server/zygote.h"

#include <dirent.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_queue.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/limits.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/server/connection_handler.h"
#include "brood/tests/deny_syscalls.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;

// Has `connection` served by a process that was there before it.
absl::StatusOr<pid_t> Serve(Zygote& zygote, const Stream& connection) {
  if (absl::Status s = zygote.Ask(1); !s.ok()) return s;
  absl::StatusOr<bool> ready =
      PollUntil(zygote.fd(), POLLIN, absl::InfiniteFuture());
  if (!ready.ok()) return ready.status();
  absl::StatusOr<std::optional<Zygote::Spare>> spare = zygote.Next();
  if (!spare.ok()) return spare.status();
  if (!spare->has_value()) return absl::UnavailableError("not yet");
  absl::Status given = (*spare)->Give(
      connection, {.local = {}, .peer = connection.peer()}, nullptr);
  if (!given.ok()) return given;
  return (*spare)->pid;
}

// What it is asked by its client it answers, and exits with a number.
class Oracle : public ConnectionHandler {
 public:
  std::string_view name() const override { return "oracle"; }
  int Handle(Stream& stream, const ConnectionInfo& info) override {
    std::array<char, 1> question;
    if (!stream.Read(absl::MakeSpan(question)).ok()) return 100;
    switch (question[0]) {
      case 'i':
        return info.peer == *Address::Parse("192.0.2.1:1") &&
                       info.local == *Address::Parse("192.0.2.2:2") &&
                       info.connections_of_source == 3
                   ? static_cast<int>(info.id)
                   : 101;
      case 's': {
        sigset_t mask;
        int death_signal = 0;
        return sigprocmask(SIG_SETMASK, nullptr, &mask) == 0 &&
                       sigisemptyset(&mask) == 1 &&
                       prctl(PR_GET_PDEATHSIG, &death_signal) == 0 &&
                       death_signal == SIGKILL
                   ? 0
                   : 104;
      }
      case 'p':
        return getppid() == parent && getpgrp() == getpid() ? 0 : 102;
      case 'f':
        return CountDescriptors();
      case 'l':
        return static_cast<int>(CurrentLimit(RLIMIT_NOFILE)->soft);
      default:
        return stream.WriteAll("?").ok() ? 0 : 103;
    }
  }

  pid_t parent = getpid();

 private:
  static int CountDescriptors() {
    DIR* const directory = opendir("/proc/self/fd");
    if (directory == nullptr) return 255;
    int count = -1;  // Its own.
    while (const dirent* entry = readdir(directory)) {
      if (entry->d_name[0] != '.') ++count;
    }
    (void)closedir(directory);
    return count;
  }
};

class ZygoteTest : public testing::Test {
 protected:
  ZygoteTest() : queue_(*ExitQueue::Create()) {}

  void Start(const Limits& limits = {}) {
    absl::StatusOr<Zygote> zygote =
        Zygote::Start(oracle_, limits, queue_.signo());
    ASSERT_THAT(zygote, IsOk());
    zygote_.emplace(*std::move(zygote));
    process_.emplace(zygote_->TakeProcess());
  }

  // The next spare, or why there is none.
  absl::StatusOr<Zygote::Spare> AwaitNext() {
    EXPECT_THAT(PollUntil(zygote_->fd(), POLLIN, absl::InfiniteFuture()),
                IsOkAndHolds(true));
    absl::StatusOr<std::optional<Zygote::Spare>> next = zygote_->Next();
    if (!next.ok()) return next.status();
    EXPECT_TRUE(next->has_value());
    return **std::move(next);
  }

  // A client, and the connection that is to be served.
  std::pair<Stream, Stream> Connect() {
    std::array<int, 2> ends;
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()),
              0);
    return {*Stream::Adopt(UniqueFd(ends[0])),
            *Stream::Adopt(UniqueFd(ends[1]))};
  }

  // How a spare ends, whom its client asks this.
  ExitStatus Ask(std::string_view question, const ConnectionInfo& info = {}) {
    EXPECT_THAT(zygote_->Ask(1), IsOk());
    absl::StatusOr<Zygote::Spare> spare = AwaitNext();
    EXPECT_THAT(spare, IsOk());
    auto [client, connection] = Connect();
    EXPECT_THAT(spare->Give(connection, info, nullptr), IsOk());
    EXPECT_THAT(connection.Close(), IsOk());
    EXPECT_THAT(client.WriteAll(question), IsOk());
    return EndOf(spare->pid);
  }

  ExitStatus EndOf(pid_t pid) const {
    return *Child(pid, queue_.signo()).Wait();
  }

  static bool HasChildren() {
    return waitpid(-1, nullptr, WNOHANG | __WALL) != -1 || errno != ECHILD;
  }

  ExitQueue queue_;
  Oracle oracle_;
  std::optional<Zygote> zygote_;
  std::optional<Child> process_;
};

TEST_F(ZygoteTest, HeaderExample) {
  Start();
  auto [client, connection] = Connect();
  const absl::StatusOr<pid_t> pid = brood::Serve(*zygote_, connection);
  ASSERT_THAT(pid, IsOk());
  ASSERT_THAT(client.WriteAll("!"), IsOk());
  std::array<char, 1> answer;
  EXPECT_THAT(client.Read(absl::MakeSpan(answer)),
              IsOkAndHolds(IoResult::Bytes(1)));
  EXPECT_EQ(EndOf(*pid), ExitStatus::Exited(0));
}

TEST_F(ZygoteTest, TellsASpareWhoItsClientIs) {
  Start();
  EXPECT_EQ(Ask("i", {.local = *Address::Parse("192.0.2.2:2"),
                      .peer = *Address::Parse("192.0.2.1:1"),
                      .id = 77,
                      .connections_of_source = 3}),
            ExitStatus::Exited(77));
}

TEST_F(ZygoteTest, ForksChildrenOfItsParentThatLeadTheirGroups) {
  Start();
  EXPECT_EQ(Ask("p"), ExitStatus::Exited(0));
}

TEST_F(ZygoteTest, ForksProcessesThatBlockNoSignalAndDieWithTheirParent) {
  Start();
  EXPECT_EQ(Ask("s"), ExitStatus::Exited(0));
}

// Beside 0, 1 and 2.
TEST_F(ZygoteTest, LeavesASpareNothingButItsConnection) {
  Start();
  EXPECT_EQ(Ask("f"), ExitStatus::Exited(3 + 1));
}

TEST_F(ZygoteTest, LimitsASpareOnceItHasAConnection) {
  Start(*Limits::Parse("NOFILE=17"));
  EXPECT_EQ(Ask("l"), ExitStatus::Exited(17));
}

TEST_F(ZygoteTest, LeavesWhatTcpCountedInSharedMemory) {
  void* const memory = mmap(nullptr, sizeof(TcpTotals), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  auto* const totals = new (memory) TcpTotals{.known = true, .bytes_in = 1};
  Start();
  ASSERT_THAT(zygote_->Ask(1), IsOk());
  absl::StatusOr<Zygote::Spare> spare = AwaitNext();
  ASSERT_THAT(spare, IsOk());
  auto [client, connection] = Connect();
  ASSERT_THAT(spare->Give(connection, {}, totals), IsOk());
  ASSERT_THAT(client.Close(), IsOk());
  (void)EndOf(spare->pid);
  EXPECT_FALSE(totals->known);  // For a connection that is not TCP's.
  EXPECT_EQ(munmap(memory, sizeof(TcpTotals)), 0);
}

TEST_F(ZygoteTest, ForksAsManyAsItIsAskedFor) {
  Start();
  EXPECT_FALSE(zygote_->Next()->has_value());
  ASSERT_THAT(zygote_->Ask(2), IsOk());
  ASSERT_THAT(zygote_->Ask(1), IsOk());
  for (int i = 0; i < 3; ++i) {
    absl::StatusOr<Zygote::Spare> spare = AwaitNext();
    ASSERT_THAT(spare, IsOk());
    ASSERT_THAT(spare->channel.Close(), IsOk());  // It is not needed.
    EXPECT_EQ(EndOf(spare->pid), ExitStatus::Exited(0));
  }
  EXPECT_FALSE(zygote_->Next()->has_value());
}

TEST_F(ZygoteTest, EndsWithItsObject) {
  Start();
  zygote_.reset();
  EXPECT_THAT(process_->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST_F(ZygoteTest, HandsNothingToASpareThatIsDead) {
  Start();
  ASSERT_THAT(zygote_->Ask(1), IsOk());
  absl::StatusOr<Zygote::Spare> spare = AwaitNext();
  ASSERT_THAT(spare, IsOk());
  ASSERT_EQ(kill(spare->pid, SIGKILL), 0);
  EXPECT_EQ(EndOf(spare->pid), ExitStatus::Killed(SIGKILL));
  auto [client, connection] = Connect();
  EXPECT_FALSE(spare->Give(connection, {}, nullptr).ok());
}

// Whenever that is.
TEST_F(ZygoteTest, NamesAllWhomItForkedIfItIsKilled) {
  for (int named = 0; named < 20; ++named) {
    Start();
    ASSERT_THAT(zygote_->Ask(60), IsOk());
    absl::StatusOr<Zygote::Spare> spare = absl::UnknownError("none yet");
    for (int i = 0; i <= named; ++i) {
      spare = AwaitNext();
      ASSERT_THAT(spare, IsOk());
      (void)spare->channel.Close();
      EXPECT_EQ(EndOf(spare->pid), ExitStatus::Exited(0));
    }
    ASSERT_THAT(process_->Signal(SIGKILL), IsOk());
    ASSERT_THAT(process_->Wait(), IsOk());
    for (spare = AwaitNext(); spare.ok(); spare = AwaitNext()) {
      (void)spare->channel.Close();
      EXPECT_EQ(EndOf(spare->pid), ExitStatus::Exited(0));
    }
    EXPECT_THAT(spare, StatusIs(absl::StatusCode::kOutOfRange));
    EXPECT_FALSE(HasChildren());
  }
}

TEST_F(ZygoteTest, SaysWhyThereIsNoSpare) {
  // In a child, for what is denied remains so.
  absl::StatusOr<Child> child = Fork({}, [] {
    const absl::StatusOr<ExitQueue> queue = ExitQueue::Create();
    Oracle oracle;
    absl::StatusOr<Zygote> zygote =
        Zygote::Start(oracle, {}, queue.value().signo());
    if (!zygote.ok()) return 1;
    rlimit none = {.rlim_cur = 0, .rlim_max = 0};
    const Child process = zygote->TakeProcess();
    // It has no number left for a socket.
    if (prlimit(process.pid(), RLIMIT_NOFILE, &none, nullptr) == -1) return 2;
    if (!zygote->Ask(1).ok()) return 3;
    (void)PollUntil(zygote->fd(), POLLIN, absl::InfiniteFuture());
    return ErrnoOf(zygote->Next().status()) == EMFILE ? 0 : 4;
  });
  ASSERT_THAT(child, IsOk());
  EXPECT_THAT(child->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

// The kernel carries no descriptors here: but whom it forked it names.
TEST_F(ZygoteTest, NamesASpareWhoseSocketDoesNotCome) {
  absl::StatusOr<Child> child = Fork({}, [] {
    const absl::StatusOr<ExitQueue> queue = ExitQueue::Create();
    Oracle oracle;
    DenySyscalls({SYS_sendmsg}, ETOOMANYREFS);
    absl::StatusOr<Zygote> zygote =
        Zygote::Start(oracle, {}, queue.value().signo());
    if (!zygote.ok() || !zygote->Ask(2).ok()) return 1;
    (void)PollUntil(zygote->fd(), POLLIN, absl::InfiniteFuture());
    absl::StatusOr<std::optional<Zygote::Spare>> spare = zygote->Next();
    if (!spare.ok() || !spare->has_value()) return 2;
    if ((*spare)->channel.fd() != -1) return 3;
    const absl::StatusOr<ExitStatus> end =
        Child((*spare)->pid, queue.value().signo()).Wait();
    return end.ok() && *end == ExitStatus::Exited(0) ? 0 : 4;
  });
  ASSERT_THAT(child, IsOk());
  EXPECT_THAT(child->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

}  // namespace
}  // namespace brood
