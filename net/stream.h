// SPDX-License-Identifier: Apache-2.0
//
// A Stream is one end of a connection: bytes in order, each way, until an end.
//
//   absl::Status Echo(Stream& stream) {
//     std::array<char, 4096> buffer;
//     for (;;) {
//       const absl::StatusOr<IoResult> got =
//           stream.Read(absl::MakeSpan(buffer));
//       if (!got.ok()) return got.status();
//       if (got->end()) return stream.ShutdownWrite();
//       const std::string_view bytes(buffer.data(), *got->bytes());
//       if (absl::Status s = stream.WriteAll(bytes); !s.ok()) return s;
//     }
//   }
//
// What it is not: buffered, encrypted, or framed. One write may arrive as many
// reads and many as one.
//
// Three things that a return value of read(2) leaves to luck are kept apart
// here: bytes, not now, and the end of what the peer had to say. A reset is
// none of them but an error, for bytes may have been lost. The kernel tells of
// it once, to a write as well as to a read, and says end from then on; a Stream
// remembers, and no read after it yields an end.
//
// Readiness: fd() is readable when TryRead would not say would-block, writable
// when TryWrite would not.
//
// Ownership: the Stream owns its descriptor. The destructor closes it, with
// nobody to tell. Copies in other processes keep the connection open:
// ShutdownWrite says the end for all of them, Close and Reset only for this
// one.
//
// Errors: every Status names the call and the peer and carries its errno (see
// ErrnoOf): reset is Unavailable (ECONNRESET), writing to a peer that reads no
// more is FailedPrecondition (EPIPE), refused is Unavailable (ECONNREFUSED).
// DeadlineExceeded is ours if it has no errno; with one it is the network that
// gave up (ETIMEDOUT).
//
// Threads: one reader and one writer at a time. A reset that meets both is told
// to one of them; the other may see an end or EPIPE. Signals: EINTR is retried;
// SIGPIPE is never raised and its disposition never touched. Fork: both copies
// share one connection; one of them should Close.
// Rests on: recv(2), send(2), readv(2), shutdown(2), poll(2), connect(2),
// socket(7) SO_SNDTIMEO and SO_LINGER, tcp(7), ip(7) IP_BIND_ADDRESS_NO_PORT
// (Linux 4.2).
#ifndef BROOD_NET_STREAM_H_
#define BROOD_NET_STREAM_H_

#include <cstddef>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"

namespace brood {

// What one call moved: bytes, at least one; or nothing, because it would have
// had to block; or nothing, because the peer has ended. Exactly one of the
// three.
class IoResult {
 public:
  // REQUIRES: `count` > 0.
  static IoResult Bytes(size_t count) { return IoResult(Kind::kBytes, count); }
  static IoResult WouldBlock() { return IoResult(Kind::kWouldBlock, 0); }
  static IoResult End() { return IoResult(Kind::kEnd, 0); }

  // How many bytes, if any.
  std::optional<size_t> bytes() const {
    if (kind_ != Kind::kBytes) return std::nullopt;
    return count_;
  }
  bool would_block() const { return kind_ == Kind::kWouldBlock; }
  bool end() const { return kind_ == Kind::kEnd; }

  friend bool operator==(const IoResult&, const IoResult&) = default;

 private:
  enum class Kind { kBytes, kWouldBlock, kEnd };
  IoResult(Kind kind, size_t count) : kind_(kind), count_(count) {}

  Kind kind_;
  size_t count_;
};

struct ConnectOptions {
  // Where to come from, if not where the kernel thinks best: an IPv4 or IPv6
  // address of this machine. With port 0 the kernel chooses the port, and may
  // choose one that is in use towards other peers.
  std::optional<Address> source = std::nullopt;
};

class Stream {
 public:
  // Blocks until connected to `address` or until `deadline`; if that has passed
  // it asks once, for as short as the kernel can.
  static absl::StatusOr<Stream> Connect(
      const Address& address, absl::Time deadline = absl::InfiniteFuture(),
      const ConnectOptions& options = ConnectOptions());
  // Takes over a connected stream socket that came from elsewhere, and makes it
  // close-on-exec. As where it is accepted, a peer that came by IPv4 to a
  // socket for both families is one of IPv4. InvalidArgument if it is a socket
  // of another kind.
  static absl::StatusOr<Stream> Adopt(UniqueFd socket);
  // REQUIRES: `socket` is a stream socket connected to `peer`. Asks the kernel
  // nothing: for those who have just accepted it.
  Stream(UniqueFd socket, const Address& peer)
      : socket_(std::move(socket)), peer_(peer) {}

  Stream(Stream&&) = default;
  Stream& operator=(Stream&&) = default;

  // The descriptor, borrowed; -1 once closed.
  int fd() const { return socket_.get(); }
  // Who is at the other end, or was.
  const Address& peer() const { return peer_; }

  // The errno that the connection was cut with, once a call has been told; else
  // 0. What reads like an end since then is none.
  int lost() const;
  // Gives `failure` back, and remembers if it says that the connection was cut:
  // for who calls the kernel with fd() and has been told instead of this.
  absl::Status Remember(absl::Status failure);

  // Reads what is there. InvalidArgument if `buffer` is empty, so that nothing
  // but an end looks like one.
  absl::StatusOr<IoResult> TryRead(absl::Span<char> buffer);
  // Writes what fits now. Never an end; InvalidArgument if `data` is empty.
  absl::StatusOr<IoResult> TryWrite(std::string_view data);

  // Blocks until there is at least one byte or the end; never would-block. What
  // is already there is read even if the deadline has passed.
  absl::StatusOr<IoResult> Read(absl::Span<char> buffer);
  absl::StatusOr<IoResult> Read(absl::Span<char> buffer, absl::Time deadline);
  // Blocks until the kernel has taken all of `data`. On an error some of it may
  // have been sent; the message says how much was taken.
  absl::Status WriteAll(std::string_view data);
  absl::Status WriteAll(std::string_view data, absl::Time deadline);

  // The same with many pieces, in their order, by one call of the kernel where
  // it can be one; nothing is copied or allocated. Pieces may be empty, and
  // there may be any number; the Try... and ReadV serve as many of them as the
  // kernel takes at once. InvalidArgument if they have no byte in all.
  absl::StatusOr<IoResult> TryReadV(absl::Span<const absl::Span<char>> buffers);
  absl::StatusOr<IoResult> TryWriteV(absl::Span<const std::string_view> pieces);
  absl::StatusOr<IoResult> ReadV(absl::Span<const absl::Span<char>> buffers,
                                 absl::Time deadline = absl::InfiniteFuture());
  absl::Status WriteAllV(absl::Span<const std::string_view> pieces,
                         absl::Time deadline = absl::InfiniteFuture());

  // Whether small writes leave at once (TCP_NODELAY) or wait for the
  // acknowledgement of earlier ones, as they do at first. Unix streams never
  // wait.
  absl::Status SetNoDelay(bool no_delay);

  // Says the end to the peer; what it still has to say can still be read.
  absl::Status ShutdownWrite();
  // Closes now. Afterwards every call but Close is an error (EBADF).
  absl::Status Close() { return socket_.Close(); }
  // Closes so that the peer sees a reset and not an end; what has not been sent
  // is dropped. Unix has no such thing: there the peer sees a reset if it wrote
  // what was never read, else an end.
  absl::Status Reset();

 private:
  absl::StatusOr<IoResult> End();
  // Without a deadline if it is null.
  absl::StatusOr<IoResult> ReadUntil(absl::Span<char> buffer,
                                     const Deadline* deadline);
  absl::Status WriteUntil(std::string_view data, const Deadline* deadline);

  UniqueFd socket_;
  Address peer_;
  int lost_ = 0;
};

}  // namespace brood

#endif  // BROOD_NET_STREAM_H_
