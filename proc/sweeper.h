// SPDX-License-Identifier: Apache-2.0
//
// A Sweeper reaps chosen children from inside a SIGCHLD handler of one's own.
//
//   Sweeper* children = nullptr;
//
//   void OnChild(int) { children->Sweep(); }  // By sigaction(SIGCHLD, ...).
//
//   absl::StatusOr<Sweeper::Exit> AwaitExit(Sweeper& sweeper) {
//     while (true) {
//       const std::optional<Sweeper::Exit> exit = sweeper.Next();
//       if (exit.has_value()) return *exit;
//       const absl::StatusOr<bool> ready =
//           PollUntil(sweeper.fd(), POLLIN, absl::InfiniteFuture());
//       if (!ready.ok()) return ready.status();
//     }
//   }
//
// What it is not: a handler, which the program registers, nor a wait for any
// child: those it was not given are left to their owners. And it is not the way
// to choose freely. A handler is told that some child ended and not which, so
// each signal costs a system call for every child that lives; a Reaper (see
// reaper.h) costs the same for ten children and for ten thousand, and needs no
// signal at all. This is for a program that has its handler already.
//
// What the usual handler gets wrong, and this does not: signals coalesce, so
// one of them may stand for many ends; a child may end before fork(2) has
// returned its pid, which Add() therefore looks at itself; errno must be as
// before; and nothing may be allocated, locked or printed.
//
// Readiness: fd() polls readable when Next() would yield something, and until
// Next() has said that there is no more.
//
// Ownership: Add() takes the duty to wait; nobody else may. The Sweeper must
// stay where it is while the handler may run; take the handler away before
// destroying it. It kills nobody: children that live then are not waited for
// any more.
//
// Errors: Create: InvalidArgument for no capacity at all. Add:
// ResourceExhausted when there are `capacity` children whose ends Next() has
// not yielded; InvalidArgument for what is no pid; FailedPrecondition (ECHILD)
// for what is no child. A child that somebody else reaped is reported as
// ExitStatus::Lost().
//
// Threads: Sweep() in any, several at once; the others in one at a time.
// Signals: Sweep() is async-signal-safe, the others are not. A child whose exit
// signal is not SIGCHLD is reaped like any other, once something calls Sweep().
// Fork: a copy in a child process does nothing. Rests on: waitpid(2) with
// __WALL, signal-safety(7), eventfd(2).
#ifndef BROOD_PROC_SWEEPER_H_
#define BROOD_PROC_SWEEPER_H_

#include <sys/resource.h>
#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/unique_fd.h"

namespace brood {

class Sweeper {
 public:
  struct Exit {
    pid_t pid;
    uint64_t tag;  // What Add() was given: whose child it was.
    ExitStatus status;

    friend bool operator==(const Exit&, const Exit&) = default;
  };

  // Has room for `capacity` children.
  static absl::StatusOr<Sweeper> Create(size_t capacity);

  Sweeper(Sweeper&&) noexcept = default;
  Sweeper& operator=(Sweeper&&) noexcept = default;

  // Borrowed.
  int fd() const { return event_.get(); }

  // Takes the duty to wait for `pid`, a child of this process that nobody has
  // waited for.
  absl::Status Add(pid_t pid, uint64_t tag);

  // Reaps those that have ended. Never blocks, and leaves errno alone.
  void Sweep() noexcept;

  // The end of one child, or nullopt if none has been swept since.
  std::optional<Exit> Next();

  // How many children there are whose end has not been yielded.
  size_t size() const { return size_; }

 private:
  using Index = int32_t;
  static constexpr Index kNone = -1;

  enum class State : int {
    kFree,
    kLiving,
    kAsking,       // Somebody is in waitpid.
    kAskingAgain,  // And was asked to, once more.
    kEnded,
  };

  struct Slot {
    std::atomic<State> state = State::kFree;
    // Written while kFree by Add(), while kAsking by who asks.
    pid_t pid = 0;
    uint64_t tag = 0;
    bool lost = false;
    int wait_status = 0;
    struct rusage usage = {};
    Index next = kNone;  // In the list of those that ended.
  };

  // What must stay where it is; the handler may be in it.
  struct Table {
    explicit Table(size_t capacity) : slots(capacity) {}
    std::vector<Slot> slots;
    std::atomic<size_t> used = 0;      // No slot from here on ever was.
    std::atomic<Index> ended = kNone;  // The first of the list.
  };

  Sweeper(std::unique_ptr<Table> table, UniqueFd event);

  // Returns whether the child has ended.
  static bool Ask(Table& table, Index index) noexcept;
  void Announce() noexcept;

  std::unique_ptr<Table> table_;
  UniqueFd event_;
  pid_t owner_;
  std::vector<Index> free_;
  size_t size_ = 0;
  Index taken_ = kNone;  // A list that Next() has taken and not yielded.
};

}  // namespace brood

#endif  // BROOD_PROC_SWEEPER_H_
