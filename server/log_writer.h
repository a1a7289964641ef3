// SPDX-License-Identifier: Apache-2.0
//
// A LogWriter writes lines to a descriptor and never waits: a reader that has
// stopped reading costs lines, which are counted, and not the server's time.
//
//   absl::Status LogStartAndEnd(int fd) {
//     absl::StatusOr<LogWriter> log = LogWriter::Create(fd);
//     if (!log.ok()) return log.status();
//     log->Write("begins");
//     log->Write("ends");
//     log->Flush();
//     if (log->lost() == 0) return absl::OkStatus();
//     return absl::DataLossError(absl::StrCat(log->lost(), " lines lost"));
//   }
//
// What it is not: a queue. A line that nobody has room for is lost at once, and
// when there is room again the first line says how many were: "3 lines lost".
// Only of a line that was taken in part the rest is kept, and comes before
// anything else; so a line is never torn, nor does it begin inside another.
//
// Who shares the descriptor is not disturbed: O_NONBLOCK would be theirs too,
// so it is never set on what was given. A pipe, a FIFO or a terminal is opened
// once more, by /proc, for a description of our own; a socket is asked not to
// wait with each call; a regular file takes every line, at the offset that all
// share, and so does a device that is no terminal.
//
// Lines of several processes in one pipe stay whole up to PIPE_BUF, 4096 bytes
// with the newline, as they do for write(2); longer ones, and those in a stream
// socket or a terminal that was full meanwhile, can be parted by another's.
//
// What cannot be opened once more (no /proc, not permitted, a FIFO that nobody
// reads) is asked whether it has room before each write of at most PIPE_BUF
// bytes. Then, and only then, a line can wait: for a terminal with less room
// than that, or if another process takes the room in between.
//
// Readiness: none; it is for those who do not wait. What is kept goes out with
// the next Write or Flush.
//
// Ownership: the descriptor is borrowed and must stay open; the description of
// our own is owned, and close-on-exec.
//
// Errors: Create fails if the descriptor is not open (EBADF) or not for writing
// (FailedPrecondition). Whatever goes wrong later (ENOSPC, EPIPE, EIO, ...) is
// a lost line.
//
// Threads: one at a time. Signals: raises no SIGPIPE, whatever its disposition;
// one from elsewhere in the same moment may be taken along. A terminal that
// stops those who write from the background (stty tostop) does not stop us.
// Fork: a copy may go on writing; what was kept is then written twice.
// Rests on: proc(5) /proc/pid/fd, fifo(7), pipe(7), send(2), sigtimedwait(2).
#ifndef BROOD_SERVER_LOG_WRITER_H_
#define BROOD_SERVER_LOG_WRITER_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "brood/proc/unique_fd.h"

namespace brood {

class LogWriter {
 public:
  // What a line says of so many lost ones, without its newline.
  using DescribeLoss = absl::AnyInvocable<std::string(uint64_t lines)>;

  static absl::StatusOr<LogWriter> Create(int fd);
  static absl::StatusOr<LogWriter> Create(int fd, DescribeLoss describe_loss);

  // `line` without its newline, and with none inside.
  void Write(std::string_view line);
  // Tries once more to write what was kept, and to say what was lost.
  void Flush();
  // The lines that were lost and have not been said to be.
  uint64_t lost() const { return lost_; }

 private:
  enum class Kind {
    kFile,    // Takes what it is given.
    kSocket,  // Takes MSG_DONTWAIT.
    kOwn,     // A pipe or a terminal, by a description of our own.
    kShared,  // The same, but shared with others.
  };
  LogWriter(Kind kind, int fd, UniqueFd own, DescribeLoss describe_loss)
      : kind_(kind),
        fd_(fd),
        own_(std::move(own)),
        describe_loss_(std::move(describe_loss)) {}

  // Whether nothing is kept any more.
  bool PushRest();
  // Whether `text` was taken, or as much of it that the rest is kept.
  bool Take(std::string text);
  // How much was taken.
  size_t Push(std::string_view bytes);
  // As write(2), but EAGAIN for whatever would wait.
  ssize_t WriteSome(std::string_view bytes);

  Kind kind_;
  int fd_;
  UniqueFd own_;
  DescribeLoss describe_loss_;
  std::string rest_;  // Of the last line that was taken.
  uint64_t lost_ = 0;
};

}  // namespace brood

#endif  // BROOD_SERVER_LOG_WRITER_H_
