// SPDX-License-Identifier: Apache-2.0
//
// A Families knows whom each of some children has started, and whom these have,
// however they left: it ends all of a family, and reaps what is left to it.
//
//   absl::Status RunAndLeaveNobody(const std::vector<std::string>& argv) {
//     absl::StatusOr<Families> families =
//         Families::Receive([](pid_t) { return false; });
//     if (!families.ok()) return families.status();
//     SpawnOptions options;
//     absl::Status status = options.limits.Set(families->MarkOf(1));
//     absl::StatusOr<Child> program = Spawn(argv, options);
//     if (!program.ok()) return program.status();
//     (void)program->Wait();
//     families->End(1);
//     while (status.ok() && families->ending() > 0) {
//       (void)PollUntil(families->fd(), POLLIN, absl::InfiniteFuture());
//       status = families->Look();
//     }
//     return status;
//   }
//
// What it is not: a cgroup, nor a jail. Whoever carries the mark of a family
// belongs to it, and nobody can lose the mark by accident: setsid(2), a
// daemon's two forks, an environment that was emptied and execve(2) all leave
// it. But a process that sets its own RLIMIT_LOCKS on purpose is nobody's any
// more.
//
// The mark is the soft RLIMIT_LOCKS, which no kernel since Linux 2.4.25 heeds,
// which is inherited, and which may be read without privileges. It says which
// process gave it and which number of its own. `ulimit -x` shows it.
//
// Readiness: fd() polls readable when Look() has something to do: at once after
// Ask() and End(), soon while somebody is being ended, and once a second, to
// reap.
//
// Ownership: the factory makes this process a subreaper, unless it is PID 1 or
// a subreaper already, and the destructor undoes that. So whoever loses its
// parent comes to this process. Who carries no mark of it is left alone, and
// not even reaped unless all are to be. Who carries one lives on as long as its
// family is not ended, and beyond this process; it is reaped within a second of
// its end, and costs no descriptor.
//
// Errors: Receive: InvalidArgument for an is_mine that is null;
// FailedPrecondition where /proc is not mounted or is that of another pid
// namespace, and where RLIMIT_LOCKS cannot be raised so far; else what
// timerfd_create(2) and prctl(2) say. Look: what reading /proc says;
// FailedPrecondition in a forked copy. Who has become another user's cannot be
// signalled (EPERM), and is no error.
//
// Cost: for a child that is marked, one prlimit(2). A Look() reads the list of
// this process's children, asks `is_mine` of each, and the mark of those of
// which it says no: a millisecond for 1,000 children, and no more than one part
// in 200 of the time while nobody is being ended.
//
// Threads: one at a time. Signals: none is used. Fork: in a copy in a child
// process only MarkOf() may be called. Rests on: PR_SET_CHILD_SUBREAPER in
// prctl(2) (Linux 3.4), /proc/PID/task/TID/children in proc(5), prlimit(2),
// pidfd_send_signal(2) (Linux 5.1), waitid(2), timerfd_create(2).
#ifndef BROOD_PROC_FAMILIES_H_
#define BROOD_PROC_FAMILIES_H_

#include <sys/resource.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/proc/limits.h"
#include "brood/proc/unique_fd.h"

namespace brood {

class Families {
 public:
  // Whether `pid`, a child of this process, is somebody's to wait for: of a
  // Reaper's, those added and not yet reported.
  using IsMine = absl::AnyInvocable<bool(pid_t pid)>;

  // Numbers of families are kept up to here; larger ones begin anew.
  static constexpr uint64_t kMostNumber = (uint64_t{1} << 41) - 1;

  // Whom it reaps once they have ended.
  enum class Reaps {
    kNobody,  // Somebody else waits for all orphans, as Orphans does.
    kMarked,  // Those who carry a mark of it.
    // All children of this process that are not somebody's: where nobody starts
    // any of which `is_mine` does not know. So there are no zombies of those
    // that have lost their mark, and of what came with execve(2).
    kAll,
  };

  static absl::StatusOr<Families> Receive(IsMine is_mine,
                                          Reaps reaps = Reaps::kMarked);

  Families(Families&& other) noexcept;
  Families& operator=(Families&&) = delete;
  ~Families();

  // Borrowed.
  int fd() const { return timer_.get(); }

  // For the limits of a child that begins the family `number`.
  Limit MarkOf(uint64_t number) const;

  // At the next Look() SIGTERM goes to each of this family who is not in the
  // process group of `leader`, which is told by other ways. `leader` is whoever
  // began it.
  void Ask(uint64_t number, pid_t leader);

  // Nobody of this family is to be left. REQUIRES: whoever began it has ended
  // and been reaped.
  void End(uint64_t number);

  // Does what is due; what fails is due again. Never blocks, and takes some
  // milliseconds at most, but for the time that it takes to read the list of
  // this process's children.
  absl::Status Look();

  // How many families are being ended. One of which nobody has ended for two
  // seconds, held by a disk perhaps, is looked after as before and not counted.
  size_t ending() const;

 private:
  enum class Found { kNobody, kEnded, kLiving };

  Families(IsMine is_mine, Reaps reaps, rlim_t hard, UniqueFd timer);

  absl::Status LookOnce();
  // How it stands with an orphan; reaps it if it has ended.
  Found LookAt(pid_t pid);
  // The family of which it is, if of any of these.
  std::optional<uint64_t> NumberOf(pid_t pid) const;
  bool SignalOrphan(pid_t pid, int signo) const;
  // Signals those whom `pid` has started, and those whom these have.
  void SignalFrom(pid_t pid, uint64_t number, int signo, pid_t leader);
  // Whether something was done that a further look may show the sequel of.
  void Notice(pid_t pid);
  void WakeIn(absl::Duration time);

  IsMine is_mine_;
  Reaps reaps_;
  rlim_t hard_;
  pid_t owner_;
  bool made_subreaper_ = false;
  UniqueFd timer_;
  bool due_ = false;
  absl::Duration pause_;
  absl::flat_hash_map<uint64_t, pid_t> asked_;  // The leader, by number.
  // When somebody of it has ended last, by number.
  absl::flat_hash_map<uint64_t, absl::Duration> ending_;
  absl::flat_hash_set<pid_t> noticed_;
  bool news_ = false;
};

}  // namespace brood

#endif  // BROOD_PROC_FAMILIES_H_
