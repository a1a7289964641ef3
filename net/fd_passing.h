// SPDX-License-Identifier: Apache-2.0
//
// Descriptors travel through a unix stream beside bytes: what one process has
// open, another has then too.
//
//   absl::StatusOr<UniqueFd> ReceiveFile(Stream& stream, std::string& name) {
//     std::array<char, 256> buffer;
//     absl::StatusOr<ReceivedFds> got =
//         ReceiveFds(stream, absl::MakeSpan(buffer), /*max_fds=*/1);
//     if (!got.ok()) return got.status();
//     if (got->data.end()) return absl::OutOfRangeError("no more files");
//     name.assign(buffer.data(), *got->data.bytes());
//     if (got->fds.empty()) return absl::NotFoundError(name);
//     return std::move(got->fds.front());
//   }
//
// What it is not: framed. Descriptors arrive with the first byte that was sent
// beside them; the bytes are a stream as ever, and may be read in more pieces
// than they were written. A reader that does not ask for descriptors (Read)
// loses those that come with what it reads; the kernel closes them.
//
// Ownership: what is sent is borrowed, and may be closed as soon as the call is
// back: the message holds on to it. What is received is the caller's, and
// close-on-exec from the start. It is a copy as dup(2) makes one: offset and
// O_NONBLOCK are common to both.
//
// The bound: a receiver says how many descriptors it takes at most. If more
// come, or as many as the process may not have open (EMFILE), none is kept: all
// are closed, and the call is ResourceExhausted. The bytes they came with have
// been read by then, so close the connection. Never is anything left open that
// the caller does not own, whatever the sender attaches.
//
// Errors: every Status names the call and the peer and carries its errno (see
// ErrnoOf): a descriptor to be sent that is not open is FailedPrecondition
// (EBADF), more of them on their way than RLIMIT_NOFILE allows is
// ETOOMANYREFS. A stream that is not unix is InvalidArgument: TCP takes the
// bytes and drops the descriptors without a word. DeadlineExceeded and the
// bound are ours and have no errno. A reset is never an end, whichever call was
// told of it, one of these or one of the Stream's.
//
// Threads: one sender and one receiver at a time. Signals: as Stream. Fork: no
// state. Rests on: unix(7) SCM_RIGHTS, cmsg(3), recvmsg(2) MSG_CMSG_CLOEXEC and
// MSG_CTRUNC.
#ifndef BROOD_NET_FD_PASSING_H_
#define BROOD_NET_FD_PASSING_H_

#include <cstddef>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/stream.h"
#include "brood/proc/unique_fd.h"

namespace brood {

// What the kernel lets travel at once.
inline constexpr size_t kMaxPassedFds = 253;

// Sends what fits now of `data`, never an end. If it is one byte or more, all
// of `fds` have gone with it; if it would block, none has. InvalidArgument if
// `data` is empty, for nothing can travel alone, and for more than
// kMaxPassedFds.
absl::StatusOr<IoResult> TrySendFds(Stream& stream, std::string_view data,
                                    absl::Span<const int> fds);
// Blocks until the kernel has taken all of `data`, and `fds` with its first
// byte.
absl::Status SendFds(Stream& stream, std::string_view data,
                     absl::Span<const int> fds,
                     absl::Time deadline = absl::InfiniteFuture());

// Bytes, and the descriptors that came with them: those of one send at most.
struct ReceivedFds {
  IoResult data = IoResult::WouldBlock();
  std::vector<UniqueFd> fds = {};
};

// Reads what is there, and up to `max_fds` descriptors. InvalidArgument if
// `buffer` is empty or `max_fds` more than kMaxPassedFds.
absl::StatusOr<ReceivedFds> TryReceiveFds(Stream& stream,
                                          absl::Span<char> buffer,
                                          size_t max_fds);
// Blocks until there is at least one byte or the end. What is already there is
// read even if the deadline has passed.
absl::StatusOr<ReceivedFds> ReceiveFds(
    Stream& stream, absl::Span<char> buffer, size_t max_fds,
    absl::Time deadline = absl::InfiniteFuture());

}  // namespace brood

#endif  // BROOD_NET_FD_PASSING_H_
