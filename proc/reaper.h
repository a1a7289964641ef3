// SPDX-License-Identifier: Apache-2.0
//
// A Reaper owns many children and reports each one's end exactly once, through
// one descriptor that is readable when there is something to report.
//
//   absl::Status WaitForAll(Reaper& reaper) {
//     while (reaper.size() > 0) {
//       absl::StatusOr<std::optional<Reaper::Exit>> exit = reaper.Next();
//       if (!exit.ok()) return exit.status();
//       if (exit->has_value()) {
//         LOG(INFO) << (*exit)->pid << " " << (*exit)->status;
//         continue;
//       }
//       absl::StatusOr<bool> ready =
//           PollUntil(reaper.fd(), POLLIN, absl::InfiniteFuture());
//       if (!ready.ok()) return ready.status();
//     }
//     return absl::OkStatus();
//   }
//
// What it is not: a SIGCHLD handler. It uses no signal, so exits cannot
// coalesce into one, no handler or mask of the program's has to change, and the
// program's other children are never touched: it waits for those it was given
// and never for "any child". It starts nothing either; see fork.h.
//
// Readiness: fd() polls readable when Next() would report an exit, and stays so
// until Next() has reported them all.
//
// Ownership: Add() takes the Child; Next() reaps it and gives back what is left
// of it, the Exit. Destroying a Reaper kills and reaps the children it still
// has.
//
// Errors: Next() fails only where waiting itself does; a child that somebody
// else reaped is reported like any other, as ExitStatus::Lost().
//
// Cost: independent of how many children live. One descriptor each, and one for
// the Reaper.
//
// Threads: one at a time. Signals: none used. Fork: a copy in a child process
// must not be used, only destroyed, which closes its descriptors and harms
// nobody. Rests on: epoll(7), pidfd_open(2), waitid(2) with P_PIDFD
// (Linux 5.4).
#ifndef BROOD_PROC_REAPER_H_
#define BROOD_PROC_REAPER_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/unique_fd.h"

namespace brood {

class Reaper {
 public:
  struct Exit {
    pid_t pid;
    uint64_t tag;  // What Add() was given: whose child it was.
    ExitStatus status;

    friend bool operator==(const Exit&, const Exit&) = default;
  };

  static absl::StatusOr<Reaper> Create();

  Reaper(Reaper&& other) noexcept;
  Reaper& operator=(Reaper&& other) noexcept;
  ~Reaper();

  // Borrowed.
  int fd() const { return epoll_.get(); }

  // Takes charge of `child`. On error `child` is untouched and still the
  // caller's.
  absl::Status Add(Child&& child, uint64_t tag);

  // The end of one child, or nullopt if none has ended since. Never blocks.
  absl::StatusOr<std::optional<Exit>> Next();

  // How many children there are whose end has not been reported.
  size_t size() const { return children_.size(); }

  // Sends `signo` to every child that has not ended. The first error, if any,
  // is returned after all have been tried; to have ended meanwhile is none.
  absl::Status SignalAll(int signo);

 private:
  struct Entry {
    Child child;
    uint64_t tag;
  };

  explicit Reaper(UniqueFd epoll) : epoll_(std::move(epoll)) {}

  UniqueFd epoll_;
  // By pidfd, which is ours for as long as the entry is; a pid is not, once
  // somebody else has reaped it.
  absl::flat_hash_map<int, Entry> children_;
  std::vector<int> ended_;  // Pidfds that epoll reported and Next() has not.
};

}  // namespace brood

#endif  // BROOD_PROC_REAPER_H_
