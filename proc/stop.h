// SPDX-License-Identifier: Apache-2.0
//
// A Stop ends a child step by step, first asked and then made to, and says
// which step it took.
//
//   absl::StatusOr<std::optional<ExitStatus>> AskThenKill(Child child) {
//     absl::StatusOr<Stop> stop = Stop::Begin(
//         std::move(child), {.steps = {{SIGTERM, absl::Seconds(5)},
//                                      {SIGKILL, absl::Seconds(2)}}});
//     if (!stop.ok()) return stop.status();
//     while (true) {  // Or watch stop->fd() in a loop that does more.
//       absl::StatusOr<std::optional<Stop::Result>> result = stop->Next();
//       if (!result.ok()) return result.status();
//       if (result->has_value()) return (*result)->status;
//       absl::StatusOr<bool> ready =
//           PollUntil(stop->fd(), POLLIN, absl::InfiniteFuture());
//       if (!ready.ok()) return ready.status();
//     }
//   }
//
// What it is not: a wait. No call blocks; fd() says when there is something to
// do. Nor is it for many children at once: a server that drains signals all of
// them through its Reaper.
//
// A step sends its signal, and SIGCONT after it, for what is stopped cannot
// obey. It has its patience; then comes the next. With `whole_group` the signal
// goes to the child's whole process group, and the steps go on until nobody of
// it is left; for as long the child itself, if it has ended, is kept a zombie,
// so that the number of the group cannot become another's. Should somebody else
// reap it all the same, the group is still signalled by its own identity (Linux
// 6.9), or not at all.
//
// Readiness: fd() polls readable when Next() would take a step or yield the
// result.
//
// Ownership: Begin() takes the Child, but not if it fails. The result reaps it.
// If it outlived all steps, Release() gives it back; to destroy the Stop drops
// it, see child.h.
//
// Errors: Begin: InvalidArgument for a plan without steps, with a signal that
// is none or with a negative patience; FailedPrecondition for `whole_group` and
// a child that leads no group; else what epoll_create1(2), timerfd_create(2)
// and pidfd_open(2) say. Next: what waiting says, and reading /proc for a
// group; OutOfRange after the result. A signal that could not be sent is no
// error: the steps go on, and the result says so.
//
// Threads: one at a time. Signals: none used. Fork: a copy in a child process
// must only be destroyed. Rests on: pidfd_send_signal(2), killpg(2),
// timerfd_create(2), epoll(7); for `whole_group` on /proc.
#ifndef BROOD_PROC_STOP_H_
#define BROOD_PROC_STOP_H_

#include <csignal>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/unique_fd.h"

namespace brood {

struct StopStep {
  int signo = SIGTERM;
  // How long the child may take before the next step, or the end of the plan.
  absl::Duration patience = absl::ZeroDuration();
};

struct StopPlan {
  std::vector<StopStep> steps = {{SIGTERM, absl::Seconds(5)},
                                 {SIGKILL, absl::Seconds(2)}};
  // Everyone in the process group that the child leads.
  bool whole_group = false;
  // When all is to be over. Steps come earlier than their predecessors were
  // promised if it takes that, so that the last ones have their patience.
  absl::Time deadline = absl::InfiniteFuture();
};

class Stop {
 public:
  struct Result {
    // Nothing if it outlived all steps: held by a tracer, or by a disk.
    std::optional<ExitStatus> status = std::nullopt;
    // The signal that was sent last, by when it had ended; 0 if it had ended
    // before the first.
    int signo = 0;
    // Somebody of its process group is left.
    bool group_remains = false;
    // The first signal that could not be sent, if any: EPERM.
    absl::Status trouble = absl::OkStatus();
  };

  // Takes the first step at once.
  static absl::StatusOr<Stop> Begin(Child&& child, StopPlan plan = {});

  // Borrowed.
  int fd() const { return epoll_.get(); }
  // Takes the steps that are due. The result, or nullopt if it is too early.
  absl::StatusOr<std::optional<Result>> Next();
  // The child, if the result had no status.
  Child Release() && { return std::move(child_); }

 private:
  Stop(Child&& child, StopPlan plan, UniqueFd epoll, UniqueFd timer,
       UniqueFd own_pidfd);

  void Schedule(const absl::Time& deadline);
  void TakeDueSteps();
  absl::Duration NextStep() const;  // Or the end of the plan.
  absl::Status Send(int signo);
  absl::StatusOr<bool> GroupRemains() const;
  absl::StatusOr<std::optional<Result>> WakeAt(absl::Duration when);

  Child child_;
  StopPlan plan_;
  UniqueFd epoll_;
  UniqueFd timer_;
  UniqueFd own_pidfd_;  // For a child that has none.
  absl::Status trouble_;
  std::vector<absl::Duration> starts_;  // Of the steps, as MonotonicNow().
  absl::Duration end_;
  size_t taken_ = 0;
  absl::Duration next_look_;  // How long to wait for others of the group.
  bool over_ = false;
};

}  // namespace brood

#endif  // BROOD_PROC_STOP_H_
