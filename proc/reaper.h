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
// What it is not: a SIGCHLD handler. It needs none, so exits cannot coalesce,
// no handler of the program's has to change, and the program's other children
// are never touched: it waits for those it was given and never for "any child".
// It starts nothing either; see fork.h and spawn.h.
//
// How it hears of an end: by the child's pidfd; or, if it has an ExitQueue and
// the child was forked with its exit_signal(), by the queue, at no descriptor a
// child; and where a kernel or a sandbox lets it have neither, by looking after
// those children, every 10 ms, 512 at a time. It also looks after queued ones,
// for entries that the kernel dropped and for children that called execve(2):
// once a second, or if there are many in parts of 32, 512 in a second.
//
// Readiness: fd() polls readable when Next() would report an exit, and stays so
// until Next() has reported them all. It may also do so when there is nothing
// to report after all. A child that has died but is held by a tracer does not
// count until the tracer lets go.
//
// Ownership: Add() takes the Child; Next() reaps it and gives back what is left
// of it, the Exit. Destroying a Reaper kills and reaps the children it still
// has; those that do not die within 100 ms are put aside, see child.h.
//
// Errors: Add: FailedPrecondition for a child that is not the caller's to give,
// or no more; AlreadyExists for one that was given already; else what
// epoll_ctl(2) says. Next() fails only where waiting itself does; a child that
// somebody else reaped is reported like any other, if its status cannot be had
// as ExitStatus::Lost().
//
// Cost: independent of how many children live, but for looking after those that
// have no pidfd. One descriptor for each child that has one, and up to three.
//
// Threads: one at a time. Signals: none, or the one of its ExitQueue. Fork: a
// copy in a child process must not be used, only destroyed, which harms nobody;
// if it has an ExitQueue, the pidfds of its children stay open in that process.
// Rests on: epoll(7), timerfd_create(2), pidfd_open(2), waitid(2) with P_PIDFD
// (Linux 5.4).
#ifndef BROOD_PROC_REAPER_H_
#define BROOD_PROC_REAPER_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_queue.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/unforked.h"
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
  // The queue goes with the Reaper.
  static absl::StatusOr<Reaper> Create(ExitQueue queue);

  Reaper(Reaper&& other) noexcept;
  Reaper& operator=(Reaper&& other) noexcept;
  ~Reaper();

  // Borrowed.
  int fd() const { return epoll_.get(); }
  // For ForkOptions: the signal of the queue, if there is one.
  std::optional<int> exit_signal() const;

  // Takes charge of `child`. On error `child` is untouched and still the
  // caller's.
  absl::Status Add(Child&& child, uint64_t tag);

  // From now on it is somebody else's child: the end of `pid` is reported with
  // this tag. Nothing if it is not one of these children.
  void SetTag(pid_t pid, uint64_t tag);

  // The end of one child, or nullopt if none has ended since. Never blocks.
  absl::StatusOr<std::optional<Exit>> Next();

  // How many children there are whose end has not been reported.
  size_t size() const { return children_->size() + found_.size(); }
  // Whether `pid` is a child that was added and has not been reaped: for
  // whoever waits for others, such as Orphans.
  bool Contains(pid_t pid) const { return children_->contains(pid); }

  // Sends `signo` to every child that has not ended. The first error, if any,
  // is returned after all have been tried; to have ended meanwhile is none.
  absl::Status SignalAll(int signo);
  // Sends `signo` to everyone in the process group that the child `pid` leads.
  // NotFound (ESRCH) if it is not one of these children, or has been reaped.
  absl::Status SignalGroup(pid_t pid, int signo);
  // Kills who is left of that group when its leader has ended: before the
  // leader is reaped, and so before its number can be anybody else's.
  void KillGroupAtEnd(pid_t pid);

 private:
  static constexpr absl::Duration kNever = absl::InfiniteDuration();

  struct Entry {
    Child child;
    uint64_t tag;
    bool without_pidfd = false;
    bool held = false;  // Dead, and a tracer will not let go.
    bool kill_group_at_end = false;
  };

  // Memory that a fork does not copy, if ends come by a queue: after each fork
  // the parent writes to it, and then each page of it would be copied.
  template <typename T>
  class Allocator {
   public:
    using value_type = T;

    explicit Allocator(bool unforked) : unforked_(unforked) {}
    template <typename U>
    // NOLINTNEXTLINE(google-explicit-constructor): as in unforked.h.
    explicit(false) Allocator(const Allocator<U>& other)
        : unforked_(other.unforked()) {}

    T* allocate(size_t n) {
      return unforked_ ? UnforkedAllocator<T>().allocate(n)
                       : std::allocator<T>().allocate(n);
    }
    void deallocate(T* memory, size_t n) {
      if (unforked_) {
        UnforkedAllocator<T>().deallocate(memory, n);
      } else {
        std::allocator<T>().deallocate(memory, n);
      }
    }

    bool unforked() const { return unforked_; }
    friend bool operator==(const Allocator&, const Allocator&) = default;

   private:
    bool unforked_;
  };
  using Children =
      absl::flat_hash_map<pid_t, Entry,
                          absl::flat_hash_map<pid_t, Entry>::hasher,
                          absl::flat_hash_map<pid_t, Entry>::key_equal,
                          Allocator<std::pair<const pid_t, Entry>>>;
  // The map itself lies there, too.
  struct Free {
    void operator()(Children* children) const;
  };
  using ChildrenPtr = std::unique_ptr<Children, Free>;
  static ChildrenPtr MakeChildren(bool unforked);

  Reaper(UniqueFd epoll, std::optional<ExitQueue> queue);

  bool IsForkedCopy() const;
  absl::Status GiveWay(pid_t pid);
  absl::StatusOr<std::optional<Exit>> NextByPidfd();
  void Hold(Entry& entry);

  absl::Status AddWithoutPidfd(Child&& child, uint64_t tag);
  bool Announces(const Child& child) const;
  absl::StatusOr<std::optional<Exit>> NextQueued();
  absl::StatusOr<std::optional<Exit>> NextFound();
  // Its end, if it has ended; it is not among the children any more then.
  absl::StatusOr<std::optional<Exit>> LookAfter(Children::iterator it);
  absl::Status LookAfterSome(size_t most);
  void Forget(Children::iterator it);
  absl::Status NoticePidfd(Entry& entry);
  void CountOut(Entry& entry);
  absl::Status TimeToLook();
  absl::Status MakeTimer();
  absl::Status SetTimer();

  UniqueFd epoll_;
  std::optional<ExitQueue> queue_;
  UniqueFd timer_;  // When there is somebody to look after.
  absl::Duration timer_set_to_ = kNever;  // As MonotonicNow() counts.
  absl::Duration next_look_ = kNever;

  pid_t owner_;
  ChildrenPtr children_;
  std::vector<pid_t> ended_;  // Whose pidfd epoll has found readable.
  size_t without_pidfd_ = 0;
  size_t silent_ = 0;  // How many of those will not announce their end.
  std::vector<pid_t> to_look_after_;  // Those of this round.
  bool look_after_all_ = false;       // The queue may have lost some.
  // When it last had one of a child that was not here; since boot.
  absl::Duration unclaimed_ = -kNever;
  std::vector<Exit> found_;  // Whom looking after them has found; last first.
  int turn_ = 0;
};

}  // namespace brood

#endif  // BROOD_PROC_REAPER_H_
