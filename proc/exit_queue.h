// SPDX-License-Identifier: Apache-2.0
//
// An ExitQueue is a realtime signal by which forked children announce their
// end, one entry for each, and the queue in which the kernel keeps them.
//
//   absl::StatusOr<Reaper> MakeReaper() {
//     absl::StatusOr<ExitQueue> queue = ExitQueue::Create();
//     if (!queue.ok()) return Reaper::Create();  // By pidfds alone.
//     return Reaper::Create(*std::move(queue));
//   }
//
//   absl::Status Start(Reaper& reaper, absl::FunctionRef<int()> body) {
//     absl::StatusOr<Child> child =
//         Fork({.exit_signal = reaper.exit_signal()}, body);
//     if (!child.ok()) return child.status();
//     return reaper.Add(*std::move(child), /*tag=*/0);
//   }
//
// What it is not: a wait. An entry says whose turn it is; the status stays with
// the kernel until the child's owner waits. Nor is it SIGCHLD, of which fifty
// may become one.
//
// Readiness: fd() polls readable while the queue has an entry.
//
// Ownership: this is a change of the whole process, and this object is its
// name. It takes the highest realtime signal that has no handler, is not
// blocked and not pending; blocks it in the calling thread; and lets it be
// ignored wherever it is not blocked. The destructor empties the queue and puts
// mask and disposition back. It must outlive the children that were forked with
// its signal: an unblocked realtime signal ends a process. (If a dropped child
// has still not died, see child.h, the signal stays ignored.)
//
// Errors: Create: ResourceExhausted if every realtime signal is in use, else
// what signalfd(2) says.
//
// The kernel bounds the queue by RLIMIT_SIGPENDING for all processes of a user
// together, and drops what does not fit without a word. A thread that does not
// block the signal makes entries vanish too. MayHaveLost() says that the first
// may have happened; nothing tells the second. So the Reaper looks after its
// children, 512 of them a second.
//
// Threads: one at a time; destroy it in the thread that made it. Signals: see
// above. Fork: a copy in a child is inert. Programs that this process starts
// otherwise than by Spawn() inherit the signal blocked and ignored.
// Rests on: clone(2) "exit_signal", sigtimedwait(2), signalfd(2), signal(7).
#ifndef BROOD_PROC_EXIT_QUEUE_H_
#define BROOD_PROC_EXIT_QUEUE_H_

#include <sys/resource.h>
#include <sys/types.h>

#include <csignal>
#include <optional>

#include "absl/status/statusor.h"
#include "brood/proc/unique_fd.h"

namespace brood {

class ExitQueue {
 public:
  static absl::StatusOr<ExitQueue> Create();

  ExitQueue(ExitQueue&& other) noexcept;
  ExitQueue& operator=(ExitQueue&&) = delete;
  ~ExitQueue();

  // Borrowed.
  int fd() const { return fd_.get(); }
  int signo() const { return signo_; }

  // The next child that has ended, or nullopt if there is none. Never blocks.
  // It may name a process that is no child, or lives: whoever waits finds out.
  std::optional<pid_t> Next();

  // Whether so many entries came at once that there may have been more; true
  // once for each time.
  bool MayHaveLost();

 private:
  ExitQueue(int signo, UniqueFd fd, const sigset_t& mask,
            const struct sigaction& action);

  int signo_;  // 0: moved from.
  pid_t owner_;
  UniqueFd fd_;
  sigset_t previous_mask_;
  struct sigaction previous_action_;
  rlim_t in_a_row_ = 0;  // Taken since the queue was last empty.
  rlim_t full_ = 0;      // So many that some may not have found room.
  bool may_have_lost_ = false;
};

}  // namespace brood

#endif  // BROOD_PROC_EXIT_QUEUE_H_
