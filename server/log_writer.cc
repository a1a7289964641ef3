// SPDX-License-Identifier: Apache-2.0
#include "brood/server/log_writer.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/signal/mask.h"
#include "brood/signal/signal_set.h"

namespace brood {
namespace {

// The same file, by an open file description that is nobody else's.
//
// A FIFO that nobody reads says ENXIO. The master of a pseudo-terminal would
// open, but as the master of another one, newly made.
UniqueFd OpenOnceMore(int fd) {
  unsigned int number;
  if (ioctl(fd, TIOCGPTN, &number) == 0) return UniqueFd();
  const std::string path = absl::StrCat("/proc/self/fd/", fd);
  return UniqueFd(RetryOnEintr([&] {
    return open(path.c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  }));
}

void TakeBackSigpipe() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGPIPE);
  const timespec at_once = {};
  (void)RetryOnEintr([&] { return sigtimedwait(&set, nullptr, &at_once); });
}

}  // namespace

absl::StatusOr<LogWriter> LogWriter::Create(int fd) {
  return Create(fd, [](uint64_t lines) {
    return absl::StrCat(lines, lines == 1 ? " line lost" : " lines lost");
  });
}

absl::StatusOr<LogWriter> LogWriter::Create(int fd,
                                            DescribeLoss describe_loss) {
  const auto what = [&] { return absl::StrCat("log to descriptor ", fd); };
  struct stat file;
  const int flags = fcntl(fd, F_GETFL);
  if (flags == -1 || fstat(fd, &file) == -1) {
    return ErrnoStatus(errno, what());
  }
  if ((flags & O_ACCMODE) == O_RDONLY) {
    return absl::FailedPreconditionError(
        absl::StrCat(what(), ": expected one that is open for writing"));
  }
  Kind kind = Kind::kFile;
  UniqueFd own;
  if (S_ISSOCK(file.st_mode)) {
    kind = Kind::kSocket;
  } else if (S_ISFIFO(file.st_mode) || isatty(fd) == 1) {
    own = OpenOnceMore(fd);
    kind = own.valid() ? Kind::kOwn : Kind::kShared;
  }
  return LogWriter(kind, fd, std::move(own), std::move(describe_loss));
}

void LogWriter::Write(std::string_view line) {
  std::string text = absl::StrCat(line, "\n");
  if (lost_ > 0) {
    // In one write, and neither without the other: where there is room for the
    // count alone, it would be said again and again. But a pipe keeps no more
    // than PIPE_BUF bytes together.
    const std::string loss = absl::StrCat(describe_loss_(lost_), "\n");
    if (loss.size() + text.size() <= PIPE_BUF) {
      text.insert(0, loss);
    } else {
      Flush();
      if (lost_ > 0) {
        ++lost_;
        return;
      }
    }
  }
  if (PushRest() && Take(std::move(text))) {
    lost_ = 0;
  } else {
    ++lost_;
  }
}

void LogWriter::Flush() {
  if (PushRest() && lost_ > 0 &&
      Take(absl::StrCat(describe_loss_(lost_), "\n"))) {
    lost_ = 0;
  }
}

bool LogWriter::PushRest() {
  // Also when the reader has left: what a FIFO holds is there for the next one,
  // and so is the beginning of this line.
  rest_.erase(0, Push(rest_));
  return rest_.empty();
}

bool LogWriter::Take(std::string text) {
  const size_t taken = Push(text);
  if (taken == 0) return false;
  text.erase(0, taken);
  rest_ = std::move(text);
  return true;
}

size_t LogWriter::Push(std::string_view bytes) {
  if (bytes.empty()) return 0;
  // A pipe without a reader raises SIGPIPE, and no flag prevents it. It is
  // raised in this thread, so blocking it here is enough, and it can be taken
  // back while it is pending. SIGTTOU, once blocked, is not raised at all, and
  // the terminal takes what is written.
  std::optional<absl::StatusOr<SignalMask>> mask;
  if (kind_ == Kind::kOwn || kind_ == Kind::kShared) {
    mask.emplace(SignalMask::Block({SIGPIPE, SIGTTOU}));
  }
  size_t pushed = 0;
  while (pushed < bytes.size()) {
    const ssize_t n = WriteSome(bytes.substr(pushed));
    if (n <= 0) {
      if (n == -1 && errno == EPIPE && mask.has_value()) TakeBackSigpipe();
      break;
    }
    pushed += static_cast<size_t>(n);
  }
  return pushed;
}

ssize_t LogWriter::WriteSome(std::string_view bytes) {
  return RetryOnEintr([&]() -> ssize_t {
    switch (kind_) {
      case Kind::kSocket:
        return send(fd_, bytes.data(), bytes.size(),
                    MSG_DONTWAIT | MSG_NOSIGNAL);
      case Kind::kOwn:
        return write(own_.get(), bytes.data(), bytes.size());
      case Kind::kShared: {
        // Room, for the kernel, is PIPE_BUF bytes of it in a pipe.
        pollfd room = {.fd = fd_, .events = POLLOUT, .revents = 0};
        if (poll(&room, 1, 0) != 1) {
          errno = EAGAIN;
          return -1;
        }
        return write(fd_, bytes.data(),
                     std::min(bytes.size(), size_t{PIPE_BUF}));
      }
      case Kind::kFile:
        break;
    }
    return write(fd_, bytes.data(), bytes.size());
  });
}

}  // namespace brood
