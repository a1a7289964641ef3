// SPDX-License-Identifier: Apache-2.0
#include "brood/net/fd_passing.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/stream.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

// <sys/socket.h> of glibc 2.36 does not know it (Linux 6.5).
constexpr int kScmPidfd = 0x04;

constexpr size_t Room(size_t count) { return CMSG_SPACE(count * sizeof(int)); }

// A host may have asked for the sender's credentials (SO_PASSCRED) and pidfd
// (SO_PASSPIDFD) with every message. They take their room first, and without
// some of their own they would push descriptors out.
constexpr size_t kRoomForOthers = CMSG_SPACE(sizeof(ucred)) + Room(1);

absl::Status CheckCanPassFds(const Stream& stream, bool no_bytes,
                             std::string_view what, size_t fds) {
  if (stream.fd() == -1) return ErrnoStatus(EBADF, what);
  if (stream.peer().family() != AF_UNIX) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": expected a unix stream"));
  }
  if (no_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": expected at least one byte"));
  }
  if (fds > kMaxPassedFds) {
    return absl::InvalidArgumentError(absl::StrCat(
        what, ": expected at most ", kMaxPassedFds, " descriptors"));
  }
  return absl::OkStatus();
}

std::string Send(const Stream& stream, size_t fds) {
  return absl::StrCat("sendmsg to ", stream.peer(), " with ", fds,
                      " descriptors");
}

std::string Receive(const Stream& stream, size_t max_fds) {
  return absl::StrCat("recvmsg from ", stream.peer(), " with at most ", max_fds,
                      " descriptors");
}

absl::Status TooLate(std::string_view what) {
  return absl::DeadlineExceededError(absl::StrCat(what, ": deadline exceeded"));
}

absl::Status NotPolled(const absl::Status& why, std::string_view what) {
  return ErrnoStatus(ErrnoOf(why), absl::StrCat("poll to ", what));
}

// Takes charge of every descriptor that recvmsg has installed, wanted or not,
// before anything else can go wrong.
struct Installed {
  std::vector<UniqueFd> passed = {};
  std::vector<UniqueFd> others = {};
};

Installed TakeInstalled(msghdr& message) {
  Installed installed;
  for (cmsghdr* control = CMSG_FIRSTHDR(&message); control != nullptr;
       control = CMSG_NXTHDR(&message, control)) {
    if (control->cmsg_level != SOL_SOCKET) continue;
    const bool rights = control->cmsg_type == SCM_RIGHTS;
    if (!rights && control->cmsg_type != kScmPidfd) continue;
    for (size_t at = CMSG_LEN(0); at + sizeof(int) <= control->cmsg_len;
         at += sizeof(int)) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(control) + (at - CMSG_LEN(0)), sizeof(fd));
      (rights ? installed.passed : installed.others).emplace_back(fd);
    }
  }
  return installed;
}

}  // namespace

absl::StatusOr<IoResult> TrySendFds(Stream& stream, std::string_view data,
                                    absl::Span<const int> fds) {
  const auto what = [&] { return Send(stream, fds.size()); };
  if (absl::Status s =
          CheckCanPassFds(stream, data.empty(), what(), fds.size());
      !s.ok()) {
    return s;
  }
  iovec bytes = {.iov_base = const_cast<char*>(data.data()),
                 .iov_len = data.size()};
  alignas(cmsghdr) std::array<char, Room(kMaxPassedFds)> room = {};
  msghdr message = {};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = room.data();
    message.msg_controllen = Room(fds.size());
    cmsghdr* control = CMSG_FIRSTHDR(&message);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(control), fds.data(), fds.size() * sizeof(int));
  }
  const ssize_t n = RetryOnEintr([&] {
    return sendmsg(stream.fd(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  });
  if (n > 0) return IoResult::Bytes(static_cast<size_t>(n));
  if (errno == EAGAIN) return IoResult::WouldBlock();
  return stream.Remember(ErrnoStatus(errno, what()));
}

absl::Status SendFds(Stream& stream, std::string_view data,
                     absl::Span<const int> fds, absl::Time deadline) {
  const Deadline end = deadline;
  for (;;) {
    const absl::StatusOr<IoResult> sent = TrySendFds(stream, data, fds);
    if (!sent.ok()) return sent.status();
    if (sent->bytes().has_value()) {
      return stream.WriteAll(data.substr(*sent->bytes()), deadline);
    }
    const absl::StatusOr<bool> ready = PollUntil(stream.fd(), POLLOUT, end);
    if (!ready.ok()) return NotPolled(ready.status(), Send(stream, fds.size()));
    if (!*ready) return TooLate(Send(stream, fds.size()));
  }
}

absl::StatusOr<ReceivedFds> TryReceiveFds(Stream& stream,
                                          absl::Span<char> buffer,
                                          size_t max_fds) {
  const auto what = [&] { return Receive(stream, max_fds); };
  if (absl::Status s = CheckCanPassFds(stream, buffer.empty(), what(), max_fds);
      !s.ok()) {
    return s;
  }
  iovec bytes = {.iov_base = buffer.data(), .iov_len = buffer.size()};
  alignas(cmsghdr) std::array<char, kRoomForOthers + Room(kMaxPassedFds)> room =
      {};
  msghdr message = {};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = room.data();
  // CMSG_SPACE would round up to where one more descriptor fits.
  message.msg_controllen = kRoomForOthers + CMSG_LEN(max_fds * sizeof(int));
  const ssize_t n = RetryOnEintr([&] {
    return recvmsg(stream.fd(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  });
  // Only a success fills in the control messages.
  if (n == -1 && errno == EAGAIN) return ReceivedFds();
  if (n == -1) return stream.Remember(ErrnoStatus(errno, what()));
  if (n == 0 && stream.lost() != 0) return ErrnoStatus(stream.lost(), what());
  Installed installed = TakeInstalled(message);
  if ((message.msg_flags & MSG_CTRUNC) != 0 ||
      installed.passed.size() > max_fds) {
    return absl::ResourceExhaustedError(absl::StrCat(
        what(), ": more were sent, or more than may be open; none was kept"));
  }
  return ReceivedFds{
      .data = n > 0 ? IoResult::Bytes(static_cast<size_t>(n)) : IoResult::End(),
      .fds = std::move(installed.passed)};
}

absl::StatusOr<ReceivedFds> ReceiveFds(Stream& stream, absl::Span<char> buffer,
                                       size_t max_fds, absl::Time deadline) {
  const Deadline end = deadline;
  for (;;) {
    absl::StatusOr<ReceivedFds> received =
        TryReceiveFds(stream, buffer, max_fds);
    if (!received.ok() || !received->data.would_block()) return received;
    const absl::StatusOr<bool> ready = PollUntil(stream.fd(), POLLIN, end);
    if (!ready.ok()) return NotPolled(ready.status(), Receive(stream, max_fds));
    if (!*ready) return TooLate(Receive(stream, max_fds));
  }
}

}  // namespace brood
