// SPDX-License-Identifier: Apache-2.0
#include "brood/server/zygote.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/fd_passing.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/fork.h"
#include "brood/proc/limits.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/server/connection_handler.h"

namespace brood {
namespace {

// What comes beside a connection. Both processes are one program at the same
// addresses.
struct Order {
  Address peer;  // Of the socket; a proxy, if info tells of another.
  ConnectionInfo info = {};
  TcpTotals* totals = nullptr;
};

// What comes beside the socket to a spare, or instead of it.
struct Answer {
  pid_t pid = -1;
  int error = 0;  // Why there is none.
  // How many others that were asked for will not come either.
  uint32_t dropped = 0;
};

template <typename T>
std::string_view BytesOf(const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

template <typename T>
absl::Span<char> RoomFor(T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  return absl::MakeSpan(reinterpret_cast<char*>(&value), sizeof(value));
}

struct Ends {
  Stream parents;
  Stream childs;

  static absl::StatusOr<Ends> Create() {
    std::array<int, 2> ends;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == -1) {
      return ErrnoStatus(errno, "socketpair");
    }
    return Ends{.parents = Stream(UniqueFd(ends[0]), Address()),
                .childs = Stream(UniqueFd(ends[1]), Address())};
  }
};

// A life: to wait, to serve, to go.
int RunSpare(Stream& channel, ConnectionHandler& handler,
             const Limits& limits) {
  Order order;
  absl::StatusOr<ReceivedFds> got =
      ReceiveFds(channel, RoomFor(order), /*max_fds=*/1);
  (void)channel.Close();
  if (got.ok() && got->data.end()) return 0;
  if (!got.ok() || got->fds.empty() || got->data.bytes() != sizeof(order)) {
    return ConnectionHandler::kCannotBegin;
  }
  Stream connection(std::move(got->fds.front()), order.peer);
  return handler.Serve(connection, order.info,
                       {.limits = limits, .totals = order.totals});
}

absl::StatusOr<pid_t> ForkSpare(Ends& ends, ConnectionHandler& handler,
                                const Limits& limits, pid_t& last) {
  const int channel = ends.childs.fd();
  return ForkSibling({.parent_death_signal = SIGKILL,
                      .new_process_group = true,
                      .keep_fds = absl::MakeConstSpan(&channel, 1)},
                     last,
                     [&] { return RunSpare(ends.childs, handler, limits); });
}

// The first of `count`. Says how many are left to be forked; none if it could
// not be, and nullopt if nobody can be told of it.
std::optional<uint32_t> ForkAndTell(uint32_t count, Stream& parent,
                                    ConnectionHandler& handler,
                                    const Limits& limits, pid_t& last) {
  absl::StatusOr<Ends> ends = Ends::Create();
  const absl::StatusOr<pid_t> pid =
      ends.ok() ? ForkSpare(*ends, handler, limits, last)
                : absl::StatusOr<pid_t>(ends.status());
  Answer answer;
  if (pid.ok()) {
    // From here on the spare alone has it, and if it is dead nobody.
    (void)ends->childs.Close();
    answer.pid = *pid;
    if (SendFds(parent, BytesOf(answer), {ends->parents.fd()}).ok()) {
      return count - 1;
    }
    // It ends by itself, but somebody has to wait for it.
  } else {
    const int error = ErrnoOf(pid.status());
    answer.error = error != 0 ? error : EINVAL;
  }
  answer.dropped = count - 1;
  if (!parent.WriteAll(BytesOf(answer)).ok()) return std::nullopt;
  return 0;
}

int RunZygote(Stream& parent, ConnectionHandler& handler, const Limits& limits,
              pid_t& last) {
  last = 0;  // So that the page is there when the kernel writes to it.
  while (true) {
    uint32_t count = 0;
    const absl::StatusOr<IoResult> got = parent.Read(RoomFor(count));
    if (!got.ok() || got->bytes() != sizeof(count)) return 0;
    while (count > 0) {
      const std::optional<uint32_t> left =
          ForkAndTell(count, parent, handler, limits, last);
      if (!left.has_value()) return 1;
      count = *left;
      // Nobody waits for this one, but somebody may for the processor.
      (void)sched_yield();
    }
  }
}

}  // namespace

void Zygote::Unmap::operator()(pid_t* last) const {
  (void)munmap(last, sizeof(*last));
}

absl::Status Zygote::Spare::Give(const Stream& connection,
                                 const ConnectionInfo& info,
                                 TcpTotals* totals) {
  const Order order = {
      .peer = connection.peer(), .info = info, .totals = totals};
  const absl::StatusOr<IoResult> sent =
      TrySendFds(channel, BytesOf(order), {connection.fd()});
  if (!sent.ok()) return sent.status();
  if (sent->bytes() != sizeof(order)) {
    return absl::UnavailableError("hand over a connection: no room");
  }
  (void)channel.Close();
  return absl::OkStatus();
}

absl::StatusOr<Zygote> Zygote::Start(ConnectionHandler& handler,
                                     const Limits& limits, int exit_signal) {
  absl::StatusOr<Ends> ends = Ends::Create();
  if (!ends.ok()) return ends.status();
  void* const memory = mmap(nullptr, sizeof(pid_t), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return ErrnoStatus(errno, "mmap");
  SharedPid last(static_cast<pid_t*>(memory));
  const int channel = ends->childs.fd();
  // It may lie where no child has memory, see unforked.h.
  const Limits own_limits = limits;
  absl::StatusOr<Child> process =
      Fork({.exit_signal = exit_signal,
            .parent_death_signal = SIGKILL,
            .new_process_group = true,
            .keep_fds = absl::MakeConstSpan(&channel, 1)},
           [&] { return RunZygote(ends->childs, handler, own_limits, *last); });
  if (!process.ok()) return process.status();
  return Zygote(*std::move(process), std::move(ends->parents), std::move(last));
}

absl::Status Zygote::Ask(uint32_t count) {
  const absl::StatusOr<IoResult> sent = channel_.TryWrite(BytesOf(count));
  if (!sent.ok()) return sent.status();
  if (sent->bytes() != sizeof(count)) {
    return absl::UnavailableError("ask for spares: it does not listen");
  }
  owed_ += count;
  return absl::OkStatus();
}

absl::StatusOr<std::optional<Zygote::Spare>> Zygote::Next() {
  Answer answer;
  absl::StatusOr<ReceivedFds> got =
      TryReceiveFds(channel_, RoomFor(answer), /*max_fds=*/1);
  if (got.ok() && got->data.would_block()) return std::nullopt;
  if (answer.pid > 0 || answer.error != 0) {
    owed_ -= std::min<size_t>(owed_, 1 + answer.dropped);
  }
  UniqueFd fd;
  // Where no descriptor was left, what it came with has been read.
  if (got.ok() && !got->fds.empty()) fd = std::move(got->fds.front());
  if (answer.pid > 0) {
    named_ = answer.pid;
    return Spare{.pid = answer.pid,
                 .channel = Stream(std::move(fd), Address())};
  }
  if (answer.error != 0) return ErrnoStatus(answer.error, "fork a spare");
  // It is gone, and may have been killed before it could tell of its last one.
  owed_ = 0;
  if (const pid_t last = *last_; last != 0 && last != named_) {
    named_ = last;
    return Spare{.pid = last, .channel = Stream(UniqueFd(), Address())};
  }
  return absl::OutOfRangeError("the zygote is gone");
}

}  // namespace brood
