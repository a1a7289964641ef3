// SPDX-License-Identifier: Apache-2.0
//
// A SpawnSlots keeps a few low-numbered descriptors free for Spawn, so that a
// program with thousands of descriptors starts children as fast as one with
// ten.
//
//   absl::StatusOr<ExitStatus> Copy(const SpawnSlots& slots, int in, int out) {
//     absl::StatusOr<Child> cat = Spawn(
//         {"cat"}, {.fds = {{.child = 0, .parent = in},
//                           {.child = 1, .parent = out}},
//                   .slots = &slots});  // Reserved when the program began.
//     if (!cat.ok()) return cat.status();
//     return cat->Wait();
//   }
//
// What it is not: needed. Without one, all is the same but the time. To start a
// process the kernel copies the descriptor table up to the highest number that
// the child keeps: that of a pipe which was opened last, after 19,000 others,
// means 19,000 entries. Spawn therefore lends the child's descriptors a lower
// number; the slots make sure that there is one.
//
// A regular file is not lent a number: to close it again would cost this
// process the record locks that it may have on the file (fcntl(2)).
//
// Ownership: the slots are descriptors of this process (of an eventfd(2) that
// nobody reads), closed with this object. It must outlive every Spawn that it
// is passed to. Make it first of all, when the low numbers are free.
//
// Errors: InvalidArgument for a count that is not positive; ResourceExhausted
// (EMFILE, ENFILE) if there are not as many descriptors. Spawn itself does not
// fail for want of a slot.
//
// Threads: safe; Spawns that run at once share the slots. Signals: none.
// Fork: a copy in a child lends nothing and closes nothing: the child may have
// other descriptors under these numbers by then. Exec closes them.
// Rests on: F_DUPFD_CLOEXEC in fcntl(2), CLOSE_RANGE_UNSHARE in close_range(2).
#ifndef BROOD_PROC_SPAWN_SLOTS_H_
#define BROOD_PROC_SPAWN_SLOTS_H_

#include <sys/types.h>

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "brood/proc/unique_fd.h"

namespace brood {

class SpawnSlots {
 public:
  // `count` is how many descriptors can be lent at once: those of a child's
  // `fds` and of its `cgroup`, times the threads that call Spawn.
  static absl::StatusOr<SpawnSlots> Reserve(int count = 12);

  // Borrowed numbers for some descriptors, given back when this goes. For
  // Spawn.
  class Loan {
   public:
    // `slots` may be null, and then any free low number will do.
    explicit Loan(const SpawnSlots* slots);
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;
    ~Loan();

    // A low number that refers to what `fd` does; `fd` itself if there is none
    // or if it is low enough.
    int Lower(int fd);

   private:
    const SpawnSlots* slots_;
    std::vector<UniqueFd> lent_;
    std::vector<UniqueFd> copies_;
  };

 private:
  struct Slots {
    Slots();
    ~Slots();
    // In a child.
    bool is_forked_copy() const;

    const pid_t owner;
    std::mutex mutex;
    UniqueFd placeholder;
    std::vector<UniqueFd> free;  // Each a copy of `placeholder`.
  };

  explicit SpawnSlots(std::unique_ptr<Slots> slots)
      : slots_(std::move(slots)) {}

  std::unique_ptr<Slots> slots_;
};

}  // namespace brood

#endif  // BROOD_PROC_SPAWN_SLOTS_H_
