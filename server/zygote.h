// SPDX-License-Identifier: Apache-2.0
//
// A Zygote is a process that forks others ahead of need: each waits for a
// connection, serves it, and ends, like one that was forked for it.
//
//   // Has `connection` served by a process that was there before it.
//   absl::StatusOr<pid_t> Serve(Zygote& zygote, const Stream& connection) {
//     if (absl::Status s = zygote.Ask(1); !s.ok()) return s;
//     absl::StatusOr<bool> ready =
//         PollUntil(zygote.fd(), POLLIN, absl::InfiniteFuture());
//     if (!ready.ok()) return ready.status();
//     absl::StatusOr<std::optional<Zygote::Spare>> spare = zygote.Next();
//     if (!spare.ok()) return spare.status();
//     if (!spare->has_value()) return absl::UnavailableError("not yet");
//     absl::Status given = (*spare)->Give(
//         connection, {.local = {}, .peer = connection.peer()}, nullptr);
//     if (!given.ok()) return given;
//     return (*spare)->pid;
//   }
//
// What it is for: a fork waits for locks that it shares with every process of
// its kind, for as long as the kernel walks along all of them, and with
// thousands that is milliseconds. Whoever has to answer must not be the one who
// waits. What it is not: faster in all. A connection that is handed over costs
// a fork, and two messages.
//
// What it forks are children of who started it, and its own siblings: they are
// waited for as if Fork() had made them, and die with their parent, as it does.
// They are what the zygote was when it was started: of what has changed in its
// parent's memory since, their handlers see nothing.
//
// A spare has nothing open but its end of a socket, and then its connection,
// which comes through it. It ends, with 0, when the other end is closed and no
// connection has come, and with kCannotBegin if one could not be taken. The
// zygote ends when its object is destroyed.
//
// Readiness: fd() polls readable when Next() has something to say.
//
// Ownership: the object owns the socket to the zygote; whose process is the
// caller's to wait for, and so is each spare from the moment that Next() has
// named it, by Child(pid, exit_signal). The handler is borrowed.
//
// Errors: Start: what Fork(), socketpair(2) and mmap(2) say. Ask: what
// sendmsg(2) says. Next: why one could not be forked; OutOfRange if the zygote
// is gone, or cannot be heard. Nobody whom it forked is lost then: Next() names
// him first. After a fork that failed, and after a spare whose socket could not
// be sent, nothing comes of what is left of that Ask(), and owed() knows it.
//
// Threads: one. Signals: none. Fork: a child must not use a copy. Rests on:
// fork.h, fd_passing.h.
#ifndef BROOD_SERVER_ZYGOTE_H_
#define BROOD_SERVER_ZYGOTE_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/limits.h"
#include "brood/server/connection_handler.h"

namespace brood {

class Zygote {
 public:
  // A process that waits for its connection.
  struct Spare {
    pid_t pid = -1;
    // Closed if it could not be sent, or no descriptor was left for it: then
    // the spare ends at once.
    Stream channel;

    // From here on it serves `connection`, of which the caller should close its
    // copy. `totals` as in HandlerProcess: memory that was there, and shared,
    // when the zygote was started. If this fails it has not begun.
    absl::Status Give(const Stream& connection, const ConnectionInfo& info,
                      TcpTotals* totals);
  };

  // `exit_signal` as in ForkOptions: that of the zygote, and of all whom it
  // forks. `limits` are for each spare, once it has its connection.
  static absl::StatusOr<Zygote> Start(ConnectionHandler& handler,
                                      const Limits& limits, int exit_signal);

  // Gives away the process of the zygote itself, once.
  Child TakeProcess() { return std::move(process_); }

  int fd() const { return channel_.fd(); }
  // For so many spares more, which come one after the other.
  absl::Status Ask(uint32_t count);
  // How many of those are yet to come.
  size_t owed() const { return owed_; }
  // The next one that has come; nullopt if none has. Never blocks.
  absl::StatusOr<std::optional<Spare>> Next();

 private:
  // Shared with the zygote: whom it forked last.
  struct Unmap {
    void operator()(pid_t* last) const;
  };
  using SharedPid = std::unique_ptr<pid_t, Unmap>;

  Zygote(Child process, Stream channel, SharedPid last)
      : process_(std::move(process)),
        channel_(std::move(channel)),
        last_(std::move(last)) {}

  Child process_;
  Stream channel_;
  SharedPid last_;
  pid_t named_ = 0;  // Whom Next() named last.
  size_t owed_ = 0;
};

}  // namespace brood

#endif  // BROOD_SERVER_ZYGOTE_H_
