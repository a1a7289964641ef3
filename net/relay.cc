// SPDX-License-Identifier: Apache-2.0
#include "brood/net/relay.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "brood/net/stream.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

// What moves at once. A pipe holds 16 pieces of what a socket has, of up to 32
// KiB each, unless it is asked to hold more.
constexpr size_t kPipeBytes = size_t{1} << 20;
constexpr size_t kBufferBytes = size_t{64} << 10;

// Lets no SIGPIPE out of splice(2), which knows no MSG_NOSIGNAL: the kernel
// sends the signal to the thread that has called, so there it is blocked, and
// taken away again wherever a call has failed with EPIPE.
//
// If one was pending before, ours has become one with it, and stays. One that
// somebody sends to the process meanwhile stays too: the thread's own comes
// first.
class NoSigpipe {
 public:
  NoSigpipe() {
    sigset_t pending;
    (void)sigpending(&pending);
    pending_before_ = sigismember(&pending, SIGPIPE) == 1;
    const sigset_t sigpipe = Sigpipe();
    (void)pthread_sigmask(SIG_BLOCK, &sigpipe, &mask_before_);
  }
  ~NoSigpipe() { (void)pthread_sigmask(SIG_SETMASK, &mask_before_, nullptr); }
  NoSigpipe(const NoSigpipe&) = delete;
  NoSigpipe& operator=(const NoSigpipe&) = delete;

  void TakeAway() const {
    if (pending_before_) return;
    constexpr timespec kNow = {};
    const sigset_t sigpipe = Sigpipe();
    (void)RetryOnEintr([&] { return sigtimedwait(&sigpipe, nullptr, &kNow); });
  }

 private:
  static sigset_t Sigpipe() {
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGPIPE);
    return set;
  }

  bool pending_before_ = false;
  sigset_t mask_before_;
};

// SPLICE_F_NONBLOCK is about the pipe alone: into a socket that is full, or out
// of a TCP one that is empty, splice blocks unless the socket itself is
// non-blocking. And one that blocks would keep the other way from moving on
// which its peer may insist before it reads.
class NonBlocking {
 public:
  explicit NonBlocking(int fd) : fd_(fd), before_(fcntl(fd, F_GETFL)) {
    if (before_ != -1) (void)fcntl(fd_, F_SETFL, before_ | O_NONBLOCK);
  }
  ~NonBlocking() {
    if (before_ != -1) (void)fcntl(fd_, F_SETFL, before_);
  }
  NonBlocking(const NonBlocking&) = delete;
  NonBlocking& operator=(const NonBlocking&) = delete;

 private:
  int fd_;
  int before_;
};

// What has been taken from one peer and not yet given to the other: in a pipe,
// or where there is none, or splice is refused (by seccomp, or for a protocol
// that does not know it), in a buffer.
class Hold {
 public:
  Hold() {
    std::array<int, 2> ends;
    if (pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) == -1) return;
    out_ = UniqueFd(ends[0]);
    in_ = UniqueFd(ends[1]);
    // A user who has many pipes is refused; then it holds what it holds.
    (void)fcntl(in_.get(), F_SETPIPE_SZ, kPipeBytes);
  }

  bool empty() const { return size_ == 0; }
  // What the last Take has tried, and the next Give will.
  bool spliced() const { return !buffered_; }

  // As recv(2) with MSG_DONTWAIT. REQUIRES: empty().
  ssize_t Take(int from) {
    buffered_ = !in_.valid();
    if (!buffered_) {
      const ssize_t n = RetryOnEintr([&] {
        return splice(from, nullptr, in_.get(), nullptr, kPipeBytes,
                      SPLICE_F_NONBLOCK);
      });
      if (n > 0) {
        size_ = static_cast<size_t>(n);
        return n;
      }
      if (n == -1 && Refused(errno)) {
        in_ = UniqueFd();
        out_ = UniqueFd();
      } else if (n == -1 && errno != EAGAIN) {
        return n;
      } else if (const ssize_t there = Peek(from); there <= 0) {
        buffered_ = true;
        return there;
      }
      buffered_ = true;
    }
    if (buffer_ == nullptr) {
      buffer_ = std::make_unique_for_overwrite<char[]>(kBufferBytes);
    }
    const ssize_t n = RetryOnEintr(
        [&] { return recv(from, buffer_.get(), kBufferBytes, MSG_DONTWAIT); });
    at_ = 0;
    if (n >= 0) size_ = static_cast<size_t>(n);
    return n;
  }

  // As send(2) with MSG_DONTWAIT. REQUIRES: !empty().
  ssize_t Give(int to, const NoSigpipe& no_sigpipe) {
    const ssize_t n = RetryOnEintr([&]() -> ssize_t {
      if (buffered_) {
        return send(to, buffer_.get() + at_, size_,
                    MSG_DONTWAIT | MSG_NOSIGNAL);
      }
      return splice(out_.get(), nullptr, to, nullptr, size_, SPLICE_F_NONBLOCK);
    });
    if (n == -1) {
      if (errno == EPIPE && !buffered_) {
        no_sigpipe.TakeAway();
        errno = EPIPE;
      }
      return n;
    }
    at_ += static_cast<size_t>(n);
    size_ -= static_cast<size_t>(n);
    return n;
  }

 private:
  static bool Refused(int error) {
    return error == EINVAL || error == EOPNOTSUPP || error == ENOSYS ||
           error == EPERM || error == EACCES;
  }

  // What splice says to be nothing, or the end, may be neither: before a byte
  // that TCP was told is urgent (MSG_OOB) it stops for good, whatever waits
  // behind it. recv passes over that byte, as it does for every other reader,
  // and splice goes on from there.
  static ssize_t Peek(int from) {
    char byte;
    return RetryOnEintr(
        [&] { return recv(from, &byte, 1, MSG_PEEK | MSG_DONTWAIT); });
  }

  UniqueFd out_;
  UniqueFd in_;
  std::unique_ptr<char[]> buffer_;
  bool buffered_ = false;
  size_t at_ = 0;  // Within the buffer.
  size_t size_ = 0;
};

struct Side {
  // OK unless it was cut and some call has been told, before this relay began
  // or by a write of it. The kernel tells once: what reads like an end since
  // then is none.
  absl::Status Cut() const {
    if (stream.lost() != 0) {
      return ErrnoStatus(stream.lost(),
                         absl::StrCat("recv from ", stream.peer()));
    }
    const int error = ErrnoOf(refusal);
    if (error == EPIPE || error == ENOTCONN) return absl::OkStatus();
    return refusal;
  }

  Stream& stream;
  absl::Status refusal = absl::OkStatus();  // To be written to any more.
};

// One way, from one side to the other.
class Way {
 public:
  Way(Side& from, Side& to) : from_(from), to_(to) {}

  bool done() const { return done_; }
  uint64_t moved() const { return moved_; }
  // What there is to wait for: one at a time, for what can only be read cannot
  // be told from what finds no room in the pipe.
  short wants_of_from() const { return !done_ && hold_.empty() ? POLLIN : 0; }
  short wants_of_to() const { return !done_ && !hold_.empty() ? POLLOUT : 0; }

  // Moves what moves without waiting. An error cuts both ways.
  absl::Status Move(const NoSigpipe& no_sigpipe) {
    if (hold_.empty()) {
      const ssize_t n = hold_.Take(from_.stream.fd());
      if (n == -1 && errno == EAGAIN) return absl::OkStatus();
      if (n == -1) {
        return ErrnoStatus(
            errno, absl::StrCat(hold_.spliced() ? "splice" : "recv", " from ",
                                from_.stream.peer()));
      }
      if (n == 0) return PassOnEnd();
    }
    const ssize_t n = hold_.Give(to_.stream.fd(), no_sigpipe);
    if (n == -1 && errno != EAGAIN) {
      Refuse(
          ErrnoStatus(errno, absl::StrCat(hold_.spliced() ? "splice" : "send",
                                          " to ", to_.stream.peer())));
    }
    if (n > 0) moved_ += static_cast<uint64_t>(n);
    return absl::OkStatus();
  }

 private:
  absl::Status PassOnEnd() {
    if (absl::Status cut = from_.Cut(); !cut.ok()) return cut;
    done_ = true;
    // Refused (ENOTCONN) if `to` has been cut. Whoever reads from it learns of
    // that, after what it has said before.
    if (absl::Status s = to_.stream.ShutdownWrite(); !s.ok()) {
      to_.refusal = std::move(s);
    }
    return absl::OkStatus();
  }

  // The other way goes on: `to` may have answered already, and closed without
  // reading all that it was sent.
  void Refuse(absl::Status why) {
    done_ = true;
    to_.refusal = std::move(why);
    // Says so to a unix peer. A TCP peer finds its window full, and at last the
    // connection closed.
    (void)shutdown(from_.stream.fd(), SHUT_RD);
  }

  Side& from_;
  Side& to_;
  Hold hold_;
  uint64_t moved_ = 0;
  bool done_ = false;
};

// Watches over both limits.
class Clock {
 public:
  explicit Clock(const RelayOptions& options)
      : deadline_(options.deadline),
        idle_limit_(options.idle_limit),
        last_(MonotonicNow()) {}

  // To be told how many bytes have moved in all. An error once it is too late.
  absl::Status Check(uint64_t moved) {
    if (deadline_.Left() == absl::ZeroDuration()) {
      return absl::DeadlineExceededError("deadline exceeded");
    }
    if (idle_limit_ == absl::InfiniteDuration()) return absl::OkStatus();
    if (moved != moved_) {
      moved_ = moved;
      last_ = MonotonicNow();
    }
    if (IdleLeft() > absl::ZeroDuration()) return absl::OkStatus();
    return absl::DeadlineExceededError(
        absl::StrCat("no byte for ", absl::FormatDuration(idle_limit_)));
  }

  // How long to wait at most.
  absl::Duration Left() const { return std::min(deadline_.Left(), IdleLeft()); }

 private:
  absl::Duration IdleLeft() const {
    if (idle_limit_ == absl::InfiniteDuration()) return idle_limit_;
    return std::max(idle_limit_ - (MonotonicNow() - last_),
                    absl::ZeroDuration());
  }

  Deadline deadline_;
  absl::Duration idle_limit_;
  uint64_t moved_ = 0;
  absl::Duration last_;  // When a byte moved.
};

// Who is not waited for is left out: it would report that it has hung up.
absl::Status Wait(std::array<pollfd, 2>& items, absl::Duration left,
                  const Stream& a, const Stream& b) {
  for (pollfd& item : items) {
    if (item.events == 0) item.fd = -1;
  }
  const timespec timeout = absl::ToTimespec(left);
  const int ready = RetryOnEintr([&] {
    return ppoll(items.data(), items.size(),
                 left == absl::InfiniteDuration() ? nullptr : &timeout,
                 nullptr);
  });
  return ready == -1 ? ErrnoStatus(errno, absl::StrCat("poll of ", a.peer(),
                                                       " and ", b.peer()))
                     : absl::OkStatus();
}

// OK once both ways are done.
absl::Status MoveAll(Way& there, Way& back, const Stream& a, const Stream& b,
                     const RelayOptions& options) {
  const NoSigpipe no_sigpipe;
  const NonBlocking a_does_not_block(a.fd());
  const NonBlocking b_does_not_block(b.fd());
  Clock clock(options);
  bool there_may_move = true;
  bool back_may_move = true;
  for (;;) {
    if (there_may_move) {
      if (absl::Status s = there.Move(no_sigpipe); !s.ok()) return s;
    }
    if (back_may_move) {
      if (absl::Status s = back.Move(no_sigpipe); !s.ok()) return s;
    }
    if (there.done() && back.done()) return absl::OkStatus();
    if (absl::Status s = clock.Check(there.moved() + back.moved()); !s.ok()) {
      return s;
    }
    const int a_events = there.wants_of_from() | back.wants_of_to();
    const int b_events = back.wants_of_from() | there.wants_of_to();
    std::array<pollfd, 2> items = {
        pollfd{
            .fd = a.fd(), .events = static_cast<short>(a_events), .revents = 0},
        pollfd{.fd = b.fd(),
               .events = static_cast<short>(b_events),
               .revents = 0}};
    if (absl::Status s = Wait(items, clock.Left(), a, b); !s.ok()) return s;
    there_may_move =
        !there.done() && items[there.wants_of_from() != 0 ? 0 : 1].revents != 0;
    back_may_move =
        !back.done() && items[back.wants_of_from() != 0 ? 1 : 0].revents != 0;
  }
}

}  // namespace

Relayed Relay(Stream& a, Stream& b, const RelayOptions& options) {
  Side side_a = {.stream = a};
  Side side_b = {.stream = b};
  Way there(side_a, side_b);
  Way back(side_b, side_a);
  absl::Status status = MoveAll(there, back, a, b, options);
  if (ErrnoOf(status) == 0 && !status.ok()) {  // One of the limits.
    status = absl::Status(status.code(),
                          absl::StrCat("relay between ", a.peer(), " and ",
                                       b.peer(), ": ", status.message()));
  }
  const bool cut = !status.ok() || !side_a.Cut().ok() || !side_b.Cut().ok();
  status.Update(side_b.refusal);
  status.Update(side_a.refusal);
  if (cut) {
    (void)a.Reset();
    (void)b.Reset();
  }
  return {.a_to_b = there.moved(),
          .b_to_a = back.moved(),
          .status = std::move(status)};
}

}  // namespace brood
