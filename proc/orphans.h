// SPDX-License-Identifier: Apache-2.0
//
// Orphans is the duty to reap processes that this one did not start: those that
// lost their parent and were handed to PID 1, or to a subreaper.
//
//   absl::StatusOr<ExitStatus> RunAsInit(Child main) {
//     absl::StatusOr<Orphans> orphans = Orphans::Receive(
//         [pid = main.pid()](pid_t child) { return child == pid; });
//     if (!orphans.ok()) return orphans.status();
//     while (true) {
//       absl::StatusOr<std::optional<ExitStatus>> end = main.TryWait();
//       if (!end.ok()) return end.status();
//       if (end->has_value()) return **end;
//       absl::StatusOr<std::optional<Orphans::Exit>> orphan = orphans->Next();
//       if (!orphan.ok()) return orphan.status();
//       if (orphan->has_value()) continue;  // It is reaped; log it, perhaps.
//       std::array<pollfd, 2> fds = {
//           {{main.fd(), POLLIN, 0}, {orphans->fd(), POLLIN, 0}}};
//       (void)poll(fds.data(), fds.size(), -1);
//     }
//   }
//
// What it is not: a wait for any child. It shares the process with a Reaper,
// with Children and with libraries that start processes of their own, and takes
// nothing from them. Nor is it the simplest init there is: a process that
// starts one child and does nothing else may wait for any child, because all
// but one are orphans.
//
// Which children are orphans: those of which `is_mine` says no. The kernel does
// not tell, for an orphan is a child like any other once it has been handed
// down. So `is_mine` has to know every child that this process started and has
// not reaped, however it did: of a Reaper's, those added and not yet reported.
// One kind needs no asking: a child made by clone(2) with another exit signal
// than SIGCHLD, until it execs. The kernel gives every orphan SIGCHLD.
//
// Readiness: fd() polls readable when an orphan that is known has ended, when
// Scan() has found one that ended, and once in an `interval`, when Next() looks
// for new ones. The kernel announces none that is handed down alive; that one
// has ended it says by SIGCHLD. Who handles SIGCHLD and calls Scan() then hears
// of each end at once; without, an `interval` late at most.
//
// Ownership: the factory makes this process a subreaper, unless it is PID 1 or
// a subreaper already, and the destructor undoes that. Orphans that live then
// are not killed: they stay children of this process, and nobody reaps them.
// Have one Orphans in a process.
//
// A spawned child that was dropped (see child.h) and that a tracer holds may be
// reported here when it is let go.
//
// Errors: Receive: InvalidArgument for an interval that is not positive and for
// an is_mine that is null;
// FailedPrecondition where /proc is not mounted, or is that of another pid
// namespace. Any call in a forked copy is FailedPrecondition. An orphan that
// somebody else reaped is reported as ExitStatus::Lost(). Without a descriptor
// to spare, or without pidfds, an orphan's end is found by scanning alone.
//
// Cost: a scan asks `is_mine` once for each child of this process. One
// descriptor for each orphan that lives, and two for the Orphans.
//
// Threads: one at a time. If another one starts processes, it and `is_mine`
// must exclude each other: a child is there before fork(2) has returned its
// pid. Signals: none is used. If SIGCHLD is ignored, or SA_NOCLDWAIT is set,
// orphans leave no zombie: those that were known end as ExitStatus::Lost(), the
// others are never heard of. Fork: a copy in a child process must not be used,
// only destroyed; a child is no subreaper. Rests on: PR_SET_CHILD_SUBREAPER in
// prctl(2) (Linux 3.4), /proc/PID/task/TID/children in proc(5), waitid(2),
// timerfd_create(2); pidfd_open(2) (Linux 5.3) where there is one.
#ifndef BROOD_PROC_ORPHANS_H_
#define BROOD_PROC_ORPHANS_H_

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/unique_fd.h"

namespace brood {

class Orphans {
 public:
  struct Exit {
    pid_t pid;
    ExitStatus status;

    friend bool operator==(const Exit&, const Exit&) = default;
  };

  // Whether this process started the child `pid`.
  using IsMine = absl::AnyInvocable<bool(pid_t pid)>;

  // With absl::InfiniteDuration() only Scan() looks for new orphans.
  static absl::StatusOr<Orphans> Receive(
      IsMine is_mine, absl::Duration interval = absl::Seconds(1));

  Orphans(Orphans&& other) noexcept;
  Orphans& operator=(Orphans&& other) noexcept;
  ~Orphans();

  // Borrowed.
  int fd() const { return epoll_.get(); }

  // Looks for new orphans now. Call it once for a SIGCHLD, or once for a turn
  // of the loop in which a Reaper had something to report: the children of a
  // process become orphans as it ends.
  absl::Status Scan();

  // The end of one orphan, which is thereby reaped, or nullopt if none is known
  // to have ended. Never blocks.
  absl::StatusOr<std::optional<Exit>> Next();

  // How many orphans are known to live, or their end has not been noticed.
  size_t size() const { return living_.size(); }

  // Sends `signo` to every orphan that is known to live. The first error, if
  // any, is returned after all have been tried; to have ended meanwhile is
  // none.
  absl::Status SignalAll(int signo);

 private:
  Orphans(IsMine is_mine, absl::Duration interval, UniqueFd epoll,
          UniqueFd timer);

  absl::Status CheckOwner() const;
  absl::Status LookAt(pid_t pid);
  void Watch(pid_t pid);
  std::optional<Exit> TakeFound();
  absl::Status SetTimer(absl::Duration first);
  void LetGo();

  IsMine is_mine_;
  absl::Duration interval_;
  pid_t owner_;
  bool made_subreaper_ = false;
  UniqueFd epoll_;
  UniqueFd timer_;
  absl::flat_hash_map<pid_t, Child> living_;
  std::vector<pid_t> ended_;  // Living ones that epoll says have ended.
  std::vector<Exit> found_;   // Reaped and not reported.
};

}  // namespace brood

#endif  // BROOD_PROC_ORPHANS_H_
